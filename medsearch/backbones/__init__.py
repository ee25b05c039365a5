"""Genotype to network."""

from medsearch.backbones.network import Denoiser, Network, Residual, Standardize
from medsearch.backbones.plan import Call, Interface, Plan, build, check, plan

__all__ = ["Call", "Denoiser", "Interface", "Network", "Plan", "Residual", "Standardize", "build", "check", "plan"]

"""Genotype to network."""

from medsearch.backbones.check import check
from medsearch.backbones.network import Denoiser, Network, Residual, Standardize
from medsearch.backbones.plan import Call, Interface, NetworkPlan, build, plan

__all__ = [
    "Call",
    "Denoiser",
    "Interface",
    "Network",
    "NetworkPlan",
    "Residual",
    "Standardize",
    "build",
    "check",
    "plan",
]

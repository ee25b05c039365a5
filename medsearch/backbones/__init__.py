"""Genotype to network."""

from medsearch.backbones.check import check
from medsearch.backbones.features import FeatureInfo
from medsearch.backbones.network import Denoiser, Network, ResidualBlock, Stage, Standardize
from medsearch.backbones.plan import Call, Interface, NetworkPlan, build, plan

__all__ = [
    "Call",
    "Denoiser",
    "FeatureInfo",
    "Interface",
    "Network",
    "NetworkPlan",
    "ResidualBlock",
    "Stage",
    "Standardize",
    "build",
    "check",
    "plan",
]

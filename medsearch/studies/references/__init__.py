"""Other people's token mixers with our weights, to be timed beside ours: from packages, or as their papers print them.

A reference is a function that takes our mixer and the size of the map and gives a module that computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medsearch.studies.references import packaged, textbook


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A public implementation of the operator of one of our mixers.

    Args:
        build: our mixer and the size of the map to the reference, with the same weights.
        source: where it is from.
        dims: numbers of spatial axes that it can do.
        onnx: whether the tracing exporter has a form for it.
    """

    build: Callable[[Any, tuple[int, ...]], nn.Module]
    source: str
    dims: tuple[int, ...] = (2, 3)
    onnx: bool = True


_FUSED_SWIN, _FUSED_UNETR = (partial(build, fused=True) for build in (packaged.timm_swin, packaged.monai_swin))

REFERENCES: dict[str, Reference] = {
    "timm_swin": Reference(build=packaged.timm_swin, source="timm SwinTransformerBlock", dims=(2,)),
    "timm_swin_fused": Reference(build=_FUSED_SWIN, source="timm SwinTransformerBlock, TIMM_FUSED_ATTN=2", dims=(2,)),
    "monai_swin": Reference(build=packaged.monai_swin, source="MONAI SwinTransformerBlock of SwinUNETR"),
    "monai_swin_fused": Reference(build=_FUSED_UNETR, source="the same with use_flash_attention, inference only"),
    "timm_attention": Reference(build=packaged.timm_attention, source="timm Attention of vision_transformer"),
    "monai_sablock": Reference(build=packaged.monai_attention, source="MONAI SABlock with use_flash_attention"),
    "timm_pvt": Reference(build=packaged.timm_pvt, source="timm Attention of pvt_v2", dims=(2,)),
    "timm_gmlp": Reference(build=packaged.timm_gmlp, source="timm GatedMlp with SpatialGatingUnit, in blocks"),
    "timm_grid_gmlp": Reference(
        build=partial(packaged.timm_gmlp, grid=True), source="the same, in the cells of a grid"
    ),
    "timm_multi_axis": Reference(build=packaged.timm_multi_axis, source="MAXIM's block around timm GatedMlp"),
    "timm_multi_window": Reference(build=packaged.timm_multi_window, source="CorrMLP's block around timm GatedMlp"),
    "timm_mixer": Reference(build=packaged.timm_mixer, source="timm Mlp over tokens as in MixerBlock, in blocks"),
    "timm_convnext": Reference(build=packaged.timm_convnext, source="timm ConvNeXtBlock.conv_dw", dims=(2,)),
    "monai_mednext": Reference(build=packaged.monai_mednext, source="MONAI MedNeXtBlock.conv1"),
    "timm_mbconv": Reference(build=packaged.timm_mbconv, source="timm InvertedResidual", dims=(2,)),
    "monai_mbconv": Reference(build=packaged.monai_mbconv, source="MONAI MBConvBlock of EfficientNet"),
    "monai_res_block": Reference(build=packaged.monai_res_block, source="MONAI UnetResBlock of DynUNet"),
    "monai_rcab": Reference(build=packaged.monai_channel_attention, source="RCAN's block around MONAI ChannelSELayer"),
    "timm_pooling": Reference(build=packaged.timm_pooling, source="timm Pooling of metaformer", dims=(2,)),
    "timm_sep_conv": Reference(build=packaged.timm_sep_conv, source="timm SepConv of metaformer", dims=(2,)),
    "timm_xcit": Reference(build=packaged.timm_xcit, source="timm LPI of xcit", dims=(2,)),
    "textbook_linear": Reference(build=textbook.LinearAttention, source="arXiv:2006.16236, eq. 7"),
    "textbook_efficient": Reference(build=textbook.EfficientAttention, source="arXiv:1812.01243, eq. 3"),
    "textbook_msla": Reference(build=textbook.MultiscaleLinearAttention, source="arXiv:2505.18823"),
    "textbook_differential": Reference(build=textbook.DifferentialAttention, source="arXiv:2410.05258, eq. 1-3"),
    "textbook_retnet": Reference(build=textbook.Retention, source="arXiv:2307.08621, eq. 5 and 8"),
    "textbook_rmt": Reference(build=textbook.AxialRetention, source="arXiv:2309.11523, eq. 7"),
    "textbook_neighbourhood": Reference(build=textbook.NeighbourhoodAttention, source="arXiv:2204.07143, eq. 1-4"),
    "textbook_biformer": Reference(build=textbook.RegionAttention, source="arXiv:2303.08810, eq. 3-6"),
    "textbook_pvt": Reference(build=textbook.PooledAttention, source="arXiv:2102.12122, eq. 3-4; arXiv:2404.10156"),
    "textbook_gnconv": Reference(build=textbook.GatedRecursiveConv, source="arXiv:2207.14284, eqs. 3-6"),
    "textbook_hyena": Reference(build=textbook.Hyena, source="arXiv:2302.10866, section 3.3, by FFT", onnx=False),
    "textbook_as_mlp": Reference(build=textbook.AxialShift, source="arXiv:2107.08391, section 3.2"),
    "textbook_pooling": Reference(build=textbook.pooling, source="arXiv:2111.11418, eq. 4", dims=(3,)),
    "textbook_separable": Reference(build=textbook.separable_conv, source="arXiv:2201.09450, section 3.2"),
    "textbook_lpi": Reference(build=textbook.local_concentration, source="arXiv:2501.16182"),
}


def scramble(ours: nn.Module, *, seed: int) -> None:
    """Draw all weights and running statistics of a mixer in place: what starts at zero or one must count, too."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in ours.parameters():
            drawn = torch.randn(weight.shape, generator=rng)
            weight.copy_(weight + 0.2 * drawn if weight.ndim < 2 else drawn * (len(weight) / weight.numel()) ** 0.5)
        for name, buffer in ours.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=rng) + 0.5 * name.endswith("var"))


def difference(seen: Tensor, expected: Tensor) -> float:
    """The largest difference of two maps, relative to the largest departure of the expected one from its mean.

    The mean is that of every channel over the map, so that what a bias gives everywhere does not count.
    """
    assert seen.shape == expected.shape
    seen, expected = seen.double(), expected.double()
    departure = expected - expected.mean(dim=tuple(range(2, expected.ndim)), keepdim=True)
    return float((seen - expected).abs().max() / departure.abs().max())

"""Token mixers of public packages around our weights: timm (an optional install) and MONAI.

Each function takes our mixer and the size of the map, and gives the package's module with those weights; what is ours
around it is the norm in front, the way from a map to tokens and back, and the split into blocks where the package has
only the layer inside them.
Shapes: B batch, C channels, S spatial axes, N positions, T positions of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from medsearch.blocks.nd import to_first, to_last
from medsearch.core.errors import UsageError
from medsearch.studies.references.textbook import NormedMap, Size, joined, stacked, windows

INSTALL = {"timm": "pip install timm", "einops": "pip install einops", "monai": "pip install monai"}


def public(module: str, name: str) -> Any:
    """A class of an installed package.

    Raises:
        UsageError: where the package is not installed, with how to install it.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as problem:
        package = (problem.name or module).partition(".")[0]
        remedy = f"{INSTALL.get(package, f'pip install {package}')}, or leave its references out of the recipe."
        raise UsageError(
            module.partition(".")[0], f"a reference needs {package}, which is missing.", remedy
        ) from problem


def _filled(reference: nn.Module, **layers: nn.Module) -> nn.Module:
    """The reference with the weights of our layers in the layers of these names ("__" stands for a point)."""
    weights = {
        f"{name.replace('__', '.')}.{entry}": tensor
        for name, layer in layers.items()
        for entry, tensor in layer.state_dict().items()
    }
    unexpected = reference.load_state_dict(weights, strict=False).unexpected_keys
    assert not unexpected, unexpected
    return reference


class _Tokens(nn.Module):
    """A layer of tokens (B, N, C) behind a norm; ``sizes`` tells it the size of the map, too."""

    def __init__(self, norm: nn.Module, layer: nn.Module, *sizes: Any) -> None:
        super().__init__()
        self.norm, self.layer, self.sizes = norm, layer, sizes

    def forward(self, x_BCS: Tensor) -> Tensor:
        y_BNC = self.layer(self.norm(to_last(x_BCS).flatten(1, -2)), *self.sizes)
        return y_BNC.transpose(1, 2).reshape(x_BCS.shape)


class _InWindows(nn.Module):
    """A layer of the tokens (B * W, T, C) of every block, or cell of a grid; ``across`` has positions come last."""

    def __init__(self, layer: nn.Module, edges: Size, *, grid: bool = False, across: bool = False) -> None:
        super().__init__()
        self.layer, self.edges, self.grid, self.across = layer, edges, grid, across

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_WTC = windows(to_last(x_BCS), self.edges, grid=self.grid)
        y_WTC = self.layer(x_WTC.transpose(1, 2)).transpose(1, 2) if self.across else self.layer(x_WTC)
        return to_first(joined(y_WTC, self.edges, tuple(x_BCS.shape[2:]), grid=self.grid))


class _TimmSwin(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(self.block._attn(self.block.norm1(to_last(x_BCS))))


def timm_swin(ours: Any, size: Size, *, fused: bool = False) -> nn.Module:
    """Window attention of Swin, with its mask made beforehand; ``fused`` as TIMM_FUSED_ATTN=2 makes it."""
    block = public("timm.models.swin_transformer", "SwinTransformerBlock")(
        ours.project.dim, size, ours.project.shape.heads, window_size=ours.window, shift_size=ours.shift
    )
    block.norm2 = block.mlp = nn.Identity()
    block.attn.fused_attn = fused
    with torch.no_grad():
        block.attn.relative_position_bias_table.copy_(ours.position.table)
    qkv = stacked(ours.project.q, ours.project.k, ours.project.v)
    return _TimmSwin(_filled(block, norm1=ours.project.norm, attn__qkv=qkv, attn__proj=ours.project.out))


class _MonaiSwin(nn.Module):
    mask: Tensor | None

    def __init__(self, block: Any, mask: Tensor | None) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("mask", mask)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(self.block.forward_part1(to_last(x_BCS), self.mask))


def monai_swin(ours: Any, size: Size, *, fused: bool = False) -> nn.Module:
    """Window attention of SwinUNETR, with its mask made beforehand; ``fused`` is what it offers for inference."""
    place = "monai.networks.nets.swin_unetr"
    edges, shift = public(place, "get_window_size")(size, ours.window, ours.shift)
    block = public(place, "SwinTransformerBlock")(
        *(ours.project.dim, ours.project.shape.heads, edges, shift), qkv_bias=True, use_flash_attention=fused
    )
    block.norm2 = block.mlp = nn.Identity()
    with torch.no_grad():
        block.attn.relative_position_bias_table.copy_(ours.position.table)
    qkv = stacked(ours.project.q, ours.project.k, ours.project.v)
    filled = _filled(block, norm1=ours.project.norm, attn__qkv=qkv, attn__proj=ours.project.out)
    return _MonaiSwin(filled, public(place, "compute_mask")(size, edges, shift, "cpu") if any(shift) else None)


def timm_attention(ours: Any, size: Size) -> nn.Module:
    """Attention of its Vision Transformer, fused by default."""
    dim, heads = ours.project.dim, ours.project.shape.heads
    layer = public("timm.models.vision_transformer", "Attention")(dim, heads, qkv_bias=True)
    qkv = stacked(ours.project.q, ours.project.k, ours.project.v)
    return _Tokens(ours.project.norm, _filled(layer, qkv=qkv, proj=ours.project.out))


def monai_attention(ours: Any, size: Size) -> nn.Module:
    """SABlock of ViT and UNETR, with the fused product it offers."""
    public("einops", "rearrange")
    dim, heads = ours.project.dim, ours.project.shape.heads
    block = public("monai.networks.blocks.selfattention", "SABlock")
    layer = block(dim, heads, qkv_bias=True, use_flash_attention=True)
    qkv = stacked(ours.project.q, ours.project.k, ours.project.v)
    return _Tokens(ours.project.norm, _filled(layer, qkv=qkv, out_proj=ours.project.out))


def timm_pvt(ours: Any, size: Size) -> nn.Module:
    """Attention of PVT v2 with a strided convolution, as PVT has it; fused by default."""
    dim, heads, stride = ours.project.dim, ours.project.shape.heads, ours.pool.window[0]
    layer = public("timm.models.pvt_v2", "Attention")(dim, heads, sr_ratio=stride)
    kv, q, sr, norm = stacked(ours.project.k, ours.project.v), ours.project.q, ours.pool.filter, ours.pool.norm
    return _Tokens(ours.project.norm, _filled(layer, q=q, kv=kv, sr=sr, norm=norm, proj=ours.project.out), list(size))


def timm_gmlp(ours: Any, size: Size, *, grid: bool = False) -> nn.Module:
    """GatedMlp with the spatial gating unit, in the blocks of MAXIM or the cells of its grid."""
    return NormedMap(ours.norm, _InWindows(_gated_mlp(ours), ours.edges, grid=grid))


def _gated_mlp(ours: Any) -> nn.Module:
    dim, hidden = ours.expand.in_features, ours.project.in_features
    gate = partial(public("timm.models.mlp_mixer", "SpatialGatingUnit"), seq_len=len(ours.bias_T))
    layer = public("timm.layers", "GatedMlp")(dim, 2 * hidden, gate_layer=gate)
    with torch.no_grad():
        layer.gate.proj.weight.copy_(ours.mix_TT)
        layer.gate.proj.bias.copy_(ours.bias_T + 1)
    return _filled(layer, fc1=ours.expand, fc2=ours.project, gate__norm=ours.gate_norm)


class _MultiAxis(nn.Module):
    """The halves of MAXIM's block around timm's gates."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.start = nn.Sequential(ours.norm, ours.expand, nn.GELU())
        self.grid, self.block = timm_gmlp(ours.grid, size, grid=True), timm_gmlp(ours.block, size)
        self.end = ours.project

    def forward(self, x_BCS: Tensor) -> Tensor:
        far, near = (to_first(half) for half in self.start(to_last(x_BCS)).chunk(2, dim=-1))
        mixed = torch.cat((far + self.grid(far), near + self.block(near)), dim=1)
        return to_first(self.end(to_last(mixed)))


def timm_multi_axis(ours: Any, size: Size) -> nn.Module:
    """The multi-axis block of MAXIM, its two gated MLPs timm's."""
    return _MultiAxis(ours, size)


class _MultiWindow(nn.Module):
    """The windows of CorrMLP around timm's gates, weighed and added as printed."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.norm, self.end = ours.norm, ours.project
        self.windows = nn.ModuleList(timm_gmlp(window, size) for window in ours.windows)
        self.choose = nn.Sequential(ours.squeeze, nn.GELU(), ours.choose)

    def forward(self, x_BCS: Tensor) -> Tensor:
        z_BCS = to_first(self.norm(to_last(x_BCS)))
        seen = [z_BCS + window(z_BCS) for window in self.windows]
        mean_BC = sum(seen[1:], seen[0]).mean(dim=tuple(range(2, x_BCS.ndim)))
        share_WBC = self.choose(mean_BC).reshape(*mean_BC.shape, len(seen)).softmax(-1).permute(2, 0, 1)
        shares = share_WBC.reshape(*share_WBC.shape, *[1] * (x_BCS.ndim - 2))
        mixed = sum(share * one for share, one in zip(shares, seen, strict=True))
        return to_first(self.end(to_last(mixed)))


def timm_multi_window(ours: Any, size: Size) -> nn.Module:
    """The multi-window block of CorrMLP, its gated MLPs timm's."""
    return _MultiWindow(ours, size)


def timm_mixer(ours: Any, size: Size) -> nn.Module:
    """The MLP over tokens of MLP-Mixer, in blocks."""
    layer = public("timm.layers", "Mlp")(ours.expand.in_channels, ours.expand.out_channels)
    with torch.no_grad():
        for linear, conv in ((layer.fc1, ours.expand), (layer.fc2, ours.project)):
            linear.weight.copy_(conv.weight.squeeze(-1))
            linear.bias.copy_(conv.bias)
    return NormedMap(ours.norm, _InWindows(layer, ours.edges, across=True))


def timm_convnext(ours: Any, size: Size) -> nn.Module:
    """The depthwise layer of a ConvNeXt block."""
    block = public("timm.models.convnext", "ConvNeXtBlock")(ours.dim, kernel_size=ours.kernel[0])
    return _layer(_filled(block, conv_dw=ours.filter), "conv_dw")


def monai_mednext(ours: Any, size: Size) -> nn.Module:
    """The depthwise layer of a MedNeXt block."""
    block = public("monai.networks.blocks.mednext_block", "MedNeXtBlock")
    built = block(ours.dim, ours.dim, kernel_size=ours.kernel[0], dim=f"{len(size)}d")
    return _layer(_filled(built, conv1=ours.filter), "conv1")


def timm_mbconv(ours: Any, size: Size) -> nn.Module:
    """InvertedResidual without its skip, with GELU."""
    block = public("timm.models._efficientnet_blocks", "InvertedResidual")(
        *(ours.dim, ours.dim, ours.kernel[0]), exp_ratio=ours.hidden / ours.dim, noskip=True, act_layer=nn.GELU
    )
    filters = {"conv_pw": ours.expand, "conv_dw": ours.filter, "conv_pwl": ours.project}
    return _filled(block, **filters, bn1=ours.expand_norm, bn2=ours.filter_norm, bn3=ours.project_norm)


def monai_mbconv(ours: Any, size: Size) -> nn.Module:
    """MBConvBlock of its EfficientNet without the skip, with GELU, and with gates where ours has them."""
    block = public("monai.networks.nets.efficientnet", "MBConvBlock")(
        *(len(size), ours.dim, ours.dim, ours.kernel[0], 1, list(size), ours.hidden // ours.dim),
        se_ratio=ours.units / ours.dim if ours.units else None,
        id_skip=False,
        norm=("batch", {"eps": ours.expand_norm.eps}),
    )
    block._swish = nn.GELU()
    layers = {"_expand_conv": ours.expand, "_depthwise_conv": ours.filter, "_project_conv": ours.project}
    layers |= {"_bn0": ours.expand_norm, "_bn1": ours.filter_norm, "_bn2": ours.project_norm}
    if ours.units:
        layers |= {"_se_reduce": ours.squeeze, "_se_expand": ours.excite}
    return _filled(block, **layers)


class _Branch(nn.Module):
    """A block less the residual stream that it has added."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.block(x_BCS) - x_BCS


def monai_res_block(ours: Any, size: Size) -> nn.Module:
    """UnetResBlock of DynUNet (nnU-Net), which activates the sum."""
    block = public("monai.networks.blocks.dynunet_block", "UnetResBlock")
    built = block(len(size), ours.dim, ours.dim, ours.kernel[0], 1, norm_name="batch")
    convs = {"conv1__conv": ours.expand, "conv2__conv": ours.project}
    return _Branch(_filled(built, **convs, norm1=ours.expand_norm, norm2=ours.project_norm))


def monai_channel_attention(ours: Any, size: Size) -> nn.Module:
    """ChannelSELayer behind the two convolutions of RCAN's block."""
    dim = ours.squeeze.in_features
    layer = public("monai.networks.blocks", "ChannelSELayer")(len(size), dim, r=dim // ours.squeeze.out_features)
    gates = _filled(layer, fc__0=ours.squeeze, fc__2=ours.excite)
    return NormedMap(ours.norm, nn.Sequential(ours.first, nn.LeakyReLU(0.2, inplace=True), ours.second, gates))


def timm_pooling(ours: Any, size: Size) -> nn.Module:
    """Pooling of PoolFormer."""
    return NormedMap(ours.norm, public("timm.models.metaformer", "Pooling")(ours.kernel[0]))


def timm_sep_conv(ours: Any, size: Size) -> nn.Module:
    """SepConv of the MetaFormer baselines without its activation."""
    layer = public("timm.models.metaformer", "SepConv")(
        ours.dim,
        expansion_ratio=ours.hidden / ours.dim,
        act1_layer=nn.Identity,
        bias=True,
        kernel_size=ours.kernel[0],
        padding=ours.kernel[0] // 2,
    )
    return nn.Sequential(ours.norm, _filled(layer, pwconv1=ours.expand, dwconv=ours.filter, pwconv2=ours.project))


def timm_xcit(ours: Any, size: Size) -> nn.Module:
    """The local patch interaction of XCiT."""
    layer = public("timm.models.xcit", "LPI")(ours.dim, kernel_size=ours.kernel[0])
    filled = _filled(layer, conv1=ours.filter, bn=ours.filter_norm, conv2=ours.refilter)
    return _Tokens(ours.norm, filled, *size)


def _layer(block: nn.Module, name: str) -> nn.Module:
    return block.get_submodule(name)


def versions() -> Iterator[str]:
    """``timm 1.0.31`` and so on, for those that are installed."""
    for package in INSTALL:
        try:
            yield f"{package} {import_module(package).__version__}"
        except ModuleNotFoundError:
            continue

"""What every part of a network promises (see ``medsearch.blocks``), asked of each one that the registries know."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS

REGISTRIES = {"mixer": MIXERS, "channel": CHANNELS, "stem": STEMS, "downsample": DOWNSAMPLES, "head": HEADS}
PARTS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]
KNOBS = [(kind, name, knob) for kind, name in PARTS for knob in REGISTRIES[kind].knobs(name)]

CHANNELS_IN, DIM, WIDTHS, OUTPUTS = 2, 12, (6, 10, 12), 3
POSITIONAL = {
    "mixer": (DIM,),
    "channel": (DIM,),
    "stem": (CHANNELS_IN, DIM),
    "downsample": (WIDTHS[1], DIM),
    "head": (WIDTHS,),
}
SIZES = {2: [(8, 8), (7, 12), (1, 9), (1, 1)], 3: [(4, 4, 4), (3, 5, 7), (1, 1, 6), (1, 1, 1)]}
UNEVEN = {2: (9, 11), 3: (9, 4, 5)}

every_part = pytest.mark.parametrize(("kind", "name"), PARTS, ids=[" ".join(part) for part in PARTS])
both_dims = pytest.mark.parametrize("dims", [2, 3])
every_size = pytest.mark.parametrize("size", SIZES[2] + SIZES[3], ids=str)


def build(kind: str, name: str, dims: int, **knobs: Any) -> nn.Module:
    """The part as the network would build it: what has no default is given, the rest stays, then ``knobs``."""
    part = REGISTRIES[kind][name]
    given = {"dims": dims, "outputs": OUTPUTS, "channels": CHANNELS_IN}
    wanted = {p.name for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY}
    wanted -= set(REGISTRIES[kind].knobs(name))
    return part(*POSITIONAL[kind], **{key: given[key] for key in wanted}, **knobs)


def trained(kind: str, name: str, dims: int) -> nn.Module:
    """The part with no parameter and no statistic at its starting value, where zeros and ones would hide mistakes."""
    part = build(kind, name, dims)
    for parameter in part.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    for norm in (module for module in part.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return part.eval()


def arguments(kind: str, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
    """What the network calls such a part with."""
    if kind != "head":
        return (torch.randn(batch, POSITIONAL[kind][0], *size),)
    features = []
    for level, width in enumerate(WIDTHS):
        features.append(torch.randn(batch, width, *(math.ceil(length / 2 ** (level + 1)) for length in size)))
    return features, torch.randn(batch, CHANNELS_IN, *size)


def close(seen: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal up to ``tolerance`` times the largest value."""
    assert seen.shape == expected.shape
    return bool((seen - expected).abs().max() <= tolerance * (1e-3 + expected.abs().max()))


@every_part
def test_says_what_it_is_and_where_it_comes_from(kind: str, name: str) -> None:
    part = REGISTRIES[kind][name]
    assert part.__doc__ and "Args:" in part.__doc__
    source = inspect.getdoc(inspect.getmodule(part)) or ""
    assert "Source:" in source
    assert "arXiv:" in source or "doi" in source
    for knob in REGISTRIES[kind].knobs(name):
        assert f"{knob}: " in part.__doc__, f"{name}: '{knob}' is not described"


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_names_its_family_and_norm(name: str) -> None:
    assert MIXERS[name].FAMILY
    assert MIXERS[name].NORM in ("batch", "layer", "none")


@pytest.mark.parametrize("name", HEADS)
def test_a_head_names_its_tasks(name: str) -> None:
    assert HEADS[name].TASKS
    assert set(HEADS[name].TASKS) <= {"classification", "segmentation", "denoising"}


def shape_after(kind: str, part: nn.Module, size: tuple[int, ...], batch: int) -> tuple[int, ...]:
    if kind in ("mixer", "channel"):
        return (batch, DIM, *size)
    if kind == "head":
        return (batch, OUTPUTS) if "classification" in part.TASKS else (batch, OUTPUTS, *size)
    stride = 16 // part(*arguments(kind, (16,) * len(size))).shape[2]
    assert stride == 2 or kind == "stem"
    return (batch, DIM, *(math.ceil(length / stride) for length in size))


@every_part
@every_size
def test_shape_is_as_promised_for_any_size(kind: str, name: str, size: tuple[int, ...]) -> None:
    part = build(kind, name, len(size)).eval()
    y = part(*arguments(kind, size, batch=3))
    assert y.shape == shape_after(kind, part, size, batch=3)
    assert y.isfinite().all()


@every_part
@every_size
def test_trains_on_any_size(kind: str, name: str, size: tuple[int, ...]) -> None:
    part = build(kind, name, len(size)).train()
    args = tree_map(lambda x: x.requires_grad_(), arguments(kind, size))
    part(*args).square().sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    gradients = [tensor.grad for tensor in (*part.parameters(), *tree_flatten(args)[0]) if tensor.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_part
@both_dims
def test_every_parameter_matters(kind: str, name: str, dims: int) -> None:
    part = trained(kind, name, dims)
    y = part(*arguments(kind, (9,) * dims))
    (y * torch.randn_like(y)).sum().backward()
    idle = [key for key, p in part.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@every_part
@both_dims
def test_one_image_alone_is_as_in_a_batch(kind: str, name: str, dims: int) -> None:
    part = trained(kind, name, dims)
    args = arguments(kind, UNEVEN[dims], batch=3)
    batch = part(*args)
    for index in range(3):
        alone = part(*tree_map(lambda x, index=index: x[index : index + 1], args))
        assert close(alone[0], batch[index])


@every_part
@both_dims
@pytest.mark.parametrize("value", [0.0, 1.0, -1000.0])
def test_constant_input_gives_finite_output_and_gradient(kind: str, name: str, dims: int, value: float) -> None:
    part = build(kind, name, dims).train()
    args = tree_map(lambda x: torch.full_like(x, value, requires_grad=True), arguments(kind, UNEVEN[dims]))
    y = part(*args)
    y.sum().backward()
    gradients = [tensor.grad for tensor in (*part.parameters(), *tree_flatten(args)[0]) if tensor.grad is not None]
    assert all(tensor.isfinite().all() for tensor in (y, *gradients))


@every_part
@both_dims
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)], ids=str)
def test_mixed_precision_is_close_to_single(
    kind: str, name: str, dims: int, dtype: torch.dtype, tolerance: float
) -> None:
    """At nine positions of ten: where a part picks the best of its positions, rounding may pick another one."""
    part = trained(kind, name, dims)
    args = arguments(kind, UNEVEN[dims])
    with torch.no_grad():
        expected = part(*args)
        with torch.autocast("cpu", dtype=dtype):
            seen = part(*args)
    assert seen.isfinite().all()
    error = (seen.float() - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.quantile(0.9) <= tolerance
    assert error.max() <= 0.5


@every_part
@both_dims
def test_memory_format_and_repetition_change_nothing(kind: str, name: str, dims: int) -> None:
    part = trained(kind, name, dims)
    args = arguments(kind, UNEVEN[dims])
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    expected = part(*args)
    assert torch.equal(part(*args), expected)
    assert close(part(*tree_map(lambda x: x.contiguous(memory_format=last), args)), expected)


@every_part
@both_dims
def test_double_precision_gives_the_same_values(kind: str, name: str, dims: int) -> None:
    part = trained(kind, name, dims)
    args = arguments(kind, UNEVEN[dims])
    expected = part(*args)
    seen = part.double()(*tree_map(Tensor.double, args))
    assert seen.dtype == torch.float64
    assert close(seen.float(), expected, 1e-4)


@every_part
@both_dims
def test_shapes_are_known_without_computing(kind: str, name: str, dims: int) -> None:
    with torch.device("meta"):
        part = build(kind, name, dims).eval()
        y = part(*arguments(kind, UNEVEN[dims]))
    assert y.is_meta
    assert y.shape == build(kind, name, dims).eval()(*arguments(kind, UNEVEN[dims])).shape


@pytest.mark.parametrize("name", CHANNELS)
@both_dims
def test_a_channel_mixer_reaches_near_neighbours_only(name: str, dims: int) -> None:
    """Also what exposes a layout that confuses channels with positions."""
    mixer = trained("channel", name, dims)
    (x,) = arguments("channel", (11,) * dims)
    y = mixer(x)
    x[(0, slice(None), *(5,) * dims)] += 1.0
    changed = (mixer(x) - y).abs().amax(1)
    assert not changed[1].any()
    assert changed[0][(5,) * dims] > 0
    inner = (slice(3, 8),) * dims
    changed[0][inner] = 0
    assert changed.max() < 1e-5


@pytest.mark.parametrize(("kind", "name", "knob"), KNOBS, ids=[" ".join(knob) for knob in KNOBS])
def test_a_wrong_knob_is_refused_by_name(kind: str, name: str, knob: str) -> None:
    annotation = str(inspect.signature(REGISTRIES[kind][name]).parameters[knob].annotation)
    wrong: list[object] = ["nonsense"]
    wrong += [-1] if "int" in annotation or "float" in annotation else []
    wrong += [2.5] if "int" in annotation and "float" not in annotation else []
    for value in wrong:
        with pytest.raises((ValueError, TypeError)) as refused:
            build(kind, name, 2, **{knob: value})
        assert name in str(refused.value), f"{knob}={value!r}: the message does not name the part: {refused.value}"
        assert repr(value) in str(refused.value), f"{knob}={value!r}: the message does not say what was seen"


def test_an_unknown_knob_is_refused() -> None:
    for kind, name in PARTS:
        with pytest.raises(TypeError, match="no_such_knob"):
            build(kind, name, 2, no_such_knob=1)


class FlatAndSolid(nn.Module):
    """One part built twice, so that both are exported for the price of one."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__()
        self.flat, self.solid = trained(kind, name, 2), trained(kind, name, 3)

    def forward(self, flat: tuple[Any, ...], solid: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        return self.flat(*flat), self.solid(*solid)


# The exporter of torch 2.13 copies tree specifications in a way that torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
@every_part
def test_onnx_gives_the_same_values_at_another_batch_size(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="torch")
    pair = FlatAndSolid(kind, name).eval()
    traced = tuple(arguments(kind, UNEVEN[dims], batch=2) for dims in (2, 3))
    batch = tree_map(lambda _: {0: torch.export.Dim.DYNAMIC}, traced)
    program = torch.onnx.export(pair, traced, dynamo=True, dynamic_shapes=batch, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for images in (1, 3):
        args = tuple(arguments(kind, UNEVEN[dims], batch=images) for dims in (2, 3))
        names = [value.name for value in session.get_inputs()]
        seen = session.run(None, dict(zip(names, (x.numpy() for x in tree_flatten(args)[0]), strict=True)))
        for dims, values, expected in zip((2, 3), seen, pair(*args), strict=True):
            assert close(torch.from_numpy(values), expected, 1e-4), f"{dims}D, {images} images"

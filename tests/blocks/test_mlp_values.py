"""The MLPs over positions against their equations, position by position in float64, and against published counts."""

from __future__ import annotations

import copy
import io
import itertools
import math
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks.mixers.axial_shift import AxialShift
from medsearch.blocks.mixers.block_gmlp import BlockGmlp
from medsearch.blocks.mixers.block_mlp import BlockMlp
from medsearch.blocks.mixers.channel_attention_block import ChannelAttentionBlock
from medsearch.blocks.mixers.grid_gmlp import GridGmlp
from medsearch.blocks.mixers.multi_axis_gmlp import MultiAxisGmlp
from medsearch.blocks.mixers.multi_window_gmlp import MultiWindowGmlp
from medsearch.blocks.positions_mlp import PositionGmlp
from medsearch.measurement.memory.trace import footprint
from oracles import ReceptiveField, mirror_image, parameter_count, receptive_field

Position = tuple[int, ...]

SMALL: dict[str, Callable[[int], nn.Module]] = {
    "block_gmlp": lambda dims: BlockGmlp(4, dims=dims, block="2x3x2"[: 2 * dims - 1], hidden=3),
    "grid_gmlp": lambda dims: GridGmlp(4, dims=dims, grid="3x2x2"[: 2 * dims - 1], hidden=3),
    "multi_axis_gmlp": lambda dims: MultiAxisGmlp(4, dims=dims, block=3, grid=2, block_hidden=3, grid_hidden=5),
    "multi_window_gmlp": lambda dims: MultiWindowGmlp(4, dims=dims, windows="2-3", ratio=1.5),
    "axial_shift": lambda dims: AxialShift(8, dims=dims, shift=3),
    "channel_attention_block": lambda dims: ChannelAttentionBlock(4, dims=dims, reduction=2),
    "block_mlp": lambda dims: BlockMlp(4, dims=dims, block="2x3x2"[: 2 * dims - 1], hidden=5),
}
SIZES = [(4, 6), (5, 7), (2, 1), (4, 2, 6), (3, 2, 5)]


def spread(mixer: nn.Module) -> nn.Module:
    """Large random parameters, so that no term of an equation is too small to be seen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in mixer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.7
    return mixer


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * array(norm.weight) + array(norm.bias)


def image_norm(x: np.ndarray, norm: nn.GroupNorm) -> np.ndarray:
    """Over all channels and positions of one image."""
    return (x - x.mean()) / np.sqrt(x.var() + norm.eps) * array(norm.weight) + array(norm.bias)


def linear(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    """A linear layer, or a convolution of edge 1."""
    weight = array(layer.weight)
    return x @ weight.reshape(weight.shape[:2]).T + array(layer.bias)


def inside(position: Position, size: Position) -> bool:
    return all(0 <= i < length for i, length in zip(position, size, strict=True))


def blocks(size: Position, edges: Position) -> list[list[Position]]:
    """The positions of every block in the order of the weights; some lie outside the map."""
    counts = [math.ceil(length / edge) for length, edge in zip(size, edges, strict=True)]
    tokens = list(itertools.product(*map(range, edges)))
    return [
        [tuple(b * edge + t for b, edge, t in zip(block, edges, token, strict=True)) for token in tokens]
        for block in itertools.product(*map(range, counts))
    ]


def grid(size: Position, edges: Position) -> list[list[Position]]:
    """The positions with the same offset in their cell of a grid, in the order of the weights."""
    steps = [math.ceil(length / edge) for length, edge in zip(size, edges, strict=True)]
    tokens = list(itertools.product(*map(range, edges)))
    return [
        [tuple(t * step + o for t, step, o in zip(token, steps, offset, strict=True)) for token in tokens]
        for offset in itertools.product(*map(range, steps))
    ]


def gated_mlp(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """W2 (u * (v' + 1)); v'_s = sum_t W_st LN(v)_t + b_s over the positions t of a set that lie inside the map."""
    size = x_SC.shape[:-1]
    u, v = np.split(gelu(linear(layer_norm(x_SC, mixer.norm), mixer.expand)), 2, axis=-1)
    v = layer_norm(v, mixer.gate_norm)
    weight, bias = array(mixer.mix_TT), array(mixer.bias_T)
    gate = np.full_like(u, np.nan)
    sets = blocks if isinstance(mixer, BlockGmlp) else grid
    for positions in sets(size, mixer.edges):
        real = [(t, p) for t, p in enumerate(positions) if inside(p, size)]
        for s, target in real:
            gate[target] = 1 + bias[s] + sum(weight[s, t] * v[source] for t, source in real)
    return linear(u * gate, mixer.project)


def multi_axis(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """W2 [a + grid gMLP(a), b + block gMLP(b)]."""
    a, b = np.split(gelu(linear(layer_norm(x_SC, mixer.norm), mixer.expand)), 2, axis=-1)
    joined = np.concatenate([a + gated_mlp(mixer.grid, a), b + gated_mlp(mixer.block, b)], axis=-1)
    return linear(joined, mixer.project)


def multi_window(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """W sum_i a_i y_i, y_i = z + gMLP_i(z), z = LN(x); a is a softmax over windows, for every channel."""
    z = layer_norm(x_SC, mixer.norm)
    y_WSC = np.stack([z + gated_mlp(window, z) for window in mixer.windows])
    mean = y_WSC.sum(0).reshape(-1, z.shape[-1]).mean(0)
    choice_CW = linear(gelu(linear(mean, mixer.squeeze)), mixer.choose).reshape(len(mean), -1)
    share_CW = np.exp(choice_CW) / np.exp(choice_CW).sum(1, keepdims=True)
    return linear(sum(share_CW[:, i] * y for i, y in enumerate(y_WSC)), mixer.project)


def axial(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """W2 GN(sum over the axes of GELU(W1 shift(y))), y = GELU(GN(W0 GN(x))); zeros come in from outside."""
    size, groups = x_SC.shape[:-1], math.ceil(x_SC.shape[-1] / mixer.shift)
    y = gelu(image_norm(linear(image_norm(x_SC, mixer.norm), mixer.expand), mixer.expand_norm))
    total = np.zeros_like(y)
    for axis, layer in enumerate(mixer.axes):
        shifted = np.zeros_like(y)
        for *target, channel in itertools.product(*map(range, y.shape)):
            source = list(target)
            source[axis] -= channel // groups - mixer.shift // 2
            if inside(tuple(source), size):
                shifted[(*target, channel)] = y[(*source, channel)]
        total += gelu(linear(shifted, layer))
    return linear(image_norm(total, mixer.project_norm), mixer.project)


def convolution(x_SC: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Every position's sum over its window, of what lies inside the map."""
    size, weight = x_SC.shape[:-1], array(layer.weight)
    y = np.tile(array(layer.bias), (*size, 1))
    for target in itertools.product(*map(range, size)):
        for offset in itertools.product(range(3), repeat=len(size)):
            source = tuple(t + o - 1 for t, o in zip(target, offset, strict=True))
            if inside(source, size):
                y[target] += weight[(slice(None), slice(None), *offset)] @ x_SC[source]
    return y


def channel_attention(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """y * sigmoid(W2 ReLU(W1 mean(y))), y = conv(LeakyReLU(conv(LN(x))))."""
    first = convolution(layer_norm(x_SC, mixer.norm), mixer.first)
    y = convolution(np.where(first > 0, first, 0.2 * first), mixer.second)
    scale = linear(np.maximum(linear(y.reshape(-1, y.shape[-1]).mean(0), mixer.squeeze), 0), mixer.excite)
    return y / (1 + np.exp(-scale))


def token_mlp(mixer: nn.Module, x_SC: np.ndarray) -> np.ndarray:
    """y_s = sum_h W2_sh GELU(sum_t W1_ht LN(x)_t + b1_h) + b2_s over the positions of a block, zeros outside."""
    size, z = x_SC.shape[:-1], layer_norm(x_SC, mixer.norm)
    y = np.full_like(z, np.nan)
    for positions in blocks(size, mixer.edges):
        z_CT = np.stack([z[p] if inside(p, size) else np.zeros(z.shape[-1]) for p in positions], axis=1)
        y_CT = linear(gelu(linear(z_CT, mixer.expand)), mixer.project)
        for t, p in enumerate(positions):
            if inside(p, size):
                y[p] = y_CT[:, t]
    return y


EQUATIONS = {
    "block_gmlp": gated_mlp,
    "grid_gmlp": gated_mlp,
    "multi_axis_gmlp": multi_axis,
    "multi_window_gmlp": multi_window,
    "axial_shift": axial,
    "channel_attention_block": channel_attention,
    "block_mlp": token_mlp,
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", EQUATIONS)
def test_equals_the_equation_evaluated_position_by_position(name: str, size: Position) -> None:
    mixer = spread(SMALL[name](len(size)).double())
    dim = 8 if name == "axial_shift" else 4
    x_BCS = torch.randn(2, dim, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y_BSC = array(mixer(x_BCS).movedim(1, -1))
    for image, y_SC in zip(x_BCS.movedim(1, -1).numpy(), y_BSC, strict=True):
        np.testing.assert_allclose(y_SC, EQUATIONS[name](mixer, image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sets", [blocks, grid])
def test_sets_of_the_reference_cover_each_position_once(sets: Callable[..., list[list[Position]]]) -> None:
    covered = sorted(position for positions in sets((4, 6), (2, 3)) for position in positions)
    assert covered == list(itertools.product(range(4), range(6)))


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 2)], ids=str)
def test_one_block_as_large_as_the_map_is_the_spatial_gating_unit_of_gmlp(size: Position) -> None:
    """u * (W LN(v) + b) over all positions, the bias b starting at 1."""
    mixer = spread(BlockGmlp(5, dims=len(size), block="x".join(map(str, size)), hidden=3).double())
    x_SC = np.random.default_rng(0).normal(size=(*size, 5))
    u, v = np.split(gelu(linear(layer_norm(x_SC, mixer.norm), mixer.expand)), 2, axis=-1)
    flat = layer_norm(v, mixer.gate_norm).reshape(-1, 3)
    gate = array(mixer.mix_TT) @ flat + (1 + array(mixer.bias_T))[:, None]
    expected = linear(u * gate.reshape(u.shape), mixer.project)
    seen = mixer(torch.from_numpy(x_SC).movedim(-1, 0)[None])[0].movedim(0, -1)
    np.testing.assert_allclose(array(seen), expected, rtol=1e-9, atol=1e-9)


def reached(mixer: nn.Module, size: Position, position: Position) -> set[Position]:
    """The positions whose input moves the output at ``position``."""
    x_BCS = torch.randn(1, 4, *size, requires_grad=True, generator=torch.Generator().manual_seed(2))
    mixer(x_BCS)[(0, slice(None), *position)].sum().backward()
    return {tuple(index.tolist()) for index in x_BCS.grad[0].abs().sum(0).nonzero()}


@pytest.mark.parametrize("kind", [BlockGmlp, BlockMlp])
def test_a_block_sees_its_neighbours_only(kind: type[nn.Module]) -> None:
    assert reached(spread(kind(4, dims=2, block=2)), (4, 6), (1, 4)) == {(0, 4), (0, 5), (1, 4), (1, 5)}
    assert reached(spread(kind(4, dims=2, block="1x3")), (4, 6), (1, 4)) == {(1, 3), (1, 4), (1, 5)}
    assert receptive_field(kind(4, dims=3, block="1x4x6")) == ReceptiveField(5, 12)


def test_a_grid_sees_the_whole_map_in_strides() -> None:
    assert reached(spread(GridGmlp(4, dims=2, grid=2)), (4, 6), (1, 4)) == {(1, 1), (1, 4), (3, 1), (3, 4)}


@pytest.mark.parametrize("kind", [BlockGmlp, GridGmlp])
def test_a_fresh_layer_gates_with_almost_one(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    mixer = kind(16, dims=3)
    x_BCS = torch.randn(1, 16, 8, 8, 8)
    u_BSH, _ = mixer.act(mixer.expand(mixer.norm(x_BCS.movedim(1, -1)))).chunk(2, dim=-1)
    ungated_BCS = mixer.project(u_BSH).movedim(-1, 1)
    difference = (mixer(x_BCS) - ungated_BCS).norm() / ungated_BCS.norm()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["block_gmlp", "grid_gmlp", "multi_axis_gmlp", "multi_window_gmlp"])
def test_where_all_sets_fit_a_mirrored_map_is_mixed_as_well(name: str, axis: int) -> None:
    mixer = SMALL[name](2)
    state = dict(spread(mixer.double()).state_dict())
    for path, inner in mixer.named_modules():
        if isinstance(inner, BlockGmlp | GridGmlp):
            state |= {f"{path}.{key}".lstrip("."): tensor for key, tensor in mirror_image(inner, axis).items()}
    image = copy.deepcopy(mixer)
    image.load_state_dict(state)
    x_BCS = torch.randn(1, 4, 6, 12, dtype=torch.float64)
    torch.testing.assert_close(image(x_BCS.flip(2 + axis)), mixer(x_BCS).flip(2 + axis))


def fullmlp_encoder() -> int:
    """Two multi-axis gMLPs, each with a channel attention block behind it, at each of five levels."""
    total = 0
    for level, edge in enumerate((8, 8, 6, 6, 4)):
        dim = 24 * 2**level
        gated = MultiAxisGmlp(dim, dims=3, block=edge, grid=edge)
        total += 2 * (parameter_count(gated) + parameter_count(ChannelAttentionBlock(dim, dims=3)))
    return total


def test_published_networks_have_their_published_number_of_parameters() -> None:
    """What is beside the mixers is written out: patch embedding, channel MLPs, norms, head."""
    with torch.device("meta"):
        mixer = 12 * (parameter_count(BlockMlp(768, dims=2, block=14, hidden=384)) + 2 * 768 + 2 * 4 * 768**2 + 5 * 768)
        assert mixer + 768 * (3 * 256 + 1) + 2 * 768 + 1000 * (768 + 1) == 59_880_472  # Mixer-B/16
        gmlp = 30 * parameter_count(BlockGmlp(256, dims=2, block=14, ratio=3.0))
        assert gmlp + 256 * (3 * 256 + 1) + 2 * 256 + 1000 * (256 + 1) == 19_422_656  # gMLP-S/16
        widths = (96, 192, 384, 768)
        shift = [parameter_count(AxialShift(dim, dims=2)) + 2 * dim + 8 * dim**2 + 5 * dim for dim in widths]
        assert 2 * shift[0] + 2 * shift[1] + 6 * shift[2] + 2 * shift[3] == 25_953_600  # the blocks of AS-MLP-T
        assert fullmlp_encoder() + 16_250_356 == 44_116_968  # FullMLP: the rest of it has 16,250,356
        assert parameter_count(MultiWindowGmlp(16, dims=3)) == 137_750  # the layer of CorrMLP at 16 channels


@pytest.mark.parametrize(
    ("kind", "maps"),
    [(BlockGmlp, 8.25), (GridGmlp, 8.25), (AxialShift, 11), (ChannelAttentionBlock, 3.125), (BlockMlp, 5.125)],
)
def test_holds_no_more_for_the_backward_pass_than_it_has_to(kind: type[nn.Module], maps: float) -> None:
    """In maps like the input, which is not counted: what layers were given, and two numbers of a norm per position."""
    part = footprint(lambda: kind(16, dims=3), [(1, 16, 16, 16, 16)], precision="fp32")
    assert part.held / (4 * 16**4) == pytest.approx(maps, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "knob"), [(BlockGmlp, "block"), (GridGmlp, "grid"), (MultiAxisGmlp, "grid"), (BlockMlp, "block")]
)
@pytest.mark.parametrize("edge", [1, 0, -8, 2.0, True, "8", "1x1", "0x4", "2x2x2"], ids=repr)
def test_a_wrong_edge_is_refused_with_the_nearest_legal_one(kind: type[nn.Module], knob: str, edge: object) -> None:
    with pytest.raises(ValueError, match=rf"_g?mlp: {knob} must .* at least .*; try (2|'2x2')"):
        kind(4, dims=2, **{knob: edge})


@pytest.mark.parametrize("windows", ["", "3-", "3-1", "3-x", "3x3x3", 3, None], ids=repr)
def test_wrong_windows_are_refused(windows: object) -> None:
    with pytest.raises(ValueError, match="multi_window_gmlp: windows must .*; try '3-5-7'"):
        MultiWindowGmlp(4, dims=2, windows=windows)


@pytest.mark.parametrize(("shift", "legal"), [(4, 5), (1, 3), (0, 3), (True, 3), (2.0, 3), ("5", 3)], ids=repr)
def test_a_wrong_shift_is_refused_with_the_nearest_legal_one(shift: object, legal: int) -> None:
    with pytest.raises(ValueError, match=f"axial_shift: shift must be .*; try {legal}"):
        AxialShift(4, dims=2, shift=shift)


# The older exporter announces its own removal, that it fixes the traced padding, which is what a fixed size means, and
# that it leaves the arithmetic of constant padding in the file.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Constant folding:UserWarning")
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(5, 6), (4, 3, 6)], ids=str)
def test_the_older_exporter_at_opset_17_gives_the_same_values(name: str, size: Position) -> None:
    mixer = spread(SMALL[name](len(size))).eval()
    dim = 8 if name == "axial_shift" else 4
    file = io.BytesIO()
    traced_BCS = torch.randn(1, dim, *size)
    torch.onnx.export(
        mixer, (traced_BCS,), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
    )
    x_BCS = torch.randn(3, dim, *size)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y_BCS,) = session.run(None, {"x": x_BCS.numpy()})
    np.testing.assert_allclose(y_BCS, array(mixer(x_BCS)), rtol=1e-4, atol=1e-4)


def test_sets_of_positions_are_said_by_a_subclass() -> None:
    with pytest.raises(TypeError, match="abstract methods '?_map'?, '?_rows'?"):
        PositionGmlp("some_gmlp", 8, (2, 2), ratio=2.0, hidden=None)

"""Block pruning: whole blocks of a perceptron's weights go, where the block form is measured to be the fastest one.

Source: the block score of LPViT (Xu et al. 2024, arXiv:2407.02068, section 3.2), the mean of |w g| over a block.  What
differs: g is the gradient of the task's loss; every block row keeps equally many blocks, so that the result is a gather
and a dense product (see ``medsearch.blocks.block_linear``) instead of a mask; what is left is refitted to the former
outputs.
Shapes: I inputs, O outputs, R row blocks, N kept blocks of 16 inputs, K = 16 N kept inputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn

from medsearch.backbones import Interface, Network, build
from medsearch.blocks.block_linear import COLUMNS, BlockLinear
from medsearch.compression.int8 import quantizable, with_int8
from medsearch.compression.prune import Batch
from medsearch.compression.quantize import GAIN
from medsearch.compression.refit import Moments, moments, refit
from medsearch.compression.structure import Place, paths, with_knobs
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.latency.timing import paired_benchmark
from medsearch.spaces import Genotype
from medsearch.tasks import Task

LAYERS = ("expand", "project")
"""The two layers of a part that has the knobs ``row_block`` and ``keep``."""


class Gains(NamedTuple):
    """How many times faster the block form of a perceptron is than its dense forms."""

    over_float: float
    over_int8: float


class Verdict(NamedTuple):
    """A perceptron, its row block, and what the stopwatch said about its block form."""

    place: Place
    row_block: int
    gains: Gains

    @property
    def taken(self) -> bool:
        """Whether the block form is the fastest."""
        return min(self.gains) >= GAIN


def measured_gains(dense: nn.Module, blocks: nn.Module, shape: tuple[int, ...], *, seconds: float = 0.3) -> Gains:
    """Time the forms in ONNX Runtime, one thread, on one input of ``shape`` (C, *S)."""
    one, other = part_file(dense, shape), part_file(blocks, shape)
    return Gains(
        *(paired_benchmark(form, other, ((1, *shape),), seconds=seconds)[0] for form in (one, all_in_int8(one)))
    )


def part_file(part: nn.Module, shape: tuple[int, ...]) -> bytes:
    """An ONNX file of a part for inputs (C, *S), its batch size open as in a delivered file: else other nodes fuse."""
    model = onnx.load_model_from_string(to_onnx_fast(part, (torch.randn(1, *shape),)))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model.SerializeToString()


def all_in_int8(data: bytes) -> bytes:
    """The file with all that can compute in 8 bits doing so, over ranges of no meaning: for the stopwatch only."""
    model = onnx.load_model_from_string(data)
    nodes = quantizable(model)
    ranges = dict.fromkeys((name for node in nodes for name in (node.input[0], node.output[0])), (-4.0, 4.0))
    return with_int8(model, {node.name for node in nodes}, ranges)


def block_prune(
    model: Network,
    genotype: Genotype,
    interface: Interface,
    task: Task,
    batches: Sequence[Batch],
    *,
    keep: float,
    gains: Callable[[nn.Module, nn.Module, tuple[int, ...]], Gains] = measured_gains,
) -> tuple[Network, Genotype, list[Verdict]]:
    """The network with the share ``keep`` of the blocks in every perceptron whose block form is the fastest.

    Where it is nowhere, ``model`` itself comes back.

    Args:
        batches: calibration images with targets.
        gains: what decides.
    """
    verdicts = judge_blocks(model, genotype, interface, batches[0][0][:1], keep=keep, gains=gains)
    taken = [verdict for verdict in verdicts if verdict.taken]
    if not taken:
        return model, genotype, verdicts
    new_genotype = in_blocks(genotype, taken, keep)
    result = build(new_genotype, interface)
    layers = [f"{paths(genotype)[verdict.place]}.{layer}" for verdict in taken for layer in LAYERS]
    seen = moments(model, layers, (images for images, _ in batches))
    gradients = _gradients(model, layers, task, batches)
    state = dict(model.state_dict())
    for name in layers:
        del state[f"{name}.weight"]
        form = result.get_submodule(name)
        assert isinstance(form, BlockLinear)
        state |= {
            f"{name}.{key}": tensor
            for key, tensor in _blocks(model.get_submodule(name), form, gradients[name], seen[name]).items()
        }
    result.load_state_dict(state)
    return result.eval(), new_genotype, verdicts


def judge_blocks(
    model: Network,
    genotype: Genotype,
    interface: Interface,
    image_BCS: Tensor,
    *,
    keep: float,
    gains: Callable[[nn.Module, nn.Module, tuple[int, ...]], Gains] = measured_gains,
) -> list[Verdict]:
    """What the stopwatch says about every perceptron that has a block form; equal ones are timed once."""
    shapes = _shapes(model, paths(genotype).values(), image_BCS)
    known: dict[object, Gains] = {}
    verdicts = []
    for place, path in paths(genotype).items():
        dense = model.get_submodule(path)
        rows = largest_row_block(dense)
        if rows is None:
            continue
        form = build(in_blocks(genotype, [Verdict(place, rows, Gains(0, 0))], keep), interface).get_submodule(path)
        key = (type(dense), shapes[path], tuple(p.shape for p in dense.parameters()))
        if key not in known:
            known[key] = gains(dense, form.eval(), shapes[path])
        verdicts.append(Verdict(place, rows, known[key]))
    return verdicts


def in_blocks(genotype: Genotype, verdicts: Collection[Verdict], keep: float) -> Genotype:
    """The genotype with these perceptrons in block form."""
    return with_knobs(genotype, {v.place: {"row_block": v.row_block, "keep": keep} for v in verdicts})


def largest_row_block(part: nn.Module) -> int | None:
    """The largest row block that both layers of a dense perceptron allow; None where it has no block form."""
    layers = [getattr(part, layer, None) for layer in LAYERS]
    if not getattr(part, "dense", False) or not all(isinstance(layer, nn.Module) for layer in layers):
        return None
    hidden, dim = part.get_parameter("expand.weight").shape[:2]
    common = math.gcd(hidden, dim)
    return common if common % COLUMNS == 0 else None


def choose_blocks(weight_OI: Tensor, gradient_OI: Tensor, *, rows: int, kept: int) -> Tensor:
    """The blocks (R, N) that each of ``rows`` row blocks keeps: those with the largest mean of |w g|."""
    score_OI = (weight_OI * gradient_OI).abs()
    score_RB = score_OI.unflatten(0, (rows, -1)).unflatten(2, (-1, COLUMNS)).mean((1, 3))
    return score_RB.topk(kept, dim=1).indices.sort(1).values


def _blocks(dense: nn.Module, form: BlockLinear, gradient_OI: Tensor, seen: Moments) -> dict[str, Tensor]:
    """The tensors of ``form`` that come nearest to what ``dense`` computes."""
    weight_OI = dense.get_parameter("weight").detach().flatten(1)
    bias_O = dense.bias.detach() if isinstance(dense.bias, nn.Parameter) else None
    rows, _, inputs = form.weight_ROK.shape
    columns_RN = choose_blocks(weight_OI, gradient_OI, rows=rows, kept=inputs // COLUMNS)
    inputs_RK = (columns_RN[..., None] * COLUMNS + torch.arange(COLUMNS)).flatten(1)
    biases = [None] * rows if bias_O is None else bias_O.chunk(rows)
    fitted = [
        refit(weight, bias, seen, kept)
        for weight, bias, kept in zip(weight_OI.chunk(rows), biases, inputs_RK, strict=True)
    ]
    tensors = {"weight_ROK": torch.stack([weight for weight, _ in fitted]), "columns": columns_RN}
    return (
        tensors if bias_O is None else tensors | {"bias": torch.cat([bias for _, bias in fitted if bias is not None])}
    )


def _gradients(model: Network, layers: Sequence[str], task: Task, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """The gradient (O, I) of the mean loss for the weight of every layer."""
    model = copy.deepcopy(model).requires_grad_().eval()
    weights = [model.get_parameter(f"{name}.weight") for name in layers]
    sums = [torch.zeros_like(weight) for weight in weights]
    for images, targets in batches:
        for total, gradient in zip(sums, torch.autograd.grad(task.loss(model(images), targets), weights), strict=True):
            total += gradient / len(batches)
    return {name: total.flatten(1) for name, total in zip(layers, sums, strict=True)}


@torch.no_grad()
def _shapes(model: Network, names: Collection[str], image_BCS: Tensor) -> dict[str, tuple[int, ...]]:
    """What the named parts are given, (C, *S)."""
    found: dict[str, tuple[int, ...]] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: found.update({name: tuple(inputs[0].shape[1:])})
        )
        for name in names
    ]
    model(image_BCS)
    for hook in hooks:
        hook.remove()
    return found

"""The contract of the parts of a network (``medsearch.blocks``): of token mixers and channel mixers, all of it at once.

Each check says one thing of one part, so that a test may ask it of many; they draw from torch's global random state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from medsearch.blocks import CHANNELS, MIXERS
from medsearch.core.errors import RefusedError
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.exporters.sources import gather, import_lines
from medsearch.targets.onnx_runtime import session
from medsearch.tasks import task_type
from medsearch.testing.contract import registered, wants
from medsearch.testing.parts import Part

SIZES: dict[int, list[tuple[int, ...]]] = {
    2: [(8, 8), (7, 12), (1, 9), (1, 1)],
    3: [(4, 4, 4), (3, 5, 7), (1, 1, 6), (1, 1, 1)],
}
"""Maps that every part takes: even, uneven, thin, and a single position."""
UNEVEN: dict[int, tuple[int, ...]] = {2: (9, 11), 3: (9, 4, 5)}
NORMS = ("batch", "layer", "none")


def check_mixer(mixer: str | type) -> None:
    """Everything that is wanted of a token mixer, in 2D and 3D."""
    name, target = registered(MIXERS, mixer)
    wants(getattr(target, "FAMILY", ""), f"mixer {name}: FAMILY says which family reports count it to.")
    norm = getattr(target, "NORM", None)
    wants(norm in NORMS, f"mixer {name}: NORM is one of {', '.join(NORMS)}, got {norm!r}.")
    _check_branch(Part("mixer", name))


def check_channel(channel: str | type) -> None:
    """Everything that is wanted of a channel mixer, in 2D and 3D."""
    _check_branch(Part("channel", registered(CHANNELS, channel)[0]))


def _check_branch(part: Part) -> None:
    check_refusal(part)
    for dims, sizes in SIZES.items():
        for size in sizes:
            check_shape(part, size)
            check_gradients(part, size)
        check_every_parameter(part, dims)
        check_company(part, part.arguments(UNEVEN[dims], batch=3))
        check_state(part, dims)
        check_onnx(part, UNEVEN[dims])
        check_source(part, dims)


def is_close(seen: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors of one shape are equal up to ``tolerance`` times the largest value."""
    wants(seen.shape == expected.shape, f"shapes differ: {tuple(seen.shape)} and {tuple(expected.shape)}")
    return bool((seen - expected).abs().max() <= tolerance * (1e-3 + expected.abs().max()))


def shape_after(part: Part, module: nn.Module, size: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """What a part has to make of a map of ``size``, or of the stages of an image of ``size``."""
    if part.kind == "head":
        dense = any(task_type(task).DENSE for task in part.target.TASKS)  # type: ignore[attr-defined]
        return (batch, 3, *size) if dense else (batch, 3)
    return (batch, part.dim, *(size if part.kind in ("mixer", "channel") else module.scale(size)))  # type: ignore[operator]


def check_shape(part: Part, size: tuple[int, ...]) -> None:
    """The promised shape and finite values, at any size."""
    module = part.build(len(size)).eval()
    y = module(*part.arguments(size, batch=3))
    wanted = shape_after(part, module, size, batch=3)
    wants(y.shape == wanted, f"{part}: makes {tuple(y.shape)} of a map of {size}; {wanted} is wanted.")
    wants(y.isfinite().all(), f"{part}: gives values that are not finite for a map of {size}.")


def check_gradients(part: Part, size: tuple[int, ...]) -> None:
    """A finite gradient for every parameter and input, at any size, in training."""
    module = part.build(len(size)).train()
    args = tree_map(lambda x: x.requires_grad_(), part.arguments(size))
    module(*args).square().sum().backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    wants(not without, f"{part}: {', '.join(without)} gets no gradient on a map of {size}; every parameter needs one.")
    wants(
        all(gradient.isfinite().all() for gradient in gradients(module, args)),
        f"{part}: a gradient is not finite on a map of {size}.",
    )


def check_every_parameter(part: Part, dims: int) -> None:
    """No parameter is without influence on the output."""
    module = part.trained(dims)
    args = tree_map(lambda x: x.requires_grad_(), part.arguments((9,) * dims))
    y = module(*args)
    (y * torch.randn_like(y)).sum().backward()
    idle = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    wants(not idle, f"{part}: {', '.join(idle)} does not change the output; leave out what is not used.")


@torch.no_grad()
def check_company(part: Part, args: tuple[Any, ...]) -> None:
    """The same values again, in another memory layout, in another order, and for one image alone, in eval mode."""
    module = part.trained(_dims(args))
    expected = module(*args)
    last = torch.channels_last if _dims(args) == 2 else torch.channels_last_3d
    wants(torch.equal(module(*args), expected), f"{part}: gives other values the second time; nothing may be random.")
    laid_out = module(*tree_map(lambda x: x.contiguous(memory_format=last), args))
    wants(is_close(laid_out, expected), f"{part}: gives other values for the same images in channels-last layout.")
    turned = module(*tree_map(lambda x: x.flip(0), args)).flip(0)
    wants(is_close(turned, expected), f"{part}: the order of the images in a batch changes their results.")
    for index in range(len(expected)):
        alone = module(*tree_map(lambda x, index=index: x[index : index + 1], args))
        wants(is_close(alone[0], expected[index]), f"{part}: an image alone gives another result than in a batch.")


@torch.no_grad()
def check_state(part: Part, dims: int) -> None:
    """The state dict holds all that was learnt."""
    module, other = part.trained(dims), part.build(dims).eval()
    other.load_state_dict(module.state_dict())
    args = part.arguments(UNEVEN[dims])
    same = torch.equal(module(*args), other(*args))
    wants(same, f"{part}: a module with the same state dict gives other values; keep state in parameters and buffers.")


@torch.no_grad()
def check_onnx(part: Part, size: tuple[int, ...]) -> None:
    """ONNX Runtime computes what torch computes."""
    module, args = part.trained(len(size)), part.arguments(size, batch=1)
    expected = module(*args)
    opened = session(to_onnx_fast(module, args))
    names = [value.name for value in opened.get_inputs()]
    given = {f"input_{i}": x.numpy() for i, x in enumerate(tree_leaves(args))}
    seen = torch.from_numpy(opened.run(None, {name: given[name] for name in names})[0])
    wants(is_close(seen, expected, 1e-4), f"{part}: its ONNX file gives other values than torch, on a map of {size}.")


@torch.no_grad()
def check_source(part: Part, dims: int) -> None:
    """The gathered source runs by itself, and computes what the part computes."""
    try:
        sources = gather([part.target])
    except RefusedError as refusal:
        raise AssertionError(f"{part}: its source cannot be exported: {refusal}") from refusal
    lines = ["from __future__ import annotations", *import_lines(sources.imports), *sources.sections]
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile("\n".join(lines), f"<source of {part}>", "exec", dont_inherit=True), names)
    module, alone = part.trained(dims), part.build(dims, names[part.target.__name__]).eval()
    alone.load_state_dict(module.state_dict())
    args = part.arguments(UNEVEN[dims])
    wants(torch.equal(alone(*args), module(*args)), f"{part}: its exported source computes something else.")


def check_refusal(part: Part) -> None:
    """A wrong name for a knob that takes names is refused by a message that says for which part and what was seen."""
    for knob, default in part.defaults.items():
        if not isinstance(default, str):
            continue
        try:
            part.having(**{knob: "nonsense"}).build(2)
        except (ValueError, TypeError) as refusal:
            said = part.name in str(refusal) and "nonsense" in str(refusal)
            wants(said, f"{part}: the refusal of {knob}='nonsense' names the part and what was seen, got: {refusal}")
        else:
            wants(False, f"{part}: takes {knob}='nonsense'; a wrong value is a ValueError that says what is legal.")


def gradients(module: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    """Of all parameters and inputs that have one."""
    return [tensor.grad for tensor in (*module.parameters(), *tree_leaves(args)) if tensor.grad is not None]


def _dims(args: tuple[Any, ...]) -> int:
    """Spatial axes of what a part is called with."""
    return tree_leaves(args)[-1].ndim - 2

"""Network to one readable Python file that imports torch alone, with its weights and a self-test beside it.

The file is that of the one network (``specialise``): it has no knob that is not turned and no check that cannot fail.
"""

from __future__ import annotations

import ast
import io
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, Network, plan
from medsearch.core.errors import RefusedError, SpaceError
from medsearch.core.files import write_bytes, write_text
from medsearch.exporters.docs import condense
from medsearch.exporters.facts import run_file
from medsearch.exporters.layout import is_text, module_lines, parse
from medsearch.exporters.names import bound, uses
from medsearch.exporters.plain import plain_copy
from medsearch.exporters.sources import Import, Sources, gather, import_lines
from medsearch.exporters.specialise import specialise
from medsearch.spaces import Genotype
from medsearch.tasks import task_type

Fact = str | float | int
TOLERANCE = 1e-6  # of the largest output; in float64, since in float32 other processors differ by more than that

_OURS = "medsearch."
_NAMES = ("build", "load", "self_test", "WEIGHTS", "NUM_CLASSES", "TOLERANCE")
_IMPORTS = (
    Import(module="sys", name=None, alias="sys"),
    Import(module="pathlib", name="Path", alias="Path"),
    Import(module="torch", name=None, alias="torch"),
    Import(module="torch", name="nn", alias="nn"),
)
_PLAINER = {
    ("medsearch.blocks.nd", "to_last"): "return x_BCS.movedim(1, -1)",
    ("medsearch.blocks.nd", "to_first"): "return x_BSC.movedim(-1, 1)",
    ("medsearch.blocks.nd", "depthwise"): "return filters(x_BCS)",
    ("medsearch.blocks.nd", "pad_to_multiple"): """
    short = [-size % w for size, w in zip(x_BSC.shape[1:-1], window, strict=True)]
    pads = [pad for missing in reversed(short) for pad in (0, missing)]
    return F.pad(x_BSC, [0, 0, *pads]) if any(short) else x_BSC""",
    ("medsearch.blocks.nd", "split_blocks"): """
    batch, *size, channels = x_BSC.shape
    dims = len(window)
    cut = [part for length, w in zip(size, window, strict=True) for part in (length // w, w)]
    order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x_BSC.reshape(batch, *cut, channels).permute(order).flatten(dims + 1, 2 * dims).flatten(1, dims)""",
    ("medsearch.blocks.attention", "_slow_to_train"): "return False",
    ("medsearch.blocks.attention", "SoftmaxProduct._fused"): """
    missing = self.shape.head_dim - self.shape.qk_dim
    if missing > 0:
        q, k = F.pad(q, (0, missing)), F.pad(k, (0, missing))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)""",
}
"""What functions come down to that are as they are for an exporter, or to train faster; the result is the same."""

_ABOUT = """Backbone {id}: {task} of {dims}D images.

Takes raw intensities {image}, gives {result}; made for {size} positions.
Mixers by stage: {stages}.
Names of tensors end in their axes: B images, C channels, S spatial axes ({axes}).
{facts}
``load()`` gives the network with the weights of the file beside this one, which has the same name and ends in .pt;
``features(images)`` of the network gives the maps of all stages.  Run as a program, this file computes the outputs
that are stored with the weights anew, and exits with 1 if they differ.
"""
_HEAD = """
WEIGHTS = Path(__file__).with_suffix(".pt")
TOLERANCE = {tolerance!r}
"""
_BUILD = '''
def build() -> {kind}:
    """The network with fresh weights."""
    return {call}
'''
_LOAD = '''
def load(weights: str | Path = WEIGHTS) -> {kind}:
    """The network with the weights of a file, in eval mode, on the CPU."""
    network = build()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    return network.eval()
'''
_BUILD_CLASSES = '''
NUM_CLASSES = {outputs}


def build(num_classes: int = NUM_CLASSES) -> {kind}:
    """The network with fresh weights."""
    return {call}
'''
_LOAD_CLASSES = '''
def load(weights: str | Path = WEIGHTS, num_classes: int = NUM_CLASSES) -> {kind}:
    """The network with the weights of a file, in eval mode, on the CPU.

    Layers whose size depends on another ``num_classes`` than it was trained for are fresh.
    """
    network = build(num_classes)
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    if num_classes != NUM_CLASSES:
        fresh = network.state_dict()
        state = fresh | {{k: state[k] for k in fresh if k in state and state[k].shape == fresh[k].shape}}
    network.load_state_dict(state)
    return network.eval()
'''
_END = '''
def self_test(weights: str | Path = WEIGHTS) -> bool:
    """Compare with the outputs stored beside the weights, in float64, where processors agree well enough."""
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    with torch.no_grad():
        outputs = load(weights).double()(stored["images"].double())
    difference = float((outputs - stored["outputs"]).abs().max() / stored["outputs"].abs().max())
    passed = difference <= TOLERANCE
    print(f"{'passed' if passed else 'FAILED'}: largest difference {difference:.1e} of the largest output")
    return passed


if __name__ == "__main__":
    sys.exit(0 if self_test() else 1)
'''


def write_module(
    folder: Path,
    genotype: Genotype,
    interface: Interface,
    model: nn.Module,
    images: np.ndarray,
    facts: Mapping[str, Fact],
    *,
    stem: str = "backbone",
) -> Path:
    """Write a Python file and its weights to ``folder``; before that, run the text and compare it with ``model``.

    Args:
        folder: made if needed.
        genotype, interface: what ``model`` was built from.
        model: the trained network; stays as it was.
        images: a few raw images (N, channels, *S), stored with the outputs for them.
        facts: numbers of the network for the top of the file, such as parameters and test metrics, one line each.
        stem: name of both files, an identifier; they end in ``.py`` and ``.pt``.

    Raises:
        RefusedError: if the file would not compute what ``model`` does.
    """
    path = Path(folder) / f"{stem}.py"
    original = plain_copy(model)
    images_BCS = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
    stored = {
        "state_dict": dict(original.state_dict()),
        "images": images_BCS,
        "outputs": _outputs(original, images_BCS),
    }
    for text, general in _texts(genotype, interface, facts, size=images.shape[2:]):
        try:
            _check(path, text, stored, original)
        except Exception:
            if general:
                raise
        else:
            break
    file = io.BytesIO()
    torch.save(stored, file)
    write_bytes(path.with_suffix(".pt"), file.getvalue())
    write_text(path, text)
    return path


def module_text(
    genotype: Genotype,
    interface: Interface,
    facts: Mapping[str, Fact],
    *,
    size: tuple[int, ...],
) -> str:
    """The Python file of an architecture: what it is, the parts it needs, ``build``, ``load`` and ``self_test``."""
    return next(_texts(genotype, interface, facts, size=size))[0]


def _texts(
    genotype: Genotype, interface: Interface, facts: Mapping[str, Fact], *, size: tuple[int, ...]
) -> Iterator[tuple[str, bool]]:
    """The file as special as it can be made, then without touching plugins, then as general as the parts are.

    The last one is said to be so; a part that does uncommon things as it is made may need it.
    """
    whole = plan(genotype, interface).call()
    parts = {call.target: None for call in _calls(whole) if not call.target.__module__.startswith("torch.")}
    sources = gather(sorted(parts, key=lambda part: part.__module__ == Network.__module__), reserved=_NAMES)
    about = _about(genotype, interface, facts, size)
    end = _end(genotype, interface, whole)
    foreign = {name for name, module in _origins(sources).items() if not module.startswith(_OURS)}
    outputs = [None] if task_type(interface.task).RESTORES else [interface.outputs, 1, interface.outputs + 1]
    for frozen in [set(), foreign] if foreign else [set()]:
        tree = _tree(sources, end, {part.__name__ for part in parts})
        try:
            specialise(tree, outputs, roots=_NAMES, frozen=frozen)
        except Exception:  # source of a kind that was not thought of
            continue
        yield _written(tree, sources, about), False
    yield _written(_tree(sources, end, set()), sources, about), True


def _tree(sources: Sources, end: str, parts: Collection[str]) -> ast.Module:
    """All of the file but its docstring; every definition with its file of ``origin``, and whether it is a part."""
    tree = ast.parse("\n".join(["from __future__ import annotations", *import_lines({*sources.imports, *_IMPORTS})]))
    for section in sources.sections:
        for node in parse(section.text).body:
            node.origin = section.module  # type: ignore[attr-defined]
            node.part = set(bound(node)) & set(parts)  # type: ignore[attr-defined]
            for name, function in _functions(node):
                if (section.module, name) in _PLAINER:
                    body = ast.parse(f"def plainer():\n    {_PLAINER[section.module, name]}").body[0].body  # type: ignore[attr-defined]
                    function.body = [*(part for part in function.body[:1] if is_text(part)), *body]
            tree.body.append(node)
    tree.body += parse(end).body
    return tree


def _functions(node: ast.stmt) -> Iterator[tuple[str, ast.FunctionDef]]:
    """A function by its name, or the methods of a class by theirs."""
    if isinstance(node, ast.FunctionDef):
        yield node.name, node
    elif isinstance(node, ast.ClassDef):
        yield from ((f"{node.name}.{part.name}", part) for part in node.body if isinstance(part, ast.FunctionDef))


def _origins(sources: Sources) -> dict[str, str]:
    """The file of every definition."""
    return {
        name: section.module
        for section in sources.sections
        for node in ast.parse(section.text).body
        for name in bound(node)
    }


def _written(tree: ast.Module, sources: Sources, about: str) -> str:
    """The text of a file: docstring, the imports that are used, constants, parts, functions."""
    condense(tree, {section.module: section.doc for section in sources.sections})
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    used = uses(body).names
    imports = [found for found in {*sources.imports, *_IMPORTS} if found.alias in used]
    head = [f'"""{about}"""', "", "from __future__ import annotations", "", *import_lines(imports), ""]
    head += [] if isinstance(body[0], ast.Assign | ast.AnnAssign) else [""]
    return "\n".join([*head, *module_lines(body)]) + "\n"


def _end(genotype: Genotype, interface: Interface, whole: Call) -> str:
    """The functions at the end of the file; they take the number of classes where there are any."""
    fills = {"kind": whole.target.__name__, "outputs": interface.outputs, "tolerance": TOLERANCE}
    if task_type(interface.task).RESTORES:
        made = ast.unparse(_repeated(_parsed(whole)))
        return (_HEAD + _BUILD + _LOAD).format(call=made, **fills) + _END
    other = replace(interface, outputs=interface.outputs + 1)
    call = _where_different(_parsed(whole), _parsed(plan(genotype, other).call()))
    return (_HEAD + _BUILD_CLASSES + _LOAD_CLASSES).format(call=ast.unparse(_repeated(call)), **fills) + _END


def _repeated(call: ast.expr) -> ast.expr:
    """A call with lists of equal calls in it written as ``[call for _ in range(3)]``."""
    for node in ast.walk(call):
        for name, value in ast.iter_fields(node):
            if (
                isinstance(value, ast.List)
                and len(value.elts) > 1
                and len({ast.dump(item) for item in value.elts}) == 1
            ):
                items = ast.Call(ast.Name("range", ast.Load()), [ast.Constant(len(value.elts))], [])
                each = ast.comprehension(ast.Name("_", ast.Store()), items, [], 0)
                setattr(node, name, ast.ListComp(value.elts[0], [each]))
    return call


def _parsed(call: Call) -> ast.expr:
    return ast.parse(call.source(), mode="eval").body


def _where_different(one: ast.AST, other: ast.AST) -> ast.expr:
    """A call with ``num_classes`` in all places where it and that for another number of classes differ."""
    for place, (name, value) in enumerate(ast.iter_fields(one)):
        twin = list(ast.iter_fields(other))[place][1]
        items = zip(value, twin, strict=True) if isinstance(value, list) else [(value, twin)]
        found = [_where_different(a, b) if isinstance(a, ast.AST) else a for a, b in items]
        setattr(one, name, found if isinstance(value, list) else found[0])
    same = not isinstance(one, ast.Constant) or one.value == getattr(other, "value", None)
    return one if same else ast.Name("num_classes", ast.Load())  # type: ignore[return-value]


def _about(genotype: Genotype, interface: Interface, facts: Mapping[str, Fact], size: tuple[int, ...]) -> str:
    axes = ", ".join("DHW"[-genotype.dims :])
    result = f"(B, {interface.outputs}, {axes})" if task_type(interface.task).DENSE else f"(B, {interface.outputs})"
    return _ABOUT.format(
        id=genotype.id,
        task=_plain_text(interface.task),
        dims=genotype.dims,
        image=f"(B, {interface.channels}, {axes})",
        result=result,
        size=" x ".join(map(str, size)),
        stages=", ".join(genotype.mixers),
        axes=axes,
        facts="\n".join(["", *_table(facts), ""]) if facts else "",
    )


def _table(facts: Mapping[str, Fact]) -> Iterator[str]:
    """One fact a line, names and values below one another."""
    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        line = f"    {_plain_text(name):{width}}{_plain_text(value)}"
        yield from textwrap.wrap(line, 110, subsequent_indent=" " * (width + 4))


def _plain_text(value: Fact) -> str:
    """A fact as text that can neither end a docstring nor change how it is read."""
    text = f"{value:,}" if type(value) is int else f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(character if character.isprintable() else "?" for character in text)


def _calls(call: Call) -> Iterator[Call]:
    """A call and those inside it, the inner ones first; SpaceError for a value that has no literal in Python."""
    todo = [*call.args, *(value for _, value in call.kwargs)]
    while todo:
        item = todo.pop(0)
        if isinstance(item, Call):
            yield from _calls(item)
        elif isinstance(item, list | tuple):
            todo = [*item, *todo]
        elif not _is_literal(item):
            raise SpaceError("genotype", f"{call.target.__name__}: {item!r} cannot be written into a Python file.")
    yield call


def _is_literal(value: Any) -> bool:
    return type(value) in (int, str, bool, type(None)) or (type(value) is float and math.isfinite(value))


def _outputs(network: nn.Module, images_BCS: Tensor) -> Tensor:
    with torch.no_grad():
        return plain_copy(network).double()(images_BCS.double())


def _check(path: Path, text: str, stored: Mapping[str, Any], original: nn.Module) -> None:
    """Run the text that is to be written, give its network the weights and compare, at other sizes too."""
    names = run_file(compile(text, str(path), "exec", dont_inherit=True))
    network = names["build"]()
    try:
        network.load_state_dict(stored["state_dict"])
    except RuntimeError as problem:
        raise RefusedError(str(path), f"the weights do not fit the architecture: {problem}") from problem
    pairs = [(_outputs(network, stored["images"]), stored["outputs"])]
    for images_BCS in _smaller(stored["images"]):
        pairs.append((_outputs(network, images_BCS), _outputs(original, images_BCS)))
    difference = max(float((seen - wanted).abs().max() / wanted.abs().max()) for seen, wanted in pairs)
    if not difference <= TOLERANCE:
        raise RefusedError(str(path), f"the file differs from the network by {difference:.1e} of the largest output.")


def _smaller(images_BCS: Tensor) -> Iterator[Tensor]:
    """An image of two smaller sizes that no window divides: what a file does may depend on the size."""
    for divisor in (2, 4):
        image_BCS = images_BCS[:1]
        for axis in range(2, image_BCS.ndim):
            image_BCS = image_BCS.narrow(axis, 0, max(1, image_BCS.shape[axis] // divisor - axis % 2))
        yield image_BCS

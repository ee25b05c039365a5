"""Network to one readable Python file that imports torch alone, with its weights and a self-test beside it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, Network, plan
from medsearch.core.errors import RefusedError, SpaceError
from medsearch.core.files import write_bytes, write_text
from medsearch.exporters.plain import plain_copy
from medsearch.exporters.sources import RULE, Import, gather, import_lines
from medsearch.spaces import Genotype
from medsearch.tasks import task_type

Fact = str | float | int
TOLERANCE = 1e-6  # of the largest output; in float64, since in float32 other processors differ by more than that

_NAMES = ("build", "load", "self_test", "WEIGHTS", "TOLERANCE")
_IMPORTS = (
    Import(module="sys", name=None, alias="sys"),
    Import(module="pathlib", name="Path", alias="Path"),
    Import(module="torch", name=None, alias="torch"),
    Import(module="torch", name="nn", alias="nn"),
)
_ABOUT = """Backbone {id}: {task} of {dims}D images.

Takes raw intensities {image}, gives {result}; made for {size} positions.
Mixers by stage: {stages}.

{facts}

Use, with backbone.pt beside this file:

    from backbone import load

    network = load()
    outputs = network(images)

``python backbone.py`` computes stored outputs anew and exits with 1 if they differ.
"""
_END = '''
WEIGHTS = Path(__file__).with_suffix(".pt")
TOLERANCE = {tolerance!r}


def build() -> {kind}:
    """The network with fresh weights."""
    return {call}


def load(weights: str | Path = WEIGHTS) -> {kind}:
    """The network with the weights of a file, in eval mode, on the CPU."""
    network = build()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    return network.eval()


def self_test(weights: str | Path = WEIGHTS) -> bool:
    """Compare with the outputs stored beside the weights, in float64, where processors agree well enough."""
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    with torch.no_grad():
        outputs = load(weights).double()(stored["images"].double())
    difference = float((outputs - stored["outputs"]).abs().max() / stored["outputs"].abs().max())
    passed = difference <= TOLERANCE
    print(f"{{'passed' if passed else 'FAILED'}}: largest difference {{difference:.1e}} of the largest output")
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
) -> Path:
    """Write ``backbone.py`` and ``backbone.pt`` to ``folder``; before that, run the text and compare it with ``model``.

    Args:
        folder: made if needed.
        genotype, interface: what ``model`` was built from.
        model: the trained network; stays as it was.
        images: a few raw images (N, channels, *S), stored with the outputs for them.
        facts: numbers of the network for the top of the file, such as parameters and test metrics, one line each.

    Raises:
        RefusedError: if the file would not compute what ``model`` does.
    """
    path = Path(folder) / "backbone.py"
    text = module_text(genotype, interface, facts, size=images.shape[2:])
    original = plain_copy(model)
    images_BCS = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
    stored = {
        "state_dict": dict(original.state_dict()),
        "images": images_BCS,
        "outputs": _outputs(original, images_BCS),
    }
    _check(path, text, stored)
    file = io.BytesIO()
    torch.save(stored, file)
    write_bytes(path.with_suffix(".pt"), file.getvalue())
    write_text(path, text)
    return path


def module_text(genotype: Genotype, interface: Interface, facts: Mapping[str, Fact], *, size: tuple[int, ...]) -> str:
    """The Python file of an architecture: what it is, the parts it needs, ``build``, ``load`` and ``self_test``."""
    whole = plan(genotype, interface).call()
    parts = {call.target: None for call in _calls(whole) if not call.target.__module__.startswith("torch.")}
    sources = gather(sorted(parts, key=lambda part: part.__module__ == Network.__module__), reserved=_NAMES)
    end = _END.format(kind=whole.target.__name__, call=whole.source(4), tolerance=TOLERANCE)
    top = [
        f'"""{_about(genotype, interface, facts, size)}"""',
        "from __future__ import annotations",
        "\n".join(import_lines({*sources.imports, *_IMPORTS})),
    ]
    network = f"{RULE}\n# The network.\n{RULE}\n{end}"
    return "\n\n".join(top) + "\n\n" + "\n\n\n".join([*sources.sections, network])


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
        facts="\n".join(_table(facts)),
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


def _check(path: Path, text: str, stored: Mapping[str, Any]) -> None:
    """Run the text that is to be written, give its network the weights and compare."""
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(text, str(path), "exec", dont_inherit=True), names)
    network = names["build"]()
    try:
        network.load_state_dict(stored["state_dict"])
    except RuntimeError as problem:
        raise RefusedError(str(path), f"the weights do not fit the architecture: {problem}") from problem
    outputs = _outputs(network, stored["images"])
    difference = float((outputs - stored["outputs"]).abs().max() / stored["outputs"].abs().max())
    if not difference <= TOLERANCE:
        raise RefusedError(str(path), f"the file differs from the network by {difference:.1e} of the largest output.")

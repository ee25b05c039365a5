"""``model.pt``: a trained network as plain data and tensors, and its reader, which checks all of it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from medsearch.backbones import Interface, Network, build
from medsearch.blocks import HEADS
from medsearch.core.config import Node
from medsearch.core.errors import CheckpointError, MedsearchError
from medsearch.core.files import write_bytes
from medsearch.exporters.plain import plain_copy
from medsearch.spaces import Genotype
from medsearch.tasks import TASKS, head_tasks

FORMAT = 2  # of 1, the parts of a network had numbers for names
MOST_NUMBERS = 2_000_000_000  # parameters and buffers of a network that is worth building

_MOST_TEXT, _DEEPEST = 1_000_000, 30  # characters and values, and levels, of everything but the weights
_KEYS = "format genotype task channels outputs size classes state_dict scores provenance".split()
_REMEDY = "Was it copied completely, and written by medsearch?"
_OTHER = "Another version of medsearch may have written it."
_EARLIER = "An earlier version of medsearch wrote it: use it with that version, or search again with this one."
_REFUSALS = (MedsearchError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network on disk.

    Args:
        genotype, interface: the architecture and what it meets outside.
        size: spatial size that it was trained at.
        classes: names of the outputs, or none.
        scores: metric to value, on the test split.
        provenance: where it comes from: plain data of any shape.
        state: the weights, on the CPU.
    """

    genotype: Genotype
    interface: Interface
    size: tuple[int, ...]
    classes: tuple[str, ...]
    scores: Mapping[str, float]
    provenance: Mapping[str, Any]
    state: Mapping[str, Tensor] = field(repr=False, compare=False)

    def build(self, *, outputs: int | None = None) -> Network:
        """The network with its weights, in eval mode, on the CPU; leaves the random state alone.

        Args:
            outputs: how many classes to fine-tune it for, where they are others than it was trained for: the weights of
                the head whose shape depends on their number are then fresh, all others are kept.

        Raises:
            CheckpointError: for other ``outputs`` of a denoiser, which gives back the channels that it takes.
        """
        interface = self.interface if outputs is None else replace(self.interface, outputs=outputs)
        if interface.task == "denoising" and interface != self.interface:
            problem = f"a denoiser of {interface.channels} channels has as many, not {outputs}."
            raise CheckpointError("outputs", problem, "Train a network for the other channels.")
        with torch.random.fork_rng(devices=[]):
            network = build(self.genotype, interface)
        state = dict(self.state)
        if outputs is not None:
            fresh = network.state_dict()
            lasting = _free_of_outputs(self.genotype, self.interface)
            state = {name: state[name] if name in lasting else tensor for name, tensor in fresh.items()}
        network.load_state_dict(state)
        return network.eval()


def save_model(
    path: str | Path,
    *,
    genotype: Genotype,
    interface: Interface,
    size: Sequence[int],
    model: nn.Module,
    classes: Sequence[str],
    scores: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    """Write ``model``, which was built from ``genotype`` and ``interface``; the same model gives the same bytes.

    Raises:
        CheckpointError: for what :func:`load_model` would not read back; then nothing is written.
    """
    data = {
        "format": FORMAT,
        "genotype": genotype.to_data(),
        "task": interface.task,
        "channels": interface.channels,
        "outputs": interface.outputs,
        "size": [int(length) for length in size],
        "classes": list(classes),
        "state_dict": dict(plain_copy(model).state_dict()),
        "scores": {name: float(value) for name, value in scores.items()},
        "provenance": dict(provenance),
    }
    file = io.BytesIO()
    torch.save(data, file)
    _load(file, path, file.getbuffer().nbytes)
    write_bytes(path, file.getvalue())


def load_model(path: str | Path) -> Checkpoint:
    """Read what :func:`save_model` wrote; never runs code from the file, and takes no more memory than it is large.

    Raises:
        CheckpointError: for anything that is not a complete and consistent checkpoint of a format known here.
    """
    try:
        with Path(path).open("rb") as file:
            return _load(file, path, os.fstat(file.fileno()).st_size)
    except OSError as problem:
        raise CheckpointError(str(path), f"cannot be read: {problem.strerror or problem}.") from problem


def _load(file: BinaryIO, path: str | Path, size: int) -> Checkpoint:
    return _checked(_read(file, size, path), path, size)


def _read(file: BinaryIO, size: int, path: str | Path) -> Any:
    """The tensors and plain data in a file.

    What torch's reader can raise for a file that was tampered with has no end, so here every exception is a refusal.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        file.seek(0)
        data = torch.load(file, map_location="cpu", weights_only=True) if unpacked <= size else None
    except Exception as problem:
        problem_text = "is damaged, cut short, or holds more than tensors and plain data."
        raise CheckpointError(str(path), problem_text, _REMEDY) from problem
    if data is None:
        raise CheckpointError(str(path), "unpacks to more than its size, or to nothing.", _REMEDY)
    return data


def _checked(data: Any, path: str | Path, file_size: int) -> Checkpoint:
    if not isinstance(data, dict):
        raise CheckpointError(str(path), f"holds a {type(data).__name__}, not a checkpoint.", _REMEDY)
    _check_plain({name: value for name, value in data.items() if name != "state_dict"}, path)
    root = Node(data, str(path), error=CheckpointError)
    version = root.entries().get("format")
    if version is None or version.value != FORMAT:
        seen = "none" if version is None else repr(version.value)
        raise root.wrong(f"expected format {FORMAT}, got {seen}.", _EARLIER if seen == "1" else _OTHER)
    fields = root.mapping(required=_KEYS)
    genotype, tasks = _genotype(fields["genotype"])
    interface = Interface(
        task=fields["task"].choice(tasks),
        channels=fields["channels"].integer(low=1),
        outputs=fields["outputs"].integer(low=1),
    )
    size = tuple(length.integer(low=1) for length in fields["size"].items())
    if len(size) != genotype.dims:
        raise fields["size"].wrong(f"expected {genotype.dims} lengths, got {len(size)}.")
    classes = tuple(name.text() for name in fields["classes"].items())
    if classes and len(classes) != interface.outputs:
        raise fields["classes"].wrong(f"expected {interface.outputs} names or none, got {len(classes)}.")
    return Checkpoint(
        genotype=genotype,
        interface=interface,
        size=size,
        classes=classes,
        scores={name: _score(score) for name, score in fields["scores"].entries().items()},
        provenance={name: value.value for name, value in fields["provenance"].entries().items()},
        state=_state(fields["state_dict"], genotype, interface, file_size),
    )


def _check_plain(data: Any, path: str | Path) -> None:
    """Refuse what is not made of dictionaries, lists and single values, what goes in circles and what has no end."""
    amount = 0
    todo = [(data, 0)]
    while todo:
        value, depth = todo.pop()
        amount += 1 + (len(value) if isinstance(value, str) else 0)
        if amount > _MOST_TEXT or depth > _DEEPEST:
            raise CheckpointError(str(path), "holds too many values, or one inside the other without end.")
        if isinstance(value, dict):
            todo += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list | tuple):
            todo += [(item, depth + 1) for item in value]
        elif not isinstance(value, str | int | float | None):
            raise CheckpointError(str(path), f"holds a {type(value).__name__}; expected plain values.")


def _genotype(node: Node) -> tuple[Genotype, tuple[str, ...]]:
    """The architecture, and the tasks that its head serves."""
    try:
        genotype = Genotype.from_data(node.value, node.where)
        head: Any = HEADS.find(genotype.head.name, where=f"{node.where}.head")
    except MedsearchError as problem:
        raise CheckpointError(problem.where, problem.problem, problem.remedy) from problem
    return genotype, tuple(task for task in TASKS if not set(head_tasks(task)).isdisjoint(head.TASKS))


def _score(node: Node) -> float:
    """Like :meth:`Node.number`, but a metric may well be without a value (not a number)."""
    return node.value if isinstance(node.value, float) else node.number()


def _state(node: Node, genotype: Genotype, interface: Interface, file_size: int) -> dict[str, Tensor]:
    """The weights, if they are those of the architecture, which is built on no memory to see that."""
    try:
        with torch.device("meta"):
            network = build(genotype, interface)
    except _REFUSALS as problem:
        raise node.wrong(f"the architecture cannot be built: {problem}") from problem
    count = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    if count > MOST_NUMBERS:
        raise node.wrong(f"the architecture has {count:,} numbers; at most {MOST_NUMBERS:,} are read.")
    wanted = network.state_dict()
    seen = {name: entry.value for name, entry in node.entries().items()}
    if missing := sorted(set(wanted) - set(seen)):
        raise node.wrong(f"'{missing[0]}' is missing ({len(missing)} in all).")
    if unknown := sorted(set(seen) - set(wanted)):
        raise node.wrong(f"unknown weight '{unknown[0]}' ({len(unknown)} in all).")
    for name, tensor in seen.items():
        if (kind := _kind(tensor)) != _kind(wanted[name], "cpu"):
            raise node.wrong(f"'{name}': expected {_kind(wanted[name], 'cpu')}, got {kind}.")
    if sum(tensor.nbytes for tensor in seen.values()) > file_size:
        raise node.wrong("the weights share memory with one another; each needs its own.")
    return seen


def _free_of_outputs(genotype: Genotype, interface: Interface) -> set[str]:
    """The weights that a network has in the same shape whatever the number of its outputs."""
    with torch.device("meta"):
        one, two = (build(genotype, replace(interface, outputs=count)).state_dict() for count in (1, 2))
    return {name for name, tensor in one.items() if tensor.shape == two[name].shape}


def _kind(value: Any, device: str = "") -> str:
    """What must agree between two tensors, in words."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.layout is not torch.strided or value.is_quantized:
        return f"a {value.layout} tensor"
    order = "" if value.is_contiguous() else " with gaps"
    return f"{value.dtype} of shape {tuple(value.shape)} on {device or value.device.type}{order}"

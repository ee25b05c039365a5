"""Post-training quantization with a stopwatch: nodes compute in 8 bits only where the measured file is faster for it.

A group is one kind of convolution (dense, pointwise, depthwise), or the matrix products, of one stage.  Attention
products, softmax and norms stay in float.  Ranges are those seen on calibration images, whole or clipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from medsearch.compression.int8 import Range, quantizable, summed_axes, weights, with_int8
from medsearch.compression.score import outputs
from medsearch.measurement.latency.timing import paired_benchmark
from medsearch.targets.onnx_runtime import session

CLIPPED = 1e-4
"""Share of the values beyond a clipped range, on either side."""
GAIN = 1.02
"""How many times faster a file must be to count as faster."""
SAMPLES = 8192
"""Values per tensor and batch that clipped ranges are taken from."""

_SEGMENT = re.compile(r"(?:stages\.(?P<stage>\d+)|(?P<end>stem|head))\.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """An ONNX file with int8 weights, and what computes in int8.

    Args:
        int8: the groups of nodes that compute in 8 bits.
        kept: the groups that stayed in float, with the reason.
        clipped: whether ranges are clipped.
        metric: what the judge said.
    """

    data: bytes
    int8: tuple[str, ...]
    kept: dict[str, str]
    clipped: bool
    metric: float


def quantize(
    data: bytes,
    images: np.ndarray,
    judge: Callable[[bytes], float],
    *,
    least: float,
    seconds: float = 0.4,
    say: Callable[[str], None] = lambda line: None,
) -> Quantized:
    """The fastest int8 form found of a file from :func:`~medsearch.exporters.onnx.to_onnx` that scores ``least``.

    All weights are stored in 8 bits in any case, also where that alone scores less than ``least``.

    Args:
        images: raw calibration images (N, C, *S).
        judge: the metric of a file; larger is better.
        seconds: for each comparison with the stopwatch.
        say: told what was tried.
    """
    search = _Search(data, images, judge, least=least, seconds=seconds, say=say)
    search.choose_ranges()
    search.flip(*search.groups)
    for _ in range(2):
        if not any([search.flip(group) for group in search.groups]):
            break
    return search.result()


class _Search:
    """The best form so far, and what was learned on the way to it."""

    def __init__(
        self,
        data: bytes,
        images: np.ndarray,
        judge: Callable[[bytes], float],
        *,
        least: float,
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self.data, self.images, self.judge = data, images, judge
        self.least, self.seconds, self.say = least, seconds, say
        self.model = onnx.load_model_from_string(data)
        self.seen = observe(data, images)
        self.groups = groups(self.model, self.seen.work)
        self.clipped = False
        self.int8: frozenset[str] = frozenset()
        self.verdicts: dict[str, str] = {}

    def choose_ranges(self) -> None:
        """Clipped ranges if the outputs of the form with all groups in 8 bits are nearer to float with them."""
        wanted = outputs(self.data, self.images)
        errors = {}
        for self.clipped in (False, True):
            seen = outputs(self.form(frozenset(self.groups)), self.images)
            errors[self.clipped] = float((seen - wanted).square().mean())
        self.clipped = errors[True] < errors[False]
        self.best = self.form(self.int8)
        self.metric = self.judge(self.best)
        self.say(f"weights stored in 8 bits: {self.metric:.4f}")

    def form(self, int8: frozenset[str]) -> bytes:
        """The file with these groups in 8 bits."""
        nodes = {name for group in int8 for name in self.groups[group]}
        return with_int8(self.model, nodes, self.seen.clipped if self.clipped else self.seen.whole)

    def flip(self, *names: str) -> bool:
        """Change these groups to the other form if that is faster, twice in a row, and scores enough."""
        changed = self.int8.symmetric_difference(names)
        trial = self.form(changed)
        shape = (1, *self.images.shape[1:])
        gain = paired_benchmark(self.best, trial, (shape,), seconds=self.seconds)[0]
        if gain >= GAIN:
            gain = min(gain, paired_benchmark(self.best, trial, (shape,), seconds=self.seconds)[0])
        reached = self.judge(trial) if gain >= GAIN else None
        better = reached is not None and reached >= self.least
        what = f"{gain:.2f}x as fast in {'int8' if set(names) <= changed else 'float'}"
        verdict = what if reached is None else f"{what}, {reached:.4f}"
        self.verdicts.update(dict.fromkeys(names, verdict))
        self.say(f"{names[0] if len(names) == 1 else 'everything'}: {verdict}{', taken' if better else ''}")
        if better and reached is not None:
            self.int8, self.best, self.metric = changed, trial, reached
        return better

    def result(self) -> Quantized:
        """What was found."""
        int8 = tuple(group for group in self.groups if group in self.int8)
        kept = {group: self.verdicts[group] for group in self.groups if group not in self.int8}
        return Quantized(data=self.best, int8=int8, kept=kept, clipped=self.clipped, metric=self.metric)


def groups(model: onnx.ModelProto, work: Mapping[str, float]) -> dict[str, list[str]]:
    """Names of the nodes that can compute in 8 bits, by group, the group with most work first.

    A node belongs to the part of the network whose weights were read last in the order of the file.
    """
    arrays, eligible = weights(model), {node.name for node in quantizable(model)}
    assert "" not in eligible, "every node needs a name"
    found: dict[str, list[str]] = {}
    segment = "stem"
    for node in model.graph.node:
        for place in filter(None, map(_SEGMENT.match, (name for name in node.input if name in arrays))):
            segment = place["end"] or f"stage {int(place['stage']) + 1}"
        if node.name in eligible:
            found.setdefault(f"{segment} {_kind(node, arrays)}", []).append(node.name)
    return dict(sorted(found.items(), key=lambda item: -sum(work[name] for name in item[1])))


def _kind(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> str:
    if node.op_type != "Conv":
        return "matrix products"
    shape = arrays[node.input[1]].shape
    grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    return f"{'depthwise' if grouped else 'pointwise' if set(shape[2:]) == {1} else 'dense'} convolutions"


@dataclass(kw_only=True)
class Observed:
    """What calibration images showed: ranges of tensors, and multiply-adds of nodes for one image."""

    whole: dict[str, Range] = field(default_factory=dict)
    clipped: dict[str, Range] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)


def observe(data: bytes, images: np.ndarray, *, batch: int = 4) -> Observed:
    """Ranges of what every node that can compute in 8 bits reads and gives."""
    model = onnx.load_model_from_string(data)
    nodes = quantizable(model)
    names = list(dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0])))
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    asked = [value.name for value in model.graph.output]
    opened = session(model.SerializeToString())
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(images), batch):
        image = np.ascontiguousarray(images[start : start + batch], dtype=np.float32)
        found = {"image": image} | dict(zip(asked, opened.run(asked, {"image": image}), strict=True))
        for name in names:
            flat = found[name].reshape(-1)
            values[name] += [flat[:: max(1, flat.size // SAMPLES)], flat.min(keepdims=True), flat.max(keepdims=True)]
            shapes[name] = (len(image), found[name].size)
    result = Observed()
    for name, parts in values.items():
        merged = np.concatenate(parts)
        result.whole[name] = (float(merged.min()), float(merged.max()))
        low, high = np.quantile(merged, (CLIPPED, 1 - CLIPPED))
        result.clipped[name] = (float(low), float(high))
    arrays = weights(model)
    for node in nodes:
        count, size = shapes[node.output[0]]
        shape = arrays[node.input[1]].shape
        result.work[node.name] = size / count * math.prod(shape[axis] for axis in summed_axes(node, 1, len(shape)))
    return result

"""``medsearch bench --blocks``: every token mixer beside the public implementations of its operator, as ratios."""

from __future__ import annotations

import copy
import csv
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.core.config import Node, read_node
from medsearch.core.errors import RefusedError, RunError, UsageError, suggest
from medsearch.core.files import write_text
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.device import describe
from medsearch.measurement.threads import torch_threads
from medsearch.studies.microbenchmark import (
    Microbenchmark,
    Run,
    forward,
    microbenchmark,
    products_of,
    products_share,
    training,
)
from medsearch.studies.references import REFERENCES, difference, scramble
from medsearch.studies.references.packaged import versions
from medsearch.targets.onnx_runtime import session
from medsearch.targets.target import clock

MODES, PRECISIONS = ("eager", "onnx", "train"), ("fp32", "bf16")

LIMIT = 1e-4
"""Relative to what varies over the map; a reference that differs by more is a mistake of the benchmark."""

SLOWER, OVER = 0.9, 1.3
"""Ratios that the summary lists: below the reference, and above the mixer's own products."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One of our mixers with its knobs, and a reference, on maps of so many axes."""

    mixer: str
    reference: str
    dims: tuple[int, ...]
    knobs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """How pairs are run: ``"eager"``, ``"onnx"`` or ``"train"`` (eager, forward and backward), and on what.

    A shape is text: the spatial axes, then the channels, like ``"56x56x96"``.
    """

    mode: str
    precisions: tuple[str, ...]
    threads: tuple[int, ...]
    batch: int
    shapes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A recipe for this benchmark."""

    runs: tuple[Runs, ...]
    pairs: tuple[Pair, ...]
    without_reference: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """What a row is of."""

    mixer: str
    reference: str
    knobs: str
    shape: str
    batch: int
    precision: str
    mode: str
    threads: int


Row = dict[str, str]
KEYS = tuple(BenchmarkCase.__dataclass_fields__)
MEASURED = (
    "ours_ms",
    "reference_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "floor_ms",
    "over_floor",
    "layout",
    "difference",
)


def bench_blocks(
    recipe: Path,
    *,
    out: Path,
    seconds: float = 0.5,
    only: Sequence[str] = (),
    threads: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Time all pairs of a recipe; gives the totals, and writes them with all ratios beside ``out`` as Markdown.

    Args:
        recipe: a YAML file such as ``recipes/bench/blocks.yaml``.
        out: a CSV file that gets one row as each is measured; rows that it has are not measured again.
        seconds: for each row; one that is slow takes five rounds all the same.
        only: names of the mixers to time; all if empty.
        threads: time only rows of this many threads.
        say: is told every new row.

    Raises:
        RefusedError: where a reference computes something else.
    """
    plan = read_plan(recipe)
    for name in only:
        MIXERS.find(name, where="--only")
    rows = read_rows(out)
    with torch_threads(torch.get_num_threads()):
        for pair, shape, cases in _todo(plan, rows, only, threads):
            bench = _Bench(pair, shape)
            for case in cases:
                rows.append({**{key: str(value) for key, value in asdict(case).items()}, **bench.row(case, seconds)})
                write_text(out, _as_csv(rows))
                say(_line(rows[-1]))
    write_text(out.with_suffix(".md"), summary(rows, plan, f"medsearch bench --blocks {recipe} -o {out}"))
    return totals(rows)


def read_plan(path: Path) -> Benchmark:
    """A recipe, checked: mixers, references and knobs exist."""
    root = read_node(path, error=UsageError).mapping(
        required=("name", "runs", "references"), optional=("about", "without_reference")
    )
    without = root["without_reference"].entries() if "without_reference" in root else {}
    for name in without:
        MIXERS.find(name, where=str(path))
    return Benchmark(
        runs=tuple(_runs(node) for node in root["runs"].items()),
        pairs=tuple(_pair(node) for node in root["references"].items()),
        without_reference={name: reason.text() for name, reason in without.items()},
    )


def _runs(node: Node) -> Runs:
    found = node.mapping(required=("mode", "precisions", "threads", "batch", "shapes"))
    mode = found["mode"].choice(MODES)
    precisions = tuple(item.choice(PRECISIONS) for item in found["precisions"].items())
    if mode == "onnx" and precisions != ("fp32",):
        raise found["precisions"].wrong("ONNX Runtime has no fast bf16 on a CPU.", "Write [fp32].")
    for shape in found["shapes"].items():
        if not all(part.isdecimal() for part in shape.text().split("x")) or shape.text().count("x") not in (2, 3):
            raise shape.wrong(f"expected axes and channels, got '{shape.value}'.", "Like 56x56x96 or 16x16x16x64.")
    return Runs(
        mode=mode,
        precisions=precisions,
        threads=tuple(item.integer(low=1) for item in found["threads"].items()),
        batch=found["batch"].integer(low=1),
        shapes=tuple(item.text() for item in found["shapes"].items()),
    )


def _pair(node: Node) -> Pair:
    found = node.mapping(required=("mixer", "reference", "dims"), optional=("knobs",))
    mixer, reference = found["mixer"].text(), found["reference"].text()
    MIXERS.find(mixer, where=found["mixer"].where)
    if reference not in REFERENCES:
        raise found["reference"].wrong(f"unknown reference '{reference}'.", suggest(reference, REFERENCES))
    dims = tuple(item.integer(low=2, high=3) for item in found["dims"].items())
    if not set(dims) <= set(REFERENCES[reference].dims):
        raise found["dims"].wrong(f"{reference} can do {list(REFERENCES[reference].dims)}, got {list(dims)}.")
    knobs = found["knobs"].mapping(optional=MIXERS.knobs(mixer)) if "knobs" in found else {}
    return Pair(mixer=mixer, reference=reference, dims=dims, knobs={name: knob.value for name, knob in knobs.items()})


def _todo(
    plan: Benchmark, rows: list[Row], only: Sequence[str], threads: int | None
) -> Iterator[tuple[Pair, str, list[BenchmarkCase]]]:
    """What is not in the rows, by pair and shape."""
    done = {tuple(row[key] for key in KEYS) for row in rows}
    for pair in plan.pairs:
        if only and pair.mixer not in only:
            continue
        shapes = dict.fromkeys(shape for runs in plan.runs for shape in runs.shapes)
        for shape in (shape for shape in shapes if shape.count("x") in pair.dims):
            cases = [case for case in _cases(plan, pair, shape) if threads in (None, case.threads)]
            if left := [case for case in cases if tuple(map(str, asdict(case).values())) not in done]:
                yield pair, shape, left


def _cases(plan: Benchmark, pair: Pair, shape: str) -> list[BenchmarkCase]:
    knobs = " ".join(f"{name}={value}" for name, value in pair.knobs.items())
    return [
        BenchmarkCase(
            mixer=pair.mixer,
            reference=pair.reference,
            knobs=knobs,
            shape=shape,
            batch=runs.batch,
            precision=precision,
            mode=runs.mode,
            threads=threads,
        )
        for runs in plan.runs
        if shape in runs.shapes and (runs.mode != "onnx" or REFERENCES[pair.reference].onnx)
        for precision in runs.precisions
        for threads in runs.threads
    ]


class _Bench:
    """A mixer and its reference with the same random weights, their outputs compared."""

    def __init__(self, pair: Pair, shape: str) -> None:
        *size, dim = map(int, shape.split("x"))
        self.size, self.dim = tuple(size), dim
        self.layout = torch.channels_last if len(size) == 2 else torch.channels_last_3d
        ours = MIXERS[pair.mixer](dim, dims=len(size), **pair.knobs).eval()
        scramble(ours, seed=0)
        reference = copy.deepcopy(REFERENCES[pair.reference].build(ours, self.size)).eval()
        self.name = f"{pair.mixer} and {pair.reference} at {shape}"
        self.files: dict[int, list[bytes]] = {}
        x_BCS = self._input(2)
        with torch.inference_mode():
            self.apart = self._checked(reference(x_BCS), ours(x_BCS), "torch")
        self.ours = _laid_out(ours, self.layout)
        self.references = {
            "channels last": _laid_out(copy.deepcopy(reference), self.layout),
            "channels first": reference,
        }

    def row(self, case: BenchmarkCase, seconds: float) -> Row:
        """The measured part of a row."""
        torch.set_num_threads(case.threads)
        if case.mode == "onnx":
            times, floor, layout = self._in_runtime(case, seconds)
        else:
            times, floor, layout = self._in_torch(case, seconds)
        ours, reference = (latency.median_ms for latency in times.times[:2])
        low, ratio, high = times.ratios[1]
        numbers = {"ours_ms": ours, "reference_ms": reference, "ratio": ratio, "ratio_low": low, "ratio_high": high}
        numbers |= {"floor_ms": floor, "over_floor": ours / floor} if floor else {}
        written = {name: f"{value:.4g}" for name, value in numbers.items()}
        return {**dict.fromkeys(MEASURED, ""), **written, "layout": layout, "difference": f"{self.apart:.1e}"}

    def _in_torch(self, case: BenchmarkCase, seconds: float) -> tuple[Microbenchmark, float, str]:
        """The reference in the layout that it is faster in; the products of ours run beside both."""
        make = training if case.mode == "train" else forward
        for module in (self.ours, *self.references.values()):
            module.train(case.mode == "train")
        x_BCS, bf16 = self._input(case.batch), case.precision == "bf16"
        laid_out = x_BCS.contiguous(memory_format=self.layout)
        inputs = {"channels last": laid_out, "channels first": x_BCS}
        references = {
            layout: make(reference, inputs[layout], bf16=bf16) for layout, reference in self.references.items()
        }
        layout = min(references, key=lambda name: _glance(references[name], case.threads))
        ours = make(self.ours, laid_out, bf16=bf16)
        products = products_of(ours)
        runs = [ours, references[layout]] if products is None else [ours, references[layout], products]
        times = microbenchmark(runs, threads=case.threads, seconds=seconds)
        return times, times.times[2].median_ms if products else 0.0, layout

    def _in_runtime(self, case: BenchmarkCase, seconds: float) -> tuple[Microbenchmark, float, str]:
        """Both files have the layout of ONNX; what share the products take is told by the runtime."""
        x_BCS = self._input(case.batch)
        if case.batch not in self.files:
            modules = (self.ours, self.references["channels first"])
            self.files[case.batch] = [to_onnx_fast(module, (x_BCS,)) for module in modules]
        inputs = {"input_0": x_BCS.numpy()}
        opened = [session(file, threads=case.threads) for file in self.files[case.batch]]
        ours, reference = (torch.from_numpy(one.run(None, inputs)[0]) for one in opened)
        self._checked(reference, ours, "ONNX Runtime")
        times = microbenchmark(
            [partial(one.run, None, inputs) for one in opened], threads=case.threads, seconds=seconds
        )
        share = products_share(self.files[case.batch][0], inputs, threads=case.threads)
        return times, share * times.times[0].median_ms, "channels first"

    def _input(self, batch: int) -> Tensor:
        return torch.randn(batch, self.dim, *self.size, generator=torch.Generator().manual_seed(2))

    def _checked(self, seen: Tensor, expected: Tensor, where: str) -> float:
        apart = difference(seen, expected)
        if not apart <= LIMIT:
            raise RefusedError(self.name, f"differ by {apart:.1e} in {where}.", "They must compute the same.")
        return apart


def _laid_out(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The filters of a module laid out for channels-last maps, in place."""
    for tensor in module.parameters():
        if tensor.ndim == (4 if layout is torch.channels_last else 5):
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return module


def _glance(run: Run, threads: int) -> float:
    """Seconds of the better of two runs."""
    now, spent = clock(threads), []
    for _ in range(3):
        start = now()
        run()
        spent.append(now() - start)
    return min(spent[1:])


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != (*KEYS, *MEASURED):
        raise RunError(str(path), "has other columns than this benchmark writes.", "Move it away.")
    return rows


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, (*KEYS, *MEASURED), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _line(row: Row) -> str:
    floor = f", {row['over_floor']} x its products" if row["over_floor"] else ""
    where = f"{row['shape']} {row['mode']} {row['precision']} threads {row['threads']}"
    times = f"{row['ours_ms']} ms against {row['reference_ms']} ms, {row['ratio']} times as fast"
    return f"{_name(row)} {where}: {times}{floor}"


def _name(row: Row) -> str:
    return f"{row['mixer']}{' ' + row['knobs'] if row['knobs'] else ''} / {row['reference']}"


def _setting(row: Row) -> str:
    return f"{row['mode']} {row['precision']}, {row['threads']} thread{'s' * (row['threads'] != '1')}"


def totals(rows: list[Row]) -> list[dict[str, Any]]:
    """By mode, precision and threads: how many are faster, slower or even (the quartiles of the ratio enclose 1)."""
    found = []
    for setup in dict.fromkeys(map(_setting, rows)):
        own = [row for row in rows if _setting(row) == setup]
        faster = sum(float(row["ratio_low"]) > 1 for row in own)
        slower = sum(float(row["ratio_high"]) < 1 for row in own)
        mean = statistics.geometric_mean(float(row["ratio"]) for row in own)
        found.append(
            {
                "setup": setup,
                "rows": len(own),
                "faster": faster,
                "even": len(own) - faster - slower,
                "slower": slower,
                "times as fast": f"{mean:.2f}",
            }
        )
    return found


def summary(rows: list[Row], plan: Benchmark, command: str) -> str:
    """All of it as Markdown: totals, where a reference is faster, where much is not products, and every ratio."""
    machine = describe(threads=1)
    used = [f"torch {torch.__version__}", machine["runtime"], *versions()]
    slower = [row for row in rows if float(row["ratio"]) < SLOWER]
    over = [row for row in rows if row["over_floor"] and float(row["over_floor"]) > OVER]
    parts = [
        "# Token mixers beside their references",
        f"`{command}` on {machine['cpu']}, {machine['cores']} cores; {', '.join(used)}.  Times as fast: the median "
        "over rounds of the reference's time by ours; faster and slower: its quartiles are above or below 1; "
        "their mean is geometric.",
        _table([{key: str(value) for key, value in total.items()} for total in totals(rows)]),
        f"## Where the reference is more than {1 - SLOWER:.0%} faster",
        _table([_short(row) for row in sorted(slower, key=lambda row: float(row["ratio"]))]) or "Nowhere.",
        f"## Where a mixer takes more than {OVER} times as long as its matrix products and convolutions",
        _table([_short(row) for row in sorted(over, key=lambda row: -float(row["over_floor"]))]) or "Nowhere.",
        "## All ratios",
        _table(_by_pair(rows)),
        "## References",
        _table(
            [
                {"reference": name, "source": REFERENCES[name].source}
                for name in sorted({row["reference"] for row in rows})
            ]
        ),
        "Without a reference: "
        + "; ".join(f"{name} ({reason})" for name, reason in plan.without_reference.items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _short(row: Row) -> Row:
    return {
        "mixer / reference": _name(row),
        "shape": row["shape"],
        "setup": _setting(row),
        "ours ms": row["ours_ms"],
        "reference ms": row["reference_ms"],
        "times as fast": f"{row['ratio']} ({row['ratio_low']} to {row['ratio_high']})",
        "ours by products": row["over_floor"],
    }


def _by_pair(rows: list[Row]) -> list[Row]:
    """One line for a pair and a shape, one column for each condition."""
    config = dict.fromkeys(map(_setting, rows))
    lines: dict[tuple[str, str], Row] = {}
    for row in rows:
        empty = {"mixer / reference": _name(row), "shape": row["shape"], **dict.fromkeys(config, "")}
        lines.setdefault((_name(row), row["shape"]), empty)[_setting(row)] = row["ratio"]
    return list(lines.values())


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    written = (" | ".join(value.replace("|", "\\|") for value in row.values()) for row in rows)
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0]), *written]
    return "\n".join(f"| {line} |" for line in lines)

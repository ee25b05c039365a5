"""The contract of a cost (``medsearch.measurement.costs``)."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from medsearch.backbones import Interface, build
from medsearch.core.errors import BudgetError
from medsearch.data import Dataset, Split
from medsearch.exporters.onnx import to_onnx
from medsearch.measurement.budget import Costs
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.timing import Latency
from medsearch.measurement.model import Conditions, CostModel
from medsearch.pipeline.measurement import measure
from medsearch.spaces import Genotype, read_space
from medsearch.tasks import make_task
from medsearch.testing.contract import registered, wants
from medsearch.train import TrainingRecipe

SIZE = (16, 16)
INTERFACE = Interface(task="classification", channels=1, outputs=2)
TIMING = Latency(median_ms=1.0, quartile_low_ms=0.9, quartile_high_ms=1.2, runs=9)
SPACE = {
    "name": "costs",
    "dims": 2,
    "stem": "conv",
    "heads": {"classification": "classify"},
    "stages": [{"dim": 8, "mixer": "dwconv", "channel": "mlp"}],
}


def check_cost(cost: str | type) -> None:
    """Everything that is wanted of a cost: a limit is read and shown, and a small network has a value."""
    name, kind = registered(COSTS, cost)
    row = cast(Cost, kind())
    _check_words(name, row)
    genotype = read_space(SPACE, "costs").first()
    with TemporaryDirectory() as folder:
        conditions = Conditions(size=SIZE, batch=2, precision="fp32")
        model = CostModel(INTERFACE, conditions, Profile(threads=1, folder=Path(folder)), names=[name])
        predicted = _predicted(name, row, model, genotype)
    measured = _measured(name, genotype)
    wants(predicted or measured, f"cost {name}: neither predict() nor measure() gives a value.")


def _check_words(name: str, row: Cost) -> None:
    for attribute in ("option", "unit", "example", "about", "title"):
        text = getattr(row, attribute, "")
        wants(isinstance(text, str) and text, f"cost {name}: {attribute} is a text that is not empty.")
    others = [other for other in COSTS if other != name and COSTS[other]().option == row.option]
    wants(not others, f"cost {name}: --budget-{row.option} is the option of {', '.join(others)} already.")
    try:
        value = row.parse(row.example, where=name)
    except BudgetError as refusal:
        raise AssertionError(f"cost {name}: parse() refuses its example: {refusal}") from refusal
    wants(0 < value < math.inf, f"cost {name}: parse({row.example!r}), its example, is {value}.")
    shown = row.show(value)
    wants(isinstance(shown, str) and shown, f"cost {name}: show({value}) is a text that is not empty.")
    try:
        row.parse("plenty", where=name)
    except BudgetError:
        pass
    else:
        raise AssertionError(f"cost {name}: parse('plenty') raises a BudgetError.")
    around = Circumstances(size=SIZE, batch=2, training="fp32", runtime="a runtime", threads=1, artifact="model.onnx")
    wants(isinstance(row.conditions(around), str), f"cost {name}: conditions() is a text.")


def _predicted(name: str, row: Cost, model: CostModel, genotype: Genotype) -> Estimate | None:
    """The prediction, as it is and corrected by a whole network."""
    before = model(genotype).get(name)
    if before is None:
        return None
    _check_estimate(name, row, before)
    if row.correction() is not None:
        numbers = row.sums(model, genotype)
        wants(all(math.isfinite(float(one)) for one in numbers), f"cost {name}: sums() gives finite numbers.")
        for seen in ([], [before.value]):
            sums = [row.sums(model, genotype) for _ in seen]
            calibration = Calibration(model=model, sums=sums, measured=seen)
            model.correct(**{name: row.calibrate(calibration)[0]})
            _check_estimate(name, row, model(genotype)[name])
    return before


def _measured(name: str, genotype: Genotype) -> Estimate | None:
    network = build(genotype, INTERFACE).eval()
    onnx = to_onnx(network, SIZE, INTERFACE.channels)
    task, recipe = make_task("classification", outputs=2, dims=2), TrainingRecipe(epochs=1, batch=2)
    found = Costs(**measure(network, _data(), task, recipe, artifact=onnx, timing=TIMING, names=[name])).get(name)
    if found is not None:
        _check_estimate(name, cast(Cost, COSTS[name]()), found)
        wants(found.how == "measured", f"cost {name}: measure() says how='measured', got {found.how!r}.")
    return found


def _check_estimate(name: str, row: Cost, found: Estimate) -> None:
    wants(found.unit == row.unit, f"cost {name}: its unit is {row.unit!r}, an estimate says {found.unit!r}.")
    ordered = 0 <= found.low <= found.value <= found.high < math.inf
    wants(ordered, f"cost {name}: 0 <= low <= value <= high does not hold for {found}.")


def _data() -> Dataset:
    images = np.zeros((2, INTERFACE.channels, *SIZE), np.float32)
    split = Split(images=images, targets=np.arange(2))
    return Dataset(
        name="blank",
        source="blank",
        task="classification",
        dims=2,
        channels=INTERFACE.channels,
        size=SIZE,
        classes=("one", "other"),
        train=split,
        val=split,
        test=split,
    )

"""Ways to train within a limit: what is given up first, and what is said when nothing helps."""

from __future__ import annotations

import pytest

from medsearch.backbones import Interface
from medsearch.core.errors import BudgetError
from medsearch.measurement.calibration import upper_ratio
from medsearch.measurement.memory.peak import training_peak
from medsearch.measurement.memory.step import StepMemory
from medsearch.measurement.memory.training_plan import Fit, TrainingPlan, fit, training_plans
from medsearch.spaces import Block, Genotype, Part, Stage


def peak(plan: TrainingPlan) -> float:
    """10 bytes beside 4 an image, 2 in 16 bits, a quarter with blocks run again, and 3 for gradients of pieces."""
    image = {"fp32": 4.0, "bf16": 2.0}[plan.precision] / (4 if plan.checkpointing else 1)
    return 10 + image * plan.batch + (3 if plan.accumulate > 1 else 0)


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (74.0, TrainingPlan(batch=16, accumulate=1, precision="fp32", checkpointing=False)),
        (73.9, TrainingPlan(batch=16, accumulate=1, precision="bf16", checkpointing=False)),
        (41.9, TrainingPlan(batch=6, accumulate=3, precision="fp32", checkpointing=False)),  # 8 images: 45 and 29 bytes
        (29.0, TrainingPlan(batch=8, accumulate=2, precision="bf16", checkpointing=False)),
        (17.0, TrainingPlan(batch=2, accumulate=8, precision="bf16", checkpointing=False)),
        (16.9, TrainingPlan(batch=6, accumulate=3, precision="bf16", checkpointing=True)),
        (14.0, TrainingPlan(batch=2, accumulate=8, precision="bf16", checkpointing=True)),
    ],
)
def test_the_whole_batch_is_kept_first_then_32_bits_then_larger_pieces_then_blocks_once(
    limit: float, wanted: TrainingPlan
) -> None:
    found = fit(peak, limit=limit, wanted=16)
    if limit == 41.9:  # a batch in 16 bits comes before pieces in 32: 16 * 2 + 10 = 42 is just over, 8 in 16 bits fits
        wanted = TrainingPlan(batch=8, accumulate=2, precision="bf16", checkpointing=False)
    assert found == Fit(**vars(wanted), memory=peak(wanted))


def test_every_way_learns_from_the_wanted_batch_in_pieces_no_larger_than_said() -> None:
    for wanted in (1, 2, 3, 16, 30, 64):
        for plan in training_plans(wanted, precisions=["fp32"]):
            sizes = [wanted // plan.accumulate + (i < wanted % plan.accumulate) for i in range(plan.accumulate)]
            assert sum(sizes) == wanted and max(sizes) == plan.batch and min(sizes) >= min(2, wanted)
    assert {plan.batch for plan in training_plans(64, precisions=["fp32"])} >= {64, 32, 16, 8, 4, 2}
    assert [plan.accumulate for plan in training_plans(1, precisions=["fp32"])] == [1, 1]
    assert min(plan.batch for plan in training_plans(8, precisions=["fp32"], smallest=1)) == 1


def test_the_fastest_that_fits_is_taken_where_times_are_known() -> None:
    def seconds(plan: TrainingPlan) -> float:
        return {"fp32": 1.0, "bf16": 3.0}[plan.precision] * (1.3 if plan.checkpointing else 1) + plan.accumulate / 100

    found = fit(peak, limit=50.0, wanted=16, seconds_per_image=seconds)
    assert (found.precision, found.batch) == ("fp32", 8)
    assert fit(peak, limit=50.0, wanted=16).precision == "bf16"


def test_when_nothing_fits_the_smallest_is_named() -> None:
    with pytest.raises(BudgetError) as caught:
        fit(lambda plan: 1e8 * peak(plan), limit=1e9, wanted=16)
    # Two images in 16 bits with blocks run again: 10 + 2 * 0.5 + 3 = 14 bytes.
    assert "no training plan keeps 1 GB: the smallest needs 1.4 GB" in str(caught.value)
    assert "Give at least 1.47 GB" in str(caught.value)


def test_a_network_is_fitted_by_its_parts() -> None:
    conv = Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=4))
    genotype = Genotype(2, Part.of("conv", stride=1), (Stage(16, (conv,) * 3),), Part.of("classify"))
    steps = StepMemory(Interface(task="classification", channels=1, outputs=3), (16, 16))

    def real(plan: TrainingPlan) -> int:
        chain = steps.chain(genotype, batch=plan.batch, precision=plan.precision)
        return training_peak(chain, checkpointing=plan.checkpointing, accumulate=plan.accumulate > 1)

    whole = real(TrainingPlan(batch=64, accumulate=1, precision="fp32", checkpointing=False))
    for share in (1.0, 0.7, 0.4, 0.1):
        found = fit(real, limit=share * whole, wanted=64)
        assert found.memory <= share * whole
    assert found.accumulate > 1


def test_the_upper_ratio_is_above_the_next_one_as_often_as_is_asked() -> None:
    # Of 19 ratios and one to come, the largest of the 19 is below the next one once in 20.
    ratios = [1 + i / 100 for i in range(19)]
    assert upper_ratio(ratios, cover=0.95) == pytest.approx(1.18)
    assert upper_ratio(ratios[:18], cover=0.95) == pytest.approx(1.17)  # too few: the largest seen, at least 1.1
    assert upper_ratio([0.9, 1.0], cover=0.95) == pytest.approx(1.1)
    assert upper_ratio([1 + i / 1000 for i in range(99)], cover=0.95) == pytest.approx(1.094)

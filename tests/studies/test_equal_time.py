"""The benchmark at equal time: real rows of a fraction of a second, its file, and what the page says of known rows."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medsearch.core.errors import DataError, RunError, UsageError
from medsearch.data import load
from medsearch.studies.equal_time.__main__ import main
from medsearch.studies.equal_time.job import Job
from medsearch.studies.equal_time.measure import measure, scores
from medsearch.studies.equal_time.onecycle import changed, rate
from medsearch.studies.equal_time.plan import ARMS, Case, read_plan
from medsearch.studies.equal_time.report import difference, mean_difference, page
from medsearch.studies.equal_time.rivals import ConvNet, ResNet18, UNet, rival
from medsearch.studies.equal_time.rows import append_row, read_rows
from medsearch.tasks import make_task

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "recipes" / "bench" / "equal-time.yaml"
SECONDS = 0.2
RECIPE = f"""
name: small
sets: {{cells: cells.npz, nuclei: nuclei.npz}}
entries:
  - {{data: [cells], minutes: {SECONDS / 60}, seeds: [0], arms: [convnet]}}
"""
TINY = """
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - dim: {choice: [8, 16]}
    mixer: {name: dwconv, kernel: 3}
    channel: {name: mlp, ratio: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small sets: bright bars in one of three places, with their place or their mask as target."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    cells: dict[str, Any] = {}
    nuclei: dict[str, Any] = {}
    for name, count in (("train", 48), ("val", 12), ("test", 12)):
        labels = np.arange(count) % 3
        masks = np.zeros((count, 16, 16), np.uint8)
        for mask, label in zip(masks, labels, strict=True):
            mask[5 * label : 5 * label + 5] = 1
        images = (rng.integers(0, 60, masks.shape) + 150 * masks).astype(np.uint8)
        cells |= {f"{name}_images": images, f"{name}_labels": labels}
        nuclei |= {f"{name}_images": images, f"{name}_masks": masks}
    np.savez(folder / "cells.npz", **cells)
    np.savez(folder / "nuclei.npz", **nuclei)
    (folder / "small.yaml").write_text(RECIPE)
    return folder


def job(folder: Path, arm: str, recipe: str, data: str) -> Job:
    case = Case(arm=arm, recipe=recipe, data=data, seed=0, minutes=SECONDS / 60)
    return Job(case=case, source=str(folder / f"{data}.npz"), folder=str(folder / case.name), fresh_profile=False)


MEASURED: dict[tuple[str, ...], dict[str, Any]] = {}


def measured(folder: Path, arm: str, recipe: str, data: str) -> dict[str, Any]:
    """A row, measured once for all tests, as it is read from the file."""
    if (arm, recipe, data) not in MEASURED:
        MEASURED[arm, recipe, data] = json.loads(json.dumps(measure(job(folder, arm, recipe, data))))
    return MEASURED[arm, recipe, data]


@pytest.mark.parametrize(
    ("arm", "recipe", "data"),
    [
        ("convnet", "ours", "cells"),
        ("random", "onecycle", "cells"),
        ("resnet18", "onecycle", "cells"),
        ("unet", "onecycle", "nuclei"),
        ("random", "ours", "nuclei"),
    ],
)
def test_a_row_says_what_was_trained_and_how_good_it_is(folder: Path, arm: str, recipe: str, data: str) -> None:
    row = measured(folder, arm, recipe, data)
    assert Case.of(row) == job(folder, arm, recipe, data).case
    primary, score = ("dice", "dice") if data == "nuclei" else ("accuracy", "accuracy")
    assert (row["primary"], row["score"], len(row["scores"])) == (primary, score, 12)
    assert row["validation_error"] == pytest.approx(1 - row["validation"][primary])
    assert row["test_error"] == pytest.approx(1 - row["test"][primary])
    assert np.mean(row["scores"]) == pytest.approx(row["test"][score], abs=1e-3)
    assert SECONDS * 0.5 <= row["seconds"] < SECONDS + 5 and row["epochs"] > 0
    assert row["latency_ratio"] == pytest.approx(row["latency_ms"] / row["reference_ms"], rel=0.5)
    assert row["parameters"] > 1000 and row["precision"] in ("fp32", "bf16")
    assert row["network"] == arm or arm == "random"
    assert row["cpu"] and row["versions"]["torch"] == torch.__version__ and row["finished"] and row["notes"] == []


def test_the_hand_made_network_is_as_fast_as_itself(folder: Path) -> None:
    assert measured(folder, "convnet", "ours", "cells")["latency_ratio"] == pytest.approx(1, abs=0.3)


def test_a_set_for_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="arm convnet: is for classification; nuclei is for segmentation"):
        rival("convnet", load(str(folder / "nuclei.npz")), seed=0)
    case = Case(arm="random", recipe="ours", data="denoising", seed=0, minutes=0.01)
    other = Job(case=case, source="brain2d-denoising", folder=str(folder / "no"), fresh_profile=False)
    with pytest.raises(DataError, match="is for denoising; compared are classification, segmentation"):
        measure(other)


def test_what_is_missing_is_measured_and_what_is_there_is_kept(folder: Path, tmp_path: Path) -> None:
    out, first = tmp_path / "rows.jsonl", measured(folder, "convnet", "ours", "cells")
    append_row(out, first)
    begun = out.read_bytes()
    out.write_bytes(begun + b'{"arm":"convnet","recipe":"onecycle","da')
    options = ["--recipe", str(folder / "small.yaml"), "--data-folder", str(folder), "-o", str(out)]
    options += ["--runs", str(tmp_path / "runs"), "--core", f"{max(os.sched_getaffinity(0))}"]
    before = os.sched_getaffinity(0)
    command = [sys.executable, "-m", "medsearch.studies.equal_time", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rows are there, 1 to be measured" in done.stdout
    assert out.read_bytes().startswith(begun) and os.sched_getaffinity(0) == before
    rows = read_rows(out)
    assert [row["recipe"] for row in rows] == ["ours", "onecycle"]
    assert rows[1].keys() == first.keys() and rows[1]["commit"] == first["commit"]
    written = out.with_suffix(".md")
    assert "None: every row of the recipe is there." in written.read_text()
    whole = out.read_bytes()
    written.unlink()
    assert main(options) == 0
    assert out.read_bytes() == whole and written.exists()
    out.write_bytes(begun)
    assert main([*options, "--report"]) == 0
    assert "- cells, 0.00333333 minutes: convnet onecycle seed 0" in written.read_text()


@pytest.mark.slow
def test_a_search_is_timed_from_its_start_to_its_end(folder: Path, tmp_path: Path, capfd: Any) -> None:
    (folder / "tiny.yaml").write_text(TINY)
    options = ["--space", str(folder / "tiny.yaml"), "--trials", "2", "--epochs-search", "1", "--epochs", "1"]
    told = json.dumps([*options, "--finalists", "1", "--precision", "fp32"])
    arms = "minutes: 1, seeds: [0], arms: [search]"
    recipe = RECIPE.split("entries")[0] + f"search_options: {told}\nentries:\n  - {{data: [cells], {arms}}}\n"
    (tmp_path / "search.yaml").write_text(recipe)
    out, runs = tmp_path / "rows.jsonl", tmp_path / "runs"
    where = ["--data-folder", str(folder), "-o", str(out), "--runs", str(runs)]
    assert main(["--recipe", str(tmp_path / "search.yaml"), "--core", f"{min(os.sched_getaffinity(0))}", *where]) == 0
    (row,) = read_rows(out)
    best = json.loads((runs / Case.of(row).name / "run" / "results.json").read_text())["delivered"][0]
    assert best["best"] and row["network"] == "dwconv" and row["recipe"] == ""
    assert row["test"]["accuracy"] == pytest.approx(best["test"]["accuracy"])
    assert row["validation"]["accuracy"] == pytest.approx(best["validation"]["accuracy"])
    assert row["seconds"] > 1 and row["processor_seconds"] < 1.2 * row["seconds"]
    failing = RECIPE.replace("arms: [convnet]", "arms: [search]") + "search_options: [--epoch, '1']\n"
    (tmp_path / "search.yaml").write_text(failing)
    assert main(["--recipe", str(tmp_path / "search.yaml"), *where]) == 1
    assert "the search ended with exit code 2." in capfd.readouterr().err
    assert len(read_rows(out)) == 1


def test_the_convnet_has_the_parameters_worked_out_by_hand() -> None:
    # A block of width C: depthwise 25 C + C, two norms 4 C, pointwise C 3 C + 3 C and 3 C C + C.
    blocks = sum(depth * (6 * c * c + 34 * c) for c, depth in ((32, 1), (64, 2), (128, 3), (192, 1)))
    # Joints of 9 x C x C' and a norm of 2 C' each, from the image on; the head 192 x 9 + 9.
    joints = sum(9 * a * b + 2 * b for a, b in ((3, 32), (32, 64), (64, 128), (128, 192)))
    assert blocks + joints + 192 * 9 + 9 == 913_193
    assert sum(each.numel() for each in ConvNet(3, 9).parameters()) == 913_193


def test_the_others_have_the_parameters_worked_out_by_hand() -> None:
    # Two 3 x 3 convolutions a -> b -> b and their norms: 9 (a b + b b) + 4 b; the head 16 x 2 + 2.
    pairs = ((3, 16), (16, 32), (32, 64), (96, 32), (48, 16))
    assert sum(9 * (a * b + b * b) + 4 * b for a, b in pairs) + 34 == 118_610
    assert sum(each.numel() for each in UNet(3, 2).parameters()) == 118_610
    # ResNet-18 of torchvision has 11,689,512: less its 7 x 7 stem and 1000 classes, with a 3 x 3 stem and 9 classes.
    expected = 11_689_512 - 64 * 3 * (49 - 9) - 513 * (1000 - 9)
    assert sum(each.numel() for each in ResNet18(3, 9).parameters()) == expected


@pytest.mark.parametrize("size", [(16, 16), (21, 30), (12, 9, 10)], ids=str)
def test_networks_take_any_size_and_give_outputs_or_maps(size: tuple[int, ...]) -> None:
    x_BCS, dims = torch.randn(2, 1, *size), len(size)
    assert ConvNet(1, 4, dims=dims)(x_BCS).shape == (2, 4)
    assert UNet(1, 3, dims=dims)(x_BCS).shape == (2, 3, *size)
    assert ResNet18(1, 5, dims=dims, stride=2)(x_BCS).shape == (2, 5)


def test_the_rate_rises_for_a_tenth_of_the_time_and_falls_to_zero() -> None:
    assert [rate(share) for share in (0.05, 0.1, 0.55, 1.0, 1.2)] == pytest.approx([0.5, 1, 0.5, 0, 0])
    assert rate(0) > 0


@pytest.mark.parametrize("size", [(9, 9), (8, 12), (6, 7, 7)], ids=str)
def test_masks_move_with_their_images(size: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    masks_BS = (torch.rand(3, *size, generator=rng) < 0.4).long()
    seen = set()
    for _ in range(20):
        images_BCS, moved_BS = changed(masks_BS[:, None].float(), masks_BS, rng, dense=True)
        shares_BCS = images_BCS - images_BCS.mean(dim=tuple(range(2, images_BCS.ndim)), keepdim=True)
        assert torch.equal(shares_BCS[:, 0] > 0, moved_BS > 0)
        seen.add(tuple(moved_BS.flatten().tolist()))
    assert len(seen) > 10
    labels = torch.arange(3)
    assert changed(masks_BS[:, None].float(), labels, rng, dense=False)[1] is labels


def test_scores_are_of_single_images() -> None:
    output = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    assert scores(output, torch.tensor([0, 0, 0]), make_task("classification", outputs=2, dims=2)) == [1, 0, 1]
    wanted = torch.zeros(3, 2, 2, dtype=torch.long)
    wanted[0, 0, 0] = wanted[1, 0] = 1
    maps = torch.stack([torch.zeros(3, 2, 2), torch.zeros(3, 2, 2) - 1], 1)
    maps[0, 1, 0] = maps[1, 1, 0, 0] = 1  # two pixels where one is wanted; one where two are; none where none is
    assert scores(maps, wanted, make_task("segmentation", outputs=2, dims=2)) == [0.667, 0.667, 1.0]


def test_the_interval_of_a_known_difference() -> None:
    """80 of 100 images equal and 20 gained: 20 points, with a standard error of 100 sqrt(.2 * .8 / 100) = 4."""
    ours, theirs = [1.0] * 100, [1.0] * 80 + [0.0] * 20
    found = difference([ours], [theirs])
    assert found.points == pytest.approx(20)
    assert (found.low, found.high) == pytest.approx((20 - 1.96 * 4, 20 + 1.96 * 4), abs=1)
    assert difference([ours] * 3, [theirs] * 3) == found, "a seed that repeats another adds nothing"
    same = difference([theirs], [theirs])
    assert (same.points, same.low, same.high) == (0, 0, 0)
    both = mean_difference([found, same])
    assert both.points == pytest.approx(10)
    assert (both.low, both.high) == pytest.approx((10 - 1.96 * 2, 10 + 1.96 * 2), abs=0.6)
    twice = mean_difference([found, found])
    assert twice.high - twice.low == pytest.approx(2 * 1.96 * 4 / math.sqrt(2), abs=1)


def row(
    arm: str, right: int, *, recipe: str = "", data: str = "cells", seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """A row of 200 test images of which the first ``right`` are right."""
    share = right / 200
    case = Case(arm=arm, recipe=recipe, data=data, seed=seed, minutes=5.0)
    known = {
        **{"task": "classification", "primary": "accuracy", "score": "accuracy", "network": arm, "notes": []},
        **{"validation": {"accuracy": share}, "validation_error": 1 - share, "test": {"accuracy": share}},
        **{"test_error": 1 - share, "scores": [1] * right + [0] * (200 - right), "parameters": 900_000, "epochs": 9},
        **{"seconds": 300.0, "processor_seconds": 299.0, "latency_ratio": 1.0, "cpu": "EPYC", "commit": "abc"},
        "profile": "" if recipe else "fresh",
    }
    return {**case.to_data(), **known, **changes}


def test_the_page_says_which_targets_are_met() -> None:
    rows = [
        row("search", 180, latency_ratio=0.8),
        row("convnet", 160, recipe="ours"),
        row("convnet", 150, recipe="onecycle"),
        row("search", 190, data="blood", latency_ratio=0.5, processor_seconds=200.0),
        row("convnet", 191, data="blood", recipe="ours", notes=["test split off train"]),
    ]
    cases = [*map(Case.of, rows), Case(arm="random", recipe="ours", data="blood", seed=2, minutes=5.0)]
    text = page(rows, cases, command="python -m medsearch.studies.equal_time")
    assert "beyond the interval: **met**, of 2 comparisons: nowhere." in text
    assert "at 5 minutes: **met**, +4.8 (" in text and "over 2 sets" in text  # (10 - 0.5) / 2 = 4.75
    assert "equal or smaller: **met**, of 2 comparisons: none is slower." in text
    assert "| convnet | ours 1 | 0 | 0.800 | 0.800 | 0.800 | +10.0 (" in text
    assert "- blood, 5 minutes: random ours seed 2" in text and "1 of 6 rows have not been measured" in text
    assert "- blood: test split off train" in text and "blood-5m-0-search (67%)" in text
    assert "measures the machine in that time, too" in text
    assert "On EPYC; commit abc." in text and "```\npython -m medsearch.studies.equal_time\n```" in text


def test_the_page_says_which_targets_are_not_met() -> None:
    rows = [row("search", 150, latency_ratio=2.0), row("convnet", 170, recipe="ours")]
    text = page(rows, [], command="")
    assert "**not met**, of 1 comparison: cells, 5 minutes -10.0 (" in text
    assert "at 5 minutes: **not met**, -10.0" in text
    assert "equal or smaller: **cannot be said**" in text
    rows[0] |= {"scores": rows[1]["scores"]}
    slower = page(rows, [], command="")
    assert "**not met**, of 1 comparison: cells, 5 minutes 2.00 times as long." in slower
    assert "Nothing can be said before" in page(rows[:1], [], command="")
    assert "Nothing has been measured yet." in page([], [], command="")


def test_the_recipe_with_the_smaller_validation_error_stands_whatever_its_test() -> None:
    """Seed by seed, and only seeds that both have are compared."""
    rows = [
        row("search", 150, seed=0),
        row("search", 200, seed=1),
        row("convnet", 140, seed=0, recipe="ours", validation_error=0.2),
        row("convnet", 160, seed=0, recipe="onecycle", validation_error=0.3),
    ]
    text = page(rows, [], command="")
    assert "| convnet | ours 1 | 0 |" in text and "| +5.0 (" in text
    assert "| search | - | 0, 1 |" in text


def test_a_line_that_a_kill_left_half_written_is_passed_over_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, row("search", 1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert [Case.of(one).arm for one in read_rows(path)] == ["search"]
    append_row(path, row("convnet", 1))
    assert [Case.of(one).arm for one in read_rows(path)] == ["search", "convnet"]
    path.write_bytes(whole[:50] + b"\n" + whole)
    with pytest.raises(RunError, match=r"rows.jsonl \(line 1\): is no row of this benchmark.\n  Remove the line."):
        read_rows(path)


def test_the_shipped_recipe_begins_with_a_seed_of_every_set() -> None:
    plan = read_plan(SHIPPED)
    five = [case for case in plan.cases if case.minutes == 5 and case.workers == 1 and case.data != "retinamnist"]
    assert [case.seed for case in five] == sorted(case.seed for case in five)
    assert plan.cases[-1].data == "retinamnist"
    assert {case.arm for case in plan.cases} == set(ARMS) and {case.data for case in plan.cases} == set(plan.sets)
    assert [case.name for case in plan.cases if case.workers == 2] == ["brain2d-5m-0-search-2-workers"]
    names = [case.name for case in plan.cases]
    assert len(set(names)) == len(names) and not any("/" in name for name in names)
    assert plan.source("brain2d", Path("sets")) == "brain2d"
    assert plan.source("breastmnist", Path("sets")) == "sets/breastmnist/breastmnist.npz"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: [cells]", "data: [cell]", r"small.yaml: entries\[0\].data\[0\].*unknown set 'cell'.\n  Did you mean"),
        ("arms: [convnet]", "arms: [convent]", "unknown choice 'convent'.\n  Did you mean 'convnet'"),
        ("arms: [convnet]", "arms: [convnet], workers: 2", "only a search has workers"),
        ("seeds: [0]", "seeds: [0, 0]", "cells-.*-0-convnet-ours is given before"),
        ("name: small", "name: small\nprofile: old", "unknown choice 'old'"),
    ],
)
def test_a_mistake_in_a_recipe_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    (tmp_path / "small.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(UsageError, match=message):
        read_plan(tmp_path / "small.yaml")


def test_a_core_that_is_not_there_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--recipe", str(folder / "small.yaml"), "-o", str(tmp_path / "rows.jsonl"), "--runs", str(tmp_path / "r")]
    assert main([*where, "--core", "4096"]) == 2
    assert capsys.readouterr().err.startswith("equal_time: --core: there is no core 4096 here.\n  Known: ")

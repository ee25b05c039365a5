import re

import pytest

from medsearch.report.families import groups_of, standing
from medsearch.report.markdown import compression_summary, summary


def tables(page):
    """Every block of table lines, as lists of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n?)+", page, flags=re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.strip().splitlines()] for block in blocks]


def only_conv(results):
    for network in results["delivered"]:
        network["mixers"] = ["dwconv"] * 4
    return results


def test_what_was_asked_and_what_came_out_stand_at_the_top(results):
    top = summary(results).partition("\n## ")[0]
    assert (
        "classification on bccd_cells3_64" in top and "latency ≤ 2.5 ms (ONNX Runtime, CPU, batch 1, 1 thread)" in top
    )
    assert "1.2 x 10^11 architectures" in top
    assert "**0 of 5 delivered over budget.** Best: `f5488345d7`" in top
    assert "accuracy 0.948 on validation data and 0.940 on test data" in top


def test_the_page_holds_the_numbers_commands_and_remarks(results):
    page = summary(results)
    for part in (
        "| 5 | **[`f5488345d7`](models/f5488345d7)** best | linear·topk·block-gmlp·block-gmlp | 84.2 M | 1.85 M |",
        "2.05 → 2.14 ms | 892 → 883 MB | 7.41 MB | fits |",
        "[![Error against latency and memory of all trials and delivered networks](front.png)](front.svg)",
        "- every network: exported module and ONNX file agree",
        "- `00ff00ff00` was refused: the ONNX file differed",
        "| `f5488345d7` | 892 MB | 865 MB to 919 MB | 883 MB | +1.0 % | 88 % |",
        "- latency: median error 3.1 %, 95th percentile 9.0 %, largest 12 % over 5 networks",
        "- 60 trials: 59 trained, 1 failed, 36 of them further than the first rung",
        "- proposals: 240 drawn, 71 repaired to fit the budgets, 12 drawn again, 0 trials over budget",
        "| counts | train 1200, val 300, test 400 |",
        "| size | 64 x 64 pixels, channels: 3 |",
        "| learning rate | 0.004 |",
        "| onnxruntime | 1.32.0 |",
        results["command"] + "\nmedsearch search --resume runs/cells-demo\n",
        "- Validation and test sets are small",
    ):
        assert part in page


def test_the_note_of_the_data_stands_at_the_top(results):
    results["data"]["note"] = "one averaged brain: a demonstration, not evidence"
    assert "> one averaged brain: a demonstration, not evidence" in summary(results).partition("\n## ")[0]


def test_a_network_over_budget_is_said_at_the_top_and_in_its_row(results):
    results["delivered"][-1]["costs"]["latency"]["measured"] = 3.0
    page = summary(results)
    assert "**1 of 5 delivered over budget.**" in page and "| over: latency |" in page and "| 120 % |" in page


def test_lines_of_a_table_have_the_same_cells_whatever_people_write(results):
    results["data"]["source"] = "a | b\nc"
    results["delivered"][0]["notes"] = ["one | two"]
    found = tables(summary(results))
    assert len(found) >= 6
    assert all(len(row) == len(table[0]) for table in found for row in table)


def test_odd_results_give_a_page(odd_results):
    page = summary(odd_results)
    assert page.startswith("# ") and "None" not in page and "nan" not in page
    assert not re.search(r"^## .*\n\n(## |$)", page, flags=re.MULTILINE), "a section without a word"


def test_groups_of_a_network_are_one_alone_or_several_and_one_for_each_family():
    assert groups_of({"mixers": ["dwconv", "dwconv"]}, {}) == ["conv only", "with conv"]
    hybrid = {"mixers": ["dwconv", "grid_gmlp+window_attention"]}
    assert groups_of(hybrid, {}) == ["several families", "with conv", "with attention", "with MLP"]
    assert groups_of({"mixers": ["new"]}, {"families": {"new": "conv"}}) == ["conv only", "with conv"]


def test_a_standing_counts_only_trials_that_ended_well(results):
    mlp = [t for t in results["trials"] if any("gmlp" in mixer for mixer in t["mixers"])]
    min(mlp, key=lambda t: t["error"])["state"] = "failed"
    complete = [t for t in mlp if t["state"] == "complete"]
    found = standing("with MLP", results)
    assert 0 < found.trials == len(complete) < len(mlp)
    assert found.error == pytest.approx(min(t["error"] for t in complete))
    assert found.on_front == sum(t["front"] for t in complete)


def test_several_families_on_the_front_need_no_excuse(results):
    assert "alone" not in summary(results)


def test_a_front_of_one_family_says_with_numbers_how_far_the_others_got(results):
    page = summary(only_conv(results))
    assert "Every delivered network is built from conv mixers alone: best error 0.2415 of 3 trials" in page
    assert "With attention: best error 0.0952 of 43 trials (linear·topk·block-gmlp·block-gmlp, 2.05 ms)." in page
    assert "That is 0.1464 better than the best with conv alone." in page
    assert "8 on the front of the search, none among the delivered." in page


def test_a_family_that_lost_is_said_to_have_lost():
    def trial(mixers, error, front):
        costs = {"latency": {"predicted": 1.0}}
        return {"mixers": mixers, "error": error, "front": front, "state": "complete", "costs": costs}

    conv, mixed = ["dwconv", "dwconv"], ["dwconv", "window_attention"]
    trials = [trial(conv, 0.1, True), trial(mixed, 0.15, False), trial(mixed, 0.12, False)]
    results = {"trials": trials, "delivered": [{"id": "a", "mixers": conv}], "primary": "dice"}
    page = summary({**results, "objectives": ["latency"]})
    assert "With attention: best error 0.1200 of 2 trials (conv·window, 1 ms). That is 0.0200 worse" in page
    assert "None was on the front of the search." in page
    assert "No trial with MLP ended well, so this search says nothing about MLP." in page


def test_a_compression_is_told_with_its_steps(compression):
    page = compression_summary(compression)
    assert "| latency | 3.2 ms | 2 ms | 1.60x faster |" in page
    assert "1. quantize: 31 of 40 layers" in page and page.startswith("**1.60x faster and 3.64x smaller")
    assert compression_summary({}).startswith("|")

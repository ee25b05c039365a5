import pytest

from medsearch.report import networks


def one(results, **changes):
    return results["delivered"][0] | changes


def costing(results, **costs):
    """The first delivered network with other costs."""
    return one(results, costs=results["delivered"][0]["costs"] | costs)


def test_a_network_within_its_measured_numbers_fits(results):
    assert [networks.verdict(network, results) for network in results["delivered"]] == ["fits"] * 5
    assert networks.outcome(results) == "0 of 5 delivered over budget"


def test_a_measured_number_over_the_limit_is_over_whatever_the_network_says(results):
    results["delivered"][2]["costs"]["latency"]["measured"] = 2.51
    assert networks.verdict(results["delivered"][2], results) == "over: latency"
    assert networks.outcome(results) == "1 of 5 delivered over budget"


def test_the_limit_itself_is_within(results):
    assert networks.over(costing(results, latency={"predicted": 9.0, "measured": 2.5}), results) == []


def test_the_word_of_the_network_counts_where_the_numbers_do_not_show_it(results):
    assert networks.verdict(one(results, within_budget=False), results) == "over: a budget"


def test_a_prediction_alone_is_said_to_be_one(results):
    guessed = costing(results, memory={"predicted": 5e8, "measured": None})
    assert networks.verdict(guessed, results) == "fits (memory predicted)"


def test_a_number_nobody_knows_is_no_pass(results):
    results["delivered"][0]["costs"]["memory"] = None
    assert networks.verdict(results["delivered"][0], results) == "unknown: memory"
    assert networks.outcome(results) == "0 of 5 delivered over budget, 1 unknown"


def test_memory_at_inference_and_the_size_of_the_file_have_budgets_too(results):
    results["budgets"] += [{"name": "inference", "limit": 2e6, "unit": "bytes"}, {"name": "file", "limit": 4e5}]
    fits = costing(results, inference={"measured": 2e6}, file={"predicted": 3e5, "measured": 3.1e5})
    assert networks.verdict(fits, results) == "fits"
    assert networks.verdict(fits | {"costs": fits["costs"] | {"file": {"measured": 4.1e5}}}, results) == "over: file"
    assert networks.limit_text(results["budgets"][-2]) == "inference ≤ 2 MB"
    assert networks.share(fits, "file", results) == "78 % of 400 kB"


def test_counts_have_budgets_too(results):
    results["budgets"] = [{"name": "parameters", "limit": 1_000_000, "unit": "parameters"}]
    assert networks.verdict(costing(results, parameters={"measured": 1_000_001}), results) == "over: parameters"
    assert networks.verdict(costing(results, parameters={"measured": 1_000_000}), results) == "fits"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"predicted": 0.95, "measured": 1.0}, "0.95 → 1 ms"),
        ({"predicted": 1200.4, "measured": 1350.6}, "1200 → 1351 ms"),
        ({"predicted": 0.95, "measured": None}, "0.95 ms → –"),
        ({"predicted": float("nan")}, "–"),
        (None, "–"),
    ],
)
def test_predicted_and_measured_share_their_unit(value, said):
    assert networks.pair({"costs": {"latency": value}}, "latency") == said


def test_units_that_differ_are_both_said():
    network = {"costs": {"memory": {"predicted": 9.9e8, "measured": 1.02e9}}}
    assert networks.pair(network, "memory") == "990 MB → 1.02 GB"


def test_the_share_of_the_limit_is_of_the_measured_number(results):
    network = costing(results, latency={"predicted": 2.0, "measured": 1.0})
    assert networks.share(network, "latency", results) == "40 % of 2.5 ms"


def test_networks_are_numbered_from_the_fastest_and_unknown_ones_come_last(results):
    results["delivered"][0]["costs"]["latency"] = None
    speeds = [networks.best_known(network, "latency") for network in networks.delivered(results)]
    assert speeds[-1] is None and speeds[:-1] == sorted(speeds[:-1])


def test_metrics_are_written_as_their_task_says():
    metrics = {"psnr": {"label": "PSNR", "unit": "dB", "digits": 1}, "r2": {"label": "R²", "unit": "", "digits": 3}}
    results = {"primary": "psnr", "metrics": metrics, "error_label": "RMS error"}
    assert networks.score(results, {"psnr": 31.26}) == "31.3 dB"
    assert networks.score({**results, "primary": "r2"}, {"r2": 0.9}) == "0.900"
    assert (networks.metric_name(results), networks.error_name(results)) == ("PSNR", "RMS error")


def test_a_metric_that_nobody_describes_keeps_its_name():
    assert networks.metric_name({"primary": "dice"}) == "dice"
    assert networks.score({"primary": "dice"}, {"dice": 0.8}) == "0.800"


def test_prediction_errors_read_as_a_sentence(results):
    said = "median error 3.1 %, 95th percentile 9.0 %, largest 12 % over 5 networks"
    assert networks.prediction_text(results, "latency") == said
    assert networks.prediction_text({}, "latency") == ""


def test_a_compression_that_slows_down_says_slower(compression):
    rows = {row[0]: row[1:] for row in networks.compression_rows(compression | {"ratio": 0.5})}
    assert rows["latency"] == ("3.2 ms", "2 ms", "2.00x slower")
    assert rows["size"] == ("4 MB", "1.1 MB", "3.64x smaller")
    assert rows["accuracy"] == ("0.921", "0.918", "-0.003")


def test_a_cost_of_a_package_that_is_not_there_is_shown_with_its_unit(results):
    results["budgets"] = [{"name": "warmth", "limit": 0.5, "unit": "J", "conditions": "a battery"}]
    network = costing(results, warmth={"predicted": 0.4, "measured": 0.25, "unit": "J"})
    assert networks.budget_text(results["budgets"][0]) == "warmth ≤ 0.5 J (a battery)"
    assert networks.pair(network, "warmth") == "0.4 → 0.25 J"
    assert networks.share(network, "warmth", results) == "50 % of 0.5 J"
    assert networks.title("warmth") == "warmth"

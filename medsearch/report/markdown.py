"""The page a person reads after a search, as Markdown: what was asked, what came out, and how far to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from medsearch.core.units import format_bytes, format_seconds
from medsearch.report import networks
from medsearch.report.families import GROUPS, standing, why_one_family
from medsearch.report.mixers import short, stages_of
from medsearch.report.networks import DASH, Data, text

PICTURE, VECTORS = "front.png", "front.svg"


def summary(results: Data) -> str:
    """The whole page; a section about which nothing is known is left out."""
    sections = {
        "": _opening(results),
        "Delivered networks": _delivered(results),
        "All metrics": _metrics(results),
        "Budgets, predicted and measured": _budgets(results),
        "Prediction error": _prediction(results),
        "Mixer families": _families(results),
        "How the search went": _search(results),
        "Data": _pairs(_data(results)),
        "TrainingRecipe": _pairs((results.get("recipe") or {}).items()),
        "Machine": _pairs((results.get("machine") or {}).items()),
        "Reproduce": _reproduce(results),
        "Remarks": (f"- {_flat(remark)}" for remark in results.get("remarks") or []),
    }
    written = {title: "\n".join(lines) for title, lines in sections.items()}
    parts = [f"## {title}\n\n{body}" if title else body for title, body in written.items() if body]
    return f"# {_flat(results.get('name') or 'search')}\n\n" + "\n\n".join(parts) + "\n"


def compression_summary(results: Data) -> str:
    """What a compression did, as Markdown: before and after, then the steps."""
    lines = [f"**{_flat(results['sentence'])}**", ""] if results.get("sentence") else []
    lines += _table(("", "float", "int8", "change"), networks.compression_rows(results))
    steps = [f"1. {_flat(step.get('name'))}: {_flat(step.get('did'))}" for step in results.get("steps") or []]
    return "\n".join(lines + [""] * bool(steps) + steps) + "\n"


def _flat(value: object) -> str:
    """One line that cannot break a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """A GitHub table, nothing without rows; columns after the first ``left`` are right-aligned."""
    lines = ["| " + " | ".join(map(_flat, row)) + " |" for row in rows]
    rule = ["---" if place < left else "--:" for place in range(len(head))]
    return ["| " + " | ".join(head) + " |", "| " + " | ".join(rule) + " |", *lines] if lines else []


def _pairs(pairs: Iterable[tuple[str, object]]) -> list[str]:
    known = [(name.replace("_", " "), _value(value)) for name, value in pairs if value not in (None, "", [], {})]
    return _table(("what", "value"), known, left=2)


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    return DASH if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _opening(results: Data) -> Iterator[str]:
    data, space = results.get("data") or {}, results.get("space") or {}
    limits = "; ".join(networks.budget_text(budget) for budget in networks.budgets(results)) or "no budget"
    yield _flat(f"Asked for: {data.get('task') or 'networks'} on {data.get('name') or 'unnamed data'}, under {limits}.")
    if space.get("name"):
        yield f"Searched: {_flat(space['name'])}, {text(space.get('architectures'), _many)} architectures."
    if data.get("note"):
        yield f"\n> {_flat(data['note'])}"
    outcome = networks.outcome(results)
    yield f"\n**{outcome[0].upper()}{outcome[1:]}.** {_best(results)}".rstrip()


def _many(count: float) -> str:
    if count < 1e6:
        return f"{count:,.0f}"
    mantissa, exponent = f"{count:.1e}".split("e")
    return f"{mantissa} x 10^{int(exponent)}"


def _best(results: Data) -> str:
    best = networks.best(results)
    if best is None:
        return ""
    val, test = (networks.score(results, best.get(split)) for split in ("validation", "test"))
    costs = (f"{networks.title(name)} {networks.cost_text(best, name)}" for name in networks.shown(results))
    scores = f"{networks.metric_name(results)} {val} on validation data and {test} on test data"
    return f"Best: `{best.get('id')}` ({short(stages_of(best))}), {scores}, {', '.join(costs)}."


def _delivered(results: Data) -> Iterator[str]:
    found, metric = networks.delivered(results), networks.metric_name(results)
    counts, costs = networks.counts(found), networks.shown(results)
    titles = [networks.title(name) for name in costs]
    head = ("", "network", "mixers by stage", *map(networks.title, counts), f"val. {metric}", f"test {metric}", *titles)
    rows = (_row(results, place, network, counts, costs) for place, network in enumerate(found, 1))
    yield from _table((*head, "ONNX", "verdict"), rows, left=3)
    said = " and ".join(titles)
    if found and said:
        yield f"\n{said[0].upper()}{said[1:]}: predicted → measured.\n"
    if found or results.get("trials"):
        yield f"[![Error against {said or 'costs'} of all trials and delivered networks]({PICTURE})]({VECTORS})"
    refused = results.get("refused") or []
    notes = [*_notes(found), *(f"- `{entry.get('id')}` was refused: {_flat(entry.get('reason'))}" for entry in refused)]
    yield from ["", *notes] if notes else []


def _notes(found: list[Data]) -> Iterator[str]:
    """Every note once, with the networks it is about."""
    about: dict[str, list[str]] = {}
    for network in found:
        for note in network.get("notes") or []:
            about.setdefault(_flat(note), []).append(f"`{network.get('id')}`")
    for note, names in about.items():
        yield f"- {'every network' if len(names) == len(found) > 1 else ', '.join(names)}: {note}"


def _row(results: Data, place: int, network: Data, counts: Sequence[str], costs: Sequence[str]) -> tuple[str, ...]:
    name = f"`{network.get('id', DASH)}`"
    link = f"[{name}]({network['folder']})" if network.get("folder") else name
    return (
        str(place),
        f"**{link}** best" if network.get("best") else link,
        short(stages_of(network)),
        *(networks.cost_text(network, count) for count in counts),
        *(networks.score(results, network.get(split)) for split in ("validation", "test")),
        *(networks.pair(network, cost) for cost in costs),
        text(network.get("onnx_bytes"), format_bytes),
        networks.verdict(network, results),
    )


def _metrics(results: Data) -> list[str]:
    """Validation and test side by side, if there is more than the metric that decides."""
    found = networks.delivered(results)
    splits = [network.get(split) or {} for network in found for split in ("validation", "test")]
    metrics = list(dict.fromkeys(metric for scores in splits for metric in scores))
    if len(metrics) < 2:
        return []

    def cell(network: Data, metric: str) -> str:
        values = ((network.get(split) or {}).get(metric) for split in ("validation", "test"))
        return " / ".join(text(value, networks.metric_form(results, metric)) for value in values)

    head = [f"{networks.label(results, metric)}, val. / test" for metric in metrics]
    rows = [(f"`{network.get('id', DASH)}`", *(cell(network, metric) for metric in metrics)) for network in found]
    return _table(("network", *head), rows)


def _budgets(results: Data) -> Iterator[str]:
    """A table for each budget: what was predicted, with its interval, what was measured, what share of the limit."""
    found = networks.delivered(results)
    for index, budget in enumerate(networks.budgets(results)):
        name = budget.get("name", "")
        yield ("\n" if index else "") + f"**{_flat(networks.budget_text(budget))}**\n"
        head = ("network", "predicted", "interval", "measured", "off by", "of the limit")
        yield from _table(head, (_kept(results, network, name) for network in found))


def _kept(results: Data, network: Data, name: str) -> tuple[str, ...]:
    form = networks.form(name, networks.cost(network, name).get("unit"))
    ends = ("predicted", "low", "high", "measured")
    predicted, low, high, measured = (networks.quantity(network, name, end) for end in ends)
    off = DASH if predicted is None or not measured else f"{100 * (predicted - measured) / measured:+.1f} %"
    interval = DASH if low is None or high is None else f"{text(low, form)} to {text(high, form)}"
    share = networks.share(network, name, results).partition(" of ")[0] or DASH
    return f"`{network.get('id', DASH)}`", text(predicted, form), interval, text(measured, form), off, share


def _prediction(results: Data) -> Iterator[str]:
    for name in results.get("prediction") or {}:
        if said := networks.prediction_text(results, name):
            yield f"- {name}: {said}"


def _families(results: Data) -> Iterator[str]:
    """Where each family of mixers stands among the trials, and why the front has only one, if so."""
    why = list(why_one_family(results))
    yield from [" ".join(why), ""] if why else []
    rows = []
    for group in GROUPS:
        found = standing(group, results)
        if found.trials or found.delivered:
            mixers = short(stages_of(found.best or {}))
            error = text(found.error, "{:.4f}".format)
            rows.append((group, str(found.trials), error, mixers, str(found.on_front), str(found.delivered)))
    yield from _table(("trials", "ended well", "best error", "its mixers", "on the front", "delivered"), rows)
    if rows:
        yield f"\nError: {networks.error_name(results)} on validation data after the short training of the search."


def _search(results: Data) -> Iterator[str]:
    states = Counter(trial.get("state") for trial in results.get("trials") or [])
    if states:
        counts = ", ".join(f"{states[state]} {said}" for state, said in _STATES.items() if states[state])
        further = sum((trial.get("rungs") or 0) > 1 for trial in results["trials"])
        counts += f", {further} of them further than the first rung" if further else ""
        yield f"- {sum(states.values())} trials: {counts}"
    epochs = [network["epochs"] for network in networks.delivered(results) if network.get("epochs")]
    if epochs:
        ends = (min(epochs), max(epochs))
        each = " to ".join(dict.fromkeys(f"{count:.3g}" if count < 100 else f"{count:.0f}" for count in ends))
        yield f"- full training: {len(epochs)} network{'' if len(epochs) == 1 else 's'}, {each} epochs each"
    proposals = results.get("proposals") or {}
    said = [f"{text(proposals[key], '{:.0f}'.format)} {what}" for key, what in _PROPOSALS.items() if key in proposals]
    yield from [f"- proposals: {', '.join(said)}"] if said else []
    spent = results.get("seconds") or {}
    said = [f"{part} {text(seconds, format_seconds)}" for part, seconds in spent.items()]
    yield from [f"- time: {', '.join(said)}"] if said else []
    if (share := results.get("training_share")) is not None:
        asked = results.get("seconds_asked")
        whole = "of the time that it took" if asked is None else f"of the {format_seconds(asked)} asked for"
        yield f"- training steps: {100 * share:.0f} % {whole}, over all workers"


_STATES = {"complete": "trained", "failed": "failed"}
_PROPOSALS = {
    "drawn": "drawn",
    "repaired": "repaired to fit the budgets",
    "resampled": "drawn again",
    "trials_over_budget": "trials over budget",
}


def _data(results: Data) -> Iterator[tuple[str, object]]:
    data = results.get("data") or {}
    yield from ((name, data.get(name)) for name in ("name", "source", "task"))
    if size := data.get("size"):
        unit = "voxels" if data.get("dims") == 3 else "pixels"
        yield "size", " x ".join(map(_value, size)) + f" {unit}, channels: {_value(data.get('channels'))}"
    yield from ((name, data.get(name)) for name in ("classes", "counts", "sha256", "note"))


def _reproduce(results: Data) -> Iterator[str]:
    commands = dict.fromkeys(filter(None, [results.get("command"), *(results.get("commands") or [])]))
    if commands:
        yield from ["```", *commands, "```", ""]
    known = {"medsearch": results.get("version"), "seed": results.get("seed"), "written": results.get("created")}
    said = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
    yield from [said] if said else []

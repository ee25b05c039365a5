"""The page of the benchmark, from its rows alone: tables, paired intervals, and which targets are met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from medsearch.studies.equal_time.plan import HAND_MADE, SEARCH, Case
from medsearch.studies.equal_time.rows import Row

RESAMPLES, SEED = 5000, 0
CONFIDENCE = 0.95
POINTS_WANTED = 1.0
SHARE_OF_CORE = 0.9
DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How many points, hundredths of the score, one network is better than another on the same images.

    Args:
        points: the mean.
        low, high: the paired bootstrap interval of 95 %.
        resampled: the means of the resamples.
    """

    points: float
    low: float
    high: float
    resampled: np.ndarray = field(repr=False, compare=False)

    @classmethod
    def of(cls, points: float, resampled: np.ndarray) -> Difference:
        """The percentile interval of resampled means."""
        low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return cls(points=points, low=float(low), high=float(high), resampled=resampled)

    def __str__(self) -> str:
        return f"{self.points:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def difference(ours: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Difference:
    """The mean of ours - theirs in points, with its paired bootstrap interval over images.

    An image's difference is first averaged over the seeds, because its scores of several seeds are not independent;
    then images are drawn with replacement (Efron & Tibshirani 1993, chapter 13, percentile interval).

    Args:
        ours, others: a list of scores, one for each image, for every seed, in the same order of seeds and images.
    """
    from scipy.stats import bootstrap

    apart_N = 100 * (np.asarray(ours, float) - np.asarray(others, float)).mean(axis=0)
    if len(apart_N) < 2:
        return Difference.of(float(apart_N.mean()), np.full(RESAMPLES, apart_N.mean()))
    found = bootstrap(
        (apart_N,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        confidence_level=CONFIDENCE,
        random_state=np.random.default_rng(SEED),
    )
    return Difference.of(float(apart_N.mean()), found.bootstrap_distribution)


def mean_difference(found: Sequence[Difference]) -> Difference:
    """The mean over sets, whose images are drawn independently of each other."""
    rng = np.random.default_rng(SEED)
    resampled = np.mean([rng.permutation(one.resampled) for one in found], axis=0)
    return Difference.of(statistics.fmean(one.points for one in found), resampled)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The rows of one network, or of the search, that stand for it: one for each seed.

    Args:
        label: what tables call it.
        rows: by seed; of several recipes the one with the smaller validation error.
    """

    label: str
    rows: dict[int, Row]

    @classmethod
    def of(cls, label: str, rows: Iterable[Row]) -> Arm:
        """Choose by validation among ``rows``."""
        chosen: dict[int, Row] = {}
        for row in rows:
            known = chosen.get(row["seed"])
            if known is None or row["validation_error"] < known["validation_error"]:
                chosen[row["seed"]] = row
        return cls(label=label, rows=dict(sorted(chosen.items())))

    def mean(self, split: str, metric: str) -> float:
        """Of a metric over the seeds."""
        return statistics.fmean(row[split][metric] for row in self.rows.values())

    def median(self, name: str) -> float:
        """Of a number over the seeds."""
        return statistics.median(row[name] for row in self.rows.values())

    def minus(self, other: Arm) -> Difference | None:
        """How many points better than another, over the seeds that both have; None without one."""
        seeds = sorted(self.rows.keys() & other.rows.keys())
        if not seeds:
            return None
        ours, others = ([arm.rows[seed]["scores"] for seed in seeds] for arm in (self, other))
        return difference(ours, others)


@dataclass(frozen=True)
class Group:
    """All rows of one set and one time."""

    data: str
    minutes: float
    rows: tuple[Row, ...]

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """By label."""
        labels: dict[str, list[Row]] = {}
        for row in self.rows:
            labels.setdefault(Case.of(row).label, []).append(row)
        return {label: Arm.of(label, rows) for label, rows in labels.items()}

    @property
    def title(self) -> str:
        return f"{self.data}, {self.minutes:g} minutes"

    @property
    def rival(self) -> Arm | None:
        """The hand-made network, if it has rows."""
        return self.arms.get(HAND_MADE[self.rows[0]["task"]])

    @cached_property
    def apart(self) -> dict[str, Difference]:
        """The search less every other arm, by label."""
        search = self.arms.get(SEARCH)
        found = (
            {} if search is None else {label: search.minus(arm) for label, arm in self.arms.items() if label != SEARCH}
        )
        return {label: one for label, one in found.items() if one is not None}

    @property
    def against_rival(self) -> Difference | None:
        """The search less the hand-made network."""
        return None if self.rival is None else self.apart.get(self.rival.label)


def page(rows: Sequence[Row], cases: Sequence[Case], *, command: str) -> str:
    """Markdown: what was asked, the targets, a table for each set and time, the means over sets, what is missing.

    Args:
        rows: what was measured.
        cases: what the recipe asks for; those without a row are listed.
        command: that measures them.
    """
    keys = dict.fromkeys((row["data"], row["minutes"]) for row in rows)
    groups = [
        Group(data, minutes, tuple(row for row in rows if (row["data"], row["minutes"]) == (data, minutes)))
        for data, minutes in sorted(keys, key=lambda key: key[1])
    ]
    sections = {
        "Targets": _targets(groups),
        **{group.title: _table_of(group) for group in groups},
        "Means over sets": _means(groups),
        "Missing rows": _missing(rows, cases),
        "Remarks": _remarks(rows),
    }
    written = {title: "\n".join(lines) for title, lines in sections.items()}
    parts = [f"## {title}\n\n{body}" for title, body in written.items() if body]
    return "\n\n".join(["# A search beside hand-made networks, at equal time", *_opening(rows, command), *parts]) + "\n"


def _opening(rows: Sequence[Row], command: str) -> Iterator[str]:
    yield f"```\n{command}\n```"
    if not rows:
        yield "Nothing has been measured yet."
        return
    machines, commits = (sorted({row[name] for row in rows if row[name]}) for name in ("cpu", "commit"))
    yield f"On {'; '.join(machines) or 'an unknown machine'}; commit {', '.join(commits) or 'unknown'}."
    yield (
        "Every row was measured in a fresh process on one pinned core, with one thread. A search is timed from the "
        f"start of its process to the end{_of_profile(rows)}; the others train and validate for all the time, and "
        "starting, reading the data and choosing a precision are not counted. Of the two recipes of a network the one "
        "with the smaller validation error stands for it, seed by seed. Test images were read once for each row, by "
        "the network that validation had chosen."
    )
    yield (
        "A difference is search less other, in points of accuracy or of Dice per image, positive where the search is "
        f"better; in parentheses its {CONFIDENCE:.0%} paired bootstrap interval over test images, each averaged over "
        "seeds. Latency is batch 1 in ONNX Runtime with one thread, as a ratio to the hand-made network (convnet, for "
        "masks unet) timed in turns with it: below 1 is faster. Milliseconds of different rows cannot be compared, "
        "ratios can."
    )


def _of_profile(rows: Sequence[Row]) -> str:
    """What searches knew of the machine, where all knew the same."""
    known = {row["profile"] for row in rows if row["arm"] == SEARCH}
    if known == {"fresh"}:
        return ", and measures the machine in that time, too"
    return ", and finds what earlier ones have measured of the machine" if known == {"kept"} else ""


def _table_of(group: Group) -> list[str]:
    first = group.rows[0]
    primary, score = first["primary"], first["score"]
    head = ["arm", "recipes", "seeds", f"val. {primary}", f"test {primary}"]
    head += [f"test {score} per image", "search − arm, points", "latency ratio", "parameters", "epochs", "seconds"]
    lines = []
    for label, arm in group.arms.items():
        recipes = [row["recipe"] for row in arm.rows.values() if row["recipe"]]
        counts = [f"{recipe} {recipes.count(recipe)}" for recipe in sorted(set(recipes))]
        seconds = [row["seconds"] for row in arm.rows.values()]
        lines.append(
            [
                label,
                ", ".join(counts) or DASH,
                ", ".join(map(str, arm.rows)),
                f"{arm.mean('validation', primary):.3f}",
                f"{arm.mean('test', primary):.3f}",
                f"{statistics.fmean(statistics.fmean(row['scores']) for row in arm.rows.values()):.3f}",
                str(group.apart.get(label, DASH)),
                f"{arm.median('latency_ratio'):.2f}",
                f"{arm.median('parameters') / 1e3:,.0f} k",
                f"{arm.median('epochs'):g}",
                f"{min(seconds):.0f} to {max(seconds):.0f}" if len(seconds) > 1 else f"{seconds[0]:.0f}",
            ]
        )
    return _table(head, lines)


def _means(groups: Sequence[Group]) -> list[str]:
    """A line for every set, and one for the mean, of every time."""
    lines = []
    for minutes, found in _by_minutes(groups):
        for group, apart in found:
            assert group.rival is not None
            lines.append([group.data, f"{minutes:g}", group.rival.label, str(apart), f"{_ratio(group):.2f}"])
        mean = mean_difference([apart for _, apart in found])
        ratio = statistics.geometric_mean(_ratio(group) for group, _ in found)
        lines.append([f"**mean of {len(found)}**", f"{minutes:g}", "", f"**{mean}**", f"**{ratio:.2f}**"])
    return _table(["set", "minutes", "hand-made", "search − hand-made, points", "latency ratio"], lines)


def _by_minutes(groups: Sequence[Group]) -> Iterator[tuple[float, list[tuple[Group, Difference]]]]:
    """The sets on which both the search and the hand-made network were measured."""
    for minutes in sorted({group.minutes for group in groups}):
        own = [(group, group.against_rival) for group in groups if group.minutes == minutes]
        if found := [(group, apart) for group, apart in own if apart is not None]:
            yield minutes, found


def _ratio(group: Group) -> float:
    return group.arms[SEARCH].median("latency_ratio")


def _targets(groups: Sequence[Group]) -> list[str]:
    """What the numbers that are there say of each target."""
    times = list(_by_minutes(groups))
    pairs = [pair for _, found in times for pair in found]
    if not pairs:
        return ["Nothing can be said before a search and a hand-made network were measured on one set."]
    worse = [f"{group.title} {apart}" for group, apart in pairs if apart.high < 0]
    lines = [_target("Nowhere worse than the hand-made network beyond the interval", worse, "nowhere", len(pairs))]
    for minutes, found in times:
        mean = mean_difference([apart for _, apart in found])
        met = mean.points >= POINTS_WANTED
        lines.append(
            f"- Better in the mean over sets by at least {POINTS_WANTED:g} point, at {minutes:g} minutes: "
            f"**{'met' if met else 'not met'}**, {mean} over {_count(len(found), 'set')}."
        )
    equal = [group for group, apart in pairs if apart.high >= 0]
    slower = [f"{group.title} {_ratio(group):.2f} times as long" for group in equal if _ratio(group) >= 1]
    lines.append(
        _target(
            "Faster than the hand-made network where the error is equal or smaller",
            slower,
            "none is slower",
            len(equal),
        )
    )
    return lines


def _target(what: str, against: Sequence[str], nothing: str, count: int) -> str:
    if not count:
        return f"- {what}: **cannot be said**, there is no such set."
    said = "; ".join(against) if against else nothing
    return f"- {what}: **{'not met' if against else 'met'}**, of {_count(count, 'comparison')}: {said}."


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _missing(rows: Sequence[Row], cases: Sequence[Case]) -> list[str]:
    done = set(map(Case.of, rows))
    missing = [case for case in cases if case not in done]
    if not missing:
        return ["None: every row of the recipe is there."]
    by_set: dict[str, list[str]] = {}
    for case in missing:
        what = " ".join(filter(None, (case.label, case.recipe, f"seed {case.seed}")))
        by_set.setdefault(f"{case.data}, {case.minutes:g} minutes", []).append(what)
    lines = [f"{len(missing)} of {len(cases)} rows have not been measured; what is said above is of the others.", ""]
    return lines + [f"- {title}: {'; '.join(what)}" for title, what in by_set.items()]


def _remarks(rows: Sequence[Row]) -> list[str]:
    """What a reader has to know of the sets, and rows whose core did other work."""
    notes = dict.fromkeys(f"- {row['data']}: {note}" for row in rows for note in row["notes"])
    shared = [
        f"{Case.of(row).name} ({row['processor_seconds'] / row['seconds']:.0%})"
        for row in rows
        if row["workers"] == 1 and row["processor_seconds"] < SHARE_OF_CORE * row["seconds"]
    ]
    said = f"- Rows that had less than {SHARE_OF_CORE:.0%} of their core, with what they had: {', '.join(shared)}"
    return [*notes, *([said] if shared else [])]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; nothing without lines."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(line)} |" for line in (head, rule, *lines)] if lines else []

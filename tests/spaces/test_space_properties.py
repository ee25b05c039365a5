"""What holds for the operations of any space, on spaces that are drawn themselves."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medsearch.spaces import Genotype, Space, read_space

SCALARS = st.sampled_from([1, 2, 3, 0.5, "batch", "1x2", True, None])


def open_or(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One value, or a choice of some that differ."""
    some = st.lists(values, min_size=1, max_size=3, unique=True)
    return values | some.map(lambda options: {"choice": options})


COUNTS = open_or(st.integers(1, 3)) | st.tuples(st.integers(1, 3), st.integers(0, 2)).map(
    lambda ends: {"range": [ends[0], ends[0] + ends[1]]}
)


@st.composite
def parts(draw: st.DrawFn, names: tuple[str, ...] = ("a", "b", "c")) -> Any:
    """A part or a choice of parts with different names, each with knobs of its own, open or not."""
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    options = [{"name": name, **draw(st.dictionaries(st.sampled_from("xyz"), open_or(SCALARS)))} for name in chosen]
    return options[0] if len(options) == 1 else {"choice": options}


@st.composite
def stages(draw: st.DrawFn) -> dict[str, Any]:
    stage: dict[str, Any] = {"dim": draw(COUNTS), "channel": draw(parts())}
    shape = draw(st.sampled_from(["mixer", "mixers", "blocks"]))
    if shape == "mixer":
        return stage | {"mixer": draw(parts()), "depth": draw(COUNTS)}
    if shape == "mixers":
        return stage | {"mixers": [draw(parts()), draw(parts())], "depth": {"range": [2, draw(st.integers(2, 4))]}}
    entries = [{"mixer": draw(parts()), "position": draw(parts(("none", "p")))} for _ in range(2)]
    return stage | {"blocks": entries, "depth": {"choice": [2, 5]}, "local": draw(parts(("none", "q")))}


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    given_ = {"name": "drawn", "dims": draw(st.sampled_from([2, 3])), "stem": draw(parts()), "down": draw(parts())}
    written = draw(st.lists(stages(), min_size=1, max_size=2))
    return read_space({**given_, "heads": {"classification": draw(parts())}, "stages": written}, "drawn.yaml")


def reachable(space: Space, most: int) -> set[Genotype]:
    found, todo = set(), [space.first()]
    while todo and len(found) <= most:
        genotype = todo.pop()
        if genotype not in found:
            found.add(genotype)
            todo += space.neighbours(genotype)
    return found


@given(spaces())
@settings(max_examples=25)
def test_the_size_is_the_number_of_networks_that_can_be_reached(space: Space) -> None:
    most = 100
    found = reachable(space, most)
    assert len(found) == space.size() if space.size() <= most else len(found) > most


@given(spaces(), st.randoms(use_true_random=False))
def test_genes_and_json_give_back_the_same_network(space: Space, rng: random.Random) -> None:
    genotype, options = space.sample(rng), space.genes()
    genes = space.encode(genotype)
    assert space.decode(genes) == space.decode(json.loads(json.dumps(genes))) == genotype
    assert all(value in options[gene] for gene, value in genes.items())
    again = Genotype.from_data(json.loads(json.dumps(genotype.to_data())))
    assert (again, again.id) == (genotype, genotype.id)


@given(spaces(), st.randoms(use_true_random=False))
def test_changes_stay_inside_and_change_something(space: Space, rng: random.Random) -> None:
    one, other = space.sample(rng), space.sample(rng)
    mutant, child = space.mutate(one, rng), space.crossover(one, other, rng)
    for inside in (mutant, child):
        assert space.decode(space.encode(inside)) == inside
    assert (mutant != one) == (space.size() > 1)
    assert space.crossover(one, one, rng) == one
    if space.size() > 1:
        assert mutant in set(space.neighbours(one))


@given(spaces(), st.randoms(use_true_random=False))
def test_neighbours_are_different_networks_and_neighbours_of_each_other(space: Space, rng: random.Random) -> None:
    genotype = space.sample(rng)
    others = list(space.neighbours(genotype))
    assert len({genotype, *others}) == len(others) + 1
    if others:
        assert genotype in set(space.neighbours(rng.choice(others)))


@given(spaces(), st.randoms(use_true_random=False), st.integers(1, 6))
def test_what_is_repaired_fits(space: Space, rng: random.Random, most: int) -> None:
    def violation(genotype: Genotype) -> float:
        return float(sum(stage.dim * len(stage.blocks) for stage in genotype.stages) - most)

    fitting = space.repair(space.sample(rng), violation, rng)
    if fitting is not None:
        assert violation(fitting) <= 0
        assert space.decode(space.encode(fitting)) == fitting
    else:
        assert violation(space.minimise(violation)) > 0

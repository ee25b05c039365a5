"""What a search does with a space: count, draw, change, repair - on one small enough to list, and on the shipped."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from medsearch.core.config import parse_yaml, read_yaml
from medsearch.core.errors import SpaceError
from medsearch.core.library import find, names
from medsearch.spaces import Block, Genotype, Part, Space, Stage, read_space

TINY = """\
name: tiny
dims: 2
stem: {name: conv, stride: {choice: [2, 1]}}
heads: {classification: classify}
stages:
  - dim: 8
    depth: {range: [1, 2]}
    mixer:
      choice:
        - linear_attention
        - {name: dwconv, kernel: {choice: [5, 3, 7]}, norm: {choice: [batch, none]}}
        - {name: block_gmlp, block: {range: [2, 4]}}
    channel: {choice: [{name: mlp, ratio: 3}, {name: conv_mlp, ratio: {choice: [2, 1.5]}}]}
"""

CYCLE = """\
name: cycle
dims: 3
stem: conv
heads: {classification: classify}
stages:
  - dim: 8
    depth: {choice: [2, 3, 5]}
    mixers:
      - {name: dwconv, kernel: {choice: [3, 5]}}
      - {choice: [linear_attention, {name: dwconv, kernel: 7}]}
    channel: mlp
    residual: {choice: [each, joint]}
    layer_scale: {choice: [null, 1, 1.0e-6]}
"""


BLOCKS = """\
name: blocks
dims: 2
stem: conv
heads: {classification: classify}
stages:
  - dim: {choice: [8, 12]}
    depth: 3
    position: {choice: [none, dwconv]}
    channel: {name: mlp, ratio: {choice: [2, 3]}}
    blocks:
      - {mixer: linear_attention}
      - {mixer: {name: dwconv, kernel: {choice: [3, 5, 7]}}, local: {name: dwconv, kernel: 7}, channel: none}
"""


def read(text: str) -> Space:
    return read_space(parse_yaml(text, "t.yaml").value, "t.yaml")


def listed() -> list[Genotype]:
    """Every network of ``TINY``, from its text by hand: 2 strides, 2 depths, 6 + 1 + 3 mixers, 1 + 2 channel mixers."""
    mixers = [Part.of("dwconv", kernel=k, norm=n) for k, n in product((3, 5, 7), ("batch", "none"))]
    mixers += [Part.of("linear_attention"), *(Part.of("block_gmlp", block=b) for b in (2, 3, 4))]
    channels = [Part.of("mlp", ratio=3), Part.of("conv_mlp", ratio=2), Part.of("conv_mlp", ratio=1.5)]
    return [
        Genotype(2, Part.of("conv", stride=stride), (Stage(8, (Block(mixer, channel),) * depth),), Part.of("classify"))
        for stride, depth, mixer, channel in product((1, 2), (1, 2), mixers, channels)
    ]


SHIPPED = [read_space(read_yaml(find("spaces", name)), name) for name in names("spaces")]
every_space = pytest.mark.parametrize(
    "space", [*SHIPPED, *map(read, (TINY, CYCLE, BLOCKS))], ids=lambda space: space.name
)


def draws(space: Space, count: int) -> Iterator[tuple[Genotype, random.Random]]:
    rng = random.Random(1)
    for _ in range(count):
        yield space.sample(rng), rng


def reachable(space: Space) -> set[Genotype]:
    """All that can be had by changing one gene after another."""
    found, todo = set(), [space.first()]
    while todo:
        genotype = todo.pop()
        if genotype not in found:
            found.add(genotype)
            todo += space.neighbours(genotype)
    return found


def test_the_size_is_the_number_of_different_networks() -> None:
    networks = listed()
    assert read(TINY).size() == len(networks) == 2 * 2 * (3 * 2 + 1 + 3) * (1 + 2)
    assert len({genotype.id for genotype in networks}) == len(networks)
    assert reachable(read(TINY)) == set(networks)


def test_draws_are_uniform_over_networks_and_not_over_options() -> None:
    # 120 networks, 50 draws of each expected; chi-square with 119 degrees of freedom is above 168 once in 500 times.
    # Drawing options uniformly instead would give linear_attention 1 / 3 of the draws rather than 1 / 10: far above.
    seen = Counter(genotype for genotype, _ in draws(read(TINY), 6000))
    assert sum((seen[genotype] - 50) ** 2 / 50 for genotype in listed()) < 168


@every_space
def test_a_genotype_and_its_genes_say_the_same(space: Space) -> None:
    options = space.genes()
    for genotype, _ in draws(space, 40):
        genes = space.encode(genotype)
        assert space.decode(genes) == genotype
        assert all(value in options[gene] for gene, value in genes.items())


@every_space
def test_changed_genotypes_stay_inside(space: Space) -> None:
    for genotype, rng in draws(space, 20):
        other = space.sample(rng)
        mutant, child = space.mutate(genotype, rng), space.crossover(genotype, other, rng)
        for inside in (mutant, child, space.mutate(child, rng)):
            assert space.decode(space.encode(inside)) == inside
        assert (mutant != genotype) == (space.size() > 1)


@every_space
def test_no_gene_is_dead(space: Space) -> None:
    options = space.genes()
    for genotype, _ in draws(space, 5):
        genes = space.encode(genotype)
        others = list(space.neighbours(genotype))
        assert len({genotype, *others}) == len(others) + 1
        changed = {(gene, value) for other in others for gene, value in space.encode(other).items()} - set(
            genes.items()
        )
        assert changed >= {(gene, value) for gene in genes for value in options[gene] if value != genes[gene]}


@every_space
def test_a_neighbour_differs_in_one_gene_and_those_below_it(space: Space) -> None:
    for genotype, _ in draws(space, 5):
        genes = space.encode(genotype)
        for other in map(space.encode, space.neighbours(genotype)):
            (gene,) = [gene for gene in genes if gene in other and other[gene] != genes[gene]]
            assert all(name.startswith(f"{gene}.") for name in genes.keys() ^ other.keys())


def test_a_child_has_the_genes_of_its_parents() -> None:
    space = read(TINY)
    for genotype, rng in draws(space, 50):
        parents = space.encode(genotype), space.encode(space.sample(rng))
        child = space.encode(space.crossover(*map(space.decode, parents), rng))
        for gene, value in child.items():
            assert value in [parent[gene] for parent in parents if gene in parent]


def test_a_mutant_differs_in_one_gene_and_those_below_it() -> None:
    space, changed = read(TINY), Counter[str]()
    for genotype, rng in draws(space, 300):
        genes, mutant = space.encode(genotype), space.encode(space.mutate(genotype, rng))
        (gene,) = [gene for gene in genes if gene in mutant and mutant[gene] != genes[gene]]
        assert all(name.startswith(f"{gene}.") for name in genes.keys() ^ mutant.keys())
        changed[gene] += 1
    assert set(changed) == set(space.genes())


def test_every_option_of_every_gene_can_be_reached() -> None:
    for space in (*SHIPPED, read(TINY), read(CYCLE)):
        for gene, options in space.genes().items():
            assert [space.encode(space.with_option(gene, option))[gene] for option in options] == options


def test_a_cycle_of_mixers_goes_round_the_blocks() -> None:
    space = read(CYCLE)
    assert space.size() == 3 * 2 * 2 * 2 * 3
    assert len(reachable(space)) == space.size()
    stage = space.with_option("stages.0.depth", 5).stages[0]
    small, linear = Part.of("dwconv", kernel=3), Part.of("linear_attention")
    assert [block.mixer for block in stage.blocks] == [small, linear, small, linear, small]
    assert {"stages.0.cycle.0.mixer.kernel", "stages.0.cycle.1.mixer"} <= set(space.genes())


def test_a_cycle_of_blocks_shares_what_its_entries_do_not_say() -> None:
    space = read(BLOCKS)
    assert space.size() == 2 * 2 * 2 * 3
    assert len(reachable(space)) == space.size()
    for genotype in reachable(space):
        first, second, third = genotype.stages[0].blocks
        assert first == third
        assert first.position == second.position
        assert (first.local, second.local) == (None, Part.of("dwconv", kernel=7))
        assert (first.channel.name, second.channel.name) == ("mlp", "none")
    assert {genotype.stages[0].blocks[0].position for genotype in reachable(space)} == {None, Part.of("dwconv")}


def test_a_genotype_from_elsewhere_is_refused() -> None:
    space = read(TINY)
    inside = space.first()
    strange = [
        Genotype(3, inside.stem, inside.stages, inside.head),
        Genotype(2, Part.of("conv", stride=4), inside.stages, inside.head),
        Genotype(2, inside.stem, inside.stages, Part.of("classify", norm="none")),
        Genotype(2, inside.stem, (*inside.stages, Stage(16, inside.stages[0].blocks, Part.of("merge"))), inside.head),
        Genotype(2, inside.stem, (Stage(8, ()),), inside.head),
        Genotype(2, inside.stem, (Stage(8, inside.stages[0].blocks * 3),), inside.head),
        read(CYCLE).first(),
    ]
    for genotype in strange:
        with pytest.raises(SpaceError, match=f"t.yaml: architecture {genotype.id} is not in space 'tiny'"):
            space.encode(genotype)


def test_blocks_that_differ_where_the_space_has_one_mixer_are_refused() -> None:
    space = read(TINY)
    one, two = (
        space.with_option("stages.0.mixer", label).stages[0].blocks[0] for label in ("dwconv", "linear_attention")
    )
    mixed = Genotype(2, space.first().stem, (Stage(8, (one, two)),), space.first().head)
    with pytest.raises(SpaceError, match="is not in space"):
        space.encode(mixed)


def test_missing_and_foreign_genes_are_refused_by_name() -> None:
    space = read(TINY)
    genes = space.encode(space.with_option("stages.0.mixer", "dwconv"))
    with pytest.raises(SpaceError, match=r"gene 'stages.0.mixer.dwconv.kernel': 9 is not one of \[5, 3, 7\]"):
        space.decode({**genes, "stages.0.mixer.dwconv.kernel": 9})
    with pytest.raises(SpaceError, match=r"gene 'stages.0.depth' is missing.\n  It is one of \[1, 2\]"):
        space.decode({gene: value for gene, value in genes.items() if gene != "stages.0.depth"})


def size_of(genotype: Genotype) -> float:
    """A cost with the ways of a real one: depth multiplies, kernels square, and the stem's stride divides."""
    block = genotype.stages[0].blocks[0]
    knobs = dict(block.mixer.knobs)
    mixer = {"dwconv": 4 + float(knobs.get("kernel", 0)) ** 2, "linear_attention": 20, "block_gmlp": 26}
    per_block = mixer[block.mixer.name] + 10 * float(dict(block.channel.knobs)["ratio"])
    return len(genotype.stages[0].blocks) * per_block / dict(genotype.stem.knobs)["stride"]


@pytest.mark.parametrize("limit", [14.0, 15.0, 20.0, 40.0, 80.0])
def test_repair_ends_within_the_limit_or_says_that_it_cannot(limit: float) -> None:
    space, possible = read(TINY), min(map(size_of, listed()))
    assert possible == (4 + 9 + 15) / 2

    def violation(genotype: Genotype) -> float:
        return size_of(genotype) / limit - 1

    for genotype, rng in draws(space, 60):
        repaired = space.repair(genotype, violation, rng)
        if violation(genotype) <= 0:
            assert repaired is genotype
        else:
            assert repaired is not None and violation(repaired) <= 0
            space.encode(repaired)


def test_repair_gives_up_where_nothing_fits_or_no_step_helps() -> None:
    space = read(TINY)
    for genotype, rng in draws(space, 10):
        assert space.repair(genotype, lambda g: size_of(g) / 13.9 - 1, rng) is None
        assert space.repair(genotype, lambda _: 1.0, rng) is None


def test_repair_takes_one_step_where_one_is_enough() -> None:
    space = read(TINY)
    large = max(listed(), key=size_of)
    assert size_of(large) == 2 * (4 + 49 + 30)
    repaired = {space.repair(large, lambda g: size_of(g) / 100 - 1, random.Random(seed)) for seed in range(20)}
    assert repaired <= set(space.neighbours(large)) and len(repaired) > 1


def added(weights: dict[tuple[str, object], float], space: Space) -> Callable[[Genotype], float]:
    return lambda genotype: sum(weights[item] for item in space.encode(genotype).items())


@pytest.mark.parametrize("seed", range(20))
def test_minimise_finds_the_smallest_where_genes_add_up(seed: int) -> None:
    space, rng = read(TINY), random.Random(seed)
    weights = {(gene, option): rng.random() for gene, options in space.genes().items() for option in options}
    value = added(weights, space)
    assert value(space.minimise(value)) == min(map(value, listed()))


def test_minimise_finds_the_smallest_behind_a_bad_first_option() -> None:
    # A dwconv with kernel 5, its first, costs more than the linear_attention to start from; with kernel 3, the least.
    space = read(TINY)
    assert space.first().stages[0].blocks[0].mixer == Part.of("linear_attention")
    value = {3: 0.0, 5: 9.0, 7: 9.0, None: 1.0}
    found = space.minimise(lambda g: value[dict(g.stages[0].blocks[0].mixer.knobs).get("kernel")])
    assert dict(found.stages[0].blocks[0].mixer.knobs)["kernel"] == 3
    assert size_of(space.minimise(size_of)) == min(map(size_of, listed()))


def test_a_space_of_one_network_has_no_genes_and_no_neighbours() -> None:
    for space in (space for space in SHIPPED if space.size() == 1):
        only = space.first()
        assert space.encode(only) == {} and list(space.neighbours(only)) == []
        assert space.sample(random.Random(0)) == space.mutate(only, random.Random(0)) == only
        assert space.repair(only, lambda _: 1.0, random.Random(0)) is None


def test_remarks_and_ways_of_writing_are_no_difference() -> None:
    space = read_space(parse_yaml(TINY, "tiny").value, "tiny.yaml")
    text = "# a remark\n" + TINY.replace("name: tiny", "name: mine").replace("{range: [1, 2]}", "{choice: [1, 2]}")
    again = read_space(parse_yaml(text, "mine").value, "mine.yaml")
    assert (again.fingerprint(), again.differences(space)) == (space.fingerprint(), [])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dim: 8", "dim: 12", ["stages.0.dim is 12 (was 8)"]),
        ("dim: 8", "dim: {choice: [8]}", ["stages.0.dim is one of 8 (was 8)"]),
        ("[2, 1]", "[2, 1, 4]", ["stem.stride is one of 2, 1, 4 (was one of 2, 1)"]),
        ("[2, 1]", "[1, 2]", ["stem.stride is one of 1, 2 (was one of 2, 1)"]),
        ("kernel: {choice: [5, 3, 7]}, ", "", ["stages.0.mixer.dwconv.kernel is gone (was one of 5, 3, 7)"]),
        (
            "ratio: 3",
            "ratio: 4",
            ["stages.0.channel is one of mlp(ratio=4), conv_mlp (was one of mlp(ratio=3), conv_mlp)"],
        ),
        ("    channel:", "    residual: joint\n    channel:", ["stages.0.residual is joint (was each)"]),
    ],
)
def test_what_differs_is_named(old: str, new: str, said: list[str]) -> None:
    before, after = (
        read_space(parse_yaml(text, "tiny").value, "tiny.yaml") for text in (TINY, TINY.replace(old, new, 1))
    )
    assert before.fingerprint() != after.fingerprint()
    assert after.differences(before) == said

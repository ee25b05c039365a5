import pytest

from medsearch.core.errors import MedsearchError, SpaceError, suggest


def test_an_error_says_where_what_and_what_to_do():
    error = SpaceError("tiny.yaml: stages[0]", "missing depth.", "Needed: depth, dim.")
    assert str(error) == "tiny.yaml: stages[0]: missing depth.\n  Needed: depth, dim."
    assert (error.where, error.problem, error.remedy) == (
        "tiny.yaml: stages[0]",
        "missing depth.",
        "Needed: depth, dim.",
    )
    assert isinstance(error, MedsearchError)


def test_without_a_remedy_there_is_no_empty_line():
    assert str(SpaceError("x", "is empty.")) == "x: is empty."


@pytest.mark.parametrize(
    ("seen", "known", "remedy"),
    [
        ("dwcnv", ["pool", "dwconv"], "Did you mean 'dwconv'? Known: dwconv, pool."),
        ("zzz", ["pool", "dwconv"], "Known: dwconv, pool."),
        ("zzz", [], "Known: (none)."),
    ],
)
def test_suggestions_name_the_nearest_and_all(seen, known, remedy):
    assert suggest(seen, known) == remedy

import math

import pytest

from medsearch.core.config import Node, parse_yaml, read_node, read_yaml
from medsearch.core.errors import SpaceError, UsageError

TINY = """\
name: tiny
stages:
  - depth: 2
    mixer: {name: dwconv, kernel: 7}
  - depth: 3
    mixer:
      name: pool
      rate: 1e-3
"""


def stage(index):
    return parse_yaml(TINY, "tiny.yaml").entries()["stages"].items()[index].entries()


def test_reads_plain_values_from_a_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    value = read_yaml(path)
    assert value == {
        "name": "tiny",
        "stages": [
            {"depth": 2, "mixer": {"name": "dwconv", "kernel": 7}},
            {"depth": 3, "mixer": {"name": "pool", "rate": "1e-3"}},
        ],
    }
    assert read_node(path).value == value
    assert read_node(path).where == str(path)


def test_a_place_names_file_path_and_line():
    assert stage(1)["mixer"].where == "tiny.yaml: stages[1].mixer (line 6)"
    assert stage(0)["mixer"].entries()["kernel"].where == "tiny.yaml: stages[0].mixer.kernel (line 4)"
    assert Node({"a": [1]}, "genotype").entries()["a"].items()[0].where == "genotype: a[0]"


def test_right_values_are_returned():
    node = parse_yaml("{i: 3, f: 0.5, n: 2, t: yes it is, b: true, c: max, l: [1, 2], m: {x: 1}, e: {}}", "x").entries()
    assert node["i"].integer(low=3, high=3) == 3
    assert node["f"].number(low=0, high=1) == 0.5
    assert isinstance(node["n"].number(), float)
    assert node["t"].text() == "yes it is"
    assert node["b"].boolean() is True
    assert node["c"].choice({"min", "max"}) == "max"
    assert [item.integer() for item in node["l"].items()] == [1, 2]
    assert node["m"].mapping(required=["x"], optional=["y"])["x"].integer() == 1
    assert node["e"].mapping(optional=["y"]) == {}


@pytest.mark.parametrize(
    ("text", "ask", "message"),
    [
        ("true", lambda n: n.integer(), "expected a whole number, got true"),
        ("3.0", lambda n: n.integer(), "expected a whole number, got 3.0"),
        ("0", lambda n: n.integer(low=1), "expected a whole number of at least 1, got 0"),
        ("9", lambda n: n.integer(low=1, high=8), "expected a whole number from 1 to 8, got 9"),
        ("[1]", lambda n: n.number(), "expected a number, got a list"),
        ("true", lambda n: n.number(), "expected a number, got true"),
        (".nan", lambda n: n.number(), "expected a number, got nan"),
        (".inf", lambda n: n.number(), "expected a number, got inf"),
        ("1" + "0" * 400, lambda n: n.number(), "expected a number, got 1000"),
        ("2.5", lambda n: n.number(high=1), "expected a number of at most 1, got 2.5"),
        ("no", lambda n: n.text(), "expected a text, got false.\n  YAML reads yes, no, on and off"),
        ("3", lambda n: n.text(), "expected a text, got 3.\n  Put it in quotes"),
        ("''", lambda n: n.text(), "expected a text, got the text ''"),
        ("", lambda n: n.text(), "expected a text, got nothing"),
        ("1", lambda n: n.boolean(), "expected true or false, got 1"),
        ("mxa", lambda n: n.choice(["min", "max"]), "unknown choice 'mxa'.\n  Did you mean 'max'? Known: max, min"),
        ("{a: 1}", lambda n: n.items(), "expected a list, got a mapping"),
        ("[1]", lambda n: n.mapping(), "expected a mapping, got a list"),
        ("{1: a}", lambda n: n.entries(), "expected names as keys, got 1.\n  Quote it: '1'"),
    ],
)
def test_wrong_values_are_refused_with_what_was_seen(text, ask, message):
    with pytest.raises(SpaceError) as caught:
        ask(parse_yaml(f"v: {text}", "x.yaml").entries()["v"])
    assert str(caught.value).startswith(f"x.yaml: v (line 1): {message}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1e-3", "1.0e-3"), ("1E6", "1.0e+6"), ("-2.5e4", "-2.5e+4"), ("'0.1'", "0.1"), ("-.5", "-0.5")],
)
def test_a_number_that_yaml_takes_for_text_comes_with_the_right_spelling(text, wanted):
    with pytest.raises(SpaceError, match="expected a number, got the text") as caught:
        parse_yaml(f"v: {text}", "x").entries()["v"].number()
    assert caught.value.remedy == f"YAML wants {wanted}, without quotes."
    assert math.isclose(parse_yaml(f"v: {wanted}", "x").entries()["v"].number(), float(text.strip("'")))


@pytest.mark.parametrize("text", ["fast", "e5", ".", "-", "nan"])
def test_other_texts_get_no_such_hint(text):
    with pytest.raises(SpaceError) as caught:
        Node(text, "x").number()
    assert caught.value.remedy == ""


def test_unknown_and_missing_keys_are_errors():
    with pytest.raises(SpaceError) as caught:
        stage(0)["mixer"].mapping(required=["name"], optional=["kernal"])
    assert caught.value.where == "tiny.yaml: stages[0].mixer.kernel (line 4)"
    assert caught.value.problem == "unknown key 'kernel'."
    assert caught.value.remedy == "Did you mean 'kernal'? Known: kernal, name."
    with pytest.raises(SpaceError, match=r"stages\[1\].mixer \(line 6\): missing goal, size"):
        stage(1)["mixer"].mapping(required=["name", "size", "goal"], optional=["rate"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  - c: 1\n    d: 2\n    c: 3\n", "x (line 5): b[0].c: this key was given before, in line 3."),
        ("{a: 1, a: 2}", "x (line 1): a: this key was given before, in line 1."),
        ("a: [1, 2\nb: 3\n", "x (line 2): expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", "x (line 2): found character '\\t'"),
        ("a: !!python/name:os.system x", "x (line 1): could not determine a constructor"),
        ("a: &again [*again]", "x (line 1): too many values, or aliases without end"),
        ("a: 2024-13-41", "x: is not YAML: month must be in 1..12"),
        ("a: \x07", "x: is not YAML: unacceptable character"),
        ("", "x: expected a mapping, got nothing"),
        ("- a", "x: expected a mapping, got a list"),
        ("a: 1\n---\nb: 1\n", "x (line 2): but found another document"),
    ],
)
def test_broken_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(SpaceError) as caught:
        parse_yaml(text, "x")
    assert str(caught.value).startswith(message)


def test_equal_keys_in_different_mappings_and_aliases_are_fine():
    node = parse_yaml("a: &m {k: 1, a.b: 2}\nb: *m\na.b: 3\n", "x")
    assert node.value == {"a": {"k": 1, "a.b": 2}, "b": {"k": 1, "a.b": 2}, "a.b": 3}


@pytest.mark.parametrize(("content", "problem"), [(None, "No such file"), (b"a: \xff", "not UTF-8 text")])
def test_an_unreadable_file_is_named(tmp_path, content, problem):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpaceError, match=f"x.yaml: .*{problem}"):
        read_yaml(path)


def test_errors_are_of_the_class_asked_for_at_any_depth():
    node = parse_yaml("a: [1]", "x", error=UsageError).entries()["a"].items()[0]
    with pytest.raises(UsageError):
        node.text()
    with pytest.raises(UsageError):
        parse_yaml("a: [", "x", error=UsageError)

import ast
from pathlib import Path

import pytest

import medsearch
from medsearch.report.mixers import kind, kinds, leading, short

MIXER_FILES = sorted((Path(medsearch.__file__).parent / "blocks" / "mixers").glob("[a-z]*.py"))


def family_in_source(file: Path) -> dict[str, str]:
    """``{name: FAMILY}`` of the mixers of a file, read without importing torch."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names = [d.args[0].value for d in node.decorator_list if isinstance(d, ast.Call)]
            values = [s.value.value for s in node.body if isinstance(s, ast.Assign) and s.targets[0].id == "FAMILY"]
            found |= dict(zip(names, values, strict=False))
    return found


def test_stages_read_at_a_glance():
    assert short(["dwconv", "window_attention", "region_topk_attention", "grid_gmlp"]) == "conv·window·topk·grid-gmlp"
    assert short(["dwconv+linear_attention"]) == "conv+linear"
    assert short([]) == "–"


@pytest.mark.parametrize("file", MIXER_FILES, ids=lambda file: file.stem)
def test_every_mixer_has_a_kind_by_its_family(file):
    others = {"control", "spectral", "recurrent"}
    for name, family in family_in_source(file).items():
        assert (kind(name, {name: family}) == "other") == (family in others)


def test_a_known_family_decides_over_the_name():
    assert kind("gated_thing", {}) == "other"
    assert kind("gated_thing", {"gated_thing": "conv"}) == "conv"


def test_kinds_are_counted_once_and_a_mixed_stage_has_both():
    assert kinds(["dwconv", "dwconv+window_attention", "linear_attention"], {}) == ("conv", "attention")


def test_most_stages_lead_and_the_deeper_one_breaks_a_tie():
    assert leading(["dwconv", "dwconv", "grid_gmlp", "dwconv"], {}) == "conv"
    assert leading(["dwconv", "dwconv", "grid_gmlp", "block_gmlp"], {}) == "MLP"
    assert leading([], {}) == "other"

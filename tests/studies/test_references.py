"""Rivals compute what our mixers compute, and a benchmark notices one that does not."""

import pytest
import torch

from medsearch.blocks import MIXERS
from medsearch.core.errors import UsageError
from medsearch.studies.references import REFERENCES, difference, scramble
from medsearch.studies.references.packaged import public

TEXTBOOK = {
    "textbook_linear": ("linear_attention", {"local": 0}),
    "textbook_efficient": ("linear_attention", {"kernel": "efficient"}),
    "textbook_msla": ("multiscale_linear_attention", {"kernels": "3-5"}),
    "textbook_differential": ("full_attention", {"differential": True, "local": 0}),
    "textbook_retnet": ("retention", {"form": "full", "heads": 2}),
    "textbook_rmt": ("retention", {"form": "axial", "heads": 2}),
    "textbook_neighbourhood": ("neighbourhood_attention", {"kernel": 3, "heads": 2}),
    "textbook_biformer": ("region_topk_attention", {"regions": 2, "top_regions": 2, "select": 1, "heads": 2}),
    "textbook_pvt": ("pooled_attention", {"op": "conv", "pool": 2, "local": 0}),
    "textbook_gnconv": ("gnconv", {"kernel": 3, "scale": 0.5}),
    "textbook_hyena": ("hyena", {}),
    "textbook_as_mlp": ("axial_shift", {"shift": 3}),
    "textbook_pooling": ("pooling", {}),
    "textbook_separable": ("separable_conv", {"kernel": 3}),
    "textbook_lpi": ("local_concentration", {"kernel": 3}),
    "monai_swin": ("window_attention", {"window": 2, "shift": 1}),
    "monai_mednext": ("dwconv", {"kernel": 3, "norm": "none"}),
    "monai_mbconv": ("mbconv", {"se": 4}),
    "monai_res_block": ("conv_block", {"after": "leaky_relu"}),
    "monai_rcab": ("channel_attention_block", {}),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", TEXTBOOK)
def test_a_rival_with_our_weights_gives_what_ours_gives(name, dims):
    if dims not in REFERENCES[name].dims:
        pytest.skip(f"{name} has no {dims}D form")
    mixer, knobs = TEXTBOOK[name]
    size = (4, 6, 8)[-dims:]
    ours = MIXERS[mixer](12, dims=dims, **knobs).eval()
    scramble(ours, seed=0)
    reference = REFERENCES[name].build(ours, size).eval()
    x_BCS = torch.randn(2, 12, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(reference(x_BCS), ours(x_BCS)) < 1e-5


def test_every_textbook_rival_is_compared():
    assert {name for name in REFERENCES if name.startswith("textbook")} <= set(TEXTBOOK)


def test_a_bias_does_not_hide_a_difference():
    x_BCS = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert difference(2 * x_BCS + 1e3, x_BCS + 1e3) > 0.5


def test_a_difference_of_no_number_is_no_small_one():
    x_BCS = torch.zeros(1, 2, 4, 4)
    assert not difference(x_BCS, x_BCS) <= 1e-4


def test_scrambling_leaves_no_weight_at_zero_or_one():
    ours = MIXERS["block_gmlp"](8, dims=2, block=2)
    scramble(ours, seed=0)
    for weight in ours.parameters():
        assert weight.std() > 0.05


def test_a_missing_package_is_told_with_how_to_install_it():
    with pytest.raises(
        UsageError, match="medsearch_is_not_this: a reference needs medsearch_is_not_this.*\n.*pip install"
    ):
        public("medsearch_is_not_this.models", "Attention")

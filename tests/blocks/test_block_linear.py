"""The block form of a linear layer is the dense layer with the other blocks at zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.block_linear import COLUMNS, BlockLinear
from medsearch.blocks.groups import Axis

IN_BLOCKS = [name for name in CHANNELS if "row_block" in CHANNELS.knobs(name)]
both_dims = pytest.mark.parametrize("dims", [2, 3])


def dense(layer: BlockLinear, in_features: int) -> nn.Linear:
    """The same map with every block that is not there written out as zeros."""
    rows, row_block, _ = layer.weight_ROK.shape
    full = nn.Linear(in_features, rows * row_block)
    full.weight.data.zero_()
    for row in range(rows):
        for place, column in enumerate(layer.columns[row].tolist()):
            block = layer.weight_ROK[row, :, place * COLUMNS : (place + 1) * COLUMNS]
            full.weight.data[row * row_block : (row + 1) * row_block, column * COLUMNS : (column + 1) * COLUMNS] = block
    full.bias.data.copy_(torch.zeros(rows * row_block) if layer.bias is None else layer.bias)
    return full


@both_dims
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_is_the_dense_layer_with_the_other_blocks_at_zero(dims: int, bias: bool) -> None:
    layer = BlockLinear(64, 48, row_block=16, kept=2, bias=bias)
    layer.columns.copy_(torch.tensor([[0, 3], [1, 2], [0, 1]]))
    x_BCS = torch.randn(2, 64, *(5, 3, 4)[:dims])
    expected = dense(layer, 64)(x_BCS.movedim(1, -1)).movedim(-1, 1)
    assert torch.allclose(layer(x_BCS), expected, atol=1e-6)


@both_dims
@pytest.mark.parametrize("name", IN_BLOCKS)
@pytest.mark.parametrize("norm", ["layer", "batch"])
@torch.no_grad()
def test_a_perceptron_that_keeps_all_blocks_is_the_dense_one(dims: int, name: str, norm: str) -> None:
    whole = CHANNELS[name](32, dims=dims, hidden=64, norm=norm).eval()
    form = CHANNELS[name](32, dims=dims, hidden=64, norm=norm, row_block=32, keep=1.0).eval()
    state = dict(whole.state_dict())
    for layer in ("expand", "project"):
        state[f"{layer}.weight_ROK"] = state.pop(f"{layer}.weight").flatten(1).unflatten(0, (-1, 32))
        state[f"{layer}.columns"] = form.get_submodule(layer).columns
    form.load_state_dict(state)
    x_BCS = torch.randn(2, 32, *(5, 3, 4)[:dims])
    assert torch.allclose(form(x_BCS), whole(x_BCS), atol=1e-5)


def test_fewer_blocks_are_fewer_weights_and_no_units_to_prune() -> None:
    whole = CHANNELS["mlp"](64, dims=2, hidden=128)
    form = CHANNELS["mlp"](64, dims=2, hidden=128, row_block=32, keep=0.25)
    count = [
        sum(p.numel() for name, p in part.named_parameters() if "weight" in name and p.ndim > 1)
        for part in (form, whole)
    ]
    assert count[0] == count[1] / 4
    assert form.groups() == {}
    assert set(whole.groups()) == {"hidden"}


@pytest.mark.parametrize("name", IN_BLOCKS)
@pytest.mark.parametrize(
    ("dim", "hidden", "row_block", "near"),
    [(32, 64, 48, "try 32"), (32, 64, 0, "try 32"), (24, 64, 8, "multiples of 16")],
)
def test_a_row_block_that_does_not_fit_is_refused(name: str, dim: int, hidden: int, row_block: int, near: str) -> None:
    with pytest.raises(ValueError, match=near) as refused:
        CHANNELS[name](dim, dims=2, hidden=hidden, row_block=row_block)
    assert name in str(refused.value)
    assert repr(row_block) in str(refused.value)


def test_entries_of_units_in_a_fused_layer() -> None:
    """Heads 0 and 2 of 3, width 2, in [q q q k k k v v v]."""
    axis = Axis("qkv", unit=2, repeats=3)
    assert axis.units(18) == 3
    assert axis.entries(3, torch.tensor([0, 2])).tolist() == [0, 1, 4, 5, 6, 7, 10, 11, 12, 13, 16, 17]

"""What attention mixers share, against the equations in float64, at numbers of keys on both sides of every switch."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medsearch.blocks.attention import MASKED, OffsetTable, Projections, SoftmaxProduct, attention_heads
from oracles import macs, parameter_count

DIM, HEADS, WIDTH = 24, 3, 8
FEW, MANY = 5, 2 * WIDTH + 1


def core(qk_dim: int | None = None, **knobs: object) -> SoftmaxProduct:
    torch.manual_seed(1)
    shape = attention_heads("x", DIM, HEADS, WIDTH, qk_dim, differential=bool(knobs.get("differential", False)))
    made = SoftmaxProduct("x", DIM, shape, **knobs)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def inputs(made: SoftmaxProduct, keys: int, *lead: int, queries: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    width = made.shape.qk_dim
    return tuple(torch.randn(*lead, HEADS, n, w) for n, w in ((queries, width), (keys, width), (keys, WIDTH)))


def expected(made: SoftmaxProduct, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    maps = 2 if made.differential else 1
    seen = []
    for q_part, k_part in zip(q.chunk(maps, -1), k.chunk(maps, -1), strict=True):
        scores = torch.einsum("...nd,...md->...nm", q_part, k_part) * q_part.shape[-1] ** -0.5
        weights = (scores if bias is None else scores + bias.double()).exp()
        seen.append(torch.einsum("...nm,...md->...nd", weights / weights.sum(-1, keepdim=True), v))
    if maps == 1:
        return seen[0]
    first, second = (
        (a.double() * b.double()).sum().exp()
        for a, b in ((made.lambda_q1, made.lambda_k1), (made.lambda_q2, made.lambda_k2))
    )
    y = seen[0] - (first - second + made.lambda_init) * seen[1]
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return y * made.gain.double() * (1 - made.lambda_init)


@pytest.mark.parametrize("keys", [FEW, MANY])
@pytest.mark.parametrize("qk_dim", [None, 2, 12])
@pytest.mark.parametrize("differential", [False, True])
def test_equals_the_softmax_written_out(differential, qk_dim, keys):
    made = core(qk_dim, differential=differential)
    q, k, v = inputs(made, keys, 2)
    bias = torch.randn(1, HEADS, 4, keys)
    with torch.no_grad():
        for added in (None, bias, bias[:, :1]):
            torch.testing.assert_close(
                made(q, k, v, added).double(), expected(made, q, k, v, added), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)], ids=str)
@pytest.mark.parametrize("learned", [False, True])
def test_training_has_the_values_and_gradients_of_the_softmax(learned, dtype, tolerance):
    made = core()
    q, k, v = (part.to(dtype).requires_grad_() for part in inputs(made, MANY, 2))
    bias = torch.randn(1, HEADS, 4, MANY).to(dtype).requires_grad_(learned)
    wanted = [q, k, v, bias][: 3 + learned]
    y, right = made(q, k, v, bias), expected(made, q, k, v, bias)
    torch.testing.assert_close(y.double(), right, rtol=tolerance, atol=tolerance)
    for seen, true in zip(
        torch.autograd.grad(y.double().square().sum(), wanted),
        torch.autograd.grad(right.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(seen.double(), true.double(), rtol=tolerance, atol=4 * tolerance)


def test_axes_in_front_of_the_heads_are_as_a_batch():
    made = core()
    q, k, v = inputs(made, 6, 2, 5)
    bias = torch.randn(5, 1, 4, 6)
    torch.testing.assert_close(made(q, k, v, bias).double(), expected(made, q, k, v, bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [None, (1, HEADS), (5, 1), (5, HEADS)])
def test_groups_see_the_keys_of_their_own(shape):
    made = core()
    q, k, v = (part.transpose(2, 3) for part in inputs(made, 6, 2, 5))
    bias = None if shape is None else torch.randn(*shape, 4, 6)
    y = made.grouped(q, k, v, bias)
    for g in range(5):
        alone = (part[:, g].transpose(1, 2) for part in (q, k, v))
        own = None if bias is None else bias[g % len(bias)]
        torch.testing.assert_close(y[:, g].double(), expected(made, *alone, own), rtol=1e-4, atol=1e-5)


def test_scores_equal_to_the_last_one_kept_are_kept():
    made = core(select=4, least=1)
    q, k, v = inputs(made, 8, 1)
    torch.testing.assert_close(made(q, torch.zeros_like(k), v), v.mean(-2, keepdim=True).expand(1, HEADS, 4, WIDTH))


def test_a_selection_counts_from_the_keys_that_are_offered():
    made = core(select=2, least=1)
    q, k, v = inputs(made, 9, 1)
    bias = torch.zeros(1, 1, 4, 9).index_fill(-1, torch.arange(4, 9), MASKED)
    few = made(q, k[..., :4, :], v[..., :4, :])
    torch.testing.assert_close(made(q, k, v, bias, offered=4), few)
    assert not torch.allclose(made(q, k, v, bias), few)


@pytest.mark.parametrize("keys", [FEW, MANY])
@pytest.mark.parametrize("select", [1, 3])
@pytest.mark.parametrize("qk_dim", [None, 2, 12])
@pytest.mark.parametrize("differential", [False, True])
def test_costs_what_it_says(differential, qk_dim, select, keys):
    made = core(qk_dim, differential=differential, select=select, least=2)
    assert parameter_count(made) == sum(parameter.numel() for parameter in made.parameters())
    with FlopCounterMode(display=False) as counter:
        made.to("meta")(*(part.to("meta") for part in inputs(made, keys, 1)))
    assert counter.get_total_flops() == 2 * macs(made, 4, keys)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("switches", [{}, {"bias": False}, {"gate": True, "local": 3}])
def test_projections_have_as_many_weights_as_they_say(switches, dims):
    made = Projections("x", DIM, attention_heads("x", DIM, HEADS, WIDTH, 2), dims=dims, **switches)
    assert parameter_count(made) == sum(parameter.numel() for parameter in made.parameters())


def test_a_table_has_an_entry_for_every_offset():
    table = OffsetTable((3, 2), 4)
    assert parameter_count(table) == table.table.numel() == 5 * 3 * 4
    offsets = [torch.tensor([[0, -2], [2, 1]]), torch.tensor([[1, 0, -1]])]
    entries = table.table.reshape(5, 3, 4)
    bias_HTM = table(offsets)
    for (t, m), (one, other) in zip(
        product(range(2), range(6)),
        ((a, b) for row in offsets[0] for a, b in product(row, offsets[1][0])),
        strict=True,
    ):
        assert torch.equal(bias_HTM[:, t, m], entries[one + 2, other + 1])

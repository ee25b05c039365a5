"""What operators take inside: measured, remembered, asked elsewhere, and bounded where it cannot be had."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medsearch.backbones import Interface
from medsearch.core.children import HERE, ChildDied
from medsearch.core.config import parse_yaml
from medsearch.core.deaths import Deaths
from medsearch.measurement.memory.bounds import most
from medsearch.measurement.memory.operators import Like, Operator, isolated
from medsearch.measurement.memory.step import StepMemory
from medsearch.measurement.memory.trace import StorageWatch
from medsearch.measurement.memory.workspace import Workspaces, allocated_peak, run_operator
from medsearch.spaces import read_space
from medsearch.tasks import make_task

SPACES = Path(__file__).parents[3] / "spaces"
CONVOLUTION = torch.ops.aten.convolution.default
X, WEIGHT = torch.rand(4, 8, 6, 6), torch.rand(8, 8, 3, 3)
ARGUMENTS = (X, WEIGHT, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)


def test_what_an_operator_takes_inside_is_measured() -> None:
    real = allocated_peak(lambda: CONVOLUTION(*ARGUMENTS), torch.device("cpu"))
    spaces = Workspaces()
    assert spaces.peak(CONVOLUTION, ARGUMENTS, {}, None) == real >= 4 * 8 * 36 * 4
    assert spaces.peak(torch.ops.aten.add.Tensor, (X, X), {}, None) == 0  # takes nothing but its result
    # Tensors in 16 and in 32 bits are added up in 32: the result and a copy of the first.
    assert spaces.peak(torch.ops.aten.add.Tensor, (X.bfloat16(), X), {}, None) == 2 * 4 * X.numel()


def test_an_operator_is_named_sent_and_made_again() -> None:
    images = X.contiguous(memory_format=torch.channels_last)
    operator = Operator.of(CONVOLUTION, (images, *ARGUMENTS[1:]), {}, device="cpu")
    assert str(operator) == (
        "aten::convolution.default(float32[4 8 6 6; 288 1 48 8], float32[8 8 3 3; 72 9 3 1], None, (1, 1), (1, 1), "
        f"(1, 1), False, (0, 0), 1) on cpu, {torch.get_num_threads()} threads"
    )
    sent = pickle.loads(pickle.dumps(operator))
    assert sent == operator and hash(sent) == hash(operator)
    result = sent.on_zeros()()
    assert result.shape == images.shape and not result.any()
    assert run_operator(sent) == run_operator(operator) > 0


def test_lists_of_tensors_and_arguments_by_name_are_passed_on() -> None:
    adamw = torch.ops.aten._fused_adamw_.default
    lists = [[torch.ones(3, 5), torch.ones(2)] for _ in range(4)]
    steps = [torch.ones(()), torch.ones(())]
    names = {
        "lr": 0.1,
        "beta1": 0.9,
        "beta2": 0.9,
        "weight_decay": 0.1,
        "eps": 1e-8,
        "amsgrad": False,
        "maximize": False,
    }
    operator = Operator.of(adamw, (*lists, [], steps), names, device="cpu")
    assert len(operator.tensors) == 10 and operator.name == "aten::_fused_adamw_.default"
    operator.on_zeros()()
    assert all(torch.equal(x, torch.ones_like(x)) for x in tree_leaves(lists))  # nothing happened to the originals


def test_what_torch_refuses_takes_nothing() -> None:
    odd = Operator.of(torch.ops.aten.mm.default, (torch.ones(2, 3), torch.ones(2, 3)), {}, device="cpu")
    assert run_operator(odd) == 0


def test_what_is_known_is_plain_data_and_not_measured_again() -> None:
    asked: list[Operator] = []

    def measure(operator: Operator) -> int:
        asked.append(operator)
        return 77

    spaces = Workspaces(measure=measure)
    assert spaces.peak(CONVOLUTION, ARGUMENTS, {}, None) == spaces.peak(CONVOLUTION, ARGUMENTS, {}, None) == 77
    assert spaces.known == {str(asked[0]): 77} and len(asked) == 1
    later = Workspaces(known=spaces.known, measure=measure)
    assert later.peak(CONVOLUTION, ARGUMENTS, {}, None) == 77 and len(asked) == 1
    later.known["other"] = 1
    assert "other" not in spaces.known


def test_where_measuring_dies_the_bound_is_taken_and_nobody_asks_again() -> None:
    asked: list[Operator] = []

    def dies(operator: Operator) -> int:
        asked.append(operator)
        raise ChildDied("probing an operator", "SIGFPE")

    spaces, result = Workspaces(measure=dies), CONVOLUTION(*ARGUMENTS)
    found = spaces.peak(CONVOLUTION, ARGUMENTS, {}, result)
    assert found == spaces.peak(CONVOLUTION, ARGUMENTS, {}, result) == most(asked[0], [Like.of(result)])
    assert len(asked) == 1 and list(spaces.died) == [str(asked[0])] and spaces.known == {}
    assert found >= run_operator(asked[0])


def test_other_errors_of_measuring_are_ours() -> None:
    def broken(operator: Operator) -> int:
        raise AssertionError

    with pytest.raises(AssertionError):
        Workspaces(measure=broken).peak(CONVOLUTION, ARGUMENTS, {}, None)


class Bounded(Workspaces):
    """Notes what every operator took beside its bound."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: dict[str, tuple[int, int]] = {}

    def peak(self, func: Any, args: Any, kwargs: Any, result: Any) -> int:
        found = super().peak(func, args, kwargs, result)
        operator = Operator.of(func, args, kwargs, device=self.device)
        if str(operator) in self.known:
            results = [Like.of(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self.pairs[str(operator)] = found, most(operator, results)
        return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "task", "size"),
    [("hybrid2d-tiny", "segmentation", (20, 12)), ("hybrid3d-tiny", "classification", (8, 6, 10))],
)
def test_no_operator_of_a_training_step_takes_more_than_its_bound(
    name: str, task: str, size: tuple[int, ...], precision: str
) -> None:
    space = read_space(parse_yaml((SPACES / f"{name}.yaml").read_text(), name).value, name, task=task)
    loss, interface = make_task(task, outputs=3, dims=len(size)).loss, Interface(task=task, channels=1, outputs=3)
    spaces = Bounded()
    steps = StepMemory(interface, size, batches=(3, 3), loss=loss, workspaces=spaces)
    steps.chain(space.sample(random.Random(name)), batch=3, precision=precision)
    assert len(spaces.pairs) > 50 and not spaces.died
    beyond = {key: pair for key, pair in spaces.pairs.items() if pair[0] > pair[1]}
    assert not beyond
    refused = [key for key, (took, _) in spaces.pairs.items() if took == 0 and "_fused_adamw_" not in key]
    assert not refused  # traces are such that every operator in them can be run


def test_no_optimizer_takes_more_than_its_bound() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 40, 3), torch.nn.Conv2d(40, 8, 1), torch.nn.Conv2d(8, 8, 7, groups=8)
    )
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, spaces = torch.optim.AdamW(model.parameters(), fused=True), Bounded()
    for _ in range(2):
        model(torch.rand(2, 3, 16, 16)).sum().backward()
        with StorageWatch(workspaces=spaces):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert any("_fused_adamw_" in key for key in spaces.pairs)
    assert all(took <= bound for took, bound in spaces.pairs.values())


def test_what_was_measured_is_kept_beside_what_others_have_found(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "operators.json"
    one, other = Workspaces(known={"a": 1}), Workspaces(known={"b": 2})
    one.save(file)
    other.save(file)
    assert other.known == {"a": 1, "b": 2}
    third = Workspaces()
    third.load(file)
    assert third.known == other.known
    file.write_text("{")
    third.load(file)
    assert third.known == other.known


def test_after_three_faults_in_16_bits_no_other_shape_is_tried(tmp_path: Path) -> None:
    """A hang says nothing of other shapes, and in 32 bits each is asked for itself, since there is nothing else."""
    tried: list[Operator] = []

    def die(operator: Operator) -> int:
        tried.append(operator)
        raise ChildDied("probing an operator", "SIGFPE" if operator.args[0].shape[0] > 3 else "no answer within 2 s")

    deaths = Deaths("here", run=tmp_path / "deaths.jsonl")
    measure = isolated(die, HERE, deaths)
    for dtype, runs in ((torch.bfloat16, 3 + 3), (torch.float32, 9)):
        tried.clear()
        for rows in range(1, 10):
            operator = Operator.of(torch.ops.aten.mm.default, (torch.ones(rows, 2, dtype=dtype),) * 2, {}, device="cpu")
            with pytest.raises(ChildDied, match="SIGFPE" if rows > 3 else "no answer"):
                measure(operator)
        assert len(tried) == runs
    assert deaths.of("aten::mm.default of bfloat16, whatever the shapes")
    again = isolated(die, HERE, Deaths("here", run=tmp_path / "deaths.jsonl"))
    tried.clear()
    with pytest.raises(ChildDied):
        again(Operator.of(torch.ops.aten.mm.default, (torch.ones(99, 2, dtype=torch.bfloat16),) * 2, {}, device="cpu"))
    assert not tried

"""Two processes on the CPU (gloo) learn what one learns from the same batches."""

from __future__ import annotations

import pytest
import torch
from shared_run import refuse, run
from torch import nn

from vqi.platform.errors import BadInput
from vqi.training.distributed import Group, launch


@pytest.mark.slow
def test_two_processes_give_the_result_of_one() -> None:
    alone, history = run(Group(), 9)
    together, shared_history = launch(2, run, 9)
    # Sums of gradients and of batch statistics are taken in another order: float32 rounding, carried through nine steps
    # of Adam.
    for name, value in alone.items():
        torch.testing.assert_close(
            together[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert [point["loss"] for point in shared_history] == pytest.approx([point["loss"] for point in history], rel=1e-4)


@pytest.mark.slow
def test_the_message_of_one_process_reaches_the_person() -> None:
    with pytest.raises(BadInput, match=r"^The second process does not like it\.$"):
        launch(2, refuse)


@pytest.mark.parametrize("images", [2, 3, 7, 16])
def test_the_parts_of_a_batch_are_the_batch(images: int) -> None:
    parts = [range(images)[Group(rank, 2).part(images)] for rank in range(2)]
    assert [number for part in parts for number in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_alone_changes_no_gradient() -> None:
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()  # type: ignore[union-attr]
    Group().sum_gradients(layer.parameters())
    assert torch.equal(layer.weight.grad, before)  # type: ignore[arg-type]

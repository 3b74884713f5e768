"""Batches made ahead: in order, by threads that leave the step its cores."""

from __future__ import annotations

import pytest
import torch

from vqi.training.prefetching import Prefetcher


def test_batches_come_in_order_whichever_is_ready_first() -> None:
    assert list(Prefetcher(lambda step: step * step, 3, 40, depth=5, threads=3)) == [
        step * step for step in range(3, 40)
    ]
    assert list(Prefetcher(lambda step: step, 3, 3)) == []


def test_its_threads_compute_with_one_each_and_the_step_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads = [
            (made, torch.get_num_threads())
            for made in Prefetcher(lambda step: (torch.get_num_threads(), torch.is_grad_enabled()), 0, 8)
        ]
        assert threads == [((1, False), 2)] * 8
    finally:
        torch.set_num_threads(before)


def test_what_making_raises_reaches_the_step_that_needs_it() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise OSError("gone")
        return step

    prefetcher = iter(Prefetcher(make, 0, 9))
    assert [next(prefetcher), next(prefetcher)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(prefetcher)

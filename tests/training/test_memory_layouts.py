"""A fused optimiser moves each weight by its own gradient, however gradients and moments lie in memory."""

from __future__ import annotations

import pytest
import torch

from vqi.training.checkpoints import load_optimiser, optimiser_state
from vqi.training.layouts import in_layout_of, lay_out_gradients

SHAPE = (8, 4, 3, 3)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def weights(layout: torch.memory_format) -> torch.nn.Parameter:
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    return torch.nn.Parameter(values.to(memory_format=layout))


def gradient(step: int, layout: torch.memory_format) -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(step)).to(memory_format=layout)


def stepped(
    parameter: torch.nn.Parameter, optimiser: torch.optim.Optimizer, steps: range, layout: torch.memory_format
) -> None:
    for step in steps:
        parameter.grad = gradient(step, layout)
        lay_out_gradients(optimiser)
        optimiser.step()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", LAYOUTS)
def test_a_gradient_of_another_layout_is_converted(layout: torch.memory_format, other: torch.memory_format) -> None:
    fused, plain = weights(layout), weights(torch.contiguous_format)
    stepped(fused, torch.optim.Adam([fused], lr=0.1, fused=True), range(3), other)
    stepped(plain, torch.optim.Adam([plain], lr=0.1, foreach=False), range(3), torch.contiguous_format)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_moments_from_a_file_have_the_layout_of_their_parameter(layout: torch.memory_format) -> None:
    whole, resumed = weights(layout), weights(layout)
    optimiser, again = (torch.optim.Adam([one], lr=0.1, fused=True) for one in (whole, resumed))
    stepped(whole, optimiser, range(3), layout)
    moments, plain = optimiser_state(optimiser)
    kept = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in moments.items()
    }  # as safetensors keeps them
    with torch.no_grad():
        resumed.copy_(whole)
    load_optimiser(again, kept, plain)
    stepped(whole, optimiser, range(3, 6), layout)
    stepped(resumed, again, range(3, 6), layout)
    assert torch.equal(whole, resumed)


def test_what_lies_right_is_not_copied() -> None:
    parameter = weights(torch.channels_last)
    same, number = gradient(0, torch.channels_last), torch.tensor(3.0)
    assert in_layout_of(parameter, same) is same
    assert in_layout_of(parameter, number) is number

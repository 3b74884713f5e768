"""Gradients and moments in the memory layout of their parameters.

torch's fused optimisers on a CPU go through the memory of a parameter, its gradient and its moments side by side and
never look at strides: where one of them is contiguous and another channels-last, every weight is moved by another one's
gradient, and nothing says so (torch 2.13). Autograd keeps gradients in their parameter's layout by itself; a file does
not keep a layout at all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def in_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` where it is of another shape (a number) or already has the layout of `parameter`; else a copy that is."""
    if value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def lay_out_gradients(optimiser: torch.optim.Optimizer) -> None:
    """Before a step: every gradient in its parameter's layout."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = in_layout_of(parameter, parameter.grad)

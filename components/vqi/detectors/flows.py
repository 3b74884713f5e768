"""What the flow methods share: invertible networks of FrEIA's blocks, made from a seed and exact in any precision.

A flow maps features x to latents z of the same shape and gives log|det dz/dx|; with z ~ N(0, I), log p(x) = log p(z) +
log|det dz/dx|.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from torch import Tensor, nn


class Coefficients(nn.Sequential):
    """The subnetwork of a coupling block. Its scales and shifts are float32 whatever precision its layers run in:
    log-determinants add them up."""

    def forward(self, values: Tensor) -> Tensor:
        """What the layers give, as float32."""
        return super().forward(values).float()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch and NumPy (which FrEIA draws its permutations from) draw from `seed`; outside nothing has been
    drawn."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


def empty_flow(*shape: int) -> SequenceINN:
    """A flow without blocks, of values of `shape` without the batch: FrEIA's sequence, which `append` adds blocks
    to."""
    return SequenceINN(*shape)


class Coupling(AllInOneBlock):
    """FrEIA's affine coupling, a global scale and shift for each channel, and a random permutation of the channels; as
    exact, and cheaper to train.

    Its two costs beside the subnetwork: FrEIA multiplies by the permutation's matrix (C² products a position, and their
    rounding), and the gradients of its slices are tensors full of zeros, added up.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        order = self.w_perm.flatten(1).argmax(dim=1)
        del self.w_perm, self.w_perm_inv
        self.register_buffer("w_perm", order)
        self.register_buffer("w_perm_inv", order.argsort())
        self.permute_function = self._pick
        self.global_scale_activation = _global_scale

    def _pick(self, values: Tensor, channels: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and values.requires_grad):
            return values.index_select(1, channels)
        return _Picked.apply(values, channels, self.w_perm_inv if channels is self.w_perm else self.w_perm)

    def _affine(self, x: Tensor, a: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        """[N, c, ...] values and their [N, 2c, ...] coefficients -> the coupled values and log|det| [N]."""
        scale, shift = torch.split(0.1 * a, x.shape[1], dim=1)
        log_scale = self.clamp * torch.tanh(scale)
        log_determinant = log_scale.sum(dim=self.sum_dims)
        if rev:
            return (x - shift) * torch.exp(-log_scale), -log_determinant
        return x * torch.exp(log_scale) + shift, log_determinant


def _global_scale(values: Tensor) -> Tensor:
    """FrEIA's scale of each channel, .1 Softplus(beta=.5), to the bit.

    Written out, because OpenVINO's conversion from torch takes every beta for 1.
    """
    return 0.1 * (F.softplus(0.5 * values) / 0.5)


class _Picked(torch.autograd.Function):
    """The channels of [N, C, ...] in another order; the gradient is put back by the inverse order (index_select's own
    adds it into zeros)."""

    @staticmethod
    def forward(context: Any, values: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        context.save_for_backward(inverse)
        return values.index_select(1, order)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = context.saved_tensors
        return gradients[0].index_select(1, inverse), None, None


def append_affine_coupling(
    flow: SequenceINN, subnet: Callable[[int, int], nn.Module], clamp: float, condition: int = 0
) -> None:
    """Append a `Coupling` to the flow.

    `subnet` makes the coupling's subnetwork from its channels in and out; log scales stay within +-`clamp`; `condition`
    channels are given beside.
    """
    conditioning = {"cond": 0, "cond_shape": (condition, *flow.shapes[-1][1:])} if condition else {}
    flow.append(Coupling, subnet_constructor=subnet, affine_clamping=clamp, **conditioning)

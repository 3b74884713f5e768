"""What the flow methods share: invertible networks of FrEIA's blocks, made from a seed and exact in any precision.

A flow maps features x to latents z of the same shape and gives log|det dz/dx|; with z ~ N(0, I), log p(x) = log p(z) + log|det dz/dx|.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from torch import Tensor, nn


class Coefficients(nn.Sequential):
    """The subnetwork of a coupling block. Its scales and shifts are float32 whatever precision its layers run in: log-determinants add them up."""

    def forward(self, values: Tensor) -> Tensor:
        """What the layers give, as float32."""
        return super().forward(values).float()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch and NumPy (which FrEIA draws its permutations from) draw from `seed`; outside nothing has been drawn."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


def empty_flow(*shape: int) -> SequenceINN:
    """A flow without blocks, of values of `shape` without the batch: FrEIA's sequence, which `append` adds blocks to."""
    return SequenceINN(*shape)


def append_affine_coupling(flow: SequenceINN, subnet: Callable[[int, int], nn.Module], clamp: float, condition: int = 0) -> None:
    """Append an affine coupling, a global scale and shift for each channel, and a random permutation of the channels: FrEIA's AllInOneBlock.

    `subnet` makes the coupling's subnetwork from its channels in and out; log scales stay within +-`clamp`; `condition` channels are given beside.
    """
    given = {"cond": 0, "cond_shape": (condition, *flow.shapes[-1][1:])} if condition else {}
    flow.append(AllInOneBlock, subnet_constructor=subnet, affine_clamping=clamp, **given)
    block = flow[-1]
    # FrEIA multiplies by the permutation's matrix: to pick the channels is the same, without its C² products a position and their rounding.
    order = block.w_perm.flatten(1).argmax(dim=1)
    del block.w_perm, block.w_perm_inv
    block.register_buffer("w_perm", order)
    block.register_buffer("w_perm_inv", order.argsort())
    block.permute_function = _picked


def _picked(values: Tensor, channels: Tensor) -> Tensor:
    return values.index_select(1, channels)

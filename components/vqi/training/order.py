"""Which images a step sees, and its random numbers: functions of the seed and the step alone, so that a run resumes
anywhere without any state."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch


def step_seed(seed: int, purpose: str, step: int) -> int:
    """A seed of its own for every purpose and step: 63 bits of BLAKE2."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(step_seed(seed, purpose, step))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps that one pass takes. A last batch of one image is left out where batches are larger: batch normalisation
    has no variance for it."""
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or (rest == 1 and batch_size == 1) or full == 0)


def batch_numbers(images: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The numbers of the images of step `step` (from 0): every epoch is a permutation of its own."""
    epoch, batch = divmod(step, steps_per_epoch(images, batch_size))
    return list(_permutation(images, seed, epoch)[batch * batch_size : (batch + 1) * batch_size])


@lru_cache(maxsize=4)
def _permutation(images: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(torch.randperm(images, generator=generator(seed, "order", epoch)).tolist())

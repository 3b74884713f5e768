"""Gradient noise, for a whole batch at once: Perlin, "An image synthesizer", SIGGRAPH 1985; "Improving noise", 2002
(the quintic)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def perlin_noise(size: tuple[int, int], cells: Tensor, random: torch.Generator) -> Tensor:
    """One noise an image, about [-1, 1]: `cells` int64 [N, 2], how many lattice cells an image is high and wide ->
    float32 [N, H, W].

    At (y, x), in cells, noise is the sum over lattice points (a, b) of k(y - a) k(x - b) g_ab . (y - a, x - b): g a
    random unit vector, k the kernel that falls from 1 to 0 within a cell. It is separable, so that it is four products
    of matrices, whatever the lattices.
    """
    points = int(cells.max()) + 1
    angles = 2 * math.pi * torch.rand(len(cells), points, points, generator=random)
    (down, pulled_down), (right, pulled_right) = (
        _interpolation(length, cells[:, axis], points) for axis, length in enumerate(size)
    )
    vertical = pulled_down @ angles.sin() @ right.mT
    horizontal = down @ angles.cos() @ pulled_right.mT
    return math.sqrt(2) * (vertical + horizontal)


def _interpolation(length: int, cells: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """k(t) and t k(t) of t, the distances of every pixel from every lattice point: two of float32 [N, length,
    points]."""
    position = torch.arange(length)[None, :, None] * (cells[:, None, None] / length)
    distance = position - torch.arange(points)
    near = 1 - distance.abs().clamp(max=1)
    kernel = near**3 * (near * (6 * near - 15) + 10)
    return kernel, kernel * distance

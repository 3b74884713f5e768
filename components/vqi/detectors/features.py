"""Feature maps of several layers on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def finest_grid(shapes: Mapping[str, tuple[int, int, int]]) -> tuple[int, int]:
    """Height and width of the layer with the most positions, of `shapes` (channels, height, width)."""
    return max(((height, width) for _, height, width in shapes.values()), key=lambda grid: grid[0] * grid[1])


def concatenated(features: Iterable[Tensor], grid: tuple[int, int]) -> Tensor:
    """Feature maps float32 [N, C_i, h_i, w_i] brought to `grid` bilinearly and concatenated: float32 [N, sum of C_i, h, w]."""
    return torch.cat([f if f.shape[2:] == grid else F.interpolate(f, size=grid, mode="bilinear", align_corners=False) for f in features], dim=1)

"""From a coarse grid of distances to an anomaly map at the input's size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MapUpsampling(nn.Module):
    """Bilinear interpolation to the input's size, then a Gaussian of `sigma` pixels (reflected at the borders).

    A value of the grid lies in the middle of its cell, or, with `corners`, the outermost ones lie on the outermost pixels.

    Both are linear and separable, so together they are one matrix an axis: map = A grid Bᵀ. The matrices are made once, in float64; a map costs two
    small products and cannot depend on the batch it is in.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], sigma: float, corners: bool = False) -> None:
        super().__init__()
        self.register_buffer("rows", smoothed_interpolation(grid[0], size[0], sigma, corners), persistent=False)
        self.register_buffer("columns", smoothed_interpolation(grid[1], size[1], sigma, corners), persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """float32 [N, h, w] -> float32 [N, H, W]."""
        return self.rows @ grid @ self.columns.T


def smoothed_interpolation(length: int, size: int, sigma: float, corners: bool = False) -> Tensor:
    """The matrix, float32 [size, length], that interpolates `length` values to `size` and smooths them: every row sums to one.

    The Gaussian is cut at four sigma, as SciPy's is, and at the border where the axis is shorter.
    """
    interpolation = F.interpolate(torch.eye(length, dtype=torch.float64)[None], size=size, mode="linear", align_corners=corners)[0].T
    if sigma > 0:
        radius = min(int(4 * sigma + 0.5), size - 1)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        padded = F.pad(interpolation.T[None], (radius, radius), mode="reflect")[0]
        interpolation = (padded.unfold(1, 2 * radius + 1, 1) @ (kernel / kernel.sum())).T
    return interpolation.to(torch.float32).contiguous()


# The share of an anomaly map that its image score is the mean of, where that is asked for.
TOP_SHARE = 0.005


def image_score(anomaly_map: Tensor, kind: str) -> Tensor:
    """One score an image from its map: float32 [N, H, W] -> [N].

    `max`: the largest value, as most papers have it; `top`: the mean of the largest half percent of pixels, so that no single one decides.
    """
    values = anomaly_map.flatten(1)
    if kind == "max":
        return values.amax(dim=1)
    return values.topk(max(1, round(TOP_SHARE * values.shape[1])), dim=1).values.mean(dim=1)

"""From a coarse grid of distances to an anomaly map at the input's size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.grids import Cells, Grid, interpolation


class MapUpsampling(nn.Module):
    """Bilinear interpolation to the input's size, then a Gaussian of `sigma` pixels (reflected at the borders).

    A value of the grid lies in the middle of its cell; of a grid that is given by its shape alone the cells fill the
    image.

    Both are linear and separable, so together they are one matrix an axis: map = A grid Bᵀ. The matrices are made once,
    in float64; a map costs two small products and cannot depend on the batch it is in.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: Grid | tuple[int, int], size: tuple[int, int], sigma: float) -> None:
        super().__init__()
        self.register_buffer("rows", smoothed_interpolation(grid[0], size[0], sigma), persistent=False)
        self.register_buffer("columns", smoothed_interpolation(grid[1], size[1], sigma), persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """float32 [N, h, w] -> float32 [N, H, W]."""
        return self.rows @ grid @ self.columns.T


def smoothed_interpolation(cells: Cells | int, size: int, sigma: float) -> Tensor:
    """The matrix, float32 [size, cells], that interpolates the values of `cells` to `size` pixels and smooths them.

    Every row sums to one; a number in place of `cells` stands for as many that fill the axis.

    The Gaussian is cut at four sigma, as SciPy's is, and at the border where the axis is shorter.
    """
    cells = cells if isinstance(cells, Cells) else Cells.filling(cells, size)
    matrix = interpolation(cells, Cells(size, 1.0).centres())
    if sigma > 0:
        radius = min(int(4 * sigma + 0.5), size - 1)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        padded = F.pad(matrix.T[None], (radius, radius), mode="reflect")[0]
        matrix = (padded.unfold(1, 2 * radius + 1, 1) @ (kernel / kernel.sum())).T
    return matrix.to(torch.float32).contiguous()


# The share of an anomaly map that its image score is the mean of, where that is asked for.
TOP_SHARE = 0.005


def image_score(anomaly_map: Tensor, kind: str) -> Tensor:
    """One score an image from its map: float32 [N, H, W] -> [N].

    `max`: the largest value, as most papers have it; `top`: the mean of the largest half percent of pixels, so that no
    single one decides.
    """
    values = anomaly_map.flatten(1)
    if kind == "max":
        return values.amax(dim=1)
    # int: where a graph is traced, a size is a tensor.
    return values.topk(max(1, round(TOP_SHARE * int(values.shape[1]))), dim=1).values.mean(dim=1)

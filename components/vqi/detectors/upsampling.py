"""From a coarse grid of distances to an anomaly map at the input's size. Needs no torch."""

from __future__ import annotations

import numpy as np

from vqi.detectors.arrays import Array
from vqi.detectors.grids import Cells, Grid, interpolation


class Upsampling:
    """Bilinear interpolation to the input's size, then a Gaussian of `sigma` pixels (reflected at the borders).

    A value of the grid lies in the middle of its cell; of a grid that is given by its shape alone the cells fill the
    image.

    Both are linear and separable, so together they are one matrix an axis: map = A grid Bᵀ. The matrices are made once,
    in float64; a map costs two small products and cannot depend on the batch it is in.
    """

    rows: Array
    columns: Array

    def __init__(self, grid: Grid | tuple[int, int], size: tuple[int, int], sigma: float) -> None:
        self.rows, self.columns = matrices(grid, size, sigma)

    def __call__(self, grid: Array) -> Array:
        """float32 [N, h, w] -> float32 [N, H, W]."""
        return self.rows @ grid @ self.columns.T


def matrices(grid: Grid | tuple[int, int], size: tuple[int, int], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Of rows and columns."""
    return smoothed_interpolation(grid[0], size[0], sigma), smoothed_interpolation(grid[1], size[1], sigma)


def smoothed_interpolation(cells: Cells | int, size: int, sigma: float) -> np.ndarray:
    """The matrix, float32 [size, cells], that interpolates the values of `cells` to `size` pixels and smooths them.

    Every row sums to one; a number in place of `cells` stands for as many that fill the axis.

    The Gaussian is cut at four sigma, as SciPy's is, and at the border where the axis is shorter.
    """
    cells = cells if isinstance(cells, Cells) else Cells.filling(cells, size)
    matrix = interpolation(cells, Cells(size, 1.0).centres())
    if sigma > 0:
        radius = min(int(4 * sigma + 0.5), size - 1)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1, dtype=np.float64) / sigma) ** 2)
        padded = np.pad(matrix, ((radius, radius), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=0)
        matrix = windows @ (kernel / kernel.sum())
    return np.ascontiguousarray(matrix, dtype=np.float32)

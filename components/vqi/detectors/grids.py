"""Where the positions of a feature map lie in the image, and what brings values from one grid to another.

Coordinates are those of `vqi.dataset.geometry`: pixel edges, the centre of the first pixel at 0.5. A position stands
for a cell of as many pixels as the network's stride, whatever the image's size: the 17 positions of a network of stride
16 are cells of 16 pixels at 257 pixels too, and the last one reaches beyond the border. Cells stretched or squeezed to
fill the image exactly would put a defect up to a whole cell beside where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Cells:
    """`count` cells along an axis, each `pitch` pixels long, the first of which begins at the coordinate `start`."""

    count: int
    pitch: float
    start: float = 0.0

    @classmethod
    def filling(cls, count: int, size: float) -> Cells:
        """`count` cells that fill an axis of `size` pixels."""
        return cls(count, size / count)

    @classmethod
    def on_corners(cls, count: int, size: int) -> Cells:
        """Cells whose outermost centres are those of the outermost of `size` pixels."""
        if count == 1:  # torch's align_corners has a single value everywhere
            return cls.filling(count, size)
        pitch = (size - 1) / (count - 1)
        return cls(count, pitch, 0.5 - pitch / 2)

    @classmethod
    def of_stride(cls, count: int, stride: float, size: int) -> Cells:
        """The cells of a network of that `stride` (0 = the network has none: its positions fill the image).

        A network that pads has its first cell at the border, and the last one may reach beyond it or fall short, by
        less than a cell. One that does not pad lacks more, as much on either side.
        """
        if stride <= 0:
            return cls.filling(count, size)
        missing = size - count * stride
        return cls(count, stride, 0.0 if abs(missing) < stride else missing / 2)

    @property
    def span(self) -> tuple[float, float]:
        """Where the first cell begins and the last one ends."""
        return self.start, self.start + self.count * self.pitch

    def regrouped(self, count: int) -> Cells:
        """The same span in `count` cells."""
        return Cells(count, self.pitch * self.count / count, self.start)

    def scaled(self, factor: float) -> Cells:
        """The same cells where the axis is `factor` times as long."""
        return Cells(self.count, self.pitch * factor, self.start * factor)

    def centres(self) -> np.ndarray:
        """float64 [count]."""
        centres: np.ndarray = self.start + self.pitch * (np.arange(self.count, dtype=np.float64) + 0.5)
        return centres


class Grid(NamedTuple):
    """The cells of a feature map."""

    rows: Cells
    columns: Cells

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.rows.count, self.columns.count


def finest(grids: list[Grid]) -> Grid:
    """The one with the most positions."""
    return max(grids, key=lambda grid: grid.shape[0] * grid.shape[1])


def interpolation(cells: Cells, at: np.ndarray, kind: str = "bilinear") -> np.ndarray:
    """The matrix, float64 [len(at), cells.count], that takes values of cells to coordinates. Every row sums to one.

    `kind`: bilinear between centres, and beyond the outermost ones their value; nearest, the value of the cell that a
    coordinate lies in.
    """
    position = (at - cells.start) / cells.pitch - 0.5
    identity = np.eye(cells.count)
    if kind == "nearest":
        return identity[np.floor(position + 0.5).astype(np.int64).clip(0, cells.count - 1)]
    position = position.clip(0, cells.count - 1)
    low = np.floor(position).astype(np.int64)
    share = (position - low)[:, None]
    matrix: np.ndarray = (1 - share) * identity[low] + share * identity[(low + 1).clip(max=cells.count - 1)]
    return matrix


def averaging(length: int, count: int) -> np.ndarray:
    """The matrix, float64 [count, length], that averages `length` values over `count` equal parts of the axis.

    A value that lies across the border of two parts counts in each by the share that lies there: every value counts as
    much as every other.
    """
    edges = np.arange(count + 1, dtype=np.float64) * length / count
    values = np.arange(length, dtype=np.float64)
    begins, ends = np.maximum(edges[:-1, None], values), np.minimum(edges[1:, None], values + 1)
    return (ends - begins).clip(min=0) * count / length

"""Tiles: a photograph too large for one look is cut into overlapping pieces, and their maps become one map.

Every photograph of a set is resized to one size, so all are cut alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Tiling:
    """Tiles of `tile` (height, width) that cover `size` (height, width), neighbours sharing at least the share
    `overlap` of a tile.

    They are spread evenly: the first begins at the edge and the last ends there, so that none needs padding. Where two
    meet, each map counts for less the nearer the tile's own edge is, so that no edge shows.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: float

    @cached_property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """Top and left of every tile, row by row."""
        rows, columns = (self._starts(axis) for axis in (0, 1))
        return tuple((top, left) for top in rows for left in columns)

    def __len__(self) -> int:
        return self._count(0) * self._count(1)

    def _count(self, axis: int) -> int:
        tile = self.tile[axis]
        return 1 + -(-(self.size[axis] - tile) // max(1, tile - round(self.overlap * tile)))

    def _starts(self, axis: int) -> list[int]:
        left, count = self.size[axis] - self.tile[axis], self._count(axis)
        return [round(number * left / max(1, count - 1)) for number in range(count)]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The tiles of [H, W, ...]: [T, h, w, ...]."""
        return np.stack([self.cut_one(image, number) for number in range(len(self))])

    def cut_one(self, image: np.ndarray, number: int) -> np.ndarray:
        """Tile `number` of [H, W, ...], without a copy: [h, w, ...]."""
        top, left = self.corners[number]
        return image[top : top + self.tile[0], left : left + self.tile[1]]

    def most_marked(self, mask: np.ndarray | None) -> int:
        """The number of the tile with the most of a mask, bool [H, W]; the middle one where nothing is marked."""
        marked = [0] if mask is None else [int(self.cut_one(mask, number).sum()) for number in range(len(self))]
        return int(np.argmax(marked)) if max(marked) else len(self) // 2

    @cached_property
    def _weight(self) -> np.ndarray:
        """What a pixel of a tile counts, float32 [h, w]: rising linearly from the edge over what neighbours share."""
        axes = []
        for axis in (0, 1):
            starts, tile = self._starts(axis), self.tile[axis]
            steps = [later - earlier for earlier, later in itertools.pairwise(starts)]
            ramp = max(1, tile - max(steps, default=tile))
            distance = np.arange(tile, dtype=np.float32) + 0.5
            axes.append(np.minimum(1, np.minimum(distance, distance[::-1]) / ramp))
        return np.outer(*axes).astype(np.float32)

    @cached_property
    def _total(self) -> np.ndarray:
        """The sum of all weights, float32 [H, W]."""
        total = np.zeros(self.size, dtype=np.float32)
        for number in range(len(self)):
            self.cut_one(total, number)[...] += self._weight
        return total

    def blend(self, maps: Iterable[np.ndarray]) -> np.ndarray:
        """One map of the photograph from those of its tiles in order, float32 [T, h, w] -> float32 [H, W]: the mean of
        the tiles at a pixel, weighted.
        """
        whole = np.zeros(self.size, dtype=np.float32)
        for number, values in enumerate(maps):
            self.cut_one(whole, number)[...] += self._weight * values
        return whole / self._total


def united(tiles: Iterable[tuple[float, np.ndarray]], tiling: Tiling | None) -> Iterator[tuple[float, np.ndarray]]:
    """Score and map, float32 [H, W], of each photograph, from those of its tiles in order.

    The score of a photograph is the highest of its tiles; one that is not a number stays. Without a tiling they pass
    as they are.
    """
    if tiling is None:
        yield from tiles
        return
    held: list[tuple[float, np.ndarray]] = []
    for tile in tiles:
        held.append(tile)
        if len(held) == len(tiling):
            yield float(np.max([score for score, _ in held])), tiling.blend(values for _, values in held)
            held = []

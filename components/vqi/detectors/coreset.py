"""Greedy k-center selection: the points that leave no other point far away (Sener & Savarese, arXiv 1708.00489,
algorithm 1)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from vqi.detectors.arrays import Array, alike, empty, joined, namespace, on_processor, to_numpy
from vqi.detectors.products import Products
from vqi.platform.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The farthest points, among which the next picks are decided: their distances to each other are computed first.
CANDIDATES = 256
# Picks that are decided at once, and columns of one product.
PICKS, COLUMNS = 128, 256
# Distances of one product: 1 MiB of float32, which stays in the second-level cache. Points of one at most.
TILE, DISTANCES = 4096, 2**18
# Points that lie within this share of the largest distance are kept up to date, at most one of so many points: the
# others cannot be picked before the largest distance has come down to theirs. Of fewer points than FEW all are kept up
# to date: that takes fewer products, each with more rows.
NEAR, ONE_OF, FEW, TOGETHER = 0.9, 8, 16384, 512


def random_projection(dimensions: int, target: int, generator: torch.Generator) -> Tensor:
    """A Gaussian projection, float32 [dimensions, target], that keeps distances in expectation (Johnson &
    Lindenstrauss)."""
    import torch

    return torch.randn(dimensions, target, generator=generator) / target**0.5


class TimeBudget:
    """`seconds` that `parts` of a work share, one after the other; 0 = no limit.

    Each may take an equal part, and more where those before it left some. What one spends over its part, by the step
    that is under way, is not taken from the others: refits would have smaller banks than the build they stand for.
    Only what is spent counts, not the time between the parts.
    """

    def __init__(self, seconds: float, parts: int) -> None:
        self.limited, self.left, self.parts = seconds > 0, seconds, parts
        self.equal = seconds / max(parts, 1)

    def next_part(self) -> float:
        """The seconds of the next part, 0 = no limit."""
        parts, self.parts = max(self.parts, 1), self.parts - 1
        return max(self.left / parts, self.equal) if self.limited else 0.0

    def spend(self, seconds: float) -> None:
        """So much was spent by the part."""
        self.left -= seconds


def greedy_k_center(
    points: Array, count: int, max_seconds: float = 0.0, at_least: int = 1, what: str = "coreset"
) -> Array:
    """Indices int64 [<= count] of `points` [n, d], each the farthest from those before it; the first is the farthest
    from the mean.

    The selection is exactly the greedy one; equally far points come in any order, the same in every run. Most points
    need few of the distances to those that are chosen: a point that was near to one of them when it was last looked at
    is nearer now, if anything, and is left alone until all others are as near (`Selection`). Where `max_seconds` (0 =
    no limit) are over, what was chosen by then is returned, `at_least` that many.
    """
    rows = on_processor(points)
    selection = Selection(rows, min(count, len(rows)))
    progress, deadline = Progress(what, selection.count), time.monotonic() + max_seconds
    progress.advance(1)
    while selection.done < selection.count:
        if max_seconds and selection.done >= at_least and time.monotonic() > deadline:
            break
        most = (at_least if max_seconds and selection.done < at_least else selection.count) - selection.done
        progress.advance(selection.step(min(PICKS, most)))
    chosen = selection.chosen[: selection.done]
    return chosen if rows is points else alike(chosen, points)


class Selection:
    """A greedy selection under way: `done` of `count` points are `chosen`.

    `gap` [n] holds squared distances to the nearest of the first `seen` [n] that were chosen, -1 for chosen points: no
    less than the distance to the nearest of all. Points whose gap is at least `level` are awake, `numbers`: their gap
    is that to all that were chosen, so the farthest of them is the farthest of all. Where none is left, the level falls
    and those that it reaches are brought up to date.

    Among those that are awake picks are decided in batches: of the `CANDIDATES` farthest, the distances to each other
    are enough to go on, as long as the farthest of them is no nearer than the last of them was at first. Every other
    point began nearer than that, and a pick brings no point farther away. So every pick's distances to the points that
    are awake are computed in one matrix product with those of `PICKS`.
    """

    # Of the points that are awake.
    numbers: Array
    rows: Array
    norms: Array
    near: Array

    def __init__(self, rows: Array, count: int) -> None:
        xp = namespace(rows)
        self.distances, self.count, self.done, self.level = Distances(rows, count), count, 0, np.inf
        self.gap = self.distances.norms
        self.chosen = xp.empty_like(self.gap[:count], dtype=xp.int64)
        # Of those that are chosen, what distances to them are made of.
        self.factors, self.offsets = empty((count, rows.shape[1]), rows), empty((count,), rows)
        first = self.gap.argmax()[None]  # the farthest from the mean
        self._choose(first, rows[first], self.distances.norms[first])
        self.gap = self.distances.nearest(xp.arange(len(rows), device=rows.device), *self._chosen_since(0))
        self.gap[first] = -1.0
        self.seen = xp.ones_like(self.gap, dtype=xp.int64)
        self.numbers = first[:0]

    def step(self, most: int) -> int:
        """Choose a few points more, `most` at most; how many, which may be 0."""
        picks = self._next_picks(most) if len(self.numbers) else self.numbers
        if not len(picks):
            self._wake()
            return 0
        before = self.done
        self._choose(self.numbers[picks], self.rows[picks], self.norms[picks])
        nearest = self.distances.nearest_of_rows(self.rows, self.norms, *self._chosen_since(before))
        self.near = namespace(nearest).minimum(self.near, nearest)
        self.near[picks] = -1.0  # below every distance: never chosen again, even among equal points
        return len(picks)

    @property
    def farthest(self) -> float:
        """No point is farther from those that are chosen, squared distance."""
        return max(float(self.near.max()), self.level) if len(self.numbers) else np.inf

    def all_gaps(self) -> Array:
        """The squared distance of every point to the nearest of those that are chosen, -1 of those: [n]."""
        if len(self.numbers):
            self.gap[self.numbers], self.seen[self.numbers] = self.near, self.done
        self._bring_up_to_date(_where(self.gap >= 0))
        return self.gap

    def _choose(self, numbers: Array, rows: Array, norms: Array) -> None:
        part = slice(self.done, self.done + len(numbers))
        self.chosen[part] = numbers
        self.factors[part], self.offsets[part] = self.distances.expanded(rows, norms)
        self.done = part.stop

    def _chosen_since(self, moment: int) -> tuple[Array, Array]:
        return self.factors[moment : self.done], self.offsets[moment : self.done]

    def _next_picks(self, most: int) -> Array:
        """Which of those that are awake come next, int64 [0 to most], as far as the farthest alone decide it."""
        candidates = _largest(self.near, min(CANDIDATES, len(self.near)))
        gaps = to_numpy(self.near[candidates])
        decided = self.level if len(gaps) == len(self.near) else max(float(gaps.min()), self.level)
        if gaps.max() < self.level:
            return candidates[:0]
        between = self.distances.between(self.rows[candidates], self.norms[candidates])
        picks: list[int] = []
        while len(picks) < most:
            farthest = int(gaps.argmax())
            if gaps[farthest] < decided:
                break
            picks.append(farthest)
            np.minimum(gaps, between[farthest], out=gaps)
            gaps[farthest] = -1.0
        return candidates[picks]

    def _wake(self) -> None:
        """Let the level fall, and bring those that it reaches up to date."""
        if len(self.numbers):
            self.gap[self.numbers], self.seen[self.numbers] = self.near, self.done
        self.level = max(NEAR**2 * float(self.gap.max()), 0.0) if len(self.gap) >= FEW else 0.0
        reached = _where(self.gap >= self.level)
        if self.level and len(reached) > (most := max(len(self.gap) // ONE_OF, CANDIDATES)):
            reached = _largest(self.gap, most)
            self.level = float(self.gap[reached].min())
            reached = _where(self.gap >= self.level)
        self._bring_up_to_date(reached)
        self.numbers = reached[self.gap[reached] >= self.level]
        self.rows, self.norms = self.distances.rows[self.numbers], self.distances.norms[self.numbers]
        self.near = self.gap[self.numbers]

    def _bring_up_to_date(self, numbers: Array) -> None:
        """Compare the points of `numbers` with those that were chosen since they were looked at."""
        late = numbers[self.seen[numbers] < self.done]
        late = late[namespace(late).argsort(self.seen[late], stable=True)]
        for start in range(0, len(late), TOGETHER):
            # Those that saw nearly as many: a few distances are computed again, and products have more rows.
            part = late[start : start + TOGETHER]
            nearest = self.distances.nearest(part, *self._chosen_since(int(self.seen[part[0]])))
            self.gap[part] = namespace(nearest).minimum(self.gap[part], nearest)
        self.seen[numbers] = self.done


class Distances:
    """Squared distances of `rows` [n, d], which lie on a processor or an accelerator, by matrix products.

    About the mean m the expanded distance |p|² - 2 p·c + |c|² loses the fewest digits; only c is moved there, and what
    that leaves of p's position, 2 m·c, is added: p need not be copied. `norms` [n] are |p|² about the mean.
    """

    def __init__(self, rows: Array, columns: int) -> None:
        """`columns`: to so many of them at most, all in all."""
        xp = namespace(rows)
        self.rows = rows
        tiles = [rows[start : start + TILE] for start in range(0, len(rows), TILE)]
        self.mean = sum(tile.sum(axis=0) for tile in tiles) / len(rows)
        self.norms = joined([xp.square(tile - self.mean).sum(axis=1) for tile in tiles])
        self._products = Products(rows.shape[1], len(rows) * rows.shape[1] * columns)

    def nearest(self, numbers: Array, factors: Array, offsets: Array) -> Array:
        """How far the rows of `numbers` are from the nearest of others, of which `expanded` made factors [k, d] and
        offsets [k]."""
        parts = [numbers[start : start + TILE] for start in range(0, len(numbers), TILE)]
        return joined([self.nearest_of_rows(self.rows[part], self.norms[part], factors, offsets) for part in parts])

    def nearest_of_rows(self, rows: Array, norms: Array, factors: Array, offsets: Array) -> Array:
        """The same for rows that are at hand, with their norms."""
        xp, nearest = namespace(rows), None
        for low in range(0, len(factors), COLUMNS):
            part = factors[low : low + COLUMNS], offsets[low : low + COLUMNS]
            size = min(TILE, DISTANCES // len(part[0]))
            least = joined([self._least(rows[at : at + size], *part) for at in range(0, len(rows), size)])
            nearest = least if nearest is None else xp.minimum(nearest, least)
        return xp.clip(nearest + norms, 0, None)

    def between(self, rows: Array, norms: Array) -> np.ndarray:
        """Of `rows` to each other [k, k], valid until the next call."""
        return self.squares(rows, norms, *self.expanded(rows, norms))

    def squares(self, rows: Array, norms: Array, factors: Array, offsets: Array) -> np.ndarray:
        """Of `rows` [m, d] with their norms to others, of which `expanded` made factors [k, d] and offsets [k]: [m, k],
        valid until the next call."""
        if namespace(rows) is np:
            squares = self._products.all(rows, factors, offsets)
        else:
            squares = to_numpy(rows @ factors.T + offsets)
        squares += to_numpy(norms)[:, None]
        return np.maximum(squares, 0, out=squares)

    def expanded(self, rows: Array, norms: Array) -> tuple[Array, Array]:
        """What the distance to each of `rows` is made of: -2 c, and |c|² + 2 m·c."""
        centred = rows - self.mean
        return centred * -2.0, norms + 2.0 * (centred @ self.mean)

    def _least(self, rows: Array, factors: Array, offsets: Array) -> Array:
        if namespace(rows) is np:
            return self._products.least(rows, factors, offsets)
        return (rows @ factors.T + offsets).amin(dim=1)


def _largest(values: Array, count: int) -> Array:
    """Where the largest of `values` [n] are, in any order."""
    if namespace(values) is np:
        return np.argpartition(values, len(values) - count)[len(values) - count :]
    return values.topk(count).indices


def _where(condition: Array) -> Array:
    """The positions at which `condition` [n] holds."""
    return np.flatnonzero(condition) if namespace(condition) is np else condition.nonzero()[:, 0]

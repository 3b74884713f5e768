"""Greedy k-center selection: the points that leave no other point far away (Sener & Savarese, arXiv 1708.00489,
algorithm 1)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from vqi.platform.progress import Progress

# The farthest points, among which the next picks are decided: their distances to each other are computed first.
CANDIDATES = 512
# Picks whose distances to all points are computed in one matrix product.
PICKS = 128
# Points of one product: with PICKS columns of float32 that is 2 MiB, which stays in the second-level cache.
TILE = 4096


def random_projection(dimensions: int, target: int, generator: torch.Generator) -> Tensor:
    """A Gaussian projection, float32 [dimensions, target], that keeps distances in expectation (Johnson &
    Lindenstrauss)."""
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
    points: Tensor, count: int, max_seconds: float = 0.0, at_least: int = 1, what: str = "coreset"
) -> Tensor:
    """Indices int64 [<= count] of `points` [n, d], each the farthest from those before it; the first is the farthest
    from the mean.

    The selection is exactly the greedy one; equally far points come in any order, the same in every run. Picks are
    decided in batches: of the `CANDIDATES` farthest points, the distances to each other are enough to go on, as long as
    the farthest of them is no nearer than the last of them was at first. Every other point began nearer than that, and
    a pick brings no point farther away. So every pick's distances to all points are computed once, `PICKS` of them in
    one matrix product. Where `max_seconds` (0 = no limit) are over, what was chosen by then is returned, `at_least`
    that many.
    """
    count = min(count, len(points))
    centre = points.mean(dim=0)
    norms = torch.empty(len(points), device=points.device)
    for tile in _tiles(points):
        norms[tile] = (points[tile] - centre).square().sum(dim=1)
    gap = norms.clone()  # squared distance to the nearest chosen point; at first to the mean
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    progress, deadline = Progress(what, count), time.monotonic() + max_seconds
    done = 0
    while done < count:
        if max_seconds and done >= at_least and time.monotonic() > deadline:
            return chosen[:done]
        if done:
            most = min(PICKS, (at_least if max_seconds and done < at_least else count) - done)
            picks = _next_picks(points, centre, norms, gap, most)
        else:
            picks = gap.argmax()[None]
            gap.fill_(torch.inf)
        _bring_nearer(points, centre, norms, gap, picks)
        gap[picks] = -1.0  # below every distance: never chosen again, even among equal points
        chosen[done : done + len(picks)] = picks
        done += len(picks)
        progress.advance(len(picks))
    return chosen


def _next_picks(points: Tensor, centre: Tensor, norms: Tensor, gap: Tensor, most: int) -> Tensor:
    """The next picks, int64 [1 to most], as far as the farthest points alone decide them."""
    gaps, candidates = gap.topk(min(CANDIDATES, len(gap)))
    rows = points[candidates] - centre
    between = torch.addmm(norms[candidates], rows, rows.T, alpha=-2.0).add_(norms[candidates, None]).clamp_(min=0).cpu()
    gaps = gaps.cpu()
    decided = max(float(gaps[-1]), 0.0)
    picks: list[int] = []
    while len(picks) < most:
        farthest = int(gaps.argmax())
        if float(gaps[farthest]) < decided:
            break
        picks.append(farthest)
        torch.minimum(gaps, between[farthest], out=gaps)
        gaps[farthest] = -1.0
    return candidates[picks]


def _bring_nearer(points: Tensor, centre: Tensor, norms: Tensor, gap: Tensor, picks: Tensor) -> None:
    """Every point's squared distance to the nearest chosen one, with `picks` chosen as well; `gap` [n] is changed."""
    rows, squares = points[picks] - centre, norms[picks]
    for tile in _tiles(points):
        # Centred, the expanded distance |p|² - 2 p·c + |c|² loses the fewest digits; tile by tile, without a copy of
        # all points.
        nearest = torch.addmm(squares, points[tile] - centre, rows.T, alpha=-2.0).amin(dim=1)
        torch.minimum(gap[tile], nearest.add_(norms[tile]).clamp_(min=0), out=gap[tile])


def _tiles(points: Tensor) -> Iterator[slice]:
    return (slice(start, start + TILE) for start in range(0, len(points), TILE))

"""Greedy k-center selection: the points that leave no other point far away (Sener & Savarese, arXiv 1708.00489,
algorithm 1)."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from vqi.platform.progress import Progress

# Candidates whose distances to all points are computed in one matrix product. A product reads all points once, whatever
# the number of candidates.
CANDIDATES = 32


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

    The selection is exactly the greedy one, but not its cost: the farthest points are taken `CANDIDATES` at a time and
    their distances to all points computed in one matrix product. While the farthest point of all is among them, the
    next step has its distances already. Where `max_seconds` (0 = no limit) are over, what was chosen by then is
    returned, `at_least` that many.
    """
    count = min(count, len(points))
    # Centred, the expanded distance |p|² - 2 p·c + |c|² loses the fewest digits.
    points = points - points.mean(dim=0)
    norms = points.square().sum(dim=1)
    gap = norms.clone()  # squared distance to the nearest chosen point; at first to the mean
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    progress, deadline = Progress(what, count), time.monotonic() + max_seconds
    column: dict[int, int] = {}
    distances = torch.empty(min(CANDIDATES, len(points)), len(points), device=points.device)
    for step in range(count):
        if max_seconds and step >= at_least and time.monotonic() > deadline:
            return chosen[:step]
        farthest = int(gap.argmax())
        if farthest not in column:
            candidates = gap.topk(len(distances)).indices
            if farthest not in (
                rows := candidates.tolist()
            ):  # of equally far points argmax and topk may prefer different ones
                rows[0] = farthest
                candidates[0] = farthest
            column = {row: position for position, row in enumerate(rows)}
            # Into the same memory each time: blocks of this size, freed and taken again, fragment the heap.
            torch.addmm(norms, points[candidates], points.T, alpha=-2.0, out=distances)
            distances.add_(norms[candidates, None]).clamp_(min=0)
        distance = distances[column[farthest]]
        gap = distance.clone() if step == 0 else torch.minimum(gap, distance, out=gap)
        gap[farthest] = -1.0  # below every distance: never chosen again, even among equal points
        chosen[step] = farthest
        progress.advance()
    return chosen

"""Greedy selections from the points of all parts but one, for each of the parts: which points are near to each other
is computed once for all of them.

A selection begins by itself (`coreset.Selection`). When no point is farther from those that are chosen than a point's
few hundred nearest others are, a pick can bring nearer only those others. Of a pool that a large part is chosen from
they take less than the distances of every selection to all that it chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vqi.detectors.arrays import Array, alike, is_tensor, joined, on_processor
from vqi.detectors.coreset import FEW, PICKS, Distances, Selection, greedy_k_center
from vqi.platform.progress import Progress

# Points that a point has as neighbours, on average: 4 KiB a point.
NEIGHBOURS = 512
# Points of which all distances to each other are compared to see how far that is.
SAMPLE = 1024
# Points of one tile of distances, 1 MiB.
BLOCK = 512
# At least this share of all points is chosen, or each selection is made by itself. Of many points a selection computes
# few of the distances to those that it chooses.
WORTH_SHARING, WORTH_SHARING_MANY = 1 / 16, 1 / 4


class _Begun(NamedTuple):
    """A selection that neighbours alone finish: what is `chosen` [k], and of all points the squared distance to the
    nearest of it, `gap` [n], -1 of those that are chosen or cannot be."""

    chosen: np.ndarray
    gap: np.ndarray


class _Neighbours(NamedTuple):
    """Of point i the others that are near, itself among them, and the squared distances to them: those from
    `starts[i]` to `starts[i + 1]`."""

    starts: list[int]
    numbers: np.ndarray
    squares: np.ndarray


def greedy_without_each(parts: Sequence[Array], count: int) -> Iterator[Array]:
    """For each of `parts` [n_i, d], what `greedy_k_center` chooses from the points of all others, one part after the
    other: int64 [count], numbers among the points of all parts. Where there are no more than `count`, all of them as
    they lie.

    The same points are chosen; of those that are equally far within rounding any may be the first.
    """
    points = joined(list(parts))
    rows, ends = on_processor(points), np.cumsum([len(part) for part in parts])
    left_out = [slice(int(end) - len(part), int(end)) for end, part in zip(ends, parts, strict=True)]
    worth = WORTH_SHARING if len(rows) < FEW else WORTH_SHARING_MANY
    if is_tensor(rows) or not worth * len(rows) <= count < len(rows) - max(map(len, parts)):
        for part in left_out:
            numbers = alike(np.delete(np.arange(len(points)), part), points)
            few = count < len(numbers)
            yield numbers[greedy_k_center(points[numbers], count)] if few else numbers
        return
    distances = Distances(rows, len(rows))
    limit = _limit(distances)
    begun = [_begin(rows, part, count, limit) for part in left_out]
    neighbours = _neighbours(distances, limit)
    for selection in begun:
        yield alike(_finish(selection, count, neighbours), points)


def _limit(distances: Distances) -> float:
    """The squared distance within which a point has NEIGHBOURS others, on average."""
    step = -(-len(distances.rows) // SAMPLE)
    rows, norms = distances.rows[::step], distances.norms[::step]
    squares = distances.between(rows, norms)
    others = squares[np.triu_indices(len(rows), 1)]
    wanted = round(min(NEIGHBOURS / len(distances.rows), 1.0) * len(others))
    return float(np.partition(others, wanted - 1)[wanted - 1]) if wanted else 0.0


def _begin(rows: np.ndarray, left_out: slice, count: int, limit: float) -> _Begun:
    """Choose from all `rows` but some until none is farther from those that are chosen than `limit`."""
    numbers = np.delete(np.arange(len(rows)), left_out)
    selection = Selection(rows[numbers], count)
    while selection.done < selection.count and selection.farthest > limit:
        selection.step(min(PICKS, selection.count - selection.done))
    gap = np.full(len(rows), -1.0, dtype=np.float32)
    gap[numbers] = selection.all_gaps()
    return _Begun(numbers[selection.chosen[: selection.done]], gap)


def _finish(begun: _Begun, count: int, neighbours: _Neighbours) -> np.ndarray:
    """All that is chosen, int64 [count]."""
    gap, (starts, numbers, squares) = begun.gap, neighbours
    chosen = begun.chosen.tolist()
    progress = Progress("coreset", count, begun=len(chosen))
    while len(chosen) < count:
        pick = int(gap.argmax())
        near = slice(starts[pick], starts[pick + 1])
        others = numbers[near]
        gap[others] = np.minimum(gap[others], squares[near])
        gap[pick] = -1.0
        chosen.append(pick)
        if len(chosen) % PICKS == 0:
            progress.advance(PICKS)
    return np.array(chosen, dtype=np.int64)


def _neighbours(distances: Distances, limit: float) -> _Neighbours:
    """All points whose squared distance to each other is at most `limit`; each pair is compared once."""
    rows, norms = distances.rows, distances.norms
    blocks = [slice(at, min(at + BLOCK, len(rows))) for at in range(0, len(rows), BLOCK)]
    # Of the points of each block: which one, its neighbour, and their distance.
    pairs: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in blocks]
    sizes, numbers, squares = [], [], []
    for number, block in enumerate(blocks):
        expanded = distances.expanded(rows[block], norms[block])
        for later, other in enumerate(blocks[number:], number):
            # [points of `other`, points of `block`]
            tile = distances.squares(rows[other], norms[other], *expanded).ravel()
            at = np.flatnonzero(tile <= limit)
            second, first = np.divmod(at, block.stop - block.start)
            first, second, values = first.astype(np.uint16), second.astype(np.uint16), tile[at]
            pairs[number].append((first, second + np.int32(other.start), values))
            if later > number:
                pairs[later].append((second, first + np.int32(block.start), values))
        own, others, values = (np.concatenate(each) for each in zip(*pairs[number], strict=True))
        pairs[number] = []
        order = own.argsort(kind="stable")
        sizes.append(np.bincount(own, minlength=block.stop - block.start))
        numbers.append(others[order])
        squares.append(values[order])
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return _Neighbours(starts.tolist(), np.concatenate(numbers), np.concatenate(squares))

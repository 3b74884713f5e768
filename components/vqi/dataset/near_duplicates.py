"""Near copies: one photograph saved again, scaled, moved a little, exposed otherwise, mirrored or turned; not merely
photographs of like parts.

Parts from one line in one fixture look alike, and what they share says nothing about which part a photograph shows. So
the set itself is asked what all share: thumbnails are whitened before they are compared by cosine
(`thumbnail_views.py`), and a pair's cosine is the largest over mirroring, quarter turns and a small shift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from vqi.dataset.file_rows import FileRows
from vqi.dataset.thumbnail_views import BLOCK, SIDE, Rows, Views, blocks, fold
from vqi.platform.progress import Progress
from vqi.platform.threads import decoding_threads, in_threads, one_blas_thread

# Measured. Different parts: at most .45 for 40 rendered flanges of 1024 x 1024 within half a pixel of each other
# (before: 770 of their 780 pairs were called copies), .60 for 100 loose ones of 256 x 256, .34 on cookie (but for one
# pair, which is one cookie twice), .35 on hazelnut. Copies of the same: saved as JPEG of quality 75, half as large,
# noise of 3 grey levels or 5 % and 20 % of exposure: at least .97; moved by 1 % both ways: .79; mirrored or turned by
# quarters: 1. A copy that is turned by 1 degree may be missed (.54 in a precise fixture), and so may one that is
# mirrored, moved and exposed anew at once (.75). In a set of fewer than a dozen photographs a copy that was moved is
# missed: the set does not yet show what a fixture is. magnetic_tile holds each tile at up to six exposures: 250 train
# normals show 179 tiles by this, and all of the groups seen by eye were right.
COSINE = 0.75
ASPECT = 0.03
# Thumbnails with less fine structure than this (deviation in grey levels) are blank: their pattern is noise of
# rounding.
BLANK = 0.25
# Steps of a grey level that a thumbnail is kept in.
LEVELS = 256
# The local mean that patterns are taken from, pixels of a thumbnail.
_WINDOW = 9
# Pairs whose cosine as they are is above this are looked at in eight shifts; of more of a block than _MANY all are.
LIKELY, _MANY = 0.2, 0.02
# Above this many, pairs are looked for within cells of like images alone: an image is in the cells of the directions
# that it is nearest to, out of one for every _PER_CELL images. Pairs whose cosine without a shift is above _LIKELY are
# then compared as all are in a smaller set.
MOST_COMPARED, _PER_CELL, _CELLS_EACH, _LIKELY = 20_000, 128, 3, 0.35
# Of more than this, what images are compared by lies in a file, and a few are in memory at a time.
MOST_IN_MEMORY = 5_000


def thumbnail(photograph: Image.Image) -> np.ndarray:
    """What photographs are compared by: RGB or L -> float32 [SIDE, SIDE] of mean grey levels.

    Not rounded to levels: the mean of a thousand pixels differs between parts by less than one.
    """
    grey = photograph.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.rint(np.asarray(grey) * np.float32(LEVELS)) / np.float32(LEVELS)


def thumbnail_rows(total: int, read: Callable[[np.ndarray], np.ndarray]) -> Rows:
    """The thumbnails that `read` gives for numbers below `total`, [n, SIDE * SIDE], as `near_duplicates` takes them."""
    rows = _new_rows(total, SIDE * SIDE)
    for numbers in blocks(total):
        _store(rows, numbers, read(numbers))
    return rows


def near_duplicates(thumbnails: np.ndarray | FileRows, aspects: np.ndarray) -> list[tuple[int, int]]:
    """Pairs i < j of near copies among thumbnails, float32 [N, SIDE, SIDE] or [N, SIDE * SIDE], of images with
    `aspects` width / height [N].

    The pairs join every group of near copies (`groups`), each with as few of them as that takes: N copies of one image
    have quadratically many.
    """
    total = len(thumbnails)
    if not total:
        return []
    # Blocks are compared in threads of ours; those of the linear algebra wait for each other.
    with one_blas_thread():
        return _near_duplicates(thumbnails, aspects)


def _near_duplicates(thumbnails: Rows, aspects: np.ndarray) -> list[tuple[int, int]]:
    total = len(thumbnails)
    patterns = _new_rows(total, SIDE * SIDE)
    for numbers in blocks(total):
        _store(patterns, numbers, fold(_patterns(thumbnails[numbers].reshape(-1, SIDE, SIDE)).reshape(-1, SIDE, SIDE)))
    views = Views(patterns)
    plain = _new_rows(total, views.width)
    for numbers in blocks(total):
        _store(plain, numbers, views.whiten(patterns[numbers]))
    forest = _Forest(total)
    compare = _compare_all if total <= MOST_COMPARED else _compare_cells
    return compare(views, plain, aspects, forest)


def _new_rows(total: int, width: int) -> Rows:
    return FileRows(width) if total > MOST_IN_MEMORY else np.empty((total, width), dtype=np.float32)


def _store(rows: Rows, numbers: np.ndarray, values: np.ndarray) -> None:
    """Put the next `values` [n, width] where `numbers` says."""
    if isinstance(rows, FileRows):
        rows.append(values)
    else:
        rows[numbers] = values


def _compare_all(views: Views, plain: Rows, aspects: np.ndarray, forest: _Forest) -> list[tuple[int, int]]:
    total = len(plain)
    # By pairs, not images: each has to be compared with all before it.
    progress = Progress("near copies: comparing pairs of images", total * (total + 1) // 2)
    pairs: list[tuple[int, int]] = []
    compared = in_threads(lambda columns: _alike(views, plain, aspects, columns), blocks(total), decoding_threads())
    for columns, marked in zip(blocks(total), compared, strict=True):
        for rows, alike in marked:
            pairs += forest.join_alike(rows, columns, alike)
        progress.advance(int((columns + 1).sum()))
    return pairs


def _alike(views: Views, plain: Rows, aspects: np.ndarray, columns: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The blocks of rows up to those of `columns` that hold copies of them, and which pairs are: bool [rows,
    columns]."""
    own, shifted = plain[columns], list[np.ndarray]()
    marked = []
    for rows in blocks(int(columns[-1]) + 1):
        others = plain[rows]
        as_they_are, mirrored, turned = views.cosines(others, own)
        level = np.abs(aspects[rows][:, None] / aspects[columns] - 1) < ASPECT
        upright = np.abs(aspects[rows][:, None] * aspects[columns] - 1) < ASPECT
        alike = ((mirrored > COSINE) & level) | ((turned > COSINE) & upright)
        if rows[0] == columns[0]:
            alike, level = np.triu(alike, k=1), np.triu(level, k=1)
        likely = np.argwhere(level & ~alike & (as_they_are > LIKELY))
        if len(likely):
            shifted = shifted or views.shifted(columns)
            shown = likely[_largest_cosines(others, shifted, likely) > COSINE]
            alike[shown[:, 0], shown[:, 1]] = True
        if alike.any():
            marked.append((rows, alike))
    return marked


def _largest_cosines(rows: np.ndarray, shifted: list[np.ndarray], pairs: np.ndarray) -> np.ndarray:
    """The largest cosine over shifts of each of the `pairs` [n, 2] of rows and columns."""
    if len(pairs) > _MANY * len(rows) * len(shifted[0]):
        every = rows @ shifted[0].T
        for view in shifted[1:]:
            np.maximum(every, rows @ view.T, out=every)
        return every[pairs[:, 0], pairs[:, 1]]
    best = np.full(len(pairs), -1.0, np.float32)
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        own = rows[part[:, 0]]
        for view in shifted:
            cosines = np.einsum("nd,nd->n", own, view[part[:, 1]])
            np.maximum(best[start : start + BLOCK], cosines, out=best[start : start + BLOCK])
    return best


def _compare_cells(views: Views, plain: Rows, aspects: np.ndarray, forest: _Forest) -> list[tuple[int, int]]:
    """Pairs that share a cell, one as it is and the other in any view but a shifted one (A. Andoni et al., "Practical
    and optimal LSH for angular distance", NIPS 2015)."""
    total, width = plain.shape
    count = total // _PER_CELL
    directions = np.random.default_rng(0).standard_normal((width, count), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    # Numbers of the images in every cell, by view; the first is the image as it is.
    cells: list[list[list[np.ndarray]]] = [[[] for _ in range(count)] for _ in views.kinds]
    progress = Progress("near copies: sorting images", total)
    for numbers in blocks(total):
        vectors = plain[numbers]
        for kind, members in zip(views.kinds, cells, strict=True):
            _assign(views.seen(vectors, *kind), directions, numbers, members)
        progress.advance(len(numbers))
    progress = Progress("near copies: comparing images", count)
    pairs: list[tuple[int, int]] = []

    def compare(cell: int) -> list[np.ndarray]:
        rows = _numbers(cells[0][cell])
        own = plain[rows]
        every = []
        for kind, members in zip(views.kinds, cells, strict=True):
            columns = _numbers(members[cell])
            cosines = own @ views.seen(plain[columns], *kind).T
            likely = np.argwhere((cosines > _LIKELY) & (rows[:, None] != columns))
            every.append(np.sort(np.stack([rows[likely[:, 0]], columns[likely[:, 1]]], 1)))
        return every

    for every in in_threads(compare, range(count), decoding_threads()):
        for likely in every:
            pairs += _verified(views, plain, aspects, forest, likely)
        progress.advance()
    return sorted(pairs)


def _verified(
    views: Views, plain: Rows, aspects: np.ndarray, forest: _Forest, likely: np.ndarray
) -> list[tuple[int, int]]:
    """Those of the `likely` pairs [n, 2] that are copies and join two groups."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(likely), BLOCK):
        left = [(one, other) for one, other in likely[start : start + BLOCK].tolist() if not forest.joins(one, other)]
        if not left:
            continue
        first, second = (np.array(numbers) for numbers in zip(*left, strict=True))
        rows, columns = plain[first], plain[second]
        level = np.abs(aspects[first] / aspects[second] - 1) < ASPECT
        upright = np.abs(aspects[first] * aspects[second] - 1) < ASPECT
        every = [(upright if kind[0] else level, views.seen(columns, *kind)) for kind in views.kinds]
        every += [(level, view) for view in views.shifted(second)]
        alike = np.zeros(len(left), dtype=bool)
        for fits, view in every:
            alike |= fits & (np.einsum("nd,nd->n", rows, view) > COSINE)
        pairs += forest.join([pair for pair, copies in zip(left, alike.tolist(), strict=True) if copies])
    return pairs


def _numbers(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=int)


def _assign(vectors: np.ndarray, directions: np.ndarray, numbers: np.ndarray, cells: list[list[np.ndarray]]) -> None:
    """Put the numbers of `vectors` into the cells of the directions that each is nearest to."""
    each = min(_CELLS_EACH, directions.shape[1])
    nearest = np.argpartition(vectors @ directions, -each, axis=1)[:, -each:]
    order = np.argsort(nearest.ravel(), kind="stable")
    cell, number = nearest.ravel()[order], np.repeat(numbers, each)[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(cell)], strict=True):
        cells[cell[first]].append(number[first:last])


def groups(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """The connected groups of `pairs`, each sorted, in order of their first member."""
    if not pairs:
        return []
    forest = _Forest(1 + max(max(pair) for pair in pairs))
    forest.join(pairs)
    members: dict[int, list[int]] = {}
    for member in sorted({member for pair in pairs for member in pair}):
        members.setdefault(forest.root(member), []).append(member)
    return list(members.values())


class _Forest:
    """Disjoint sets of numbers, each known by its smallest."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, member: int) -> int:
        while self.parent[member] != member:
            self.parent[member] = self.parent[self.parent[member]]
            member = self.parent[member]
        return member

    def joins(self, first: int, second: int) -> bool:
        """Whether both are in one set."""
        return self.root(first) == self.root(second)

    def join_alike(self, rows: np.ndarray, columns: np.ndarray, alike: np.ndarray) -> list[tuple[int, int]]:
        """`join` for the pairs that bool [rows, columns] marks, in its order: copies of one image are many pairs."""
        joining: list[tuple[int, int]] = []
        marked = np.flatnonzero(alike.any(axis=1)).tolist()
        if not marked:
            return joining
        own, other = (np.array([self.root(number) for number in side.tolist()]) for side in (rows, columns))
        for at in marked:
            left = np.flatnonzero(alike[at] & (other != own[at]))
            while len(left):
                joining += self.join([(int(rows[at]), int(columns[left[0]]))])
                low, high = sorted((own[at], other[left[0]]))
                own[own == high], other[other == high] = low, low
                left = left[other[left] != own[at]]
        return joining

    def join(self, pairs: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Join the sets of every pair; those pairs that joined two."""
        joining = []
        for first, second in pairs:
            low, high = sorted((self.root(first), self.root(second)))
            if low != high:
                self.parent[high] = low
                joining.append((first, second))
        return joining


def _patterns(thumbnails: np.ndarray) -> np.ndarray:
    """Smoothed thumbnails less their local mean, of unit deviation, so that exposure has no say: float32 [N, SIDE *
    SIDE]; blank ones are zero."""
    values = _filtered(thumbnails.astype(np.float32), np.array([1, 2, 1], dtype=np.float32) / 4)
    values -= _filtered(values, np.full(_WINDOW, 1 / _WINDOW, dtype=np.float32))
    patterns = values.reshape(len(values), SIDE * SIDE)
    patterns -= patterns.mean(axis=1, keepdims=True)
    deviations = patterns.std(axis=1, keepdims=True)
    return np.where(deviations > BLANK, patterns / np.maximum(deviations, 1e-6), 0).astype(np.float32)


def _filtered(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Rows and columns of [N, SIDE, SIDE] convolved with an odd `kernel`, the border repeated."""
    reach = len(kernel) // 2
    for axis in (1, 2):
        padded = np.pad(
            values, [(0, 0), *((reach, reach) if other == axis else (0, 0) for other in (1, 2))], mode="edge"
        )
        values = sum(
            weight * np.take(padded, range(step, step + SIDE), axis=axis) for step, weight in enumerate(kernel)
        )
    return values

"""Near copies: one photograph saved again, scaled, moved a little, exposed otherwise, mirrored or turned; not merely
photographs of like parts.

Parts from one line in one fixture look alike, and what they share says nothing about which part a photograph shows. So
the set itself is asked what all share: thumbnails are whitened by their own second moments before they are compared by
cosine (Jegou, Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening", ECCV
2012). The moments are averaged over mirroring, quarter turns and a small shift, so that these commute with the
whitening, and a pair's cosine is the largest over all of them.

All pairs of 10,000 images take 17 s of processor time on one core and .9 GB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from vqi.dataset.file_rows import FileRows
from vqi.platform.progress import Progress

SIDE = 32
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
# The shift that moments and pairs are averaged and compared over: 1 % of the side.
SHIFT = 0.01 * SIDE
# Directions with less energy than this share of the mean direction's are taken for noise.
NOISE = 0.03
_LEAST_WEIGHT = 0.05
# The local mean that patterns are taken from, pixels of a thumbnail.
_WINDOW = 9
_BLOCK = 1024
# Above this many, pairs are looked for within cells of like images alone: an image is in the cells of the directions
# that it is nearest to, out of one for every _PER_CELL images. Pairs whose cosine without a shift is above _LIKELY are
# then compared as all are in a smaller set.
MOST_COMPARED, _PER_CELL, _CELLS_EACH, _LIKELY = 20_000, 128, 3, 0.35


def thumbnail(image: np.ndarray) -> np.ndarray:
    """What photographs are compared by: uint8 [H, W, 3] -> float32 [SIDE, SIDE] of mean grey levels.

    Not rounded: the mean of a thousand pixels differs between parts by less than a grey level.
    """
    return np.asarray(Image.fromarray(image).convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BOX))


def near_duplicates(thumbnails: np.ndarray | FileRows, aspects: np.ndarray) -> list[tuple[int, int]]:
    """Pairs i < j of near copies among thumbnails, float32 [N, SIDE, SIDE] or [N, SIDE * SIDE], of images with
    `aspects` width / height [N]. Of more than MOST_COMPARED a few are in memory at a time.

    The pairs join every group of near copies (`groups`), each with as few of them as that takes: N copies of one image
    have quadratically many.
    """
    total = len(thumbnails)
    if not total:
        return []
    patterns = _new_rows(total, SIDE * SIDE)
    for numbers in _blocks(total):
        _store(patterns, numbers, _patterns(thumbnails[numbers].reshape(-1, SIDE, SIDE)))
    views = _Views(patterns)
    forest = _Forest(total)
    compare = _compare_all if total <= MOST_COMPARED else _compare_cells
    return compare(views, aspects, forest)


def _new_rows(total: int, width: int) -> np.ndarray | FileRows:
    return FileRows(width) if total > MOST_COMPARED else np.empty((total, width), dtype=np.float32)


def _store(rows: np.ndarray | FileRows, numbers: np.ndarray, values: np.ndarray) -> None:
    """Put the next `values` [n, width] where `numbers` says."""
    if isinstance(rows, FileRows):
        rows.append(values)
    else:
        rows[numbers] = values


def _blocks(total: int) -> Iterator[np.ndarray]:
    for start in range(0, total, _BLOCK):
        yield np.arange(start, min(start + _BLOCK, total))


def _compare_all(views: _Views, aspects: np.ndarray, forest: _Forest) -> list[tuple[int, int]]:
    total = len(views.plain)
    progress = Progress("near copies: comparing images", total)
    pairs: list[tuple[int, int]] = []
    for start in range(0, total, _BLOCK):
        columns = np.arange(start, min(start + _BLOCK, total))
        own = views.of(columns)
        for first in range(0, start + 1, _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, total))
            alike = _alike(views.plain[rows], own, aspects[rows], aspects[columns])
            if first == start:
                alike = np.triu(alike, k=1)
            pairs += forest.join((first + one, start + other) for one, other in np.argwhere(alike).tolist())
        progress.advance(len(columns))
    return pairs


def _compare_cells(views: _Views, aspects: np.ndarray, forest: _Forest) -> list[tuple[int, int]]:
    """Pairs that share a cell, one as it is and the other in any view but a shifted one (A. Andoni et al., "Practical
    and optimal LSH for angular distance", NIPS 2015)."""
    total, width = views.plain.shape
    count = total // _PER_CELL
    directions = np.random.default_rng(0).standard_normal((width, count), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    kinds = [(turned, signs) for turned in (False, True) for signs in views.signs]
    # Numbers of the images in every cell, by view; the first is the image as it is.
    cells: list[list[list[np.ndarray]]] = [[[] for _ in range(count)] for _ in kinds]
    progress = Progress("near copies: sorting images", total)
    for start in range(0, total, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, total))
        vectors = {turned: views.unshifted(numbers, turned) for turned in (False, True)}
        for (turned, signs), members in zip(kinds, cells, strict=True):
            _assign(vectors[turned] * signs, directions, numbers, members)
        progress.advance(len(numbers))
    progress = Progress("near copies: comparing images", count)
    pairs: list[tuple[int, int]] = []
    for cell in range(count):
        rows = _numbers(cells[0][cell])
        for (turned, signs), members in zip(kinds, cells, strict=True):
            columns = _numbers(members[cell])
            cosines = views.plain[rows] @ (views.unshifted(columns, turned) * signs).T
            likely = np.argwhere((cosines > _LIKELY) & (rows[:, None] != columns))
            pairs += _verified(
                views, aspects, forest, np.sort(np.stack([rows[likely[:, 0]], columns[likely[:, 1]]], 1))
            )
        progress.advance()
    return sorted(pairs)


def _verified(views: _Views, aspects: np.ndarray, forest: _Forest, likely: np.ndarray) -> list[tuple[int, int]]:
    """Those of the `likely` pairs [n, 2] that are copies and join two groups."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(likely), _BLOCK):
        left = [(one, other) for one, other in likely[start : start + _BLOCK].tolist() if not forest.joins(one, other)]
        if not left:
            continue
        first, second = (np.array(numbers) for numbers in zip(*left, strict=True))
        alike = np.zeros(len(left), dtype=bool)
        ratios = aspects[first] / aspects[second], aspects[first] * aspects[second]
        for those, ratio in zip(views.of(second), ratios, strict=True):
            best = np.max([np.einsum("nd,nd->n", views.plain[first], view) for view in those], axis=0)
            alike |= (best > COSINE) & (np.abs(ratio - 1) < ASPECT)
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


def _alike(
    rows: np.ndarray, views: tuple[list[np.ndarray], list[np.ndarray]], own: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Which images of `rows` and of `views` are copies, bool [rows, images]; `own` and `other` are their aspects."""
    upright, turned = views
    alike = np.zeros((len(rows), len(other)), dtype=bool)
    for those, ratio in ((upright, own[:, None] / other), (turned, own[:, None] * other)):
        best = rows @ those[0].T
        for view in those[1:]:
            np.maximum(best, rows @ view.T, out=best)
        alike |= (best > COSINE) & (np.abs(ratio - 1) < ASPECT)
    return alike


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


class _Views:
    """Whitened patterns of unit length, float32 [N, d]: `plain` as they are, and, of some of them at a time, mirrored,
    half-turned and shifted; and turned by a quarter.

    A view is a linear map of the thumbnail, so it is applied to the whitening and not to every pattern. The moments are
    the same mirrored, so that each whitening direction is even or odd along height and width: mirroring changes signs.
    """

    def __init__(self, patterns: np.ndarray | FileRows) -> None:
        self.patterns = patterns
        along = {step: _shift_matrix(step * SHIFT) for step in (-1, 0, 1)}
        moments = _symmetrised(_moments(patterns))
        # The eight shifts are two and their mirror images and quarter turns. S M S' = S (S M)', M being symmetric.
        moved = [_shifted(_shifted(moments, along[down], along[1]).T, along[down], along[1]) for down in (0, 1)]
        whitening, self.signs = _whitening(_symmetrised((moments + 4 * moved[0] + 4 * moved[1]) / 9))
        pixels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
        self.whitening, self.turned = whitening, whitening[pixels.T.ravel()]
        shifts = [(along[down], along[right]) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
        # x[order] @ W = x @ W[the inverse of order], and S x @ W = x @ (S.T W).
        self.shifted = [_shifted(whitening, down.T, right.T) for down, right in shifts]
        self.plain = _new_rows(len(patterns), whitening.shape[1])
        for numbers in _blocks(len(patterns)):
            _store(self.plain, numbers, self._whitened(patterns[numbers], whitening))

    def of(self, numbers: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The views of those patterns: unturned, and turned by a quarter."""
        patterns, plain = self.patterns[numbers], self.plain[numbers]
        upright = [plain * signs for signs in self.signs]
        upright += [self._whitened(patterns, whitening) for whitening in self.shifted]
        quarter = self.unshifted(numbers, turned=True)
        return upright, [quarter * signs for signs in self.signs]

    def unshifted(self, numbers: np.ndarray, turned: bool) -> np.ndarray:
        """Those patterns as they are, or turned by a quarter; `signs` mirror either."""
        return self._whitened(self.patterns[numbers], self.turned) if turned else self.plain[numbers]

    @staticmethod
    def _whitened(patterns: np.ndarray, whitening: np.ndarray) -> np.ndarray:
        whitened = patterns @ whitening
        return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-6)


def _moments(patterns: np.ndarray | FileRows) -> np.ndarray:
    """The mean second moments of patterns that are not blank, float64 [SIDE * SIDE, SIDE * SIDE]."""
    if not isinstance(patterns, FileRows):
        shown = patterns.any(axis=1)
        used = patterns if shown.all() else patterns[shown]
        return (used.T @ used).astype(np.float64) / max(len(used), 1)
    total, count = np.zeros((SIDE * SIDE, SIDE * SIDE)), 0
    for numbers in _blocks(len(patterns)):
        block = patterns[numbers]
        total += block.T @ block
        count += int(np.count_nonzero(block.any(axis=1)))
    return total / max(count, 1)


def _symmetrised(moments: np.ndarray) -> np.ndarray:
    """The mean of moments [SIDE * SIDE, SIDE * SIDE] over mirroring and quarter turns."""
    values = moments.reshape(SIDE, SIDE, SIDE, SIDE)
    values = values + values[::-1, :, ::-1]
    values = values + values[:, ::-1, :, ::-1]
    return ((values + values.transpose(1, 0, 3, 2)) / 8).reshape(moments.shape)


def _whitening(moments: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Whitening directions in columns, float32 [SIDE * SIDE, d], of moments that are the same mirrored; and their signs
    [d] as they are, mirrored along height, along width and along both."""
    half = np.eye(SIDE)[:, : SIDE // 2]
    parts = {sign: (half + sign * half[::-1]) / np.sqrt(2) for sign in (1, -1)}
    energies, directions, parities = [], [], []
    for down in parts:
        for right in parts:
            basis = np.kron(parts[down], parts[right])
            energy, vectors = np.linalg.eigh(basis.T @ moments @ basis)
            energies.append(energy)
            directions.append(basis @ vectors)
            parities.append(np.tile([[down], [right]], len(energy)))
    energy = np.concatenate(energies)
    noise = max(NOISE * energy.mean(), 1e-12)
    kept = energy / (energy + noise) > _LEAST_WEIGHT
    down, right = np.concatenate(parities, axis=1)[:, kept].astype(np.float32)
    whitening = np.concatenate(directions, axis=1)[:, kept] / np.sqrt(energy[kept] + noise)
    return whitening.astype(np.float32), [np.ones_like(down), down, right, down * right]


def _shifted(values: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Columns of `values` [SIDE * SIDE, n], each a thumbnail, with [SIDE, SIDE] matrices applied along its height and
    its width."""
    columns = values.reshape(SIDE, SIDE, -1)
    along = np.matmul(right.astype(values.dtype), columns)
    return (down.astype(values.dtype) @ along.reshape(SIDE, -1)).reshape(values.shape)


def _shift_matrix(shift: float) -> np.ndarray:
    """What moves SIDE values by less than a position, the border repeated: float64 [SIDE, SIDE] (cubic convolution,
    Keys, 1981)."""
    taps = np.arange(-1, 3)
    distance = np.abs(taps - abs(shift))
    near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    matrix = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        for tap, weight in zip(taps, weights, strict=True):
            matrix[row, np.clip(row - tap if shift >= 0 else row + tap, 0, SIDE - 1)] += weight
    return matrix

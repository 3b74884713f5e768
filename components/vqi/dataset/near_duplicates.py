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


def thumbnail(image: np.ndarray) -> np.ndarray:
    """What photographs are compared by: uint8 [H, W, 3] -> float32 [SIDE, SIDE] of mean grey levels.

    Not rounded: the mean of a thousand pixels differs between parts by less than a grey level.
    """
    return np.asarray(Image.fromarray(image).convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BOX))


def near_duplicates(thumbnails: np.ndarray, aspects: np.ndarray) -> list[tuple[int, int]]:
    """Pairs i < j of near copies among thumbnails, float32 [N, SIDE, SIDE], of images with `aspects` width / height
    [N].

    The pairs join every group of near copies (`groups`), each with as few of them as that takes: N copies of one image
    have quadratically many.
    """
    patterns = _patterns(thumbnails)
    if not len(patterns):
        return []
    upright, turned = _views(patterns)
    total, plain = len(patterns), upright[0]
    progress = Progress("near copies: comparing images", total)
    forest = _Forest(total)
    pairs: list[tuple[int, int]] = []
    for start in range(0, total, _BLOCK):
        rows = plain[start : start + _BLOCK]
        own = aspects[start : start + _BLOCK, None]
        alike = np.zeros((len(rows), total - start), dtype=bool)
        for views, ratio in ((upright, own / aspects[None, start:]), (turned, own * aspects[None, start:])):
            best = rows @ views[0][start:].T
            for view in views[1:]:
                np.maximum(best, rows @ view[start:].T, out=best)
            alike |= (best > COSINE) & (np.abs(ratio - 1) < ASPECT)
        pairs += forest.join(
            (first + start, second + start) for first, second in np.argwhere(np.triu(alike, k=1)).tolist()
        )
        progress.advance(len(rows))
    return pairs


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


def _views(patterns: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Whitened patterns of unit length, float32 [N, d] each: as they are, mirrored, half-turned and shifted; and turned
    by a quarter.

    A view is a linear map of the thumbnail, so it is applied to the whitening and not to every pattern.
    """
    numbers = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    unturned = [view.ravel() for view in (numbers, numbers[::-1], numbers[:, ::-1], numbers[::-1, ::-1])]
    quarter = [view.ravel() for view in (numbers.T, numbers.T[::-1], numbers.T[:, ::-1], numbers.T[::-1, ::-1])]
    along = {step: _shift_matrix(step * SHIFT) for step in (-1, 0, 1)}
    shifts = [np.kron(along[down], along[right]) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    used = patterns[patterns.any(axis=1)]
    moments = (used.T @ used).astype(np.float64) / max(len(used), 1)
    moments = (moments + sum(shift @ moments @ shift.T for shift in shifts)) / (1 + len(shifts))
    moments = sum(moments[np.ix_(order, order)] for order in (*unturned, *quarter)) / 8
    energy, directions = np.linalg.eigh(moments)
    noise = max(NOISE * energy.mean(), 1e-12)
    kept = energy / (energy + noise) > _LEAST_WEIGHT
    whitening = (directions[:, kept] / np.sqrt(energy[kept] + noise)).astype(np.float32)

    def view(whitening: np.ndarray) -> np.ndarray:
        whitened = patterns @ whitening
        return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-6)

    # x[order] @ W = x @ W[the inverse of order], and S x @ W = x @ (S.T W).
    upright = [view(whitening[np.argsort(order)]) for order in unturned]
    upright += [view(shift.T.astype(np.float32) @ whitening) for shift in shifts]
    return upright, [view(whitening[np.argsort(order)]) for order in quarter]


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

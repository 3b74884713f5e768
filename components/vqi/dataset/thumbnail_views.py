"""Thumbnails as they are compared: whitened, and seen mirrored, turned by quarters and shifted a little.

What thumbnails of a set share says nothing about which part one shows, so they are whitened by their own second moments
(Jegou, Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening", ECCV 2012),
averaged over mirroring, quarter turns and a small shift, so that these commute with the whitening.

A thumbnail is kept as its parts that are even and odd along height and along width (`fold`). The averaged moments of
two different parts vanish, so that each part is whitened by itself, and the parts that are even or odd along both by
what is the same and what is the opposite in the transposed thumbnail. A mirrored or turned thumbnail then has the same
numbers, exchanged and with other signs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vqi.dataset.file_rows import FileRows

SIDE = 32
HALF = SIDE // 2
# The shift that moments and pairs are averaged and compared over: 1 % of the side.
SHIFT = 0.01 * SIDE
# Directions with less energy than this share of the mean direction's are taken for noise.
NOISE = 0.03
_LEAST_WEIGHT = 0.05
BLOCK = 1024

_ONES = np.eye(SIDE)[:, :HALF]
# Even and odd along a side, in columns: orthonormal.
_PARITIES = np.concatenate([(_ONES + _ONES[::-1]), (_ONES - _ONES[::-1])], axis=1) / np.sqrt(2)

Rows = np.ndarray | FileRows


def blocks(total: int) -> Iterator[np.ndarray]:
    """The numbers below `total`, BLOCK at a time."""
    for start in range(0, total, BLOCK):
        yield np.arange(start, min(start + BLOCK, total))


def fold(patterns: np.ndarray) -> np.ndarray:
    """[N, SIDE, SIDE] -> float32 [N, SIDE * SIDE]: even parts before odd ones along height, and along width."""
    parities = _PARITIES.astype(np.float32)
    return np.matmul(parities.T, patterns @ parities).reshape(len(patterns), -1)


class Views:
    """How the patterns of a set, `folded` [N, SIDE * SIDE], are whitened, float32 [n, width] of unit length; and what
    whitened patterns are in other views."""

    def __init__(self, folded: Rows) -> None:
        self.folded = folded
        self._whitenings, self._parts = _whitenings(_averaged(_moments(folded)))
        self.width = self._parts[-1].stop
        _, opposite, wide, tall, both, across = self._parts
        # Transposed: what is even along height and odd along width is the other way round.
        numbers = np.arange(self.width)
        self._exchanged = np.concatenate([numbers[: wide.start], numbers[tall], numbers[wide], numbers[both.start :]])
        self._transposed = _signs(self.width, opposite, across)
        along_width, along_height = _signs(self.width, wide, both, across), _signs(self.width, tall, both, across)
        mirrored = (_signs(self.width), along_width, along_height, along_width * along_height)
        self.kinds = [(turned, signs) for turned in (False, True) for signs in mirrored]
        moves = {step: _PARITIES.T @ _shift_matrix(step * SHIFT) @ _PARITIES for step in (-1, 0, 1)}
        self._moves = [
            (moves[down].astype(np.float32), moves[right].T.astype(np.float32))
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if down or right
        ]

    def whiten(self, folded: np.ndarray) -> np.ndarray:
        """float32 [n, SIDE * SIDE] -> [n, d] of unit length."""
        values = folded.reshape(-1, 2, HALF, 2, HALF)
        whitened = np.concatenate(
            [values[:, down, :, right].reshape(len(values), -1) @ w for (down, right), w in self._whitenings], axis=1
        )
        whitened /= np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-6)
        return whitened

    def seen(self, vectors: np.ndarray, turned: bool, signs: np.ndarray) -> np.ndarray:
        """Whitened patterns, [n, d], in one of the `kinds`: mirrored, or turned by a quarter and mirrored."""
        return (vectors[:, self._exchanged] * self._transposed if turned else vectors) * signs

    def shifted(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Those patterns in each of eight shifts, [n, d] each."""
        patterns = self.folded[numbers].reshape(-1, SIDE, SIDE)
        return [self.whiten(np.matmul(down, patterns @ right)) for down, right in self._moves]

    def cosines(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cosines of all pairs of whitened patterns, [n, d] and [m, d] -> [n, m]: as they are, the largest over
        mirroring, and the largest over turning by a quarter and mirroring."""

        def product(one: slice, other: slice) -> np.ndarray:
            return rows[:, one] @ columns[:, other].T

        same, opposite, wide, tall, both, across = self._parts
        even, even_opposite = product(same, same), product(opposite, opposite)
        odd, odd_opposite = product(both, both), product(across, across)
        turned = _largest(even - even_opposite, product(wide, tall), product(tall, wide), odd - odd_opposite)
        even += even_opposite
        odd += odd_opposite
        along_width, along_height = product(wide, wide), product(tall, tall)
        plain = even + along_width
        plain += along_height
        plain += odd
        return plain, _largest(even, along_width, along_height, odd), turned


def _largest(even: np.ndarray, wide: np.ndarray, tall: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """The largest of even + s wide + t tall + s t odd over signs s and t."""
    alike = np.abs(wide + tall)
    alike += odd
    other = np.abs(wide - tall)
    other -= odd
    np.maximum(alike, other, out=alike)
    alike += even
    return alike


def _signs(width: int, *negative: slice) -> np.ndarray:
    signs = np.ones(width, np.float32)
    for part in negative:
        signs[part] = -1
    return signs


def _moments(folded: Rows) -> np.ndarray:
    """The mean second moments of patterns that are not blank, each part with itself: float64 [2, 2, HALF ** 2,
    HALF ** 2], by parity along height and width."""
    total, count = np.zeros((2, 2, HALF * HALF, HALF * HALF)), 0
    for numbers in blocks(len(folded)):
        block = folded[numbers]
        count += int(np.count_nonzero(block.any(axis=1)))
        values = block.reshape(-1, 2, HALF, 2, HALF)
        for down in (0, 1):
            for right in (0, 1):
                part = values[:, down, :, right].reshape(len(values), -1)
                total[down, right] += part.T @ part
    return total / max(count, 1)


def _averaged(moments: np.ndarray) -> np.ndarray:
    """Moments averaged over eight shifts and none, and over quarter turns."""
    moves = _PARITIES.T @ _shift_matrix(SHIFT) @ _PARITIES
    parts = moves.reshape(2, HALF, 2, HALF).transpose(0, 2, 1, 3)
    # The eight shifts are two and their mirror images and turns.
    moments = _transposed_mean(moments)
    along_width = np.zeros_like(moments)
    along_both = np.zeros_like(moments)
    for down in (0, 1):
        for right in (0, 1):
            for other in (0, 1):
                along_width[down, right] += _moved(moments[down, other], parts[right, other], "ac,rcsd,bd->rasb")
    for down in (0, 1):
        for right in (0, 1):
            for other in (0, 1):
                along_both[down, right] += _moved(along_width[other, right], parts[down, other], "ar,rcsd,bs->acbd")
    return _transposed_mean((moments + 4 * along_width + 4 * along_both) / 9)


def _moved(moments: np.ndarray, move: np.ndarray, axes: str) -> np.ndarray:
    values = moments.reshape((HALF,) * 4)
    moved: np.ndarray = np.einsum(axes, move, values, move, optimize=True)
    return moved.reshape(moments.shape)


def _transposed_mean(moments: np.ndarray) -> np.ndarray:
    shape = (2, 2, HALF, HALF, HALF, HALF)
    transposed = moments.reshape(shape).transpose(1, 0, 3, 2, 5, 4).reshape(moments.shape)
    mean: np.ndarray = (moments + transposed) / 2
    return mean


def _whitenings(moments: np.ndarray) -> tuple[list[tuple[tuple[int, int], np.ndarray]], list[slice]]:
    """Whitening directions in columns, float32 [HALF ** 2, d], of each part (parity along height and width), and where
    each stands in a whitened pattern: even along both and the same, or the opposite, transposed; odd along width alone;
    along height alone; odd along both and the same, or the opposite, transposed."""
    pixels = np.arange(HALF * HALF).reshape(HALF, HALF)
    one, other = np.triu_indices(HALF, 1)
    middle = np.diag(pixels)
    same, opposite = (np.zeros((HALF * HALF, len(one))) for _ in range(2))
    columns = np.arange(len(one))
    for basis, sign in ((same, 1), (opposite, -1)):
        basis[pixels[one, other], columns], basis[pixels[other, one], columns] = np.sqrt(0.5), sign * np.sqrt(0.5)
    same = np.concatenate([same, np.eye(HALF * HALF)[:, middle]], axis=1)
    spectra = []
    for parity in ((0, 0), (1, 1)):
        for basis in (same, opposite):
            energy, vectors = np.linalg.eigh(basis.T @ moments[parity] @ basis)
            spectra.append((parity, energy, basis @ vectors))
    energy, vectors = np.linalg.eigh(moments[0, 1])
    spectra[2:2] = [((0, 1), energy, vectors), ((1, 0), energy, vectors[pixels.T.ravel()])]
    noise = max(NOISE * float(np.concatenate([energy for _, energy, _ in spectra]).mean()), 1e-12)
    whitenings, parts, at = [], [], 0
    for parity, energy, vectors in spectra:
        kept = energy / (energy + noise) > _LEAST_WEIGHT
        whitenings.append((parity, (vectors[:, kept] / np.sqrt(energy[kept] + noise)).astype(np.float32)))
        parts.append(slice(at, at + int(kept.sum())))
        at = parts[-1].stop
    return whitenings, parts


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

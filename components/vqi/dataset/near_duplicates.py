"""Photographs that are almost pixel-identical: saved again, scaled or stripped of metadata; not merely photographs of like parts.

Parts from one line in one fixture look alike, so their perceptual hashes collide by the thousand. What two photographs of different parts never
share is the fine pattern of the surface: small thumbnails, high-passed, are compared by their cosine. All pairs of 10,000 images are one
blocked matrix product, ten seconds on two busy cores.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vqi.platform.progress import Progress

SIDE = 32
# Measured on cookie, hazelnut, magnetic_tile and the rendered flanges: saved again as JPEG of quality 75, the same photograph keeps a cosine
# above .983 (median .998); of different parts the highest is .985, under .7 on cookie and hazelnut. One tile photographed twice without being
# moved goes up to .997, mostly at another exposure: the grey levels tell these apart.
COSINE = 0.99
GREY_LEVELS = 3.0
ASPECT = 0.03
# Thumbnails with less fine structure than this (deviation in grey levels) are blank: their pattern is noise of rounding.
BLANK = 0.25
MOST_PAIRS = 20_000
_BLOCK = 1024


def thumbnail(image: np.ndarray) -> np.ndarray:
    """What photographs are compared by: uint8 [H, W, 3] -> uint8 [SIDE, SIDE] of mean grey levels."""
    return np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def near_duplicates(thumbnails: np.ndarray, aspects: np.ndarray) -> list[tuple[int, int]]:
    """The pairs i < j of near duplicates among thumbnails, uint8 [N, SIDE, SIDE], of images with `aspects` width / height [N].

    At most MOST_PAIRS are returned: a set of copies has quadratically many.
    """
    patterns = _patterns(thumbnails)
    total = len(patterns)
    progress = Progress("check: comparing images", total)
    pairs: list[tuple[int, int]] = []
    for start in range(0, total, _BLOCK):
        alike = patterns[start : start + _BLOCK] @ patterns[start:].T
        rows, columns = np.nonzero(np.triu(alike > COSINE, k=1))
        rows, columns = rows + start, columns + start
        same_shape = np.abs(aspects[rows] / aspects[columns] - 1) < ASPECT
        rows, columns = rows[same_shape][:MOST_PAIRS], columns[same_shape][:MOST_PAIRS]
        differences = np.abs(thumbnails[rows].astype(np.int16) - thumbnails[columns]).mean(axis=(1, 2), dtype=np.float64)
        same_light = differences < GREY_LEVELS
        pairs += zip(rows[same_light].tolist(), columns[same_light].tolist(), strict=True)
        if len(pairs) >= MOST_PAIRS:
            return pairs[:MOST_PAIRS]
        progress.advance(len(alike))
    return pairs


def groups(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """The connected groups of `pairs`, each sorted, in order of their first member."""
    parent: dict[int, int] = {}

    def root(member: int) -> int:
        while parent.setdefault(member, member) != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for member in sorted(parent):
        members.setdefault(root(member), []).append(member)
    return [members[key] for key in sorted(members)]


def _patterns(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails less their local mean of 5 x 5, of unit length: float32 [N, SIDE * SIDE]; blank ones are zero."""
    values = thumbnails.astype(np.float32)
    padded = np.pad(values, ((0, 0), (2, 2), (2, 2)), mode="edge")
    window = range(5)
    local = sum((padded[:, row : row + SIDE, column : column + SIDE] for row in window for column in window), np.zeros_like(values)) / 25
    patterns = (values - local).reshape(len(values), SIDE * SIDE)
    patterns -= patterns.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(patterns, axis=1, keepdims=True)
    return np.where(lengths > BLANK * SIDE, patterns / np.maximum(lengths, 1e-6), 0).astype(np.float32)

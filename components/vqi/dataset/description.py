"""A photograph described by few numbers, for a quick search of what is unusual in a set; numpy and Pillow alone.

As the filter bank of the detectors (docs/filterbank.md), but coarser: at one exposure, in three octaves, log contrasts
along four directions and local means, and two opponent colours, averaged over GRID x GRID cells. The image of this step
has no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vqi.dataset.geometry import Geometry

# Pixels along a side that are described, cells along a side, and numbers of a cell.
SIDE, GRID, CHANNELS = 128, 8, 17
# Pixels along the shorter side that a photograph keeps before it is described.
REDUCED = 256
OCTAVES = 3
# Photographs whose numbers are computed at once: as many as a processor's cache holds.
_AT_ONCE = 8
EXPOSURE, DARKNESS = 102.0, 5.0
# A local mean is worth so many grey levels a unit beside the logarithm of a contrast.
LEVELS = 12.0
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def seen_cells(geometry: Geometry, size: tuple[int, int], grid: int = GRID) -> np.ndarray:
    """Which cells of a photograph of (height, width) the network sees, by their centres: bool [grid * grid]."""
    left, top, right, bottom = geometry.seen(size)
    down, across = ((np.arange(grid) + 0.5) / grid * side for side in size)
    seen: np.ndarray = np.outer((down >= top) & (down < bottom), (across >= left) & (across < right)).reshape(-1)
    return seen


def reduced(photograph: Image.Image) -> Image.Image:
    """A photograph, RGB or L, made smaller by a whole number where its shorter side stays REDUCED pixels: what is
    described of it is coarser by far."""
    factor = min(photograph.size) // REDUCED
    return photograph.reduce(factor) if factor > 1 else photograph


def pictured(photograph: Image.Image) -> Image.Image:
    """What is described of a photograph, RGB or L: RGB of SIDE x SIDE."""
    width, height = photograph.size
    # The same pixels, several times faster: half of each side is rounded once along each, and a pixel is repeated.
    if width == height == 2 * SIDE:
        small = photograph.reduce((2, 1)).reduce((1, 2))
    else:
        repeated = width <= SIDE and height <= SIDE and not SIDE % width and not SIDE % height
        small = photograph.resize((SIDE, SIDE), Image.Resampling.NEAREST if repeated else Image.Resampling.BOX)
    return small if small.mode == "RGB" else small.convert("RGB")


def describe(picture: Image.Image, grid: int = GRID) -> np.ndarray:
    """What is `pictured` of a photograph -> float16 [grid * grid, CHANNELS]; `grid` is a power of two up to 32."""
    described: np.ndarray = describe_all([picture], grid)[0]
    return described


def describe_all(pictures: Sequence[Image.Image], grid: int = GRID) -> np.ndarray:
    """`describe` of several, float16 [N, grid * grid, CHANNELS]: to the bit what each alone gives."""
    described = np.empty((len(pictures), grid * grid, CHANNELS), np.float16)
    for start in range(0, len(pictures), _AT_ONCE):
        described[start : start + _AT_ONCE] = _describe(pictures[start : start + _AT_ONCE], grid)
    return described


def _describe(pictures: Sequence[Image.Image], grid: int) -> np.ndarray:
    count = len(pictures)
    colours = np.empty((count, 3, SIDE, SIDE), np.float32)
    for values, picture in zip(colours, pictures, strict=True):
        values[:] = np.moveaxis(np.asarray(picture), 2, 0)
    colours *= (EXPOSURE / (colours.reshape(count, -1).mean(axis=1) + DARKNESS))[:, None, None, None]
    red, green, blue = colours[:, 0], colours[:, 1], colours[:, 2]
    octave = (red + green + blue) / 3
    opponents = np.empty((count, 2, SIDE, SIDE), np.float32)
    np.subtract(red, green, out=opponents[:, 0])
    np.subtract((red + green) / 2, blue, out=opponents[:, 1])
    opponents /= LEVELS
    cells = [_cells(opponents, grid)]
    for number in range(OCTAVES):
        logs = _cells(_log_energies(octave), grid)
        logs /= 2
        cells += [logs, _cells(octave[:, None], grid) / LEVELS]
        if number + 1 < OCTAVES:
            octave = (octave[:, ::2, ::2] + octave[:, 1::2, ::2] + octave[:, ::2, 1::2] + octave[:, 1::2, 1::2]) / 4
    return np.concatenate(cells, axis=1).reshape(count, CHANNELS, -1).transpose(0, 2, 1)


def _log_energies(octaves: np.ndarray) -> np.ndarray:
    """log of the energy of first and second differences along four directions, [n, h, w] -> [n, 4, h, w]."""
    count, height, width = octaves.shape
    padded = np.empty((count, height + 2, width + 2), np.float32)
    padded[:, 1:-1, 1:-1] = octaves
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = octaves[:, 0], octaves[:, -1]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    twice = octaves * 2
    even = np.empty_like(twice)
    energies = np.empty((count, len(_DIRECTIONS), height, width), np.float32)
    for number, (down, right) in enumerate(_DIRECTIONS):
        energy = energies[:, number]
        after = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        before = padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        # Twice the differences: odd, after - before, and even, 2 octave - after - before.
        np.subtract(after, before, out=energy)
        np.subtract(twice, after, out=even)
        even -= before
        np.square(energy, out=energy)
        np.square(even, out=even)
        energy += even
    energies *= 0.25
    energies += 1
    return np.log(energies, out=energies)


def _cells(maps: np.ndarray, grid: int) -> np.ndarray:
    """Means over grid x grid cells of float32 [..., side, side] -> [..., grid, grid]."""
    means = _mean_matrix(maps.shape[-1], grid)
    return np.matmul(means, np.matmul(maps, means.T))


@lru_cache
def _mean_matrix(side: int, grid: int) -> np.ndarray:
    """What takes the means of `grid` equal parts of `side` values: float32 [grid, side]."""
    return np.kron(np.eye(grid), np.full((1, side // grid), grid / side)).astype(np.float32)

"""A photograph described by few numbers, for a quick search of what is unusual in a set; numpy and Pillow alone.

As the filter bank of the detectors (docs/filterbank.md), but coarser: at one exposure, in three octaves, log contrasts
along four directions and local means, and two opponent colours, averaged over GRID x GRID cells. The image of this step
has no torch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from vqi.dataset.geometry import Geometry

# Pixels along a side that are described, cells along a side, and numbers of a cell.
SIDE, GRID, CHANNELS = 128, 8, 17
# Pixels along the shorter side that a photograph keeps before it is described.
REDUCED = 256
OCTAVES = 3
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


def reduced(pixels: np.ndarray) -> Image.Image:
    """A photograph, uint8 [H, W, 3], made smaller by a whole number where its shorter side stays REDUCED pixels: what
    is described of it is coarser by far."""
    image = Image.fromarray(pixels)
    factor = min(pixels.shape[:2]) // REDUCED
    return image.reduce(factor) if factor > 1 else image


def pictured(photograph: Image.Image) -> Image.Image:
    """What is described of a photograph: RGB of SIDE x SIDE."""
    return photograph.resize((SIDE, SIDE), Image.Resampling.BOX)


def describe(picture: Image.Image, grid: int = GRID) -> np.ndarray:
    """What is `pictured` of a photograph -> float16 [grid * grid, CHANNELS]; `grid` is a power of two up to 32."""
    colours = np.ascontiguousarray(np.moveaxis(np.asarray(picture, dtype=np.float32), 2, 0))
    colours *= EXPOSURE / (colours.mean() + DARKNESS)
    red, green, blue = colours
    octave = (red + green + blue) / 3
    opponents = np.stack([(red - green) / LEVELS, ((red + green) / 2 - blue) / LEVELS])
    cells = [_cells(opponents, grid)]
    for number in range(OCTAVES):
        logs = _cells(_log_energies(octave), grid)
        logs /= 2
        cells += [logs, _cells(octave[None], grid) / LEVELS]
        if number + 1 < OCTAVES:
            octave = (octave[::2, ::2] + octave[1::2, ::2] + octave[::2, 1::2] + octave[1::2, 1::2]) / 4
    return np.concatenate(cells).reshape(CHANNELS, -1).T.astype(np.float16)


def _log_energies(octave: np.ndarray) -> np.ndarray:
    """log of the energy of first and second differences along four directions, [4, h, w]."""
    height, width = octave.shape
    padded = np.empty((height + 2, width + 2), np.float32)
    padded[1:-1, 1:-1] = octave
    padded[0, 1:-1], padded[-1, 1:-1] = octave[0], octave[-1]
    padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
    twice = octave * 2
    energies = np.empty((len(_DIRECTIONS), height, width), np.float32)
    for (down, right), energy in zip(_DIRECTIONS, energies, strict=True):
        after = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        before = padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        # Twice the differences: odd, after - before, and even, 2 octave - after - before.
        np.subtract(after, before, out=energy)
        even = twice - after
        even -= before
        np.square(energy, out=energy)
        np.square(even, out=even)
        energy += even
    energies *= 0.25
    energies += 1
    return np.log(energies, out=energies)


def _cells(maps: np.ndarray, grid: int) -> np.ndarray:
    """Means over grid x grid cells of float32 [n, side, side] -> [n, grid, grid]."""
    means = _mean_matrix(maps.shape[1], grid)
    return np.matmul(means, np.matmul(maps, means.T))


@lru_cache
def _mean_matrix(side: int, grid: int) -> np.ndarray:
    """What takes the means of `grid` equal parts of `side` values: float32 [grid, side]."""
    return np.kron(np.eye(grid), np.full((1, side // grid), grid / side)).astype(np.float32)

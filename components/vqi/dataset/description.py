"""A photograph described by few numbers, for a quick search of what is unusual in a set; numpy and Pillow alone.

As the filter bank of the detectors (docs/filterbank.md), but coarser: at one exposure, in three octaves, log contrasts
along four directions and local means, and two opponent colours, averaged over GRID x GRID cells. The image of this step
has no torch.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vqi.dataset.geometry import Geometry

# Pixels along a side that are described, cells along a side, and numbers of a cell.
SIDE, GRID, CHANNELS = 128, 8, 17
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


def describe(pixels: np.ndarray, grid: int = GRID) -> np.ndarray:
    """uint8 [H, W, 3] -> float16 [grid * grid, CHANNELS] of the whole photograph; `grid` is a power of two up to 32."""
    picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    colours = np.asarray(picture, dtype=np.float32)
    colours = colours * (EXPOSURE / (colours.mean() + DARKNESS))
    red, green, blue = np.moveaxis(colours, 2, 0)
    maps = [(red - green) / LEVELS, ((red + green) / 2 - blue) / LEVELS]
    octave = (red + green + blue) / 3
    for number in range(OCTAVES):
        maps += [*_log_contrasts(octave), octave / LEVELS]
        if number + 1 < OCTAVES:
            octave = (octave[::2, ::2] + octave[1::2, ::2] + octave[::2, 1::2] + octave[1::2, 1::2]) / 4
    return np.stack([_cells(values, grid) for values in maps], axis=-1).reshape(-1, CHANNELS).astype(np.float16)


def _log_contrasts(octave: np.ndarray) -> list[np.ndarray]:
    """log of the energy of first and second differences along four directions, [h, w] each."""
    height, width = octave.shape
    padded = np.pad(octave, 1, mode="edge")
    maps = []
    for down, right in _DIRECTIONS:
        after = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        before = padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        odd, even = (after - before) / 2, (2 * octave - after - before) / 2
        maps.append(np.log(odd * odd + even * even + 1) / 2)
    return maps


def _cells(values: np.ndarray, grid: int) -> np.ndarray:
    height, width = values.shape
    return values.reshape(grid, height // grid, grid, width // grid).mean(axis=(1, 3))

"""What a photograph says of how it was taken: light, colour, sharpness, and the camera that its file names.

At most 16,384 pixels are looked at for light and 64 tiles for sharpness, so that a photograph of 40 megapixels costs no
more than one of a quarter.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image

# Pixels looked at along a side for light, tiles along a side and pixels along a tile for sharpness.
SAMPLED, TILES, TILE = 128, 8, 48
# Up to so many pixels along the longer side tiles are summed in one picture, above it each is cut out.
_SMALL = 400
# What counts as white (in every channel) and as black (in none more).
WHITE, BLACK = 254, 1
# What is added to a Laplacian and to a brightness, in grey levels, before they are divided.
_HALF_A_LEVEL, _DARKNESS = 0.5, 5.0


@dataclass(frozen=True)
class Capture:
    """Mean grey level and colours (red less green, blue less green) in levels; `sharpness`, log2 of the mean absolute
    Laplacian of green in the sharpest quarter of its tiles, relative to the brightness; the shares of pixels that are
    `white` and `black`; `camera`, make and model as the file states them ("" where it does not)."""

    brightness: float
    red_green: float
    blue_green: float
    sharpness: float
    white: float
    black: float
    camera: str = ""


def capture_of(pixels: np.ndarray, content: bytes | memoryview) -> Capture:
    """The figures of a decoded photograph, uint8 [H, W, 3], and of its file."""
    height, width = pixels.shape[:2]
    red, green, blue = np.ascontiguousarray(
        np.moveaxis(pixels[:: -(-height // SAMPLED), :: -(-width // SAMPLED)], 2, 0)
    )
    means = [float(channel.mean()) for channel in (red, green, blue)]
    brightness = 0.299 * means[0] + 0.587 * means[1] + 0.114 * means[2]
    darkest, brightest = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    return Capture(
        brightness,
        means[0] - means[1],
        means[2] - means[1],
        float(np.log2((_laplacian(pixels) + _HALF_A_LEVEL) / (brightness + _DARKNESS))),
        np.count_nonzero(darkest >= WHITE) / darkest.size,
        np.count_nonzero(brightest <= BLACK) / brightest.size,
        _camera(content),
    )


def _laplacian(pixels: np.ndarray) -> float:
    """The upper quartile of the tiles' mean absolute Laplacians, in grey levels; 0 for a picture without an inside."""
    height, width = pixels.shape[:2]
    if min(height, width) < 3:
        return 0.0
    tall, tops = _tiles(height)
    wide, lefts = _tiles(width)
    if max(height, width) <= _SMALL:
        # Sums of less than 2 ** 24: exact in float32.
        values = _absolute_laplacian(pixels[..., 1].astype(np.int16)).astype(np.float32)
        sums = (_inside(height) @ values @ _inside(width).T).ravel().astype(np.float64)
    else:
        tiles = np.stack([pixels[top : top + tall, left : left + wide, 1] for top in tops for left in lefts])
        values = _absolute_laplacian(tiles.astype(np.int16))
        sums = values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
    means = np.sort(sums / ((tall - 2) * (wide - 2)))
    # The quartile by linear interpolation, as np.quantile's, which takes longer than all of this.
    low, share = divmod(0.75 * (len(means) - 1), 1)
    upper = means[min(int(low) + 1, len(means) - 1)]
    return float(means[int(low)] + share * (upper - means[int(low)]))


@lru_cache(4096)
def _tiles(side: int) -> tuple[int, list[int]]:
    """The pixels along a tile, and where each begins, along a side of so many pixels."""
    tile = max(3, min(TILE, side // TILES))
    starts: list[int] = np.linspace(0, side - tile, min(TILES, side // tile), dtype=int).tolist()
    return tile, starts


@lru_cache(64)
def _inside(side: int) -> np.ndarray:
    """Which of the inner pixels along a side lie inside each tile: float32 [tiles, side - 2]."""
    tile, starts = _tiles(side)
    inside = np.zeros((len(starts), side - 2), np.float32)
    for row, start in zip(inside, starts, strict=True):
        row[start : start + tile - 2] = 1
    return inside


def _absolute_laplacian(green: np.ndarray) -> np.ndarray:
    """int16 [..., h, w] -> [..., h - 2, w - 2]."""
    laplacian = 4 * green[..., 1:-1, 1:-1]
    laplacian -= green[..., :-2, 1:-1]
    laplacian -= green[..., 2:, 1:-1]
    laplacian -= green[..., 1:-1, :-2]
    laplacian -= green[..., 1:-1, 2:]
    absolute: np.ndarray = np.abs(laplacian, out=laplacian)
    return absolute


def _camera(content: bytes | memoryview) -> str:
    """Make and model of the file's EXIF data, "" where it has none that can be read."""
    if b"Exif" not in bytes(content[:4096]) and bytes(content[:2]) not in (b"II", b"MM"):
        return ""
    with suppress(Exception), Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
        named = (exif.get(tag) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        return " ".join(str(part).strip("\0 ") for part in named if part)[:80]
    return ""

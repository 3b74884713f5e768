"""What a photograph says of how it was taken: light, colour, sharpness, and the camera that its file names.

At most 16,384 pixels are looked at for light and 64 tiles for sharpness, so that a photograph of 40 megapixels costs no
more than one of a quarter.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

# Pixels looked at along a side for light, tiles along a side and pixels along a tile for sharpness.
SAMPLED, TILES, TILE = 128, 8, 48
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
    return Capture(
        brightness,
        means[0] - means[1],
        means[2] - means[1],
        float(np.log2((_laplacian(pixels) + _HALF_A_LEVEL) / (brightness + _DARKNESS))),
        float(np.mean((red >= WHITE) & (green >= WHITE) & (blue >= WHITE))),
        float(np.mean((red <= BLACK) & (green <= BLACK) & (blue <= BLACK))),
        _camera(content),
    )


def _laplacian(pixels: np.ndarray) -> float:
    """The upper quartile of the tiles' mean absolute Laplacians, in grey levels; 0 for a picture without an inside."""
    height, width = pixels.shape[:2]
    if min(height, width) < 3:
        return 0.0
    tall, wide = (max(3, min(TILE, side // TILES)) for side in (height, width))
    tops, lefts = (
        np.linspace(0, side - tile, min(TILES, side // tile), dtype=int)
        for side, tile in ((height, tall), (width, wide))
    )
    tiles = np.stack([pixels[top : top + tall, left : left + wide, 1] for top in tops for left in lefts])
    green = tiles.astype(np.int16)
    laplacian = 4 * green[:, 1:-1, 1:-1]
    laplacian -= green[:, :-2, 1:-1]
    laplacian -= green[:, 2:, 1:-1]
    laplacian -= green[:, 1:-1, :-2]
    laplacian -= green[:, 1:-1, 2:]
    means = np.sort(np.abs(laplacian).reshape(len(laplacian), -1).mean(axis=1))
    # The quartile by linear interpolation, as np.quantile's, which takes longer than all of this.
    low, share = divmod(0.75 * (len(means) - 1), 1)
    upper = means[min(int(low) + 1, len(means) - 1)]
    return float(means[int(low)] + share * (upper - means[int(low)]))


def _camera(content: bytes | memoryview) -> str:
    """Make and model of the file's EXIF data, "" where it has none that can be read."""
    if b"Exif" not in bytes(content[:4096]) and bytes(content[:2]) not in (b"II", b"MM"):
        return ""
    with suppress(Exception), Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
        named = (exif.get(tag) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        return " ".join(str(part).strip("\0 ") for part in named if part)[:80]
    return ""

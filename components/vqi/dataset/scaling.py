"""Values of a camera scaled to 8 bits, by what is black and white in a whole set; what is transparent becomes grey."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vqi.dataset.decoding import Decoding
from vqi.platform.errors import BadInput

# What lies under transparent pixels is what an editor left there, of any colour: they become this grey, the middle of
# the range.
TRANSPARENT_GREY = 128
# A value that stands for a whole number of levels must not fall below it by rounding.
_ROUNDING = 1e-4
_ROWS = 512


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph: RGB, uint8 [H, W, 3]; the share of its pixels that are not opaque, or have no value (NaN);
    of a file with more than 8 bits a channel, the share of its pixels that lie above the white level, or outside
    of the range of floating-point values; and its pixels as Pillow holds them, RGB or L, where it decoded them so."""

    pixels: np.ndarray
    transparent: float = 0.0
    clipped: float = 0.0
    image: Image.Image | None = None


class RangeUnknown(BadInput):
    """Floating-point values of which nobody said what is black and what is white."""


def scale_values(values: np.ndarray, white: int) -> Photograph:
    """A photograph of whole numbers [H, W, C], as `scale_floats` takes them, whose white is `white`."""
    colours = values if values.shape[2] in (1, 3) else values[..., :-1]
    brightest = int(colours.max(initial=0))
    clipped = (
        np.count_nonzero((colours > white).any(axis=2)) / max(values[..., 0].size, 1) if brightest > white else 0.0
    )
    scaled = (colours.clip(0, white).astype(np.int32) * 255 // white).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(scaled, (*scaled.shape[:2], 3)))
    if colours is values:
        return Photograph(pixels, clipped=clipped)
    # Alpha has a range of its own: that of 16 bits, unless it ends where white does.
    alpha = values[..., -1]
    opaque = white if alpha.max(initial=0) <= white else 65535
    shares = (alpha.clip(0, opaque).astype(np.int32) * 255 // opaque).astype(np.uint8)
    return replace(over_grey(pixels, shares), clipped=clipped)


def over_grey(colours: np.ndarray, alpha: np.ndarray) -> Photograph:
    """uint8 [H, W, 3] with alpha, uint8 [H, W], over the grey of transparent pixels."""
    transparent = 1 - np.count_nonzero(alpha == 255) / max(alpha.size, 1)
    if not transparent:
        return Photograph(np.ascontiguousarray(colours))
    weight = alpha[..., None].astype(np.int32)
    return Photograph(
        ((colours * weight + TRANSPARENT_GREY * (255 - weight) + 127) // 255).astype(np.uint8), transparent
    )


def scale_floats(values: np.ndarray, name: str, decoding: Decoding) -> Photograph:
    """A photograph of floating-point values [H, W, C], C = 1 (grey), 2 (grey, alpha), 3 or 4 channels. What has no
    value (NaN) counts as transparent. Raises RangeUnknown where `decoding` states no range."""
    black, white = decoding.float_black, decoding.float_white
    if black is None or white is None:
        raise RangeUnknown(range_question(f"{name} holds", *finite_range(values)))
    shown = 1 if values.shape[2] < 3 else 3
    pixels = np.empty((*values.shape[:2], 3), np.uint8)
    alpha = np.empty(values.shape[:2], np.uint8)
    outside = 0
    # In doubles a large photograph whole would take gigabytes.
    with np.errstate(invalid="ignore"):  # NaN that signals, of a damaged file
        for start in range(0, len(values), _ROWS):
            rows = slice(start, start + _ROWS)
            colours = values[rows, :, :shown].astype(np.float64)
            missing = np.asarray(np.isnan(colours).any(axis=2))
            outside += int(np.count_nonzero(((colours < black) | (colours > white)).any(axis=2)))
            levels = np.where(missing[..., None], 0, colours.clip(black, white) - black) * (255 / (white - black))
            pixels[rows] = levels + _ROUNDING
            # Alpha is a share, whatever the colours' range.
            shares = values[rows, :, shown].astype(np.float64).clip(0, 1) if values.shape[2] > shown else 1.0
            alpha[rows] = np.where(missing | np.isnan(shares), 0.0, shares * 255 + _ROUNDING)
    return replace(over_grey(pixels, alpha), clipped=outside / max(alpha.size, 1))


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest of values that are numbers; 0 and 0 where none is."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def range_question(what: str, low: float, high: float, example: str = "") -> str:
    """The sentence on floating-point values whose range is not stated."""
    return (
        f"{what} floating-point values{example}, from {low:.6g} to {high:.6g}, and nothing says which are black and "
        f"white; state it for the whole set, such as image.range={_example(low)},{_example(high)}."
    )


def _example(value: float) -> str:
    """A round number near a value, for a sentence that asks for one."""
    return "1" if 0.5 < value <= 1 else "0" if 0 <= value <= 0.5 else f"{value:.3g}"

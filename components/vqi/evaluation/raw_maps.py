"""Anomaly maps as files for other programs: float32 TIFF, or 16-bit PNG with the range of its values.

A PNG holds round(1 + 65534 (v - low) / (high - low)) of a value v, and 0 where the network saw nothing; low and high
are the least and the greatest value of the map, in its text chunks `vqi-low` and `vqi-high`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np

MapFormat = Literal["tiff", "png"]
SUFFIX: dict[MapFormat, str] = {"tiff": ".tiff", "png": ".png"}
LOW, HIGH = "vqi-low", "vqi-high"
STEPS = 65534


@dataclass(frozen=True)
class RawMap:
    """The content of a file, and the least and greatest value where they are needed to read it (PNG)."""

    content: bytes
    range: tuple[float, float] | None


def encode_map(values: np.ndarray, form: MapFormat) -> RawMap:
    """A map, float32 [H, W] with NaN where the network saw nothing, as a file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    content = io.BytesIO()
    if form == "tiff":
        Image.fromarray(values.astype(np.float32, copy=False)).save(content, "TIFF", compression="tiff_adobe_deflate")
        return RawMap(content.getvalue(), None)
    seen = np.isfinite(values)
    low, high = (float(values[seen].min()), float(values[seen].max())) if seen.any() else (0.0, 0.0)
    scaled = (np.where(seen, values, low).astype(np.float64) - low) / ((high - low) or 1.0)
    levels = np.where(seen, np.rint(1 + STEPS * scaled), 0).astype(np.uint16)
    text = PngInfo()
    text.add_text(LOW, repr(low))
    text.add_text(HIGH, repr(high))
    Image.fromarray(levels).save(content, "PNG", pnginfo=text)
    return RawMap(content.getvalue(), (low, high))


def decode_png_map(content: bytes) -> np.ndarray:
    """The map in a PNG that `encode_map` made, float32 [H, W]: off by at most (high - low) / 131068."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        levels = np.asarray(image).astype(np.float64)
        low, high = (float(image.info[name]) for name in (LOW, HIGH))
    return np.where(levels > 0, low + (levels - 1) / STEPS * (high - low), np.nan).astype(np.float32)

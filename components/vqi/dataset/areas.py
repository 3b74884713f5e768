"""Where to look in a photograph: polygons as text, drawn as a mask, and read from one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqi.platform.errors import BadInput

# What an area's mask file is called.
PICTURES = (".png", ".bmp", ".tif", ".tiff")
MOST_POINTS = 10_000
_NUMBER = r"\d{1,6}(?:\.\d{1,6})?"
_POINT = re.compile(rf"{_NUMBER},{_NUMBER}")
SHAPE = (
    "polygons of three or more points x,y in pixels of the original, such as 10,10 200,10 200,300; 400,20 500,20 450,90"
)
# OpenCV draws with this many bits behind the point.
_SHIFT = 8


@dataclass(frozen=True)
class Polygons:
    """`rings`: the points of each polygon, float64 [n, 2] as x, y in pixel edges. What lies in an odd number of them is
    inside: a ring in another is a hole."""

    rings: tuple[np.ndarray, ...]

    @staticmethod
    def of(text: str) -> Polygons:
        """The polygons that `parse_area` wrote."""
        return Polygons(
            tuple(
                np.array([[float(number) for number in point.split(",")] for point in ring.split(" ")])
                for ring in text.split("; ")
                if ring
            )
        )

    def moved(self, x: float, y: float, across: float, down: float) -> Polygons:
        """With `x`, `y` as the new origin, then scaled."""
        return Polygons(tuple((ring - (x, y)) * (across, down) for ring in self.rings))


def parse_area(value: Any) -> str:
    """Polygons as one text: points x,y, a space between two, "; " between polygons; "" for none.

    Takes that text, its JSON, or lists of points. Raises ValueError with what it must be.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"must be {SHAPE}") from error
    if isinstance(value, (list, tuple)) and value:
        value = "; ".join(_text_of_ring(ring) for ring in _rings(value))
    if not isinstance(value, str):
        raise ValueError(f"must be {SHAPE}")
    rings = []
    for ring in value.split(";"):
        points = re.sub(r"\s*,\s*", ",", ring.strip()).split()
        if len(points) < 3 or not all(_POINT.fullmatch(point) for point in points):
            raise ValueError(f"must be {SHAPE}")
        rings.append(" ".join(points))
    if sum(ring.count(" ") + 1 for ring in rings) > MOST_POINTS:
        raise ValueError(f"must have at most {MOST_POINTS} points")
    return "; ".join(rings)


def _rings(value: Sequence[Any]) -> Sequence[Any]:
    """One polygon, or several."""
    first = value[0] if value else None
    one = isinstance(first, (list, tuple)) and bool(first) and not isinstance(first[0], (list, tuple))
    return [value] if one else value


def _text_of_ring(ring: Any) -> str:
    if not isinstance(ring, (list, tuple)) or not all(
        isinstance(point, (list, tuple)) and len(point) == 2 for point in ring
    ):
        raise ValueError(f"must be {SHAPE}")
    return " ".join(f"{x},{y}" for x, y in ring)


def extent_of(polygons: Polygons) -> tuple[float, float]:
    """The largest x and y."""
    points = np.concatenate(polygons.rings)
    return float(points[:, 0].max()), float(points[:, 1].max())


def draw_area(polygons: Polygons, size: tuple[int, int]) -> np.ndarray:
    """Where the centre of a pixel lies inside or on the edge, bool [H, W] of `size` (height, width)."""
    import cv2

    drawn = np.zeros(size, dtype=np.uint8)
    # OpenCV's whole numbers are centres of pixels.
    rings = [np.round((ring - 0.5) * (1 << _SHIFT)).astype(np.int32) for ring in polygons.rings]
    cv2.fillPoly(drawn, rings, 1, shift=_SHIFT)
    return drawn > 0


def area_of_file(path: Path) -> str:
    """The area, as text, that a mask file shows: everything but black. Raises BadInput where it cannot be used."""
    from vqi.dataset.masks import BLACK_BACKGROUND, decode_mask

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"image.area names {path}, which cannot be read ({error.strerror}).") from error
    try:
        return area_of_mask(decode_mask(data, str(path), BLACK_BACKGROUND))
    except ValueError as error:
        raise BadInput(f"image.area names {path}, which {error}; draw a simpler one, or write polygons.") from error


def area_of_mask(mask: np.ndarray) -> str:
    """The area, as text, that a mask shows, bool [H, W]. Raises ValueError where it shows nothing, or too much
    detail."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(contour, 0.5, True)[:, 0] for contour in contours]
    rings = [ring for ring in rings if len(ring) >= 3]
    if not rings:
        raise ValueError("marks no area")
    return parse_area("; ".join(" ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in ring) for ring in rings))

"""Defects that are drawn in place of painted: what annotation files hold, and the one function that makes masks of it.

Coordinates are pixels of the photograph as a viewer shows it (EXIF orientation applied), x to the right, y down; the
first pixel reaches from 0 to 1. Relative ones are shares of its width and height, as YOLO's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vqi.platform.errors import BadInput

# An outline of more points is not a drawing of a person or a tool; the sums bound the time that one photograph takes.
MOST_POINTS, MOST_POINTS_OF_A_PHOTOGRAPH = 20_000, 200_000
MOST_DRAWINGS_OF_A_PHOTOGRAPH = 10_000
# Runs of one mask; the text that holds them has at most seven characters a run.
MOST_RUNS = 4_000_000
_CHARACTERS_A_RUN = 7


@dataclass(frozen=True, eq=False, slots=True)
class Polygon:
    """A closed outline and what lies inside it, by the even-odd rule; one point is a pixel, two are a line.

    `points` are pairs (x, y); they are kept as float64 [n, 2]. What cannot be drawn is kept empty, and `problem` says
    what is wrong with it.
    """

    points: Sequence[Sequence[float]] | np.ndarray
    relative: bool = False
    problem: str = ""

    def __post_init__(self) -> None:
        _keep(self, "points", *_numbers(self.points, MOST_POINTS, "a polygon", "points", pairs=True))


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """An upright rectangle around a defect: where it lies, not what shape it has."""

    x1: float
    y1: float
    x2: float
    y2: float
    relative: bool = False

    @property
    def problem(self) -> str:
        """Why it cannot be drawn; "" where it can."""
        corners, problem = _numbers([self.x1, self.y1, self.x2, self.y2], 4, "a box", "corners")
        if problem or (corners[0] < corners[2] and corners[1] < corners[3]):
            return problem
        return f"a box from ({self.x1:g}, {self.y1:g}) to ({self.x2:g}, {self.y2:g}), which holds nothing"


@dataclass(frozen=True, eq=False, slots=True)
class RunLengths:
    """A mask as lengths of runs, background first, in turn; column after column as COCO has them, or row after row.

    `counts` are whole numbers, or COCO's compressed text (cocoapi, `rleFrString`); numbers are kept as int64 [n]. They
    sum to `height` x `width`, which is the photograph's size.
    """

    counts: Sequence[int] | np.ndarray | str
    height: int
    width: int
    by_columns: bool = True
    problem: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(side, int) and side > 0 for side in (self.height, self.width)):
            _keep(self, "counts", "", f"a run-length mask of {self.height!r} x {self.width!r} pixels")
        elif not isinstance(self.counts, str):
            numbers, problem = _numbers(self.counts, MOST_RUNS, "a run-length mask", "runs")
            problem = problem or _fractions(numbers)
            _keep(self, "counts", np.empty(0, np.int64) if problem else numbers.astype(np.int64), problem)
        elif len(self.counts) > MOST_RUNS * _CHARACTERS_A_RUN:
            _keep(self, "counts", "", f"a run-length mask of {len(self.counts)} characters; {MOST_RUNS} runs are read")


Drawing = Polygon | Box | RunLengths


def draw_mask(drawings: Iterable[Drawing], width: int, height: int, owner: str) -> np.ndarray:
    """What any of the drawings covers of a photograph, bool [height, width]; parts beyond its edges are cut off.

    `owner` names the photograph in errors. Polygons cover their outline too, as LabelMe's own masks do. Raises BadInput
    for what cannot be drawn, and for a drawing that lies off the photograph.
    """
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    runs: list[RunLengths] = []
    for drawing in drawings:
        if drawing.problem:
            raise BadInput(f"{owner} has {drawing.problem}; mend the annotation.")
        if isinstance(drawing, RunLengths):
            runs.append(drawing)
            continue
        left, top, right, bottom = _bounds(drawing, width, height)
        near = left >= -width and top >= -height and right <= 2 * width and bottom <= 2 * height
        # A box that ends where the photograph begins covers none of it; a polygon's outline does.
        first = 0.0 if isinstance(drawing, Polygon) else np.nextafter(0.0, 1.0)
        if not near or right < first or bottom < first or left >= width or top >= height:
            raise BadInput(
                f"{owner} has {'a box' if isinstance(drawing, Box) else 'a polygon'} off the photograph: it lies at x "
                f"{left:g} to {right:g} and y {top:g} to {bottom:g}, and the photograph has {width} x {height} pixels; "
                "mend the annotation, or bring the photograph it was drawn on."
            )
        if isinstance(drawing, Box):
            # Pillow counts the last pixel in.
            first_x, first_y, past_x, past_y = pixel_box(drawing, width, height)
            pen.rectangle((first_x, first_y, past_x - 1, past_y - 1), fill=1)
        else:
            points = [(float(x), float(y)) for x, y in _in_pixels(drawing, width, height)]
            if len(points) < 3:
                pen.line(points * 2 if len(points) == 1 else points, fill=1)
            else:
                pen.polygon(points, fill=1, outline=1)
    mask = np.asarray(canvas).astype(bool)
    for run in runs:
        mask |= _from_runs(run, width, height, owner)
    return mask


def pixel_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels of a photograph that a box touches: left, top, and right and bottom past the last pixel."""
    left, top, right, bottom = _bounds(box, width, height)
    return (
        max(int(np.floor(left)), 0),
        max(int(np.floor(top)), 0),
        min(int(np.ceil(right)), width),
        min(int(np.ceil(bottom)), height),
    )


def reaches_beyond(drawing: Drawing, width: int, height: int) -> bool:
    """Whether a part of a drawing lies outside a photograph of `width` x `height` pixels."""
    if isinstance(drawing, RunLengths) or drawing.problem:
        return False
    left, top, right, bottom = _bounds(drawing, width, height)
    return left < 0 or top < 0 or right > width or bottom > height


def _keep(drawing: Polygon | RunLengths, name: str, value: Any, problem: str) -> None:
    object.__setattr__(drawing, name, value)
    object.__setattr__(drawing, "problem", problem)


def _numbers(values: Any, most: int, what: str, parts: str, pairs: bool = False) -> tuple[np.ndarray, str]:
    """Finite numbers as float64 [n] or [n, 2], and what is wrong with them; empty where anything is."""
    empty = np.empty((0, 2) if pairs else 0)
    try:
        if len(values) > most:
            return empty, f"{what} of {len(values)} {parts}, more than {most}"
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return empty, f"{what} whose {parts} are not numbers"
    if not len(numbers):
        return empty, f"{what} without {parts}"
    if numbers.ndim != empty.ndim or (pairs and numbers.shape[1] != 2):
        return empty, f"{what} whose {parts} are not {'pairs of numbers' if pairs else 'numbers'}"
    if not np.isfinite(numbers).all():
        return empty, f"{what} whose {parts} are not finite"
    return numbers, ""


def _fractions(counts: np.ndarray) -> str:
    whole = (counts >= 0) & (counts < 1 << 53) & (counts == np.floor(counts))
    return "" if whole.all() else "a run-length mask whose runs are not whole numbers of 0 and more"


def _in_pixels(drawing: Polygon | Box, width: int, height: int) -> np.ndarray:
    """The points of a polygon or the two corners of a box in pixels, float64 [n, 2]."""
    if isinstance(drawing, Box):
        points = np.array([(drawing.x1, drawing.y1), (drawing.x2, drawing.y2)])
    else:
        points = np.asarray(drawing.points)
    return points * (width, height) if drawing.relative else points


def _bounds(drawing: Polygon | Box, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels."""
    points = _in_pixels(drawing, width, height)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _from_runs(runs: RunLengths, width: int, height: int, owner: str) -> np.ndarray:
    """The mask of run lengths, bool [height, width]; nothing is allocated before they are known to fill it exactly."""
    if (runs.width, runs.height) != (width, height):
        raise BadInput(
            f"{owner} has a run-length mask of {runs.width} x {runs.height} pixels, and the photograph has {width} x "
            f"{height}; mend the annotation, or bring the photograph it was drawn on."
        )
    counts = _decompressed(runs.counts, owner) if isinstance(runs.counts, str) else np.asarray(runs.counts)
    # Runs are below 2**53: floats add them without overflow, and exactly where the sum is a photograph's.
    total = float(counts.sum(dtype=np.float64))
    if total != width * height:
        raise BadInput(
            f"{owner} has a run-length mask whose runs cover {total:.0f} pixels of {width * height}; mend the "
            "annotation."
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T if runs.by_columns else flat.reshape(height, width)


def _decompressed(text: str, owner: str) -> np.ndarray:
    """The runs that COCO's compressed text holds, int64 [n].

    Groups of five bits, the lowest first, each with a sixth that says that more follow; from the third run on the
    difference to the one before the last (cocoapi, maskApi.c, `rleFrString`; decoded here since that writes beyond its
    buffer for texts that are not its own).
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 5 * (_CHARACTERS_A_RUN - 1):
            raise BadInput(f"{owner} has a run-length mask whose text is not COCO's; mend the annotation.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if value < 0 or len(counts) >= MOST_RUNS:
            raise BadInput(f"{owner} has a run-length mask with a run of {value} pixels; mend the annotation.")
        counts.append(value)
        value = shift = 0
    if shift:
        raise BadInput(f"{owner} has a run-length mask whose text ends within a run; mend the annotation.")
    return np.array(counts, np.int64)

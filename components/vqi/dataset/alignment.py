"""Photographs brought into the place of a reference: turned and shifted parts lie as the reference's part does, before
anything looks at them.

A turn and a shift are searched coarsely, so that no start can mislead them: at every few degrees phase correlation
(OpenCV) proposes a shift, and the correlation of the grey levels decides. The enhanced correlation coefficient refines
the best (G. Evangelidis and E. Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient
Maximization", TPAMI 30 (2008); OpenCV's findTransformECC).

Coordinates are pixel edges, as in `geometry.py`: a point q of the reference lies at A q + t in the photograph.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from vqi.platform.errors import BadInput

# The longest side that is compared, pixels, and that of the coarse search.
SIDE, COARSE_SIDE = 256, 96
# Degrees between the turns of the coarse search: at its edge 3 pixels, which phase correlation bears.
_STEP = 4.0
_ITERATIONS, _PRECISION, _SMOOTHING = 60, 1e-4, 5
# Photographs whose grey levels correlate less with the reference's, once aligned, show something else.
LEAST_QUALITY = 0.5
# What is aligned must look more like the reference by this much, or nothing is moved.
_GAIN = 1e-3


@dataclass(frozen=True)
class Alignment:
    """How a photograph lies: `matrix` (a, b, c, d, e, f: x' = a x + b y + c, y' = d x + e y + f, from the reference to
    the photograph, pixel edges), or None where it is used as it is; `quality` is the correlation of its grey levels
    with the reference's, -1 to 1; `reason` says why there is no matrix."""

    matrix: tuple[float, float, float, float, float, float] | None
    quality: float
    reason: str = ""

    @property
    def angle(self) -> float:
        """Degrees that the part is turned by, clockwise as shown."""
        return math.degrees(math.atan2(self.matrix[3], self.matrix[0])) if self.matrix else 0.0

    def apply(self, image: np.ndarray, beyond: np.ndarray | None) -> np.ndarray:
        """A photograph in the reference's place: uint8 [H, W, 3] -> the same. What lies outside of it is taken from
        `beyond`, uint8 [H, W, 3], or is as its edge (None)."""
        if self.matrix is None:
            return image
        height, width = image.shape[:2]
        margin = _margin(self.matrix, height, width) if beyond is None else _TAPS
        a, b, c, d, e, f = self.matrix
        padded = Image.fromarray(np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
        moved = padded.transform(
            (width, height),
            Image.Transform.AFFINE,
            (a, b, c + margin, d, e, f + margin),
            Image.Resampling.BICUBIC,
        )
        if beyond is None:
            return np.asarray(moved)
        inside = self.apply_labels(np.ones((height, width), bool))
        return np.where(inside[..., None], np.asarray(moved), beyond)

    def apply_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels or a mask in the reference's place: bool or int32 [H, W] -> the same, nearest; 0 outside."""
        if self.matrix is None:
            return labels
        picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.int32))
        moved = picture.transform(picture.size, Image.Transform.AFFINE, self.matrix, Image.Resampling.NEAREST)
        return np.asarray(moved).astype(labels.dtype)

    def invert_map(self, values: np.ndarray) -> np.ndarray:
        """A map of the reference's place brought to the photograph: float32 [H, W] -> the same; NaN where it has no
        value."""
        if self.matrix is None:
            return values
        back = _inverted(self.matrix)
        known = Image.fromarray((~np.isnan(values)).astype(np.uint8))
        picture = Image.fromarray(np.nan_to_num(values, nan=0.0).astype(np.float32))
        size = picture.size
        whole = np.array(picture.transform(size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR))
        whole[np.asarray(known.transform(size, Image.Transform.AFFINE, back, Image.Resampling.NEAREST)) == 0] = np.nan
        return whole

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Alignment:
        """From JSON values. Raises KeyError, TypeError or ValueError where they are not those of an Alignment."""
        matrix = value["matrix"]
        if matrix is not None:
            a, b, c, d, e, f = (float(number) for number in matrix)
            matrix = (a, b, c, d, e, f)
        return Alignment(matrix, float(value["quality"]), str(value["reason"]))


# Of a photograph that nothing is done to.
AS_IT_IS = Alignment(None, 0.0)


@dataclass(frozen=True)
class Reference:
    """What photographs are aligned to: the `path` of the photograph, its `height` and `width`, what it shows at no more
    than SIDE pixels (a PNG in base64, RGB); the largest `shift` as a share of the longer side, and the largest `angle`
    in degrees."""

    path: str
    height: int
    width: int
    picture: str = field(repr=False)
    shift: float
    angle: float

    @staticmethod
    def of(path: str, pixels: np.ndarray, shift: float, angle: float) -> Reference:
        """From the reference's pixels, uint8 [H, W, 3]."""
        content = io.BytesIO()
        Image.fromarray(_small(pixels, SIDE)[0]).save(content, "PNG", optimize=True)
        height, width = pixels.shape[:2]
        return Reference(path, height, width, base64.b64encode(content.getvalue()).decode(), shift, angle)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not 0 <= self.shift <= 1 or not 0 <= self.angle <= 180:
            raise ValueError(f"a reference of {self.width} x {self.height}, shift {self.shift}, angle {self.angle}")

    @cached_property
    def small(self) -> np.ndarray:
        """What it shows, uint8 [h, w, 3]. Raises BadInput where that is damaged."""
        try:
            with Image.open(io.BytesIO(base64.b64decode(self.picture, validate=True)), formats=["PNG"]) as image:
                if max(image.size) > SIDE:
                    raise ValueError("too large")
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, binascii.Error) as error:
            raise BadInput(f"The reference photograph {self.path} of image.align is damaged ({error}).") from error

    @cached_property
    def grey(self) -> np.ndarray:
        """Its grey levels, uint8 [h, w]; raises as `small` does."""
        return _grey(self.small)

    @cached_property
    def whole(self) -> np.ndarray:
        """What it shows at its own size, uint8 [H, W, 3]: what stands where a photograph has nothing. Mirrored or
        repeated edges would show a second part, or stripes, where a normal photograph has neither."""
        return np.asarray(Image.fromarray(self.small).resize((self.width, self.height), Image.Resampling.BICUBIC))

    def apply(self, alignment: Alignment, pixels: np.ndarray) -> np.ndarray:
        """A photograph, uint8 [H, W, 3], in this place."""
        return pixels if alignment.matrix is None else alignment.apply(pixels, self.whole)

    def align(self, pixels: np.ndarray) -> Alignment:
        """How a photograph, uint8 [H, W, 3], lies. Raises BadInput where OpenCV is not installed."""
        if pixels.shape[:2] != (self.height, self.width):
            return Alignment(
                None,
                0.0,
                f"it has {pixels.shape[1]} x {pixels.shape[0]} pixels and the reference {self.width} x {self.height}",
            )
        shown, scale = _small(pixels, SIDE)
        grey = _grey(shown)
        cv2 = _opencv()
        reference, photograph = self.grey.astype(np.float32), grey.astype(np.float32)
        limit = self.shift * max(reference.shape)
        still = _correlation(cv2, reference, photograph, _STILL)
        best, quality = _STILL, still
        start = _coarse(cv2, reference, photograph, limit, self.angle)
        for matrix in _refined(cv2, reference, photograph, start):
            value = _correlation(cv2, reference, photograph, matrix)
            if value > quality and _within(matrix, reference.shape, limit, self.angle):
                best, quality = matrix, value
        if quality < LEAST_QUALITY:
            return Alignment(
                None, round(still, 4), f"it resembles the reference too little (correlation {quality:.2f})"
            )
        if quality < still + _GAIN:
            best, quality = _STILL, still
        a, b, c, d, e, f = (float(number) for number in _to_edges(best, scale))
        return Alignment((a, b, c, d, e, f), round(quality, 4))


# Pixels on either side that bicubic interpolation reads.
_TAPS = 2
# Nothing moved, as OpenCV writes it: pixel centres, from the reference to the photograph.
_STILL = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def _small(pixels: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """uint8 [h, w, 3] of no more than `side` pixels, and their number a pixel: the same across and down."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, int(width * scale)), max(1, int(height * scale))
    box = (0.0, 0.0, min(size[0] / scale, width), min(size[1] / scale, height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX, box=box)), scale


def _grey(colours: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colours).convert("L"))


def _coarse(cv2: Any, reference: np.ndarray, photograph: np.ndarray, limit: float, angle: float) -> np.ndarray:
    """The best of the turns that are tried and the shifts that phase correlation proposes; [2, 3]."""
    scale = min(1.0, COARSE_SIDE / max(reference.shape))
    size = max(8, round(reference.shape[1] * scale)), max(8, round(reference.shape[0] * scale))
    small, moved = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (reference, photograph))
    window = cv2.createHanningWindow(size, cv2.CV_32F)
    centre = (size[0] - 1) / 2, (size[1] - 1) / 2
    best, quality = _STILL, -2.0
    steps = math.floor(angle / _STEP)
    for turn in (_STEP * number for number in range(-steps, steps + 1)):
        matrix = cv2.getRotationMatrix2D(centre, turn, 1.0).astype(np.float32)
        turned = _warped(cv2, moved, matrix, size)
        (x, y), _ = cv2.phaseCorrelate(small - small.mean(), turned - turned.mean(), window)
        for shift in ((0.0, 0.0), (x, y)):
            proposal = matrix.copy()
            proposal[:, 2] += matrix[:, :2] @ np.array(shift, np.float32)
            value = _correlation(cv2, small, moved, proposal)
            if value > quality and _within(proposal, small.shape, limit * scale, angle):
                best, quality = proposal, value
    # Pixel centres of the smaller one in those of the larger.
    fitted: np.ndarray = best.copy()
    ratio = np.array([reference.shape[1] / size[0], reference.shape[0] / size[1]], np.float32)
    half = np.array([0.5, 0.5], np.float32)
    fitted[:, 2] = (best[:, 2] + half - best[:, :2] @ half) * ratio - half + best[:, :2] @ half
    return fitted


def _refined(cv2: Any, reference: np.ndarray, photograph: np.ndarray, start: np.ndarray) -> Iterator[np.ndarray]:
    """`start`, and what it becomes by the enhanced correlation coefficient where that converges."""
    yield start
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _PRECISION)
    try:
        _, matrix = cv2.findTransformECC(
            reference, photograph, start.copy(), cv2.MOTION_EUCLIDEAN, criteria, None, _SMOOTHING
        )
    except cv2.error:  # it does not converge
        return
    if np.isfinite(matrix).all():
        yield matrix


def _warped(cv2: Any, image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    warped: np.ndarray = cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    return warped


def _correlation(cv2: Any, reference: np.ndarray, photograph: np.ndarray, matrix: np.ndarray) -> float:
    """Of the grey levels, -1 to 1, where the photograph has any."""
    size = reference.shape[1], reference.shape[0]
    inside = cv2.warpAffine(np.ones_like(photograph), matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0
    if np.count_nonzero(inside) < inside.size / 4:
        return -1.0
    first, second = reference[inside], _warped(cv2, photograph, matrix, size)[inside]
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread > 1e-6 else 0.0


def _within(matrix: np.ndarray, shape: tuple[int, ...], limit: float, angle: float) -> bool:
    """Whether a turn and the shift of the middle lie within the limits."""
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    shift = matrix[:, :2] @ middle + matrix[:, 2] - middle
    turn = abs(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])))
    return float(np.hypot(*shift)) <= limit + 1e-3 and turn <= angle + 1e-3


def _to_edges(matrix: np.ndarray, scale: float) -> list[float]:
    """A matrix of pixel centres of a smaller image as one of pixel edges of the original."""
    turn = matrix[:, :2].astype(np.float64)
    shift = (matrix[:, 2] + 0.5 - turn @ np.array([0.5, 0.5])) / scale
    return [*turn[0], shift[0], *turn[1], shift[1]]


def _inverted(matrix: tuple[float, ...]) -> tuple[float, ...]:
    a, b, c, d, e, f = matrix
    inverse = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    return tuple(float(number) for number in inverse[:2].reshape(-1))


def _margin(matrix: tuple[float, ...], height: int, width: int) -> int:
    """How far the reference's corners lie outside of the photograph, pixels."""
    a, b, c, d, e, f = matrix
    places = [(a * x + b * y + c, d * x + e * y + f) for x in (0, width) for y in (0, height)]
    beyond = max(max(-across, across - width, -down, down - height) for across, down in places)
    return max(0, math.ceil(beyond)) + _TAPS


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise BadInput("image.align takes OpenCV: install opencv-python-headless, or vqi[predict].") from error
    return cv2

"""What a person looks at: heatmaps, outlines, boxes and panels over the original photograph, in its own geometry.

numpy, Pillow and OpenCV alone: evaluation and torch-free prediction draw with the same code. Colours are safe for
colour-blind eyes, and what is found differs from the truth by line style too.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vqi.dataset.hatching import hatch
from vqi.dataset.manifest import Label
from vqi.evaluation.predictions import BundleDecision
from vqi.platform.files import write_whole

if TYPE_CHECKING:
    from PIL import ImageFont

DETECTED = (230, 159, 0)
TRUTH = (86, 180, 233)
CASING = (20, 24, 30)
OPAQUE = 0.72
SIDE = 480
SMALLEST_SIDE = 240

Box = tuple[int, int, int, int, float]


@dataclass(frozen=True)
class Example:
    """One scored photograph with what was found on it.

    `image` is uint8 [H, W, 3]. `map` is float32 [H, W] in the geometry of `image`, NaN where the network saw nothing.
    `mask` is bool [H, W] (True = defect) or None where no truth was drawn. `defect` is the defect type ("good" for
    normals). Above `level` lies what is marked as found; None stands for the threshold of the picture's scale.
    `ignored` is bool [H, W], hatched: it counts neither way.
    """

    path: str
    label: Label
    defect: str
    score: float
    decision: BundleDecision
    image: np.ndarray
    map: np.ndarray
    mask: np.ndarray | None = None
    level: float | None = None
    ignored: np.ndarray | None = None

    @property
    def right(self) -> bool | None:
        """Whether the decision agrees with the label; None where the label is unknown."""
        return None if self.label == "unknown" else self.label == self.decision

    def resized(self, largest: int, smallest: int = 1) -> Example:
        """The same example with its longer side between `smallest` and `largest` pixels; the thinnest mask stays
        visible."""
        import cv2

        height, width = self.image.shape[:2]
        side = max(height, width)
        scale = min(largest / side, max(1.0, smallest / side))
        if scale == 1:
            return self
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        mask, ignored = (
            None
            if region is None
            else cv2.resize(region.astype(np.float32), size, interpolation=smooth) > (0 if scale < 1 else 0.5)
            for region in (self.mask, self.ignored)
        )
        image = cv2.resize(self.image, size, interpolation=smooth)
        values = cv2.resize(self.map, size, interpolation=smooth)
        return replace(self, image=image, map=values, mask=mask, ignored=ignored)


@dataclass(frozen=True)
class Scale:
    """How map values become colours, the same for every picture of a run: `threshold` always takes the middle colour.

    `floor` is the value of a pixel without any anomaly: 0 for distances, below it for logits and log-likelihoods. The
    colours reach from half of the threshold's height above it to one and a half: below lies what is normal and stays
    transparent, above what needs no finer telling apart.
    """

    threshold: float
    floor: float = 0.0

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Map values -> positions on the colour table, float32 in [0, 1]; NaN stays NaN."""
        height = self.threshold - self.floor
        if height <= 0:
            height = abs(self.threshold) or 1.0
        return np.clip(0.5 + (values - self.threshold) / height, 0, 1).astype(np.float32)


@cache
def colour_table() -> np.ndarray:
    """256 colours from dark violet over teal to bright yellow, uint8 [256, 3], in equal steps of perceived difference.

    A path through Oklab (B. Ottosson, "A perceptual color space for image processing", 2020) with rising lightness, so
    that the order reads without hue as well, re-spaced by its own length.
    """
    position = np.linspace(0, 1, 2048)
    lightness = 0.30 + 0.62 * position
    chroma = np.interp(position, [0, 0.5, 1], [0.13, 0.095, 0.18])
    hue = np.radians(np.interp(position, [0, 0.5, 1], [305, 190, 107]))
    path = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, length[-1], 256)
    lab = np.stack([np.interp(even, length, path[:, channel]) for channel in range(3)], axis=1)
    cone = lab @ np.array(
        [[1, 1, 1], [0.3963377774, -0.1055613458, -0.0894841775], [0.2158037573, -0.0638541728, -1.2914855480]]
    )
    linear = cone**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def heatmap(image: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """The map drawn over the photograph: uint8 [H, W, 3] and float32 [H, W] -> uint8 [H, W, 3].

    Values well below the threshold are transparent, so that the part stays visible; what the network did not see is
    darkened.
    """
    unseen = np.isnan(values)
    position = np.where(unseen, 0, scale.positions(values))
    opacity = np.clip((position - 0.2) / 0.3, 0, 1)
    opacity = (OPAQUE * opacity * opacity * (3 - 2 * opacity))[..., None]
    colours = colour_table()[np.rint(position * 255).astype(np.uint8)]
    blended = image * (1 - opacity) + colours * opacity
    blended[unseen] *= 0.45
    return np.rint(blended).astype(np.uint8)


def outline(picture: np.ndarray, region: np.ndarray, colour: tuple[int, int, int], dashed: bool = False) -> np.ndarray:
    """A copy of `picture` with the border of `region` (bool [H, W]) drawn, on a dark casing that keeps it legible on
    any ground."""
    import cv2

    drawn = np.ascontiguousarray(picture).copy()
    width = max(2, round(max(picture.shape[:2]) / 220))
    borders, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    lines = [
        line
        for border in borders
        for line in (_dashes(border[:, 0], 5 * width, 4 * width) if dashed else [border[:, 0]])
    ]
    for ink, thickness in ((CASING, width + 2), (colour, width)):
        cv2.polylines(drawn, lines, not dashed, ink, thickness, cv2.LINE_AA)
    return drawn


def _dashes(border: np.ndarray, dash: int, gap: int) -> list[np.ndarray]:
    """A closed border [n, 2] cut into dashes of `dash` points with gaps of `gap`; a border shorter than one dash stays
    whole."""
    closed = np.concatenate([border, border[:1]])
    return [
        closed[start : start + dash]
        for start in range(0, len(closed), dash + gap)
        if len(closed[start : start + dash]) > 1
    ] or [closed]


def boxes(values: np.ndarray, threshold: float) -> list[Box]:
    """One box (x1, y1, x2, y2, score) a connected region of map values above `threshold`, highest score first.

    Coordinates are pixel edges of the map given (x2 and y2 lie past the last pixel); the score is the region's highest
    value.
    """
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats((values > threshold).astype(np.uint8), connectivity=8)
    detected: list[Box] = []
    for region in range(1, count):
        x, y, width, height = (int(v) for v in stats[region, :4])
        window = (slice(y, y + height), slice(x, x + width))
        detected.append((x, y, x + width, y + height, float(values[window][labels[window] == region].max())))
    return sorted(detected, key=lambda box: -box[4])


def draw_boxes(picture: np.ndarray, detections: list[Box]) -> np.ndarray:
    """A copy of `picture`, uint8 [H, W, 3], with boxes given in its own pixels."""
    import cv2

    drawn = np.ascontiguousarray(picture).copy()
    width = max(1, round(max(picture.shape[:2]) / 440))
    for ink, thickness in ((CASING, width + 2), (DETECTED, width)):
        for x1, y1, x2, y2, _ in detections:
            cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), ink, thickness)
    return drawn


def views(example: Example, scale: Scale) -> Iterator[tuple[str, np.ndarray]]:
    """The pictures of one example, (name, uint8 [H, W, 3]): image, truth (where a mask is there), heatmap, found; what
    is ignored is hatched in all but the first."""
    yield "image", example.image
    ground = example.image if example.ignored is None else hatch(example.image, example.ignored)
    if example.mask is not None:
        yield "truth", outline(ground, example.mask, TRUTH, dashed=True)
    yield "heatmap", heatmap(ground, example.map, scale)
    level = scale.threshold if example.level is None else example.level
    picture = draw_boxes(ground, boxes(example.map, level))
    yield "found", outline(picture, example.map > level, DETECTED)


def panel(example: Example, scale: Scale, side: int = SIDE) -> np.ndarray:
    """The views of an example side by side under small captions, uint8 [H, W, 3]; each view's longer side is at most
    `side` pixels."""
    from PIL import Image, ImageDraw, ImageFont

    shown = list(views(example.resized(side, SMALLEST_SIDE), scale))
    texts = {
        "image": "photograph",
        "truth": f"truth: {example.defect}",
        "heatmap": "heatmap",
        "found": f"judged {example.decision}, score {example.score:.4g}",
    }
    height, width = shown[0][1].shape[:2]
    margin, band = 8, 26
    # A narrow part still gets room for its caption.
    column = max(width, 190)
    sheet = Image.new("RGB", (margin + len(shown) * (column + margin), band + height + margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, (name, picture) in enumerate(shown):
        left = margin + index * (column + margin)
        draw.text((left, 5), fitting(texts[name], font, column), fill=CASING, font=font)
        sheet.paste(Image.fromarray(picture), (left, band))
    return np.asarray(sheet)


def fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text` in printable characters of one line, cut so that it is at most `width` pixels wide."""
    text = "".join(c if c.isprintable() else " " for c in text[:200])
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


def safe_name(text: str, longest: int = 48) -> str:
    """`text` as one readable part of a path: letters, digits, `-`, `_` and inner dots; never empty, never `..`."""
    kept = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._-")
    return kept[:longest].rstrip("._-") or "_"


def picture_name(example: Example) -> Path:
    """Where an example's picture goes, relative, without a suffix: ok or wrong (unlabelled: the decision), defect type,
    a readable unique name."""
    verdict = {True: "ok", False: "wrong", None: example.decision}[example.right]
    kind = [] if example.label == "unknown" else [safe_name(part) for part in example.defect.split("/")[:4]]
    stem = example.path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    # Two files of one name in different folders, or names that differ in removed characters alone, must not meet.
    mark = hashlib.sha256(example.path.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Path(verdict, *kind, f"{safe_name(stem)}-{mark}")


def save_picture(
    folder: Path, example: Example, pixel_threshold: float, *, floor: float = 0.0, side: int = SIDE
) -> Path:
    """Write an example's panel as PNG to `folder`/{ok,wrong}/<defect>/<name>.png and return its path; unlabelled ones
    go to {good,defect}/<name>.png.

    `floor` is the map value of a pixel without anomaly (see Scale). Names that are not trusted never leave `folder`.
    """
    from PIL import Image

    name = Path(folder) / picture_name(example)
    picture = io.BytesIO()
    Image.fromarray(panel(example, Scale(pixel_threshold, floor), side)).save(picture, "PNG", compress_level=4)
    path = name.with_name(name.name + ".png")
    write_whole(path, picture.getvalue())
    return path

"""One invertible geometry: region of interest, resize, centre crop; and the way back for maps and boxes.

Coordinates are pixel edges: x in [0, W]. The centre of the first pixel lies at 0.5, as in torch's
`align_corners=False`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from vqi.platform.errors import BadInput
from vqi.platform.records import Record


@dataclass(frozen=True)
class Geometry:
    """`region` (x1, y1, x2, y2 in original pixels; None = all) -> resize to `size` (height, width) -> centre `crop`
    (height, width; None = none)."""

    size: tuple[int, int]
    crop: tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if min(self.size) < 32 or max(self.size) > 4096:
            raise BadInput(f"image.size is {list(self.size)}; height and width must each lie between 32 and 4096.")
        if self.crop and (min(self.crop) < 32 or self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise BadInput(
                f"image.crop is {list(self.crop)}; each side must be at least 32 and at most image.size "
                f"{list(self.size)}."
            )
        if self.region and not (0 <= self.region[0] < self.region[2] and 0 <= self.region[1] < self.region[3]):
            raise BadInput(
                f"image.region is {list(self.region)}; it must be x1, y1, x2, y2 with 0 <= x1 < x2 and 0 <= y1 < y2."
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.crop or self.size

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if value else None for key, value in asdict(self).items()}

    @property
    def entry(self) -> GeometryEntry:
        """As a part of records."""
        return GeometryEntry(**self.to_dict())

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Geometry:
        return Geometry(
            tuple(value["size"]),
            tuple(value["crop"]) if value["crop"] else None,
            tuple(value["region"]) if value["region"] else None,
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """What the network sees of a photograph: uint8 [H, W, 3] -> uint8 [h, w, 3], antialiased bilinear."""
        return self._apply(image, Image.Resampling.BILINEAR)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """The mask in the network's geometry: bool [H, W] -> bool [h, w], nearest."""
        return self._apply(mask.astype(np.uint8), Image.Resampling.NEAREST) > 0

    def apply_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels of regions in the network's geometry: int32 [H, W] (0 = no region) -> int32 [h, w].

        Nearest, so that what `apply_mask` keeps is kept; a region may come out as several dots, but they bear one
        label. A region that no dot is left of, a thin scratch between two sampled rows, gets every free pixel that
        holds the centre of one of its own, where it covers at least the area of one such pixel. A smaller one, or one
        outside what the network sees, is lost.
        """
        small = np.array(self._apply(np.ascontiguousarray(labels, dtype=np.int32), Image.Resampling.NEAREST))
        lost = np.ones(int(labels.max(initial=0)) + 1, dtype=bool)
        lost[0] = False
        lost[np.unique(small)] = False
        if not lost.any():
            return small
        x1, y1, x2, y2 = self.seen((labels.shape[0], labels.shape[1]))
        across, down = (x2 - x1) / small.shape[1], (y2 - y1) / small.shape[0]
        ys, xs = np.nonzero(lost[labels])
        rows = np.floor((ys + 0.5 - y1) / down).astype(np.int64)
        columns = np.floor((xs + 0.5 - x1) / across).astype(np.int64)
        inside = (rows >= 0) & (rows < small.shape[0]) & (columns >= 0) & (columns < small.shape[1])
        names, rows, columns = labels[ys, xs][inside], rows[inside], columns[inside]
        large = np.bincount(names, minlength=lost.size) >= across * down
        free = large[names] & (small[rows, columns] == 0)
        small[rows[free], columns[free]] = names[free]
        return small

    def _apply(self, image: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        if self.region:
            left, top, right, bottom = self.region
            if right > image.shape[1] or bottom > image.shape[0]:
                raise BadInput(
                    f"image.region {list(self.region)} reaches outside an image of {image.shape[1]} x "
                    f"{image.shape[0]} pixels."
                )
            # Pillow's crop has a limit of pixels for the whole process.
            image = image[top:bottom, left:right]
        picture = Image.fromarray(image)
        height, width = self.size
        if picture.size != (width, height):
            picture = picture.resize((width, height), resampling)
        if self.crop:
            top, left = self._crop_corner()
            picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))
        return np.asarray(picture)

    def _crop_corner(self) -> tuple[int, int]:
        crop = self.crop or self.size
        return (self.size[0] - crop[0]) // 2, (self.size[1] - crop[1]) // 2

    def seen(self, original: tuple[int, int]) -> tuple[float, float, float, float]:
        """The rectangle of an original of (height, width) that the network sees: x1, y1, x2, y2."""
        x1, y1, x2, y2 = self.region or (0, 0, original[1], original[0])
        scale_y, scale_x = (y2 - y1) / self.size[0], (x2 - x1) / self.size[1]
        top, left = self._crop_corner()
        height, width = self.input_size
        return x1 + left * scale_x, y1 + top * scale_y, x1 + (left + width) * scale_x, y1 + (top + height) * scale_y

    def invert_map(self, values: np.ndarray, original: tuple[int, int]) -> np.ndarray:
        """An anomaly map [h, w] brought to the original: float32 [H, W] of `original` = (height, width); NaN where the
        network saw nothing."""
        x1, y1, x2, y2 = self.seen(original)
        height, width = values.shape
        left, top = min(round(x1), original[1] - 1), min(round(y1), original[0] - 1)
        right, bottom = max(round(x2), left + 1), max(round(y2), top + 1)
        box = (
            (left - x1) / (x2 - x1) * width,
            (top - y1) / (y2 - y1) * height,
            (right - x1) / (x2 - x1) * width,
            (bottom - y1) / (y2 - y1) * height,
        )
        box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        out = np.full(original, np.nan, dtype=np.float32)
        out[top:bottom, left:right] = np.asarray(
            picture.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
        )
        return out

    def invert_box(
        self, box: tuple[float, float, float, float], original: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """A box (x1, y1, x2, y2) of the network's pixels in the pixels of an original of (height, width)."""
        x1, y1, x2, y2 = self.seen(original)
        height, width = self.input_size
        sx, sy = (x2 - x1) / width, (y2 - y1) / height
        return x1 + box[0] * sx, y1 + box[1] * sy, x1 + box[2] * sx, y1 + box[3] * sy


def to_input(image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> float32 [3, h, w] in [0, 1]: what every detector and every exported graph takes."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


class GeometryEntry(Record):
    """A geometry as a part of records: `size` and `crop` are height and width, `region` is x1, y1, x2, y2."""

    size: list[int] = Field(min_length=2, max_length=2)
    crop: list[int] | None = Field(min_length=2, max_length=2)
    region: list[int] | None = Field(min_length=4, max_length=4)

    @property
    def geometry(self) -> Geometry:
        return Geometry.from_dict(self.model_dump())

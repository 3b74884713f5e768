"""One invertible geometry: region of interest, resize, centre crop, area, tiles; and the way back for maps and boxes.

Coordinates are pixel edges: x in [0, W]. The centre of the first pixel lies at 0.5, as in torch's
`align_corners=False`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from vqi.dataset.areas import Polygons, draw_area, extent_of, parse_area
from vqi.dataset.tiling import Tiling
from vqi.platform.errors import BadInput
from vqi.platform.records import complete, omitting
from vqi.platform.settings import OptionalSize, Settings, Size, parse_numbers

# Of what the network sees, pixels.
SHORTEST_SIDE, LONGEST_SIDE = 32, 4096
# Of a photograph that is cut into tiles, pixels; and its tiles.
LONGEST_TILED, MOST_TILES = 16384, 10_000
# What stands in place of pixels outside of the area: the mean of ImageNet's photographs, in 8 bits.
OUTSIDE = (124, 116, 104)


class Geometry(Settings):
    """`region` (x1, y1, x2, y2 in original pixels; None = all) -> resize to `size` (height, width) -> centre `crop`
    (height, width; None = none) -> one grey outside of `area` -> tiles of `tile` (height, width; None = none), with
    the share `overlap` of a tile in common.

    The map of a photograph has the size of what is left before it is cut (`map_size`); what the network sees is a tile
    of it (`input_size`).
    """

    size: Size = Field(
        (256, 256),
        description="height, width the photograph is resized to",
        json_schema_extra={"shape": "two whole numbers, height and width in pixels, such as 256,256"},
    )
    crop: OptionalSize = Field(
        None,
        description="height, width of the centre crop after resizing",
        json_schema_extra={"shape": "two whole numbers, height and width in pixels, such as 224,224, or empty"},
    )
    region: Annotated[tuple[int, int, int, int] | None, BeforeValidator(parse_numbers)] = Field(
        None,
        description="x1, y1, x2, y2 in original pixels, cut out first",
        json_schema_extra={"shape": "four whole numbers, x1,y1,x2,y2 in pixels of the original image, or empty"},
    )

    area: Annotated[str, BeforeValidator(parse_area)] = Field(
        "",
        description="polygons in original pixels, x,y x,y x,y; x,y ..., or, where a command reads the category, a mask "
        "file (white = look here): only what lies inside is learnt from, scored and measured",
    )
    overlap: float = Field(0.25, ge=0, le=0.75, description="share of a tile that it has in common with the next")
    tile: OptionalSize = Field(
        None,
        validate_default=True,
        description="height, width of the tiles that a resized photograph is cut into, for defects of a few pixels",
        json_schema_extra={"shape": "two whole numbers, height and width in pixels, such as 256,256, or empty"},
    )

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < SHORTEST_SIDE or max(value) > LONGEST_TILED:
            raise ValueError(f"must have a height and a width between {SHORTEST_SIDE} and {LONGEST_TILED}")
        return value

    @field_validator("crop")
    @classmethod
    def _check_crop(cls, value: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        size = info.data.get("size")
        if value and size and (min(value) < SHORTEST_SIDE or value[0] > size[0] or value[1] > size[1]):
            raise ValueError(
                f"must have sides of at least {SHORTEST_SIDE} and at most those of image.size, {list(size)}"
            )
        return value

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if value and not (0 <= value[0] < value[2] and 0 <= value[1] < value[3]):
            raise ValueError("must be x1, y1, x2, y2 with 0 <= x1 < x2 and 0 <= y1 < y2")
        return value

    @field_validator("tile")
    @classmethod
    def _check_tile(cls, value: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        size = info.data.get("crop") or info.data.get("size")
        if not size or "overlap" not in info.data:
            return value
        if not value:
            if max(size) > LONGEST_SIDE:
                raise ValueError(f"must be set where image.size is above {LONGEST_SIDE} pixels")
        elif min(value) < SHORTEST_SIDE or max(value) > LONGEST_SIDE or value[0] > size[0] or value[1] > size[1]:
            raise ValueError(
                f"must have sides of at least {SHORTEST_SIDE} and at most those of what is cut, {list(size)}"
            )
        elif len(Tiling(size, value, info.data["overlap"])) > MOST_TILES:
            raise ValueError(f"makes more than {MOST_TILES} tiles of {list(size)} pixels; make it larger")
        return value

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of a photograph's map: of what the tiles are cut from, or of what the network sees."""
        return self.crop or self.size

    @property
    def reach(self) -> tuple[float, float]:
        """The right and the bottom edge, in pixels of the original, that region and area need it to have."""
        right, bottom = self.region[2:] if self.region else (0, 0)
        across, down = extent_of(Polygons.of(self.area)) if self.area else (0, 0)
        return max(right, across), max(bottom, down)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.tile or self.map_size

    @property
    def tiling(self) -> Tiling | None:
        """How a photograph is cut; None where the network sees it whole."""
        return _tiling(self.map_size, self.tile, self.overlap) if self.tile else None

    @property
    def inputs(self) -> int:
        """How many images the network sees of one photograph."""
        return len(self.tiling) if self.tiling else 1

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A photograph before it is cut: uint8 [H, W, 3] -> uint8 [h, w, 3] of `map_size`, antialiased bilinear, one
        grey outside of the area.

        Raises BadInput where region or area reach outside of it.
        """
        seen = self._apply(image, Image.Resampling.BILINEAR)
        inside = self.inside((image.shape[0], image.shape[1]))
        return seen if inside is None else np.where(inside[..., None], seen, np.array(OUTSIDE, np.uint8))

    def cut(self, seen: np.ndarray) -> np.ndarray:
        """What the network sees of what `apply` made: uint8 [h, w, 3] -> uint8 [T, h, w, 3], a tile each, or one
        whole."""
        return self.tiling.cut(seen) if self.tiling else seen[None]

    def inside(self, original: tuple[int, int]) -> np.ndarray | None:
        """Where the map of an original of (height, width) lies in the area, bool [h, w] of `map_size`; None where there
        is no area. Raises BadInput where the area reaches outside of the original."""
        return _inside(self, original) if self.area else None

    def blank(self, values: np.ndarray, original: tuple[int, int]) -> np.ndarray:
        """A map, float32 [h, w] of `map_size`, with NaN outside of the area."""
        inside = self.inside(original)
        return values if inside is None else np.where(inside, values, np.float32(np.nan))

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
        lost[np.bincount(small.ravel(), minlength=lost.size) > 0] = False
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
        height, width = self.map_size
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
        if self.area:
            out[~_drawn(self.area, original)] = np.nan
        return out

    def invert_box(
        self, box: tuple[float, float, float, float], original: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """A box (x1, y1, x2, y2) of the network's pixels in the pixels of an original of (height, width)."""
        x1, y1, x2, y2 = self.seen(original)
        height, width = self.map_size
        sx, sy = (x2 - x1) / width, (y2 - y1) / height
        return x1 + box[0] * sx, y1 + box[1] * sy, x1 + box[2] * sx, y1 + box[3] * sy


# Kept, so that the weights of its tiles are computed once.
_tiling = lru_cache(maxsize=8)(Tiling)


@lru_cache(maxsize=8)
def _drawn(area: str, original: tuple[int, int]) -> np.ndarray:
    """The area in an original of (height, width), bool [H, W]."""
    return draw_area(Polygons.of(area), original)


@lru_cache(maxsize=8)
def _inside(geometry: Geometry, original: tuple[int, int]) -> np.ndarray:
    right, bottom = extent_of(Polygons.of(geometry.area))
    if right > original[1] or bottom > original[0]:
        raise BadInput(
            f"image.area reaches to {right:g}, {bottom:g}, outside of an image of {original[1]} x {original[0]} pixels."
        )
    x1, y1, x2, y2 = geometry.seen(original)
    height, width = geometry.map_size
    scaled = Polygons.of(geometry.area).moved(x1, y1, width / (x2 - x1), height / (y2 - y1))
    inside = draw_area(scaled, geometry.map_size)
    if not inside.any():
        raise BadInput("image.area holds no pixel of what the network sees; look at image.region and image.crop.")
    return inside


def to_input(image: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> float32 [..., 3, h, w] in [0, 1]: what every detector and every exported graph takes."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3), dtype=np.float32) / np.float32(255)


# A geometry as a part of records: what is missing is never a default.
# Records of versions that had neither area nor tiles lack these keys.
_ADDED = ("area", "tile", "overlap")
WholeGeometry = Annotated[Geometry, complete(Geometry, _ADDED), omitting(Geometry, _ADDED)]

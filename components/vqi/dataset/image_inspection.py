"""What a photograph is, as the dataset check needs to know it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vqi.dataset.capture import Capture, capture_of
from vqi.dataset.decoding import Decoding
from vqi.dataset.description import describe, pictured, reduced
from vqi.dataset.images import count_pages, decode_photograph, stored_form
from vqi.dataset.near_duplicates import thumbnail

if TYPE_CHECKING:
    from vqi.dataset.geometry import Geometry

# What may hold more than one picture.
_PAGED = (".tif", ".tiff", ".webp", ".png")


@dataclass(frozen=True)
class ImageInspection:
    """A photograph that could be decoded: `size` (height, width) as the network meets it, whether the file is grey, its
    EXIF orientation, how many `pages` it holds (one is read), the shares of its pixels that are `transparent` (not
    opaque) and `clipped` (above the white level), its thumbnail (uint8), where it is good its `description`
    (vqi.dataset.description), what it says of its `capture`, and, where one was requested, a picture for the page
    (uint8 [h, w, 3], mask contour and the network's frame on it) and a description in FINE x FINE `cells`."""

    size: tuple[int, int]
    grey: bool
    orientation: int
    pages: int
    transparent: float
    clipped: float
    thumbnail: np.ndarray
    description: np.ndarray | None
    picture: np.ndarray | None
    capture: Capture
    cells: np.ndarray | None = None

    @property
    def brightness(self) -> float:
        """Mean grey level, 0 to 255."""
        return float(self.thumbnail.mean())

    def holds(self, geometry: Geometry) -> bool:
        """Whether region and area lie inside the photograph."""
        right, bottom = geometry.reach
        return right <= self.size[1] and bottom <= self.size[0]


@dataclass(frozen=True)
class Inspected:
    """What a photograph is; its `pixels`, uint8 [H, W, 3]; and what is described of it (`description.pictured`)."""

    image: ImageInspection
    pixels: np.ndarray
    picture: Image.Image


def inspect_photograph(content: bytes | memoryview, path: str, decoding: Decoding, described: bool) -> Inspected:
    """What a photograph is; `described`: whether it gets a description. Raises BadInput where it cannot be decoded."""
    photograph = decode_photograph(content, path, decoding)
    grey, orientation = stored_form(content, path, decoding.page)
    pages = count_pages(io.BytesIO(content)) if path.lower().endswith(_PAGED) else 1
    pixels = photograph.pixels
    small = reduced(Image.fromarray(pixels) if photograph.image is None else photograph.image)
    picture = pictured(small)
    image = ImageInspection(
        pixels.shape[:2],
        grey,
        orientation,
        pages,
        photograph.transparent,
        photograph.clipped,
        thumbnail(small),
        describe(picture) if described else None,
        None,
        capture_of(pixels, content),
    )
    return Inspected(image, pixels, picture)

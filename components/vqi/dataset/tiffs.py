"""TIFF files that Pillow does not read, or not as they are meant: floating-point values, more than 8 bits in planes or
with white at zero, packed bits, JPEG 2000. tifffile reads them; what is compressed or packed it reads with imagecodecs,
the extra `codecs`.

Nothing is allocated before the header's sizes are bounded, as for every photograph.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Jpeg2KImagePlugin

from vqi.platform.errors import BadInput

if TYPE_CHECKING:
    from tifffile import TiffPage

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
# Codecs whose result is bounded by its caller; a JPEG 2000 stream has a size of its own, which is compared first.
_COMPRESSIONS = {1, 5, 8, 32946, 32773, 34925, 50000}
_JPEG_2000 = {33003, 33004, 33005, 34712}
_MAX_SAMPLE_VALUE, _ORIENTATION = 281, 274
# A pixel of a tile may lie outside of the photograph; a tile of a small one is no larger than this.
_MOST_PIXELS_OF_A_TILE = 1 << 24
_MOST_SAMPLES = 5
# Pages that are a smaller copy of another are passed over; a file of nothing else is none.
_MOST_COPIES = 64


@dataclass(frozen=True)
class TiffHeader:
    """What a page says before it is decoded: `width` and `height` as stored, the EXIF `orientation`, whether it is
    `grey`, the bits of a channel, whether its values are `floating`, the value of white that is stated, and its colour
    profile."""

    width: int
    height: int
    orientation: int
    grey: bool
    bits: int
    floating: bool
    white: int | None
    profile: bytes


def tiff_header(data: bytes | memoryview, name: str, page: int = 1) -> TiffHeader:
    """The header of a page, from 1. Raises BadInput where it is unreadable, or of a kind that is not read."""
    with _open_page(data, name, page) as opened:
        return _header(opened, name)


def count_tiff_pages(data: bytes | memoryview, name: str, most: int = 1000) -> int:
    """How many pages a file holds, `most` at most. Raises BadInput where it is unreadable."""
    with _errors(name), _tifffile().TiffFile(io.BytesIO(data)) as file:
        return sum(1 for _ in _pages(file, most))


def tiff_values(data: bytes | memoryview, name: str, page: int, max_pixels: int) -> tuple[np.ndarray, TiffHeader]:
    """The values of a page as they are meant to be seen: upright, black is zero, [H, W, C], C = 1
    (grey), 2 (grey, alpha), 3 or 4 channels; whole numbers as int32.

    Raises BadInput where it cannot be decoded, has more than `max_pixels` pixels, or needs a package that is not
    installed.
    """
    with _open_page(data, name, page) as opened:
        header = _header(opened, name)
        if header.width * header.height > max_pixels:
            raise too_large(name, header.width, header.height, max_pixels)
        _check_segments(opened, name, len(data), max_pixels)
        # Planes, depth, height, width, samples of a pixel.
        values = np.moveaxis(opened.asarray(squeeze=False, maxworkers=1)[:, 0], 0, 2)
        values = values.reshape(header.height, header.width, -1)
        colours = 1 if header.grey else 3
        alpha = [at for at, kind in enumerate(opened.extrasamples) if kind in (1, 2)][:1]
        values = values[..., [*range(colours), *(colours + at for at in alpha)]]
    if opened.photometric == WHITE_IS_ZERO and not header.floating:
        values = values.astype(np.int64)
        values[..., 0] = (header.white or (1 << header.bits) - 1) - values[..., 0]
    if not header.floating:
        values = (values if values.dtype.itemsize < 4 else values.clip(0, 2**31 - 1)).astype(np.int32)
    return _upright(values, header.orientation), header


def too_large(name: str, width: int, height: int, max_pixels: int) -> BadInput:
    """The error for a photograph of more than `max_pixels` pixels."""
    return BadInput(
        f"{name} has {width} x {height} pixels, more than {max_pixels / 1e6:.0f} megapixels; scale it down, or raise "
        "image.max_megapixels."
    )


def _header(page: TiffPage, name: str) -> TiffHeader:
    bits = max(np.atleast_1d(page.bitspersample).tolist())
    kinds = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    grey = page.photometric != RGB
    colours = 1 if grey else 3
    if page.photometric not in kinds or page.dtype is None or page.dtype.kind not in "uif" or page.imagedepth != 1:
        kind = getattr(page.photometric, "name", page.photometric)
        raise BadInput(
            f"{name} is a TIFF of a kind that is not read ({kind}, {bits} bits, {page.dtype}, depth "
            f"{page.imagedepth}); save it as grey or RGB with 8 or 16 bits a channel."
        )
    if not colours <= page.samplesperpixel <= _MOST_SAMPLES or 1 in page.extrasamples:
        raise BadInput(
            f"{name} has {page.samplesperpixel} channels where {colours} and an alpha that is not multiplied in are "
            "read; save it as grey or RGB."
        )
    stated = [page.tags.valueof(_MAX_SAMPLE_VALUE), (1 << min(bits, 16)) - 1]
    white = min([65535, *(int(np.max(value)) for value in stated if value is not None and np.max(value) > 0)])
    orientation = page.tags.valueof(_ORIENTATION, 1)
    profile = page.iccprofile
    return TiffHeader(
        page.imagewidth,
        page.imagelength,
        int(orientation) if orientation in range(1, 9) else 1,
        grey,
        bits,
        page.dtype.kind == "f",
        white if 255 <= white < 65535 else None,
        bytes(profile) if profile else b"",
    )


def _check_segments(page: TiffPage, name: str, length: int, max_pixels: int) -> None:
    """Raises BadInput for strips or tiles that reach outside of the file, are larger than a photograph may be, or
    compressed as nothing here reads."""
    compressed = page.compression in _JPEG_2000 or page.compression in _COMPRESSIONS - {1}
    packed = page.bitspersample not in (8, 16, 32, 64)
    if page.compression != 1 and not compressed:
        kind = getattr(page.compression, "name", page.compression)
        raise BadInput(f"{name} is compressed as {kind}, which is not read; save it uncompressed or as PNG.")
    if (compressed or packed) and not _has_codecs():
        kind = getattr(page.compression, "name", page.compression) if compressed else f"{page.bitspersample} bits"
        raise BadInput(
            f"{name} is a TIFF that takes the package imagecodecs ({kind}); install vqi[codecs], or save it "
            "uncompressed or as PNG."
        )
    if page.is_tiled and page.tilewidth * page.tilelength > max(_MOST_PIXELS_OF_A_TILE, max_pixels):
        raise too_large(name, page.tilewidth, page.tilelength, max_pixels)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    inside = all(count > 0 and 0 < offset <= length - count for offset, count in segments)
    complete = len(segments) >= math.prod(page.chunked) or (page.is_contiguous and len(segments) == 1)
    if not segments or not inside or not complete:
        raise BadInput(f"{name} cannot be decoded (its pixels reach past its end); it is damaged or truncated.")
    if page.compression in _JPEG_2000:
        # A strip may have fewer rows than the first.
        width = page.tilewidth if page.is_tiled else page.imagewidth
        rows = page.tilelength if page.is_tiled else min(page.rowsperstrip or page.imagelength, page.imagelength)
        for offset, count in segments:
            page.parent.filehandle.seek(offset)
            stream = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(page.parent.filehandle.read(count)))
            if stream.width != width or stream.height > rows:
                raise BadInput(
                    f"{name} cannot be decoded (a part is {stream.width} x {stream.height} pixels instead of {width} x "
                    f"{rows}); it is damaged."
                )


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, C] as a viewer shows it (TIFF 6.0, Orientation)."""
    if orientation >= 5:
        values = np.swapaxes(values, 0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


@contextmanager
def _open_page(data: bytes | memoryview, name: str, number: int) -> Iterator[TiffPage]:
    with _errors(name), _tifffile().TiffFile(io.BytesIO(data)) as file:
        pages = list(_pages(file, number))
        if len(pages) < number:
            held = "one page" if len(pages) == 1 else f"{len(pages)} pages"
            raise BadInput(f"{name} has {held}, and image.page is {number}; name one that every photograph has.")
        yield pages[-1]


def _pages(file: Any, most: int) -> Iterator[TiffPage]:
    """The first `most` pages that are not smaller copies; the first in any case."""
    counted = 0
    for number in range(most + _MOST_COPIES):
        try:
            page = file.pages[number]
        except IndexError:
            return
        if page.subfiletype & 1 and number:
            continue
        counted += 1
        yield page
        if counted == most:
            return


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turns whatever tifffile and imagecodecs raise into BadInput."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).replace("\n", " ")[:200] or type(error).__name__
        raise BadInput(f"{name} cannot be decoded ({reason}); it is damaged or truncated.") from error


def _tifffile() -> Any:
    """tifffile, whose log would repeat what an error says."""
    import tifffile

    logging.getLogger("tifffile").propagate = False
    return tifffile


def _has_codecs() -> bool:
    try:
        import imagecodecs
    except ImportError:
        return False
    return bool(imagecodecs)

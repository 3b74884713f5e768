"""Decoding photographs and masks from bytes that are not trusted."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageMode, ImageOps, TiffImagePlugin, UnidentifiedImageError

from vqi.platform.errors import BadInput

# Pillow tells formats by content, and for some (EPS) starts other programs: only these may be opened, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm", ".pbm")
# Pictures by name of kinds that are not read: who passes one over says so. Camera raw needs choices of its own, others are not photographs.
OTHER_PICTURES = (
    *(".heic", ".heif", ".hif", ".avif", ".gif", ".apng", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jxl", ".jxr", ".mpo", ".dib"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
    *(".psd", ".xcf", ".svg", ".exr", ".hdr", ".tga", ".pcx", ".pfm", ".dds", ".ico", ".qoi", ".fits", ".dcm"),
)
# The TIFF tag whose lowest bit says that a page is another one, made smaller.
_NEW_SUBFILE_TYPE = 254


@dataclass(frozen=True)
class Decoding:
    """How files become pixels: decided once for a whole set, and the same in training, prediction and the exported bundle.

    `white_level` is the value of white in files with more than 8 bits a channel: scaling each photograph by its own maximum would make dark ones
    bright. `max_pixels` bounds a photograph, since a header may promise any size: 100 megapixels are more than any camera on a line has, and take
    300 MB decoded.
    """

    white_level: int = 65535
    max_pixels: int = 100_000_000


DEFAULT = Decoding()


def header_size(data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT) -> tuple[int, int]:
    """Width and height in pixels as a viewer shows them (EXIF orientation applied), from the header alone.

    Raises BadInput where the header is unreadable or promises more than `decoding.max_pixels`.
    """
    with _opened(data, name, decoding) as image:
        width, height = image.size
        # Pillow gives the size of a TIFF as it is shown, of the others as it is stored.
        turned = image.format != "TIFF" and _orientation(image, data, name) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def stored_form(data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT) -> tuple[bool, int]:
    """How a photograph was saved: whether it is grey, and its EXIF orientation (1 = as stored).

    Raises BadInput where the header is unreadable.
    """
    with _opened(data, name, decoding) as image:
        # The base mode is that of the colours: "RGB" for a palette of them, "L" for 1, 8 and 16 bits of grey, with alpha or without.
        return ImageMode.getmode(image.mode).basemode == "L", _orientation(image, data, name)


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture by its first 16 bytes, whatever it is called: PNG, JPEG, TIFF, GIF, BMP, WEBP, JPEG 2000, JPEG XL, HEIF, AVIF."""
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL ")
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    # A BMP's two letters may begin a text; its four reserved bytes are zero.
    return (head[:2] == b"BM" and head[6:10] == bytes(4)) or (head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif"))


def count_pages(file: BinaryIO) -> int:
    """How many pictures a file holds: pages of a TIFF, frames of an animation; decoding reads the first alone. 1 where it cannot be read.

    Smaller copies of a page (TIFF 6.0, NewSubfileType) and what phones put behind a JPEG are not pages.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                frames = 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))
                if not isinstance(image, TiffImagePlugin.TiffImageFile):
                    return frames
                pages = 0
                for frame in range(frames):
                    image.seek(frame)
                    pages += not int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & 1
                return max(pages, 1)
    except Exception:  # whatever Pillow meets, as in _decoded: what is wrong with a file is said where it is decoded
        return 1


def decode_rgb(data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Decode a photograph to RGB, uint8 [H, W, 3]: grey is repeated, 16-bit is scaled to 8, alpha dropped, EXIF orientation applied.

    Raises BadInput where it is unreadable, truncated or too large.
    """
    return np.asarray(_decoded(data, name, decoding, decoding.white_level).convert("RGB"))


def decode_mask(data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Decode a defect mask to bool [H, W]: True where any channel is above half of its range (or non-zero for masks with values 0 and 1).

    Masks saved with 16 bits often hold 8-bit values; the range is then that of 8 bits. Raises BadInput where it is unreadable, truncated
    or too large.
    """
    values = np.asarray(_decoded(data, name, decoding, None).convert("RGB")).max(axis=2)
    return values > (0 if values.max() <= 1 else 127)


def _decoded(data: bytes | memoryview, name: str, decoding: Decoding, white_level: int | None) -> Image.Image:
    """The upright picture with at most 8 bits a channel.

    `white_level` is the white of pictures with more bits; None takes 65535 for those that reach above 255, and 255 for the others.
    """
    with _opened(data, name, decoding) as opened:
        try:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise BadInput(f"{name} holds floating-point values; save it with 8 or 16 bits a channel.")
            if image.mode == "I" or image.mode.startswith("I;"):
                values = np.asarray(image).astype(np.int64)
                white = white_level or (65535 if values.max() > 255 else 255)
                image = Image.fromarray((values * 255 // white).clip(0, 255).astype(np.uint8))
            # Lets Pillow's own complaint about an impossible conversion be met here.
            return image if image.mode in ("L", "RGB") else image.convert("RGB")
        except BadInput:
            raise
        except Exception as error:  # Pillow's decoders raise whatever they meet: OSError, SyntaxError, struct.error, ValueError ...
            raise BadInput(f"{name} cannot be decoded ({error}); it is damaged or truncated.") from error


def _orientation(image: Image.Image, data: bytes | memoryview, name: str) -> int:
    # Pillow decodes a whole PNG to look for EXIF behind the pixels; most have none at all.
    if image.format == "PNG" and not re.search(rb"eXIf|Raw profile type|XML:com\.adobe\.xmp", data):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # whatever Pillow meets, as in _decoded
        raise BadInput(f"{name} has metadata that cannot be read ({error}); it is damaged.") from error


def _opened(data: bytes | memoryview, name: str, decoding: Decoding) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels below is the limit
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadInput(f"{name} has more than {decoding.max_pixels / 1e6:.0f} megapixels; scale it down.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name} is not an image that can be read ({type(error).__name__}).") from error
    if image.width * image.height > decoding.max_pixels:
        raise BadInput(f"{name} has {image.width} x {image.height} pixels, more than {decoding.max_pixels / 1e6:.0f} megapixels; scale it down.")
    return image

"""Decoding photographs and masks from bytes that are not trusted."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vqi.platform.errors import BadInput

# A header may promise any size; a 100-megapixel photograph is larger than any camera on a line and takes 300 MB decoded.
MAX_PIXELS = 100_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def header_size(data: bytes | memoryview, name: str) -> tuple[int, int]:
    """Width and height in pixels as a viewer shows them (EXIF orientation applied), from the header alone.

    Raises BadInput where the header is unreadable or promises more than MAX_PIXELS.
    """
    with _opened(data, name) as image:
        width, height = image.size
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
        return width, height


def decode_rgb(data: bytes | memoryview, name: str) -> np.ndarray:
    """Decode a photograph to RGB, uint8 [H, W, 3]: grey is repeated, 16-bit is scaled to 8, alpha dropped, EXIF orientation applied.

    Raises BadInput where it is unreadable, truncated or too large.
    """
    return np.asarray(_decoded(data, name, rgb=True))


def decode_mask(data: bytes | memoryview, name: str) -> np.ndarray:
    """Decode a defect mask to bool [H, W]: True where any channel is above half of its range (or non-zero for masks with values 0 and 1).

    Raises BadInput where it is unreadable, truncated or too large.
    """
    grey = np.asarray(_decoded(data, name, rgb=False))
    return grey > (0 if grey.size == 0 or grey.max() <= 1 else 127)


def _decoded(data: bytes | memoryview, name: str, rgb: bool) -> Image.Image:
    with _opened(data, name) as opened:
        try:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
                values = np.asarray(image).astype(np.int64)
                image = Image.fromarray((values // 257 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8))
            elif image.mode == "F":
                raise BadInput(f"{name} holds floating-point values; save it with 8 or 16 bits a channel.")
            return image.convert("RGB" if rgb else "L")
        except BadInput:
            raise
        except Exception as error:  # Pillow's decoders raise whatever they meet: OSError, SyntaxError, struct.error, ValueError ...
            raise BadInput(f"{name} cannot be decoded ({error}); it is damaged or truncated.") from error


def _opened(data: bytes | memoryview, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name} is not an image that can be read ({type(error).__name__}).") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadInput(f"{name} has {image.width} x {image.height} pixels, more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down.")
    return image

"""Decoding photographs from bytes that are not trusted. Masks are decoded in `masks.py`."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageFile,
    ImageMode,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vqi.dataset.decoding import DEFAULT, Decoding
from vqi.dataset.profiles import ColourProfile, Colours, colour_profile
from vqi.dataset.scaling import Photograph, over_grey, scale_floats, scale_values
from vqi.dataset.tiffs import STARTS as TIFF_STARTS
from vqi.dataset.tiffs import TiffHeader, count_tiff_pages, tiff_header, tiff_values, too_large
from vqi.platform.errors import BadInput

# Pillow tells formats by content, and for some (EPS) starts other programs: only these may be opened, whatever a file
# is called. Importing a plugin registers its format.
_PLUGINS = {
    "PNG": PngImagePlugin,
    "JPEG": JpegImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
    "WEBP": WebPImagePlugin,
    "PPM": PpmImagePlugin,
}
FORMATS = tuple(_PLUGINS)
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm", ".pbm")
# Pictures by name of kinds that are not read: who passes one over says so. Camera raw needs choices of its own, others
# are not photographs.
OTHER_PICTURES = (
    *(
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".gif",
        ".apng",
        ".jp2",
        ".j2k",
        ".j2c",
        ".jpf",
        ".jpx",
        ".jxl",
        ".jxr",
        ".mpo",
        ".dib",
    ),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
    *(".psd", ".xcf", ".svg", ".exr", ".hdr", ".tga", ".pcx", ".pfm", ".dds", ".ico", ".qoi", ".fits", ".dcm"),
)
# The TIFF tag whose lowest bit says that a page is another one, made smaller.
_NEW_SUBFILE_TYPE = 254

# The chunks of a PNG that hold text, EXIF or XMP among it.
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_SAMPLE_VALUE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 281, 258, 262, 284


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded: `width` and `height` in pixels as a viewer shows them (EXIF orientation
    applied), whether it has whole numbers of more than 8 bits a channel (`wide`), and then the value of white where the
    format states one (a TIFF of 12 bits, a PGM's maxval, a PNG's sBIT); whether its values are `floating`; its
    `colours`, and its colour profile (ICC), b"" where it bears none."""

    width: int
    height: int
    wide: bool
    white: int | None
    floating: bool = False
    colours: Colours = "RGB"
    profile: bytes = b""


def read_header(data: bytes | memoryview, name: str, page: int = 1) -> Header:
    """The header of a page of a file of any size. Raises BadInput where it is unreadable."""
    if _is_odd_tiff(data, page):
        return _of_tiff(tiff_header(data, name, page))
    with open_image(data, name, page=page) as image:
        width, height = image.size
        # Pillow gives the size of a TIFF as it is shown, of the others as it is stored.
        if image.format != "TIFF" and _orientation(image, data, name) in (5, 6, 7, 8):
            width, height = height, width
        wide = is_wide(image)
        white = _stated_white(image, data) if wide else None
        return Header(width, height, wide, white, False, _colours(image), image.info.get("icc_profile") or b"")


def header_size(data: bytes | memoryview, name: str) -> tuple[int, int]:
    """Width and height in pixels as a viewer shows them (EXIF orientation applied), from the header alone.

    Raises BadInput where the header is unreadable.
    """
    header = read_header(data, name)
    return header.width, header.height


def stored_form(data: bytes | memoryview, name: str, page: int = 1) -> tuple[bool, int]:
    """How a photograph was saved: whether it is grey, and its EXIF orientation (1 = as stored).

    Raises BadInput where the header is unreadable.
    """
    if _is_odd_tiff(data, page):
        header = tiff_header(data, name, page)
        return header.grey, header.orientation
    with open_image(data, name, page=page) as image:
        # The base mode is that of the colours: "RGB" for a palette of them, "L" for 1, 8 and 16 bits of grey, with
        # alpha or without. Pillow opens a PNG of 16 bits of grey with alpha as RGBA.
        grey = ImageMode.getmode(image.mode).basemode == "L" or _raw_mode(image).startswith("LA;")
        return grey, _orientation(image, data, name)


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture by its first 16 bytes, whatever it is called: PNG, JPEG, TIFF, GIF, BMP, WEBP, JPEG
    2000, JPEG XL, HEIF, AVIF."""
    starts = (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"GIF8",
        b"\0\0\0\x0cjP  ",
        b"\xff\x4f\xff\x51",
        b"\0\0\0\x0cJXL ",
    )
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    # A BMP's two letters may begin a text; its four reserved bytes are zero.
    return (head[:2] == b"BM" and head[6:10] == bytes(4)) or (
        head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif")
    )


def count_pages(file: BinaryIO) -> int:
    """How many pictures a file holds: pages of a TIFF, frames of an animation; decoding reads one (`Decoding.page`). 1
    where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                return len(_frames_of_pages(image))
    except Exception:  # whatever Pillow meets, as in _decoded: what is wrong with a file is said where it is decoded
        try:
            file.seek(0)
            content = file.read()
            return max(1, count_tiff_pages(content, "")) if content[:4] in TIFF_STARTS else 1
        except (BadInput, OSError):
            return 1


def _frames_of_pages(image: ImageFile.ImageFile) -> list[int]:
    """The frames of an open file that are pages, by Pillow's numbers; raises what Pillow raises.

    Smaller copies of a page (TIFF 6.0, NewSubfileType) and what phones put behind a JPEG are not pages.
    """
    frames = 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return list(range(frames))
    pages = []
    for frame in range(frames):
        image.seek(frame)
        if not int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & 1:
            pages.append(frame)
    return pages or [0]


def decode_rgb(data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Decode a photograph to RGB, uint8 [H, W, 3]: as `decode_photograph`, without what it counts."""
    return decode_photograph(data, name, decoding).pixels


def decode_photograph(
    data: bytes | memoryview, name: str, decoding: Decoding = DEFAULT, rows: int | None = None
) -> Photograph:
    """Decode a photograph: grey is repeated, more than 8 bits are scaled to 8 by the white level and floating-point
    values by their range, EXIF orientation is applied, and colours of another profile become sRGB.

    Transparent pixels become TRANSPARENT_GREY, half-transparent ones are blended with it. Where only the first `rows`
    are wanted, those below are left out if the codec can stop there (PNG of 8 bits, not interlaced); the others decode
    all. Raises BadInput where it is unreadable, truncated or too large, RangeUnknown for floating-point values without
    a range.
    """
    if _is_odd_tiff(data, decoding.page):
        values, header = tiff_values(data, name, decoding.page, decoding.max_pixels)
        photograph = (
            scale_floats(values, name, decoding)
            if header.floating
            else scale_values(values, decoding.white_level if header.bits > 8 else 255)
        )
        return _in_srgb(photograph, _conversion(_of_tiff(header), decoding))
    with open_image(data, name, decoding.max_pixels, decoding.page) as image, decoding_errors(name):
        profile = image.info.get("icc_profile") or b""
        conversion = _conversion(Header(0, 0, False, None, False, _colours(image), profile), decoding)
        if is_wide(image):
            return _in_srgb(scale_values(load_wide(image, data), decoding.white_level), conversion)
        if rows is not None and rows < image.height and _may_stop(image) and _orientation(image, data, name) == 1:
            _stop_after(image, rows)
        upright = load_upright(image, name)
        if not upright.has_transparency_data:
            if conversion and conversion.space == "CMYK":
                return Photograph(np.asarray(conversion.convert(upright)))
            colours = upright if upright.mode == "RGB" else upright.convert("RGB")
            return _in_srgb(
                Photograph(np.asarray(colours), image=upright if upright.mode == "L" else colours), conversion
            )
        values = np.asarray(upright.convert("RGBA"))
        opaque = _in_srgb(Photograph(np.ascontiguousarray(values[..., :3])), conversion).pixels
        return over_grey(opaque, values[..., 3])


def wide_values(data: bytes | memoryview, name: str, decoding: Decoding) -> np.ndarray:
    """The values of a file with more than 8 bits a channel, or of floating-point values, read by size and page of
    `decoding`: upright, [H, W, C] with C = 1 (grey), 2 (grey, alpha), 3 or 4 channels. Raises BadInput where it cannot
    be decoded."""
    if _is_odd_tiff(data, decoding.page):
        return tiff_values(data, name, decoding.page, decoding.max_pixels)[0]
    with open_image(data, name, decoding.max_pixels, decoding.page) as image, decoding_errors(name):
        return load_wide(image, data)


def odd_tiff_values(data: bytes | memoryview, name: str, max_pixels: int) -> tuple[np.ndarray, TiffHeader] | None:
    """The values of the first page of a TIFF that Pillow cannot open, or would not decode as it is meant, as
    `tiff_values` gives them, and its header; None for every other file. Raises BadInput where it cannot be decoded."""
    return tiff_values(data, name, 1, max_pixels) if _is_odd_tiff(data, 1) else None


def _of_tiff(header: TiffHeader) -> Header:
    turned = header.orientation >= 5
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    wide = header.bits > 8 and not header.floating
    white = header.white if wide else None
    return Header(width, height, wide, white, header.floating, "GRAY" if header.grey else "RGB", header.profile)


def _is_odd_tiff(data: bytes | memoryview, page: int) -> bool:
    """Whether a file is a TIFF that Pillow cannot open, or would not decode as it is meant."""
    if bytes(data[:4]) not in TIFF_STARTS:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _identified(data) as image:
                image.seek(_frames_of_pages(image)[page - 1] if page > 1 else 0)
                if not isinstance(image, TiffImagePlugin.TiffImageFile):
                    return False
                tags = image.tag_v2
                wide = int(np.max(tags.get(_BITS_PER_SAMPLE, 1))) > 8
                planes, white_is_zero = tags.get(_PLANES, 1) == 2, tags.get(_PHOTOMETRIC) == 0
                return image.mode == "F" or (wide and (planes or white_is_zero))
    except Image.DecompressionBombError:
        return False
    except Exception:  # whatever Pillow meets; what is wrong is said where the file is decoded
        return True


def _colours(image: ImageFile.ImageFile) -> Colours:
    """The colours of a file that is open, but not loaded yet."""
    if image.mode == "CMYK":
        return "CMYK"
    grey = ImageMode.getmode(image.mode).basemode == "L" or _raw_mode(image).startswith("LA;")
    return "GRAY" if grey else "RGB"


def _conversion(header: Header, decoding: Decoding) -> ColourProfile | None:
    """How a photograph's colours become sRGB; None where they are, or nothing that fits says what they are."""
    profile = colour_profile(header.profile) if decoding.profiles and header.profile else None
    return profile if profile and profile.transform and profile.fits(header.colours) else None


def _in_srgb(photograph: Photograph, conversion: ColourProfile | None) -> Photograph:
    """A photograph of RGB or grey whose colours are those of a profile."""
    if conversion is None or conversion.space == "CMYK":
        return photograph
    pixels = photograph.pixels
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if conversion.space == "GRAY" else pixels)
    return replace(photograph, pixels=np.asarray(conversion.convert(image)), image=None)


def load_upright(image: ImageFile.ImageFile, name: str) -> Image.Image:
    """The decoded picture with EXIF orientation applied. Raises BadInput for floating-point values, and whatever
    Pillow's decoders raise."""
    _load(image)
    if image.mode == "F":
        raise BadInput(f"{name} holds floating-point values; save it with 8 or 16 bits a channel.")
    ImageOps.exif_transpose(image, in_place=True)
    return image


def load_wide(image: ImageFile.ImageFile, data: bytes | memoryview) -> np.ndarray:
    """The values of a file with more than 8 bits a channel, upright: int32 [H, W, C] with C = 1 (grey), 2 (grey,
    alpha), 3 or 4 channels.

    Raises whatever Pillow's decoders raise.
    """
    raw_mode = _raw_mode(image)
    if _maxval(image) > 255:
        # Pillow's decoder stretches the values to its own range, in Python.
        shape = image.height, image.width, 1 if image.mode == "I" else 3
        return (
            np.frombuffer(data, ">u2", shape[0] * shape[1] * shape[2], image.tile[0].offset)
            .reshape(shape)
            .astype(np.int32)
        )
    if image.mode.startswith("I"):
        _load(image)
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)[..., None]
    elif raw_mode == "LA;16B":
        # Pillow keeps 8 of the 16 bits. The four bytes of a pixel are read as if they were red, green, blue and alpha.
        four = _loaded_as(image, "RGBA")
        values = four[..., 0::2] * 256 + four[..., 1::2]
    else:
        # Pillow keeps 8 of the 16 bits, and the other 8 when the file is read with its two bytes in the opposite order.
        channels, order = raw_mode.split(";16")
        if order == "N":
            order = "L" if sys.byteorder == "little" else "B"
        swapped = f"{channels};16{'L' if order == 'B' else 'B'}"
        with _identified(data) as again:
            again.seek(image.tell())
            values = _loaded_as(image, raw_mode) * 256 + _loaded_as(again, swapped)
    key = image.info.get("transparency")
    if isinstance(key, (int, tuple)) and values.shape[2] in (1, 3):
        opaque = (values != np.atleast_1d(key)).any(axis=2, keepdims=True)
        values = np.concatenate([values, opaque * np.int32(65535)], axis=2)
    return values


@contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Turns whatever Pillow's decoders raise (OSError, SyntaxError, struct.error, ValueError ...) into BadInput."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name} cannot be decoded ({error}); it is damaged or truncated.") from error


def open_image(
    data: bytes | memoryview, name: str, max_pixels: int | None = None, page: int = 1
) -> ImageFile.ImageFile:
    """A page of the file, opened but not decoded. Raises BadInput where it is not an image, lacks the page, or has more
    than `max_pixels` pixels."""
    try:
        image = _identified(data)
    except Image.DecompressionBombError as error:
        raise BadInput(
            f"{name} is larger than what the decoder of its format takes ({error}); save it as PNG, JPEG or TIFF."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name} is not an image that can be read ({type(error).__name__}).") from error
    if page > 1:
        _turn_to(image, name, page)
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise too_large(name, image.width, image.height, max_pixels)
    return image


def _turn_to(image: ImageFile.ImageFile, name: str, page: int) -> None:
    """Go to a page of a file that is open. Raises BadInput where it has fewer, or is damaged."""
    with decoding_errors(name):
        frames = _frames_of_pages(image)
        if page > len(frames):
            held = "one page" if len(frames) == 1 else f"{len(frames)} pages"
            raise BadInput(f"{name} has {held}, and image.page is {page}; name one that every photograph has.")
        image.seek(frames[page - 1])


def is_wide(image: ImageFile.ImageFile) -> bool:
    """Whether a file that is open, but not loaded yet, has more than 8 bits a channel."""
    if image.format == "PPM":
        return image.mode.startswith("I") or _maxval(image) > 255
    channels, wide, _ = _raw_mode(image).partition(";16")
    return image.mode.startswith("I") or bool(wide and channels in ("LA", "RGB", "RGBA", "RGBX"))


def _identified(data: bytes | memoryview) -> ImageFile.ImageFile:
    """Image.open without its limit, which is one for the whole process: `max_pixels` is a set's own."""
    stream = io.BytesIO(data)
    start = stream.read(16)
    for form in FORMATS:
        factory, accept = Image.OPEN[form]
        if accept is None or accept(start) is True:
            stream.seek(0)
            try:
                return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    raise OSError("no known format")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the pixels of a file that is open, but not loaded yet, are stored, in Pillow's words: "RGB;16B"."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    return str(args[0]) if isinstance(args, tuple) and args else str(args)


def _maxval(image: ImageFile.ImageFile) -> int:
    """The value of white of a PGM or PPM file that is open, but not loaded yet, where Pillow would stretch the values;
    else 0."""
    args = image.tile[0].args if image.tile and image.tile[0].codec_name == "ppm" else None
    return int(args[-1]) if isinstance(args, tuple) else 0


def _may_stop(image: ImageFile.ImageFile) -> bool:
    """Whether the codec can decode the first rows alone."""
    return image.format == "PNG" and not image.info.get("interlace")


def _stop_after(image: ImageFile.ImageFile, rows: int) -> None:
    """Makes a file that is open, but not loaded yet, end after some of its rows."""
    image._size = image.width, rows
    image.tile = [tile._replace(extents=(0, 0, image.width, rows)) for tile in image.tile]


def _load(image: ImageFile.ImageFile) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # With the memory at hand, Pillow's plugin does not check the size against the limit of the process.
        image.im = Image.core.new(image.mode, getattr(image, "_tile_size", image.size))
    image.load()


def _loaded_as(image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    """Decoded as if it were stored as `raw_mode`, upright: int32 [H, W, C]."""
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    _load(image)
    return np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)


def _stated_white(image: ImageFile.ImageFile, data: bytes | memoryview) -> int | None:
    """The value of white that the header of a file with more than 8 bits a channel states, where that is below
    65535."""
    white = 65535
    if _maxval(image):
        white = _maxval(image)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        stated = [
            image.tag_v2.get(_MAX_SAMPLE_VALUE),
            2 ** max(np.atleast_1d(image.tag_v2.get(_BITS_PER_SAMPLE, 16))) - 1,
        ]
        white = min([65535, *(int(max(np.atleast_1d(value))) for value in stated if value)])
    elif image.format == "PNG":
        # The standard wants fewer significant bits scaled to the whole range; who writes them as they are is known by
        # the values alone.
        start = bytes(data[:4096])
        at = start.find(b"sBIT")
        if 0 <= at < len(start) - 4:
            white = 2 ** max(start[at + 4 : at + 4 + int.from_bytes(start[at - 4 : at], "big")] or b"\x10") - 1
    return white if 255 <= white < 65535 else None


def _may_hold_exif(png: bytes | memoryview) -> bool:
    """Whether a chunk of a PNG may hold EXIF: one of its own, or a text by that name."""
    at = 8
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IEND":
            return False
        start = bytes(png[at + 8 : at + 8 + min(length, 80)])
        if kind == b"eXIf" or (kind in _TEXTS and start.startswith((b"Raw profile type", b"XML:com.adobe.xmp"))):
            return True
        at += 12 + length
    return False


def _orientation(image: ImageFile.ImageFile, data: bytes | memoryview, name: str) -> int:
    # Pillow decodes a whole PNG to look for EXIF behind the pixels; most have none at all.
    if image.format == "PNG" and not _may_hold_exif(data):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # whatever Pillow meets, as in decoding_errors
        raise BadInput(f"{name} has metadata that cannot be read ({error}); it is damaged.") from error

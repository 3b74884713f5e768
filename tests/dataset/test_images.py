"""Decoding what people really have: 16 bits, palettes, alpha, turned cameras, damage."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqi.dataset.images import count_pages, decode_mask, decode_rgb, header_size, is_picture, stored_form
from vqi.platform.errors import BadInput


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    data = encoded(Image.fromarray(picture()), form)
    assert np.array_equal(decode_rgb(data, "x"), picture())
    assert header_size(data, "x") == (60, 40)
    assert np.array_equal(decode_rgb(memoryview(data), "x"), picture())


def test_grey_is_repeated_and_alpha_dropped() -> None:
    grey = picture()[..., 0]
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(grey)), "x"), np.repeat(grey[..., None], 3, axis=2))
    alpha = np.concatenate([picture(), np.zeros((40, 60, 1), np.uint8)], axis=2)
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(alpha)), "x"), picture())


def test_palette_becomes_its_colours() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    assert decode_rgb(encoded(image), "x").tolist() == [[[10, 20, 30], [200, 100, 0]]]
    assert decode_rgb(encoded(image, transparency=b"\x00\xff"), "x").tolist() == [[[10, 20, 30], [200, 100, 0]]]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_their_range_not_by_their_content(form: str) -> None:
    dark = Image.fromarray(np.array([[0, 255, 257], [514, 32896, 65535]], np.uint16))
    assert decode_rgb(encoded(dark, form), "x")[..., 0].tolist() == [[0, 0, 1], [2, 128, 255]]
    darker = Image.fromarray(np.array([[0, 200]], np.uint16))
    assert decode_rgb(encoded(darker, form), "x").max() == 0


def test_cmyk_becomes_rgb() -> None:
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert decode_rgb(encoded(white, "JPEG"), "x").min() >= 250


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_camera_is_turned_back(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene = np.zeros((40, 60, 3), np.uint8)
    scene[:, :10] = 255  # the left edge is white as stored
    data = encoded(Image.fromarray(scene), form, exif=exif)
    upright = decode_rgb(data, "x")
    assert header_size(data, "x") == upright.shape[1::-1] == ((40, 60) if orientation in (6, 8) else (60, 40))
    edge = {1: upright[:, :5], 3: upright[:, -5:], 6: upright[:5], 8: upright[-5:]}[orientation]
    assert edge.min() > 200
    assert stored_form(data, "x") == (False, orientation)


@pytest.mark.parametrize(("mode", "grey"), [("1", True), ("L", True), ("I;16", True), ("LA", True), ("RGB", False), ("RGBA", False), ("P", False)])
def test_the_stored_form_tells_grey_from_colour(mode: str, grey: bool) -> None:
    assert stored_form(encoded(Image.new(mode, (8, 8))), "x") == (grey, 1)


def test_an_image_behind_its_pixels_tells_its_orientation_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(Image.fromarray(picture()))
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = plain[:-12] + chunk + plain[-12:]
    assert header_size(data, "x") == (40, 60)
    assert decode_rgb(data, "x").shape == (60, 40, 3)


def test_damage_is_one_sentence() -> None:
    whole = encoded(Image.fromarray(picture()))
    for data in (b"", b"not an image", whole[:20], b"GIF89a" + whole):
        with pytest.raises(BadInput, match=r"a/<b>\.png is not an image that can be read"):
            header_size(data, "a/<b>.png")
    assert header_size(whole[: len(whole) // 2], "x") == (60, 40)
    for form in ("PNG", "JPEG", "TIFF", "BMP"):
        data = encoded(Image.fromarray(picture(200, 200)), form)
        with pytest.raises(BadInput, match=r"^x\.png "):
            decode_rgb(data[: len(data) * 2 // 3], "x.png")


def test_formats_that_start_other_programs_stay_closed() -> None:
    data = encoded(Image.fromarray(picture()), "EPS")
    with pytest.raises(BadInput, match="not an image that can be read"):
        decode_rgb(data, "x.png")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_giant_header_is_refused_before_any_memory_is_taken(width: int, height: int) -> None:
    for read in (header_size, decode_rgb, decode_mask):
        with pytest.raises(BadInput, match="100 megapixels"):
            read(png_header(width, height), "x.png")


def test_floating_point_values_are_refused() -> None:
    with pytest.raises(BadInput, match="floating-point"):
        decode_rgb(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "x.tif")


@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param(np.uint8([[0, 255]]), id="black and white"),
        pytest.param(np.uint8([[0, 1]]), id="zero and one"),
        pytest.param(np.uint8([[[0, 0, 0], [255, 0, 0]]]), id="red"),
        pytest.param(np.uint8([[[0, 0, 0, 255], [255, 255, 255, 255]]]), id="with alpha"),
        pytest.param(np.uint16([[0, 255]]), id="8 bits in 16"),
        pytest.param(np.uint16([[0, 1]]), id="zero and one in 16"),
        pytest.param(np.uint16([[0, 65535]]), id="16 bits"),
        pytest.param(np.array([[False, True]]), id="one bit"),
    ],
)
def test_masks_are_true_where_they_were_painted(drawn: np.ndarray) -> None:
    assert decode_mask(encoded(Image.fromarray(drawn)), "m").tolist() == [[False, True]]


def test_an_empty_mask_is_empty_and_faint_edges_are_outside() -> None:
    assert not decode_mask(encoded(Image.new("L", (5, 4))), "m").any()
    assert decode_mask(encoded(Image.fromarray(np.uint8([[3, 127, 128, 250]]))), "m").tolist() == [[False, False, True, True]]


def saved(kind: str, frames: list[Image.Image], **options: object) -> io.BytesIO:
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], **options)
    return out


@pytest.mark.parametrize(("kind", "pages"), [("TIFF", 3), ("WEBP", 3), ("PNG", 3), ("MPO", 1)])
def test_pages_are_counted(kind: str, pages: int) -> None:
    frames = [Image.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)) for number in range(3)]
    assert count_pages(saved(kind, frames)) == pages
    assert count_pages(saved(kind, frames[:1])) == 1


def test_a_smaller_copy_of_a_page_is_not_a_page() -> None:
    page = Image.new("RGB", (16, 16), "grey")
    reduced = page.resize((8, 8))
    reduced.encoderinfo = {"tiffinfo": {254: 1}}
    assert count_pages(saved("TIFF", [page, reduced])) == 1
    assert count_pages(saved("TIFF", [page, page.resize((8, 8))])) == 2


def test_what_cannot_be_read_has_one_page() -> None:
    assert count_pages(io.BytesIO(b"II*\0 nothing")) == count_pages(io.BytesIO(b"")) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_pictures_are_known_by_their_first_bytes(kind: str) -> None:
    assert is_picture(encoded(Image.new("RGB", (32, 32), "grey"), kind)[:16])


@pytest.mark.parametrize("head", [b"", b"BMW are cars", b"{}", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"RIFF0000WAVE"])
def test_other_files_are_not_pictures(head: bytes) -> None:
    assert not is_picture(head)

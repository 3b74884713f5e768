"""Decoding what people really have: 16 bits, palettes, alpha, turned cameras, damage."""

from __future__ import annotations

import io
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from vqi.dataset.decoding import Decoding
from vqi.dataset.images import (
    count_pages,
    decode_photograph,
    decode_rgb,
    header_size,
    is_picture,
    read_header,
    stored_form,
)
from vqi.dataset.masks import BLACK_BACKGROUND, decode_mask
from vqi.platform.errors import BadInput


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 0)
        + b"IDAT"
    )


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    data = encoded(Image.fromarray(picture()), form)
    assert np.array_equal(decode_rgb(data, "x"), picture())
    assert header_size(data, "x") == (60, 40)
    assert np.array_equal(decode_rgb(memoryview(data), "x"), picture())


def png_of(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits, of uint16 [H, W, 1 to 4], with more chunks before the pixels: what Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        body += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return body


def test_grey_is_repeated() -> None:
    grey = picture()[..., 0]
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(grey)), "x"), np.repeat(grey[..., None], 3, axis=2))


def with_hidden_colour(mode: str) -> Image.Image:
    """The left half transparent over red (or light grey), the right half opaque and dark."""
    image = Image.new("RGBA", (60, 40), (250, 0, 0, 0))
    image.paste((10, 20, 30, 255), (30, 0, 60, 40))
    if mode != "P":
        return image.convert(mode)
    palette = Image.new("P", (60, 40), 0)
    palette.putpalette([250, 0, 0, 10, 20, 30])
    palette.paste(1, (30, 0, 60, 40))
    return palette


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": 0}),
        ("PNG", "P", {"transparency": b"\x00\xff"}),
        ("TIFF", "RGBA", {}),
        ("WEBP", "RGBA", {"lossless": True, "exact": True}),
    ],
)
def test_what_lies_under_transparent_pixels_is_one_grey(form: str, mode: str, options: dict[str, object]) -> None:
    photograph = decode_photograph(encoded(with_hidden_colour(mode), form, **options), "x")
    assert np.unique(photograph.pixels[:, :30]).tolist() == [128]
    assert photograph.pixels[0, 45].tolist() == ([18, 18, 18] if mode == "LA" else [10, 20, 30])
    assert photograph.transparent == 0.5


def test_a_colour_that_stands_for_transparency_becomes_the_grey_too() -> None:
    image = Image.fromarray(np.uint8([[[1, 2, 3], [9, 9, 9]]]))
    assert decode_rgb(encoded(image, transparency=(1, 2, 3)), "x").tolist() == [[[128] * 3, [9] * 3]]
    wide = np.uint16([[[257], [514]]])
    assert decode_rgb(png_of(wide, (b"tRNS", struct.pack(">H", 257))), "x").tolist() == [[[128] * 3, [2] * 3]]
    colour = np.uint16([[[257, 0, 0], [257, 0, 514]]])
    assert decode_rgb(png_of(colour, (b"tRNS", struct.pack(">3H", 257, 0, 0))), "x").tolist() == [
        [[128] * 3, [1, 0, 2]]
    ]


def test_half_transparent_pixels_are_blended_with_the_grey() -> None:
    image = Image.new("RGBA", (2, 1), (0, 255, 100, 128))
    photograph = decode_photograph(encoded(image), "x")
    assert photograph.pixels[0, 0].tolist() == [64, 192, 114]
    assert photograph.transparent == 1


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_opaque_alpha_changes_nothing(form: str) -> None:
    opaque = Image.fromarray(np.concatenate([picture(), np.full((40, 60, 1), 255, np.uint8)], axis=2))
    photograph = decode_photograph(encoded(opaque, form, **({"lossless": True} if form == "WEBP" else {})), "x")
    assert np.array_equal(photograph.pixels, picture())
    assert photograph.transparent == 0


def test_palette_becomes_its_colours() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    assert decode_rgb(encoded(image), "x").tolist() == [[[10, 20, 30], [200, 100, 0]]]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_their_range_not_by_their_content(form: str) -> None:
    dark = Image.fromarray(np.array([[0, 255, 257], [514, 32896, 65535]], np.uint16))
    assert decode_rgb(encoded(dark, form), "x")[..., 0].tolist() == [[0, 0, 1], [2, 128, 255]]
    darker = Image.fromarray(np.array([[0, 200]], np.uint16))
    assert decode_rgb(encoded(darker, form), "x").max() == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_bits_of_sixteen_count_in_grey_colour_and_alpha(channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (5, 7, channels)).astype(np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    colours = values[..., : 3 if channels > 2 else 1]
    expected = np.broadcast_to(colours.astype(int) * 255 // 4095, (5, 7, 3))
    data = png_of(values)
    assert np.array_equal(decode_rgb(data, "x", Decoding(4095)), expected)
    assert read_header(data, "x").wide
    assert stored_form(data, "x") == (channels < 3, 1)
    if channels in (2, 4):
        values[0, 0, -1] = 0
        hidden = decode_photograph(png_of(values), "x", Decoding(4095))
        assert hidden.pixels[0, 0].tolist() == [128] * 3
        assert hidden.transparent == pytest.approx(1 / 35)


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_bits_of_a_colour_tiff_count(order: str) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    tags = [(256, 7), (257, 5), (258, 3), (259, 1), (262, 2), (273, 8), (277, 3), (278, 5), (279, values.nbytes)]
    kind = {258: (3, 3, 8 + values.nbytes)}
    pixels, bits = values.astype(f"{order}u2").tobytes(), np.full(3, 16, f"{order}u2").tobytes()
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(pixels) + len(bits))
    entries = b"".join(struct.pack(f"{order}HHII", tag, *kind.get(tag, (4, 1, value))) for tag, value in tags)
    data = start + pixels + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    assert np.array_equal(decode_rgb(data, "x"), values.astype(int) * 255 // 65535)


@pytest.mark.parametrize(("kind", "channels"), [("P5", 1), ("P6", 3)])
def test_a_pgm_or_ppm_states_its_white_and_keeps_its_values(kind: str, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (5, 7, channels)).astype(np.uint16)
    data = f"{kind}\n# a camera's\n7 5\n4095\n".encode() + values.astype(">u2").tobytes()
    header = read_header(data, "x")
    assert (header.width, header.height, header.wide, header.white) == (7, 5, True, 4095)
    assert np.array_equal(
        decode_rgb(data, "x", Decoding(4095)), np.broadcast_to(values.astype(int) * 255 // 4095, (5, 7, 3))
    )
    assert decode_photograph(data, "x", Decoding(1023)).clipped == pytest.approx((values.max(axis=2) > 1023).mean())
    with pytest.raises(BadInput, match="damaged or truncated"):
        decode_rgb(data[:-9], "x")


def test_headers_state_their_white() -> None:
    grey = np.zeros((4, 4, 1), np.uint16)
    assert read_header(png_of(grey, (b"sBIT", b"\x0c")), "x").white == 4095
    assert read_header(png_of(grey), "x").white is None
    for tags, white in (({281: 1023}, 1023), ({281: 65535}, None), ({}, None)):
        assert read_header(encoded(Image.fromarray(grey[..., 0]), "TIFF", tiffinfo=tags), "x").white == white
    eight_bits = read_header(encoded(Image.fromarray(picture())), "x")
    assert (eight_bits.wide, eight_bits.white) == (False, None)


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


@pytest.mark.parametrize(
    ("mode", "grey"),
    [("1", True), ("L", True), ("I;16", True), ("LA", True), ("RGB", False), ("RGBA", False), ("P", False)],
)
def test_the_stored_form_distinguishes_grey_from_colour(mode: str, grey: bool) -> None:
    assert stored_form(encoded(Image.new(mode, (8, 8))), "x") == (grey, 1)


def test_the_orientation_behind_the_pixels_is_read_too() -> None:
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
    for read in (decode_rgb, partial(decode_mask, meaning=BLACK_BACKGROUND, max_pixels=100_000_000)):
        with pytest.raises(BadInput, match="100 megapixels"):
            read(png_header(width, height), "x.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "PPM"])
def test_the_limit_is_the_set_s_own_and_not_pillow_s(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (400, 300), 200), form)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert header_size(data, "x") == (400, 300)
    assert decode_rgb(data, "x", Decoding(max_pixels=120_000)).shape == (300, 400, 3)
    with pytest.raises(BadInput, match=r"400 x 300 pixels.*image\.max_megapixels"):
        decode_rgb(data, "x", Decoding(max_pixels=119_999))


def test_values_of_32_bits_do_not_wrap_around() -> None:
    values = np.array([[-5, 0, 65535, 2**31 - 1]], np.int32)
    assert decode_rgb(encoded(Image.fromarray(values), "TIFF"), "x")[..., 0].tolist() == [[0, 0, 255, 255]]


def saved(kind: str, frames: list[Image.Image], **options: object) -> io.BytesIO:
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], **options)
    return out


@pytest.mark.parametrize(("kind", "pages"), [("TIFF", 3), ("WEBP", 3), ("PNG", 3), ("MPO", 1)])
def test_pages_are_counted(kind: str, pages: int) -> None:
    frames = [
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8))
        for number in range(3)
    ]
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


@pytest.mark.parametrize(
    "head", [b"", b"BMW are cars", b"{}", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"RIFF0000WAVE"]
)
def test_other_files_are_not_pictures(head: bytes) -> None:
    assert not is_picture(head)


def pages_of(*values: int, mode: str = "L", kind: str = "TIFF") -> bytes:
    dtype = np.uint16 if mode == "I;16" else np.uint8
    pages = [Image.fromarray(np.full((6, 8), value, dtype)) for value in values]
    out = io.BytesIO()
    pages[0].save(out, kind, save_all=True, append_images=pages[1:])
    return out.getvalue()


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_page_is_chosen(page: int) -> None:
    levels = (10, 120, 230)
    data = pages_of(*levels)
    assert (decode_rgb(data, "a.tif", Decoding(page=page)) == levels[page - 1]).all()
    wide = pages_of(*(level * 257 for level in levels), mode="I;16")
    assert (decode_rgb(wide, "b.tif", Decoding(page=page)) == levels[page - 1]).all()


def test_a_page_that_a_file_lacks_is_refused() -> None:
    with pytest.raises(BadInput, match=r"a\.tif has 2 pages, and image.page is 3"):
        decode_rgb(pages_of(1, 2), "a.tif", Decoding(page=3))
    with pytest.raises(BadInput, match=r"b\.png has one page, and image.page is 2"):
        decode_rgb(encoded(Image.new("RGB", (8, 8)), "PNG"), "b.png", Decoding(page=2))
    with pytest.raises(BadInput, match=r"c\.jpg has one page, and image.page is 2"):
        decode_rgb(encoded(Image.new("RGB", (8, 8)), "JPEG"), "c.jpg", Decoding(page=2))


@pytest.mark.parametrize("kept", [0, 1, 7, 9, 20, 60, 120, 200, 260, 300])
def test_a_damaged_file_with_pages_is_refused_by_name(kept: int) -> None:
    whole = pages_of(10, 120, 230)
    with pytest.raises(BadInput, match=r"a\.tif"):
        decode_rgb(whole[:kept], "a.tif", Decoding(page=3))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about tags
@pytest.mark.parametrize("seed", range(10))
def test_flipped_bytes_of_a_file_with_pages_never_crash(seed: int) -> None:
    data = bytearray(pages_of(10, 120, 230))
    random = np.random.default_rng(seed)
    for at in random.integers(4, len(data), 12):
        data[at] = random.integers(256)
    try:
        outcome = str(decode_rgb(bytes(data), "a.tif", Decoding(page=2)).dtype)
    except BadInput as error:
        outcome = str(error)
    assert outcome == "uint8" or "a.tif" in outcome


def test_pages_may_differ_in_size() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 6)).save(out, "TIFF", save_all=True, append_images=[Image.new("L", (20, 10), 9)])
    header = read_header(out.getvalue(), "a.tif", 2)
    assert (header.width, header.height) == (20, 10)
    assert decode_rgb(out.getvalue(), "a.tif", Decoding(page=2)).shape == (10, 20, 3)
    with pytest.raises(BadInput, match="has 20 x 10 pixels, more than 0 megapixels"):
        decode_rgb(out.getvalue(), "a.tif", Decoding(max_pixels=100, page=2))


def test_the_first_page_is_what_earlier_versions_wrote() -> None:
    assert Decoding().to_dict() == {"white_level": 65535, "max_pixels": 100_000_000}
    assert Decoding(page=2).to_dict()["page"] == 2

"""Pixels of the native program are Python's to the last bit: decoding, resizing, geometry, and the way back."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from native_program import BUILD, probe, probe_text
from vqi.dataset.areas import Polygons, draw_area
from vqi.dataset.decoding import Decoding
from vqi.dataset.geometry import Geometry
from vqi.dataset.image_statistics import image_statistics
from vqi.dataset.images import decode_rgb
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.pictures import boxes
from vqi.platform.errors import BadInput

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (37, 53, 3)).astype(np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE[:9, :13]).resize((53, 37), Image.Resampling.BICUBIC))


def decoded(data: bytes, folder: Path, decoding: Decoding = Decoding(profiles=True)) -> np.ndarray:
    (folder / "photograph").write_bytes(data)
    words = folder / "photograph", decoding.white_level, decoding.max_pixels, int(decoding.profiles)
    return probe("decode", *words)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def png(values: np.ndarray, kind: int, depth: int = 8, *further: tuple[bytes, bytes]) -> bytes:
    """A PNG of any kind and depth, which Pillow does not write: [H, W] or [H, W, C] of stored values."""
    channels = values.shape[2] if values.ndim == 3 else 1
    height, width = values.shape[:2]
    if depth < 8:
        bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = values.astype(">u2" if depth == 16 else np.uint8).reshape(height, width * channels).view(np.uint8)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return chunks((b"IHDR", header), *further, (b"IDAT", packed), (b"IEND", b""))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


# Where libtiff was not at hand when it was built, every TIFF is refused.
CACHE = BUILD / "CMakeCache.txt"
WITH_TIFF = CACHE.is_file() and "TIFF_INCLUDE_DIR:PATH=/" in CACHE.read_text()


JPEGS = {
    **{
        f"{quality} {subsampling}": {"quality": quality, "subsampling": subsampling}
        for quality in (30, 75, 95)
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
    },
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "optimised": {"optimize": True, "quality": 100},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg(options: dict[str, Any], mode: str, tmp_path: Path) -> None:
    for pixels in (NOISE, SMOOTH):
        data = encoded(Image.fromarray(pixels).convert(mode), "JPEG", **options)
        np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_png_of_eight_bits(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.concatenate([NOISE, NOISE[..., :1]], axis=2), "RGBA").convert(mode)
    data = encoded(image, "PNG")
    np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))


GREY = RANDOM.integers(0, 65536, (11, 13))
COLOURS = RANDOM.integers(0, 65536, (11, 13, 4))
PALETTE = (b"PLTE", RANDOM.integers(0, 256, 12).astype(np.uint8).tobytes())
PNGS = {
    "1 bit": png(GREY & 1, 0, 1),
    "2 bits": png(GREY & 3, 0, 2),
    "4 bits": png(GREY & 15, 0, 4),
    "1 bit, one transparent": png(GREY & 1, 0, 1, (b"tRNS", b"\0\1")),
    "2 bits, one transparent": png(GREY & 3, 0, 2, (b"tRNS", b"\0\1")),
    "4 bits, one transparent": png(GREY & 15, 0, 4, (b"tRNS", b"\0\x22")),
    "8 bits, one transparent": png(GREY & 7, 0, 8, (b"tRNS", b"\0\5")),
    "16 bits": png(GREY, 0, 16),
    "16 bits, one transparent": png(GREY, 0, 16, (b"tRNS", struct.pack(">H", GREY[3, 4]))),
    "16 bits, alpha": png(COLOURS[..., :2], 4, 16),
    "16 bits of colours": png(COLOURS[..., :3], 2, 16),
    "16 bits of colours, one transparent": png(
        COLOURS[..., :3], 2, 16, (b"tRNS", struct.pack(">3H", *COLOURS[2, 2, :3]))
    ),
    "16 bits of colours, alpha": png(COLOURS, 6, 16),
    "colours, one transparent": png(COLOURS[..., :3] & 1, 2, 8, (b"tRNS", struct.pack(">3H", 1, 0, 1))),
    "palette of 2 bits": png(GREY & 3, 3, 2, PALETTE),
    "palette, transparent": png(GREY & 3, 3, 8, PALETTE, (b"tRNS", b"\x80\0\xff")),
    "palette, one transparent": png(GREY & 3, 3, 4, PALETTE, (b"tRNS", b"\xff\0")),
    "EXIF": png(GREY & 255, 0, 8, (b"eXIf", exif(6)[6:])),
    "XMP": png(GREY & 255, 0, 8, (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="8"/>')),
    "text": png(GREY & 255, 0, 8, (b"tEXt", b"Comment\0Orientation"), (b"gAMA", struct.pack(">I", 45455))),
}


@pytest.mark.parametrize("name", PNGS)
@pytest.mark.parametrize("white", [65535, 4095])
def test_png_of_any_kind(name: str, white: int, tmp_path: Path) -> None:
    decoding = Decoding(white_level=white)
    np.testing.assert_array_equal(decoded(PNGS[name], tmp_path, decoding), decode_rgb(PNGS[name], "it", decoding))


def test_an_alpha_that_ends_where_white_does(tmp_path: Path) -> None:
    decoding = Decoding(white_level=4095)
    data = png(COLOURS & 4095, 6, 16)
    np.testing.assert_array_equal(decoded(data, tmp_path, decoding), decode_rgb(data, "it", decoding))


def test_an_interlaced_png(tmp_path: Path) -> None:
    # Pillow writes none: the seven passes of a picture whose pixels say where they are.
    height, width = 9, 11
    pixels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
        if row.size
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    data = chunks((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    expected = decode_rgb(data, "it")
    np.testing.assert_array_equal(expected[..., 0], pixels)
    np.testing.assert_array_equal(decoded(data, tmp_path), expected)


@pytest.mark.parametrize("orientation", range(10))
def test_orientation(orientation: int, tmp_path: Path) -> None:
    for form in ("JPEG", "PNG"):
        data = encoded(Image.fromarray(SMOOTH), form, exif=exif(orientation))
        np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))
    xmp = f"<x><tiff:Orientation>{orientation}</tiff:Orientation></x>".encode()
    data = encoded(Image.fromarray(SMOOTH), "JPEG", xmp=xmp)
    np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))


def display_p3(photographs: Path) -> bytes:
    """The profile that the cookies bear."""
    with Image.open(next(iter(sorted((photographs / "cookie").rglob("*.jpg"))))) as image:
        profile = image.info["icc_profile"]
    assert isinstance(profile, bytes)
    return profile


def test_colour_profiles_of_matrices(photographs: Path, tmp_path: Path) -> None:
    colours = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (256, 256, 3)).astype(np.uint8)))
    profile = display_p3(photographs)
    images = [
        encoded(Image.fromarray(colours), "PNG", icc_profile=profile),
        encoded(Image.fromarray(colours), "JPEG", icc_profile=profile),
        encoded(Image.fromarray(colours[..., 0]), "PNG", icc_profile=profile),
        encoded(Image.fromarray(colours).convert("RGBA"), "PNG", icc_profile=profile),
        png(COLOURS, 6, 16, (b"iCCP", b"name\0\0" + zlib.compress(profile))),
        encoded(
            Image.fromarray(colours),
            "JPEG",
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ),
        encoded(Image.fromarray(colours), "PNG", icc_profile=b"no profile at all"),
    ]
    if WITH_TIFF:
        images.append(encoded(Image.fromarray(colours), "TIFF", icc_profile=profile))
    for number, data in enumerate(images):
        for profiles in (True, False):
            decoding = Decoding(profiles=profiles)
            expected = decode_rgb(data, "it", decoding)
            np.testing.assert_array_equal(decoded(data, tmp_path, decoding), expected, err_msg=f"{number} {profiles}")


def bmp(bits: int, header: int, downwards: bool = False, gap: int = 0, filler: bool = True, used: int = 0) -> bytes:
    """A BMP of a kind that Pillow does not write: a longer header, from the top downwards, a gap before the pixels, no
    filler behind the last row."""
    height, width = 5, 7
    channels, table = bits // 8, bytes(range(256)) * 4 if bits == 8 else b""
    rows = [row.tobytes() for row in np.resize(NOISE, (height, width * channels))]
    pixels = b"".join(row.ljust((len(row) + 3) // 4 * 4, b"\5") for row in rows[:-1]) + rows[-1]
    pixels += b"\5" * (-len(rows[-1]) % 4) if filler else b""
    start = 14 + header + len(table) + gap
    signed = -height if downwards else height
    info = struct.pack("<IiiHHIIiiII", header, width, signed, 1, bits, 0, 0, 0, 0, used, 0).ljust(header, b"\0")
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + table + bytes(gap) + pixels


BMPS = {
    "colours": encoded(Image.fromarray(NOISE), "BMP"),
    "grey": encoded(Image.fromarray(NOISE).convert("L"), "BMP"),
    "palette": encoded(Image.fromarray(NOISE).convert("P"), "BMP"),
    "32 bits": bmp(32, 40),
    "a longer header": bmp(24, 124, gap=6),
    "downwards": bmp(24, 40, downwards=True),
    "a table, downwards": bmp(8, 108, downwards=True),
    "no filler at its end": bmp(24, 40, filler=False),
}


@pytest.mark.parametrize("data", BMPS.values(), ids=BMPS)
def test_bmp(data: bytes, tmp_path: Path) -> None:
    np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))


def tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


WIDE_GREY, WIDE_COLOURS = GREY.astype(np.uint16), COLOURS[..., :3].astype(np.uint16)
TIFFS = {
    "colours": encoded(Image.fromarray(NOISE), "TIFF"),
    "grey, LZW": encoded(Image.fromarray(NOISE).convert("L"), "TIFF", compression="tiff_lzw"),
    "deflate": encoded(Image.fromarray(SMOOTH), "TIFF", compression="tiff_adobe_deflate"),
    "PackBits": encoded(Image.fromarray(SMOOTH), "TIFF", compression="packbits"),
    "16 bits": tiff(WIDE_GREY, photometric="minisblack"),
    "16 bits, big-endian, strips": tiff(WIDE_GREY, photometric="minisblack", byteorder=">", rowsperstrip=3),
    "16 bits of colours": tiff(WIDE_COLOURS, photometric="rgb", rowsperstrip=4),
    "16 bits of colours, big-endian, deflate, a predictor": tiff(
        WIDE_COLOURS, photometric="rgb", byteorder=">", compression="zlib", predictor=True
    ),
    "BigTIFF": tiff(NOISE, photometric="rgb", bigtiff=True),
    "two pages": encoded(Image.fromarray(NOISE), "TIFF", save_all=True, append_images=[Image.fromarray(SMOOTH)]),
    "XMP that turns it": tiff(NOISE, photometric="rgb", extratags=[(700, 1, 0, b'<x tiff:Orientation="6"/>', True)]),
    **{f"turned {turn}": encoded(Image.fromarray(NOISE), "TIFF", tiffinfo={274: turn}) for turn in range(1, 9)},
}


@pytest.mark.skipif(not WITH_TIFF, reason="the native program is built without libtiff")
@pytest.mark.parametrize("data", TIFFS.values(), ids=TIFFS)
def test_tiff(data: bytes, tmp_path: Path) -> None:
    np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))


@pytest.mark.skipif(not WITH_TIFF, reason="the native program is built without libtiff")
@pytest.mark.parametrize("name", ["16 bits", "16 bits of colours"])
def test_tiff_by_the_white_level(name: str, tmp_path: Path) -> None:
    twelve = Decoding(white_level=4095)
    np.testing.assert_array_equal(decoded(TIFFS[name], tmp_path, twelve), decode_rgb(TIFFS[name], "it", twelve))


REFUSED = {
    "a BMP of a kind": encoded(Image.fromarray(NOISE).convert("1"), "BMP"),
    "not in its table": bmp(8, 40, used=5),
    "a TIFF": encoded(Image.fromarray(NOISE).convert("CMYK"), "TIFF"),
    "a WEBP": encoded(Image.fromarray(NOISE), "WEBP"),
    "a PPM": encoded(Image.fromarray(NOISE), "PPM"),
    "channels (CMYK)": encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "an animation": encoded(Image.fromarray(NOISE), "PNG", save_all=True, append_images=[Image.fromarray(SMOOTH)]),
    "EXIF or XMP as text": png(
        GREY & 255, 0, 8, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n\n\n4d4d"))
    ),
    "compressed XMP": png(GREY & 255, 0, 8, (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>"))),
    "profile (ICC) that cannot be read": png(GREY & 255, 0, 8, (b"iCCP", b"name\0\0nothing")),
    "not in its palette": png(GREY & 7, 3, 8, PALETTE),
    "its palette is not one": png(GREY & 3, 3, 8, PALETTE, (b"tRNS", bytes(9))),
    "more than 8 bits": png(GREY & 255, 0, 8, (b"tRNS", b"\1\1")),
    "palette or its transparency twice": png(GREY & 255, 0, 8, (b"tRNS", b"\0\1"), (b"tRNS", b"\0\2")),
    "unusual form": encoded(Image.fromarray(NOISE), "JPEG", exif=exif(6).replace(b"\x01\x12\0\x03", b"\x01\x12\0\x04")),
    "is not an image": b"GIF89a" + bytes(40),
    "too early": PNGS["16 bits"][:-40],
    "more than 100 megapixels": png(np.zeros((1, 1), np.uint8), 0).replace(
        struct.pack(">II", 1, 1), struct.pack(">II", 20000, 10000)
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_read_is_refused_in_one_sentence(why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        decoded(REFUSED[why], tmp_path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{tmp_path}/photograph ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert why in sentence or why == "more than 100 megapixels"


def test_profiles_of_tables_are_refused(tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    data = encoded(Image.fromarray(NOISE), "PNG", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    np.testing.assert_array_equal(decoded(data, tmp_path), decode_rgb(data, "it"))  # of another kind of colours


SIZES = [(64, 64), (37, 53), (32, 200), (120, 53), (37, 40), (256, 256), (33, 32)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter", ["bilinear", "box"])
def test_resizing(size: tuple[int, int], filter: str) -> None:
    for pixels in (NOISE, SMOOTH, np.full_like(NOISE, 255)):
        expected = Image.fromarray(pixels).resize(size[::-1], Image.Resampling[filter.upper()])
        np.testing.assert_array_equal(probe("resize", size[1], size[0], filter, array=pixels), np.asarray(expected))


GEOMETRIES = [
    Geometry(size=(64, 64)),
    Geometry(size=(64, 80), crop=(48, 56)),
    Geometry(size=(37, 53)),
    Geometry(size=(40, 72), region=(3, 5, 50, 36)),
    Geometry(size=(65, 43), crop=(33, 32), region=(0, 1, 53, 37)),
    Geometry(size=(96, 128), tile=(64, 64), overlap=0.25),
    Geometry(size=(64, 80), crop=(48, 56), area="2,3 53,0 50,37 9.5,30; 20,10 30,10 25.25,20"),
    Geometry(size=(65, 43), region=(10, 1, 50, 37), area="2,3 53,0 50,37 9.5,30; 20,10 30,10 25.25,20"),
]


def with_geometry(bundle: Path, geometry: Geometry, folder: Path) -> Path:
    """A sidecar alone, with another geometry."""
    sidecar = json.loads((bundle / "bundle.json").read_text())
    values = geometry.model_dump(mode="json")
    sidecar["preprocessing"]["geometry"] = {
        key: values[key] for key in values if values[key] or key in ("crop", "region")
    }
    sidecar["graph"]["input_shape"] = [None, 3, *geometry.input_size]
    (folder / "bundle.json").write_text(json.dumps(sidecar))
    return folder


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_what_the_network_sees_and_the_way_back(geometry: Geometry, toy_bundle: Path, tmp_path: Path) -> None:
    bundle = with_geometry(toy_bundle, geometry, tmp_path)
    np.testing.assert_array_equal(probe("seen", bundle, array=NOISE), geometry.apply(NOISE))
    values = RANDOM.normal(size=geometry.map_size).astype(np.float32)
    back = probe("invert", bundle, *NOISE.shape[:2], array=values, kind=np.float32)
    np.testing.assert_array_equal(back, geometry.invert_map(values, NOISE.shape[:2]))


@pytest.mark.parametrize("seed", range(12))
def test_areas_are_drawn_as_opencv_draws_them(seed: int) -> None:
    """Polygons that cross themselves and each other, reach outside, and have corners on edges of pixels."""
    random = np.random.default_rng(seed)
    height, width = random.integers(20, 90, 2).tolist()
    rings = []
    for kind in range(3):
        low, high = ((0.0, 1.0), (-0.4, 1.4), (0.0, 1.0))[kind]
        ring = random.uniform(low, high, (random.integers(3, 8), 2)) * (width, height)
        rings.append(np.round(ring).clip(0, (width, height)) if kind == 2 else ring)
    for chosen in ([rings[0]], [rings[1]], rings[1:], rings):
        texts = [" ".join(f"{x!r},{y!r}" for x, y in ring.tolist()) for ring in chosen]
        drawn = probe("area", height, width, *texts) > 0
        np.testing.assert_array_equal(drawn, draw_area(Polygons(tuple(chosen)), (height, width)))


def test_an_area_that_reaches_outside_is_refused(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = with_geometry(toy_bundle, Geometry(size=(64, 64), area="0,0 54,0 20,20"), tmp_path)
    with pytest.raises(BadInput, match=r"image.area reaches to 54, 20, outside of an image of 53 x 37 pixels\."):
        probe("seen", bundle, array=NOISE)
    bundle = with_geometry(toy_bundle, Geometry(size=(64, 64), region=(0, 0, 53, 38)), tmp_path)
    with pytest.raises(BadInput, match=r"image.region \[0, 0, 53, 38\] reaches outside an image of 53 x 37 pixels\."):
        probe("seen", bundle, array=NOISE)


def test_statistics() -> None:
    for pixels, original in ((NOISE, (37, 53)), (SMOOTH, (400, 300)), (np.zeros((32, 40, 3), np.uint8), (32, 40))):
        lines = probe_text("statistics", *original, array=pixels)
        expected = image_statistics(pixels, original)
        np.testing.assert_allclose([float(line) for line in lines], list(expected.values()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("defect", [True, False])
@pytest.mark.parametrize(("fraction", "pixel"), [(None, 0.5), (None, 1.5), (None, None), (0.7, 0.5), (None, 9.0)])
def test_levels_and_boxes(defect: bool, fraction: float | None, pixel: float | None) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        values = np.asarray(Image.fromarray(random.normal(size=(9, 14)).astype(np.float32)).resize((70, 45)))
        values = np.round(values * 4) / 4 if seed % 2 else values.copy()  # equal scores: the order is by position
        values[:, :5] = np.nan
        level = BoxRule(fraction).level(values, "defect" if defect else "good", pixel)
        optional = ["-" if value is None else value for value in (fraction, pixel)]
        first, *lines = probe_text("boxes", int(defect), *optional, array=values.astype(np.float32))
        assert float(first) == level
        found = [(*map(int, line.split()[:4]), float(np.float32(line.split()[4]))) for line in lines]
        assert found == boxes(values, level)


def test_the_same_decoding_has_the_same_fields() -> None:
    """A field that is added must be read, or refused, by the native program too (native/src/sidecar.cpp)."""
    assert list(asdict(Decoding())) == ["white_level", "max_pixels", "page", "float_black", "float_white", "profiles"]

"""What cameras write that Pillow alone does not read as it is meant, and colours that are not sRGB."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from camera_files import image_file, linear_grey, red_cyan, red_for_blue, tiff
from vqi.dataset import tiffs
from vqi.dataset.decoding import DEFAULT, Decoding
from vqi.dataset.images import count_pages, decode_photograph, decode_rgb, read_header, stored_form
from vqi.dataset.profiles import colour_profile
from vqi.dataset.scaling import RangeUnknown
from vqi.platform.errors import BadInput

RANGED = Decoding(float_black=0.0, float_white=1.0)
PROFILED = Decoding(profiles=True)


def wide(channels: int = 3, highest: int = 65535) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, highest + 1, (20, 30, channels)).astype(np.uint16)
    return values if channels > 1 else values[..., 0]


def shown(values: np.ndarray, white: int = 65535) -> np.ndarray:
    """What a person sees of whole numbers, uint8 [H, W, 3]."""
    levels = (values.astype(np.int64) * 255 // white).astype(np.uint8)
    return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "predictor": True},
        {"compression": "zstd"},
        {"compression": "jpeg2000"},
        {"tile": (16, 16)},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "lzw"},
    ],
    ids=str,
)
def test_sixteen_bits_of_colour_keep_their_values(options: dict[str, object]) -> None:
    values = wide()
    data = tiff(values, photometric="rgb", **options)
    header = read_header(data, "a.tif")
    assert (header.width, header.height, header.wide, header.floating) == (30, 20, True, False)
    assert np.array_equal(decode_rgb(data, "a.tif"), shown(values))
    assert stored_form(data, "a.tif") == (False, 1)


@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "predictor": True}, {"byteorder": ">"}], ids=str)
def test_sixteen_bits_in_planes_keep_all_their_bits(options: dict[str, object]) -> None:
    values = wide(highest=4095)
    data = tiff(np.moveaxis(values, 2, 0), photometric="rgb", planarconfig="separate", **options)
    assert read_header(data, "a.tif").wide
    assert np.array_equal(decode_rgb(data, "a.tif", Decoding(4095)), shown(values, 4095))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits_state_their_white(bits: int) -> None:
    white = 2**bits - 1
    values = wide(1, white)
    data = tiff(values, photometric="minisblack", bitspersample=bits)
    assert read_header(data, "a.tif").white == white
    assert np.array_equal(decode_rgb(data, "a.tif", Decoding(white)), shown(values, white))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_at_zero_is_shown_as_white(dtype: type) -> None:
    values = np.array([[0, np.iinfo(dtype).max]], dtype)
    assert decode_rgb(tiff(values, photometric="miniswhite"), "a.tif")[0, :, 0].tolist() == [255, 0]


def test_signed_values_below_black_are_black() -> None:
    values = np.array([[-5, 0, 32767]], np.int16)
    assert decode_rgb(tiff(values), "a.tif", Decoding(32767))[0, :, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_values_are_shown_as_the_same_of_sixteen_bits(dtype: type, channels: int) -> None:
    values = wide(channels)
    data = tiff((values / 65535).astype(dtype), photometric="rgb" if channels == 3 else "minisblack")
    header = read_header(data, "a.tif")
    assert (header.floating, header.wide) == (True, False)
    assert np.array_equal(decode_rgb(data, "a.tif", RANGED), shown(values))


def test_one_range_holds_for_every_photograph() -> None:
    degrees = Decoding(float_black=-20.0, float_white=80.0)
    values = np.array([[-40, -20, 30, 80, 200, np.nan, np.inf]], np.float32)
    photograph = decode_photograph(tiff(values, photometric="minisblack"), "a.tif", degrees)
    assert photograph.pixels[0, :, 1].tolist() == [0, 0, 127, 255, 255, 128, 255]
    assert photograph.transparent == pytest.approx(1 / 7)
    assert photograph.clipped == pytest.approx(3 / 7)
    dark = tiff(np.full((1, 1), 30, np.float16), photometric="minisblack")
    assert decode_rgb(dark, "a.tif", degrees).max() == 127


def test_without_a_range_floating_point_values_are_a_question() -> None:
    values = np.array([[0.25, 0.5, 97.25]], np.float32)
    with pytest.raises(RangeUnknown, match=r"a\.tif holds floating-point values, from 0\.25 to 97\.25.*range=0,"):
        decode_rgb(tiff(values, photometric="minisblack"), "a.tif")


def test_an_alpha_of_floats_is_a_share() -> None:
    values = np.array([[[50, 50, 50, 1], [50, 50, 50, 0]]], np.float32)
    data = tiff(values, photometric="rgb", extrasamples=["unassalpha"])
    photograph = decode_photograph(data, "a.tif", Decoding(float_black=0, float_white=100))
    assert photograph.pixels[0].tolist() == [[127] * 3, [128] * 3]
    assert photograph.transparent == 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_is_turned_back_as_pillow_does(orientation: int) -> None:
    values = wide(1)
    tags = [(274, 3, 1, orientation, True)]
    plain = decode_rgb(tiff(values, extratags=tags), "a.tif")
    floats = tiff((values / 65535).astype(np.float64), photometric="minisblack", extratags=tags)
    assert np.array_equal(decode_rgb(floats, "a.tif", RANGED), plain)
    header = read_header(floats, "a.tif")
    assert (header.height, header.width) == plain.shape[:2]
    assert stored_form(floats, "a.tif") == (True, orientation)


def test_a_page_of_floating_point_values_is_chosen() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for level in (0.0, 0.5, 1.0):
            writer.write(np.full((4, 6), level, np.float64), photometric="minisblack", metadata=None)
    data = out.getvalue()
    assert count_pages(io.BytesIO(data)) == 3
    assert decode_rgb(data, "a.tif", replace(RANGED, page=2)).max() == 127
    with pytest.raises(BadInput, match=r"a\.tif has 3 pages, and image\.page is 4"):
        decode_rgb(data, "a.tif", replace(RANGED, page=4))


def test_size_is_bounded_before_anything_is_decoded() -> None:
    data = bytearray(tiff(np.zeros((4, 6), np.float64), photometric="minisblack"))
    assert decode_rgb(bytes(data), "a.tif", replace(RANGED, max_pixels=24)).shape == (4, 6, 3)
    with pytest.raises(BadInput, match=r"6 x 4 pixels.*image\.max_megapixels"):
        decode_rgb(bytes(data), "a.tif", replace(RANGED, max_pixels=23))
    for tag in (256, 257):  # width, height
        at = data.index(tag.to_bytes(2, "little"), 8)
        data[at + 8 : at + 12] = (60_000).to_bytes(4, "little")
        data[at + 2 : at + 4] = (4).to_bytes(2, "little")
    with pytest.raises(BadInput, match="60000 x 60000 pixels, more than 100 megapixels"):
        decode_rgb(bytes(data), "a.tif", RANGED)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_damage_is_one_sentence(options: dict[str, object]) -> None:
    whole = tiff(np.random.default_rng(0).random((40, 60, 3)), photometric="rgb", **options)
    for kept in (9, 40, len(whole) // 2, len(whole) - 200):
        with pytest.raises(BadInput, match=r"^a\.tif .*(damaged|truncated)"):
            decode_rgb(whole[:kept], "a.tif", RANGED)
    random = np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(whole)
        for at in random.integers(4, 300, 3):
            data[at] = random.integers(256)
        try:
            outcome = str(decode_rgb(bytes(data), "a.tif", RANGED).dtype)
        except BadInput as error:
            outcome = str(error)
        assert outcome == "uint8" or outcome.startswith("a.tif")


def test_what_takes_another_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiffs, "_has_codecs", lambda: False)
    compressed = tiff(wide(), photometric="rgb", compression="jpeg2000")
    with pytest.raises(BadInput, match=r"imagecodecs \(JPEG2000\); install vqi\[codecs\]"):
        decode_rgb(compressed, "a.tif")
    plain = tiff(np.moveaxis(wide(), 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(decode_rgb(plain, "a.tif"), shown(wide()))


def test_a_kind_that_is_not_read_is_named() -> None:
    with pytest.raises(BadInput, match=r"a\.tif is a TIFF of a kind that is not read \(CFA"):
        decode_rgb(tiff(wide(1), photometric=32803), "a.tif")


def colours() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (8, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_colours_of_another_profile_become_what_a_viewer_shows(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = image_file(colours(), form, icc_profile=red_for_blue(), **options)
    assert np.abs(decode_rgb(data, "x", PROFILED).astype(int) - colours()[..., ::-1]).max() <= 1
    assert np.array_equal(decode_rgb(data, "x", DEFAULT), colours())


def test_a_palette_alpha_and_sixteen_bits_are_converted_too() -> None:
    alpha = np.dstack([colours(), np.full((8, 12), 255, np.uint8)])
    alpha[0, 0, 3] = 0
    pixels = decode_rgb(image_file(alpha, icc_profile=red_for_blue()), "x", PROFILED).astype(int)
    assert pixels[0, 0].tolist() == [128] * 3
    assert np.abs(pixels[1:] - colours()[1:, :, ::-1]).max() <= 1
    palette = Image.fromarray(colours()).quantize(16)
    out = io.BytesIO()
    palette.save(out, "PNG", icc_profile=red_for_blue())
    expected = np.asarray(palette.convert("RGB")).astype(int)[..., ::-1]
    assert np.abs(decode_rgb(out.getvalue(), "x", PROFILED) - expected).max() <= 1
    profile = [(34675, 7, len(red_for_blue()), red_for_blue(), True)]
    for options in ({"planarconfig": "contig"}, {"planarconfig": "separate"}):
        values = wide() if options["planarconfig"] == "contig" else np.moveaxis(wide(), 2, 0)
        data = tiff(values, photometric="rgb", extratags=profile, **options)
        assert np.abs(decode_rgb(data, "x", PROFILED).astype(int) - shown(wide())[..., ::-1]).max() <= 1


def test_a_profile_of_grey_keeps_grey_grey() -> None:
    data = image_file(np.array([[0, 128, 255]], np.uint8), icc_profile=linear_grey())
    pixels = decode_rgb(data, "x", PROFILED)
    assert (pixels == pixels[..., :1]).all()
    assert pixels[0, :, 0].tolist() == [0, pytest.approx(188, abs=2), 255]
    of_colours = image_file(np.array([[0, 100, 255]], np.uint8), icc_profile=red_for_blue())
    assert decode_rgb(of_colours, "x", PROFILED)[0, :, 0].tolist() == pytest.approx([0, 100, 255], abs=1)


@pytest.mark.parametrize(("form", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {})])
def test_the_inks_of_a_press_become_what_a_viewer_shows(form: str, options: dict[str, object]) -> None:
    """Solid areas of paper, cyan, black and both, in files as a viewer's own library converts them (LittleCMS)."""
    inks = np.zeros((16, 64, 4), np.uint8)
    inks[:, 16:32, 0] = inks[:, 32:48, 3] = inks[:, 48:, [0, 3]] = 255
    out = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(out, form, icc_profile=red_cyan(), **options)
    header = read_header(out.getvalue(), "x")
    assert (header.colours, header.profile) == ("CMYK", red_cyan())
    shown = decode_rgb(out.getvalue(), "x", PROFILED)[8, 8::16].astype(int)
    for found, expected in zip(shown, [(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 0)], strict=True):
        assert np.abs(found - expected).max() <= 12, (found, expected)
    plain = decode_rgb(out.getvalue(), "x", DEFAULT)[8, 8::16].astype(int)
    assert np.abs(plain[1] - (0, 255, 255)).max() <= 12
    profile = ImageCms.ImageCmsProfile(io.BytesIO(red_cyan()))
    with Image.open(out) as image:
        directly = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert directly is not None
    assert np.abs(decode_rgb(out.getvalue(), "x", PROFILED) - np.asarray(directly).astype(int)).max() <= 1


@pytest.mark.parametrize("profile", [b"no profile", red_for_blue()[:200], red_for_blue()[:16] + b"Luv " * 60])
def test_a_damaged_profile_changes_nothing(profile: bytes) -> None:
    assert colour_profile(profile) is None
    data = image_file(colours(), icc_profile=profile)
    assert np.array_equal(decode_rgb(data, "x", PROFILED), colours())


def test_srgb_and_profiles_of_other_colours_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, linear_grey()):
        assert np.array_equal(decode_rgb(image_file(colours(), icc_profile=profile), "x", PROFILED), colours())
    cmyk = image_file(colours(), "TIFF", "CMYK", icc_profile=red_for_blue())
    assert np.array_equal(decode_rgb(cmyk, "x", PROFILED), decode_rgb(image_file(colours(), "TIFF", "CMYK"), "x"))
    assert read_header(cmyk, "x").colours == "CMYK"


def test_decoding_is_written_as_before_where_nothing_is_new() -> None:
    assert Decoding().to_dict() == {"white_level": 65535, "max_pixels": 100_000_000}
    values = Decoding(float_black=-1.5, float_white=2.0, profiles=True).to_dict()
    assert values.items() >= {"float_black": -1.5, "float_white": 2.0, "profiles": True}.items()
    assert Decoding(**values).to_dict() == values  # type: ignore[arg-type]

"""What masks mean, decided from all of a set: drawn in every way that people draw them, the same defect comes out."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from camera_files import tiff
from vqi.dataset.masks import BLACK, BLACK_BACKGROUND, TRANSPARENT, MaskMeaning, decide_meaning, decode_mask, values_met
from vqi.platform.errors import BadInput

SIDE, MASKS = 120, 5
CLASSES = np.uint8([[0, 0, 0], [48, 112, 32], [200, 0, 0]])


def classes(number: int) -> np.ndarray:
    """A class picture, uint8 [SIDE, SIDE]: a disc of class 1, a bar of class 2, and a scratch of class 1 two pixels
    wide."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    picture = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(20, 100, 2)
    picture[(rows - top) ** 2 + (columns - left) ** 2 < 12**2] = 1
    top, left = random.integers(5, 90, 2)
    picture[top : top + 15, left : left + 20] = 2
    picture[top + 17 : top + 19, 10:100] = 1
    return picture


def defect(number: int) -> np.ndarray:
    return classes(number) > 0


def grey(number: int) -> np.ndarray:
    return np.uint8([0, 255])[defect(number).astype(int)]


def painted(background: tuple[int, ...], paint: tuple[int, ...]) -> Callable[[int], bytes]:
    return lambda number: file(np.where(defect(number)[..., None], np.uint8(paint), np.uint8(background)))


def file(picture: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(out, form, **options)
    return out.getvalue()


def palette(indices: np.ndarray, colours: dict[int, tuple[int, int, int]], **options: object) -> bytes:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    values = np.zeros((256, 3), np.uint8)
    for index, colour in colours.items():
        values[index] = colour
    image.putpalette(values.tobytes())
    return file(image, **options)


def resized(number: int, method: Image.Resampling) -> np.ndarray:
    """Drawn large and scaled down: anti-aliased."""
    return np.asarray(
        Image.fromarray(grey(number)).resize((467, 467), Image.Resampling.NEAREST).resize((SIDE, SIDE), method)
    )


def halved(number: int) -> np.ndarray:
    """Five levels, 0, 64, 128, 191 and 255: few values, and yet no classes."""
    return np.asarray(Image.fromarray(grey(number)).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX))


def blurred(number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grey(number)).filter(ImageFilter.GaussianBlur(3)))


def instances(number: int) -> np.ndarray:
    """Forty discs, each with an index of its own; they touch and cover each other."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    picture = np.zeros((SIDE, SIDE), np.uint8)
    for index in range(1, 41):
        top, left = random.integers(5, SIDE - 5, 2)
        picture[(rows - top) ** 2 + (columns - left) ** 2 < random.integers(2, 7) ** 2] = 6 * index
    return picture


def overlay(number: int) -> np.ndarray:
    """Red paint with soft edges on a transparent layer under which white was left."""
    soft = resized(number, Image.Resampling.LANCZOS)
    return np.dstack([np.where(soft[..., None] > 0, np.uint8([255, 0, 0]), np.uint8([255, 255, 255])), soft])


def decided(files: dict[str, bytes]) -> tuple[MaskMeaning, str]:
    return decide_meaning(sorted(files), files.__getitem__)


LABELS = {
    "0 and 255": (lambda n: file(grey(n)), "background is 0; 255 is defect"),
    "0 and 1": (lambda n: file(grey(n) // 255), "background is 0; 1 is defect"),
    "one bit": (lambda n: file(defect(n)), "background is 0; 255 is defect"),
    "16 bits": (lambda n: file(grey(n).astype(np.uint16) * 257), "background is 0; 255 is defect"),
    "16 bits, index 1": (lambda n: file(grey(n).astype(np.uint16) // 255), "background is 0; 1 is defect"),
    "16 bits, 4095": (lambda n: file(defect(n).astype(np.uint16) * 4095, "TIFF"), "background is 0; 4095 is defect"),
    "index 2": (lambda n: file(defect(n) * np.uint8(2)), "background is 0; 2 is defect"),
    "classes": (lambda n: file(classes(n)), "background is 0; 1 and 2 are defect"),
    "two greys": (lambda n: file(np.uint8([0, 100, 255])[classes(n)]), "background is 0; 100 and 255 are defect"),
    "class colours": (lambda n: file(CLASSES[classes(n)]), "background is 0; (48, 112, 32) and (200, 0, 0) are defect"),
    "palette, index 8": (lambda n: palette(defect(n) * 8, {8: (8, 8, 8)}), "background is 0; 8 is defect"),
    "palette of one colour": (
        lambda n: palette(defect(n) * 8, {}),
        "background is 0 (palette index); 8 (palette index) is defect",
    ),
    "palettes of their own": (
        lambda n: palette(defect(n) ^ bool(n % 2), {n % 2: (0, 0, 0), 1 - n % 2: (255, 255, 255)}),
        "background is 0; 255 is defect",
    ),
    "palette with a layer": (
        lambda n: palette(defect(n), {0: (9, 9, 9), 1: (0, 0, 0)}, transparency=0),
        "background is transparent; 0 is defect",
    ),
    "inverted": (lambda n: file(255 - grey(n)), "background is 255; 0 is defect"),
    "brown": (painted((120, 72, 32), (255, 0, 0)), "background is (120, 72, 32); (255, 0, 0) is defect"),
    "white": (painted((255, 255, 255), (200, 0, 0)), "background is 255; (200, 0, 0) is defect"),
    "black on nothing": (painted((255, 255, 255, 0), (0, 0, 0, 255)), "background is transparent; 0 is defect"),
    "half transparent": (
        painted((9, 9, 9, 0), (255, 0, 0, 128)),
        "background is transparent; (128, 0, 0, 128) is defect",
    ),
    "erased": (painted((255, 255, 255, 255), (255, 255, 255, 0)), "background is 255; transparent is defect"),
    "opaque": (painted((0, 0, 0, 255), (255, 255, 255, 255)), "background is 0; 255 is defect"),
    "a layer over all": (painted((0, 0, 0, 99), (255, 255, 255, 99)), "background is 0; 255 is defect"),
    "grey and alpha": (
        lambda n: file(Image.merge("LA", [Image.new("L", (SIDE, SIDE), 7), Image.fromarray(grey(n))])),
        "background is transparent",
    ),
    "one and 255": (lambda n: file(defect(n) * np.uint8(1 if n % 2 else 255)), "background is 0; 1 and 255 are defect"),
    "8 and 16 bits": (
        lambda n: file(grey(n).astype(np.uint16) * 257 if n % 2 else grey(n)),
        "background is 0; 255 is defect",
    ),
    "grey and colour": (
        lambda n: file(Image.fromarray(grey(n)).convert("RGB" if n % 2 else "1")),
        "background is 0; 255 is defect",
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_in_a_label_picture_all_but_the_background_is_defect(case: str) -> None:
    draw, stated = LABELS[case]
    files = {f"{number}.png": draw(number) for number in range(MASKS)}
    meaning, note = decided(files)
    assert note.startswith(f"Masks: {stated}")
    assert MaskMeaning.from_dict(vars(meaning)) == meaning
    for number in range(MASKS):
        assert np.array_equal(decode_mask(files[f"{number}.png"], "m", meaning), defect(number)), number


SOFT = {
    "bilinear": (lambda n: resized(n, Image.Resampling.BILINEAR), "PNG"),
    "lanczos": (lambda n: resized(n, Image.Resampling.LANCZOS), "PNG"),
    "bicubic, inverted": (lambda n: 255 - resized(n, Image.Resampling.BICUBIC), "PNG"),
    "five levels": (halved, "PNG"),
    "16 bits": (lambda n: resized(n, Image.Resampling.BILINEAR).astype(np.uint16) * 257, "PNG"),
    "blurred": (blurred, "TIFF"),
    "compressed": (lambda n: resized(n, Image.Resampling.LANCZOS), "JPEG"),
}


@pytest.mark.parametrize("case", SOFT)
def test_soft_edges_are_cut_at_half(case: str) -> None:
    draw, form = SOFT[case]
    files = {f"{number}.png": file(draw(number), form) for number in range(MASKS)}
    meaning, note = decided(files)
    assert "nearer to" in note
    for number in range(MASKS):
        whole = 65535 if draw(number).dtype == np.uint16 else 255
        decoded = np.asarray(Image.open(io.BytesIO(files[f"{number}.png"]))).astype(int)
        above = decoded > whole / 2
        assert np.array_equal(
            decode_mask(files[f"{number}.png"], "m", meaning), ~above if meaning.background != BLACK else above
        )


def test_a_soft_layer_is_cut_at_half_of_its_alpha() -> None:
    files = {f"{number}.png": file(overlay(number)) for number in range(MASKS)}
    meaning, _ = decided(files)
    assert meaning.background == TRANSPARENT
    for number in range(MASKS):
        assert np.array_equal(decode_mask(files[f"{number}.png"], "m", meaning), overlay(number)[..., 3] > 127)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "JPEG saved as PNG"])
def test_compression_neither_adds_nor_takes_defects(form: str) -> None:
    def stored(picture: np.ndarray) -> bytes:
        lossy = file(Image.fromarray(picture).convert("RGB"), form.split()[0], quality=80)
        return file(Image.open(io.BytesIO(lossy))) if "PNG" in form else lossy

    for levels in (np.uint8([0, 255, 255]), np.uint8([255, 0, 0]), np.uint8([0, 100, 255])):
        files = {f"{number}.png": stored(levels[classes(number)]) for number in range(MASKS)}
        meaning, _ = decided(files)
        for number in range(MASKS):
            wrong = np.count_nonzero(decode_mask(files[f"{number}.png"], "m", meaning) ^ defect(number))
            assert wrong <= 0.02 * np.count_nonzero(defect(number)), levels


def test_class_colours_survive_compression() -> None:
    files = {f"{number}.jpg": file(CLASSES[classes(number)], "JPEG", quality=90) for number in range(MASKS)}
    meaning, _ = decided(files)
    for number in range(MASKS):
        decoded = decode_mask(files[f"{number}.jpg"], "m", meaning)
        assert np.count_nonzero(decoded & defect(number)) > 0.9 * np.count_nonzero(defect(number))
        assert np.count_nonzero(decoded & ~defect(number)) < 0.2 * np.count_nonzero(defect(number))


def test_many_instances_are_all_defect() -> None:
    files = {f"{number}.png": file(instances(number)) for number in range(MASKS)}
    meaning, note = decided(files)
    assert note == "Masks: background is 0; 6, 12, 18, 24, 30, 36 and 34 more are defect."
    for number in range(MASKS):
        assert np.array_equal(decode_mask(files[f"{number}.png"], "m", meaning), instances(number) > 0)


@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_defect_that_fills_the_photograph_stays_a_defect(others: int) -> None:
    files = {f"{number}.png": file(grey(number)) for number in range(others)} | {
        "a.png": file(np.full((9, 9), 255, np.uint8))
    }
    files |= {"b.png": file(np.full((9, 9), 255, np.uint8))} if others == 1 else {}
    meaning, _ = decided(files)
    assert decode_mask(files["a.png"], "m", meaning).all()


def test_large_defects_that_reach_the_edges_stay_defects() -> None:
    rows = np.mgrid[:SIDE, :SIDE][0]
    for shape in (rows > 40, (rows < 30) | (rows > 90), np.abs(np.mgrid[:SIDE, :SIDE] - SIDE // 2).max(0) > 48):
        meaning, _ = decided({"a.png": file(shape * np.uint8(255)), "b.png": file(shape * np.uint8(255))})
        assert meaning == BLACK_BACKGROUND


def test_masks_without_a_mark_are_background() -> None:
    for picture in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8)):
        data = file(picture)
        meaning, note = decided({"a.png": data})
        assert "nothing else occurs" in note
        assert not decode_mask(data, "a.png", meaning).any()


def test_the_values_met_are_named() -> None:
    assert values_met(file(classes(0)), "m", BLACK_BACKGROUND) == "0, 1 and 2"
    assert values_met(file(np.dstack([CLASSES[classes(0)], grey(0)])), "m", BLACK_BACKGROUND).startswith(
        "transparent, "
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_photographs_instead_of_masks_are_refused(mode: str) -> None:
    random = np.random.default_rng(0)
    files = {}
    for number in range(MASKS):
        scene = np.clip(np.cumsum(random.normal(0, 3, (SIDE, SIDE, 3)), axis=1) + 120, 0, 255).astype(np.uint8)
        files[f"{number}.png"] = file(
            Image.fromarray(np.where(defect(number)[..., None], np.uint8([255, 0, 0]), scene)).convert(mode)
        )
    meaning, note = decided(files)
    assert "as photographs do" in meaning.problem
    assert note == meaning.problem


def test_damaged_and_giant_masks_decide_nothing() -> None:
    files = {f"{number}.png": file(grey(number)) for number in range(2)} | {
        "broken.png": file(255 - grey(0))[:200],
        "text.png": b"text",
    }
    files["giant.png"] = file(np.full((4 * SIDE, 4 * SIDE), 255, np.uint8))
    assert decide_meaning(sorted(files), files.__getitem__, SIDE * SIDE)[0] == BLACK_BACKGROUND
    assert decide_meaning([], files.__getitem__) == (BLACK_BACKGROUND, "")
    with pytest.raises(BadInput, match="megapixels"):
        decode_mask(files["giant.png"], "m", BLACK_BACKGROUND, SIDE * SIDE)


# TIFFs that Pillow cannot open, or reads as something else (`test_cameras.py`).
ODD = {
    "shares": lambda n: tiff(defect(n).astype(np.float32)),
    "soft shares": lambda n: tiff(np.asarray(Image.fromarray(blurred(n)), np.float64) / 255),
    "floats of 255": lambda n: tiff(grey(n).astype(np.float16)),
    "classes of floats": lambda n: tiff(classes(n).astype(np.float32)),
    "sixteen bits in planes": lambda n: tiff(
        np.repeat(grey(n)[None].astype(np.uint16) * 257, 3, axis=0), photometric="rgb", planarconfig="separate"
    ),
    "white is zero": lambda n: tiff(np.uint16(65535) - grey(n).astype(np.uint16) * 257, photometric="miniswhite"),
    "bigtiff of floats": lambda n: tiff(defect(n).astype(np.float64), bigtiff=True),
}


@pytest.mark.parametrize("case", ODD)
def test_masks_are_read_from_the_tiffs_that_photographs_are_read_from(case: str) -> None:
    files = {f"{number}.tif": ODD[case](number) for number in range(MASKS)}
    meaning, _ = decided(files)
    assert meaning.background == BLACK
    for number in range(MASKS):
        found = decode_mask(files[f"{number}.tif"], "mask", meaning)
        expected = np.rint(blurred(number) / 255).astype(bool) if case == "soft shares" else defect(number)
        assert np.array_equal(found, expected)


def test_a_mask_of_values_that_are_not_finite_is_refused() -> None:
    values = defect(0).astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(BadInput, match=r"The mask m\.tif has values that are not finite"):
        decode_mask(tiff(values), "m.tif", BLACK_BACKGROUND)

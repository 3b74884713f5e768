"""The way there and the way back: a spot of the original must come back to its place."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vqi.dataset.geometry import Geometry, to_input
from vqi.platform.errors import BadInput
from vqi.platform.settings import read_settings

CASES = [
    pytest.param(Geometry(size=(256, 256)), (300, 500), id="resize"),
    pytest.param(Geometry(size=(256, 256)), (256, 256), id="as it is"),
    pytest.param(Geometry(size=(257, 255), crop=(225, 223)), (301, 487), id="odd crop"),
    pytest.param(Geometry(size=(256, 256), crop=(224, 224)), (768, 576), id="crop"),
    pytest.param(Geometry(size=(128, 160), region=(40, 21, 341, 250)), (300, 500), id="region"),
    pytest.param(
        Geometry(size=(127, 161), crop=(95, 97), region=(41, 20, 340, 251)), (299, 501), id="region and odd crop"
    ),
    pytest.param(Geometry(size=(256, 256), crop=(192, 192)), (61, 73), id="enlarged"),
]


@pytest.mark.parametrize(("geometry", "original"), CASES)
def test_a_spot_comes_back_to_its_position(geometry: Geometry, original: tuple[int, int]) -> None:
    x1, y1, x2, y2 = geometry.region or (0, 0, original[1], original[0])
    rows, columns = np.mgrid[0 : original[0], 0 : original[1]]
    centre_y, centre_x = (0.4 * y1 + 0.6 * y2), (0.55 * x1 + 0.45 * x2)
    spread = min(y2 - y1, x2 - x1) / 12
    spot = 255 * np.exp(-((rows + 0.5 - centre_y) ** 2 + (columns + 0.5 - centre_x) ** 2) / (2 * spread**2))
    seen = geometry.apply(np.repeat(spot[..., None], 3, axis=2).astype(np.uint8))
    assert seen.shape == (*geometry.input_size, 3)
    back = np.nan_to_num(geometry.invert_map(seen[..., 0].astype(np.float32), original))
    assert back.shape == original
    weight = back.sum()
    assert abs((back * (rows + 0.5)).sum() / weight - centre_y) < 0.35
    assert abs((back * (columns + 0.5)).sum() / weight - centre_x) < 0.35
    assert np.abs(back - spot)[back > 0].max() < 25


@pytest.mark.parametrize(("geometry", "original"), CASES)
def test_what_the_network_did_not_see_has_no_score(geometry: Geometry, original: tuple[int, int]) -> None:
    back = geometry.invert_map(np.ones(geometry.input_size, np.float32), original)
    x1, y1, x2, y2 = geometry.invert_box((0, 0, geometry.input_size[1], geometry.input_size[0]), original)
    assert np.nanmin(back) == np.nanmax(back) == 1
    assert np.isfinite(back).sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.05)
    assert np.isfinite(back[int(np.ceil(y1)) : int(y2), int(np.ceil(x1)) : int(x2)]).all()


def test_a_coarse_map_covers_the_same_area() -> None:
    geometry = Geometry(size=(256, 256), crop=(224, 224))
    coarse = geometry.invert_map(np.arange(28 * 28, dtype=np.float32).reshape(28, 28), (512, 512))
    fine = geometry.invert_map(np.zeros((224, 224), np.float32), (512, 512))
    assert np.array_equal(np.isnan(coarse), np.isnan(fine))


def test_a_tiny_original_still_gets_a_map() -> None:
    geometry = Geometry(size=(256, 256), crop=(32, 32))
    for original in ((1, 1), (2, 2), (2, 3), (5, 1)):
        assert np.isfinite(geometry.invert_map(np.ones((32, 32), np.float32), original)).any()


def test_boxes_follow_region_and_crop() -> None:
    geometry = Geometry(size=(100, 200), crop=(50, 100), region=(10, 20, 410, 220))
    assert geometry.invert_box((0, 0, 100, 50), (300, 500)) == (110, 70, 310, 170)
    assert geometry.invert_box((0, 0, 1, 1), (300, 500)) == (110, 70, 112, 72)


@pytest.mark.parametrize(("geometry", "original"), CASES)
def test_masks_go_the_way_of_the_photograph(geometry: Geometry, original: tuple[int, int]) -> None:
    mask = np.zeros(original, bool)
    mask[original[0] // 2 :, original[1] // 3 :] = True
    small = geometry.apply_mask(mask)
    photograph = geometry.apply(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)[..., 0] > 127
    assert small.dtype == bool
    assert small.shape == geometry.input_size
    assert (small != photograph).mean() < 0.02


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"size": (16, 256)}, "image.size"),
        ({"size": (256, 40_000)}, "image.size"),
        ({"size": (256, 256), "crop": (300, 200)}, "image.crop"),
        ({"size": (256, 256), "crop": (16, 16)}, "image.crop"),
        ({"size": (256, 256), "region": (10, 10, 10, 20)}, "image.region"),
        ({"size": (256, 256), "region": (-1, 0, 10, 20)}, "image.region"),
    ],
)
def test_impossible_geometries_are_refused(values: dict, named: str) -> None:
    with pytest.raises(BadInput, match=rf"^{named} is .*must have|^{named} is .*must be x1"):
        read_settings(Geometry, values, "image.")


def test_a_region_outside_the_photograph_is_refused() -> None:
    with pytest.raises(BadInput, match="reaches outside an image of 50 x 40 pixels"):
        Geometry(size=(64, 64), region=(0, 0, 51, 40)).apply(np.zeros((40, 50, 3), np.uint8))


@pytest.mark.parametrize(("geometry", "original"), CASES)
def test_it_survives_json(geometry: Geometry, original: tuple[int, int]) -> None:
    assert Geometry(**json.loads(geometry.model_dump_json())) == geometry


def test_to_input_is_channels_first_in_unit_range() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[1, 2] = (255, 51, 0)
    tensor = to_input(image)
    assert tensor.shape == (3, 4, 5)
    assert tensor.dtype == np.float32
    assert tensor[:, 1, 2].tolist() == pytest.approx([1, 0.2, 0])
    assert tensor.flags.c_contiguous

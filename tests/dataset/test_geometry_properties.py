"""Whatever the geometry: pixels, boxes, masks and maps of the network and of the original belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vqi.category import Category
from vqi.dataset.geometry import Geometry
from vqi.platform.errors import BadInput

SIDE = st.integers(32, 96)
ORIGINAL = st.tuples(st.integers(1, 160), st.integers(1, 160))


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Geometry, tuple[int, int]]:
    """A geometry and the (height, width) of an original that it fits."""
    height, width = draw(ORIGINAL)
    size = (draw(SIDE), draw(SIDE))
    crop = draw(st.none() | st.tuples(st.integers(32, size[0]), st.integers(32, size[1])))
    region = None
    if draw(st.booleans()):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        region = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    return Geometry(size=size, crop=crop, region=region), (height, width)


def centres(geometry: Geometry, original: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of the network's rows and columns lie in the original: y [h] and x [w]."""
    height, width = geometry.input_size
    boxes = [geometry.invert_box((column, 0, column + 1, 1), original) for column in range(width)]
    rows = [geometry.invert_box((0, row, 1, row + 1), original) for row in range(height)]
    return np.array([(box[1] + box[3]) / 2 for box in rows]), np.array([(box[0] + box[2]) / 2 for box in boxes])


@given(geometries())
def test_the_whole_input_is_what_the_network_sees_and_lies_in_the_region(case: tuple[Geometry, tuple[int, int]]):
    geometry, original = case
    height, width = geometry.input_size
    box = geometry.invert_box((0, 0, width, height), original)
    assert box == pytest.approx(geometry.seen(original))
    left, top, right, bottom = geometry.region or (0, 0, original[1], original[0])
    assert left - 1e-9 <= box[0] < box[2] <= right + 1e-9
    assert top - 1e-9 <= box[1] < box[3] <= bottom + 1e-9


@given(geometries(), st.data())
def test_boxes_go_there_and_back(case: tuple[Geometry, tuple[int, int]], data: st.DataObject):
    """The inverse of `invert_box` from `seen` alone: both say the same of every point."""
    geometry, original = case
    height, width = geometry.input_size
    share = st.floats(0, 1)
    box = (
        data.draw(share) * width,
        data.draw(share) * height,
        data.draw(share) * width,
        data.draw(share) * height,
    )
    x1, y1, x2, y2 = geometry.seen(original)
    there = geometry.invert_box(box, original)
    back = tuple(
        (value - low) / (high - low) * side
        for value, low, high, side in zip(
            there, (x1, y1, x1, y1), (x2, y2, x2, y2), (width, height, width, height), strict=True
        )
    )
    assert back == pytest.approx(box, abs=1e-6)


@given(geometries(), st.integers(0, 2**32 - 1))
def test_a_mask_is_read_at_the_centres_of_the_networks_pixels(case: tuple[Geometry, tuple[int, int]], seed: int):
    """What `apply_mask` and `apply_labels` take from the original is what lies where `invert_box` says."""
    geometry, original = case
    labels = np.random.default_rng(seed).integers(0, 3, original, dtype=np.int32)
    mask = geometry.apply_mask(labels > 0)
    assert mask.shape == geometry.input_size
    y, x = centres(geometry, original)
    # A centre on the edge of two pixels may be read from either.
    clear = (np.abs(y - np.round(y)) > 1e-6)[:, None] & (np.abs(x - np.round(x)) > 1e-6)[None]
    expected = labels[np.floor(y).astype(int)[:, None], np.floor(x).astype(int)[None]]
    assert np.array_equal(mask[clear], expected[clear] > 0)
    small = geometry.apply_labels(labels)
    kept = clear & (expected > 0)
    assert np.array_equal(small[kept], expected[kept])
    assert set(np.unique(small)) <= set(np.unique(labels)) | {0}


@given(geometries(), st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 24), st.integers(1, 24)))
def test_a_map_comes_back_where_the_network_saw_and_keeps_its_range(
    case: tuple[Geometry, tuple[int, int]], seed: int, grid: tuple[int, int]
):
    geometry, original = case
    values = np.random.default_rng(seed).uniform(-3, 7, grid).astype(np.float32)
    back = geometry.invert_map(values, original)
    assert (back.shape, back.dtype) == (original, np.float32)
    scored = np.isfinite(back)
    assert scored.any()
    assert values.min() - 1e-4 <= back[scored].min() <= back[scored].max() <= values.max() + 1e-4
    # A rectangle, and that of `seen` but for the pixels that it covers in part.
    rows, columns = np.flatnonzero(scored.any(axis=1)), np.flatnonzero(scored.any(axis=0))
    assert scored[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    x1, y1, x2, y2 = geometry.seen(original)
    assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx([x1, y1, x2, y2], abs=1)


@given(geometries())
def test_a_constant_photograph_stays_constant(case: tuple[Geometry, tuple[int, int]]):
    geometry, original = case
    seen = geometry.apply(np.full((*original, 3), (7, 130, 255), np.uint8))
    assert seen.shape == (*geometry.input_size, 3)
    assert (seen == (7, 130, 255)).all()


@given(geometries())
def test_every_geometry_survives_json(case: tuple[Geometry, tuple[int, int]]):
    assert Geometry.model_validate_json(case[0].model_dump_json()) == case[0]


@given(geometries(), st.integers(1, 50), st.booleans())
def test_a_region_that_the_photograph_does_not_have_is_refused(
    case: tuple[Geometry, tuple[int, int]], less: int, wide: bool
):
    geometry, _ = case
    assume(geometry.region)
    assert geometry.region is not None
    needed = (geometry.region[3], geometry.region[2])
    original = (needed[0], max(needed[1] - less, 0)) if wide else (max(needed[0] - less, 0), needed[1])
    with pytest.raises(BadInput, match="reaches outside an image of"):
        geometry.apply(np.zeros((*original, 3), np.uint8))


NUMBERS = st.integers(-5, 5000)


@given(
    st.fixed_dictionaries(
        {"image_size": st.tuples(NUMBERS, NUMBERS)},
        optional={
            "image_crop": st.tuples(NUMBERS, NUMBERS),
            "image_region": st.tuples(*[NUMBERS] * 4),
            "image_tile": st.tuples(NUMBERS, NUMBERS),
        },
    )
)
def test_any_numbers_make_a_geometry_that_holds_or_a_refusal(values: dict[str, tuple[int, ...]]):
    parameters: dict[str, Any] = {key: ",".join(map(str, value)) for key, value in values.items()}
    try:
        geometry = Category.from_parameters(parameters).geometry
    except BadInput:
        return
    assert geometry.map_size == values.get("image_crop", geometry.size)
    assert geometry.input_size == values.get("image_tile", geometry.map_size)
    assert 32 <= min(geometry.input_size) <= max(geometry.input_size) <= 4096
    for inner, outer in ((geometry.input_size, geometry.map_size), (geometry.map_size, geometry.size)):
        assert all(32 <= less <= more for less, more in zip(inner, outer, strict=True))
    if geometry.region:
        left, top, right, bottom = geometry.region
        assert 0 <= left < right
        assert 0 <= top < bottom

"""Tiles and areas: what is cut comes back as it was, and what lies outside stays outside."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqi.dataset.areas import Polygons, area_of_file, area_of_mask, draw_area, parse_area
from vqi.dataset.geometry import OUTSIDE, Geometry
from vqi.dataset.tiling import Tiling, united
from vqi.platform.errors import BadInput
from vqi.platform.settings import read_settings

sides = st.integers(32, 90)


@given(sides, sides, st.integers(8, 32), st.integers(8, 32), st.sampled_from([0, 0.1, 0.25, 0.5, 0.75]))
def test_tiles_cover_and_blend_back(height: int, width: int, tall: int, wide: int, overlap: float) -> None:
    tiling = Tiling((height, width), (tall, wide), overlap)
    values = np.random.default_rng(height * width).random((height, width), dtype=np.float32)
    assert np.allclose(tiling.blend(tiling.cut(values)), values, atol=1e-6)
    for axis, tile in ((0, tall), (1, wide)):
        starts = sorted({corner[axis] for corner in tiling.corners})
        assert starts[0] == 0
        assert starts[-1] == tiling.size[axis] - tile
        assert all(later - earlier <= tile - round(overlap * tile) for earlier, later in itertools.pairwise(starts))


def test_no_seam_between_tiles_that_disagree() -> None:
    """Two tiles of 0 and 1: the map rises over what they share, and no step is larger than its even share."""
    tiling = Tiling((32, 96), (32, 64), 0.5)
    whole = tiling.blend([np.zeros((32, 64), np.float32), np.ones((32, 64), np.float32)])
    steps = np.diff(whole[0])
    assert steps.min() >= 0
    assert steps.max() < 1.6 / 32
    assert (whole[0, 0], whole[0, -1]) == (0, 1)


def test_a_photograph_scores_as_its_worst_tile() -> None:
    tiling = Tiling((32, 64), (32, 32), 0)
    tiles = [(score, np.full((32, 32), score, np.float32)) for score in (1.0, 3.0, -2.0, -1.0)]
    results = list(united(tiles, tiling))
    assert [score for score, _ in results] == [3.0, -1.0]
    assert results[0][1][0, [0, 63]].tolist() == [1, 3]
    (score, _), _ = united([(1.0, tiles[0][1]), (np.nan, tiles[0][1]), *tiles[:2]], tiling)
    assert np.isnan(score)


def test_the_most_marked_tile() -> None:
    tiling = Tiling((32, 96), (32, 32), 0)
    mask = np.zeros((32, 96), dtype=bool)
    assert (tiling.most_marked(None), tiling.most_marked(mask)) == (1, 1)
    mask[:4, 70:90] = True
    assert tiling.most_marked(mask) == 2


def test_an_area_keeps_what_is_inside() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:50, 20:70] = True
    mask[20:30, 30:40] = False
    area = area_of_mask(mask)
    assert np.array_equal(draw_area(Polygons.of(area), (60, 80)), mask)
    geometry = Geometry(size=(60, 80), area=area)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    seen = geometry.apply(image)
    assert np.array_equal(seen[mask], image[mask])
    assert (seen[~mask] == OUTSIDE).all()
    inverted = geometry.invert_map(np.ones((60, 80), np.float32), (60, 80))
    assert np.array_equal(np.isnan(inverted), ~mask)


def test_an_area_follows_region_and_size() -> None:
    geometry = Geometry(size=(64, 64), region=(100, 100, 228, 228), area="164,100 228,100 228,228 164,228")
    inside = geometry.inside((300, 300))
    assert inside is not None
    assert not inside[:, :31].any()
    assert inside[:, 33:].all()


@pytest.mark.parametrize(
    "value",
    ["1,2 3,4", "1,2 3,4 x,6", "1,2,3", [[1, 2], [3, 4]], [[1, 2], 3, [4, 5]], "[[1,2],", "-1,2 3,4 5,6", 7, ";", [[]]],
)
def test_what_is_not_an_area(value: object) -> None:
    with pytest.raises(BadInput, match=r"image\.area"):
        read_settings(Geometry, {"area": value}, prefix="image.")


@pytest.mark.parametrize("value", [[[1, 2], [3, 4], [5, 6]], "[[[1,2],[3,4],[5,6]]]", "1,2  3 , 4 5,6", "1,2 3,4 5,6"])
def test_ways_to_write_an_area(value: object) -> None:
    assert parse_area(value) == "1,2 3,4 5,6"


def test_an_area_outside_of_a_photograph() -> None:
    geometry = Geometry(size=(64, 64), area="0,0 200,0 200,90")
    with pytest.raises(BadInput, match=r"image.area reaches to 200, 90, outside of an image of 100 x 100"):
        geometry.apply(np.zeros((100, 100, 3), np.uint8))


def test_an_area_from_a_file(tmp_path: Path) -> None:
    drawn = np.zeros((40, 50), np.uint8)
    drawn[5:20, 10:30] = 255
    Image.fromarray(drawn).save(tmp_path / "area.png")
    assert np.array_equal(draw_area(Polygons.of(area_of_file(tmp_path / "area.png")), (40, 50)), drawn > 0)
    Image.fromarray(drawn * 0).save(tmp_path / "black.png")
    with pytest.raises(BadInput, match="marks no area"):
        area_of_file(tmp_path / "black.png")
    with pytest.raises(BadInput, match="cannot be read"):
        area_of_file(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tile": (16, 64)}, "sides of at least 32"),
        ({"tile": (512, 256)}, "at most those of what is cut"),
        ({"size": (5000, 5000)}, "image.tile .* must be set"),
        ({"size": (16000, 16000), "tile": (64, 64)}, "more than 10000 tiles"),
        ({"overlap": 0.8}, "lie between 0 and 0.75"),
    ],
)
def test_tiles_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_settings(Geometry, values, prefix="image.")

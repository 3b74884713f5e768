"""Regions are counted as they were drawn: bringing a mask down to the network's geometry neither tears nor silently
loses them.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vqi.dataset.geometry import Geometry
from vqi.evaluation.aupro import PixelScores, label_regions


def lines(width: int, side: int = 1024, images: int = 6, per_image: int = 4) -> list[np.ndarray]:
    """Masks with separate scratches of `width` pixels, each in a quarter of the image."""
    random = np.random.default_rng(width)
    masks = []
    for _ in range(images):
        mask = np.zeros((side, side), np.uint8)
        for quarter in range(per_image):
            corner = np.array([quarter % 2, quarter // 2]) * side // 2 + side // 16
            ends = corner + random.integers(0, side // 3, (2, 2))
            ends[1, 0] = corner[0] + (ends[0, 0] - corner[0] + side // 5) % (side // 3)
            cv2.line(mask, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1, width)
        masks.append(mask.astype(bool))
    return masks


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize(
    "geometry", [Geometry(size=(256, 256)), Geometry(size=(128, 192)), Geometry(size=(300, 300), crop=(256, 256))]
)
def test_a_thin_scratch_stays_one_region(geometry: Geometry, width: int) -> None:
    masks = lines(width)
    drawn = kept = 0
    for mask in masks:
        labels, count = label_regions(mask)
        seen = geometry.apply_labels(labels)
        drawn += count
        kept += np.unique(seen[seen > 0]).size
        assert seen.dtype == np.int32
        # Where the nearest pixel has a region at all it is that one, so that pixel and region metrics speak of the same
        # pixels.
        assert (seen[geometry.apply_mask(mask)] > 0).all()
    assert drawn == kept == 24
    if geometry.size == (256, 256) and width < 3:
        assert sum(label_regions(geometry.apply_mask(mask))[1] for mask in masks) > 3 * drawn


def test_aupro_of_thin_scratches_is_that_of_the_masks_as_drawn() -> None:
    """The same maps measured at the size of the drawings, which tears nothing, is the right value."""
    geometry, random = Geometry(size=(256, 256)), np.random.default_rng(0)
    prepared, original, torn = (PixelScores(size) for size in (6 * 256**2, 6 * 1024**2, 6 * 256**2))
    for mask in lines(2):
        labels, _ = label_regions(mask)
        # A scratch near the diagonal stays whole, one near an axis is torn into some fifteen dots: those are made to be
        # found less.
        sides = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:, 2:4]
        heights = np.concatenate([[0], sides.min(axis=1) / sides.max(axis=1)])[labels]
        values = cv2.GaussianBlur(heights.astype(np.float32), (0, 0), 12) + random.normal(0, 0.02, mask.shape).astype(
            np.float32
        )
        small = cv2.resize(values, (256, 256), interpolation=cv2.INTER_AREA)
        prepared.add(small, geometry.apply_labels(labels), "scratch")
        original.add(small.repeat(4, axis=0).repeat(4, axis=1), labels, "scratch")
        torn.add(small, geometry.apply_mask(mask), "scratch")
    right = original.ranking_metrics()["aupro"]
    assert (prepared.regions, original.regions) == (24, 24)
    assert torn.regions > 90
    assert prepared.ranking_metrics()["aupro"] == pytest.approx(right, abs=0.002)
    assert abs(torn.ranking_metrics()["aupro"] - right) > 0.01


def test_a_scratch_between_two_sampled_rows_keeps_the_pixels_that_hold_it() -> None:
    labels = np.zeros((1024, 1024), np.int32)
    labels[400:402, 100:500] = 1
    geometry = Geometry(size=(256, 256))
    assert not geometry.apply_mask(labels > 0).any()
    rows, columns = np.nonzero(geometry.apply_labels(labels))
    assert (set(rows), columns.min(), columns.max()) == ({100}, 25, 124)


def test_a_region_that_covers_less_than_a_pixel_is_lost_and_takes_nothing_from_another() -> None:
    labels = np.zeros((1024, 1024), np.int32)
    labels[500:520, 500:520] = 1
    labels[400, 400] = 2
    labels[521:525, 500:520] = 3
    seen = Geometry(size=(256, 256)).apply_labels(labels)
    assert set(np.unique(seen)) == {0, 1, 3}
    assert np.count_nonzero(seen == 1) == 25


def test_regions_outside_of_what_is_seen_are_lost() -> None:
    labels = np.zeros((300, 400), np.int32)
    labels[10:20, 10:20], labels[140:160, 190:210], labels[290:, :] = 1, 2, 3
    for geometry in (Geometry(size=(300, 400), crop=(200, 200)), Geometry(size=(64, 64), region=(100, 50, 300, 250))):
        assert set(np.unique(geometry.apply_labels(labels))) == {0, 2}


def test_regions_that_a_smaller_image_would_join_stay_two() -> None:
    labels = np.zeros((512, 512), np.int32)
    labels[100:200, 100:148], labels[100:200, 149:200] = 1, 2
    assert set(np.unique(Geometry(size=(64, 64)).apply_labels(labels))) == {0, 1, 2}

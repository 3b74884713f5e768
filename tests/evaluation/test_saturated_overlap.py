"""sPRO against its definition, and pixels that count neither way."""

from __future__ import annotations

import numpy as np
import pytest

from vqi.dataset.saturation import Saturation
from vqi.evaluation.aupro import PixelScores

Region = tuple[int, np.ndarray, int]


def brute_force(maps: list[np.ndarray], regions: list[Region], good: np.ndarray, limit: float) -> float:
    """Every distinct value is a threshold; at each min(found / saturated, 1) is averaged over the regions, as
    `get_spros_for_thresholds` of the evaluation code of MVTec LOCO does."""
    curve = [(0.0, 0.0)]
    for level in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
        overlaps = [min(np.count_nonzero(maps[n][region] >= level) / pixels, 1.0) for n, region, pixels in regions]
        curve.append((float(np.mean(good >= level)), float(np.mean(overlaps))))
    rates, heights = (np.array(axis) for axis in zip(*curve, strict=True))
    inside = rates <= limit
    at_limit = np.interp(limit, rates, heights)
    return float(np.trapezoid([*heights[inside], at_limit], [*rates[inside], limit])) / limit


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("seed", range(4))
def test_saturated_overlap_agrees_with_its_definition(seed: int, levels: int | None) -> None:
    random = np.random.default_rng(seed)
    pixels, maps, regions, good = PixelScores(4000), [], [], []
    rules = [Saturation("missing", 255, 7, False), Saturation("long", 254, 0.4, True)]
    for number in range(4):
        masks = []
        for rule in rules[: 1 + number % 2]:
            mask = np.zeros((12, 15), bool)
            y, x = random.integers(0, 7), random.integers(0, 8)
            mask[y : y + random.integers(2, 6), x : x + random.integers(2, 7)] = True
            masks.append((mask, rule.share(int(mask.sum()))))
            area = int(mask.sum())
            regions.append((number, mask, int(0.4 * area) if rule.relative else min(7, area)))
        union = np.logical_or.reduce([mask for mask, _ in masks])
        values = (random.normal(0, 1, union.shape) + union).astype(np.float32)
        values = np.round(values * levels).astype(np.float32) / levels if levels else values
        pixels.add(values, union, "missing", saturated=masks)
        maps.append(values)
        good.append(values[~union])
    for limit in (0.05, 0.3):
        expected = brute_force(maps, regions, np.concatenate(good), limit)
        assert pixels.saturated_overlap(limit) == pytest.approx(expected, abs=1e-9)


def test_a_region_without_a_rule_is_as_in_aupro() -> None:
    random = np.random.default_rng(5)
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:15] = True
    pixels = PixelScores(400)
    pixels.add(random.normal(0, 1, mask.shape).astype(np.float32) + mask, mask, "cut", saturated=[(mask, 1.0)])
    assert pixels.saturated_overlap(0.3) == pytest.approx(pixels.ranking_metrics()["aupro"], abs=1e-12)
    assert PixelScores(1).saturated_overlap(0.3) is None


@pytest.mark.parametrize(
    ("rule", "area", "share"),
    [
        (Saturation("a", 1, 50, False), 200, 0.25),
        (Saturation("a", 1, 50, False), 20, 1.0),
        (Saturation("a", 1, 0.5, True), 7, 3 / 7),
        (Saturation("a", 1, 0.01, True), 7, 1 / 7),
    ],
)
def test_the_share_of_a_region_that_saturates_it(rule: Saturation, area: int, share: float) -> None:
    assert rule.share(area) == pytest.approx(share)


@pytest.mark.parametrize(("threshold", "relative", "value"), [(0, False, 1), (1.5, True, 1), (3, False, 0)])
def test_a_rule_that_cannot_be(threshold: float, relative: bool, value: int) -> None:
    with pytest.raises(ValueError, match="the saturation of 'a'"):
        Saturation("a", value, threshold, relative)


def test_excluded_pixels_change_nothing_else() -> None:
    """A map that is wrong where nothing counts measures as the same map without those pixels."""
    random = np.random.default_rng(1)
    mask = np.zeros((16, 16), bool)
    mask[2:6, 2:6] = True
    excluded = np.zeros((16, 16), bool)
    excluded[4:10, 4:14] = True
    values = (random.normal(0, 1, mask.shape) + mask).astype(np.float32)
    spoilt = np.where(excluded, np.float32(9), values)
    with_excluded, without = PixelScores(512), PixelScores(512)
    with_excluded.add(spoilt, mask, "cut", excluded, [(mask, 0.5)])
    with_excluded.add(spoilt, excluded=excluded)
    without.add(values[:, ~excluded.any(axis=0)][:, :4], mask[:, :4], "cut")  # the columns without an excluded pixel
    assert with_excluded.good.size == 2 * int((~excluded).sum()) - int((mask & ~excluded).sum())
    assert with_excluded.defective()[0].size == int((mask & ~excluded).sum())
    assert with_excluded.good.max() < 9
    assert with_excluded.defective()[0].max() < 9
    assert with_excluded.regions == without.regions == 1

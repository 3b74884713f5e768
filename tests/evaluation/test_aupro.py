"""AUPRO and pixel metrics against a brute-force reading of the definition."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as reference

from example_results import confusion as counted
from vqi.evaluation.aupro import PixelScores, aupro
from vqi.evaluation.metrics import Confusion, Ranking


def brute_force(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """Every distinct value is a threshold; rates and overlaps are counted anew at each; straight lines between, cut at
    the limit."""
    regions = []
    for number, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(number, labels == region) for region in range(1, count + 1)]
    good = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    curve = [(0.0, 0.0)]
    for level in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
        overlap = np.mean([np.mean(maps[number][region] >= level) for number, region in regions])
        curve.append((float(np.mean(good >= level)), float(overlap)))
    area = 0.0
    for (left, low), (right, high) in itertools.pairwise(curve):
        if left >= limit:
            break
        end = min(right, limit)
        at_end = high if right <= limit else low + (high - low) * (limit - left) / (right - left)
        area += (end - left) * (low + at_end) / 2
    return area / limit


def scene(seed: int, levels: int | None, images: int = 5) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(images):
        mask = np.zeros((14, 17), dtype=bool)
        for _ in range(number % 3):
            y, x = random.integers(0, 11), random.integers(0, 13)
            mask[y : y + random.integers(1, 4), x : x + random.integers(1, 5)] = True
        values = (random.normal(0, 1, mask.shape) + 1.5 * mask).astype(np.float32)
        maps.append((np.round(values * levels) / levels).astype(np.float32) if levels else values)
        masks.append(mask)
    return maps, masks


def gathered(maps: list[np.ndarray], masks: list[np.ndarray]) -> PixelScores:
    pixels = PixelScores(sum(values.size for values in maps))
    for values, mask in zip(maps, masks, strict=True):
        pixels.add(values, mask, "scratch")
    return pixels


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_agrees_with_its_definition(seed: int, levels: int | None) -> None:
    maps, masks = scene(seed, levels)
    metrics = gathered(maps, masks).ranking_metrics()
    assert metrics["aupro"] == pytest.approx(brute_force(maps, masks, 0.3), abs=1e-9)
    assert metrics["aupro_05"] == pytest.approx(brute_force(maps, masks, 0.05), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 4])
def test_pixel_metrics_agree_with_scikit_learn(levels: int | None) -> None:
    maps, masks = scene(7, levels)
    pixels = gathered(maps, masks)
    metrics = pixels.ranking_metrics()
    truth, values = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    assert metrics["pixel_auroc"] == pytest.approx(reference.roc_auc_score(truth, values), abs=1e-12)
    assert metrics["pixel_aupr"] == pytest.approx(reference.average_precision_score(truth, values), abs=1e-12)
    confusion = pixels.confusion(0.75)
    assert confusion == Confusion.at(0.75, values[truth], values[~truth])
    assert confusion.kappa == pytest.approx(reference.cohen_kappa_score(truth, values > 0.75))


def test_regions_that_touch_at_a_corner_are_one() -> None:
    pixels = PixelScores(16)
    pixels.add(np.zeros((4, 4), np.float32), np.eye(4, dtype=bool), "crack")
    assert pixels.regions == 1


def test_small_regions_weigh_as_much_as_large_ones() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, 0] = True
    mask[4:9, 2:10] = True
    # The large region is found at once, the single pixel never below the limit.
    values = np.where(mask, 2.0, 1.0).astype(np.float32)
    values[0, 0] = 0.0
    assert gathered([values], [mask]).ranking_metrics()["aupro"] == pytest.approx(0.5)


def test_a_perfect_map_has_exactly_one_and_never_more() -> None:
    random = np.random.default_rng(1)
    masks = [random.random((40, 40)) < 0.3 for _ in range(6)]
    metrics = gathered(
        [mask + random.random(mask.shape, np.float32) * np.float32(0.5) for mask in masks], masks
    ).ranking_metrics()
    assert (
        metrics["aupro"]
        == metrics["aupro_05"]
        == metrics["pixel_auroc"]
        == metrics["pixel_aupr"]
        == metrics["pixel_f1_max"]
        == 1.0
    )


def test_a_constant_map_is_chance() -> None:
    maps, masks = scene(2, None)
    metrics = gathered([np.zeros_like(values) for values in maps], masks).ranking_metrics()
    # One tie over everything: the straight line from (0, 0) to (1, 1), whose share of the area up to the limit is half
    # the limit.
    assert metrics["aupro"] == pytest.approx(0.15)
    assert metrics["pixel_auroc"] == 0.5


def test_types_share_the_good_pixels_and_weigh_to_the_whole() -> None:
    maps, masks = scene(3, 8, images=6)
    pixels = PixelScores(sum(values.size for values in maps))
    for number, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        pixels.add(values, mask, ("cut", "hole")[number % 2])
    regions = {kind: len(np.unique(pixels.defective(kind)[1])) for kind in ("cut", "hole")}
    assert min(regions.values()) > 0
    weighted = sum(count * pixels.ranking_metrics(kind)["aupro"] for kind, count in regions.items()) / pixels.regions
    assert weighted == pytest.approx(pixels.ranking_metrics()["aupro"], abs=1e-9)


def test_nothing_to_find_has_no_metric() -> None:
    pixels = PixelScores(100)
    assert set(pixels.ranking_metrics().values()) == {None}
    pixels.add(np.ones((10, 10), np.float32))
    assert set(pixels.ranking_metrics().values()) == {None}
    assert pixels.confusion(0.5) == counted(0, 100, 0, 0)
    assert aupro(Ranking(np.ones(3), np.empty(0)), np.arange(3), 0.3) is None


def test_ten_million_pixels_take_seconds() -> None:
    random = np.random.default_rng(0)
    pixels = PixelScores(10_000_000)
    mask = np.zeros((1000, 1000), dtype=bool)
    mask[100:300, 200:500] = True
    for _ in range(10):
        pixels.add(random.random((1000, 1000), np.float32), mask, "cut")
    started = time.monotonic()
    metrics = pixels.ranking_metrics()
    assert time.monotonic() - started < 8
    assert metrics["pixel_auroc"] == pytest.approx(0.5, abs=0.01)

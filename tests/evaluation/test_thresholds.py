"""Conformal thresholds: the right order statistic, and a promise that holds when it is tried."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from vqi.evaluation.calibration import Calibration, read_calibration
from vqi.evaluation.thresholds import (
    calibrate,
    chance_above,
    conformal_threshold,
    manual_threshold,
    promised_rates,
    rate_quantile,
    standing_out,
)
from vqi.platform.errors import BadInput, RunFailed


def write(folder: Path, value: object) -> Path:
    (folder / "calibration.json").write_text(json.dumps(value))
    return folder


def image(name: str = "a.png", score: float = 1.0, map_max: float = 2.0, map_median: float = 0.5) -> dict[str, object]:
    return {"path": name, "score": score, "map_max": map_max, "map_median": map_median}


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [
        (99, 0.01, 99),
        (100, 0.01, 100),
        (199, 0.01, 198),
        (19, 0.05, 19),
        (999, 0.001, 999),
        (9, 0.3, 7),
        (99, 0.07, 93),
        (59, 0.15, 51),
    ],
)
def test_the_threshold_is_the_right_order_statistic(n: int, rate: float, rank: int) -> None:
    assert conformal_threshold(list(range(n, 0, -1)), rate) == (rank, rate)


@pytest.mark.parametrize("n", [1, 5, 40, 98])
def test_too_few_normals_promise_the_smallest_rate_they_can(n: int) -> None:
    assert conformal_threshold(list(range(1, n + 1)), 0.01) == (n, 1 / (n + 1))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="false_reject_rate"):
        conformal_threshold([1.0, 2.0], rate)


@pytest.mark.parametrize("n", [30, 60, 99, 150])
@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_the_promise_holds_and_is_not_wasted(n: int, rate: float) -> None:
    random = np.random.default_rng(n)
    rejected, promised = [], 0.0
    for _ in range(4000):
        normals = random.lognormal(size=n)
        threshold, promised = conformal_threshold(normals.tolist(), rate)
        rejected.append(np.mean(random.lognormal(size=25) > threshold))
    spread = float(np.std(rejected)) / np.sqrt(len(rejected))
    assert np.mean(rejected) <= promised + 4 * spread
    # For scores without ties the exact rate is floor((n + 1) rate) / (n + 1).
    assert np.mean(rejected) >= promised - 1 / (n + 1) - 4 * spread


def test_the_promise_holds_with_ties() -> None:
    random = np.random.default_rng(0)
    rejected = [
        np.mean(random.integers(0, 6, 25) > conformal_threshold(random.integers(0, 6, 49).tolist(), 0.1)[0])
        for _ in range(4000)
    ]
    assert np.mean(rejected) <= 0.1 + 4 * np.std(rejected) / np.sqrt(4000)


def test_no_normal_map_gets_a_mark_more_often_than_promised() -> None:
    random = np.random.default_rng(1)
    rates = []
    for _ in range(3000):
        maxima = random.gumbel(size=39)
        threshold = calibrate(
            Calibration("split", None, ("a",) * 39, (0.0,) * 39, tuple(maxima), (0.0,) * 39), 0.05
        ).pixel
        rates.append(np.mean(random.gumbel(size=20) > threshold))
    assert np.mean(rates) <= 0.05 + 4 * np.std(rates) / np.sqrt(3000)


def test_calibrate_reports_the_promise_in_a_sentence() -> None:
    scores = tuple(float(v) for v in range(199))
    threshold = calibrate(Calibration("split", None, ("x",) * 199, scores, tuple(2 * s for s in scores), scores), 0.01)
    assert (threshold.image, threshold.pixel) == (197, 394)
    assert (threshold.false_reject_rate, threshold.calibration_images, threshold.folds) == (0.01, 199, None)
    assert threshold.guarantee.startswith("At most 1 % of good parts")
    assert "asked for" not in threshold.guarantee


def test_too_few_normals_are_reported_with_the_number_needed() -> None:
    threshold = calibrate(
        Calibration("split", None, ("x",) * 40, tuple(map(float, range(40))), (1.0,) * 40, (0.0,) * 40), 0.01
    )
    assert threshold.false_reject_rate == pytest.approx(1 / 41)
    assert threshold.requested_false_reject_rate == 0.01
    assert "2.44 %" in threshold.guarantee
    assert "1 % was asked for, which takes at least 99 good photographs" in threshold.guarantee


def test_refits_promise_no_more_than_they_can() -> None:
    threshold = calibrate(
        Calibration("cross", 10, ("x",) * 120, tuple(map(float, range(120))), (1.0,) * 120, (0.0,) * 120), 0.01
    )
    assert "10 indices that were built without it" in threshold.guarantee
    assert "without an exact guarantee" in threshold.guarantee
    assert "at most" not in threshold.guarantee.lower()


@pytest.mark.parametrize(("medians", "floor"), [((0.2, 0.4, 0.9), 0.0), ((-7.0, -5.0, 1.0), -5.0)])
def test_colours_begin_at_what_a_normal_pixel_has_where_that_is_below_zero(
    medians: tuple[float, ...], floor: float
) -> None:
    assert calibrate(Calibration("split", None, ("x",) * 3, (1.0,) * 3, (2.0,) * 3, medians), 0.3).floor == floor


def test_calibration_is_read_back(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"kind": "cross", "folds": 5, "images": [image("a.png", 1.5, 3.0), image("b.png", 2.5, 4.0)]}
    )
    assert read_calibration(folder) == Calibration(
        "cross", 5, ("a.png", "b.png"), (1.5, 2.5), (3.0, 4.0), (0.5, 0.5), 2
    )


def test_photographs_of_one_part_count_once_with_the_highest_score(tmp_path: Path) -> None:
    images = [image("a.png", 1.0, 5.0), image("b.png", 3.0, 4.0), image("c.png", 2.0, 3.0)]
    for entry, group in zip(images, ("p", "q", "p"), strict=True):
        entry["group"] = group
    calibration = read_calibration(write(tmp_path, {"kind": "split", "folds": None, "parts": 10, "images": images}))
    assert (calibration.paths, calibration.scores, calibration.map_maxima) == (
        ("c.png", "b.png"),
        (2.0, 3.0),
        (5.0, 4.0),
    )
    threshold = calibrate(calibration, 0.01)
    assert threshold.calibration_images == 2
    assert threshold.false_reject_rate == pytest.approx(1 / 3)
    assert "the 2 good parts (3 photographs; a part counts once)" in threshold.guarantee
    assert "takes at least 495 good parts in all" in threshold.guarantee


def test_no_calibration_scores_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no calibration scores"):
        read_calibration(write(tmp_path, {"kind": "split", "folds": None, "images": []}))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"kind": "split"},
        {"kind": "other", "folds": None, "images": [image()]},
        {"kind": "split", "folds": None, "images": [1]},
    ],
)
def test_a_damaged_calibration_is_an_error(tmp_path: Path, value: object) -> None:
    with pytest.raises(BadInput, match=r"calibration\.json cannot be read"):
        read_calibration(write(tmp_path, value))


def test_a_missing_calibration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run build_index again"):
        read_calibration(tmp_path)


def test_a_score_that_is_not_finite_names_its_image(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"train/good/007\.png"):
        read_calibration(
            write(
                tmp_path,
                {"kind": "split", "folds": None, "images": [image(), image("train/good/007.png", float("nan"))]},
            )
        )


def test_a_normal_far_above_the_others_is_named() -> None:
    scores = (2.4, 2.5, 2.45, 2.55, 2.6, 2.5, 2.48, 2.52, 9.0)
    paths = tuple(f"{n}.png" for n in range(9))
    assert standing_out(Calibration("cross", 3, paths, scores, scores, scores)) == [("8.png", 9.0)]
    assert standing_out(Calibration("cross", 3, paths[:8], scores[:8], scores[:8], scores[:8])) == []
    assert standing_out(Calibration("cross", 3, paths[:2], (1.0, 9.0), (1.0, 9.0), (1.0, 9.0))) == []


@pytest.mark.parametrize(
    ("images", "rates"), [(4, [0.2]), (31, [1 / 32, 0.05, 0.1, 0.2]), (199, [0.005, 0.01, 0.02, 0.05, 0.1, 0.2])]
)
def test_only_rates_that_can_be_promised_are_compared(images: int, rates: list[float]) -> None:
    assert promised_rates(images) == rates


@pytest.mark.parametrize(("n", "rank"), [(99, 99), (31, 31), (31, 29), (1, 1), (500, 496), (20000, 19801)])
def test_what_one_detector_may_do_is_the_beta_distribution(n: int, rank: int) -> None:
    share = beta(n + 1 - rank, rank)
    for rate in (0.001, 0.01, 0.05, 0.4):
        assert chance_above(n, rank, rate) == pytest.approx(share.sf(rate), abs=1e-9)
    assert rate_quantile(n, rank) == pytest.approx(share.ppf(0.95), abs=1e-9)


def test_ninety_nine_normals_promise_one_percent_on_average_and_three_to_one_detector() -> None:
    scores = tuple(map(float, range(99)))
    threshold = calibrate(Calibration("split", None, ("x",) * 99, scores, scores, scores), 0.01)
    assert threshold.chance_above == pytest.approx(0.3697, abs=1e-4)
    assert threshold.rate_95 == pytest.approx(0.0298, abs=1e-4)
    assert "of 100 such detectors about 37 reject more than 1 %, and 95 less than 2.98 %" in threshold.guarantee


@pytest.mark.parametrize(("n", "rate"), [(31, 0.01), (99, 0.05), (400, 0.02)])
@pytest.mark.parametrize("common", [0.0, 0.5, 0.9, 1.0])
def test_the_rate_of_either_threshold_is_the_one_of_fresh_parts(n: int, rate: float, common: float) -> None:
    """Score and map's maximum share a part `common` of their spread; what is stated is what fresh good parts do, up
    to chance.
    """
    random, stated, measured, promised = np.random.default_rng(n), [], [], 0.0
    for _ in range(600):
        shared, own = random.normal(size=n + 400), random.normal(size=n + 400)
        scores, maxima = shared, common * shared + np.sqrt(1 - common**2) * own
        threshold = calibrate(
            Calibration("split", None, ("x",) * n, tuple(scores[:n]), tuple(maxima[:n]), (0.0,) * n), rate
        )
        stated.append(threshold.either_rate)
        measured.append(np.mean((scores[n:] > threshold.image) | (maxima[n:] > threshold.pixel)))
        promised = threshold.false_reject_rate
    spread = 4 * float(np.std(measured) + np.std(stated)) / np.sqrt(len(measured))
    assert np.mean(stated) == pytest.approx(np.mean(measured), abs=spread + 0.002)
    assert np.mean(measured) <= 2 * promised + spread
    if common == 1:
        assert stated[0] == pytest.approx(promised, abs=1 / (n + 1))


def test_both_rates_are_reported_together_where_good_parts_get_marks() -> None:
    scores = tuple(map(float, range(99)))
    calibration = Calibration("split", None, ("x",) * 99, scores, scores[::-1], scores)
    threshold = calibrate(calibration, 0.05)
    assert threshold.either_rate == pytest.approx(0.1)
    assert "happens to about 10 % of good parts, and on average to no more than 10 %" in threshold.guarantee
    alone = calibrate(calibration, 0.05, marks_good=False)
    assert alone.either_rate == 0.05
    assert "one or the other" not in alone.guarantee


def test_nothing_is_promised_of_scores_that_were_trained_on() -> None:
    scores = tuple(map(float, range(99)))
    threshold = calibrate(Calibration("seen", None, ("x",) * 99, scores, scores, scores), 0.05)
    assert (
        threshold.image,
        threshold.false_reject_rate,
        threshold.chance_above,
        threshold.rate_95,
        threshold.either_rate,
    ) == (94, *[None] * 4)
    assert threshold.guarantee.startswith("No false-reject rate is promised")


@pytest.mark.parametrize("kind", ["distance", "subspace"])
def test_refits_come_out_near_the_figure(kind: str) -> None:
    """Neither on the safe side nor far from it: the distance to a bank, and what a subspace leaves out."""
    random, n, folds, rejected = np.random.default_rng(5), 60, 10, []
    fold = np.arange(n) % folds

    def score(new: np.ndarray, known: np.ndarray) -> np.ndarray:
        if kind == "distance":
            return np.linalg.norm(new[:, None] - known[None], axis=2).min(axis=1)
        main = np.linalg.svd(known - known.mean(axis=0), full_matrices=False)[2][:4]
        centred = new - known.mean(axis=0)
        return np.linalg.norm(centred - centred @ main.T @ main, axis=1)

    for _ in range(200):
        normals, scores = random.normal(size=(n, 8)), np.empty(n)
        for held in range(folds):
            scores[fold == held] = score(normals[fold == held], normals[fold != held])
        threshold, _ = conformal_threshold(scores.tolist(), 0.1)
        rejected.append(np.mean(score(random.normal(size=(200, 8)), normals) > threshold))
    assert np.mean(rejected) == pytest.approx(0.1, rel=0.25)


def calibration_of(scores: list[float], maxima: list[float] | None = None, kind: str = "split") -> Calibration:
    count = len(scores)
    paths = tuple(map(str, range(count)))
    return Calibration(kind, None, paths, tuple(scores), tuple(maxima or scores), (0.0,) * count)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "rate", "pixel", "sentence"),
    [
        (
            3.0,
            0.25,
            30.0,
            "3 of the 3 calibration scores lie at or below it: about 25 % of good parts, or fewer, .*3 photographs "
            "cannot promise less",
        ),
        (9.0, 0.25, 90.0, "3 of the 3 .*however high a threshold lies above all scores"),
        (
            2.5,
            0.5,
            25.0,
            "2 of the 3 .*about 50 % of good parts, or fewer, are expected to be rejected as long as they look like "
            "those photographs",
        ),
        (1.0, 0.75, 10.0, "1 of the 3 .*about 75 %"),
        (0.5, 1.0, 5.0, "0 of the 3 .*every good part must be expected to be rejected"),
    ],
)
def test_a_manual_threshold_promises_its_rank(image: float, rate: float, pixel: float, sentence: str) -> None:
    chosen = manual_threshold(calibration_of([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]), image)
    assert (chosen.image, chosen.false_reject_rate, chosen.pixel) == (image, pytest.approx(rate), pytest.approx(pixel))
    assert re.search(f"was set by hand, {sentence}", chosen.guarantee)


def test_the_pixel_threshold_has_the_rank_of_the_image_threshold() -> None:
    random = np.random.default_rng(0)
    scores, maxima = random.normal(5, 1, 40).tolist(), random.exponential(1, 40).tolist()
    for image in random.normal(5, 1.5, 200):
        chosen = manual_threshold(calibration_of(scores, maxima), float(image))
        assert sum(value <= chosen.pixel for value in maxima) == sum(score <= image for score in scores)


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_a_manual_threshold_needs_no_spread(values: list[float]) -> None:
    assert manual_threshold(calibration_of(values), 2.5).pixel == 2.5
    assert manual_threshold(calibration_of(values), 1.5).pixel == 1.5


@pytest.mark.parametrize("image", [float("nan"), float("inf")])
def test_a_manual_threshold_that_is_not_finite_is_refused(image: float) -> None:
    with pytest.raises(BadInput, match="must be a number"):
        manual_threshold(calibration_of([1.0, 2.0]), image)


def test_scores_of_training_images_promise_nothing_by_hand_either() -> None:
    assert (
        "no false-reject rate is promised" in manual_threshold(calibration_of([1.0, 2.0], kind="seen"), 1.5).guarantee
    )


@pytest.mark.parametrize("true_rate", [0.01, 0.1, 0.4])
def test_what_a_manual_threshold_states_is_no_less_than_the_true_rate_on_average(true_rate: float) -> None:
    random = np.random.default_rng(1)
    stated = [
        manual_threshold(calibration_of(random.random(30).tolist()), 1 - true_rate).false_reject_rate
        for _ in range(400)
    ]
    assert np.mean(stated) == pytest.approx(true_rate + (1 - true_rate) / 31, abs=0.015)

from __future__ import annotations

import numpy as np
import pytest

from vqi.dataset.manifest import Extent, Sample
from vqi.deployment.parity import TimedRun, deviations, judge, largest_deviation, parity_samples
from vqi.deployment.sidecar import Deviation
from vqi.platform.errors import GateRefused

SCORES = np.array([1.0, 2.0, 3.0, 4.0, 50.0, 6.0, 7.0], np.float32)
MAPS = np.stack([np.full((4, 4), score, np.float32) for score in SCORES])
IMAGES = SCORES.reshape(-1, 1, 1, 1)


def graph(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = images.reshape(-1).astype(np.float32)
    return scores, np.broadcast_to(scores[:, None, None], (len(scores), 4, 4)).copy()


def sample(number: int, split: str, label: str) -> Sample:
    return Sample(f"{label}/{number:03}.png", "0", split, label, label, 64, 64, Extent("s", 0, 1))  # type: ignore[arg-type]


def test_the_same_numbers_pass_at_every_batch() -> None:
    measured = list(deviations((SCORES, MAPS), graph, IMAGES, 3.5))
    assert [deviation.batch for deviation in measured] == [1, 5]
    judge("toy", measured, 1e-6, 7)
    assert measured[0] == Deviation(batch=1, score=0.0, map=0.0, flipped=0)


def test_a_deviation_is_relative_to_the_value_or_the_scale_whichever_is_larger() -> None:
    assert largest_deviation(np.array([0.1, 100.0]), np.array([0.0, 100.0]), 10) == pytest.approx(0.01)
    assert largest_deviation(np.array([0.0, 101.0]), np.array([0.0, 100.0]), 10) == pytest.approx(0.01)


def test_a_shift_that_only_a_batch_shows_is_detected() -> None:
    def batched(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, maps = graph(images)
        return scores + (0.1 if len(images) > 1 else 0), maps

    with pytest.raises(GateRefused, match=r"score deviates by 0\.02\d? on toy at batch 5, the tolerance is 0\.001"):
        judge("toy", list(deviations((SCORES, MAPS), batched, IMAGES, 3.5)), 1e-3, 7)


def test_a_map_that_is_wrong_in_one_pixel_is_refused() -> None:
    def spoiled(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, maps = graph(images)
        maps[-1, 2, 3] += 1
        return scores, maps

    with pytest.raises(GateRefused, match="map deviates"):
        judge("toy", list(deviations((SCORES, MAPS), spoiled, IMAGES, 3.5)), 1e-3, 7)


@pytest.mark.parametrize("spoil", [lambda v: v * np.nan, lambda v: v[..., :-1], lambda v: v[:-1]])
def test_maps_that_are_not_finite_or_of_another_shape_are_refused(spoil) -> None:
    with pytest.raises(GateRefused, match="deviates by inf"):
        judge(
            "toy",
            list(deviations((SCORES, MAPS), lambda images: (graph(images)[0], spoil(graph(images)[1])), IMAGES, 3.5)),
            1e9,
            7,
        )


def test_a_flipped_decision_is_refused_within_the_tolerance_but_not_a_tie() -> None:
    def lifted(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, maps = graph(images)
        return scores * np.float32(1.0005), maps

    with pytest.raises(GateRefused, match="decides 1 of 7 images differently"):
        judge("toy", list(deviations((SCORES, MAPS), lifted, IMAGES, 3.0005)), 1e-3, 7)
    assert [deviation.flipped for deviation in deviations((SCORES, MAPS), lifted, IMAGES, 3.0)] == [0, 0]


def test_the_gate_names_the_format_that_deviates() -> None:
    measured = [Deviation(batch=1, score=0.0, map=0.0, flipped=0), Deviation(batch=5, score=0.0, map=0.02, flipped=0)]
    with pytest.raises(GateRefused, match="on openvino at batch 5"):
        judge("openvino", measured, 1e-3, 7)
    judge("openvino", measured, 0.02, 7)


def test_images_that_run_alone_are_timed_after_a_warm_up() -> None:
    timed = TimedRun(graph)
    list(deviations((SCORES, MAPS), timed, IMAGES, 3.5))
    assert len(timed._seconds) == 7  # batches of 5 and 2 are not
    timed._seconds = [9.0, 9.0, 0.002, 0.003, 0.004]
    assert timed.latency_ms == 3.0
    timed._seconds = [0.005]
    assert timed.latency_ms == 5.0


def test_images_are_half_defects_of_the_test_split_spread_evenly() -> None:
    samples = [sample(i, "train", "good") for i in range(50)] + [sample(i, "test", "good") for i in range(20)]
    samples += [sample(i, "test", "defect") for i in range(60)]
    chosen = parity_samples(samples)
    assert [s.path for s in chosen if s.label == "defect"] == [f"defect/{i:03}.png" for i in (0, 10, 20, 30, 40, 50)]
    assert len(chosen) == 12
    assert {s.split for s in chosen} == {"test"}


def test_of_scored_photographs_those_that_decide_are_compared() -> None:
    samples = [sample(i, "test", label) for label in ("good", "defect") for i in range(20)]
    # Good ones score 0 to 1.9, defects 1 to 2.9; the threshold lies between.
    scores = {s.path: int(s.path[-7:-4]) / 10 + (s.label == "defect") for s in samples}
    chosen = parity_samples(samples, scores, 1.44)
    assert [s.path[-7:-4] for s in chosen if s.label == "good"] == ["014", "015", "000"]
    assert [s.path[-7:-4] for s in chosen if s.label == "defect"] == ["004", "005", "019"]
    # Of another set than the scores are of: as without them, and as few.
    assert len(parity_samples(samples, {"another.png": 1.0}, 1.44)) == 6


def test_a_set_of_normals_alone_has_images_too() -> None:
    assert len(parity_samples([sample(i, "train", "good") for i in range(50)])) == 12
    assert len(parity_samples([sample(i, "train", "good") for i in range(3)])) == 3

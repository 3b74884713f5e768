"""What a format that may decide otherwise than the detector is worth: the test split scored by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.tiling import united
from vqi.deployment.graph_runtime import GraphRuntime
from vqi.deployment.sidecar import Accuracy, CalibrationScore, OwnThresholds, Thresholds
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.calibration import CalibrationRecord, calibration_of
from vqi.evaluation.collector import Collector
from vqi.evaluation.records import Metrics, Results
from vqi.evaluation.results import compute_metrics
from vqi.evaluation.thresholds import Threshold, calibrate
from vqi.platform.errors import RunFailed
from vqi.platform.logs import logger
from vqi.platform.progress import tracked

log = logger(__name__)

# A sample with its score and its map, float32 [h, w] of the geometry's `map_size`.
Scored = tuple[Sample, tuple[float, np.ndarray]]
JUDGED = ("image_auroc", "pixel_auroc", "aupro", "accuracy")


class Judged(NamedTuple):
    """`reason`: why a format is left out, "" where it is not."""

    accuracy: Accuracy
    own: OwnThresholds | None
    reason: str


def judge_accuracy(
    graph: GraphRuntime,
    batch_size: int,
    data: Dataset,
    geometry: Geometry,
    results: Results,
    scores: Mapping[str, float],
    calibration: CalibrationRecord,
    max_drop: float,
    left_out: Iterable[Scored],
) -> Judged:
    """Score the test split by a graph and hold its metrics against the evaluation's `results` and `scores` by path.

    The graph's thresholds come from what it scores the calibration photographs: by its own index, or, where they are
    what that was built from, by indices of folds, `left_out`. Where it does not take those, the detector's stay.
    """
    box_rule = BoxRule.of_method(results.settings)
    threshold, own = results.threshold, None
    by_path = {sample.path: sample for sample in data.manifest.samples}
    scored: Iterable[Scored] = left_out
    if calibration.kind != "cross":
        samples = [by_path[image.path] for image in calibration.images]
        scored = _scored(graph, batch_size, data, samples, geometry, "export: calibration")
    try:
        threshold, own = _own_thresholds(scored, geometry, results, calibration, box_rule)
    except RunFailed as error:
        log.warning(f"the thresholds of {graph.backend} stay the detector's: {error}")
    samples = data.samples("test")
    collector = Collector(data, samples, geometry, threshold, box_rule)
    for sample, (score, values) in _scored(graph, batch_size, data, samples, geometry, "export: test split"):
        collector.add(sample, score, values, None)
    metrics = compute_metrics(collector.predictions, collector.pixels, threshold, boxes=collector.boxes)
    before = {path: score > results.threshold.image for path, score in scores.items()}
    accuracy = Accuracy(
        **{name: getattr(metrics, name) for name in JUDGED},
        images=len(samples),
        differ=sum(
            before.get(row.path, row.decision == "defect") != (row.decision == "defect")
            for row in collector.predictions
        ),
    )
    return Judged(accuracy, own, drop_reason(accuracy, results.metrics, max_drop))


def drop_reason(accuracy: Accuracy, reference: Metrics, max_drop: float) -> str:
    """Which metrics fell by more than `max_drop`; "" where none did."""
    fallen = []
    for name in JUDGED:
        value, expected = getattr(accuracy, name), getattr(reference, name)
        if value is not None and expected is not None and expected - value > max_drop:
            fallen.append(f"{name} falls from {expected:.4f} to {value:.4f}")
    if not fallen:
        return ""
    return f"{', '.join(fallen)} on the test split, by more than export.int8_max_drop = {max_drop:g} allows"


def _own_thresholds(
    scored: Iterable[Scored],
    geometry: Geometry,
    results: Results,
    calibration: CalibrationRecord,
    box_rule: BoxRule,
) -> tuple[Threshold, OwnThresholds]:
    """From what the photographs of the calibration score, in any order."""
    rows: dict[str, tuple[float, float, float]] = {}
    for sample, (score, values) in scored:
        inside = geometry.inside((sample.height, sample.width))
        pixels = values if inside is None else values[inside]
        rows[sample.path] = (score, float(pixels.max()), float(np.median(pixels)))
    images = tuple(
        image.model_copy(update=dict(zip(("score", "map_max", "map_median"), rows[image.path], strict=True)))
        for image in calibration.images
    )
    evidence = calibration_of(calibration.model_copy(update={"images": images}))
    threshold = calibrate(evidence, results.threshold.requested_false_reject_rate, box_rule.marks_good)
    entries = zip(evidence.scores, evidence.map_maxima, evidence.map_medians, strict=True)
    return threshold, OwnThresholds(
        thresholds=Thresholds(image=threshold.image, pixel=threshold.pixel, floor=threshold.floor),
        guarantee=threshold.guarantee,
        false_reject_rate=threshold.false_reject_rate,
        scores=[
            CalibrationScore(score=score, map_max=highest, map_median=middle) for score, highest, middle in entries
        ],
    )


def _scored(
    graph: GraphRuntime, batch_size: int, data: Dataset, samples: Sequence[Sample], geometry: Geometry, title: str
) -> Iterable[Scored]:
    """What a graph with the bundle's index scores each sample."""

    def images() -> Iterator[tuple[float, np.ndarray]]:
        for batch in InputBatches(data, samples, geometry, batch_size):
            scores, maps = graph.run(batch)
            yield from zip(scores.tolist(), maps, strict=True)

    return tracked(zip(samples, united(images(), geometry.tiling), strict=True), title, len(samples))

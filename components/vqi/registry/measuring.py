"""A candidate and a champion on the same photographs, each by its own bundle, through the same predictor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqi.deployment.predictor import Prediction, Predictor
from vqi.evaluation.paired_bootstrap import Scored
from vqi.platform.errors import BadInput
from vqi.platform.progress import tracked
from vqi.registry.compared_photographs import LabelledPhotograph
from vqi.registry.figures import size_mib

# Photographs that a predictor is warm after, where there are enough: their time does not count.
WARM_UP = 3


@dataclass(frozen=True)
class Measured:
    """What one bundle does with the photographs. `latency_ms` is the processor time of a photograph from the bytes of
    its file to its boxes, by one thread, the median; `implausible` counts those that the bundle would refuse (they are
    scored all the same)."""

    scored: Scored
    latency_ms: float
    size_mib: float
    implausible: int
    backend: str


def measure(bundles: Sequence[Path], photographs: Sequence[LabelledPhotograph]) -> list[Measured]:
    """Score photographs by several bundles in turns, one photograph at a time, and take the time of each.

    Raises BadInput where a bundle cannot be used, and for a photograph that one of them cannot read.
    """
    predictors = [Predictor(bundle, threads=1, implausible="score") for bundle in bundles]
    results: list[list[Prediction]] = [[] for _ in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    for number, photograph in enumerate(tracked(photographs, "compared", len(photographs))):
        content = photograph.read()
        # In turns, each first as often as the other.
        for which in sorted(range(len(bundles)), reverse=bool(number % 2)):
            started = time.process_time()
            result = predictors[which].predict_one((photograph.name, content))
            seconds[which].append(time.process_time() - started)
            if not isinstance(result, Prediction):
                raise BadInput(f"The bundle {bundles[which]} cannot judge a test photograph: {result.reason}")
            results[which].append(result)
    return [
        Measured(
            Scored(np.array([result.score for result in held], np.float64), predictor.sidecar.thresholds.image),
            round(1000 * statistics.median(spent[WARM_UP:] or spent), 3),
            size_mib(bundle, predictor.sidecar),
            sum(bool(result.implausible) for result in held),
            predictor.graph.backend,
        )
        for bundle, predictor, held, spent in zip(bundles, predictors, results, seconds, strict=True)
    ]

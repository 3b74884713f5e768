"""What lets a tool of others run the bundle as a whole: written when the bundle is complete, and held against it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqi.deployment.bundle import format_files
from vqi.deployment.exports import BundleWrapper
from vqi.deployment.exports.export_format import Answer
from vqi.deployment.parity import BATCHES, TOGETHER, judge, largest_deviation
from vqi.deployment.predictor import Prediction, Predictor
from vqi.deployment.sidecar import Deviation, FormatEntry, Sidecar
from vqi.platform.errors import RunFailed, VqiError


def add_wrapper(wrapper: BundleWrapper, folder: Path, sidecar: Sidecar, photographs: Sequence[bytes]) -> FormatEntry:
    """Write a wrapper's files into the bundle `folder`, whose sidecar is written without it, and describe it.

    It must answer for `photographs` (files) what the bundle answers: scores within the wrapper's tolerance, the same
    decisions and boxes. Raises RunFailed where it cannot be written or opened, GateRefused where it answers otherwise.
    """
    try:
        notes = dict(wrapper.wrap(folder, sidecar))
        answer = wrapper.load(folder)
    except VqiError as error:
        raise type(error)(f"The export format {wrapper.name} cannot be written: {error}") from error
    except Exception as error:  # whatever a stranger's format, or the tool that opens it, meets
        raise RunFailed(
            f"The export format {wrapper.name} cannot be written ({type(error).__name__}: {error})."
        ) from error
    predictor = Predictor(folder)
    tolerance = wrapper.tolerance or 0.0
    measured = [_deviation(predictor, answer, photographs, batch) for batch in BATCHES]
    judge(wrapper.name, measured, tolerance, len(photographs))
    several = [photographs[number % len(photographs)] for number in range(TOGETHER)]
    return FormatEntry(
        backend=wrapper.backend,
        precision=sidecar.entry_of(predictor.graph.backend).precision,
        install=wrapper.install,
        tolerance=tolerance,
        deviations=measured,
        latency_ms=round(1000 * statistics.median(_seconds(answer, [photograph]) for photograph in photographs), 3),
        latency_8_ms=round(1000 * _seconds(answer, several), 3),
        notes={**notes, "runs": predictor.graph.backend},
        files=format_files(wrapper, folder),
    )


def _deviation(predictor: Predictor, answer: Answer, photographs: Sequence[bytes], batch: int) -> Deviation:
    """What a wrapper answers against what the bundle answers; boxes that differ count as a map that does."""
    expected = list(predictor.predict(photographs))
    if unreadable := next((result for result in expected if not isinstance(result, Prediction)), None):
        raise RunFailed(f"The bundle does not read one of the photographs of its own set: {unreadable.reason}")
    held = [result for result in expected if isinstance(result, Prediction)]
    answers = [
        result for start in range(0, len(photographs), batch) for result in answer(photographs[start : start + batch])
    ]
    scores = np.array([result.score for result in held])
    values = np.array([np.nan if result.score is None else result.score for result in answers], np.float64)
    same_boxes = [tuple(result.boxes) for result in held] == [result.boxes for result in answers]
    return Deviation(
        batch=batch,
        score=largest_deviation(values, scores, float(np.median(np.abs(scores)))),
        map=0.0 if same_boxes else float("inf"),
        flipped=sum(one.decision != other.decision for one, other in zip(held, answers, strict=False)),
    )


def _seconds(answer: Answer, photographs: Sequence[bytes]) -> float:
    started = time.perf_counter()
    answer(photographs)
    return time.perf_counter() - started

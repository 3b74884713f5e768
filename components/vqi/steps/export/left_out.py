"""Normals scored by a format's graph with indices that they are not in: the folds of the threshold, taken again for the
graph that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.tiling import united
from vqi.deployment.exports import ExportFormat
from vqi.deployment.graph_runtime import GraphRuntime
from vqi.deployment.sidecar import Graph
from vqi.detectors.arrays import Array, to_numpy
from vqi.detectors.calibration import folds_of
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.interface import Detector
from vqi.evaluation.calibration import CalibrationRecord
from vqi.platform.errors import RunFailed
from vqi.platform.logs import logger
from vqi.platform.threads import thread_limit

log = logger(__name__)


def scored_left_out(
    export_format: ExportFormat,
    folder: Path,
    graph: Graph,
    detector: Detector,
    data: Dataset,
    geometry: Geometry,
    calibration: CalibrationRecord,
) -> Iterator[tuple[Sample, tuple[float, np.ndarray]]]:
    """The normals that an index was built from, each with the score and the map, float32 [h, w], that the graph of one
    format in the bundle `folder` gives it with an index of the others; fold by fold.

    The graph takes its index as an input: those of folds are made as `build_index` makes them, by the detector and the
    embeddings that its own index comes from, and the graph embeds and compares as it does on a line. Raises RunFailed
    where the graph does not take the index of a fold.
    """
    by_path = {sample.path: sample for sample in data.manifest.samples}
    samples = [by_path[image.path] for image in calibration.images]
    each, batch_size = geometry.inputs, graph.batch_size
    groups = [image.group or image.path for image in calibration.images for _ in range(each)]

    def images(numbers: Sequence[int]) -> InputBatches:
        return InputBatches(data, samples, geometry, batch_size, numbers=numbers)

    embeddings = Embeddings(detector, images, len(groups), batch_size)
    folds = folds_of(groups, calibration.folds or 1, detector.seed)
    detector.begin_build(len(folds))
    indices = detector.leave_out(embeddings.of, folds)
    for number, (held_out, index) in enumerate(zip(folds, indices, strict=True), 1):
        log.info(f"calibration of {export_format.name}: fold {number} of {len(folds)}")
        runtime = _with_index(export_format, folder, graph, index)
        chosen = [samples[image // each] for image in held_out[::each]]
        scored = _scored(runtime, InputBatches(data, chosen, geometry, batch_size))
        yield from zip(chosen, united(scored, geometry.tiling), strict=True)


def _with_index(export_format: ExportFormat, folder: Path, graph: Graph, index: Mapping[str, Array]) -> GraphRuntime:
    """The graph with another index than the bundle's."""
    tensors = {name: np.ascontiguousarray(to_numpy(value)) for name, value in sorted(index.items())}
    try:
        infer = export_format.open(folder, graph.input_size, tensors, "cpu", thread_limit())
    except Exception as error:  # whatever the runtime meets
        reason = " ".join(str(error).split())[:200]
        raise RunFailed(f"its graph does not take the index of a fold ({type(error).__name__}: {reason}).") from error
    return GraphRuntime(export_format.backend, graph.input_size, infer)


def _scored(runtime: GraphRuntime, batches: InputBatches) -> Iterator[tuple[float, np.ndarray]]:
    for batch in batches:
        scores, maps = runtime.run(batch)
        yield from zip(scores.tolist(), maps, strict=True)

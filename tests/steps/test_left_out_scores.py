"""The thresholds of a graph that runs otherwise than the detector: normals of folds, scored by that graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from step_calls import ingest
from toy_bundle import photograph
from vqi.batches.tensors import TensorBatches
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.deployment.exports import export_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.calibration import cross_scores
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord
from vqi.platform.errors import RunFailed
from vqi.steps.export.left_out import scored_left_out

GEOMETRY = Geometry(size=(64, 64))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = tmp_path_factory.mktemp("plates")
    for kind, numbers in (("train/good", range(8)), ("test/good", (20,)), ("test/spot", (30,))):
        (source / kind).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(photograph(number, kind == "test/spot")).save(source / kind / f"{number}.png")
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    ingest(name="plates", source=str(source), layout="mvtec", calibration_fraction=0.0, seed=0, dataset=folder)
    return Dataset(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [("patchcore", {}), ("patchcore", {"calibration": "refits"}), ("padim", {}), ("dfm", {})],
)
def test_the_detector_s_own_graph_scores_the_folds_as_build_index_does(
    data: Dataset, tmp_path: Path, method: str, settings: dict[str, str]
) -> None:
    detector = create(method, settings, BackboneSettings(name="filterbank"), (64, 64), 0).eval()
    samples = data.samples("train", "good")
    # Two photographs of one part stay in one fold.
    groups = ["part" if number < 2 else sample.path for number, sample in enumerate(samples)]
    embeddings = Embeddings(detector, lambda numbers: TensorBatches(data, samples, GEOMETRY, 4, numbers), 8, 4)
    detector.begin_build(5)
    detector.index = detector.fit(embeddings.of(range(8)), 8)
    folds, expected = cross_scores(detector, embeddings, groups, folds=4)
    record = CalibrationRecord(
        kind="cross",
        folds=folds,
        images=tuple(
            CalibrationImage(path=sample.path, group=group, **score._asdict())
            for sample, group, score in zip(samples, groups, expected, strict=True)
        ),
    )
    export_format = export_formats()["openvino"]
    with torch.inference_mode():
        graph = export_graphs(detector, tmp_path, [export_format]).graph
    scored = list(scored_left_out(export_format, tmp_path, graph, detector, data, GEOMETRY, record))
    assert sorted(sample.path for sample, _ in scored) == sorted(sample.path for sample in samples)
    by_path = {sample.path: values for sample, values in scored}
    for sample, score in zip(samples, expected, strict=True):
        image, values = by_path[sample.path]
        assert image == pytest.approx(score.score, rel=2e-3)
        assert float(values.max()) == pytest.approx(score.map_max, rel=2e-3)
        assert float(np.median(values)) == pytest.approx(score.map_median, rel=5e-3)


def test_a_graph_that_does_not_take_the_index_of_a_fold_says_so(data: Dataset, tmp_path: Path) -> None:
    detector = create("padim", {}, BackboneSettings(name="filterbank"), (64, 64), 0).eval()
    samples = data.samples("train", "good")
    detector.build_index(TensorBatches(data, samples, GEOMETRY, 4))
    rows = tuple(CalibrationImage(path=sample.path, score=1.0, map_max=1.0, map_median=1.0) for sample in samples)
    export_format = export_formats()["openvino"]
    graph = export_graphs(detector, tmp_path, [export_format]).graph
    (tmp_path / "openvino" / "model.xml").write_text("no graph")
    record = CalibrationRecord(kind="cross", folds=4, images=rows)
    with pytest.raises(RunFailed, match="its graph does not take the index of a fold"):
        list(scored_left_out(export_format, tmp_path, graph, detector, data, GEOMETRY, record))

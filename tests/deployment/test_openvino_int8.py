"""The format in eight bits: what of a graph is quantised, on what, and that NNCF tells nobody."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from example_results import metrics
from toy_bundle import GEOMETRY, photograph, toy_detector
from vqi.dataset.geometry import to_input
from vqi.deployment.exports import check_formats
from vqi.deployment.exports.openvino_int8 import SILENT, evenly, with_extremes
from vqi.deployment.graph_export import export_graphs
from vqi.deployment.sidecar import Accuracy
from vqi.platform.errors import RunFailed
from vqi.steps.export.accuracy import drop_reason

pytest.importorskip("nncf")

(INT8,) = check_formats(("openvino-int8",))
NORMALS = [to_input(GEOMETRY.apply(photograph(seed))) for seed in range(4)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    export_graphs(toy_detector(), folder, [INT8], NORMALS)
    return folder


def test_scores_are_near_the_detectors_and_do_not_depend_on_the_batch(written: Path) -> None:
    detector = toy_detector()
    images = np.stack([to_input(GEOMETRY.apply(photograph(20 + seed, seed % 2 == 1))) for seed in range(4)])
    with torch.inference_mode():
        expected = detector(torch.from_numpy(images))
    infer = INT8.open(written, GEOMETRY.input_size, {"bank": detector.index["bank"].numpy()}, "cpu", 1)
    scores, maps = infer(images)
    deviation = np.abs(scores - expected.image.numpy()).max() / float(expected.image.max())
    assert 1e-5 < deviation < 0.1  # not float32 under another name
    assert maps.shape == expected.map.shape
    np.testing.assert_array_equal(scores, np.concatenate([infer(images[n : n + 1])[0] for n in range(4)]))


def test_the_network_is_in_int8_and_what_the_index_is_compared_by_is_not(written: Path) -> None:
    import openvino

    model = openvino.Core().read_model(written / INT8.files[0])
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert any(node.get_element_type().get_type_name() == "i8" for node in constants)
    read_after = [model.input("bank").get_node()]
    seen = []
    while read_after:
        node = read_after.pop()
        seen.append(node.get_type_name())
        read_after += [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
    assert "MatMul" in seen
    assert "FakeQuantize" not in seen
    assert any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def test_without_normals_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"openvino-int8 cannot be written: The set holds 0 training normals"):
        export_graphs(toy_detector(), tmp_path, [INT8])


def test_nncf_reports_nothing_and_the_environment_is_as_it_was(written: Path) -> None:
    from nncf.telemetry.wrapper import ITelemetry, telemetry

    assert not isinstance(telemetry, ITelemetry)
    assert os.environ.get(SILENT) is None


def test_normals_are_taken_evenly() -> None:
    images = [np.full(1, number) for number in range(10)]
    assert [int(image[0]) for image in evenly(images, 4)] == [0, 3, 6, 9]
    assert [int(image[0]) for image in evenly(iter(images), 4)] == [0, 1, 2, 3]
    assert len(evenly(images, 40)) == 10
    assert evenly((), 4) == []


def test_ranges_are_also_of_what_no_normal_has() -> None:
    images = with_extremes([np.full((3, 2, 2), 0.25, np.float32)] * 5)
    assert [float(image.mean()) for image in images] == [0.25] * 5 + [0.0, 1.0] + [0.75] * 2


def accuracy(**values: float | None) -> Accuracy:
    figures = {"image_auroc": 0.98, "pixel_auroc": None, "aupro": 0.5, "accuracy": None}
    return Accuracy(**{**figures, **values}, images=10, differ=1)  # type: ignore[arg-type]


def test_a_format_is_left_out_where_a_metric_falls_by_more_than_it_may() -> None:
    reference = metrics(image_auroc=0.99, pixel_auroc=0.9, aupro=0.5, accuracy=0.8)
    assert drop_reason(accuracy(), reference, 0.01 + 1e-9) == ""
    assert drop_reason(accuracy(aupro=0.6, accuracy=0.9), reference, 0.01 + 1e-9) == ""
    assert drop_reason(accuracy(image_auroc=0.97, accuracy=0.7), reference, 0.01) == (
        "image_auroc falls from 0.9900 to 0.9700, accuracy falls from 0.8000 to 0.7000 on the test split, by more than "
        "export.int8_max_drop = 0.01 allows"
    )

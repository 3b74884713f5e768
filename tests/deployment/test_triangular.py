"""Products with triangular factors by blocks: the scores of PaDiM to rounding, with less to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from every_method import BACKBONE
from vqi.deployment.exports import check_formats
from vqi.deployment.exports.openvino import OpenVino
from vqi.deployment.exports.triangular import with_triangular_blocks
from vqi.deployment.graph_export import export_graphs
from vqi.deployment.graph_runtime import read_index
from vqi.detectors.registry import create

SIZE = (64, 64)


def photographs(count: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")


@pytest.mark.slow
def test_padim_reads_three_quarters_of_its_factors_and_scores_the_same(tmp_path: Path) -> None:
    detector, images = create("padim", {"channels": 20}, BACKBONE, SIZE).eval(), photographs(4)
    with torch.inference_mode():
        detector.index = detector.fit([detector.embed(images)], len(images))
        expected = detector(images)
    index = read_index(tmp_path, export_graphs(detector, tmp_path, check_formats(("openvino",))).graph)
    run = OpenVino().open(tmp_path, SIZE, index, "cpu", 1)
    for batch in (1, 2):
        parts = [run(images[start : start + batch].numpy()) for start in range(0, 4, batch)]
        np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), expected.image, rtol=1e-4)
        np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), expected.map, rtol=1e-4)
    model = openvino.Core().read_model(tmp_path / "openvino/model.xml")
    blocks = with_triangular_blocks(model, index)
    assert blocks
    shapes = {name: value.shape for name, value in blocks[1].items()}
    assert shapes == {"mean": (256, 20), "whitening_0": (256, 10, 10), "whitening_1": (256, 20, 10)}
    # A factor with anything above its diagonal is read whole.
    index["whitening"][7, 0, 19] = 1e3
    assert with_triangular_blocks(model, index) is None
    scores = OpenVino().open(tmp_path, SIZE, index, "cpu", 1)(images[:1].numpy())[0]
    assert scores[0] > 2 * float(expected.image[0])

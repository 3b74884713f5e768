"""Nearest neighbours by a pre-selection in int8: what is found is what the exact search finds, or the exact search is
run."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from every_method import BACKBONE
from vqi.deployment.bundle_files import INDEX
from vqi.deployment.exports import check_formats, preselection
from vqi.deployment.exports import openvino as openvino_format
from vqi.deployment.exports.export_format import Note
from vqi.deployment.exports.openvino import OpenVino
from vqi.deployment.exports.preselection import EXACT, PRESELECTED
from vqi.deployment.graph_export import export_graphs
from vqi.deployment.graph_runtime import read_index
from vqi.deployment.sidecar import Graph
from vqi.detectors.interface import Detector
from vqi.detectors.registry import create
from vqi.platform.devices import int8_instructions
from vqi.steps.export.step import check_format

SIZE = (64, 64)
FORMAT = OpenVino()
pytestmark = pytest.mark.skipif(not int8_instructions(), reason="this processor does not multiply int8")


def photographs(count: int) -> np.ndarray:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear").numpy()


class Exported(NamedTuple):
    """A patchcore with a bank of 700 items, and its bundle's files."""

    folder: Path
    detector: Detector
    graph: Graph

    def with_items(self, items: int, folder: Path) -> Exported:
        """The same with fewer items, in another folder: a graph takes a bank of any length."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        detector = copy.copy(self.detector)
        detector.index = {"memory_bank": self.detector.index["memory_bank"][:items].contiguous()}
        save_file(detector.index, folder / INDEX)
        index = [self.graph.index[0].model_copy(update={"shape": list(detector.index["memory_bank"].shape)})]
        return Exported(folder, detector, self.graph.model_copy(update={"index": index}))

    @property
    def index(self) -> dict[str, np.ndarray]:
        return read_index(self.folder, self.graph)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the bundle's graph scores them."""
        return FORMAT.open(self.folder, SIZE, self.index, "cpu", 1)(images)

    @torch.inference_mode()
    def expected(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As torch scores them."""
        scores = self.detector(torch.from_numpy(images))
        return scores.image.numpy(), scores.map.numpy()

    def prove(self, images: np.ndarray) -> Mapping[str, Note]:
        return FORMAT.prove(self.folder, SIZE, self.index, images)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder, detector = tmp_path_factory.mktemp("bundle"), create("patchcore", {}, BACKBONE, SIZE).eval()
    with torch.inference_mode():
        patches = detector.embed(torch.from_numpy(photographs(12))).flatten(0, 2)[:700]
    noise = torch.randn(patches.shape, generator=torch.Generator().manual_seed(1))
    detector.index = {"memory_bank": patches + 0.3 * patches.std() * noise}
    return Exported(folder, detector, export_graphs(detector, folder, check_formats(("openvino",))).graph)


def test_the_graph_of_a_bundle_searches_by_a_pre_selection_and_finds_what_torch_finds(bundle: Exported) -> None:
    images = photographs(4)
    notes = bundle.prove(images)
    assert notes["neighbours"] == PRESELECTED
    assert 0.999 <= float(notes["recall"]) <= 1
    for found, expected in zip(bundle.run(images), bundle.expected(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_an_image_scores_alone_as_in_a_batch_and_as_in_another_process(bundle: Exported, tmp_path: Path) -> None:
    images = photographs(3)
    scores, maps = bundle.run(images)
    np.savez(tmp_path / "inputs.npz", images=images, bank=bundle.index["memory_bank"])
    script = (
        "import sys, numpy as np; from pathlib import Path; from vqi.deployment.exports.openvino import OpenVino\n"
        "held = np.load(sys.argv[2])\n"
        "graph = OpenVino().open(Path(sys.argv[1]), (64, 64), {'memory_bank': held['bank']}, 'cpu', 1)\n"
        "scores, maps = zip(*[graph(image[None]) for image in held['images']])\n"
        "np.savez(sys.argv[3], scores=np.concatenate(scores), maps=np.concatenate(maps))\n"
    )
    files = [bundle.folder, tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, *files], check=True)
    other = np.load(tmp_path / "outputs.npz")
    assert np.array_equal(other["scores"], scores)
    assert np.array_equal(other["maps"], maps)


def test_a_small_bank_is_searched_exactly(bundle: Exported, tmp_path: Path) -> None:
    small, images = bundle.with_items(40, tmp_path), photographs(2)
    assert small.prove(images) == {}
    np.testing.assert_allclose(small.run(images)[0], small.expected(images)[0], rtol=1e-4)


def test_a_pre_selection_that_misses_neighbours_is_left_out(
    bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, images = bundle.with_items(300, tmp_path), photographs(2)
    # A range so large that every query becomes zero.
    monkeypatch.setattr(preselection, "RANGE", 1e6)
    notes = changed.prove(images)
    assert notes["neighbours"] == EXACT
    assert float(notes["recall"]) < 0.9
    assert "the OpenVINO graph searches exactly" in capsys.readouterr().err
    np.testing.assert_allclose(changed.run(images)[1], changed.expected(images)[1], rtol=1e-3)
    assert not FORMAT.make_exact(tmp_path)


def test_the_gate_falls_back_to_the_exact_graph_where_it_refuses_the_pre_selection(
    bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, images = bundle.with_items(300, tmp_path), photographs(3)
    monkeypatch.setattr(preselection, "RANGE", 1e6)
    monkeypatch.setattr(openvino_format, "LEAST_RECALL", 0.0)
    entry = check_format(FORMAT, tmp_path, changed.graph, {}, "float32", changed.expected(images), images, 0.0, 1e-3)
    assert "with a shortcut: The exported graph is not the detector" in capsys.readouterr().err
    assert entry.notes["neighbours"] == EXACT
    assert entry.largest_deviation < 1e-3
    assert set(entry.files) == set(FORMAT.files)

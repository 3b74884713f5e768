"""The formats that torch opens: what they may hold, and who opens them."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from toy_bundle import GEOMETRY, toy_detector, write_toy_bundle
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.exports import export_formats
from vqi.deployment.exports.torch_export import check_plain
from vqi.deployment.graph_export import export_graphs
from vqi.deployment.graph_runtime import open_graph
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "bundle"
    folder.mkdir()
    write_toy_bundle(folder, ["torch-export", "torchscript"])
    return folder


def test_auto_opens_neither_and_says_how(bundle: Path) -> None:
    sidecar = read_sidecar(bundle)
    with pytest.raises(BadInput, match=r"torch-export and torchscript alone.*add --backend torch-export if you trust"):
        open_graph(bundle, sidecar)
    assert open_graph(bundle, sidecar, "torchscript").backend == "torchscript"


def test_auto_takes_another_format_beside_them(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path, ["onnx", "torch-export"])
    assert open_graph(tmp_path, read_sidecar(tmp_path)).backend == "onnxruntime"


@pytest.mark.parametrize("name", ["torch-export", "torchscript"])
def test_a_search_in_tiles_is_one_graph_for_any_number_of_images_and_items(tmp_path: Path, name: str) -> None:
    """Which patchcore runs in torch: a trace of it would hold the loops of two images."""
    detector = create("patchcore", {}, BackboneSettings(name="filterbank"), (64, 64), 0)
    normals = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    detector.build_index(list(normals.split(2)))  # type: ignore[arg-type]
    detector.eval()
    chosen = export_formats()[name]
    export_graphs(detector, tmp_path, [chosen])
    for items in (None, 9):
        detector.index = {key: value[:items].contiguous() for key, value in detector.index.items()}
        index = {key: value.numpy() for key, value in sorted(detector.index.items())}
        infer = chosen.open(tmp_path, (64, 64), index, "cpu", 1)
        for count in (1, 3, 8):
            with torch.inference_mode():
                expected = detector(normals[:count])
            scores, maps = infer(normals[:count].numpy())
            np.testing.assert_allclose(scores, expected.image, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(maps, expected.map, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["torch-export", "torchscript"])
def test_the_threads_of_torch_are_its_own_after_a_call(bundle: Path, name: str) -> None:
    index = {"bank": toy_detector().index["bank"].numpy()}
    before = torch.get_num_threads()
    infer = export_formats()[name].open(bundle, GEOMETRY.input_size, index, "cpu", before + 1)
    scores, maps = infer(np.zeros((2, 3, *GEOMETRY.input_size), np.float32))
    assert scores.shape == (2,)
    assert maps.shape == (2, *GEOMETRY.input_size)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("member", ["model/data/sample_inputs/model.pt", "model/data/constants/custom_obj_0"])
def test_a_program_that_holds_a_pickle_is_refused_before_torch_reads_it(
    bundle: Path, tmp_path: Path, member: str
) -> None:
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(bundle / "model.pt2") as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
    check_plain(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(member, pickle.dumps({}))
    with pytest.raises(BadInput, match="holds more than a graph and its weights"):
        check_plain(file)


def test_weights_that_are_pickled_and_files_that_are_no_archive_are_refused(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(bundle / "model.pt2") as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            content = re.sub(rb'"use_pickle": ?false', b'"use_pickle": true', old.read(entry))
            new.writestr(zipfile.ZipInfo(entry.filename), content)
    with pytest.raises(BadInput, match=r"more than a graph and its weights .*model_weights_config.json"):
        check_plain(file)
    file.write_bytes(b"not a program")
    with pytest.raises(BadInput, match=r"not a program of torch\.export"):
        check_plain(file)

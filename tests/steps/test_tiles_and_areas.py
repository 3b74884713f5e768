"""Tiles and areas through the whole path: every method learns from tiles, scores photographs, and its bundle says the
same.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from every_method import BACKBONE, COMPUTE, budget, small, write_parts
from step_calls import build_index, build_index_in_parts, evaluate, export, ingest, train
from vqi.batches.scoring import score_samples
from vqi.batches.tensors import TensorBatches
from vqi.batches.training_images import dataset_images
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.deployment.predictor import Prediction, Predictor
from vqi.detectors.compute import to_device
from vqi.detectors.settings import SETTINGS
from vqi.detectors.storage import load_detector
from vqi.platform.errors import BadInput

# Of photographs of 72 x 80: six tiles; the left tenth is not looked at.
GEOMETRY = Geometry(size=(96, 128), tile=(64, 64), overlap=0.25, area="8,0 80,0 80,72 8,72")


def write_masks(folder: Path) -> None:
    """Masks of the left end of the stripes that `write_parts` draws."""
    (folder / "ground_truth" / "stripe").mkdir(parents=True)
    for number in range(5):
        mask = np.zeros((72, 80), np.uint8)
        mask[30 + number : 38 + number, 20:36] = 255
        Image.fromarray(mask).save(folder / "ground_truth" / "stripe" / f"{number}_mask.png")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    source = write_parts(folder / "parts")
    write_masks(source)
    ingest(name="parts", source=str(source), layout="mvtec", labelled_fraction=0.6, seed=0, dataset=folder / "dataset")
    return folder / "dataset"


def test_numbered_images_are_tiles(dataset: Path) -> None:
    data = Dataset(dataset)
    samples = data.samples("train", "good")[:3]
    every = np.concatenate([np.asarray(batch) for batch in TensorBatches(data, samples, GEOMETRY, 4)])
    assert every.shape == (18, 3, 64, 64)
    some = np.concatenate([np.asarray(batch) for batch in TensorBatches(data, samples, GEOMETRY, 2, [1, 2, 13, 0])])
    assert np.array_equal(some, every[[1, 2, 13, 0]])
    loaded = dataset_images(data, samples, GEOMETRY).load([5, 17])
    assert np.array_equal(loaded.numpy(), every[[5, 17]])


def test_a_tile_is_a_defect_where_its_mask_is(dataset: Path) -> None:
    data = Dataset(dataset)
    defects = [sample for sample in data.samples("labelled") if sample.label == "defect"]
    images = dataset_images(data, defects, GEOMETRY, labelled=True)
    assert images.labels is not None
    assert len(images.labels) == len(images) == 6 * len(defects)
    assert 0 < int(images.labels.sum()) < len(images)
    assert GEOMETRY.tiling is not None
    for sample, labels in zip(defects, images.labels.reshape(-1, 6).tolist(), strict=True):
        mask = data.mask(sample)
        assert mask is not None
        assert labels == [int(tile.any()) for tile in GEOMETRY.tiling.cut(GEOMETRY.apply_mask(mask))]


def test_a_defect_without_a_mask_has_no_labelled_tiles(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "parts")
    ingest(name="parts", source=str(source), layout="mvtec", labelled_fraction=0.6, seed=0, dataset=tmp_path / "set")
    data = Dataset(tmp_path / "set")
    with pytest.raises(BadInput, match="has no mask, so it cannot be said which of its tiles show the defect"):
        dataset_images(data, data.samples("labelled"), GEOMETRY, labelled=True)


@pytest.mark.parametrize(
    "method", ["padim", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(SETTINGS) if name != "padim")]
)
def test_the_whole_path_in_tiles(method: str, dataset: Path, tmp_path: Path) -> None:
    network, index, evaluation, bundle = (tmp_path / name for name in ("network", "index", "evaluation", "bundle"))
    train(
        dataset=dataset,
        method=method,
        settings=small(method),
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
        budgets=budget(method, 2),
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    results = evaluate(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluation,
        report=tmp_path / "report.html",
        false_reject_rate=0.2,
        compute=COMPUTE,
        tracking_uri="",
    )
    assert any("cut into 6 tiles of 64 x 64" in note for note in results.notes)
    export(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluation,
        bundle=bundle,
        tolerance=1e-3,
        formats=("openvino",),
    )
    data = Dataset(dataset)
    samples = data.samples("test")
    detector = to_device(load_detector(network, index), COMPUTE)
    scored = list(score_samples(detector, data, samples, GEOMETRY, COMPUTE))
    predicted = list(Predictor(bundle, implausible="score").predict(data.image(sample) for sample in samples))
    for (sample, score, values), prediction in zip(scored, predicted, strict=True):
        assert values.shape == (96, 128)
        assert isinstance(prediction, Prediction)
        assert prediction.score == pytest.approx(score, rel=1e-3, abs=1e-3 * abs(score))
        assert prediction.map.shape == (sample.height, sample.width) == (72, 80)
        # The polygon's edge lies between two pixels.
        assert np.isnan(prediction.map[:, :7]).all()
        assert np.isfinite(prediction.map[:, 8:]).all()
    calibration = json.loads((index / "calibration.json").read_text())
    assert len({image["path"] for image in calibration["images"]}) == len(calibration["images"])


def test_refits_leave_whole_photographs_out(dataset: Path, tmp_path: Path) -> None:
    """A bank of all of them knows every tile of a photograph: its own score would be 0."""
    network, index, merged = tmp_path / "network", tmp_path / "index", tmp_path / "merged" / "index"
    train(
        dataset=dataset,
        method="patchcore",
        settings={"coreset_ratio": 1.0},
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    calibration = json.loads((index / "calibration.json").read_text())
    assert calibration["kind"] == "cross"
    assert len(calibration["images"]) == 12
    assert all(image["score"] > 0 and image["map_max"] > 0 for image in calibration["images"])
    merged.parent.mkdir()
    build_index_in_parts(dataset=dataset, network=network, compute=COMPUTE, index=merged, shards=2)
    of_parts = json.loads((merged / "calibration.json").read_text())
    assert [image["path"] for image in of_parts["images"]] == [image["path"] for image in calibration["images"]]

"""A teacher that is learnt first: within train, interrupted and taken up again, and by itself with distill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from eviction import evict
from step_calls import ingest, train
from vqi.dataset.geometry import Geometry
from vqi.detectors.distillation import Distillation
from vqi.detectors.efficient_ad import EfficientAd
from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.platform.records import read_record
from vqi.tools.distill import TeacherRecord, distill
from vqi.training.record import read_network_notes
from vqi.training.settings import TrainSettings

GEOMETRY = Geometry(size=(40, 40))
COMPUTE = Compute(batch_size=4)
BANK = BackboneSettings(name="filterbank")
SETTINGS = {"channels": 4, "distillation_steps": 3}


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(random.integers(80, 120, (44, 50, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    pictures(folder / "source" / "train" / "good", 6)
    source = str(folder / "source")
    ingest(
        name="parts",
        source=source,
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder / "parts",
    )
    return folder / "parts"


def trained(
    dataset: Path, network: Path, checkpoints: str = "", steps: int = 4, **settings: Any
) -> dict[str, np.ndarray]:
    train(
        dataset=dataset,
        method="efficient_ad",
        settings={**SETTINGS, **settings},
        backbone=BANK,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
        budgets=TrainSettings(max_steps=steps, batch_size=2, checkpoints=checkpoints),
        calibration_fraction=0.0,
    )
    return load_file(network / "network.safetensors")


def counted(kind: type, monkeypatch: pytest.MonkeyPatch, stop_at: int = 0) -> list[int]:
    """The losses that `kind` is asked for; at the one of number `stop_at` the process is told to stop, as an evicted
    pod is."""
    calls: list[int] = []
    original = kind.loss

    def loss(self: Any, views: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            evict()
        return original(self, views)

    monkeypatch.setattr(kind, "loss", loss)
    return calls


@pytest.fixture(scope="module")
def uninterrupted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return trained(dataset, tmp_path_factory.mktemp("network") / "network")


@pytest.mark.parametrize(
    ("trained_class", "steps_left"), [(Distillation, (2, 4)), (EfficientAd, (0, 3))], ids=["teacher", "student"]
)
def test_a_run_that_is_stopped_in_either_training_job_ends_in_the_same_weights(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, np.ndarray],
    trained_class: type,
    steps_left: tuple[int, int],
):
    with monkeypatch.context() as patched:
        counted(trained_class, patched, stop_at=1)
        with pytest.raises(RunFailed, match="was told to stop at step 1"):
            trained(dataset, tmp_path / "network", str(tmp_path / "checkpoints"))
    assert not (tmp_path / "network").exists()
    taught, learnt = counted(Distillation, monkeypatch), counted(EfficientAd, monkeypatch)
    resumed = trained(dataset, tmp_path / "network", str(tmp_path / "checkpoints"))
    assert (len(taught), len(learnt)) == steps_left
    assert resumed.keys() == uninterrupted.keys()
    for name, value in uninterrupted.items():
        assert np.array_equal(resumed[name], value), name


def test_the_pretraining_keeps_to_its_own_steps_and_to_the_limit_of_all(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taught, learnt = counted(Distillation, monkeypatch), counted(EfficientAd, monkeypatch)
    trained(dataset, tmp_path / "network", steps=2)
    assert (len(taught), len(learnt)) == (2, 2)
    training = read_network_notes(tmp_path / "network").training
    assert training is not None
    record = training.pretraining
    assert record is not None
    assert (record.name, record.steps, len(record.points)) == ("teacher", 2, 2)


def test_seconds_are_shared_between_trainings():
    budgets = TrainSettings(max_seconds=100)
    first = budgets.of_first(type("Budget", (), {"batch_size": 1, "epochs": 0, "steps": 7}))
    assert (first.max_steps, first.max_seconds) == (7, 50)
    assert budgets.after(20).max_seconds == 80
    assert TrainSettings().after(20).max_seconds == 0


def test_a_distilled_teacher_is_the_one_that_train_makes_and_takes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, np.ndarray]
):
    file = tmp_path / "teacher.safetensors"
    # The same pictures, in the same order as the Dataset's.
    source = pictures(tmp_path / "pictures", 6)
    budgets = TrainSettings(max_steps=3, batch_size=2)
    record = distill(
        source=str(source),
        settings=dict(SETTINGS),
        backbone=BANK,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        teacher=file,
        budgets=budgets,
    )
    for name, value in load_file(file).items():
        assert np.array_equal(value, uninterrupted[f"teacher.{name}"]), name
    assert read_record(TeacherRecord, tmp_path / "teacher.json") == record
    assert (record.sha256, record.images, record.training.steps) == (sha256_of(file), 6, 3)
    assert record.backbone.name == "filterbank"
    taught = counted(Distillation, monkeypatch)
    again = trained(dataset, tmp_path / "network", teacher=str(file), teacher_sha256=record.sha256)
    assert not taught
    assert np.array_equal(again["student.conv4.weight"], uninterrupted["student.conv4.weight"])


def test_distil_refuses_what_it_cannot_use(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    common = {"settings": dict(SETTINGS), "backbone": BANK, "geometry": GEOMETRY, "compute": COMPUTE, "seed": 0}
    with pytest.raises(BadInput, match="has no pictures"):
        distill(source=str(empty), teacher=tmp_path / "teacher.safetensors", **common)
    with pytest.raises(BadInput, match=r"ends in \.safetensors"):
        distill(source=str(pictures(tmp_path / "some", 2)), teacher=tmp_path / "teacher.pth", **common)
    assert not list(tmp_path.glob("teacher*"))

"""Manifests, datasets and batches: what is read is what was written, and what was tampered with is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from photograph_folders import mvtec_files, write_files
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.images import Decoding
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Extent, Manifest, MaskFile, Sample, read_manifest
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.steps.ingest.step import ingest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = write_files(tmp_path / "part", mvtec_files())
    values = {"layout": "auto", "mask_suffix": "_mask", "calibration_fraction": 0.3, "seed": 0}
    ingest(name="<b>pärt</b>", source=str(source), dataset=tmp_path / "dataset", **values)  # type: ignore[arg-type]
    return tmp_path / "dataset"


def sample(path: str = "train/good/0.png", **changes: object) -> Sample:
    values = {
        "sha256": "0" * 64,
        "split": "train",
        "label": "good",
        "defect": "good",
        "width": 4,
        "height": 5,
        "image": Extent("shard-00000.tar", 512, 9),
    }
    return Sample(path=path, **(values | changes))  # type: ignore[arg-type]


def test_a_manifest_survives_json(tmp_path: Path) -> None:
    masked = sample("test/ü/<i>.png", label="defect", split="test", masks=(MaskFile("m", "1" * 64, Extent("s", 1, 2)),), group="7")
    for samples in ((), (sample(),), (sample(), masked)):
        manifest = Manifest("name", samples, 7, 0.2, ("a note",))
        (tmp_path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        assert read_manifest(tmp_path) == manifest


def test_the_fingerprint_is_of_content_and_roles_alone() -> None:
    base = Manifest("name", (sample("a"), sample("b")), 0, 0.2).fingerprint
    assert Manifest("other", (sample("b"), sample("a", image=Extent("s", 0, 1))), 9, 0.0, ("n",)).fingerprint == base
    for changed in (
        {"sha256": "1" * 64},
        {"split": "test"},
        {"label": "unknown"},
        {"defect": "cut"},
        {"group": "7"},
        {"masks": (MaskFile("m", "2" * 64, Extent("s", 1, 2)),)},
    ):
        assert Manifest("name", (sample("a"), replace(sample("b"), **changed)), 0, 0.2).fingerprint != base
    assert Manifest("name", (sample("a"), sample("b")), 0, 0.2, decoding=Decoding(4095)).fingerprint != base


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda text: text.replace('"test"', '"train"', 1), "does not match its fingerprint"),
        (lambda text: text.replace("vqi-dataset/2", "vqi-dataset/9"), "has format 'vqi-dataset/9'"),
        (lambda text: text[:200], "is not a readable manifest"),
        (lambda text: "[]", "is not a readable manifest"),
        (lambda text: text.replace('"width"', '"breadth"', 1), "is not a readable manifest"),
        (lambda text: text.replace('"split": "test"', '"split": "exam"', 1), "has split 'exam'"),
        (lambda text: text.replace('"offset": 512', '"offset": "far"', 1), "is not a readable manifest"),
    ],
)
def test_a_manifest_that_was_touched_is_refused(folder: Path, spoil: Callable[[str], str], sentence: str) -> None:
    path = folder / "manifest.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(spoil(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(BadInput, match=sentence):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match=r"is no Dataset: manifest\.json is missing"):
            Dataset(place)


def test_samples_by_split_and_label(folder: Path) -> None:
    dataset = Dataset(folder)
    everything = dataset.samples()
    assert [one.path for one in everything] == sorted(one.path for one in everything)
    assert len(dataset.samples("calibration")) == 3
    assert len(dataset.samples(("train", "calibration"), "good")) == 10
    assert {one.label for one in dataset.samples("test", "unknown")} == {"unknown"}


def test_a_shard_that_is_missing_or_short_is_refused(folder: Path) -> None:
    first = Dataset(folder).samples()[0]
    shard = folder / "shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(BadInput, match="is shorter than its manifest says"):
        Dataset(folder).image(first)
    shard.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        Dataset(folder).image(first)


@pytest.mark.parametrize(
    ("name", "offset", "length"), [("../secret", 0, 1), ("a/b", 0, 1), (".hidden", 0, 1), ("shard-00000.tar", -1, 1), ("shard-00000.tar", 9, -1)]
)
def test_an_extent_never_leads_out_of_the_dataset(folder: Path, name: str, offset: int, length: int) -> None:
    (folder.parent / "secret").write_text("secret")
    with pytest.raises(BadInput):
        Dataset(folder).bytes_of(Extent(name, offset, length))


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_hold_every_sample_once_and_in_order(folder: Path, batch_size: int) -> None:
    dataset, geometry = Dataset(folder), Geometry((48, 40), crop=(32, 32))
    samples = dataset.samples()
    batches = InputBatches(dataset, samples, geometry, batch_size)
    expected = np.stack([to_input(geometry.apply(dataset.image(one))) for one in samples])
    for _ in range(2):
        found = list(batches)
        assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
        assert np.array_equal(np.concatenate(found), expected)
    assert len(batches) == len(samples)


def test_batches_of_nothing_are_none(folder: Path) -> None:
    assert list(InputBatches(Dataset(folder), [], Geometry((32, 32)), 4)) == []


def test_a_damaged_photograph_stops_the_batches_and_leaves_no_thread(folder: Path) -> None:
    dataset = Dataset(folder)
    samples = dataset.samples()
    broken = replace(samples[0], path="broken.png", image=Extent("shard-00000.tar", 0, 100))
    threads = threading.active_count()
    with pytest.raises(BadInput, match=r"broken\.png is not an image"):
        list(InputBatches(dataset, [*samples[:5], broken, *samples[5:]], Geometry((32, 32)), 2))
    iterator = iter(InputBatches(dataset, samples, Geometry((32, 32)), 2))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads

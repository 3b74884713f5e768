"""Manifests, datasets and batches: what is read is what was written, and what was tampered with is refused."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photograph_folders import mvtec_files, write_files
from step_calls import ingest
from vqi.dataset.decoding import Decoding
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.images import decode_photograph
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Extent, Manifest, MaskFile, Sample, read_manifest
from vqi.dataset.masks import MaskMeaning
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput


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
    masked = sample(
        "test/ü/<i>.png", label="defect", split="test", masks=(MaskFile("m", "1" * 64, Extent("s", 1, 2)),), group="7"
    )
    for samples in ((), (sample(),), (sample(), masked)):
        meaning = MaskMeaning((120, 72, 32, 255), ((255, 0, 0, 128),), True, True, "a problem")
        manifest = Manifest("name", samples, 7, 0.2, ("a note",), 0.5, Decoding(4095, 7), meaning)
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
    inverted = MaskMeaning(background=(255, 255, 255, 255))
    assert Manifest("name", (sample("a"), sample("b")), 0, 0.2, mask_meaning=inverted).fingerprint != base


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda text: text.replace('"test"', '"train"', 1), "does not match its fingerprint"),
        (lambda text: text.replace("vqi-dataset/3", "vqi-dataset/9"), "has format 'vqi-dataset/9'"),
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


def test_a_dataset_of_the_format_before_is_read(folder: Path) -> None:
    path = folder / "manifest.json"
    before = read_manifest(folder)
    path.write_text(path.read_text(encoding="utf-8").replace("vqi-dataset/3", "vqi-dataset/2"), encoding="utf-8")
    assert read_manifest(folder) == before


def test_a_folder_without_a_manifest_is_not_a_dataset(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match=r"is not a Dataset: manifest\.json is missing"):
            Dataset(missing)


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
    ("name", "offset", "length"),
    [("../secret", 0, 1), ("a/b", 0, 1), (".hidden", 0, 1), ("shard-00000.tar", -1, 1), ("shard-00000.tar", 9, -1)],
)
def test_an_extent_never_leads_out_of_the_dataset(folder: Path, name: str, offset: int, length: int) -> None:
    (folder.parent / "secret").write_text("secret")
    with pytest.raises(BadInput):
        Dataset(folder).bytes_of(Extent(name, offset, length))


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_hold_every_sample_once_and_in_order(folder: Path, batch_size: int) -> None:
    dataset, geometry = Dataset(folder), Geometry(size=(48, 40), crop=(32, 32))
    samples = dataset.samples()
    batches = InputBatches(dataset, samples, geometry, batch_size)
    expected = np.stack([to_input(geometry.apply(dataset.image(one))) for one in samples])
    for _ in range(2):
        batch_list = list(batches)
        assert [len(batch) for batch in batch_list[:-1]] == [batch_size] * (len(batch_list) - 1)
        assert np.array_equal(np.concatenate(batch_list), expected)
    assert len(batches) == len(samples)


def test_batches_of_nothing_are_none(folder: Path) -> None:
    assert list(InputBatches(Dataset(folder), [], Geometry(size=(32, 32)), 4)) == []


def test_a_damaged_photograph_stops_the_batches_and_leaves_no_thread(folder: Path) -> None:
    dataset = Dataset(folder)
    samples = dataset.samples()
    broken = replace(samples[0], path="broken.png", image=Extent("shard-00000.tar", 0, 100))
    threads = threading.active_count()
    with pytest.raises(BadInput, match=r"broken\.png is not an image"):
        list(InputBatches(dataset, [*samples[:5], broken, *samples[5:]], Geometry(size=(32, 32)), 2))
    iterator = iter(InputBatches(dataset, samples, Geometry(size=(32, 32)), 2))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads


def test_the_input_is_what_the_geometry_makes_of_the_photograph(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    forms = {
        "a.png": {},
        "b.jpg": {"quality": 95},
        "c.bmp": {},
        "d.tif": {"compression": "tiff_lzw"},
        "e.webp": {"lossless": True},
        "f.ppm": {},
        "turned.png": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"},
    }
    (tmp_path / "part/good").mkdir(parents=True)
    for name, options in forms.items():
        Image.fromarray(random.integers(0, 256, (90, 80, 3), dtype=np.uint8)).save(
            tmp_path / "part/good" / name, **options
        )
    Image.fromarray(random.integers(0, 65536, (90, 80), dtype=np.uint16)).save(tmp_path / "part/good/wide.png")
    values = {"layout": "auto", "mask_suffix": "_mask", "calibration_fraction": None, "seed": 0}
    ingest(name="part", source=str(tmp_path / "part"), dataset=tmp_path / "dataset", **values)  # type: ignore[arg-type]
    dataset = Dataset(tmp_path / "dataset")
    for geometry in (
        Geometry(size=(32, 32)),
        Geometry(size=(32, 32), region=(5, 7, 60, 55)),
        Geometry(size=(48, 48), crop=(32, 32), region=(0, 20, 80, 80)),
        # The area reaches further down than the region.
        Geometry(size=(32, 32), region=(5, 7, 60, 55), area="0,0 80,0 80,79.5 0,60"),
    ):
        for one in dataset.samples():
            assert np.array_equal(dataset.seen(one, geometry), geometry.apply(dataset.image(one))), one.path
    for one in dataset.samples():
        with pytest.raises(BadInput, match="reaches outside"):
            dataset.seen(one, Geometry(size=(32, 32), region=(0, 0, 40, 91)))


def test_rows_below_the_region_are_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("RGB", (50, 1000)).save(out, "PNG")
    assert decode_photograph(out.getvalue(), "x", rows=20).pixels.shape == (20, 50, 3)
    assert decode_photograph(out.getvalue(), "x", rows=2000).pixels.shape == (1000, 50, 3)

"""Ingest from every kind of source: one Dataset, byte for byte."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tarfile
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camera_files import red_for_blue, tiff
from fault_proxy import a_third, faulty
from photograph_folders import mask, mvtec_files, photograph, write_files
from s3_server import Server, new_bucket
from step_calls import ingest
from vqi.dataset import batch_inspection
from vqi.dataset.decoding import Decoding
from vqi.dataset.generator.part import photograph as render_photograph
from vqi.dataset.generator.part import position_part
from vqi.dataset.manifest import Manifest
from vqi.dataset.reader import Dataset
from vqi.deployment.predictor import read_photograph
from vqi.deployment.sidecar import DecodingEntry
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.storage.object_store import Address, ObjectStore


def run(source: object, dataset: Path, **changes: object) -> Manifest:
    values = {
        "name": "part",
        "layout": "auto",
        "mask_suffix": "_mask",
        "calibration_fraction": None,
        "seed": 0,
    } | changes
    return ingest(source=str(source), dataset=dataset, **values)  # type: ignore[arg-type]


def checksums(dataset: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in dataset.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "part", mvtec_files())


def archives_of(folder: Path, out: Path) -> list[Path]:
    out.mkdir()
    for name, mode, inner in (
        ("a.tar", "w", "."),
        ("b.tar.gz", "w:gz", "part"),
        ("c.tgz", "w:gz", "some/top"),
        ("d.tar.xz", "w:xz", "part"),
    ):
        with tarfile.open(out / name, mode) as tar:  # type: ignore[call-overload]
            tar.add(folder, inner)
    shutil.make_archive(str(out / "e"), "zip", folder)
    shutil.make_archive(str(out / "f"), "zip", folder.parent, folder.name)
    return sorted(out.iterdir())


@pytest.mark.slow
def test_the_same_content_gives_the_same_bytes_from_folder_and_archives(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "dataset")
    expected = checksums(tmp_path / "dataset")
    assert set(expected) == {"manifest.json", "inspections.bin", "shard-00000.tar"}
    for archive in archives_of(folder, tmp_path / "archives"):
        again = run(archive, tmp_path / f"dataset-{archive.name}")
        assert again.fingerprint == manifest.fingerprint
        assert checksums(tmp_path / f"dataset-{archive.name}") == expected


@pytest.mark.slow
def test_the_same_content_gives_the_same_bytes_from_an_object_store(folder: Path, tmp_path: Path, s3: Server) -> None:
    run(folder, tmp_path / "dataset")
    bucket, store = new_bucket(s3), ObjectStore.from_environment()
    store.upload_folder(folder, Address(bucket, "parts/flange"))
    archive = archives_of(folder, tmp_path / "archives")[1]
    store.upload_file(archive, Address(bucket, "archives/b.tar.gz"))
    for source in ("parts/flange", "parts/flange/", "parts", "archives/b.tar.gz"):
        run(f"s3://{bucket}/{source}", tmp_path / "stored")
        assert checksums(tmp_path / "stored") == checksums(tmp_path / "dataset")


def test_a_bad_network_changes_nothing(
    folder: Path, tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "dataset")
    bucket = new_bucket(s3)
    ObjectStore.from_environment().upload_folder(folder, Address(bucket, ""))
    with faulty(s3.endpoint, a_third()) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        run(f"s3://{bucket}", tmp_path / "stored")
        assert network.spoilt >= 6
    assert checksums(tmp_path / "stored") == checksums(tmp_path / "dataset")


@pytest.mark.parametrize("processes", [2, 7])
def test_so_many_processes_give_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    write_files(folder, {"train/good/cut.png": photograph(7)[:-500], "train/good/again.png": photograph(1)})
    datasets, pictures = [tmp_path / "one", tmp_path / "several"], [dict[str, Image.Image]() for _ in range(2)]
    run(folder, datasets[0], described=pictures[0])
    monkeypatch.setattr(batch_inspection, "WORTH_PROCESSES", 0.0)
    monkeypatch.setattr(batch_inspection, "_MOST_IN_BATCH", 2)
    monkeypatch.setattr(batch_inspection, "worker_count", lambda: processes)
    run(folder, datasets[1], described=pictures[1])
    assert checksums(datasets[0]) == checksums(datasets[1])
    assert list(pictures[0]) == list(pictures[1])
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*map(dict.values, pictures), strict=True))


def end_this_process(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_inspection, "WORTH_PROCESSES", 0.0)
    monkeypatch.setattr(batch_inspection, "_MOST_IN_BATCH", 2)
    monkeypatch.setattr(batch_inspection, "worker_count", lambda: 2)
    monkeypatch.setattr(batch_inspection, "_inspect_batch", end_this_process)
    with pytest.raises(RunFailed, match="A process that inspects photographs was ended, as where memory is short"):
        run(folder, tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_the_content_equals_that_of_the_source(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "dataset")
    dataset, files = Dataset(tmp_path / "dataset"), mvtec_files()
    assert dataset.manifest == manifest
    for sample in manifest.samples:
        assert bytes(dataset.bytes_of(sample.image)) == files[sample.path]
        assert dataset.image(sample).shape == (sample.height, sample.width, 3)
        assert (not sample.masks) == (dataset.mask(sample) is None)
        for file in sample.masks:
            assert bytes(dataset.bytes_of(file.extent)) == files[file.path]
    assert "test/dent/<img src=x onerror=alert(1)>.png" in {sample.path for sample in manifest.samples}
    counts = Counter((sample.split, sample.label, bool(sample.masks)) for sample in manifest.samples)
    assert counts == {
        ("train", "good", False): 10,
        ("test", "good", False): 3,
        ("test", "defect", True): 2,
        ("test", "defect", False): 2,
        ("test", "unknown", False): 1,
        ("validation", "good", False): 1,
        ("validation", "defect", True): 1,
    }


def test_plain_folders_are_split(tmp_path: Path) -> None:
    files = {f"ok/{index}.png": photograph(index) for index in range(20)} | {
        "dent/1.png": photograph(100),
        "dent/1_mask.png": mask(),
    }
    manifest = run(write_files(tmp_path / "plain", files), tmp_path / "dataset")
    assert Counter((sample.split, sample.label) for sample in manifest.samples) == {
        ("train", "good"): 16,
        ("test", "good"): 4,
        ("test", "defect"): 1,
    }
    assert any("4 of 20 normals are kept for test, chosen by seed 0" in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("normals", "rate", "trains", "calibration"),
    [(99, 0.05, False, 0), (100, 0.05, False, 20), (100, 0.01, False, 0), (120, 0.01, True, 0), (120, 0.05, True, 24)],
)
def test_a_fifth_is_held_out_where_that_suffices_for_the_rate(
    tmp_path: Path, normals: int, rate: float, trains: bool, calibration: int
) -> None:
    files = {f"train/good/{index}.png": photograph(index, side=8) for index in range(normals)}
    # Every picture of these few pixels is a part of its own: near copies are not what is tried here.
    options = {"false_reject_rate": rate, "trains": trains, "group": "(.*)"}
    manifest = run(write_files(tmp_path / "part", files), tmp_path / "dataset", **options)
    assert sum(sample.split == "calibration" for sample in manifest.samples) == calibration
    assert manifest.calibration_fraction == (0.2 if calibration else 0.0)


def test_a_requested_share_is_held_out_without_tearing_duplicates(tmp_path: Path) -> None:
    files = {f"train/good/{index}-{copy}.png": photograph(index) for index in range(10) for copy in range(2)}
    manifest = run(write_files(tmp_path / "part", files), tmp_path / "dataset", calibration_fraction=0.3)
    held = {sample.sha256 for sample in manifest.samples if sample.split == "calibration"}
    assert len(held) == 3
    assert not held & {sample.sha256 for sample in manifest.samples if sample.split == "train"}


def test_a_share_of_every_type_is_learnt_from_where_it_is_requested(tmp_path: Path) -> None:
    files = {
        f"{folder}/{index}.png": photograph(1000 * number + index)
        for number, folder in enumerate(("train/good", "test/good"))
        for index in range(10)
    }
    files |= {f"test/dent/{index}.png": photograph(5000 + index) for index in range(5)}
    files |= {"test/scratch/only.png": photograph(6000), "test/unknown/0.png": photograph(6001)}
    source = write_files(tmp_path / "part", files)
    plain, labelled = run(source, tmp_path / "plain"), run(source, tmp_path / "labelled", labelled_fraction=0.8)
    assert Counter((sample.split, sample.defect) for sample in labelled.samples) == {
        ("train", "good"): 10,
        ("labelled", "good"): 8,
        ("test", "good"): 2,
        ("labelled", "dent"): 4,
        ("test", "dent"): 1,
        ("test", "scratch"): 1,
        ("test", "unknown"): 1,
    }
    assert Dataset(tmp_path / "labelled").manifest == labelled
    assert labelled.labelled_fraction == 0.8
    assert any("12 of 16 labelled test photographs are learnt from" in note for note in labelled.notes)
    assert labelled.fingerprint != plain.fingerprint
    assert {sample.split for sample in plain.samples} == {"train", "test"}
    assert not any("learnt from" in note for note in plain.notes)


def test_normals_that_ingest_splits_are_not_split_again(tmp_path: Path) -> None:
    files = {f"ok/{index}.png": photograph(index) for index in range(20)} | {
        f"dent/{index}.png": photograph(100 + index) for index in range(10)
    }
    manifest = run(write_files(tmp_path / "plain", files), tmp_path / "dataset", labelled_fraction=0.8)
    assert Counter((sample.split, sample.label) for sample in manifest.samples) == {
        ("train", "good"): 16,
        ("test", "good"): 4,
        ("labelled", "defect"): 8,
        ("test", "defect"): 2,
    }


def test_a_manifest_older_than_labelled_photographs_is_read(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "dataset")
    file = tmp_path / "dataset" / "manifest.json"
    file.write_text(file.read_text().replace(' "labelled_fraction": 0.0,\n', ""))
    assert "labelled_fraction" not in file.read_text()
    assert Dataset(tmp_path / "dataset").manifest == manifest


def test_damaged_photographs_come_along_without_a_size(folder: Path, tmp_path: Path) -> None:
    write_files(folder, {"train/good/broken.png": b"no image", "train/good/empty.png": b""})
    sizes = {sample.path: (sample.width, sample.height) for sample in run(folder, tmp_path / "dataset").samples}
    assert sizes["train/good/broken.png"] == sizes["train/good/empty.png"] == (0, 0)
    assert sizes["train/good/000.png"] == (32, 32)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has no images"),
        ({"notes.txt": b"x"}, "has no images"),
        ({"test/good/0.png": photograph(0)}, "layout of the source is not recognised"),
        ({"scratch/0.png": photograph(0), "dent/1.png": photograph(1)}, "layout of the source is not recognised"),
    ],
)
def test_a_source_without_normals_is_refused_and_leaves_nothing(
    tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    (tmp_path / "part").mkdir()
    with pytest.raises(BadInput, match=sentence):
        run(write_files(tmp_path / "part", files), tmp_path / "out" / "dataset")
    assert not (tmp_path / "out").exists()


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "photo.HEIC").write_text("x")
    for source, sentence in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "file.txt", "neither a folder nor an archive"),
        (tmp_path / "photo.HEIC", "is a single picture"),
        ("https://example.org/x.zip", "give a folder, an archive"),
        ("", "give a folder, an archive"),
    ):
        with pytest.raises(BadInput, match=sentence):
            run(source, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_failed_run_keeps_the_earlier_dataset(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "dataset")
    before = checksums(tmp_path / "dataset")
    with pytest.raises(BadInput, match=r"data\.layout=mvtec fits it"):
        run(folder, tmp_path / "dataset", layout="folders")
    assert checksums(tmp_path / "dataset") == before


@pytest.mark.slow
def test_links_to_folders_are_followed_but_never_for_ever(folder: Path, tmp_path: Path) -> None:
    expected = run(folder, tmp_path / "dataset").fingerprint
    (tmp_path / "linked").mkdir()
    for name in ("train", "test", "ground_truth", "validation"):
        (tmp_path / "linked" / name).symlink_to(folder / name)
    (tmp_path / "linked" / "again").symlink_to(tmp_path / "linked")
    assert run(tmp_path / "linked", tmp_path / "dataset").fingerprint == expected


def test_links_that_lead_nowhere_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / "train/good/gone.png").symlink_to(tmp_path / "gone.png")
    (folder / "train/good/round.png").symlink_to("round.png")
    (folder / "test/again").symlink_to(folder)
    manifest = run(folder, tmp_path / "dataset")
    assert "2 links left out: nothing is where they lead (train/good/gone.png, train/good/round.png)." in manifest.notes
    assert "1 link left out: they lead to a folder that holds them (test/again)." in manifest.notes
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "0.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(BadInput, match=r"has no images.* 1 link left out: nothing is where they lead \(0.png\)"):
        run(tmp_path / "links", tmp_path / "other")


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def refused(path: str | Path):
        if Path(path).name == "scratch":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(RunFailed, match=r"cannot be brought in: Permission denied \(.*scratch\)"):
        run(folder, tmp_path / "dataset")


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.slow
def test_a_macs_names_are_the_same_set(tmp_path: Path, s3: Server) -> None:
    files = mvtec_files() | {"test/größe/é.png": photograph(7), "ground_truth/größe/é_mask.png": mask()}
    manifest = run(
        write_files(tmp_path / "linux", {composed(name): content for name, content in files.items()}),
        tmp_path / "dataset",
    )
    assert next(sample.masks for sample in manifest.samples if sample.path == composed("test/größe/é.png"))
    mixed = {
        (composed if name.startswith("ground_truth") else decomposed)(name): content for name, content in files.items()
    }
    mac = write_files(tmp_path / "mac", mixed)
    shutil.make_archive(str(tmp_path / "mac"), "zip", mac)
    bucket = new_bucket(s3)
    ObjectStore.from_environment().upload_folder(mac, Address(bucket, "mac"))
    for source in (mac, tmp_path / "mac.zip", f"s3://{bucket}/mac"):
        run(source, tmp_path / "again")
        assert checksums(tmp_path / "again") == checksums(tmp_path / "dataset")


def test_two_names_that_are_one_when_composed_are_refused(folder: Path, tmp_path: Path) -> None:
    write_files(folder, {composed("train/good/é.png"): photograph(1)})
    write_files(folder, {decomposed("train/good/é.png"): photograph(2)})
    with pytest.raises(BadInput, match=r"holds 'train/good/é.png' twice, once with composed letters .* rename one"):
        run(folder, tmp_path / "dataset")


def test_a_backslash_in_a_folder_is_part_of_the_name(folder: Path, tmp_path: Path) -> None:
    write_files(folder, {"train/good/a\\b.png": photograph(1)})
    assert "train/good/a\\b.png" in {sample.path for sample in run(folder, tmp_path / "dataset").samples}


def test_notes_are_reported_before_any_photograph_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(
        "vqi.dataset.intake.tracked", lambda items, what, total=None: events.append("photographs") or items
    )
    source = write_files(
        tmp_path / "ring", {f"{index}.png": photograph(index) for index in range(5)} | {"a.heic": b"x"}
    )
    manifest = run(source, tmp_path / "dataset", report=events.append)
    assert events[:3] == [
        "The source has no folders: all 5 photographs are taken as good parts.",
        "1 picture left out: .heic is not read (a.heic); save it as PNG, TIFF or JPEG.",
        "photographs",
    ]
    assert [event for event in events if event != "photographs"] == list(manifest.notes)


def test_all_masks_of_a_photograph_are_united(tmp_path: Path) -> None:
    other = io.BytesIO()
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), ((20, 8), (20, 8)))).save(other, "PNG")
    files = mvtec_files() | {
        "ground_truth/scratch/deep/000_mask_1.png": other.getvalue(),
        "ground_truth/scratch/deep/001/a.png": other.getvalue(),
    }
    run(write_files(tmp_path / "part", files), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    united = [dataset.mask(sample) for sample in dataset.samples("test", "defect") if sample.defect == "scratch/deep"]
    assert [int(mask.sum()) for mask in united if mask is not None] == [64 + 16, 64 + 16]


@pytest.mark.photographs
@pytest.mark.parametrize(
    ("name", "train", "calibration", "test", "masks"), [("cookie", 31, 0, 46, 32), ("magnetic_tile", 250, 0, 468, 388)]
)
def test_real_photographs(
    photographs: Path, tmp_path: Path, name: str, train: int, calibration: int, test: int, masks: int
) -> None:
    manifest = run(photographs / name, tmp_path / "dataset")
    assert Counter(sample.split for sample in manifest.samples) == Counter(
        train=train, calibration=calibration, test=test
    )
    assert sum(bool(sample.masks) for sample in manifest.samples) == masks
    assert all(sample.width > 0 for sample in manifest.samples)


def test_a_name_that_is_not_utf8_is_refused(folder: Path, tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/train/good/\xff.png")).write_bytes(photograph(0))
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(BadInput, match="is not UTF-8; rename it"):
        run(folder, tmp_path / "dataset")


def test_a_store_that_cannot_be_cached_is_read_all_the_same(
    folder: Path, tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(s3)
    ObjectStore.from_environment().upload_folder(folder, Address(bucket, "part"))
    (tmp_path / "no folder").write_text("a file where the cache should be")
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "no folder"))
    assert run(f"s3://{bucket}/part", tmp_path / "dataset").fingerprint == run(folder, tmp_path / "other").fingerprint


def test_photographs_of_one_part_share_a_group(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "dataset", group=r"good/00(\d)\.png$")
    assert {sample.group for sample in manifest.samples if sample.path.endswith("good/001.png")} == {"1"}
    assert any("1 part is named" in note for note in manifest.notes) or any(
        "parts are named" in note for note in manifest.notes
    )
    assert {sample.group for sample in run(folder, tmp_path / "plain").samples} == {""}


def grey_file(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def wide_files(highest: int, **changes: np.ndarray) -> dict[str, bytes]:
    """Normals of 16 bits whose values end at `highest`; the test photographs do not count."""
    random = np.random.default_rng(0)
    normals = {f"{n}": random.integers(0, highest + 1, (60, 60)).astype(np.uint16) for n in range(6)} | changes
    normals["0"][0, 0] = highest
    return {f"train/good/{n}.png": grey_file(values) for n, values in normals.items()} | {
        "test/dent/0.png": grey_file(np.full((60, 60), 65535, np.uint16))
    }


@pytest.mark.parametrize(
    ("highest", "white"),
    [(200, 255), (255, 255), (900, 1023), (4095, 4095), (4096, 16383), (16383, 16383), (40000, 65535)],
)
def test_white_is_where_the_range_of_the_normals_ends(tmp_path: Path, highest: int, white: int) -> None:
    manifest = run(write_files(tmp_path / "part", wide_files(highest)), tmp_path / "dataset")
    assert manifest.decoding.white_level == white
    (note,) = [note for note in manifest.notes if "White is" in note]
    assert (f"end at {highest}: {white.bit_length()} bits? White is taken as {white}" in note) == (white < 65535)
    assert Dataset(tmp_path / "dataset").image(manifest.samples[-1]).max() == highest * 255 // white


def test_hot_pixels_do_not_move_white(tmp_path: Path) -> None:
    hot = np.full((400, 400), 3000, np.uint16)
    hot[7, 9] = 65535
    manifest = run(write_files(tmp_path / "part", wide_files(4000, hot=hot)), tmp_path / "dataset")
    assert manifest.decoding.white_level == 4095
    assert any("but for 1 hot pixel" in note for note in manifest.notes)


def test_the_category_and_the_headers_know_white_better(tmp_path: Path) -> None:
    source = write_files(tmp_path / "part", wide_files(900))
    manifest = run(source, tmp_path / "dataset", white_level=4095)
    assert manifest.decoding.white_level == 4095
    assert any("as image.white_level says" in note for note in manifest.notes)
    values = np.full((4, 4), 700, np.uint16)
    files = {f"train/good/{n}.pgm": b"P5 4 4 4095\n" + (values + n).astype(">u2").tobytes() for n in range(3)}
    manifest = run(write_files(tmp_path / "stated", files), tmp_path / "dataset")
    assert manifest.decoding.white_level == 4095
    assert any("as the headers" in note for note in manifest.notes)


def float_files() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    values = [random.uniform(20, 60, (40, 60)).astype(np.float32) for _ in range(5)]
    values[0][0, 0], values[1][0, 0] = 18.5, 71.25
    return {f"train/good/{n}.tif": tiff(part, photometric="minisblack") for n, part in enumerate(values)}


@pytest.mark.parametrize("skip_damaged", [0, 3])
def test_floating_point_values_are_asked_about_once_for_the_whole_set(tmp_path: Path, skip_damaged: int) -> None:
    source = write_files(tmp_path / "part", float_files())
    question = r"^5 photographs hold floating-point values \(the first is train/good/0\.tif\), from 18\.5 to 71\.25,"
    with pytest.raises(BadInput, match=rf"{question}.*image\.range=18\.5,71\.2\."):
        run(source, tmp_path / "dataset", skip_damaged=skip_damaged)
    assert not (tmp_path / "dataset").exists()
    manifest = run(source, tmp_path / "dataset", range=(20, 70))
    assert (manifest.decoding.float_black, manifest.decoding.float_white) == (20, 70)
    assert any("they hold 18.5 to 71.25, and what lies outside is cut off" in note for note in manifest.notes)
    data = Dataset(tmp_path / "dataset")
    decoding = DecodingEntry(**data.manifest.decoding.to_dict())  # type: ignore[arg-type]
    for sample in data.manifest.samples:
        assert np.array_equal(read_photograph(source / sample.path, decoding), data.image(sample))
    assert run(source, tmp_path / "other", range=(0, 70)).fingerprint != manifest.fingerprint


def test_colour_profiles_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    plain = run(folder, tmp_path / "plain")
    assert plain.decoding.profiles
    assert (plain.profiles, replace(plain, decoding=Decoding()).fingerprint) == (0, plain.fingerprint)
    first, second = sorted((folder / "train" / "good").glob("*.png"))[:2]
    for path, profile in ((first, red_for_blue()), (second, b"damaged")):
        Image.open(path).convert("RGB").save(path, icc_profile=profile)
    manifest = run(folder, tmp_path / "dataset")
    assert manifest.profiles == 1
    assert any(note.startswith("1 photograph bears a colour profile other than sRGB") for note in manifest.notes)
    assert any(f"(the first is train/good/{second.name})" in note for note in manifest.notes)
    ignoring = run(folder, tmp_path / "ignoring", profiles="ignore")
    assert (ignoring.decoding.profiles, ignoring.profiles) == (False, 0)
    assert any("colours are taken as they are stored (image.profiles)." in note for note in ignoring.notes)
    data = Dataset(tmp_path / "dataset")
    assert data.manifest == manifest
    assert manifest.fingerprint != replace(manifest, decoding=Decoding()).fingerprint
    (sample,) = [sample for sample in manifest.samples if sample.path == f"train/good/{first.name}"]
    decoding = DecodingEntry(**manifest.decoding.to_dict())  # type: ignore[arg-type]
    assert np.array_equal(read_photograph(first, decoding), data.image(sample))
    assert not np.array_equal(read_photograph(first), data.image(sample))


def test_colours_of_a_set_with_one_profile_stay_as_they_are_stored(folder: Path, tmp_path: Path) -> None:
    plain = run(folder, tmp_path / "plain", profiles="ignore")
    photographs = [path for path in folder.rglob("*.png") if "ground_truth" not in path.parts]
    for path in photographs:
        Image.open(path).convert("RGB").save(path, icc_profile=red_for_blue())
    shared = run(folder, tmp_path / "shared")
    assert (shared.decoding.profiles, shared.profiles) == (False, 0)
    assert any("since one profile holds for the whole set" in note for note in shared.notes)
    first = plain.samples[0]
    pixels = Dataset(tmp_path / "shared").image(shared.samples[0])
    assert np.array_equal(pixels, Dataset(tmp_path / "plain").image(first))
    converted = run(folder, tmp_path / "converted", profiles="convert")
    assert (converted.decoding.profiles, converted.profiles) == (True, len(plain.samples))
    assert np.array_equal(Dataset(tmp_path / "converted").image(converted.samples[0]), pixels[..., ::-1])
    Image.open(folder / first.path).save(folder / first.path, icc_profile=None)
    mixed = run(folder, tmp_path / "mixed")
    assert (mixed.decoding.profiles, mixed.profiles) == (True, len(plain.samples) - 1)


def test_photographs_of_eight_bits_decide_nothing_about_white(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "dataset")
    assert manifest.decoding.white_level == 65535
    assert not any("White" in note for note in manifest.notes)
    assert "Masks: background is 0; 255 is defect." in manifest.notes


def test_damaged_photographs_are_left_out_up_to_a_number(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "train/good/003.png").read_bytes()
    (folder / "train/good/003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "ground_truth/scratch/deep/001_mask.png").write_bytes(b"no picture")
    names = {"train/good/003.png", "test/scratch/deep/001.png"}
    manifest = run(folder, tmp_path / "dataset", skip_damaged=2)
    assert not names & {sample.path for sample in manifest.samples}
    (note,) = [note for note in manifest.notes if "damaged" in note]
    assert note.startswith("2 damaged photographs are left out, as data.skip_damaged=2 allows:")
    assert all(name in note for name in names)
    with pytest.raises(
        BadInput, match=r"2 photographs cannot be decoded, more than the 1 of data\.skip_damaged \(.*003\.png"
    ):
        run(folder, tmp_path / "other", skip_damaged=1)
    assert names < {sample.path for sample in run(folder, tmp_path / "other").samples}


def test_a_set_whose_normals_are_all_damaged_is_refused(tmp_path: Path) -> None:
    files = {"train/good/0.png": photograph(0)[:90], "test/dent/0.png": photograph(1)}
    with pytest.raises(BadInput, match="Every normal photograph"):
        run(write_files(tmp_path / "part", files), tmp_path / "dataset", skip_damaged=5)


def test_a_large_photograph_is_not_a_damaged_one(folder: Path, tmp_path: Path) -> None:
    (folder / "train/good/large.png").write_bytes(photograph(1, side=1100))
    manifest = run(folder, tmp_path / "dataset", skip_damaged=3, max_megapixels=1)
    assert {(s.width, s.height) for s in manifest.samples if s.path == "train/good/large.png"} == {(1100, 1100)}
    with pytest.raises(BadInput, match=r"more than 1 megapixels; .*image\.max_megapixels"):
        Dataset(tmp_path / "dataset").image(next(s for s in manifest.samples if s.path == "train/good/large.png"))
    run(folder, tmp_path / "dataset", max_megapixels=2)


def rendered(folder: Path, count: int) -> Path:
    """Parts in a precise fixture, each photographed twice: the second time 3 % brighter and saved as JPEG."""
    (folder / "train/good").mkdir(parents=True)
    for number in range(count):
        pose, scene = (np.random.default_rng([1, number, purpose]) for purpose in range(2))
        image = render_photograph(position_part((128, 128), pose, 0.03), scene)
        Image.fromarray(image).save(folder / f"train/good/{number:03}.png")
        Image.fromarray(np.clip(image * 1.03, 0, 255).astype(np.uint8)).save(
            folder / f"train/good/b{number:03}.jpg", quality=90
        )
    return folder


def test_near_copies_stay_together_and_count_as_one_part(tmp_path: Path) -> None:
    source = rendered(tmp_path / "part", 15)
    manifest = run(source, tmp_path / "dataset", calibration_fraction=0.2)
    split = {sample.path.rpartition("/")[2].strip("b")[:3]: set() for sample in manifest.samples}  # type: ignore[var-annotated]
    for sample in manifest.samples:
        split[sample.path.rpartition("/")[2].strip("b")[:3]].add((sample.split, sample.group_key))
    assert all(len(of_part) == 1 for of_part in split.values())
    assert Counter(sample.split for sample in manifest.samples) == {"train": 24, "calibration": 6}
    assert any("30 photographs are near copies of others (15 groups)" in note for note in manifest.notes)
    assert run(source, tmp_path / "again", calibration_fraction=0.2).fingerprint == manifest.fingerprint
    # Names are believed: here every photograph is a part of its own.
    named = run(source, tmp_path / "named", calibration_fraction=0.2, group="(.*)")
    assert len({sample.group_key for sample in named.samples}) == 30


def test_parts_that_show_no_difference_are_not_one_part(tmp_path: Path) -> None:
    picture = rendered(tmp_path / "one", 1) / "train/good/000.png"
    (tmp_path / "part/train/good").mkdir(parents=True)
    for number in range(12):
        image = np.asarray(Image.open(picture)) + np.random.default_rng(number).integers(
            0, 2, (128, 128, 3), dtype=np.uint8
        )
        Image.fromarray(image).save(tmp_path / f"part/train/good/{number}.png")
    manifest = run(tmp_path / "part", tmp_path / "dataset")
    assert len({sample.group_key for sample in manifest.samples}) == 12
    assert any(
        "12 of 12 photographs are so alike that copies cannot be distinguished from like parts" in note
        for note in manifest.notes
    )
    assert manifest.copies_cross
    assert not run(tmp_path / "part", tmp_path / "named", group="(.*)").copies_cross


def test_a_pattern_that_matches_nothing_is_reported(folder: Path, tmp_path: Path) -> None:
    assert any(
        "data.group matches nothing in any path" in note
        for note in run(folder, tmp_path / "dataset", group="serial(x+)").notes
    )

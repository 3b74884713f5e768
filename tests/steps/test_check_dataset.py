"""The check_dataset step: page, verdict and exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from step_calls import check_dataset, ingest
from vqi.dataset.generator import generate
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import inspect_samples
from vqi.dataset.inspection_rows import InspectionRows
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.platform.settings import read_settings
from vqi.steps.check_dataset.settings import StepSettings
from vqi.storage.object_store import Address, ObjectStore

MARKUP = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generate(tmp_path / "source", seed=6, normals=10, test_normals=2, defects_each=1, size=(96, 96))
    return tmp_path / "source"


def run(source: Path, tmp_path: Path, rate: float = 0.1, page_uri: str = "") -> None:
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="auto",
        mask_suffix="_mask",
        calibration_fraction=None,
        seed=0,
        dataset=folder,
    )
    check_dataset(
        dataset=folder,
        geometry=Geometry(size=(96, 96)),
        false_reject_rate=rate,
        page=tmp_path / "page.html",
        verdict=tmp_path / "verdict.json",
        page_uri=page_uri,
    )


def test_the_page_of_a_bad_set_is_in_the_store_where_kfp_would_have_put_it(
    source: Path, tmp_path: Path, bucket: str
) -> None:
    """KFP's launcher stores no artefact of a step that failed."""
    (source / "train/good/000.png").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=f"The whole list is in s3://{bucket}/run/dataset_page") as refused:
        run(source, tmp_path, page_uri=f"minio://{bucket}/run/dataset_page")
    page = ObjectStore.from_environment().read_text(Address(bucket, "run/dataset_page"))
    assert page == (tmp_path / "page.html").read_text()
    assert str(tmp_path) not in str(refused.value)
    with pytest.raises(BadInput, match=r"The whole list is in the step's log\."):
        run(source, tmp_path / "again", page_uri="s3://no-such-bucket-of-ours/dataset_page")


@pytest.mark.slow
def test_a_sound_set_gets_a_verdict_and_a_page_of_its_own(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path)
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["done_flag"]
    assert verdict["check_pass"]
    assert verdict["error"] is None
    assert verdict["num_classes"] == 6
    assert verdict["attributes"]["train"]["samples"] == 10
    assert len(verdict["attributes"]["train"]["sample_paths"]) == 10
    assert len(set(verdict["attributes"]["test"]["sample_paths"])) == 7
    page = (tmp_path / "page.html").read_text()
    assert page.count('<img src="data:image/webp;base64,') == 27
    assert "Passes" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_a_bad_set_is_refused_after_page_and_verdict_are_written(source: Path, tmp_path: Path) -> None:
    (source / "train/good/000.png").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"flanges does not pass its check: train/good/000\.png is not an image"):
        run(source, tmp_path)
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["done_flag"]
    assert not verdict["check_pass"]
    assert verdict["error"]["type"] == "unreadable-image"
    assert "train/good/000.png" in verdict["error"]["message"]
    page = (tmp_path / "page.html").read_text()
    assert "Does not pass: 1 error" in page
    assert "cannot be shown" in page


@pytest.mark.slow
def test_names_with_markup_are_escaped(source: Path, tmp_path: Path) -> None:
    (source / "train/good/000.png").rename(source / "train/good" / MARKUP)
    (source / "train/good/001.png").rename(source / "train/good" / f"damaged {MARKUP}")
    Image.open(source / "train/good/002.png").convert("L").save(source / "train/good" / f"grey {MARKUP}")
    (source / "train/good" / f"damaged {MARKUP}").write_bytes(b"damaged")
    (source / "test/dent").rename(source / "test" / "<script>alert(2)</script>".replace("/", "_"))
    with pytest.raises(BadInput):
        run(source, tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "&lt;script&gt;" in page


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"threshold\.false_reject_rate is 0.0; it must lie between 0 and 1"):
        read_settings(StepSettings, {"threshold": {"false_reject_rate": 0.0}})


@pytest.mark.slow
@pytest.mark.photographs
def test_real_photographs_pass(photographs: Path, tmp_path: Path) -> None:
    run(photographs / "hazelnut", tmp_path, rate=0.05)
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["check_pass"]
    assert [finding["code"] for finding in verdict["findings"]] == []


def test_what_ingest_noted_gives_the_same_verdict_and_page(source: Path, tmp_path: Path) -> None:
    """With what ingest noted and described, with what it noted alone, and without notes, or with damaged ones."""
    described: dict = {}
    ingest(name="flanges", source=str(source), dataset=tmp_path / "dataset", described=described)
    assert len(described) == len(Dataset(tmp_path / "dataset").manifest.samples)
    notes, written = tmp_path / "dataset" / "inspections.bin", []
    assert len(InspectionRows(tmp_path / "dataset")) == len(described)
    for known, content in ((described, None), ({}, None), ({}, notes.read_bytes()[:-1]), ({}, b"")):
        if content is not None:
            notes.write_bytes(content)
            assert not InspectionRows(tmp_path / "dataset")
        files = {"page": tmp_path / "page.html", "verdict": tmp_path / "verdict.json"}
        check_dataset(dataset=tmp_path / "dataset", geometry=Geometry(size=(96, 96)), described=known, **files)
        written.append([file.read_bytes() for file in files.values()])
    assert written[1:] == written[:1] * 3


def test_photographs_that_ingest_noted_are_not_decoded_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tmp_path / "dataset"
    ingest(name="flanges", source=str(source), dataset=dataset)
    decoded: list[str] = []
    monkeypatch.setattr(Dataset, "image", lambda self, sample: decoded.append(sample.path))
    monkeypatch.setattr("vqi.dataset.inspection.inspect_photograph", lambda *_: pytest.fail("decoded"))
    inspections = inspect_samples(Dataset(dataset), Geometry(size=(96, 96)), ())
    assert all(inspection.image for inspection in inspections)
    assert not decoded


def test_a_set_that_no_check_follows_is_noted_where_it_is_dealt(source: Path, tmp_path: Path) -> None:
    manifests = []
    for checked in (True, False):
        manifests.append(ingest(name="flanges", source=str(source), dataset=tmp_path / f"{checked}", checked=checked))
    assert manifests[0] == manifests[1]
    assert 0 < len(InspectionRows(tmp_path / "False")) < len(InspectionRows(tmp_path / "True"))

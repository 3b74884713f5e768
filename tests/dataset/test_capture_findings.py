"""What the check says of blur, exposure and light, and of masks on nothing; and that it is silent otherwise."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from photograph_folders import write_files
from step_calls import check_dataset, ingest
from vqi.dataset.capture import capture_of
from vqi.dataset.check_record import MOST_IN_ROW, MOST_ROWS, first_paths, read_check
from vqi.dataset.checks import Finding
from vqi.dataset.findings.mask_position import sign_test
from vqi.dataset.findings.shift import ALPHA, differing_figures
from vqi.dataset.geometry import Geometry

SIDE = 64
Change = Callable[[np.ndarray], np.ndarray]


def part(number: int, defect: bool = False) -> np.ndarray:
    """A bright disc with a grain of its own; a dark bar in the upper left of it where it is a defect."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    shape = np.where((rows - 32) ** 2 + (columns - 32) ** 2 < 700, 150, 60)
    if defect:
        top, left = 12 + number % 5, 14 + number % 7
        shape[top : top + 5, left : left + 12] = 10
    return (shape[..., None] + random.normal(0, 6, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


def mask(number: int) -> np.ndarray:
    marked = np.zeros((SIDE, SIDE), np.uint8)
    top, left = 12 + number % 5, 14 + number % 7
    marked[top : top + 5, left : left + 12] = 255
    return marked


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def check(
    folder: Path, change: dict[str, Change] | None = None, masks: Change = np.asarray, exchanged: int = 0
) -> dict[str, Finding]:
    """Findings by code, of 24 normals, 6 tested and 14 defects with masks; `change` is applied by the start of the
    path."""
    photographs = {f"train/good/{number:02}.png": part(number) for number in range(24)}
    photographs |= {f"test/good/{number:02}.png": part(100 + number) for number in range(6)}
    photographs |= {f"test/bar/{number:02}.png": part(200 + number, defect=True) for number in range(14)}
    for start, apply in (change or {}).items():
        photographs |= {path: apply(pixels) for path, pixels in photographs.items() if path.startswith(start)}
    files = {path: png(pixels) for path, pixels in photographs.items()}
    for number in range(14):
        drawn = mask(200 + (number + exchanged) % 14)
        files[f"ground_truth/bar/{number:02}_mask.png"] = png(np.ascontiguousarray(masks(drawn)))
    write_files(folder / "set", files)
    ingest(name="discs", source=str(folder / "set"), dataset=folder / "dataset")
    verdict = check_dataset(
        dataset=folder / "dataset",
        page=folder / "page.html",
        verdict=folder / "verdict.json",
        paths=folder / "findings.csv",
        geometry=Geometry(size=(SIDE, SIDE)),
    )
    return {finding.code: finding for finding in verdict.findings}


NEW = {
    "blurred",
    "over-exposed",
    "under-exposed",
    "other-capture",
    "mask-elsewhere",
    "masks-elsewhere",
    "masks-turned",
}


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)))


def test_a_sound_set_has_none_of_it(tmp_path: Path) -> None:
    assert not NEW & check(tmp_path).keys()


def test_one_blurred_and_one_clipped_photograph(tmp_path: Path) -> None:
    findings = check(
        tmp_path,
        {
            "train/good/03": blurred,
            "train/good/05": lambda pixels: (pixels * 2.0).clip(0, 255).astype(np.uint8),
        },
    )
    assert findings["blurred"].paths == (("train/good/03.png",),)
    assert findings["over-exposed"].paths == (("train/good/05.png",),)
    assert "mask-elsewhere" not in findings
    page, record = (tmp_path / "page.html").read_text(), read_check(tmp_path / "verdict.json")
    for code in ("blurred", "over-exposed"):
        (example,) = findings[code].examples
        assert f"{example.path}: {example.caption}" in page
        written = next(finding for finding in record.findings if finding.code == code)
        assert (written.severity, written.count) == ("warning", 1)
    assert record.check_pass
    assert record.unusual
    assert {"train/good/03.png", "train/good/05.png"} & {normal.path for normal in record.unusual}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "findings.csv").read_text())))
    assert {"severity": "warning", "code": "blurred", "row": "1", "path": "train/good/03.png"} in rows


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("brightness", lambda pixels: (pixels * 0.8).astype(np.uint8)),
        ("sharpness", blurred),
        ("red less green", lambda pixels: (pixels * [1, 0.95, 1]).astype(np.uint8)),
    ],
)
def test_a_test_split_of_another_camera_or_light(tmp_path: Path, what: str, change: Change) -> None:
    finding = check(tmp_path, {"test/": change})["other-capture"]
    assert what in finding.sentence
    assert {path.split("/")[1] for (path,) in finding.paths} == {"good"}
    assert {example.caption.split(":")[0] for example in finding.examples} == {"train", "test"}


@pytest.mark.parametrize("values", ["same", "other"])
def test_equal_figures_raise_no_alarm_and_others_do(values: str) -> None:
    random = np.random.default_rng(0)
    figures = random.normal(100, 5, (200, 60, 4))
    if values == "other":
        figures[:, 50:, 2] += 20
    names = [differing_figures(one, 50) for one in figures[: 5 if values == "other" else 200]]
    assert all(one == (["blue_green"] if values == "other" else []) for one in names)
    assert ALPHA <= 0.001


def test_masks_that_are_mirrored(tmp_path: Path) -> None:
    findings = check(tmp_path, masks=lambda drawn: drawn[::-1])
    assert "mirrored top to bottom" in findings["masks-turned"].sentence
    assert len(findings["masks-turned"].paths) == 14


def test_masks_that_are_shifted(tmp_path: Path) -> None:
    findings = check(tmp_path, masks=lambda drawn: np.roll(drawn, (26, 22), (0, 1)))
    assert "masks-elsewhere" in findings or "masks-turned" in findings
    (example, *_) = findings["mask-elsewhere"].examples
    assert "deviations at the mask" in example.caption


def test_few_gains_are_chance() -> None:
    assert sign_test(5, 5) == pytest.approx(0.623, abs=1e-3)
    assert sign_test(12, 0) == 2**-12


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (10, 300), (500, 17)])
def test_any_size_has_figures(size: tuple[int, int]) -> None:
    capture = capture_of(np.full((*size, 3), 255, np.uint8), b"")
    assert (capture.white, capture.black, capture.brightness) == (1, 0, pytest.approx(255, abs=0.1))
    assert np.isfinite(capture.sharpness)


def test_the_camera_that_a_file_names() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 5"
    Image.fromarray(part(0)).save(file, "JPEG", exif=exif)
    assert capture_of(part(0), file.getvalue()).camera == "Maker Model 5"


def test_a_verdict_lists_the_first_of_many_paths() -> None:
    rows = tuple(tuple(f"{row}/{number}" for number in range(MOST_IN_ROW + 5)) for row in range(MOST_ROWS + 5))
    listed = first_paths(rows)
    assert len(listed) == MOST_ROWS
    assert {len(row) for row in listed} == {MOST_IN_ROW}
    assert json.dumps(listed[0]) == json.dumps(rows[0][:MOST_IN_ROW])

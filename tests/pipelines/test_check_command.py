from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from typer.testing import CliRunner

from photograph_folders import photograph, write_files
from vqi.dataset.generator import generate
from vqi.platform.errors import BadInput
from vqi_pipelines.commands.check import check

application = typer.Typer()
application.command()(check)


def test_findings_are_printed_and_no_name_drives_the_terminal(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "found\x1b[2J"
    generate(parts, seed=1, normals=6, test_normals=2, defects_each=1, size=(96, 96))
    Image.new("RGB", (96, 96), "grey").save(parts / "train" / "good" / "blank.png")
    result = CliRunner().invoke(application, [str(parts), "--out", str(out), "--set", "image.size=[96, 96]"])
    assert result.exit_code == 0, result.output
    assert "warning: 1 image of nearly one colour" in result.stdout
    assert f"Page: {tmp_path}/found\\x1b[2J/check.html\n" in result.stdout
    assert (out / "check.html").is_file()
    assert all(line.isprintable() for line in result.stdout.split("\n"))


def test_what_is_taken_as_good_is_reported_first_and_everywhere(tmp_path: Path) -> None:
    source = write_files(
        tmp_path / "ring", {f"{index}.png": photograph(index) for index in range(12)} | {"x.gif": b"x"}
    )
    result = CliRunner().invoke(application, [str(source), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "note: The source has no folders: all 12 photographs are taken as good parts."
    assert lines[1] == "note: 1 picture left out: .gif is not read (x.gif); save it as PNG, TIFF or JPEG."
    assert {"train: 10 good", "test: 2 good"} <= set(lines)
    notes = [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]
    assert json.loads((tmp_path / "out/verdict.json").read_text())["notes"] == notes
    page = (tmp_path / "out/check.html").read_text()
    assert all(note in page for note in notes)
    assert page.index(notes[0]) < page.index("What the set holds")


def test_a_set_that_is_refused_leaves_no_earlier_verdict(tmp_path: Path) -> None:
    names = [f"{kind}_{index}.png" for kind in ("OK", "NG") for index in range(6)]
    source = write_files(tmp_path / "ring", {name: photograph(index) for index, name in enumerate(names)})
    write_files(tmp_path / "out", {"verdict.json": b"{}", "check.html": b"", "mine.txt": b""})
    result = CliRunner().invoke(application, [str(source), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, BadInput)
    assert "6 of 12 names speak of a defect (NG_0.png, NG_1.png, NG_2.png, ...)" in str(result.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_set_that_fails_still_prints_its_notes_and_warnings(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    generate(parts, seed=1, normals=6, test_normals=2, defects_each=1, size=(128, 96))
    photograph_path = parts / "test/dent/000.png"
    with Image.open(photograph_path) as image:
        turned = Image.Exif()
        turned[0x0112] = 6
        image.convert("RGB").save(photograph_path.with_suffix(".jpg"), exif=turned)
    photograph_path.unlink()
    (parts / "train/good/a.heic").write_bytes(b"x")
    result = CliRunner().invoke(application, [str(parts), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, BadInput)
    assert "The mask ground_truth/dent/000_mask.png has" in str(result.exception)
    assert "turn their masks too" in str(result.exception)
    assert "note: 1 picture left out: .heic is not read (train/good/a.heic)" in result.stdout
    assert "warning: 1 image is turned by its EXIF orientation before use." in result.stdout
    assert "000_mask.png has" not in result.stdout, "what ends the check is said once"
    verdict = json.loads((tmp_path / "out/verdict.json").read_text())
    assert any(".heic is not read" in note for note in verdict["notes"])
    assert ".heic is not read" in (tmp_path / "out/check.html").read_text()


def test_later_pages_are_reported(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    generate(parts, seed=1, normals=6, test_normals=2, defects_each=1, size=(96, 96))
    pages = [Image.fromarray(np.full((96, 96, 3), level, np.uint8)) for level in (60, 200)]
    with Image.open(parts / "train/good/000.png") as image:
        image.convert("RGB").save(parts / "train/good/pages.tif", save_all=True, append_images=pages)
    result = CliRunner().invoke(application, [str(parts), "--out", str(tmp_path / "out")])
    assert (
        "warning: 1 image holds more than one page (the first 3): only page 1 is read (image.page); save each page"
        in result.stdout
    )
    findings = json.loads((tmp_path / "out/verdict.json").read_text())["findings"]
    assert next(finding for finding in findings if finding["code"] == "more-pages")["paths"] == [
        ["train/good/pages.tif"]
    ]

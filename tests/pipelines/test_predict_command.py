from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from toy_bundle import photograph
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.photographs import Photographs, name_of
from vqi.deployment.predictor import Unreadable
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore
from vqi_pipelines.commands.predict import distinct, predict

application = typer.Typer()
application.command()(predict)


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with photographs in `line`: three good, one defect in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line" / "late").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(photograph(number)).save(tmp_path / "line" / f"{number}.png")
    Image.fromarray(photograph(7, defect=True)).save(tmp_path / "line" / "late" / "7.PNG")
    (tmp_path / "line" / "notes.txt").write_text("no photograph")
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


def test_a_folder_is_predicted_and_everything_written(line: Path, toy_bundle: Path) -> None:
    result = run(toy_bundle, "line", "--out", "found")
    assert result.exit_code == 0, result.output
    assert "4 images: 3 good, 1 defect, 0 implausible, 0 unreadable." in result.stdout
    assert "At most 1 of 9 normals is rejected." in result.stdout
    written = json.loads((line / "found" / "predictions.json").read_text())
    assert [(Path(p["image"]).name, p["decision"]) for p in written["predictions"]] == [
        ("0.png", "good"),
        ("1.png", "good"),
        ("2.png", "good"),
        ("7.PNG", "defect"),
    ]
    assert all((line / "found" / p["picture"]).is_file() for p in written["predictions"])
    assert len((line / "found" / "predictions.csv").read_text().splitlines()) == 5


def test_json_alone_is_on_standard_output(line: Path, toy_bundle: Path) -> None:
    result = run(toy_bundle, "line/*.png", "--json", "--backend", "onnxruntime", "--batch", "2", "--no-pictures")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value == json.loads((line / "predictions" / "predictions.json").read_text())
    assert (value["backend"], value["counts"]["images"]) == ("onnxruntime", 3)
    assert not (line / "predictions" / "pictures").exists()


def test_a_bad_image_is_named_and_sets_the_exit_code(line: Path, toy_bundle: Path) -> None:
    (line / "line" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run(toy_bundle, "line", "absent.png", "--json")
    assert result.exit_code == 2
    value = json.loads(result.stdout)
    assert value["counts"] == {"images": 5, "good": 2, "defect": 1, "implausible": 0, "unreadable": 2}
    assert "vqi predict: absent.png names no file." in result.stderr
    assert "1.png is not an image" in result.stderr


def test_an_implausible_photograph_is_never_good(line: Path, toy_bundle: Path) -> None:
    Image.new("RGB", (96, 80)).save(line / "line" / "black.png")
    Image.fromarray(photograph(1)).resize((48, 40)).save(line / "line" / "half.png")
    Image.fromarray(photograph(1)).rotate(90, expand=True).save(line / "line" / "portrait.png")
    result = run(toy_bundle, "line")
    assert result.exit_code == 2
    assert "7 images: 3 good, 1 defect, 3 implausible, 0 unreadable." in result.stdout
    assert "Implausible: outside of what 8 good photographs of the set have" in result.stdout
    for name, reason in (
        ("black", "mean brightness is 0, "),
        ("half", "pixels) is 44, "),
        ("portrait", "aspect (width by height) is 0.833, "),
    ):
        assert f"vqi predict: line/{name}.png is not a plausible photograph of this set: its " in result.stderr
        assert reason in result.stderr
    written = json.loads((line / "predictions" / "predictions.json").read_text())
    assert {Path(p["image"]).stem for p in written["predictions"] if p["decision"] == "implausible"} == {
        "black",
        "half",
        "portrait",
    }


def test_an_implausible_photograph_may_be_scored_and_is_named_all_the_same(line: Path, toy_bundle: Path) -> None:
    Image.new("L", (96, 80), 255).save(line / "line" / "white.png")
    result = run(toy_bundle, "line", "--implausible", "score", "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["counts"]["implausible"] == 0
    (white,) = [p for p in value["predictions"] if p["image"] == "line/white.png"]
    assert white["decision"] in ("good", "defect")
    assert "its mean brightness is 255" in white["implausible"]
    assert "line/white.png is not a plausible photograph" in result.stderr
    refused = run(toy_bundle, "line", "--implausible", "maybe")
    assert isinstance(refused.exception, BadInput)


def test_another_threshold_states_what_it_promises(line: Path, toy_bundle: Path) -> None:
    scores = sorted(entry.score for entry in read_sidecar(toy_bundle).calibration.scores)
    low = json.loads(run(toy_bundle, "line", "--json", "--threshold", str((scores[1] + scores[2]) / 2)).stdout)
    assert (
        "set by hand, 2 of the 8 calibration scores lie at or below it: about 77.8 % of good parts"
        in low["threshold"]["guarantee"]
    )
    assert low["threshold"]["false_reject_rate"] == pytest.approx(7 / 9)
    assert low["threshold"]["requested_false_reject_rate"] is None
    assert all(p["threshold"] == low["threshold"]["image"] for p in low["predictions"])
    high = run(toy_bundle, "line", "--threshold", "1e6")
    assert "4 images: 4 good, 0 defect" in high.stdout
    assert "Defect: a score above 1000000.0000. The threshold of 1e+06 was set by hand, 8 of the 8" in high.stdout
    assert "8 photographs cannot promise less" in high.stdout
    rate = json.loads(run(toy_bundle, "line", "--json", "--false-reject-rate", "0.5").stdout)
    assert rate["threshold"]["image"] == pytest.approx(scores[4])
    assert "At most 50 % of good parts are rejected on average" in rate["threshold"]["guarantee"]
    assert (
        "0.1 % was asked for, which takes at least 999"
        in run(toy_bundle, "line", "--false-reject-rate", "0.001").stdout
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--threshold", "1", "--false-reject-rate", "0.1"), "exclude each other"),
        (("--threshold", "nan"), "The threshold is nan"),
        (("--false-reject-rate", "0"), "must lie between 0 and 1"),
        (("--false-reject-rate", "nan"), "must lie between 0 and 1"),
    ],
)
def test_a_threshold_that_is_none_is_refused(
    line: Path, toy_bundle: Path, options: tuple[str, ...], sentence: str
) -> None:
    result = run(toy_bundle, "line", *options)
    assert isinstance(result.exception, BadInput)
    assert sentence in str(result.exception)
    assert not (line / "predictions").exists()


def test_maps_and_masks_are_written_where_they_are_wanted(line: Path, toy_bundle: Path) -> None:
    for _ in range(2):  # earlier ones are replaced
        assert run(toy_bundle, "line", "--maps", "--masks", "--no-pictures").exit_code == 0
    written = json.loads((line / "predictions" / "predictions.json").read_text())["predictions"]
    (defect,) = [p for p in written if p["decision"] == "defect"]
    mask = np.asarray(Image.open(line / "predictions" / defect["mask"]))
    values = np.asarray(Image.open(line / "predictions" / defect["map"]))
    np.testing.assert_array_equal(mask == 255, values > read_sidecar(toy_bundle).thresholds.pixel)
    assert mask[40, 50] == 255
    assert sorted(os.listdir(line / "predictions")) == ["maps", "masks", "predictions.csv", "predictions.json"]


@pytest.mark.parametrize("images", ["absent.png", "absent/*.png", "empty"])
def test_nothing_to_predict_is_bad_input(line: Path, toy_bundle: Path, images: str) -> None:
    (line / "empty").mkdir()
    result = run(toy_bundle, images)
    assert isinstance(result.exception, BadInput)
    assert str(result.exception).startswith(f"There is nothing to predict: {images} ")
    assert not (line / "predictions").exists()


def test_what_is_named_twice_is_predicted_once_and_results_are_never_input(line: Path) -> None:
    (line / "predictions").mkdir()
    Image.fromarray(photograph(1)).save(line / "predictions" / "panel.png")
    Image.fromarray(photograph(1)).save(line / "[0].png")
    listed = distinct(Photographs([".", "line/0.png", "line/**/*.PNG", "[0].png"], left_out=line / "predictions"))
    assert [name_of(item) for item in listed] == [
        "[0].png",
        "line/0.png",
        "line/1.png",
        "line/2.png",
        "line/late/7.PNG",
    ]
    assert not any(isinstance(item, Unreadable) for item in listed)


def test_what_is_passed_over_in_a_folder_is_named(line: Path, toy_bundle: Path) -> None:
    Image.fromarray(photograph(4)).save(line / "line" / "4.jfif", "JPEG")
    Image.fromarray(photograph(5)).save(line / "line" / "5.gif")
    Image.fromarray(photograph(6)).save(line / "line" / "6.jp2")
    (line / "line" / "8.HEIC").write_bytes(b"x")
    (line / "line" / "night.zip").write_bytes(b"x")
    (line / "line" / "Thumbs.db").write_bytes(b"x")
    Image.fromarray(photograph(6)).save(line / "line" / "frame9", "PNG")
    result = run(toy_bundle, "line", "line", "--json", "--no-pictures")
    assert result.exit_code == 2
    value = json.loads(result.stdout)
    assert value["counts"]["images"] == 10
    assert value["counts"]["unreadable"] == 5
    for name in ("5.gif", "6.jp2", "8.HEIC", "night.zip", "frame9"):
        assert result.stderr.count(f"vqi predict: line/{name} was passed over: ") == 1
    assert "Thumbs" not in result.stderr


def test_a_file_that_is_named_itself_is_read_or_refused_by_its_content(line: Path, toy_bundle: Path) -> None:
    Image.fromarray(photograph(4)).save(line / "4.gif", "PNG")
    result = run(toy_bundle, "4.gif", "line/notes.txt", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["counts"] == {
        "images": 2,
        "good": 1,
        "defect": 0,
        "implausible": 0,
        "unreadable": 1,
    }


def test_later_pages_are_not_good(line: Path, toy_bundle: Path) -> None:
    pages = [Image.fromarray(photograph(number, defect=number == 2)) for number in range(3)]
    pages[0].save(line / "pages.tif", save_all=True, append_images=pages[1:])
    result = run(toy_bundle, "pages.tif", "--json")
    assert result.exit_code == 2
    assert "vqi predict: pages.tif holds 3 pages, only the first was inspected" in result.stderr
    value = json.loads(result.stdout)
    assert [prediction["image"] for prediction in value["predictions"]] == ["pages.tif, pages 2 to 3", "pages.tif"]


def test_links_to_folders_are_followed_but_never_for_ever(line: Path) -> None:
    (line / "line" / "round").symlink_to(line)
    (line / "other").mkdir()
    Image.fromarray(photograph(1)).save(line / "other" / "0.png")
    (line / "line" / "linked").symlink_to(line / "other")
    names = [name_of(item) for item in distinct(Photographs(["line"], left_out=line / "predictions"))]
    assert "line/linked/0.png" in names
    assert len(names) == 5


def test_a_folder_of_other_things_is_not_replaced(line: Path, toy_bundle: Path) -> None:
    result = run(toy_bundle, "line", "--out", "line")
    assert isinstance(result.exception, BadInput)
    assert (line / "line" / "0.png").is_file()


def test_a_failed_run_keeps_the_earlier_predictions(
    line: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(toy_bundle, "line").exit_code == 0
    before = (line / "predictions" / "predictions.json").read_text()

    def fails(self, *_):
        raise OSError("disk full")

    monkeypatch.setattr("vqi.deployment.prediction_writer.PredictionWriter.add", fails)
    assert run(toy_bundle, "line/late").exit_code == 1
    assert (line / "predictions" / "predictions.json").read_text() == before
    assert sorted(os.listdir(line)) == ["line", "predictions"]


def test_the_command_runs_where_torch_cannot_be_imported(line: Path, toy_bundle: Path) -> None:
    program = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "kfp", "matplotlib"), None))
import typer
from vqi_pipelines.commands.predict import predict
typer.run(predict)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, toy_bundle, "line", "--json"], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["defect"] == 1


def test_results_are_lines_of_json_as_they_are_decided(line: Path, toy_bundle: Path) -> None:
    (line / "line" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run(toy_bundle, "line", "--json-lines", "--only", "defects", "--results", "jsonl,parquet")
    assert result.exit_code == 2
    lines = [json.loads(text) for text in result.stdout.splitlines()]
    assert [(entry["image"], entry.get("decision")) for entry in lines] == [
        ("line/1.png", None),
        ("line/late/7.PNG", "defect"),
    ]
    assert (line / "predictions" / "predictions.jsonl").read_text() == result.stdout
    assert sorted(os.listdir(line / "predictions")) == ["pictures", "predictions.jsonl", "predictions.parquet"]
    assert "4 images: 2 good, 1 defect, 0 implausible, 1 unreadable." in result.stderr
    assert result.stderr.count("1.png is not an image") == 1


def test_names_may_come_from_standard_input(line: Path, toy_bundle: Path) -> None:
    result = CliRunner().invoke(
        application, [str(toy_bundle), "line/0.png", "-"], input="line/late\n\nabsent.png\nline/1.png\n"
    )
    assert result.exit_code == 2
    assert "4 images: 2 good, 1 defect, 0 implausible, 1 unreadable." in result.stdout
    assert "absent.png names no file." in result.stderr
    empty = CliRunner().invoke(application, [str(toy_bundle), "-", "--out", "none"], input="\n")
    assert str(empty.exception) == "There is nothing to predict: standard input held no line."
    assert not (line / "none").exists()


def test_a_remote_photograph_is_pictured_and_its_pages_are_counted(line: Path, toy_bundle: Path, bucket: str) -> None:
    pages = [Image.fromarray(photograph(number)) for number in range(2)]
    pages[0].save(line / "pages.tif", save_all=True, append_images=pages[1:])
    store = ObjectStore.from_environment()
    for name in ("pages.tif", "line/late/7.PNG"):
        store.upload_file(line / name, Address(bucket, name))
    result = run(toy_bundle, f"s3://{bucket}/pages.tif", f"s3://{bucket}/line", "--json")
    assert result.exit_code == 2
    value = json.loads(result.stdout)
    assert [entry["image"].removeprefix(f"s3://{bucket}/") for entry in value["predictions"]] == [
        "pages.tif",
        "pages.tif, page 2",
        "line/late/7.PNG",
    ]
    assert all(
        (line / "predictions" / entry["picture"]).is_file() for entry in value["predictions"] if "picture" in entry
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--json", "--json-lines"), "exclude each other"),
        (("--results", "xlsx"), "'xlsx' is not a format of results"),
        (("--only", "bad"), "only is 'bad'"),
        (("--maps", "--map-format", "exr"), "map-format is 'exr'"),
    ],
)
def test_a_choice_that_does_not_exist_leaves_nothing(
    line: Path, toy_bundle: Path, options: tuple[str, ...], sentence: str
) -> None:
    result = run(toy_bundle, "line", *options)
    assert isinstance(result.exception, BadInput)
    assert sentence in str(result.exception)
    assert os.listdir(line) == ["line"]

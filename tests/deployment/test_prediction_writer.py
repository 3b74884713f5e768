from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from toy_bundle import photograph
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.prediction_record import BoxRecord, DecisionCounts, read_predictions
from vqi.deployment.prediction_writer import PredictionWriter, check_destination
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.platform.errors import BadInput


def prediction(name: str) -> Prediction:
    return Prediction(name, 0.25, "defect", np.full((80, 96), 0.2, np.float32), [(1, 2, 3, 4, 0.2)], 0.1, 0.01)


def test_results_are_written_as_json_csv_and_pictures(toy_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph(1)).save(tmp_path / "a.png")
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino")
    writer.add(prediction(str(tmp_path / "a.png")))
    writer.add(Unreadable("b.png", "b.png is not a file."))
    summary = writer.finish()
    assert read_predictions(tmp_path) == summary
    assert summary.counts == DecisionCounts(images=2, good=0, defect=1, implausible=0, unreadable=1)
    first, second = summary.predictions
    assert first.boxes == (BoxRecord(x1=1, y1=2, x2=3, y2=4, score=0.2),)
    assert second.values() == {"image": "b.png", "error": "b.png is not a file."}
    with Image.open(tmp_path / str(first.picture)) as picture:
        assert picture.width > 96
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [(row["decision"], row["boxes"], row["error"]) for row in rows] == [
        ("defect", "1", ""),
        ("", "", "b.png is not a file."),
    ]


def test_maps_and_masks_are_files_at_the_photographs_size(toy_bundle: Path, tmp_path: Path) -> None:
    values = np.full((80, 96), 0.05, np.float32)
    values[:8] = np.nan
    values[30:50, 40:60] = 0.2
    result = Prediction("line/1.png", 0.25, "defect", values, [(40, 30, 60, 50, 0.2)], 0.1, 0.01)
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino", pictures=False, maps=True, masks=True)
    record = writer.add(result)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / str(record.map))), values)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / str(record.map)), cv2.IMREAD_UNCHANGED), values)
    mask = np.asarray(Image.open(tmp_path / str(record.mask)))
    assert (mask.dtype, mask.shape, sorted(np.unique(mask))) == (np.uint8, (80, 96), [0, 255])
    np.testing.assert_array_equal(mask == 255, np.nan_to_num(values) > 0.1)
    assert record.picture is None
    assert "picture" not in record.values()
    writer.finish()
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert (row["map"], row["mask"]) == (record.map, record.mask)


def test_nothing_is_drawn_where_nothing_is_to_be_boxed(toy_bundle: Path, tmp_path: Path) -> None:
    result = Prediction("1.png", 0.0, "good", np.ones((80, 96), np.float32), [], float("inf"), 0.01)
    record = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino", pictures=False, masks=True).add(result)
    assert not np.asarray(Image.open(tmp_path / str(record.mask))).any()


def test_frames_in_memory_are_pictured_and_may_share_a_name(toy_bundle: Path, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino", maps=True)
    grey = photograph(1)[..., 0]
    records = [writer.add(prediction("image 0"), frame) for frame in (grey, grey[..., None], photograph(2))]
    assert len({record.picture for record in records} | {record.map for record in records}) == 6
    assert all((tmp_path / str(record.picture)).is_file() for record in records)
    assert [record.image for record in records] == ["image 0"] * 3
    with pytest.raises(BadInput, match="picture of image 0 cannot be drawn, since it is not a file; give add"):
        writer.add(prediction("image 0"))


def test_an_implausible_photograph_is_recorded_with_its_reason(toy_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph(1)).save(tmp_path / "a.png")
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino")
    record = writer.add(
        replace(prediction(str(tmp_path / "a.png")), decision="implausible", implausible="a.png is black.")
    )
    summary = writer.finish()
    assert summary.counts == DecisionCounts(images=1, good=0, defect=0, implausible=1, unreadable=0)
    assert str(record.picture).startswith("pictures/implausible/")
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert (row["decision"], row["implausible"], row["error"]) == ("implausible", "a.png is black.", "")


@pytest.mark.parametrize(
    "name", ["=cmd()|x.png", "a\x1b[2Jb.png", "two\nlines.png", "\udcff.png", "<script>alert(1)</script>.png"]
)
def test_hostile_names_stay_names(toy_bundle: Path, tmp_path: Path, name: str) -> None:
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino", pictures=False)
    writer.add(prediction(name))
    writer.finish()
    assert json.loads((tmp_path / "predictions.json").read_text(encoding="ascii"))["predictions"][0]["image"] == name
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open(newline=""))
    assert row["image"].isprintable()
    assert not row["image"].startswith("=")


def test_only_earlier_predictions_are_replaced(tmp_path: Path) -> None:
    check_destination(tmp_path / "new")
    check_destination(tmp_path)
    (tmp_path / "predictions.json").write_text("{}")
    check_destination(tmp_path)
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(BadInput, match="holds other things than predictions"):
        check_destination(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        check_destination(tmp_path / "thesis.txt")

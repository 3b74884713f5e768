from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_bundle import photograph
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.prediction_writer import PredictionWriter, check_destination
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.platform.errors import BadInput


def prediction(name: str) -> Prediction:
    return Prediction(name, 0.25, "defect", np.full((80, 96), 0.2, np.float32), [(1, 2, 3, 4, 0.2)], 0.1, 0.01)


def test_results_are_written_as_json_csv_and_pictures(toy_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph(1)).save(tmp_path / "a.png")
    writer = PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino")
    writer.add(prediction(str(tmp_path / "a.png")))
    writer.add(Unreadable("b.png", "b.png is no file."))
    summary = writer.finish()
    assert json.loads((tmp_path / "predictions.json").read_text()) == summary
    assert summary["counts"] == {"images": 2, "good": 0, "defect": 1, "unreadable": 1}
    first, second = summary["predictions"]
    assert first["boxes"] == [{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "score": 0.2}]
    assert second == {"image": "b.png", "error": "b.png is no file."}
    with Image.open(tmp_path / first["picture"]) as picture:
        assert picture.width > 96
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [(row["decision"], row["boxes"], row["error"]) for row in rows] == [("defect", "1", ""), ("", "", "b.png is no file.")]


@pytest.mark.parametrize("name", ["=cmd()|x.png", "a\x1b[2Jb.png", "two\nlines.png", "\udcff.png", "<script>alert(1)</script>.png"])
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

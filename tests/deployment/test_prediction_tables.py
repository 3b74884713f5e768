from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from vqi.deployment import prediction_tables
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.prediction_record import BoxRecord, PredictionRecord
from vqi.deployment.prediction_tables import open_tables, parse_results
from vqi.deployment.prediction_writer import PredictionWriter, check_destination
from vqi.deployment.predictor import Prediction, Unreadable
from vqi.platform.errors import BadInput

DEFECT = PredictionRecord(
    image="a.png",
    decision="defect",
    score=0.25,
    threshold=0.1,
    width=96,
    height=80,
    boxes=(BoxRecord(x1=1, y1=2, x2=3, y2=4, score=0.2),),
    seconds=0.01,
    map_range=(0.0, 0.2),
)
UNREADABLE = PredictionRecord(image="caf\udce9.png", error="It is not an image.")


def test_json_lines_and_parquet_hold_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_tables, "ROW_GROUP", 2)
    tables = open_tables(tmp_path, ["json", "jsonl", "parquet"], False)
    for table in tables:
        for record in (DEFECT, UNREADABLE, DEFECT):
            table.add(record)
        table.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl", "predictions.parquet"]
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(record.values())) for record in (DEFECT, UNREADABLE, DEFECT)]
    file = pyarrow.parquet.ParquetFile(tmp_path / "predictions.parquet")
    assert file.num_row_groups == 2
    first, second, _ = file.read().to_pylist()
    assert first["boxes"] == [{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "score": 0.2}]
    assert (first["score"], first["map_range"], first["error"]) == (0.25, [0.0, 0.2], None)
    assert (second["image"], second["score"], second["boxes"]) == ("caf\\udce9.png", None, None)


def test_no_rows_are_a_parquet_file_too(tmp_path: Path) -> None:
    open_tables(tmp_path, ["parquet"], False)[0].close()
    assert pyarrow.parquet.read_table(tmp_path / "predictions.parquet").num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install 'vqi\[parquet\]'"):
        open_tables(tmp_path, ["parquet"], False)


def test_a_list_of_results_is_read_or_refused() -> None:
    assert parse_results(" csv, parquet,csv") == ("csv", "parquet")
    with pytest.raises(BadInput, match=r"'jsonlines' is not a format of results. Did you mean 'jsonl'\?"):
        parse_results("jsonlines")
    with pytest.raises(BadInput, match="No file of results is named"):
        parse_results(",")


def test_only_what_is_not_good_is_written_and_all_are_counted(toy_bundle: Path, tmp_path: Path) -> None:
    values = np.full((80, 96), 0.2, np.float32)
    sidecar = read_sidecar(toy_bundle)
    writer = PredictionWriter(
        tmp_path, sidecar, "openvino", False, True, map_format="png", results=["jsonl"], only="defects"
    )
    assert writer.add(Prediction("good.png", 0.0, "good", values, [], 0.1, 0.01)) is None
    record = writer.add(Prediction("bad.png", 0.3, "defect", values, [], 0.1, 0.01))
    writer.add(Unreadable("none.png", "none.png is not a file."))
    summary = writer.finish()
    assert record is not None
    assert record.map is not None
    assert (Path(record.map).suffix, record.map_range) == (".png", (values[0, 0], values[0, 0]))
    assert (summary.counts.images, summary.counts.good, summary.counts.defect, summary.counts.unreadable) == (
        3,
        1,
        1,
        1,
    )
    assert (summary.predictions, writer.records) == ((), [])
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "predictions.jsonl"]
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 1
    check_destination(tmp_path)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [({"only": "bad"}, "only is 'bad'; it must be all or defects"), ({"map_format": "exr"}, "map-format is 'exr'")],
)
def test_a_choice_that_does_not_exist_is_refused(
    toy_bundle: Path, tmp_path: Path, choice: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        PredictionWriter(tmp_path, read_sidecar(toy_bundle), "openvino", **choice)  # type: ignore[arg-type]

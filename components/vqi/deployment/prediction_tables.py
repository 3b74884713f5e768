"""Files of results that grow with each image: JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

from vqi.deployment.prediction_record import PREDICTIONS, PredictionRecord, ResultsFormat
from vqi.evaluation.predictions import UNALIGNED
from vqi.platform.errors import BadInput, closest
from vqi.platform.printing import printable

CSV, JSON_LINES, PARQUET = "predictions.csv", "predictions.jsonl", "predictions.parquet"
COLUMNS = (
    "image",
    "decision",
    "score",
    "threshold",
    "boxes",
    "seconds",
    "picture",
    "map",
    "mask",
    "implausible",
    "error",
)
# What a Parquet file holds at once in memory, and reads at once.
ROW_GROUP = 1000
DEFAULT_RESULTS: tuple[ResultsFormat, ...] = ("json", "csv")


class Table(Protocol):
    """A file of results in a folder; `close` completes it. `aligned`: photographs are aligned, and a table of fixed
    columns has one that says which could not be."""

    name: ClassVar[str]

    def __init__(self, folder: Path, aligned: bool) -> None: ...

    def add(self, record: PredictionRecord) -> None: ...

    def close(self) -> None: ...


class CsvTable:
    """A row an image, for spreadsheets."""

    name: ClassVar[str] = CSV

    def __init__(self, folder: Path, aligned: bool) -> None:
        self._file = open(folder / CSV, "w", encoding="utf-8", newline="")  # noqa: SIM115  # closed by close
        self._columns = [*COLUMNS, UNALIGNED] if aligned else COLUMNS
        self._table = csv.DictWriter(self._file, self._columns, lineterminator="\n")
        self._table.writeheader()

    def add(self, record: PredictionRecord) -> None:
        row = {key: "" if (value := getattr(record, key)) is None else value for key in self._columns}
        row["boxes"] = "" if record.boxes is None else len(record.boxes)
        self._table.writerow({key: _cell(value) if isinstance(value, str) else value for key, value in row.items()})

    def close(self) -> None:
        self._file.close()


class JsonLinesTable:
    """A JSON object a line: the record of an image."""

    name: ClassVar[str] = JSON_LINES

    def __init__(self, folder: Path, aligned: bool) -> None:
        self._file = open(folder / JSON_LINES, "w", encoding="utf-8")  # noqa: SIM115  # closed by close

    def add(self, record: PredictionRecord) -> None:
        self._file.write(json_line(record) + "\n")

    def close(self) -> None:
        self._file.close()


class ParquetTable:
    """A row an image with its boxes as a list, for data frames; needs pyarrow."""

    name: ClassVar[str] = PARQUET

    def __init__(self, folder: Path, aligned: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise BadInput("Parquet is written by pyarrow, which is not here; pip install 'vqi[parquet]'.") from error
        box = pyarrow.struct(
            [(side, pyarrow.int32()) for side in ("x1", "y1", "x2", "y2")] + [("score", pyarrow.float64())]
        )
        kinds = {
            "score": pyarrow.float64(),
            "threshold": pyarrow.float64(),
            "width": pyarrow.int32(),
            "height": pyarrow.int32(),
            "boxes": pyarrow.list_(box),
            "seconds": pyarrow.float64(),
            "map_range": pyarrow.list_(pyarrow.float64()),
        }
        self._schema = pyarrow.schema(
            [(name, kinds.get(name, pyarrow.string())) for name in PredictionRecord.model_fields]
        )
        self._table = pyarrow.Table
        self._writer = pyarrow.parquet.ParquetWriter(folder / PARQUET, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, record: PredictionRecord) -> None:
        row = {**dict.fromkeys(self._schema.names), **record.values()}
        # A name that is not UTF-8 holds surrogates, which Parquet cannot.
        self._rows.append({key: _utf8(value) if isinstance(value, str) else value for key, value in row.items()})
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


TABLES: dict[ResultsFormat, type[Table]] = {
    "csv": CsvTable,
    "jsonl": JsonLinesTable,
    "parquet": ParquetTable,
}
FILES = (PREDICTIONS, *(table.name for table in TABLES.values()))


def parse_results(text: str) -> tuple[ResultsFormat, ...]:
    """The formats of a list such as `json,csv`, each once. Raises BadInput for one that is not known, and for none."""
    known = get_args(ResultsFormat)
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if not names:
        raise BadInput(f"No file of results is named; name one or more of {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise BadInput(f"{name!r} is not a format of results.{closest(name, [*known])}")
    return names  # type: ignore[return-value]  # each is one


def open_tables(folder: Path, formats: Sequence[ResultsFormat], aligned: bool) -> list[Table]:
    """The tables in a folder, one a format; `json` is not one (it is written at the end). `aligned`: photographs are
    aligned, and CSV says which could not be. Raises BadInput where pyarrow is wanted and missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return [TABLES[name](folder, aligned) for name in formats if name != "json"]


def json_line(record: PredictionRecord) -> str:
    """A record as one line of JSON."""
    return json.dumps(record.values(), allow_nan=False)


def _cell(text: str) -> str:
    """Text for a spreadsheet: a relative path that would be run as a formula gets the `./` that changes nothing about
    it."""
    return printable(f"./{text}" if text[:1] in ("=", "+", "-", "@") else text)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

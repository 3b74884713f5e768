"""One row an image: what was found, as a table a person opens in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vqi.dataset.manifest import Label, Split

# What a score above the image threshold, or not above it, decides.
Decision = Literal["good", "defect"]
# A bundle may also find that a photograph is none of the kind it judges.
BundleDecision = Literal["good", "defect", "implausible"]

COLUMNS = ("path", "split", "label", "defect", "score", "decision", "map_max", "boxes")
# Where photographs are aligned, the last column says why one was used as it lies.
UNALIGNED = "unaligned"
# OWASP, "CSV Injection": spreadsheets run cells that begin so as formulas, and file and folder names are not trusted.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Prediction:
    """`boxes` are (x1, y1, x2, y2, score) in pixels of the original photograph, one a connected region of the map by
    the method's BoxRule. `unaligned`: why it was used as it lies, where photographs are aligned."""

    path: str
    split: Split
    label: Label
    defect: str
    score: float
    decision: Decision
    map_max: float
    boxes: tuple[tuple[int, int, int, int, float], ...] = ()
    unaligned: str = ""


def predictions_csv(predictions: Iterable[Prediction], aligned: bool = False) -> str:
    """The table as CSV with a header; scores with all their digits, boxes as JSON. A name that would run as a formula
    gets a leading apostrophe. `aligned`: photographs are aligned, and the column UNALIGNED is there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, UNALIGNED] if aligned else COLUMNS)
    for row in predictions:
        names = [_inert(value) for value in (row.path, row.split, row.label, row.defect)]
        cells = [*names, repr(row.score), row.decision, repr(row.map_max), json.dumps(row.boxes)]
        writer.writerow([*cells, _inert(row.unaligned)] if aligned else cells)
    return text.getvalue()


def read_scores(table: Path) -> dict[str, float]:
    """The image scores of a written table by the photographs' paths; empty without such a table."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        return {
            row["path"].removeprefix("'") if row["path"][1:2] in FORMULA else row["path"]: float(row["score"])
            for row in csv.DictReader(file)
        }


def _inert(cell: str) -> str:
    return "'" + cell if cell.startswith(FORMULA) else cell

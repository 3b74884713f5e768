"""What `vqi predict` leaves behind: predictions.json, predictions.csv and a picture for every image."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from vqi.deployment.bundle import Sidecar
from vqi.deployment.predictor import Prediction, Unreadable, read_photograph
from vqi.evaluation.pictures import Example, save_picture
from vqi.platform.errors import BadInput
from vqi.platform.files import write_json, write_whole
from vqi.platform.printing import printable

FORMAT = "vqi-predictions/1"
JSON, CSV, PICTURES = "predictions.json", "predictions.csv", "pictures"
COLUMNS = ("image", "decision", "score", "threshold", "boxes", "seconds", "picture", "error")


def check_destination(folder: Path) -> None:
    """Raise BadInput where `folder`, which predictions will replace, holds anything but earlier predictions."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file; give --out a folder.")
    held = {path.name for path in folder.iterdir()}
    if held and (JSON not in held or not held <= {JSON, CSV, PICTURES}):
        raise BadInput(f"The folder {folder} holds other things than predictions; give --out a new one.")


def _cell(text: str) -> str:
    """Text for a spreadsheet: a relative path that would be run as a formula gets the `./` that changes nothing about it."""
    return printable(f"./{text}" if text[:1] in ("=", "+", "-", "@") else text)


class PredictionWriter:
    """Takes results one by one and keeps their small records; pictures are written at once, JSON and CSV by `finish`. `folder` is new and empty."""

    def __init__(self, folder: Path, sidecar: Sidecar, backend: str, pictures: bool = True) -> None:
        self.folder, self.sidecar, self.backend, self.pictures = Path(folder), sidecar, backend, pictures
        self.records: list[dict[str, Any]] = []

    def add(self, result: Prediction | Unreadable) -> dict[str, Any]:
        """Keep a result and write its picture; returns its record."""
        if isinstance(result, Unreadable):
            record: dict[str, Any] = {"image": result.name, "error": result.reason}
        else:
            height, width = result.map.shape
            record = {
                "image": result.name,
                "decision": result.decision,
                "score": result.score,
                "threshold": self.sidecar.thresholds.image,
                "width": width,
                "height": height,
                "boxes": [{"x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": score} for x1, y1, x2, y2, score in result.boxes],
                "seconds": round(result.seconds, 6),
            }
            if self.pictures:
                record["picture"] = self._picture(result)
        self.records.append(record)
        return record

    def _picture(self, result: Prediction) -> str:
        # Decoded a second time: holding the originals of every waiting image would cost gigabytes with large photographs.
        image = read_photograph(Path(result.name))
        pixel = self.sidecar.thresholds.pixel
        threshold = float(np.nanmax(result.map)) if pixel is None else pixel
        example = Example(result.name, "unknown", "unknown", result.score, result.decision, image, result.map, level=result.level)
        return save_picture(self.folder / PICTURES, example, threshold, floor=self.sidecar.thresholds.floor).relative_to(self.folder).as_posix()

    def summary(self) -> dict[str, Any]:
        """The object `predictions.json` holds."""
        decisions = [record.get("decision") for record in self.records]
        return {
            "format": FORMAT,
            "bundle": {"name": self.sidecar.name, "method": self.sidecar.method, "dataset_fingerprint": self.sidecar.dataset.fingerprint},
            "backend": self.backend,
            "threshold": {**self.sidecar.thresholds.model_dump(), "guarantee": self.sidecar.calibration.guarantee},
            "counts": {
                "images": len(decisions),
                "good": decisions.count("good"),
                "defect": decisions.count("defect"),
                "unreadable": decisions.count(None),
            },
            "predictions": self.records,
        }

    def finish(self) -> dict[str, Any]:
        """Write predictions.json and predictions.csv; returns the summary."""
        summary = self.summary()
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        for record in self.records:
            row = {key: record.get(key, "") for key in COLUMNS} | {"boxes": len(record["boxes"]) if "boxes" in record else ""}
            table.writerow({key: _cell(value) if isinstance(value, str) else value for key, value in row.items()})
        write_whole(self.folder / CSV, text.getvalue())
        write_json(self.folder / JSON, summary)
        return summary

"""What `vqi predict` leaves behind: predictions.json, predictions.csv and, of every image, a picture, its map and its
mask.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vqi.deployment.prediction_record import (
    PREDICTIONS,
    BoxRecord,
    BundleOf,
    DecisionCounts,
    PlausibilityOf,
    PredictionRecord,
    PredictionsRecord,
    ThresholdInUse,
    write_predictions,
)
from vqi.deployment.predictor import Prediction, Unreadable, pixels_of, read_photograph
from vqi.deployment.sidecar import Sidecar
from vqi.evaluation.pictures import Example, picture_name, save_picture
from vqi.evaluation.predictions import UNALIGNED
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole
from vqi.platform.printing import printable

CSV, PICTURES, MAPS, MASKS = "predictions.csv", "pictures", "maps", "masks"
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
# Pictures have names before their pixels are needed.
_NO_IMAGE = np.zeros((1, 1, 3), np.uint8)


def check_destination(folder: Path) -> None:
    """Raise BadInput where `folder`, which predictions will replace, holds anything but earlier predictions."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file; give --out a folder.")
    held = {path.name for path in folder.iterdir()}
    if held and (PREDICTIONS not in held or not held <= {PREDICTIONS, CSV, PICTURES, MAPS, MASKS}):
        raise BadInput(f"The folder {folder} holds other things than predictions; give --out a new one.")


def _cell(text: str) -> str:
    """Text for a spreadsheet: a relative path that would be run as a formula gets the `./` that changes nothing about
    it."""
    return printable(f"./{text}" if text[:1] in ("=", "+", "-", "@") else text)


class PredictionWriter:
    """Takes results one by one and keeps their small records; pictures, maps and masks are written at once, JSON and
    CSV by `finish`.

    `folder` is new and empty. `maps`: the anomaly map at the photograph's size as float32 TIFF, NaN where the network
    saw nothing; `masks`: what is marked on it as 8-bit PNG, 255 where the map lies above the level that boxes are drawn
    at, else 0.
    """

    def __init__(
        self,
        folder: Path,
        sidecar: Sidecar,
        backend: str,
        pictures: bool = True,
        maps: bool = False,
        masks: bool = False,
    ) -> None:
        self.folder, self.sidecar, self.backend = Path(folder), sidecar, backend
        self.pictures, self.maps, self.masks = pictures, maps, masks
        self.records: list[PredictionRecord] = []
        self._names: Counter[str] = Counter()

    def add(self, result: Prediction | Unreadable, frame: np.ndarray | None = None) -> PredictionRecord:
        """Keep a result and write its files; returns its record. `frame` is the array that was predicted, for the
        picture of one that is not a file.

        Raises BadInput where a picture is to be written and the file cannot be read again, or the frame is missing.
        """
        if isinstance(result, Unreadable):
            record = PredictionRecord(image=result.name, error=result.reason)
        else:
            height, width = result.map.shape
            record = PredictionRecord(
                image=result.name,
                decision=result.decision,
                score=result.score,
                threshold=self.sidecar.thresholds.image,
                width=width,
                height=height,
                boxes=tuple(
                    BoxRecord(x1=x1, y1=y1, x2=x2, y2=y2, score=score) for x1, y1, x2, y2, score in result.boxes
                ),
                seconds=round(result.seconds, 6),
                implausible=result.implausible or None,
                unaligned=result.unaligned or None,
                **self._files(result, frame),
            )
        self.records.append(record)
        return record

    def _files(self, result: Prediction, frame: np.ndarray | None) -> dict[str, str]:
        """What is written of one image, by the key of its record."""
        if not (self.pictures or self.maps or self.masks):
            return {}
        # Names alone tell files in the folders, and frames in memory may share one.
        self._names[result.name] += 1
        again = self._names[result.name]
        name = result.name if again == 1 else f"{result.name} {again}"
        example = Example(
            name, "unknown", "unknown", result.score, result.decision, _NO_IMAGE, result.map, level=result.level
        )
        path, written = picture_name(example), {}
        if self.maps:
            written["map"] = self._written(
                MAPS, path.with_name(f"{path.name}.tiff"), result.map, "TIFF", compression="tiff_adobe_deflate"
            )
        if self.masks:
            mask = result.mask.astype(np.uint8) * np.uint8(255)
            written["mask"] = self._written(MASKS, path.with_name(f"{path.name}.png"), mask, "PNG")
        if self.pictures:
            written["picture"] = self._picture(result, replace(example, image=self._pixels(result, frame)))
        return written

    def _written(self, folder: str, path: Path, values: np.ndarray, form: str, **options: str) -> str:
        content = io.BytesIO()
        Image.fromarray(values).save(content, form, **options)
        write_whole(self.folder / folder / path, content.getvalue())
        return (Path(folder) / path).as_posix()

    def _pixels(self, result: Prediction, frame: np.ndarray | None) -> np.ndarray:
        if frame is not None:
            return pixels_of(frame, result.name, self.sidecar.decoding)
        # Decoded a second time: holding the originals of every waiting image would cost gigabytes with large
        # photographs.
        path = Path(result.name)
        if not path.exists():
            raise BadInput(
                f"The picture of {result.name} cannot be drawn, since it is not a file; give add() its frame, or "
                "write no pictures."
            )
        return read_photograph(path, self.sidecar.decoding)

    def _picture(self, result: Prediction, example: Example) -> str:
        pixel = self.sidecar.thresholds.pixel
        threshold = float(np.nanmax(result.map)) if pixel is None else pixel
        return (
            save_picture(self.folder / PICTURES, example, threshold, floor=self.sidecar.thresholds.floor)
            .relative_to(self.folder)
            .as_posix()
        )

    def summary(self) -> PredictionsRecord:
        """What `predictions.json` holds."""
        sidecar = self.sidecar
        decisions = Counter(record.decision for record in self.records)
        return PredictionsRecord(
            bundle=BundleOf(name=sidecar.name, method=sidecar.method, dataset_fingerprint=sidecar.dataset.fingerprint),
            backend=self.backend,
            threshold=ThresholdInUse(
                image=sidecar.thresholds.image,
                pixel=sidecar.thresholds.pixel,
                floor=sidecar.thresholds.floor,
                requested_false_reject_rate=sidecar.calibration.requested_false_reject_rate,
                false_reject_rate=sidecar.calibration.false_reject_rate,
                guarantee=sidecar.calibration.guarantee,
            ),
            plausibility=PlausibilityOf(
                false_alarm_rate=sidecar.plausibility.false_alarm_rate, images=sidecar.plausibility.images
            ),
            counts=DecisionCounts(
                images=decisions.total(),
                good=decisions["good"],
                defect=decisions["defect"],
                implausible=decisions["implausible"],
                unreadable=decisions[None],
            ),
            predictions=tuple(self.records),
        )

    def finish(self) -> PredictionsRecord:
        """Write predictions.json and predictions.csv; returns what the former holds."""
        summary = self.summary()
        text = io.StringIO()
        columns = [*COLUMNS, UNALIGNED] if self.sidecar.reference else COLUMNS
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        for record in self.records:
            row = {key: "" if (value := getattr(record, key)) is None else value for key in columns}
            row["boxes"] = "" if record.boxes is None else len(record.boxes)
            table.writerow({key: _cell(value) if isinstance(value, str) else value for key, value in row.items()})
        write_whole(self.folder / CSV, text.getvalue())
        write_predictions(self.folder, summary)
        return summary

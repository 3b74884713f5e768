"""What `vqi predict` leaves behind: files of results and, of every image, a picture, its map and its mask."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from vqi.dataset.images import decode_rgb
from vqi.deployment.prediction_record import (
    BoxRecord,
    BundleOf,
    DecisionCounts,
    PlausibilityOf,
    PredictionRecord,
    PredictionsRecord,
    ResultsFormat,
    ThresholdInUse,
    write_predictions,
)
from vqi.deployment.prediction_tables import DEFAULT_RESULTS, FILES, open_tables
from vqi.deployment.predictor import Prediction, Unreadable, pixels_of, read_photograph
from vqi.deployment.sidecar import Sidecar
from vqi.evaluation.pictures import Example, picture_name, save_picture
from vqi.evaluation.raw_maps import SUFFIX, MapFormat, encode_map
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole

PICTURES, MAPS, MASKS = "pictures", "maps", "masks"
# Pictures have names before their pixels are needed.
_NO_IMAGE = np.zeros((1, 1, 3), np.uint8)
# Which results are kept: of all images, or of those alone that are not good (defects, implausible, unreadable).
Only = Literal["all", "defects"]


def check_destination(folder: Path) -> None:
    """Raise BadInput where `folder`, which predictions will replace, holds anything but earlier predictions."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file; give --out a folder.")
    held = {path.name for path in folder.iterdir()}
    if held and (not held & set(FILES) or not held <= {*FILES, PICTURES, MAPS, MASKS}):
        raise BadInput(f"The folder {folder} holds other things than predictions; give --out a new one.")


class PredictionWriter:
    """Takes results one by one and writes each at once; predictions.json, which holds all of them, by `finish`.

    `folder` is new and empty. `maps`: the anomaly map at the photograph's size, NaN where the network saw
    nothing, as `map_format` (see vqi.evaluation.raw_maps); `masks`: what is marked on it as 8-bit PNG, 255 where the
    map lies above the level that boxes are drawn at, else 0. `results` are the files of results; memory grows with the
    number of images where `json` is one of them, else by their names alone. `only`: of which images rows and files are
    written; all are counted. `records` are those of predictions.json, or with `keep_records` all that are written.

    Raises BadInput for a choice that does not exist, and where pyarrow is missing for parquet.
    """

    def __init__(
        self,
        folder: Path,
        sidecar: Sidecar,
        backend: str,
        pictures: bool = True,
        maps: bool = False,
        masks: bool = False,
        *,
        map_format: MapFormat = "tiff",
        results: Sequence[ResultsFormat] = DEFAULT_RESULTS,
        only: Only = "all",
        keep_records: bool = False,
    ) -> None:
        for value, kind, name in ((map_format, MapFormat, "map-format"), (only, Only, "only")):
            if value not in get_args(kind):
                raise BadInput(f"{name} is {value!r}; it must be {' or '.join(get_args(kind))}.")
        self.folder, self.sidecar, self.backend = Path(folder), sidecar, backend
        self.pictures, self.maps, self.masks = pictures, maps, masks
        self.map_format, self.only = map_format, only
        self.records: list[PredictionRecord] = []
        self._writes_json = "json" in results
        self._keeps = self._writes_json or keep_records
        self._tables = open_tables(self.folder, results, sidecar.reference is not None)
        self._names: Counter[str] = Counter()
        self._decisions: Counter[str | None] = Counter()

    def add(self, result: Prediction | Unreadable, frame: np.ndarray | bytes | None = None) -> PredictionRecord | None:
        """Keep a result and write its files; returns its record, None of what `only` leaves out. `frame` is the array
        that was predicted, or the file's bytes, for the picture of one that is not a file here.

        Raises BadInput where a picture is to be written and the file cannot be read again, or the frame is missing.
        """
        decision = None if isinstance(result, Unreadable) else result.decision
        self._decisions[decision] += 1
        if self.only == "defects" and decision == "good":
            return None
        record = self._record(result, frame)
        if self._keeps:
            self.records.append(record)
        for table in self._tables:
            table.add(record)
        return record

    def _record(self, result: Prediction | Unreadable, frame: np.ndarray | bytes | None) -> PredictionRecord:
        if isinstance(result, Unreadable):
            return PredictionRecord(image=result.name, error=result.reason)
        height, width = result.map.shape
        return PredictionRecord(
            image=result.name,
            decision=result.decision,
            score=result.score,
            threshold=self.sidecar.thresholds.image,
            width=width,
            height=height,
            boxes=tuple(BoxRecord(x1=x1, y1=y1, x2=x2, y2=y2, score=score) for x1, y1, x2, y2, score in result.boxes),
            seconds=round(result.seconds, 6),
            implausible=result.implausible or None,
            unaligned=result.unaligned or None,
            **self._files(result, frame),
        )

    def _files(self, result: Prediction, frame: np.ndarray | bytes | None) -> dict[str, Any]:
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
        path, written = picture_name(example), dict[str, Any]()
        if self.maps:
            raw = encode_map(result.map, self.map_format)
            written["map"] = self._written(MAPS, path.with_name(path.name + SUFFIX[self.map_format]), raw.content)
            written["map_range"] = raw.range
        if self.masks:
            mask = io.BytesIO()
            Image.fromarray(result.mask.astype(np.uint8) * np.uint8(255)).save(mask, "PNG")
            written["mask"] = self._written(MASKS, path.with_name(f"{path.name}.png"), mask.getvalue())
        if self.pictures:
            written["picture"] = self._picture(result, replace(example, image=self._pixels(result, frame)))
        return written

    def _written(self, folder: str, path: Path, content: bytes) -> str:
        write_whole(self.folder / folder / path, content)
        return (Path(folder) / path).as_posix()

    def _pixels(self, result: Prediction, frame: np.ndarray | bytes | None) -> np.ndarray:
        if isinstance(frame, bytes):
            return decode_rgb(frame, result.name, self.sidecar.decoding)
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
        """Counts, thresholds and the records that were kept: what `predictions.json` holds."""
        sidecar, decisions = self.sidecar, self._decisions
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
        """Complete every file of results; returns the summary."""
        for table in self._tables:
            table.close()
        summary = self.summary()
        if self._writes_json:
            write_predictions(self.folder, summary)
        return summary

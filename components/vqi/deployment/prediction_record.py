"""`predictions.json`: what a bundle says of each image."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from vqi.evaluation.predictions import BundleDecision
from vqi.platform.records import FileRecord, Items, PartialRecord, Record, read_record, write_record

PREDICTIONS = "predictions.json"
# The files that results are written as; `json` is this one.
ResultsFormat = Literal["json", "jsonl", "csv", "parquet"]


class BoxRecord(Record):
    """A marked region, in pixels of the image; the score is its highest map value."""

    x1: int
    y1: int
    x2: int
    y2: int
    score: float


class PredictionRecord(PartialRecord):
    """What is known of one image; of one that could not be read, nothing but its name and the `error`. `implausible`:
    why it is not judged; `unaligned`: why it was used as it lies though the bundle aligns; `map`, `mask` and `picture`:
    the files that were written of it, '/'-separated, in the predictions' folder; `map_range`: the least and greatest
    value of a map that is a PNG (see vqi.evaluation.raw_maps)."""

    left_out: ClassVar[frozenset[str]] = frozenset(
        {
            "error",
            "decision",
            "score",
            "threshold",
            "width",
            "height",
            "boxes",
            "seconds",
            "implausible",
            "unaligned",
            "map",
            "map_range",
            "mask",
            "picture",
        }
    )

    image: str
    error: str | None = None
    decision: BundleDecision | None = None
    score: float | None = None
    threshold: float | None = None
    width: int | None = None
    height: int | None = None
    boxes: Items[BoxRecord] | None = None
    seconds: float | None = None
    implausible: str | None = None
    unaligned: str | None = None
    map: str | None = None
    map_range: tuple[float, float] | None = None
    mask: str | None = None
    picture: str | None = None


class BundleOf(Record):
    """The bundle that predicted."""

    name: str
    method: str
    dataset_fingerprint: str


class ThresholdInUse(Record):
    """The thresholds in use and what they promise (see bundle.Thresholds and bundle.Calibration)."""

    image: float
    pixel: float | None
    floor: float
    requested_false_reject_rate: float | None
    false_reject_rate: float | None
    guarantee: str


class PlausibilityOf(Record):
    """The share of good photographs expected to be implausible, and how many photographs that comes from."""

    false_alarm_rate: float
    images: int


class DecisionCounts(Record):
    """Images by what became of them."""

    images: int
    good: int
    defect: int
    implausible: int
    unreadable: int


class PredictionsRecord(FileRecord):
    """The file."""

    format_name: ClassVar[str] = "vqi-predictions/2"
    remedy: ClassVar[str] = "predict again"

    bundle: BundleOf
    backend: str
    threshold: ThresholdInUse
    plausibility: PlausibilityOf
    counts: DecisionCounts
    predictions: Items[PredictionRecord]


def write_predictions(folder: Path, record: PredictionsRecord) -> None:
    """Write `predictions.json` into a folder."""
    write_record(Path(folder) / PREDICTIONS, record)


def read_predictions(folder: Path) -> PredictionsRecord:
    """The predictions in a folder. Raises BadInput where they are missing, damaged or of another format."""
    return read_record(PredictionsRecord, Path(folder) / PREDICTIONS, f": {folder} does not hold predictions")

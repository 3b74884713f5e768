"""`calibration.json`, beside an index: what normals score that thresholds are made from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from vqi.dataset.splits import CalibrationKind
from vqi.detectors.settings.fields import LeaveOutKind
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.records import FileRecord, Items, Record, read_record, write_record

CALIBRATION = "calibration.json"


class CalibrationImage(Record):
    """What one photograph scored, and the maximum and the median of its map; `group`: the part it shows, None = a part
    of its own."""

    path: str
    group: str | None = None
    score: float
    map_max: float
    map_median: float


class CalibrationRecord(FileRecord):
    """The file: a row a photograph. `parts` counts the good parts that were learnt from or held out (0 = not known);
    `indices`: how those of the folds were made, refits where nothing is said.
    """

    format_name: ClassVar[str] = "vqi-calibration/1"
    remedy: ClassVar[str] = "run build_index again"
    once_without_format: ClassVar[bool] = True
    left_out: ClassVar[frozenset[str]] = frozenset({"indices"})

    kind: CalibrationKind
    folds: int | None
    indices: LeaveOutKind | None = None
    parts: int = 0
    images: Items[CalibrationImage]


@dataclass(frozen=True)
class Calibration:
    """Scores of normals that the scoring detector had not seen: an image score, its map's maximum and median an image,
    in the order of `paths`.

    One entry a part: of several photographs of it the highest score and maximum, and the middle of their medians;
    `paths` has the one that scores highest. `images` counts the photographs, `parts` all good parts that were learnt
    from or held out (0 = not known).

    `kind` "split": held-out normals under the final detector; "cross": training normals in `folds` folds, each under an
    index it is not in; "seen": training normals of a network that learnt from them.
    """

    kind: CalibrationKind
    folds: int | None
    paths: tuple[str, ...]
    scores: tuple[float, ...]
    map_maxima: tuple[float, ...]
    map_medians: tuple[float, ...]
    images: int = 0
    parts: int = 0


def write_calibration(index: Path, record: CalibrationRecord) -> None:
    """Write `calibration.json` into an index artefact."""
    write_record(Path(index) / CALIBRATION, record)


def read_calibration(index: Path) -> Calibration:
    """The calibration of an index artefact. Raises as `read_calibration_record` does."""
    return calibration_of(read_calibration_record(index))


def read_calibration_record(index: Path) -> CalibrationRecord:
    """The rows of the calibration of an index artefact.

    Raises BadInput where its file is missing, damaged or without images, RunFailed where a score is not finite.
    """
    path = Path(index) / CALIBRATION
    record = read_record(CalibrationRecord, path, ", so there is no score to take a threshold from")
    if not record.images:
        raise BadInput(
            f"{path} has no calibration scores; give the set normals to calibrate on "
            "(data.calibration_fraction above 0, or 0 for refits of the training normals) and run build_index again."
        )
    for image in record.images:
        if not all(map(math.isfinite, (image.score, image.map_max, image.map_median))):
            raise RunFailed(
                f"The calibration image {image.path} has a score that is not finite ({image.score}, map "
                f"{image.map_max}); check the image and the weights."
            )
    return record


def calibration_of(record: CalibrationRecord) -> Calibration:
    """What thresholds are made from: the rows, one a part."""
    calibration = Calibration(
        record.kind,
        record.folds,
        paths=tuple(image.path for image in record.images),
        scores=tuple(image.score for image in record.images),
        map_maxima=tuple(image.map_max for image in record.images),
        map_medians=tuple(image.map_median for image in record.images),
        images=len(record.images),
        parts=record.parts,
    )
    return _by_part(calibration, [image.path if image.group is None else image.group for image in record.images])


def _by_part(calibration: Calibration, groups: Sequence[str]) -> Calibration:
    """One entry a group, in the order of their first photographs."""
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    highest = [max(numbers, key=calibration.scores.__getitem__) for numbers in members.values()]
    return replace(
        calibration,
        paths=tuple(calibration.paths[number] for number in highest),
        scores=tuple(calibration.scores[number] for number in highest),
        map_maxima=tuple(max(calibration.map_maxima[number] for number in numbers) for numbers in members.values()),
        map_medians=tuple(
            statistics.median(calibration.map_medians[number] for number in numbers) for numbers in members.values()
        ),
    )

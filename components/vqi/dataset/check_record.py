"""The verdict of a check of a Dataset, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from vqi.dataset.manifest import Label, Split
from vqi.platform.records import FileRecord, Items, PartialRecord, Record, read_record, write_record

# An error stops the run, a warning does not.
Severity = Literal["error", "warning"]


# A verdict lists no more rows of files of a finding than MOST_ROWS, and no more files of a row than MOST_IN_ROW.
MOST_ROWS, MOST_IN_ROW = 100, 20


class ExampleRecord(Record):
    """A photograph that shows a finding, and its figures in words."""

    path: str
    caption: str


class FindingRecord(PartialRecord):
    """One thing that is wrong; `paths` are the files it is about: one, or several that belong together, a row each.

    Of many the first are here (`first_paths`), `count` says how many rows there are, and the list of paths beside the
    verdict has them all. None: an earlier version wrote all, and pictured none.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"count", "examples"})

    severity: Severity
    code: str
    sentence: str
    paths: Items[Items[str]]
    count: int | None = None
    examples: Items[ExampleRecord] | None = None


class UnusualRecord(Record):
    """A normal that the others explain least, and how many robust deviations its score lies above their median."""

    path: str
    deviation: float


class ReasonRecord(Record):
    """Why the set does not pass: the code of the first error, and the first errors as text."""

    type: str
    message: str


class SplitRecord(Record):
    """What a split holds: photographs in all, by label and by defect type, and those that are pictured."""

    samples: int
    labels: dict[Label, int]
    defects: dict[str, int]
    sample_paths: Items[str]


class CheckRecord(FileRecord):
    """The file. `error` is None where the set passes, `num_classes` counts the defect types, good one of them.
    `unusual` are the normals least like the others (None: an earlier version listed none)."""

    format_name: ClassVar[str] = "vqi-dataset-check/1"
    remedy: ClassVar[str] = "check the set again"
    left_out: ClassVar[frozenset[str]] = frozenset({"unusual"})

    name: str
    fingerprint: str
    done_flag: bool
    check_pass: bool
    error: ReasonRecord | None
    notes: Items[str]
    num_classes: int
    attributes: dict[Split, SplitRecord]
    findings: Items[FindingRecord]
    unusual: Items[UnusualRecord] | None = None


def first_paths(paths: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """What a verdict lists of the files of a finding."""
    return tuple(row[:MOST_IN_ROW] for row in paths[:MOST_ROWS])


def write_check(file: Path, record: CheckRecord) -> None:
    """Write the verdict to `file`."""
    write_record(Path(file), record)


def read_check(file: Path) -> CheckRecord:
    """The verdict in `file`. Raises BadInput where it is missing, damaged or of another format."""
    return read_record(CheckRecord, Path(file))

"""The verdict of a check of a Dataset, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from vqi.dataset.manifest import Label, Split
from vqi.platform.records import FileRecord, Items, Record, read_record, write_record

# An error stops the run, a warning does not.
Severity = Literal["error", "warning"]


class FindingRecord(Record):
    """One thing that is wrong; `paths` are the files it is about: one, or several that belong together, a row each."""

    severity: Severity
    code: str
    sentence: str
    paths: Items[Items[str]]


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
    """The file. `error` is None where the set passes, `num_classes` counts the defect types, good one of them."""

    format_name: ClassVar[str] = "vqi-dataset-check/1"
    remedy: ClassVar[str] = "check the set again"

    name: str
    fingerprint: str
    done_flag: bool
    check_pass: bool
    error: ReasonRecord | None
    notes: Items[str]
    num_classes: int
    attributes: dict[Split, SplitRecord]
    findings: Items[FindingRecord]


def write_check(file: Path, record: CheckRecord) -> None:
    """Write the verdict to `file`."""
    write_record(Path(file), record)


def read_check(file: Path) -> CheckRecord:
    """The verdict in `file`. Raises BadInput where it is missing, damaged or of another format."""
    return read_record(CheckRecord, Path(file))

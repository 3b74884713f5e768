"""`comparison.json`: what came of every trial of a comparison, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vqi.platform.records import FileRecord, Items, PartialRecord, read_record, write_record

COMPARISON = "comparison.json"


class Figures(PartialRecord):
    """What trials are compared by, finite numbers all; a figure that is None is not known. Costs depend on machine and
    day: `latency_ms`, milliseconds an image by the bundle; `bundle_mib`, its size; `seconds` of train, build_index and
    evaluate."""

    left_out: ClassVar[frozenset[str]] = frozenset(
        {
            "image_auroc",
            "pixel_auroc",
            "aupro",
            "recall",
            "false_reject_rate",
            "latency_ms",
            "bundle_mib",
            "seconds",
        }
    )

    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    recall: float | None = None
    false_reject_rate: float | None = None
    latency_ms: float | None = None
    bundle_mib: float | None = None
    seconds: float | None = None

    def figure(self, name: str) -> float | None:
        """The figure of that name."""
        value: float | None = getattr(self, name)
        return value


class MeanFigures(Figures):
    """The means of one method over its `trials`."""

    trials: int


class TrialRow(PartialRecord):
    """One trial; `reason` says in a sentence why something is missing. A local comparison knows its run's folder and
    exit code, and whether it was finished before."""

    left_out: ClassVar[frozenset[str]] = frozenset({"run_dir", "exit_code", "finished_before"})

    trial: str
    category: str
    method: str
    label: str
    reason: str
    run_id: str
    complete: bool
    fingerprint: str
    figures: Figures
    run_dir: str | None = None
    exit_code: int | None = None
    finished_before: bool | None = None


class ComparisonRecord(FileRecord):
    """The file. `failed` counts the trials that are not complete, `means` are by label. A local comparison knows its
    page and its MLflow run."""

    format_name: ClassVar[str] = "vqi-comparison/1"
    remedy: ClassVar[str] = "compare again"
    once_without_format: ClassVar[bool] = True
    left_out: ClassVar[frozenset[str]] = frozenset({"page", "tracking_uri", "run_id"})

    trials: Items[TrialRow]
    failed: int
    means: dict[str, MeanFigures]
    page: str | None = None
    tracking_uri: str | None = None
    run_id: str | None = None


def write_comparison_record(folder: Path, record: ComparisonRecord) -> None:
    """Write `comparison.json` into a folder."""
    write_record(Path(folder) / COMPARISON, record)


def read_comparison_record(folder: Path) -> ComparisonRecord:
    """The comparison in a folder. Raises BadInput where it is missing, damaged or of another format."""
    return read_record(ComparisonRecord, Path(folder) / COMPARISON)

"""The page of a bundle: what each export format takes, how far it is from the detector, and which were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vqi.deployment.bench_record import Machine
from vqi.deployment.sidecar import Accuracy, Deviation, FormatEntry, LeftOut, Sidecar
from vqi.evaluation.report import with_formats
from vqi.pages.page import render

PAGE = "bundle.html"


@dataclass(frozen=True)
class Row:
    """A line of the table; a figure that was not measured is "-"."""

    name: str
    backend: str
    precision: str
    size: str
    one: str
    eight: str
    deviation: str
    differ: str
    remark: str


def bundle_page(sidecar: Sidecar, machine: Machine) -> str:
    """The self-contained HTML page of a bundle that was exported on `machine`; every name from the data is escaped."""
    return render(
        "bundle.html.jinja",
        "vqi.steps.export",
        title=f"Bundle {sidecar.name}",
        sidecar=sidecar,
        machine=machine,
        rows=list(rows(sidecar)),
    )


def complete_report(report: Path, sidecar: Sidecar, machine: Machine) -> str:
    """The page that evaluate wrote to `report`, with the figures of each format; the page of the bundle where evaluate,
    of a version before this one, kept no report."""
    if not report.is_file():
        return bundle_page(sidecar, machine)
    section = render(
        "formats.html.jinja", "vqi.steps.export", sidecar=sidecar, machine=machine, rows=list(rows(sidecar))
    )
    return with_formats(report.read_text(encoding="utf-8"), section)


def rows(sidecar: Sidecar) -> Iterator[Row]:
    """A row a format: those inside, then those left out."""
    for name, entry in sidecar.formats.items():
        remark = entry.notes.get("thresholds", "")
        yield _row(name, entry.backend, entry.precision, entry, str(remark and f"thresholds: {remark}"), sidecar)
    for name, left in sidecar.left_out.items():
        yield _row(name, "left out", "", left, left.reason, sidecar)


def format_figures(sidecar: Sidecar) -> dict[str, str]:
    """The figures of each format inside as one line, for a panel that shows texts."""
    return {
        row.name: f"{row.size} MiB, {row.one} ms one image, {row.eight} ms eight, deviation {row.deviation}, decisions "
        f"that differ: {row.differ}"
        for row in rows(sidecar)
        if row.name in sidecar.formats
    }


def format_metrics(sidecar: Sidecar) -> dict[str, float]:
    """The figures of each format inside by names such as `format.onnx.latency_ms`; those that were not measured are
    left out."""
    metrics: dict[str, float | None] = {}
    for name, entry in sidecar.formats.items():
        differ, images = _decisions(entry.deviations, entry.accuracy, sidecar.parity.images)
        metrics |= {
            f"format.{name}.mib": round(entry.size_mib, 3),
            f"format.{name}.latency_ms": entry.latency_ms,
            f"format.{name}.latency_8_ms": entry.latency_8_ms,
            f"format.{name}.deviation": _largest(entry.deviations),
            f"format.{name}.differing_share": differ / images if images else None,
        }
    return {name: value for name, value in metrics.items() if value is not None}


def _row(name: str, backend: str, precision: str, entry: FormatEntry | LeftOut, remark: str, sidecar: Sidecar) -> Row:
    largest = _largest(entry.deviations)
    differ, images = _decisions(entry.deviations, entry.accuracy, sidecar.parity.images)
    return Row(
        name,
        backend,
        precision,
        f"{entry.size_mib:.1f}",
        _milliseconds(entry.latency_ms),
        _milliseconds(entry.latency_8_ms),
        "-" if largest is None else f"{largest:.1e}",
        f"{differ} of {images}",
        remark,
    )


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _largest(deviations: Sequence[Deviation]) -> float | None:
    return max((max(one.score, one.map) for one in deviations), default=None)


def _decisions(deviations: Sequence[Deviation], accuracy: Accuracy | None, images: int) -> tuple[int, int]:
    """How many decisions differ from the detector's, and of how many."""
    if accuracy:
        return accuracy.differ, accuracy.images
    return max((one.flipped for one in deviations), default=0), images

"""The page of a bundle: what each export format takes, how far it is from the detector, and which were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqi.deployment.bench_record import Machine
from vqi.deployment.sidecar import Accuracy, Deviation, FormatEntry, LeftOut, Sidecar
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


def _row(name: str, backend: str, precision: str, entry: FormatEntry | LeftOut, remark: str, sidecar: Sidecar) -> Row:
    return Row(
        name,
        backend,
        precision,
        f"{entry.size_mib:.1f}",
        _milliseconds(entry.latency_ms),
        _milliseconds(entry.latency_8_ms),
        _largest(entry.deviations),
        _differ(entry.deviations, entry.accuracy, sidecar.parity.images),
        remark,
    )


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _largest(deviations: Sequence[Deviation]) -> str:
    largest = max((max(one.score, one.map) for one in deviations), default=None)
    return "-" if largest is None else f"{largest:.1e}"


def _differ(deviations: Sequence[Deviation], accuracy: Accuracy | None, images: int) -> str:
    if accuracy:
        return f"{accuracy.differ} of {accuracy.images}"
    return f"{max((one.flipped for one in deviations), default=0)} of {images}"

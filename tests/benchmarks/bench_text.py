"""What `make bench` measured as a record, as the table in the terminal, as docs/speed.md, and against what is stored.
Every number comes from the record that is handed over; the prose itself holds none."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

# A ratio that is worse than the stored one by more than this share is named.
WORSE = 0.1
# Less than so many seconds are shown as milliseconds.
SHORT = 0.1

TITLE = "# Speed in ratios"
HEAD = (
    """
    `make bench` measures what is below, both sides in one run, and writes it as JSON to `build/bench/bench.json`
    (`make bench ANOMALIB=python` with an interpreter that has anomalib; without one its columns stay empty). `make
    bench BENCH=--store` writes `speed.json` and this page, and refuses to on a busy machine. `make bench
    BENCH='--compare docs/speed.json'` names what got worse by more than a tenth. Nothing asserts a time.
    """,
    """
    Times are seconds, or milliseconds where it says so, by the clock and, in brackets, of the processor; ratios are of
    processor time, which other work on the machine changes less, and by the clock in brackets. **anomalib / ours** is
    how many times as fast ours is; **ours / limit** is how many times as long ours takes as its limit, which the list
    below the table names.
    """,
)
NOTHING = """
    No run on a quiet machine is stored yet, so there is no figure here. [Benchmarks](benchmarks.md) has what was
    measured by hand.
"""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Cost(Record):
    """Seconds by the clock and of the processor, and the peak of memory where it was taken, MiB."""

    wall: float
    processor: float
    peak_mib: float | None = None


class Ratio(Record):
    """By the clock, of processor time, and of peak memory."""

    wall: float
    processor: float
    peak: float | None = None

    @staticmethod
    def of(above: Cost, below: Cost) -> Ratio:
        peak = above.peak_mib / below.peak_mib if above.peak_mib and below.peak_mib else None
        return Ratio(
            wall=_quotient(above.wall, below.wall), processor=_quotient(above.processor, below.processor), peak=peak
        )


class Row(Record):
    """One figure: ours, anomalib's and the limit's, with the ratios anomalib / ours and ours / limit."""

    what: str
    ours: Cost
    anomalib: Cost | None = None
    limit: Cost | None = None
    limit_is: str = ""
    over_ours: Ratio | None = None
    over_limit: Ratio | None = None

    @staticmethod
    def of(what: str, ours: Cost, anomalib: Cost | None = None, limit: Cost | None = None, limit_is: str = "") -> Row:
        return Row(
            what=what,
            ours=ours,
            anomalib=anomalib,
            limit=limit,
            limit_is=limit_is,
            over_ours=Ratio.of(anomalib, ours) if anomalib else None,
            over_limit=Ratio.of(ours, limit) if limit else None,
        )


class Machine(Record):
    """`load`: of the last minute, before the run and after it."""

    processor: str
    threads: int
    load: tuple[float, float]


class Bench(Record):
    """A run of `make bench`: `rows` by what is measured, such as `fit/cookie 1 %`. `configuration` says on what, so
    that only like is compared with like."""

    configuration: str
    date: str
    machine: Machine
    seconds: float
    versions: dict[str, str]
    rows: dict[str, Row]


def table(bench: Bench) -> str:
    """For the terminal."""
    heads = ("", "ours", "anomalib", "anomalib / ours", "limit", "ours / limit", "peak, MiB")
    rows = [heads, *(_cells(row) for row in bench.rows.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def page(bench: Bench | None) -> str:
    """docs/speed.md; None = nothing is stored."""
    parts = [TITLE, *map(_paragraph, HEAD)]
    if bench is None:
        return "\n\n".join([*parts, _paragraph(NOTHING)]) + "\n"
    lines = [
        "| | ours | anomalib | anomalib / ours | limit | ours / limit | peak of ours and anomalib, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(_cells(row))} |" for row in bench.rows.values()),
    ]
    limits: dict[str, list[str]] = {}
    for row in bench.rows.values():
        if row.limit_is:
            limits.setdefault(row.limit_is, []).append(row.what)
    parts += ["## What was measured", _paragraph(_conditions(bench)), "\n".join(lines), "The limits:"]
    parts.append("\n".join(_paragraph(f"- {'; '.join(rows)}: {limit}.", "  ") for limit, rows in limits.items()))
    return "\n\n".join(parts) + "\n"


def find_regressions(bench: Bench, stored: Bench) -> list[str]:
    """A sentence for each ratio that is worse than the stored one by more than WORSE.

    Where a row has no ratio its own processor time counts, if both were measured on the same processor.
    """
    same = bench.machine.processor == stored.machine.processor and bench.machine.threads == stored.machine.threads
    sentences = []
    for key, row in bench.rows.items():
        before = stored.rows.get(key)
        if before is None:
            continue
        compared = []
        if row.over_ours and before.over_ours:
            compared.append(("anomalib / ours", row.over_ours.processor, before.over_ours.processor, False))
            if row.over_ours.peak and before.over_ours.peak:
                compared.append(("memory, anomalib / ours", row.over_ours.peak, before.over_ours.peak, False))
        if row.over_limit and before.over_limit:
            compared.append(("ours / limit", row.over_limit.processor, before.over_limit.processor, True))
        if not compared and same:
            compared.append(("seconds of the processor", row.ours.processor, before.ours.processor, True))
        for name, now, then, lower_is_better in compared:
            worse = now > then * (1 + WORSE) if lower_is_better else now * (1 + WORSE) < then
            if worse:
                sentences.append(f"{row.what}: {name} {_figure(now)}, stored {_figure(then)}")
    return sentences


def compare(bench: Bench, stored: Bench) -> str:
    """A line for a summary, and one for each ratio that got worse."""
    if bench.configuration != stored.configuration:
        return f"bench: not compared; this run is of {bench.configuration}, the stored one of {stored.configuration}."
    shared = sum(key in stored.rows for key in bench.rows)
    worse = find_regressions(bench, stored)
    if not worse:
        return f"bench: none of {shared} rows is more than {WORSE:.0%} worse than stored on {stored.date}."
    head = (
        f"bench: {len(worse)} ratio(s) of {shared} rows are more than {WORSE:.0%} worse than stored on {stored.date}:"
    )
    return "\n".join([head, *(f"- {sentence}" for sentence in worse)])


def _cells(row: Row) -> tuple[str, ...]:
    peaks = [cost.peak_mib for cost in (row.ours, row.anomalib) if cost and cost.peak_mib]
    return (
        row.what,
        _seconds(row.ours),
        _seconds(row.anomalib),
        _ratio(row.over_ours),
        _seconds(row.limit),
        _ratio(row.over_limit),
        ", ".join(f"{peak:,.0f}" for peak in peaks),
    )


def _seconds(cost: Cost | None) -> str:
    if cost is None:
        return ""
    scale, unit = (1, "") if cost.wall >= SHORT else (1000, " ms")
    return f"{_figure(scale * cost.wall)} ({_figure(scale * cost.processor)}){unit}"


def _ratio(ratio: Ratio | None) -> str:
    return f"{_figure(ratio.processor)} ({_figure(ratio.wall)})" if ratio else ""


def _figure(value: float) -> str:
    """Three digits: 123, 12.3, 1.23, .123, .0123."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 1:
        return f"{value:.3g}" if value < 99.95 else f"{value:.0f}"
    return f"{value:.3g}".removeprefix("0") if value >= 1e-4 else f"{value:.1e}"


def _conditions(bench: Bench) -> str:
    loads = " and ".join(f"{load:.1f}" for load in bench.machine.load)
    versions = ", ".join(f"{name} {version}" for name, version in bench.versions.items())
    return f"""
        {bench.machine.processor}, {bench.machine.threads} thread(s), {bench.date}; {bench.configuration}. The whole run
        took {bench.seconds / 60:.0f} minutes; the load before and after it was {loads}. Versions: {versions}.
    """


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _quotient(above: float, below: float) -> float:
    """0 / 0 = 1: both took less than the clock can tell."""
    return above / below if below else (1.0 if not above else float("inf"))


def read_cost(result: Mapping[str, float], name: str, scale: float = 1.0, peak: str = "") -> Cost:
    """The Cost in a side's result: its `name` and `processor_` + `name`, `scale` of a second each, and its `peak`."""
    return Cost(
        wall=scale * result[name],
        processor=scale * result[f"processor_{name}"],
        peak_mib=result[peak] if peak else None,
    )

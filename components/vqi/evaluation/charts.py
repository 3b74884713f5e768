"""Charts as inline SVG: they need no library in the page, stay sharp in print, and escape what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

from markupsafe import Markup, escape

from vqi.dataset.manifest import Label
from vqi.evaluation.histogram import Histogram

COLOURS = {"good": "#0072b2", "defect": "#d55e00", "unknown": "#6b7280"}
# Okabe and Ito's palette: colour-blind eyes distinguish it too.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2430")
ROC_LEFT, ROC_TOP, ROC_SIDE = 48, 12, 260


def histogram_chart(data: Histogram, threshold: float | None) -> Markup:
    """A histogram, one row of bars a label on a shared axis, with the threshold as a line through all rows."""
    edges, log = data.edges, data.log
    counts = {label: data.counts[label] for label in get_args(Label) if label in data.counts}
    if len(edges) < 2 or not counts:
        return Markup()
    shows_threshold = threshold is not None and math.isfinite(threshold) and (threshold > 0 or not log)
    low, high = float(edges[0]), float(edges[-1])
    if shows_threshold and threshold is not None:
        low, high = min(low, threshold), max(high, threshold)

    left, right, top, row, gap = 70, 460, 24, 72, 14
    bottom = top + len(counts) * (row + gap)

    def across(value: float) -> float:
        position = (math.log(value / low) / math.log(high / low)) if log else (value - low) / (high - low)
        return left + position * (right - left)

    parts = []
    for index, (label, values) in enumerate(counts.items()):
        base = top + index * (row + gap) + row
        tallest = max(max(values), 1)
        for start, end, count in zip(edges[:-1], edges[1:], values, strict=True):
            if count:
                height = max(1.5, count / tallest * row)
                x, width = across(start), max(across(end) - across(start) - 0.8, 0.8)
                parts.append(
                    f'<rect x="{x:.1f}" y="{base - height:.1f}" width="{width:.1f}" height="{height:.1f}" '
                    f'fill="{COLOURS[label]}">'
                    f"<title>{count} from {start:.4g} to {end:.4g}</title></rect>"
                )
        parts.append(f'<line x1="{left}" x2="{right}" y1="{base}" y2="{base}" stroke="#aab2bd"/>')
        parts.append(
            f'<text x="{left - 10}" y="{base - row / 2}" text-anchor="end" font-weight="600" '
            f'fill="{COLOURS[label]}">{escape(label)}</text>'
        )
        parts.append(
            f'<text x="{left - 10}" y="{base - row / 2 + 15}" text-anchor="end" class="faint">{sum(values)}</text>'
        )
    for tick in _log_ticks(low, high) if log else _ticks(low, high):
        parts.append(
            f'<line x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{bottom - gap}" y2="{bottom - gap + 4}" '
            'stroke="#aab2bd"/>'
        )
        parts.append(
            f'<text x="{across(tick):.1f}" y="{bottom - gap + 17}" text-anchor="middle" class="faint">{tick:.4g}</text>'
        )
    parts.append(
        f'<text x="{right}" y="{bottom + 20}" text-anchor="end" class="faint">image '
        f"score{', log scale' if log else ''}</text>"
    )
    if shows_threshold and threshold is not None:
        x = across(threshold)
        anchor, shift = ("end", -5) if x > (left + right) / 2 else ("start", 5)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{bottom - gap}" stroke="#1c2430" stroke-width="1.6" '
            'stroke-dasharray="5 3"/>'
        )
        parts.append(f'<text x="{x + shift:.1f}" y="15" text-anchor="{anchor}">threshold {threshold:.4g}</text>')
    return _svg(480, bottom + 26, "Histogram of image scores by label", parts)


def roc_chart(points: Sequence[Sequence[float | None]], operating: tuple[float, float] | None) -> Markup:
    """The ROC of [false-positive rate, true-positive rate, ...] points; `operating` is the (fpr, tpr) at the threshold
    in use."""
    curve = [(float(p[0]), float(p[1])) for p in points if p[0] is not None and p[1] is not None]
    if len(curve) < 2:
        return Markup()
    parts = [*_roc_frame(), _roc_line(curve, COLOURS["good"])]
    if operating is not None:
        x, y = _to_roc_point(operating)
        inside = operating[0] < 0.5
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS["defect"]}" stroke="#fff" stroke-width="1.5"/>'
        )
        parts.append(
            f'<text x="{x + (10 if inside else -10):.1f}" y="{y + 16:.1f}" '
            f'text-anchor="{"start" if inside else "end"}">at the threshold</text>'
        )
    return _svg(ROC_LEFT + ROC_SIDE + 16, ROC_TOP + ROC_SIDE + 42, "ROC curve", parts)


def roc_overlay(curves: Sequence[tuple[str, int, Sequence[tuple[float, float]]]]) -> Markup:
    """ROC curves of several detectors over each other: (name, position in the key, points) each, drawn in the
    `line_style` of its position."""
    parts = [*_roc_frame(), *(_roc_line(points, *line_style(position), name) for name, position, points in curves)]
    return _svg(ROC_LEFT + ROC_SIDE + 16, ROC_TOP + ROC_SIDE + 42, "ROC curves", parts)


def line_style(position: int) -> tuple[str, bool]:
    """The colour of a line by its position among several, and whether it is dashed: from the second round of colours
    on."""
    return LINES[position % len(LINES)], position // len(LINES) % 2 == 1


def _to_roc_point(point: tuple[float, float]) -> tuple[float, float]:
    return ROC_LEFT + point[0] * ROC_SIDE, ROC_TOP + (1 - point[1]) * ROC_SIDE


def _roc_frame() -> list[str]:
    """Grid, diagonal and what the axes say."""
    left, top, side = ROC_LEFT, ROC_TOP, ROC_SIDE
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _to_roc_point((tick, tick))
        parts.append(f'<path d="M{x} {top}V{top + side}M{left} {y}H{left + side}" stroke="#e3e7ec" fill="none"/>')
        parts.append(f'<text x="{x}" y="{top + side + 16}" text-anchor="middle" class="faint">{tick:g}</text>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end" class="faint">{tick:g}</text>')
    parts.append(f'<path d="M{left} {top + side}L{left + side} {top}" stroke="#aab2bd" stroke-dasharray="4 4"/>')
    parts.append(
        f'<text x="{left + side / 2}" y="{top + side + 34}" text-anchor="middle" class="faint">good parts '
        "rejected</text>"
    )
    middle = top + side / 2
    parts.append(
        f'<text x="10" y="{middle}" text-anchor="middle" class="faint" transform="rotate(-90 10 {middle})">defects '
        "found</text>"
    )
    return parts


def _roc_line(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False, name: str = "") -> str:
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(_to_roc_point, points))
    dashes = ' stroke-dasharray="7 4"' if dashed else ""
    title = f"<title>{escape(name)}</title>" if name else ""
    style = f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"{dashes}'
    return f'<path d="M{line}" {style}>{title}</path>'


def loss_chart(points: Sequence[tuple[float, Mapping[str, float]]]) -> Markup:
    """Losses over steps: a line for each name of `points`, (step, mean of each loss by its name), on a log axis where
    all are positive."""
    names = list(points[0][1]) if points else []
    values = [losses[name] for _, losses in points for name in names if math.isfinite(losses.get(name, math.nan))]
    if len(points) < 2 or not values:
        return Markup()
    low, high = min(values), max(values)
    log = low > 0 and high / low > 3
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    left, right, top, bottom = 64, 470, 12, 212
    steps = max(points[-1][0], 1)

    def to_point(step: float, value: float) -> tuple[float, float]:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return left + step / steps * (right - left), bottom - share * (bottom - top)

    parts = []
    for tick in _log_ticks(low, high) if log else _ticks(low, high):
        y = to_point(0, tick)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e3e7ec" fill="none"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" class="faint">{tick:.3g}</text>')
    for tick in _ticks(0, steps):
        x = to_point(tick, high)[0]
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" class="faint">{tick:g}</text>')
    for number, name in enumerate(names):
        colour = LINES[number % len(LINES)]
        line = "L".join(
            "{:.1f} {:.1f}".format(*to_point(step, losses[name]))
            for step, losses in points
            if math.isfinite(losses.get(name, math.nan))
        )
        parts.append(
            f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{2 if name == "loss" else 1.4}" '
            'stroke-linejoin="round"/>'
        )
        parts.append(
            f'<text x="{left + 8 + 110 * (number % 4)}" y="{bottom + 52 + 16 * (number // 4)}" '
            f'fill="{colour}">{escape(name)}</text>'
        )
    parts.append(
        f'<text x="{right}" y="{bottom + 32}" text-anchor="end" '
        f'class="faint">steps{", losses on a log scale" if log else ""}</text>'
    )
    return _svg(480, bottom + 60 + 16 * ((len(names) - 1) // 4), "Losses over training steps", parts)


def _svg(width: float, height: float, title: str, parts: list[str]) -> Markup:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], or the two ends where at most one is within."""
    powers = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return powers if len(powers) > 1 else [low, high]

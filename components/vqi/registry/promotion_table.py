"""A promotion as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from vqi.platform.printing import printable
from vqi.registry.promotion import Promotion


def promotion_lines(promotion: Promotion) -> list[str]:
    """The table of figures, what they were measured on, and what was decided."""
    name, candidate = promotion.name, promotion.candidate
    if promotion.decision == "unchanged":
        return [f"{name}/{candidate} is the champion already; nothing was compared."]
    champion = f"version {promotion.champion}" if promotion.champion else "no champion"
    rows = [("figure", f"version {candidate}", champion, "95 % of the difference", "")]
    for figure in promotion.figures:
        interval = "" if figure.low is None else f"{figure.low:+.4f} to {figure.high:+.4f}"
        before = "-" if figure.champion is None else _shown(figure.champion)
        rows.append((figure.name, _shown(figure.candidate), before, interval, "refused" if figure.reason else "passes"))
    lines = [
        *table_lines(rows),
        f"{promotion.photographs} photographs of {promotion.good} good and {promotion.defect} defective parts.",
        *promotion.notes,
    ]
    if promotion.decision == "accepted":
        lines.append(f"Version {candidate} of {name} is the champion now.")
    return lines


def refusal(promotion: Promotion) -> str:
    """Why a candidate was refused, as one sentence."""
    stays = (
        f"version {promotion.champion} stays the champion" if promotion.champion else "the model is without a champion"
    )
    return f"{promotion.name}/{promotion.candidate} is refused, and {stays}: {'; '.join(promotion.reasons)}."


def table_lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, each column as wide as what it holds."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _shown(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"

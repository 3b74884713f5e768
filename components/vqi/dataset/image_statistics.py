"""Whether a photograph can be one of a set at all: nine figures of it, held against ranges from good photographs of
the set.

A detector answers every picture with a score, a black frame's too, and a score that happens to lie below the threshold
says "good". The figures here are of the whole photograph (its size, its light, its sharpness), so that a defect hardly
moves them: light and colour are means over the middle 60 % of the picture's cells, sharpness is that of the sharpest
quarter, and contrast, sharpness and uniformity count on the side of an empty or a blurred frame alone. numpy and Pillow
alone: training images and torch-free prediction use the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Photographs of a set that are examined at most, evenly chosen: each has to be decoded.
EXAMINED = 250
CELLS, TILES = 32, 8
# The share of cells left out at either end: what a defect, or the background, can take without being counted.
TRIMMED = 0.2
WINDOW = 16
# How far ranges reach past what was seen, in parts of their own width; few photographs have seen little of what will
# come.
WIDENED, FEW = 0.5, 10.0
# A picture of which more than this has one grey level shows nothing, however uniform its set is.
UNIFORM = 0.98


@dataclass(frozen=True)
class Statistic:
    """One figure: how a person reads it, and how a range of it is made.

    Ranges are made on the values themselves, or on log2(value + `offset`) where `offset` is set. `tolerance`, in those
    units, is what a range reaches past the lowest and the highest value at least. `low` and `high` say which sides
    count.
    """

    phrase: str
    form: str
    tolerance: float
    offset: float | None = None
    low: bool = True
    high: bool = True

    def scaled(self, values: np.ndarray) -> np.ndarray:
        return values if self.offset is None else np.log2(values + self.offset)

    def unscaled(self, value: float) -> float:
        return value if self.offset is None else 2.0**value - self.offset


# A twentieth more or less of a side is a change that the resizing to the network's input takes up.
TWENTIETH = math.log2(1.05)
STATISTICS: Mapping[str, Statistic] = {
    "side": Statistic("size (side of a square of its area, pixels)", "z.0f", TWENTIETH, offset=0.0),
    "aspect": Statistic("aspect (width by height)", "z.3f", TWENTIETH, offset=0.0),
    "brightness": Statistic("mean brightness", "z.0f", 16),
    "red_green": Statistic("colour (mean red less green)", "z.0f", 6),
    "blue_green": Statistic("colour (mean blue less green)", "z.0f", 6),
    # Of a grey file it is 0: below 3 levels a set counts as grey, and a set that is grey lets no more than that pass.
    "colourfulness": Statistic("colourfulness (largest less smallest channel)", "z.1f", 2, offset=1.0),
    "contrast": Statistic("contrast (standard deviation of its grey levels)", "z.1f", 1, offset=1.0, high=False),
    "sharpness": Statistic("sharpness (Laplacian of the sharpest quarter)", "z.2f", 0.7, offset=0.1, high=False),
    "uniform_share": Statistic("share of one grey level", "z.2f", 0.25, low=False),
}


@dataclass(frozen=True)
class StatisticRange:
    """`lowest` and `highest` of the photographs examined; below `low` or above `high` (None: any value passes) a
    photograph is implausible.
    """

    lowest: float
    highest: float
    low: float | None
    high: float | None


def image_statistics(pixels: np.ndarray, original: tuple[int, int]) -> dict[str, float]:
    """The figures of STATISTICS, of what the network sees, uint8 [h, w, 3] with sides of at least 10, and of its
    original's (height, width).
    """
    picture = Image.fromarray(pixels)
    cells = np.asarray(picture.resize((CELLS, CELLS), Image.Resampling.BOX), dtype=np.float32).reshape(-1, 3)
    grey = np.asarray(picture.convert("L"))
    levels = np.concatenate([[0], np.cumsum(np.bincount(grey.ravel(), minlength=256))])
    return {
        "side": math.sqrt(original[0] * original[1]),
        "aspect": original[1] / original[0],
        "brightness": _middle_mean(cells @ np.array([0.299, 0.587, 0.114], np.float32)),
        "red_green": _middle_mean(cells[:, 0] - cells[:, 1]),
        "blue_green": _middle_mean(cells[:, 2] - cells[:, 1]),
        "colourfulness": _middle_mean(cells.max(axis=1) - cells.min(axis=1)),
        "contrast": float(grey.std()),
        "sharpness": _sharpness(grey),
        "uniform_share": float((levels[WINDOW:] - levels[:-WINDOW]).max() / grey.size),
    }


def _middle_mean(values: np.ndarray) -> float:
    out = int(len(values) * TRIMMED)
    return float(np.sort(values)[out : len(values) - out].mean())


def _sharpness(grey: np.ndarray) -> float:
    """The mean of the absolute Laplacian in each of TILES x TILES tiles of uint8 [h, w], and of those the upper
    quartile.
    """
    values = grey.astype(np.int16)
    middle = values[1:-1, 1:-1]
    laplacian = np.abs(4 * middle - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:])
    height, width = (side // TILES for side in laplacian.shape)
    tiles = laplacian[: height * TILES, : width * TILES].reshape(TILES, height, TILES, width).mean(axis=(1, 3))
    return float(np.quantile(tiles, 0.75))


def evenly_chosen(count: int, most: int = EXAMINED) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return sorted({round(number) for number in np.linspace(0, count - 1, min(count, most))}) if count else []


def plausible_ranges(rows: Sequence[Mapping[str, float]]) -> dict[str, StatisticRange]:
    """A range of every statistic from what good photographs have: from the lowest to the highest, widened on either
    side by half of that (with fewer than 20 photographs by 10 / n of it), and by the statistic's tolerance at least.
    """
    wider = max(WIDENED, FEW / len(rows))
    ranges = {}
    for name, statistic in STATISTICS.items():
        seen = np.array([row[name] for row in rows], dtype=float)
        scaled = statistic.scaled(seen)
        width = max(statistic.tolerance, wider * float(scaled.max() - scaled.min()))
        low, high = statistic.unscaled(float(scaled.min()) - width), statistic.unscaled(float(scaled.max()) + width)
        if name == "uniform_share":
            high = min(high, max(UNIFORM, (1 + float(seen.max())) / 2))
        ranges[name] = StatisticRange(
            float(seen.min()), float(seen.max()), low if statistic.low else None, high if statistic.high else None
        )
    return ranges


def outside(row: Mapping[str, float], ranges: Mapping[str, StatisticRange]) -> list[str]:
    """The names of the statistics of a photograph that lie outside their ranges."""
    names = []
    for name, limit in ranges.items():
        below = limit.low is not None and row[name] < limit.low
        above = limit.high is not None and row[name] > limit.high
        if below or above:
            names.append(name)
    return names


def false_alarm_rate(rows: Sequence[Mapping[str, float]]) -> float:
    """The share of good photographs that ranges from `rows` call implausible, all statistics together.

    Each photograph is held against ranges from the others; with m of n outside it is (m + 1) / (n + 1). Of n + 1
    exchangeable photographs the new one is as likely as any to be one that is outside, so that the expected share of
    those outside is the rate (leave-one-out); the one that is added keeps the figure on the safe side and above what n
    photographs can show.
    """
    if len(rows) < 2:
        return 1.0
    count = sum(
        bool(outside(row, plausible_ranges([*rows[:number], *rows[number + 1 :]]))) for number, row in enumerate(rows)
    )
    return (count + 1) / (len(rows) + 1)


def implausible_sentence(name: str, row: Mapping[str, float], ranges: Mapping[str, StatisticRange], images: int) -> str:
    """Why the photograph `name` is implausible, in a sentence; "" where it is not. `images` is the number the ranges
    come from.
    """
    reasons = []
    for statistic in outside(row, ranges):
        limit, kind = ranges[statistic], STATISTICS[statistic]
        value, lowest, highest = (format(number, kind.form) for number in (row[statistic], limit.lowest, limit.highest))
        between = lowest if lowest == highest else f"{lowest} to {highest}"
        reasons.append(f"its {kind.phrase} is {value}, in training {between}")
    if not reasons:
        return ""
    return f"{name} is not a plausible photograph of this set: {'; '.join(reasons)} ({images} good photographs)."

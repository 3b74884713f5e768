"""The one page a person opens after a run: what was measured, at which threshold, and what it looks like. It needs
nothing but itself."""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vqi.evaluation.charts import histogram_chart, roc_chart
from vqi.evaluation.learning import Learning
from vqi.evaluation.metrics import Confusion
from vqi.evaluation.pictures import SMALLEST_SIDE, TRUTH, Example, Scale, colour_table, outline, views
from vqi.evaluation.records import Choice, Metrics, Results
from vqi.evaluation.verdict import percent, totals
from vqi.pages.page import data_uri, render
from vqi.platform.files import write_whole

SHOWN = 24
# Between them the page says that its formats are not measured; nothing from data can look like them: it is escaped.
FORMATS_BEFORE, FORMATS_AFTER = Markup("<!-- formats -->"), Markup("<!-- end of formats -->")
SIDE = 320

# What the page explains about every number; the order is that of the table.
METRICS = {
    "image_auroc": ("image AUROC", "how often a defective part scores above a good one; 0.5 is chance"),
    "image_aupr": ("image AUPR", "precision averaged over recall, defects as the positive class"),
    "image_f1_max": ("image F1, best", "highest F1 any threshold could reach on this test set"),
    "accuracy": ("accuracy", "share of right decisions at the threshold in use"),
    "balanced_accuracy": ("balanced accuracy", "mean of the shares right among defects and among good parts"),
    "pixel_auroc": ("pixel AUROC", "the same as image AUROC, pixel by pixel"),
    "pixel_aupr": ("pixel AUPR", "precision averaged over recall, pixel by pixel"),
    "pixel_f1_max": ("pixel F1, best", "highest pixel F1 any threshold could reach"),
    "aupro": ("AUPRO 0.3", "overlap with each defect region, averaged up to 30 % false-positive pixels"),
    "aupro_05": ("AUPRO 0.05", "the same up to 5 % false-positive pixels: finer outlines count more"),
    "au_spro": ("AU-sPRO 0.3", "as AUPRO, but a region counts as found whole from its saturation threshold on"),
    "au_spro_05": ("AU-sPRO 0.05", "the same up to 5 % false-positive pixels"),
    "box_recall": ("box recall", "share of defects drawn as boxes that what is marked reaches into"),
}
MORE_METRICS = {
    "classifier_accuracy": (
        "classifier's accuracy",
        "share of right decisions at the classifier's own boundary, score 0",
    ),
    "classifier_balanced_accuracy": (
        "classifier's balanced accuracy",
        "mean of the shares right among defects and among good parts there",
    ),
    "recall": ("recall", "share of defective images found at the threshold"),
    "precision": ("precision", "share of images judged defective that are"),
    "false_reject_rate": ("false-reject rate", "share of good test images rejected at the threshold"),
    "f1": ("F1", "harmonic mean of precision and recall at the threshold"),
    "kappa": ("Cohen's kappa", "agreement with the labels beyond chance"),
    "pixel_accuracy": ("pixel accuracy", "share of right pixels at the pixel threshold"),
    "pixel_iou": ("pixel IoU", "overlap of found and true defect pixels"),
    "pixel_miou": ("pixel mean IoU", "mean of the IoU of defect and of background"),
    "pixel_dice": ("pixel Dice", "F1 of defect pixels at the pixel threshold"),
    "pixel_kappa": ("pixel kappa", "agreement with the masks beyond chance"),
    "pixel_recall": ("pixel recall", "share of defect pixels found"),
}
RANDOM_WEIGHTS = (
    "The backbone's weights are random: this run tests the machinery, and its numbers say nothing about the product."
)
NO_WEIGHTS = (
    "No pretrained weights were used: features come from a fixed bank of oriented filters. Pretrained weights "
    "usually find more."
)


class ExampleChooser:
    """Keeps the few examples worth showing while scored images stream by; never holds more than some dozens, scaled
    down.

    Usage, for every scored sample::

        # Cheap: before decoding and inverting the map.
        if chooser.wants(label=sample.label, defect=sample.defect, score=score):
            chooser.offer(Example(...))
        ...
        write_report(report, results, chooser.chosen())

    Kept are the worst misses (defects passed, lowest score first; good parts rejected, highest first), the right
    decisions closest to the threshold, typical right decisions of every defect type, and the highest-scored unlabelled
    images.
    """

    MISSED, REJECTED, CLOSE, UNLABELLED, TYPICAL, TYPES = 6, 5, 3, 4, 3, 32

    def __init__(self, threshold: float, limit: int = SHOWN) -> None:
        self.threshold = threshold
        self.limit = limit
        # Group -> heap of (worth, tie-breaker, example); the least worthy is on top and leaves first.
        self._groups: dict[str, list[tuple[float, int, Example]]] = {}
        self._arrivals = itertools.count()

    def wants(self, *, label: str, defect: str, score: float) -> bool:
        """Whether an image with this label, defect type and raw score would be kept."""
        return any(
            self._has_room(group, worth, size) for group, worth, size in self._match_groups(label, defect, score)
        )

    def offer(self, example: Example) -> None:
        """Take an example in, scaled down, where one of the groups wants it."""
        small: Example | None = None
        for group, worth, size in self._match_groups(example.label, example.defect, example.score):
            if not self._has_room(group, worth, size):
                continue
            small = small or example.resized(SIDE)
            heap = self._groups.setdefault(group, [])
            heapq.heappush(heap, (worth, -next(self._arrivals), small))
            if len(heap) > size:
                heapq.heappop(heap)

    def chosen(self) -> list[Example]:
        """The examples to show, at most `limit`: misses first, then close calls, then one typical of every defect type,
        then second ones."""

        def best(group: str) -> list[Example]:
            return [
                example
                for *_, example in sorted(self._groups.get(group, []), key=lambda entry: entry[:2], reverse=True)
            ]

        typical = []
        for group in sorted(name for name in self._groups if name.startswith("typical/")):
            by_score = sorted(best(group), key=lambda example: example.score)
            typical.append(by_score[len(by_score) // 2 :] + by_score[: len(by_score) // 2])
        rounds = [example for turn in itertools.zip_longest(*typical) for example in turn if example is not None]
        ordered = [*best("missed"), *best("rejected"), *best("close"), *best("unlabelled"), *rounds]
        return list({example.path: example for example in reversed(ordered[: self._cut(ordered)])}.values())[::-1]

    def _cut(self, ordered: list[Example]) -> int:
        """How many leading entries hold `limit` different paths."""
        seen: set[str] = set()
        for index, example in enumerate(ordered):
            seen.add(example.path)
            if len(seen) > self.limit:
                return index
        return len(ordered)

    def _match_groups(self, label: str, defect: str, score: float) -> list[tuple[str, float, int]]:
        """The groups this image belongs to, with its worth in each and the group's size."""
        margin = score - self.threshold
        if label == "unknown":
            return [("unlabelled", score, self.UNLABELLED)]
        if (label == "defect") != (score > self.threshold):
            return [("missed", -margin, self.MISSED)] if label == "defect" else [("rejected", margin, self.REJECTED)]
        groups = [("close", -abs(margin), self.CLOSE)]
        typical = f"typical/{defect}"
        if typical in self._groups or sum(name.startswith("typical/") for name in self._groups) < self.TYPES:
            groups.append((typical, 0.0, self.TYPICAL))
        return groups

    def _has_room(self, group: str, worth: float, size: int) -> bool:
        heap = self._groups.get(group, [])
        return len(heap) < size or worth > heap[0][0]


def write_report(
    report: Path,
    results: Results,
    examples: Sequence[Example],
    learning: Learning | None = None,
    decisive: np.ndarray | None = None,
) -> None:
    """Write the page for `results` and the chosen `examples`, atomically.

    `learning` is there where the network was trained by gradient; `decisive` is the photograph, uint8 [H, W, 3], that
    sets the threshold alone.
    """
    metrics, threshold, confusion = results.metrics, results.threshold, results.metrics.confusion
    scale = Scale(threshold.pixel, threshold.floor)
    write_whole(
        report,
        render(
            "report.html.jinja",
            "vqi.evaluation",
            title=f"{results.name}: {results.method}",
            results=results,
            record=_record(results),
            counts=results.counts.values(),
            threshold=threshold,
            backbone=f"{results.backbone.name} {'+'.join(results.backbone.layers)}".strip(),
            weights=results.weights.label,
            random_weights=RANDOM_WEIGHTS if results.weights.kind == "random" else None,
            weights_note=NO_WEIGHTS if results.backbone.name == "filterbank" else None,
            verdict=results.verdict,
            decisive=_decisive(results, decisive),
            tiles=_tiles(metrics),
            metric_rows=_metric_rows(METRICS, metrics, results.notes),
            more_rows=_metric_rows(MORE_METRICS, metrics, results.notes),
            confusion=confusion,
            rates=_rates(confusion),
            trade_off=_trade_off(results.trade_off),
            defects=_defect_table(results),
            roc=roc_chart(results.roc, _operating_point(confusion)),
            histogram=histogram_chart(results.histogram, threshold.image),
            sections=_sections(examples, scale),
            learning=learning.section() if learning else None,
            gradient=_gradient(),
            flat=_flat,
            percent=percent,
            number=_number,
            formats_before=FORMATS_BEFORE,
            formats_after=FORMATS_AFTER,
        ),
    )


def with_formats(page: str, formats: str) -> str:
    """The page of `write_report` with what export measured, HTML, where it says that nothing is measured yet; unchanged
    where it says no such thing."""
    start, end = page.find(FORMATS_BEFORE), page.find(FORMATS_AFTER)
    return page[:start] + formats + page[end + len(FORMATS_AFTER) :] if 0 <= start < end else page


def _record(results: Results) -> dict[str, Any]:
    """How the results were made, as it stands in their file."""
    return {
        "method": results.method,
        "settings": results.settings,
        "backbone": results.backbone.model_dump(),
        "weights": results.weights.values(),
        "geometry": results.geometry.model_dump(),
        "versions": results.versions,
    }


def _number(value: Any) -> str:
    """Four decimals for fractions, whole numbers as they are, an en dash for what is missing or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %"


def _wilson(part: int, whole: int) -> str:
    """The 95 % Wilson score interval of a share (E. B. Wilson, 1927), as text."""
    z = 1.959964
    middle = (part + z * z / 2) / (whole + z * z)
    half = z / (whole + z * z) * math.sqrt(part * (whole - part) / whole + z * z / 4)
    return f"{100 * max(middle - half, 0):.0f} to {100 * min(middle + half, 1):.0f} %"


def _tiles(metrics: Metrics) -> list[tuple[str, str]]:
    detected, defects, rejected, good = totals(metrics.confusion)
    tiles = [
        (f"{detected} / {defects}" if defects else "–", "defects found"),
        (f"{rejected} / {good}" if good else "–", "good parts rejected"),
    ]
    return tiles + [
        (_number(getattr(metrics, key)), METRICS[key][0]) for key in ("image_auroc", "pixel_auroc", "aupro")
    ]


def _metric_rows(
    names: Mapping[str, tuple[str, str]], metrics: Metrics, notes: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Name, value and meaning of the metrics measured; where a value is missing, the reason a note gives stands for its
    meaning."""
    rows, numbers = [], metrics.numbers
    for key, (name, meaning) in names.items():
        if key not in numbers:
            continue
        if numbers[key] is None:
            note = next((note for note in notes if re.search(rf"\b{key}\b", note)), "not defined on this test set")
            meaning = note.split(": ", 1)[-1]
        rows.append((name, _number(numbers[key]), meaning))
    return rows


def _rates(confusion: Confusion) -> list[str]:
    detected, defects, rejected, good = totals(confusion)
    rates = []
    if defects:
        rates.append(f"Defects found: {_share(detected, defects)} (95 % interval {_wilson(detected, defects)}).")
    if good:
        rates.append(f"Good parts rejected: {_share(rejected, good)} (95 % interval {_wilson(rejected, good)}).")
    return rates


def _trade_off(rows: Sequence[Choice]) -> list[tuple[str, ...]]:
    """Rate, what one detector stays below, threshold, defects found and good parts rejected, as text."""
    shown: list[tuple[str, ...]] = []
    for row in rows:
        detected, defects, rejected, good = totals(row.confusion)
        shown.append(
            (
                percent(row.rate),
                percent(row.rate_95),
                f"{row.threshold:.4g}",
                f"{detected} / {defects}",
                f"{rejected} / {good}",
            )
        )
    return shown


def _operating_point(confusion: Confusion) -> tuple[float, float] | None:
    detected, defects, rejected, good = totals(confusion)
    return (rejected / good, detected / defects) if defects and good else None


def _defect_table(results: Results) -> dict[str, Any]:
    """Header and rows of the table of defect types, counts first, and good parts as the last row: the columns are
    whatever was measured."""
    means = results.mean_scores
    types: dict[str, dict[str, float | None]] = {
        kind: {**row.values(), "mean score": means.get(kind)} for kind, row in results.per_defect.items()
    }
    if "good" in means and "good" not in types:
        types["good"] = {"images": results.counts.good, "mean score": means["good"]}
    keys = [
        key
        for key in dict.fromkeys(key for row in types.values() for key in row)
        if any(row.get(key) is not None for row in types.values())
    ]
    names = {**METRICS, **MORE_METRICS}
    head = [names[key][0] if key in names else key for key in keys]
    return {"head": head, "rows": [(kind, [_number(row.get(key)) for key in keys]) for kind, row in types.items()]}


def _sections(examples: Iterable[Example], scale: Scale) -> list[dict[str, Any]]:
    """The examples under the headings they belong to, each with its pictures ready to show."""
    sections = {
        "Missed defects": "Defective parts that would pass, the lowest score first.",
        "Good parts rejected": "Good parts that would be rejected, the highest score first.",
        "Right decisions": "Those closest to the threshold first, then typical ones of every type.",
        "Unlabelled": "Images without a label, so there is no right or wrong.",
    }
    shown: dict[str, list[dict[str, Any]]] = {title: [] for title in sections}
    for example in itertools.islice(examples, SHOWN):
        if example.right is None:
            title = "Unlabelled"
        elif example.right:
            title = "Right decisions"
        else:
            title = "Missed defects" if example.label == "defect" else "Good parts rejected"
        shown[title].append({"example": example, "pictures": _pictures(example, scale)})
    return [{"title": title, "text": sections[title], "items": items} for title, items in shown.items() if items]


def _pictures(example: Example, scale: Scale) -> list[tuple[str, Markup]]:
    """Photograph, heatmap, and what was found with the truth over it, as (alternative text, data address)."""
    small = example.resized(SIDE, SMALLEST_SIDE)
    pictures = {name: picture for name, picture in views(small, scale) if name != "truth"}
    if small.mask is not None:
        pictures["found"] = outline(pictures["found"], small.mask, TRUTH, dashed=True)
    return [(name, data_uri(picture, quality=80)) for name, picture in pictures.items()]


def _decisive(results: Results, photograph: np.ndarray | None) -> dict[str, Any] | None:
    """The photograph that sets the threshold, small, with its name."""
    decisive = results.verdict.decisive
    if photograph is None or decisive is None:
        return None
    from PIL import Image

    small = Image.fromarray(photograph)
    small.thumbnail((SIDE, SIDE))
    return {"address": data_uri(np.asarray(small), quality=80), "path": decisive.photographs[0]}


def _gradient() -> Markup:
    """The colour table as CSS stops for the legend."""
    return Markup(", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_table()[:: 255 // 15]))


def _flat(value: Any) -> str:
    """A value of the run's record as one line: nested mappings and lists are spelt out, None is an en dash."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return (
            " × ".join(map(_flat, value))
            if value and all(isinstance(v, (int, float)) for v in value)
            else ", ".join(map(_flat, value)) or "–"
        )
    return "–" if value is None or value == "" else str(value)

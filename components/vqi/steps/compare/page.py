"""The page of a comparison: every leg in one table, means per method, ROC curves laid over each other, the same photographs by every method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vqi.evaluation.charts import line_style, roc_overlay
from vqi.pages.page import render
from vqi.steps.compare.outcome import FIGURES, MethodMean, Outcome, best, by_category, method_means, shown

# A picture came as text from a store; anything but this stays out of the page.
PICTURE = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+={0,2}\Z")


def comparison_page(title: str, outcomes: Sequence[Outcome]) -> str:
    """The page as HTML; it needs nothing but itself."""
    means = method_means(outcomes)
    labels = list(dict.fromkeys(outcome.label for outcome in outcomes))
    return render(
        "comparison.html.jinja",
        "vqi.steps.compare",
        title=title,
        figures=[(name, told) for name, (told, *_) in FIGURES.items()],
        missing=[outcome for outcome in outcomes if not outcome.complete],
        complete=sum(outcome.complete for outcome in outcomes),
        legs=len(outcomes),
        means=_mean_rows(means),
        uneven=len({frozenset(leg.category for leg in outcomes if leg.results and leg.label == mean.label) for mean in means}) > 1,
        categories=[_category(name, legs, labels) for name, legs in by_category(outcomes).items()],
    )


def _mean_rows(means: list[MethodMean]) -> list[dict[str, Any]]:
    rows = []
    for mean in means:
        tops = {name: best([other.means for other in means], name) for name in FIGURES}
        rows.append({"label": mean.label, "legs": mean.legs, "cells": _cells(mean.means, tops)})
    return rows


def _cells(figures: dict[str, float], tops: dict[str, str]) -> list[tuple[str, bool]]:
    """Each figure as text, and whether it is the best of its column."""
    texts = {name: shown(name, figures.get(name)) for name in FIGURES}
    return [(text, text == tops[name]) for name, text in texts.items()]


def _category(name: str, legs: list[Outcome], labels: list[str]) -> dict[str, Any]:
    """What the page shows of a category; a method has one colour in all of them, by its place in `labels`."""
    tops = {figure: best([leg.figures for leg in legs], figure) for figure in FIGURES}
    curves = [(leg.label, labels.index(leg.label), leg.roc) for leg in legs if len(leg.roc) > 1]
    fingerprints = {leg.results.get("dataset_fingerprint") for leg in legs if leg.results}
    measured = next((leg.results for leg in legs if leg.results), {})
    return {
        "name": name,
        "rows": [{"leg": leg, "cells": _cells(leg.figures, tops)} for leg in legs],
        "roc": roc_overlay(curves) if curves else Markup(),
        "key": [(label, *line_style(place)) for label, place, _ in curves],
        "photographs": _photographs(legs),
        "fingerprint": str(measured.get("dataset_fingerprint", ""))[:12],
        "several_sets": len(fingerprints) > 1,
        "counts": measured.get("counts", {}),
    }


def _photographs(legs: list[Outcome]) -> list[dict[str, Any]]:
    """The photographs that legs show, each once, with every leg's heatmap beside it."""
    rows: dict[str, dict[str, Any]] = {}
    for leg in legs:
        for example in leg.examples:
            if not all(PICTURE.match(str(example.get(name, ""))) for name in ("photograph", "heatmap")):
                continue
            path = str(example.get("path", ""))
            row = rows.setdefault(path, {"path": path, "defect": example.get("defect", ""), "photograph": Markup(example["photograph"]), "maps": []})
            row["maps"].append((leg.label, Markup(example["heatmap"]), str(example.get("decision", ""))))
    return list(rows.values())

"""The page of a comparison: every trial in one table, means per method, ROC curves in one chart, the same
photographs by every method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vqi.evaluation.charts import line_style, roc_overlay
from vqi.pages.page import render
from vqi.steps.compare.trial_result import FIGURES, MethodMean, TrialResult, best, by_category, method_means, shown

# A picture came as text from a store; anything but this stays out of the page.
PICTURE = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+={0,2}\Z")


def comparison_page(title: str, trial_results: Sequence[TrialResult]) -> str:
    """The page as HTML; it needs nothing but itself."""
    means = method_means(trial_results)
    labels = list(dict.fromkeys(trial_result.label for trial_result in trial_results))
    return render(
        "comparison.html.jinja",
        "vqi.steps.compare",
        title=title,
        figures=[(name, column) for name, (column, *_) in FIGURES.items()],
        missing=[trial_result for trial_result in trial_results if not trial_result.complete],
        complete=sum(trial_result.complete for trial_result in trial_results),
        trials=len(trial_results),
        means=_mean_rows(means),
        uneven=len(
            {
                frozenset(trial.category for trial in trial_results if trial.results and trial.label == mean.label)
                for mean in means
            }
        )
        > 1,
        categories=[_category(name, trials, labels) for name, trials in by_category(trial_results).items()],
    )


def _mean_rows(means: list[MethodMean]) -> list[dict[str, Any]]:
    rows = []
    for mean in means:
        tops = {name: best([other.means for other in means], name) for name in FIGURES}
        rows.append({"label": mean.label, "trials": mean.trials, "cells": _cells(mean.means, tops)})
    return rows


def _cells(figures: dict[str, float], tops: dict[str, str]) -> list[tuple[str, bool]]:
    """Each figure as text, and whether it is the best of its column."""
    texts = {name: shown(name, figures.get(name)) for name in FIGURES}
    return [(text, text == tops[name]) for name, text in texts.items()]


def _category(name: str, trials: list[TrialResult], labels: list[str]) -> dict[str, Any]:
    """What the page shows of a category; a method has one colour in all of them, by its place in `labels`."""
    tops = {figure: best([trial.figures for trial in trials], figure) for figure in FIGURES}
    curves = [(trial.label, labels.index(trial.label), trial.roc) for trial in trials if len(trial.roc) > 1]
    fingerprints = {trial.results.get("dataset_fingerprint") for trial in trials if trial.results}
    results = next((trial.results for trial in trials if trial.results), {})
    return {
        "name": name,
        "rows": [{"trial": trial, "cells": _cells(trial.figures, tops)} for trial in trials],
        "roc": roc_overlay(curves) if curves else Markup(),
        "key": [(label, *line_style(position)) for label, position, _ in curves],
        "photographs": _photographs(trials),
        "fingerprint": str(results.get("dataset_fingerprint", ""))[:12],
        "several_sets": len(fingerprints) > 1,
        "counts": results.get("counts", {}),
    }


def _photographs(trials: list[TrialResult]) -> list[dict[str, Any]]:
    """The photographs that trials show, each once, with every trial's heatmap beside it."""
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        for example in trial.examples:
            if not all(PICTURE.match(str(example.get(name, ""))) for name in ("photograph", "heatmap")):
                continue
            path = str(example.get("path", ""))
            row = rows.setdefault(
                path,
                {
                    "path": path,
                    "defect": example.get("defect", ""),
                    "photograph": Markup(example["photograph"]),
                    "maps": [],
                },
            )
            row["maps"].append((trial.label, Markup(example["heatmap"]), str(example.get("decision", ""))))
    return list(rows.values())

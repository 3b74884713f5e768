"""The page of a comparison: every trial in one table, means per method, ROC curves in one chart, the same
photographs by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vqi.evaluation.charts import line_style, roc_overlay
from vqi.pages.page import render
from vqi.steps.compare.comparison import Figures, MeanFigures
from vqi.steps.compare.trial_result import FIGURES, TrialResult, best, by_category, method_means, shown


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
                frozenset(trial.category for trial in trial_results if trial.results and trial.label == label)
                for label in means
            }
        )
        > 1,
        categories=[_category(name, trials, labels) for name, trials in by_category(trial_results).items()],
    )


def _mean_rows(means: Mapping[str, MeanFigures]) -> list[dict[str, Any]]:
    tops = {name: best(means.values(), name) for name in FIGURES}
    return [{"label": label, "trials": mean.trials, "cells": _cells(mean, tops)} for label, mean in means.items()]


def _cells(figures: Figures, tops: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Each figure as text, and whether it is the best of its column."""
    texts = {name: shown(name, figures.figure(name)) for name in FIGURES}
    return [(text, text == tops[name]) for name, text in texts.items()]


def _category(name: str, trials: list[TrialResult], labels: list[str]) -> dict[str, Any]:
    """What the page shows of a category; a method has one colour in all of them, by its position in `labels`."""
    tops = {figure: best([trial.figures for trial in trials], figure) for figure in FIGURES}
    curves = [(trial.label, labels.index(trial.label), trial.roc) for trial in trials if len(trial.roc) > 1]
    evaluated = [trial.results for trial in trials if trial.results]
    return {
        "name": name,
        "rows": [{"trial": trial, "cells": _cells(trial.figures, tops)} for trial in trials],
        "roc": roc_overlay(curves) if curves else Markup(),
        "key": [(label, *line_style(position)) for label, position, _ in curves],
        "photographs": _photographs(trials),
        "fingerprint": evaluated[0].dataset_fingerprint[:12] if evaluated else "",
        "several_sets": len({results.dataset_fingerprint for results in evaluated}) > 1,
        "counts": evaluated[0].counts if evaluated else None,
    }


def _photographs(trials: list[TrialResult]) -> list[dict[str, Any]]:
    """The photographs that trials show, each once, with every trial's heatmap beside it."""
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        for example in trial.examples:
            # Data addresses: the record takes nothing else.
            photograph, heatmap = Markup(example.photograph), Markup(example.heatmap)
            row = rows.setdefault(
                example.path, {"path": example.path, "defect": example.defect, "photograph": photograph, "maps": []}
            )
            row["maps"].append((trial.label, heatmap, example.decision))
    return list(rows.values())

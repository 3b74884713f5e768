"""The trials of a comparison from the catalog: what `vqi run-all` runs here, and what train_all gets in a
cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vqi.category import Category, check_texts
from vqi.platform.errors import BadInput
from vqi.steps.plan_trials.planning import OF_THE_COMPARISON, Trial, check_unsharded, mark_trials
from vqi_pipelines.catalog import category_names, load_category


def catalog_trials(
    names: Sequence[str], all_of_them: bool, methods: Sequence[str], overrides: Sequence[str]
) -> list[Trial]:
    """Categories x methods, each with `overrides` ("path=value"); without `methods` each category's own.

    Raises BadInput where nothing is named, or for the first category that cannot be run.
    """
    if all_of_them and names:
        raise BadInput("--all takes every category of the catalog; leave --category out, or --all.")
    named = category_names() if all_of_them else list(dict.fromkeys(names))
    if not named:
        raise BadInput(
            "The catalog is empty."
            if all_of_them
            else "Name the categories with --category, once each, or take them all with --all."
        )
    return mark_trials([_with_method(name, method, overrides) for name in named for method in methods or ("",)])


def train_all_parameters(trials: Sequence[Trial]) -> dict[str, str]:
    """The parameters of a run of train_all that makes these trials; each trial is an entry of `categories`, with those
    of its parameters that are not the defaults: Argo's record of the run holds all of them some ten times."""
    check_unsharded(trials)
    tracking = trials[0].category.tracking
    defaults = {key: value for key, value in Category().parameters().items() if key not in ("name", "method_name")}
    entries = [
        {
            key: value
            for key, value in trial.category.parameters().items()
            if key not in OF_THE_COMPARISON and value != defaults.get(key)
        }
        for trial in trials
    ]
    for entry in entries:
        check_texts(entry)
    return {
        "categories": json.dumps(entries),
        "common": "{}",
        "methods": "",
        "pool": "any",
        "tracking_experiment": tracking.experiment,
        "tracking_uri": tracking.uri,
    }


def _with_method(name: str, method: str, overrides: Sequence[str]) -> Category:
    category = load_category(name, overrides)
    if not method or method == category.method.name:
        return category
    # Settings are one method's: those that the file or --set gives belong to the category's own.
    applicable = [override for override in overrides if not override.startswith("method.")]
    return load_category(name, [*applicable, f"method.name={method}", "method.settings={}"])

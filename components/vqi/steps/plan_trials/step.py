"""plan_trials: check what was filled in, all of it, before anything costs time; and open the MLflow run that the trials
will hang below."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vqi.category import Category
from vqi.dataset.sources import source_fingerprint
from vqi.placement import placement_fields
from vqi.platform.errors import VqiError
from vqi.platform.files import canonical_json
from vqi.platform.logs import logger
from vqi.steps.fingerprints import inputs_fingerprint
from vqi.steps.plan_trials.planning import Trial, check_unsharded, placement_of_trials, plan
from vqi.tracking.comparisons import Comparison
from vqi.tracking.runs import code_version

log = logger(__name__)

# Before each parameter's name in the loop's items: an item's attribute `name` is KFP's own and would be taken for the
# parameter.
ITEM = "trial_"


def plan_trials(
    *, categories: str, methods: str, common: str, pool: str, tracking_uri: str, experiment: str, key: str, name: str
) -> list[dict[str, Any]]:
    """The trials, each the parameters of one run of train_category with ITEM before their names; `key` is what
    `compare` will find the comparison by.

    Raises BadInput for what cannot be run or where no MLflow is named, RunFailed where it does not answer.
    """
    trials = _checked(categories, methods, common, pool)
    items = _begin(trials, tracking_uri, experiment, name, key, [""] * len(trials))
    return [{f"{ITEM}{name}": value for name, value in item.items()} for item in items]


def plan_compact_trials(
    *,
    categories: str,
    methods: str,
    common: str,
    pool: str,
    tracking_uri: str,
    experiment: str,
    key: str,
    name: str,
    images: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """The outputs of the step, by name and in the order of its face: the trials, each its parameters that are not the
    defaults, and what the task of every one of them gets. `images` are those of run_trial by variant.

    A trial is the same in every comparison of the same photographs by the same code, so that KFP has it in its cache.

    Raises BadInput for what cannot be run, for trials that need different nodes, or where no MLflow is named; RunFailed
    where it does not answer.
    """
    trials = _checked(categories, methods, common, pool)
    shared = placement_of_trials(trials)
    defaults = Category().parameters()
    # Several methods read the same photographs.
    list_source = functools.cache(source_fingerprint)
    trial_keys = [trial_key(trial, list_source) for trial in trials]
    items = [
        {key: value for key, value in item.items() if value != defaults[key]}
        for item in _begin(trials, tracking_uri, experiment, name, key, trial_keys)
    ]
    return {
        "trials": items,
        "node_selector": shared.node_selector,
        "tolerations": list(shared.tolerations),
        "node_affinity": shared.node_affinity,
        "run_trial_placement": placement_fields("run_trial", shared, images),
    }


def _checked(categories: str, methods: str, common: str, pool: str) -> list[Trial]:
    trials = plan(categories, methods, common, pool)
    check_unsharded(trials)
    for trial in trials:
        log.info(f"trial {trial.mark}: {trial.category.name}, {trial.label}")
    return trials


def trial_key(trial: Trial, list_source: Callable[[str], str]) -> str:
    """What tells a trial in every comparison: its parameters, the code, and what the addresses of its photographs
    (`list_source` is `source_fingerprint`), weights and further images list; "" where they cannot be listed, which the
    trial itself says."""
    try:
        listed = [list_source(trial.category.data.source), inputs_fingerprint(trial.category)]
    except (VqiError, OSError):
        return ""
    return hashlib.sha256(canonical_json([trial.entry().parameters, code_version(), listed])).hexdigest()[:32]


def _begin(
    trials: Sequence[Trial], tracking_uri: str, experiment: str, name: str, key: str, trial_keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Open the comparison; all parameters of each trial, which knows its key, or where it has none the comparison."""
    comparison = Comparison.begin(tracking_uri, experiment, name, key)
    keyed = list(zip(trials, trial_keys, strict=True))
    comparison.write_trials([trial.entry(trial_key) for trial, trial_key in keyed])
    own = {"tracking_uri": tracking_uri, "tracking_experiment": experiment}
    return [
        {
            **trial.category.parameters(),
            **own,
            "tracking_comparison": trial_key or f"{comparison.run_id}/{trial.mark}",
        }
        for trial, trial_key in keyed
    ]

"""plan_trials: check what was filled in, all of it, before anything costs time; and open the MLflow run that the trials
will hang below."""

from __future__ import annotations

from typing import Any

from vqi.platform.logs import logger
from vqi.steps.plan_trials.planning import check_unsharded, plan
from vqi.tracking.comparisons import Comparison

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
    trials = plan(categories, methods, common, pool)
    check_unsharded(trials)
    for trial in trials:
        log.info(f"trial {trial.mark}: {trial.category.name}, {trial.label}")
    comparison = Comparison.begin(tracking_uri, experiment, name, key)
    comparison.write_trials([trial.entry() for trial in trials])
    own = {"tracking_uri": tracking_uri, "tracking_experiment": experiment}
    items = [
        {**trial.category.parameters(), **own, "tracking_comparison": f"{comparison.run_id}/{trial.mark}"}
        for trial in trials
    ]
    return [{f"{ITEM}{name}": value for name, value in item.items()} for item in items]

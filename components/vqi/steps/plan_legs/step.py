"""plan_legs: check what was filled in, all of it, before anything costs time; and open the MLflow run that the legs will hang below."""

from __future__ import annotations

import sys
from typing import Any

from vqi.steps.plan_legs.planning import plan
from vqi.tracking.comparisons import Comparison

# Before each parameter's name in the loop's items: an item's attribute `name` is KFP's own and would be taken for the parameter.
ITEM = "leg_"


def plan_legs(
    *, categories: str, methods: str, common: str, pool: str, tracking_uri: str, experiment: str, key: str, name: str
) -> list[dict[str, Any]]:
    """The legs, each the parameters of one run of train_category with ITEM before their names; `key` is what `compare` will find the comparison by.

    Raises BadInput for what cannot be run or where no MLflow is named, RunFailed where it does not answer.
    """
    legs = plan(categories, methods, common, pool)
    for leg in legs:
        print(f"leg {leg.mark}: {leg.category.name}, {leg.label}", file=sys.stderr)
    comparison = Comparison.begin(tracking_uri, experiment, name, key)
    comparison.write_legs([leg.entry() for leg in legs])
    own = {"tracking_uri": tracking_uri, "tracking_experiment": experiment}
    items = [{**leg.category.parameters(), **own, "tracking_comparison": f"{comparison.run_id}/{leg.mark}"} for leg in legs]
    return [{f"{ITEM}{name}": value for name, value in item.items()} for item in items]

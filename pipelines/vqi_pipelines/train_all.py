"""Every category at once: categories x methods x settings, each trial the DAG of train_category, and a comparison of
all of them at the end; and the compact form, whose trials are one task each.

The comparison is the exit task of the whole: KFP runs it whatever became of the trials, which a task that takes the
trials' outputs could not do (dsl.Collected over a trial that failed is an error, on a cluster and here). It learns what
the trials found from MLflow. It stands outside the loop, because KFP's pages look artefacts up by their task's name
alone and show those of any iteration within it.
"""

import inspect

from kfp import dsl

from vqi.steps.compare.component import compare
from vqi.steps.plan_trials.component import plan_compact_trials, plan_trials
from vqi.steps.plan_trials.step import ITEM
from vqi.steps.run_trial.component import run_trial
from vqi_pipelines.task_placement import place_task, variants
from vqi_pipelines.train_category import train_category

# Known when a package is compiled: KFP takes no parameter for it. The nodes' room and the tasks' requests set how many
# of them run in fact.
PARALLEL = 4

DESCRIPTION = """**Several categories, compared, each step a task. Fill in** `categories`, a JSON list of the parameters
of *train category*: `[{"name": "cap", "data_source": "s3://photos/cap"},
{"name": "nut", "data_source": "s3://photos/nut"}]`.

**May be filled in**

- `methods`: `patchcore, padim`; empty: each category's own.
- `common`: of all trials, `{"backbone_weights": "s3://..."}`.
- `pool`: the nodes of trials that name none.
- `tracking_uri`: MLflow; needed here or in `vqi-settings`.

**Open** `comparison` of *compare*. More: `docs/comparing.md`."""

COMPACT_DESCRIPTION = DESCRIPTION.replace("of trials that name none.", "of all trials.").replace(
    "compared, each step a task.", "compared, each trial a task: up to a dozen."
)


@dsl.pipeline(name="train-all", description=DESCRIPTION)
def train_all(
    categories: str = "[]",
    common: str = "{}",
    methods: str = "",
    pool: str = "any",
    tracking_experiment: str = "vqi",
    tracking_uri: str = "",
) -> None:
    tracking = {
        "tracking_experiment": tracking_experiment,
        "tracking_uri": tracking_uri,
        "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    }
    compared = place_task(compare(**tracking), "compare").set_caching_options(False).set_display_name("compare")
    with dsl.ExitHandler(compared, name="all trials"):
        # From the cache it would name the trials of another comparison.
        planned = plan_trials(
            categories=categories, common=common, methods=methods, pool=pool, **tracking
        ).set_caching_options(False)
        place_task(planned, "plan_trials").set_display_name("plan trials")
        with dsl.ParallelFor(planned.output, name="trials", parallelism=PARALLEL) as trial:
            train_category(
                **{
                    name: getattr(trial, ITEM + name)
                    for name in inspect.signature(train_category.pipeline_func).parameters
                }
            )


@dsl.pipeline(name="train-all-compact", description=COMPACT_DESCRIPTION)
def train_all_compact(
    categories: str = "[]",
    common: str = "{}",
    methods: str = "",
    pool: str = "any",
    tracking_experiment: str = "vqi",
    tracking_uri: str = "",
) -> None:
    tracking = {
        "tracking_experiment": tracking_experiment,
        "tracking_uri": tracking_uri,
        "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    }
    compared = place_task(compare(**tracking), "compare").set_caching_options(False).set_display_name("compare")
    with dsl.ExitHandler(compared, name="all trials"):
        planned = plan_compact_trials(
            categories=categories,
            common=common,
            methods=methods,
            pool=pool,
            images=variants(["run_trial"]),
            **tracking,
        ).set_caching_options(False)
        place_task(planned, "plan_compact_trials").set_display_name("plan trials")
        with dsl.ParallelFor(planned.outputs["trials"], name="trials", parallelism=PARALLEL) as trial:
            place_task(run_trial(trial=trial), "run_trial", planned).set_display_name("run trial")

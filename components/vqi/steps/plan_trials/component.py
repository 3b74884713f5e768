"""The KFP faces of plan_trials, and of the step that plans the trials of a compact comparison."""

from typing import NamedTuple

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("plan_trials"), install_kfp_package=False)
def plan_trials(
    categories: str,
    methods: str,
    common: str,
    pool: str,
    tracking_experiment: str,
    tracking_uri: str,
    run: str,
) -> list:
    """Check everything that was filled in, and make the list of runs that the loop goes through."""
    from vqi.steps.running import step

    with step("plan_trials") as record:
        from vqi.steps.plan_trials.step import plan_trials as plan
        from vqi.tracking.origins import run_title

        trials = plan(
            categories=categories,
            methods=methods,
            common=common,
            pool=pool,
            tracking_uri=tracking_uri,
            experiment=tracking_experiment,
            key=run,
            name=run_title("train-all", "", run),
        )
        record.facts["trials"] = len(trials)
    # One output without a name: kfp.local loops over no other.
    return trials


@dsl.component(base_image=image("plan_compact_trials"), install_kfp_package=False)
def plan_compact_trials(
    categories: str,
    methods: str,
    common: str,
    pool: str,
    tracking_experiment: str,
    tracking_uri: str,
    run: str,
    images: str,
) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs",
    [
        ("trials", list[dict]),
        ("node_selector", dict),
        ("tolerations", list),
        ("node_affinity", dict),
        ("run_trial_placement", dict),
    ],
):
    """Check everything that was filled in, and make the list of trials that the loop goes through, each a task on the
    same nodes."""
    from vqi.steps.running import step

    with step("plan_compact_trials") as record:
        import json

        from vqi.steps.plan_trials.step import plan_compact_trials as plan
        from vqi.tracking.origins import run_title

        outputs = plan(
            categories=categories,
            methods=methods,
            common=common,
            pool=pool,
            tracking_uri=tracking_uri,
            experiment=tracking_experiment,
            key=run,
            name=run_title("train-all", "", run),
            images=json.loads(images),
        )
        record.facts["trials"] = len(outputs["trials"])
    return tuple(outputs.values())

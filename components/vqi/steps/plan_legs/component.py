"""The KFP face of plan_legs."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("compare"), install_kfp_package=False)
def plan_legs(
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

    with step("plan_legs") as this:
        from vqi.steps.plan_legs.step import plan_legs as plan

        legs = plan(
            categories=categories,
            methods=methods,
            common=common,
            pool=pool,
            tracking_uri=tracking_uri,
            experiment=tracking_experiment,
            key=run,
            name=f"train-all {run[:8]}",
        )
        this.facts["legs"] = len(legs)
    # One output without a name: kfp.local loops over no other.
    return legs

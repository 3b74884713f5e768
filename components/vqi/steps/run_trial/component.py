"""The KFP face of run_trial."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("run_trial"), install_kfp_package=False)
def run_trial(report: dsl.Output[dsl.HTML], bundle: dsl.Output[dsl.Model], trial: dict) -> None:
    """One trial of a comparison in one task: every step of a category, from configure to export. `trial` are those of
    its parameters that are not the defaults."""
    from vqi.category import Category
    from vqi.steps.composite import run_composite

    # Which image runs a step was decided before this task began.
    parameters = {**Category.from_parameters(trial).parameters(), "images": "{}"}
    run_composite("run_trial", parameters, {}, {"report": report, "bundle": bundle})

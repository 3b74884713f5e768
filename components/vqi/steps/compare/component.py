"""The KFP face of compare."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("compare"), install_kfp_package=False)
def compare(
    comparison: dsl.Output[dsl.HTML],
    method_means: dsl.Output[dsl.Metrics],
    tracking_experiment: str,
    tracking_uri: str,
    run: str,
    trials: dsl.PipelineTaskFinalStatus,
) -> None:
    """Put every trial side by side, those that failed listed; it runs whatever became of them."""
    from vqi.steps.running import step

    # By taking their status it is the exit task to kfp.local too; what became of each trial MLflow says better.
    with step("compare") as record:
        record.facts["trials"] = trials.state
        from pathlib import Path

        from vqi.steps.compare.step import compare as gathered
        from vqi.steps.compare.step import flat_metrics

        record.outputs["comparison"] = comparison.path
        summary = gathered(
            key=run, tracking_uri=tracking_uri, experiment=tracking_experiment, page=Path(comparison.path)
        )
        for name, value in flat_metrics(summary, numbered=True).items():
            method_means.log_metric(name, value)

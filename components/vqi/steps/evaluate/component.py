"""The KFP face of evaluate."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Input[dsl.Model],
    index: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
    fingerprint: str,
    compute_batch_size: int,
    compute_device: str,
    compute_precision: str,
    threshold_false_reject_rate: float,
    tracking_comparison: str,
    tracking_experiment: str,
    tracking_uri: str,
):
    """Choose the threshold from normals alone, measure on the test split, and write the report a person opens."""
    parameters = {
        key: value for key, value in locals().items() if key.startswith(("compute_", "threshold_", "tracking_"))
    }
    from vqi.steps.running import step

    with step("evaluate") as record:
        from pathlib import Path

        from vqi.category import Category
        from vqi.steps.evaluate.kfp_metrics import log_classification, log_metrics
        from vqi.steps.evaluate.step import evaluate as run

        category = Category.from_parameters(parameters)
        record.outputs.update(evaluation=evaluation.path, report=report.path)
        costly = {"train": network, "build_index": index}
        results = run(
            dataset=Path(dataset.path),
            network=Path(network.path),
            index=Path(index.path),
            false_reject_rate=category.threshold.false_reject_rate,
            compute=category.placement,
            tracking_uri=category.tracking.uri,
            experiment=category.tracking.experiment,
            comparison=category.tracking.comparison,
            # From the artefacts, not from this run: what came from the cache cost what it cost when it was made.
            seconds={
                made: artefact.metadata["seconds"]
                for made, artefact in costly.items()
                if "seconds" in artefact.metadata
            },
            evaluation=Path(evaluation.path),
            report=Path(report.path),
        )
        log_metrics(metrics, results)
        log_classification(roc, results)

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
    roc_and_confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    settings: dict,
) -> None:
    """Choose the threshold from normals alone, measure on the test split, and write the report a person opens."""
    from vqi.steps.running import step

    with step("evaluate") as record:
        from pathlib import Path

        from vqi.platform.logs import logger
        from vqi.platform.settings import read_settings
        from vqi.steps.evaluate.kfp_metrics import finite_metrics, log_classification, log_metrics
        from vqi.steps.evaluate.settings import StepSettings
        from vqi.steps.evaluate.step import evaluate as run
        from vqi.tracking.origins import kfp_run_of
        from vqi.tracking.runs import run_page

        record.outputs.update(evaluation=evaluation.path, report=report.path)
        costly = {"train": network, "build_index": index}
        parsed = read_settings(StepSettings, settings)
        results = run(
            parsed,
            dataset=Path(dataset.path),
            network=Path(network.path),
            index=Path(index.path),
            # From the artefacts, not from this run: what came from the cache cost what it cost when it was made.
            seconds={
                made: artefact.metadata["seconds"]
                for made, artefact in costly.items()
                if "seconds" in artefact.metadata
            },
            evaluation=Path(evaluation.path),
            report=Path(report.path),
            kfp_run=kfp_run_of(evaluation.uri),
        )
        if page := run_page(parsed.tracking.uri, results.run_id):
            evaluation.metadata["mlflow"] = page
            logger("vqi.steps.evaluate").info(f"in MLflow: {page}")
        log_metrics(metrics, results)
        log_classification(roc_and_confusion_matrix, results)
        evaluation.metadata.update(finite_metrics(results))

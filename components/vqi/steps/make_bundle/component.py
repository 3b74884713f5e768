"""The KFP face of make_bundle."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("make_bundle"), install_kfp_package=False)
def make_bundle(
    dataset: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    roc_and_confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    bundle: dsl.Output[dsl.Model],
    train_settings: dict,
    build_index_settings: dict,
    evaluate_settings: dict,
    export_settings: dict,
) -> None:
    """Learn, measure and export, in one task: train, build_index, evaluate, then export."""
    from vqi.steps.composite import run_composite

    run_composite(
        "make_bundle",
        {
            "train_settings": train_settings,
            "build_index_settings": build_index_settings,
            "evaluate_settings": evaluate_settings,
            "export_settings": export_settings,
        },
        {"dataset": dataset},
        {
            "evaluation": evaluation,
            "report": report,
            "metrics": metrics,
            "roc_and_confusion_matrix": roc_and_confusion_matrix,
            "bundle": bundle,
        },
    )

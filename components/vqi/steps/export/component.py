"""The KFP face of export."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("export"), install_kfp_package=False)
def export(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Input[dsl.Model],
    index: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    settings: dict,
) -> None:
    """Make the bundle that runs without torch, and refuse it where its scores deviate from the detector's; write the
    report again, with the figures of each format."""
    from vqi.steps.running import step

    with step("export") as record:
        from pathlib import Path

        from vqi.deployment.bundle import read_sidecar
        from vqi.platform.settings import read_settings
        from vqi.steps.export.page import format_figures
        from vqi.steps.export.settings import StepSettings
        from vqi.steps.export.step import export as run
        from vqi.storage.copying import copy_command, s3_address

        record.outputs.update(bundle=bundle.path, report=report.path)
        costs = run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            network=Path(network.path),
            index=Path(index.path),
            evaluation=Path(evaluation.path),
            bundle=Path(bundle.path),
            report=Path(report.path),
            dataset_address=s3_address(dataset.uri) or dataset.path,
        )
        record.facts["costs"] = costs
        # What a person at the artefact's panel needs to know: what it costs, and how to get it.
        bundle.metadata.update(costs.values())
        figures = format_figures(read_sidecar(Path(bundle.path)))
        bundle.metadata.update({f"format_{name}": line for name, line in figures.items()})
        if command := copy_command(bundle.uri, "bundle"):
            bundle.metadata["get_it_with"] = command

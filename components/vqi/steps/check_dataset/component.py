"""The KFP face of check_dataset."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("check_dataset"), install_kfp_package=False)
def check_dataset(
    dataset: dsl.Input[dsl.Dataset],
    dataset_page: dsl.Output[dsl.HTML],
    dataset_verdict: dsl.Output[dsl.Artifact],
    dataset_findings: dsl.Output[dsl.Artifact],
    settings: dict,
) -> None:
    """Stop a bad set here, with its reasons; a page shows what the set looks like."""
    from vqi.steps.running import step

    with step("check_dataset") as record:
        from logging import INFO, WARNING
        from pathlib import Path

        from vqi.platform.logs import logger
        from vqi.platform.settings import read_settings
        from vqi.steps.check_dataset.settings import StepSettings
        from vqi.steps.check_dataset.step import check_dataset as run

        log = logger("vqi.steps.check_dataset")
        record.outputs.update(
            dataset_page=dataset_page.path,
            dataset_verdict=dataset_verdict.path,
            dataset_findings=dataset_findings.path,
        )
        run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            page=Path(dataset_page.path),
            verdict=Path(dataset_verdict.path),
            paths=Path(dataset_findings.path),
            page_uri=dataset_page.uri,
            report=lambda line: log.log(WARNING if line.startswith(("warning", "error")) else INFO, line),
        )

"""The KFP face of promote."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("promote"), install_kfp_package=False)
def promote(dataset: dsl.Input[dsl.Dataset], bundle: dsl.Input[dsl.Model], settings: dict) -> None:
    """Compare the bundle with the champion of its name on the test split, and make it the champion where the rule
    allows; refused is exit code 3."""
    from vqi.steps.running import step

    with step("promote"):
        from pathlib import Path

        from vqi.platform.settings import read_settings
        from vqi.steps.promote.settings import StepSettings
        from vqi.steps.promote.step import promote as run
        from vqi.storage.copying import s3_address

        run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            bundle=Path(bundle.path),
            dataset_address=s3_address(dataset.uri),
        )

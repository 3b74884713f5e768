"""The KFP face of build_index."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("build_index"), install_kfp_package=False)
def build_index(
    dataset: dsl.Input[dsl.Dataset], network: dsl.Input[dsl.Model], index: dsl.Output[dsl.Model], settings: dict
) -> None:
    """Build what normals are compared with: memory bank, Gaussians or PCA; and score the normals that thresholds come
    from."""
    from vqi.steps.running import step

    with step("build_index") as record:
        import os
        from pathlib import Path

        from vqi.platform.settings import read_settings
        from vqi.steps.build_index.features import VARIABLE
        from vqi.steps.build_index.settings import StepSettings
        from vqi.steps.build_index.step import build_index as run

        record.outputs["index"] = index.path
        run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            network=Path(network.path),
            index=Path(index.path),
            features=Path(folder) if (folder := os.environ.get(VARIABLE, "")) else None,
        )
        index.metadata["seconds"] = record.seconds

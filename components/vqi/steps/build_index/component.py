"""The KFP faces of build_index, and of the two steps that do its work in parts."""

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


@dsl.component(base_image=image("index_part"), install_kfp_package=False)
def index_part(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Input[dsl.Model],
    part: dsl.Output[dsl.Model],
    settings: dict,
) -> None:
    """Compute the features of one shard of the normals, and keep the patches that stand for them."""
    from vqi.steps.running import step

    with step("index_part") as record:
        from pathlib import Path

        from vqi.platform.settings import read_settings
        from vqi.steps.build_index.settings import PartSettings
        from vqi.steps.build_index.step import index_part as run

        record.outputs["part"] = part.path
        run(
            read_settings(PartSettings, settings),
            dataset=Path(dataset.path),
            network=Path(network.path),
            part=Path(part.path),
        )
        part.metadata["seconds"] = record.seconds


@dsl.component(base_image=image("merge_parts"), install_kfp_package=False)
def merge_parts(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Input[dsl.Model],
    parts: dsl.Input[list[dsl.Model]],
    index: dsl.Output[dsl.Model],
    settings: dict,
) -> None:
    """Build the index from what every shard kept; and score the normals that thresholds come from."""
    from vqi.steps.running import step

    with step("merge_parts") as record:
        from pathlib import Path

        from vqi.platform.settings import read_settings
        from vqi.steps.build_index.settings import StepSettings
        from vqi.steps.build_index.step import build_index as run

        record.outputs["index"] = index.path
        run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            network=Path(network.path),
            index=Path(index.path),
            parts=[Path(part.path) for part in parts],
        )
        # As long as it takes where every shard has a node of its own.
        index.metadata["seconds"] = record.seconds + max(part.metadata.get("seconds", 0.0) for part in parts)

"""The KFP face of build_index."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("build_index"), install_kfp_package=False)
def build_index(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Input[dsl.Model],
    index: dsl.Output[dsl.Model],
    fingerprint: str,
    compute_batch_size: int,
    compute_device: str,
    compute_precision: str,
):
    """Build what normals are compared with: memory bank, Gaussians or PCA; and score the normals that thresholds come
    from."""
    from vqi.steps.running import step

    with step("build_index") as record:
        from pathlib import Path

        from vqi.category import Category
        from vqi.steps.build_index.step import build_index as run

        category = Category.from_parameters(
            {
                "compute_batch_size": compute_batch_size,
                "compute_device": compute_device,
                "compute_precision": compute_precision,
            }
        )
        record.outputs["index"] = index.path
        run(dataset=Path(dataset.path), network=Path(network.path), compute=category.placement, index=Path(index.path))
        index.metadata["seconds"] = record.seconds

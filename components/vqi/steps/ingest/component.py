"""The KFP face of ingest."""

from typing import NamedTuple

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def ingest(
    dataset: dsl.Output[dsl.Dataset],
    backbone_layers: str,
    backbone_mean: str,
    backbone_name: str,
    backbone_sha256: str,
    backbone_std: str,
    backbone_weights: str,
    compute_batch_size: int,
    compute_device: str,
    compute_precision: str,
    data_calibration_fraction: str,
    data_labelled_fraction: str,
    data_layout: str,
    data_mask_suffix: str,
    data_source: str,
    export_tolerance: float,
    image_crop: str,
    image_region: str,
    image_size: str,
    method_name: str,
    method_settings: str,
    name: str,
    seed: int,
    threshold_false_reject_rate: float,
    tracking_comparison: str,
    tracking_experiment: str,
    tracking_uri: str,
    train_batch_size: int,
    train_checkpoints: str,
    train_max_epochs: int,
    train_max_seconds: float,
    train_max_steps: int,
    train_patience: int,
    train_processes: int,
) -> NamedTuple("Outputs", [("fingerprint", str)]):  # type: ignore[valid-type]
    """Bring the photographs in, once: shards, a manifest, splits, and the fingerprint that later steps are cached by.

    It takes every parameter of the run to check them all here, in the first step, so that a slip in KFP's form costs seconds.
    """
    parameters = {key: value for key, value in locals().items() if key != "dataset"}
    from vqi.steps.running import step

    with step("ingest") as this:
        from pathlib import Path

        from vqi.category import Category
        from vqi.steps.ingest.step import ingest as run

        category = Category.from_parameters(parameters)
        this.outputs["dataset"] = dataset.path
        manifest = run(
            name=category.name,
            source=category.data.source,
            layout=category.data.layout,
            mask_suffix=category.data.mask_suffix,
            calibration_fraction=category.data.calibration_fraction,
            labelled_fraction=category.labelled_fraction,
            seed=category.seed,
            dataset=Path(dataset.path),
        )
        dataset.metadata["fingerprint"] = this.facts["fingerprint"] = manifest.fingerprint
        dataset.metadata["images"] = len(manifest.samples)
    return (manifest.fingerprint,)  # type: ignore[return-value]

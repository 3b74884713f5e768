"""The KFP face of train."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    network: dsl.Output[dsl.Model],
    fingerprint: str,
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
    image_crop: str,
    image_region: str,
    image_size: str,
    method_name: str,
    method_settings: str,
    name: str,
    seed: int,
    tracking_experiment: str,
    tracking_uri: str,
    train_batch_size: int,
    train_checkpoints: str,
    train_max_epochs: int,
    train_max_seconds: float,
    train_max_steps: int,
    train_patience: int,
    train_processes: int,
):
    """Learn the network from normals (supervised methods: from labelled images too); methods with a frozen backbone
    prepare and store it."""
    parameters = {key: value for key, value in locals().items() if key not in ("dataset", "network", "fingerprint")}
    from vqi.steps.running import step

    with step("train") as record:
        import os
        from pathlib import Path

        from vqi.category import Category
        from vqi.steps.train.step import train as run

        category = Category.from_parameters(parameters)
        record.outputs["network"] = network.path
        training = run(
            dataset=Path(dataset.path),
            method=category.method.name,
            settings=category.settings,
            backbone=category.backbone_settings,
            geometry=category.geometry,
            compute=category.placement,
            seed=category.seed,
            network=Path(network.path),
            # A cluster's settings say where a training that loses its node resumes from.
            budgets=category.training.kept_at(os.environ.get("VQI_CHECKPOINTS", ""), category.name),
            calibration_fraction=category.data.calibration_fraction,
            tracking_uri=category.tracking.uri,
            experiment=category.tracking.experiment,
        )
        if training:
            record.facts["training"] = training.model_dump(exclude={"points", "held_out", "tracked", "checkpoints"})
            record.facts["checkpoints"] = training.checkpoints
        network.metadata["method"] = category.method.name
        network.metadata["seconds"] = record.seconds

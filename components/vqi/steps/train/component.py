"""The KFP face of train."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(dataset: dsl.Input[dsl.Dataset], network: dsl.Output[dsl.Model], settings: dict) -> None:
    """Learn the network from normals (supervised methods: from labelled images too); methods with a frozen backbone
    prepare and store it."""
    from vqi.steps.running import step

    with step("train") as record:
        import os
        from pathlib import Path

        from vqi.platform.settings import read_settings
        from vqi.steps.train.settings import StepSettings
        from vqi.tracking.origins import kfp_run_of

        parsed = read_settings(StepSettings, settings)
        # A cluster's settings say where a training that loses its node resumes from.
        budgets = parsed.train.kept_at(os.environ.get("VQI_CHECKPOINTS", ""), parsed.name)
        record.outputs["network"] = network.path
        parsed, kfp_run = parsed.model_copy(update={"train": budgets}), kfp_run_of(network.uri)
        if budgets.nodes == 1:
            from vqi.steps.train.step import train as run

            training = run(parsed, dataset=Path(dataset.path), network=Path(network.path), kfp_run=kfp_run)
        else:
            from vqi.steps.train.nodes import train_on_nodes

            training = train_on_nodes(parsed, dataset=dataset.uri, network=Path(network.path), kfp_run=kfp_run)
        if training:
            record.facts["training"] = training.model_dump(exclude={"points", "held_out", "tracked", "checkpoints"})
            record.facts["checkpoints"] = training.checkpoints
        network.metadata["method"] = parsed.method
        network.metadata["seconds"] = record.seconds

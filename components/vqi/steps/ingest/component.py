"""The KFP face of ingest."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def ingest(dataset: dsl.Output[dsl.Dataset], settings: dict) -> None:
    """Bring the photographs in, once: shards, a manifest with a fingerprint of the whole, and splits."""
    from vqi.steps.running import step

    with step("ingest") as record:
        from pathlib import Path

        from vqi.platform.logs import logger
        from vqi.platform.settings import read_settings
        from vqi.steps.ingest.settings import StepSettings
        from vqi.steps.ingest.step import ingest as run

        log = logger("vqi.steps.ingest")
        record.outputs["dataset"] = dataset.path
        manifest = run(
            read_settings(StepSettings, settings),
            dataset=Path(dataset.path),
            report=lambda note: log.info(f"note: {note}"),
        )
        dataset.metadata["fingerprint"] = record.facts["fingerprint"] = manifest.fingerprint
        dataset.metadata["images"] = len(manifest.samples)

"""The KFP face of ingest."""

from typing import NamedTuple

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def ingest(
    dataset: dsl.Output[dsl.Dataset],
    data_calibration_fraction: str,
    data_group: str,
    data_labelled_fraction: str,
    data_layout: str,
    data_mask_suffix: str,
    data_skip_damaged: int,
    data_source: str,
    image_max_megapixels: int,
    image_white_level: str,
    method_name: str,
    name: str,
    seed: int,
    threshold_false_reject_rate: float,
) -> NamedTuple("Outputs", [("fingerprint", str)]):  # type: ignore[valid-type]
    """Bring the photographs in, once: shards, a manifest, splits, and the fingerprint that later steps are cached by.

    The method counts for two things: supervised ones learn from a share of the test photographs, and what trains holds
    normals out for the threshold where others take refits. The false-reject rate says how many that takes.
    """
    parameters = {key: value for key, value in locals().items() if key != "dataset"}
    from vqi.steps.running import step

    with step("ingest") as record:
        from pathlib import Path

        from vqi.category import Category
        from vqi.platform.printing import printable
        from vqi.steps.ingest.step import ingest as run

        category = Category.from_parameters(parameters)
        record.outputs["dataset"] = dataset.path
        manifest = run(
            **category.intake,
            dataset=Path(dataset.path),
            report=lambda note: print(printable(f"note: {note}"), flush=True),
        )
        dataset.metadata["fingerprint"] = record.facts["fingerprint"] = manifest.fingerprint
        dataset.metadata["images"] = len(manifest.samples)
    return (manifest.fingerprint,)  # type: ignore[return-value]

"""The KFP face of prepare."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("prepare"), install_kfp_package=False)
def prepare(
    dataset: dsl.Output[dsl.Dataset],
    dataset_page: dsl.Output[dsl.HTML],
    ingest_settings: dict,
    check_dataset_settings: dict,
) -> None:
    """Bring the photographs in and check them, in one task: ingest, then check_dataset."""
    from vqi.steps.composite import run_composite

    run_composite(
        "prepare",
        {"ingest_settings": ingest_settings, "check_dataset_settings": check_dataset_settings},
        {},
        {"dataset": dataset, "dataset_page": dataset_page},
    )

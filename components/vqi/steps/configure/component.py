"""The KFP face of configure."""

from typing import NamedTuple

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("configure"), install_kfp_package=False)
def configure(
    images: str,
    backbone_layers: str,
    backbone_mean: str,
    backbone_name: str,
    backbone_sha256: str,
    backbone_std: str,
    backbone_weights: str,
    compute_batch_size: int,
    compute_device: str,
    compute_engine: str,
    compute_precision: str,
    data_calibration_fraction: str,
    data_defect: str,
    data_exclude: str,
    data_good: str,
    data_good_class: str,
    data_group: str,
    data_labelled_fraction: str,
    data_layout: str,
    data_mask_suffix: str,
    data_most_per_class: int,
    data_skip_damaged: int,
    data_source: str,
    evaluation_maps: str,
    evaluation_pictures: str,
    export_formats: str,
    export_int8_max_drop: float,
    export_tolerance: float,
    image_align: str,
    image_align_limit: str,
    image_area: str,
    image_crop: str,
    image_max_megapixels: int,
    image_overlap: float,
    image_page: int,
    image_profiles: str,
    image_range: str,
    image_region: str,
    image_size: str,
    image_tile: str,
    image_white_level: str,
    method_name: str,
    method_settings: str,
    name: str,
    pool: str,
    resources: str,
    seed: int,
    threshold_false_reject_rate: float,
    tracking_comparison: str,
    tracking_experiment: str,
    tracking_register: str,
    tracking_uri: str,
    train_batch_size: int,
    train_checkpoints: str,
    train_max_epochs: int,
    train_max_seconds: float,
    train_max_steps: int,
    train_nodes: int,
    train_patience: int,
    train_processes: int,
    compute_shards: int = 1,
    promote_evidence: str = "estimate",
    promote_max_auroc_loss: float = 0.01,
    promote_max_false_rejects: float = 0.2,
    promote_max_false_rejects_gain: float = 0.02,
    promote_max_latency_ratio: float = 1.5,
    promote_max_recall_loss: float = 0.02,
    promote_max_size_ratio: float = 2.0,
    promote_min_auroc: float = 0.8,
    promote_min_recall: float = 0.5,
    promote_step: str = "no",
) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs",
    [
        ("ingest_settings", dict),
        ("check_dataset_settings", dict),
        ("train_settings", dict),
        ("build_index_settings", dict),
        ("evaluate_settings", dict),
        ("export_settings", dict),
        ("promote_settings", dict),
        ("node_selector", dict),
        ("tolerations", list),
        ("node_affinity", dict),
        ("ingest_placement", dict),
        ("check_dataset_placement", dict),
        ("train_placement", dict),
        ("build_index_placement", dict),
        ("evaluate_placement", dict),
        ("export_placement", dict),
        ("shards", list[dict]),
        ("prepare_placement", dict),
        ("make_bundle_placement", dict),
    ],
):
    """Check the whole form, and hand every other step its own settings and what it gets in a cluster (vqi.placement).

    A slip in KFP's form costs seconds: it ends this first step. `images` maps each step that has variants to them, as
    JSON: names are those the package was compiled with, not what this container's environment would make of them. A
    package holds those of the outputs that its tasks read.
    """
    parameters = {key: value for key, value in locals().items() if key != "images"}
    from vqi.steps.running import step

    with step("configure") as record:
        import json

        from vqi.steps.configure.step import configure as run

        outputs = run(parameters, json.loads(images))
        record.facts.update(outputs)
    return tuple(outputs.values())

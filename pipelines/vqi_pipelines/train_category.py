"""The DAG of one product category: place, ingest, check_dataset, train, build_index, evaluate, export.

Parameters come in the form's alphabetical order under prefixes (`data_*`, `method_*`), all with defaults: KFP's form
greys out Start until every parameter without one is filled in. Their names are `Category.parameters()`, and a test
holds the two together.
"""

from kfp import dsl

from vqi.steps.build_index.component import build_index
from vqi.steps.check_dataset.component import check_dataset
from vqi.steps.evaluate.component import evaluate
from vqi.steps.export.component import export
from vqi.steps.ingest.component import ingest
from vqi.steps.place.component import place as place_steps
from vqi.steps.train.component import train
from vqi_pipelines.task_placement import place_task, variants

DESCRIPTION = """Learns what a good part looks like from photographs and leaves a checked, calibrated, exported
defect detector.

**Fill in** `data_source` (an `s3://bucket/prefix`, or an archive) and `backbone_weights` (`s3://...`; or set
`backbone_name` to `filterbank`, which needs none). Everything else has a default; leave `tracking_comparison` empty.
`method_settings` is JSON, such as `{"coreset_ratio": 0.1}`; `image_size` is `height,width`.
`pool` chooses the nodes that train, build index and evaluate run on.

**Look at** the `report` of *evaluate*; a set that fails stops at *check dataset*, whose `page` says why."""


@dsl.pipeline(name="train-category", description=DESCRIPTION)
def train_category(
    backbone_layers: str = "",
    backbone_mean: str = "",
    backbone_name: str = "resnet18",
    backbone_sha256: str = "",
    backbone_std: str = "",
    backbone_weights: str = "imagenet",
    compute_batch_size: int = 8,
    compute_device: str = "auto",
    compute_precision: str = "float32",
    data_calibration_fraction: str = "auto",
    data_group: str = "",
    data_labelled_fraction: str = "auto",
    data_layout: str = "auto",
    data_mask_suffix: str = "_mask",
    data_skip_damaged: int = 0,
    data_source: str = "",
    export_tolerance: float = 0.001,
    image_crop: str = "",
    image_max_megapixels: int = 100,
    image_region: str = "",
    image_size: str = "256,256",
    image_white_level: str = "auto",
    method_name: str = "patchcore",
    method_settings: str = "{}",
    name: str = "category",
    pool: str = "any",
    resources: str = "{}",
    seed: int = 0,
    threshold_false_reject_rate: float = 0.01,
    tracking_comparison: str = "",
    tracking_experiment: str = "vqi",
    tracking_uri: str = "",
    train_batch_size: int = 0,
    train_checkpoints: str = "",
    train_max_epochs: int = 0,
    train_max_seconds: float = 0.0,
    train_max_steps: int = 0,
    train_patience: int = 0,
    train_processes: int = 1,
):
    parameters = dict(locals())

    def only(*prefixes: str) -> dict:
        return {key: value for key, value in parameters.items() if key.startswith(prefixes)}

    # Never from the cache: it checks that the tracking server answers now.
    configured = place_steps(images=variants(), **parameters).set_caching_options(False)
    placement_task = place_task(configured, "place").set_display_name("0 place")
    geometry = only("image_crop", "image_region", "image_size")
    compute = only("compute_") | {"compute_device": placement_task.outputs["device"]}

    # Ingest reads the source anew every time: served from the cache it would not notice that the photographs
    # changed.
    ingested = ingest(
        image_max_megapixels=image_max_megapixels,
        image_white_level=image_white_level,
        method_name=method_name,
        name=name,
        seed=seed,
        threshold_false_reject_rate=threshold_false_reject_rate,
        **only("data_"),
    ).set_caching_options(False)
    place_task(ingested, "ingest", placement_task).set_display_name("1 ingest")
    dataset, fingerprint = ingested.outputs["dataset"], ingested.outputs["fingerprint"]

    checked = check_dataset(
        dataset=dataset,
        fingerprint=fingerprint,
        data_calibration_fraction=data_calibration_fraction,
        method_name=method_name,
        **geometry,
        **only("threshold_"),
    )
    place_task(checked, "check_dataset", placement_task).set_display_name("2 check dataset")

    trained = train(
        dataset=dataset,
        fingerprint=fingerprint,
        data_calibration_fraction=data_calibration_fraction,
        name=name,
        seed=seed,
        # Not the comparison: a training is the same in all of them, and comes from the cache.
        tracking_experiment=tracking_experiment,
        tracking_uri=tracking_uri,
        **geometry,
        **only("backbone_", "method_", "train_"),
        **compute,
    ).after(checked)
    place_task(trained, "train", placement_task).set_display_name("3 train")
    network = trained.outputs["network"]

    indexed = build_index(dataset=dataset, network=network, fingerprint=fingerprint, **compute)
    place_task(indexed, "build_index", placement_task).set_display_name("4 build index")
    index = indexed.outputs["index"]

    evaluated = evaluate(
        dataset=dataset,
        network=network,
        index=index,
        fingerprint=fingerprint,
        **only("threshold_", "tracking_"),
        **compute,
    )
    place_task(evaluated, "evaluate", placement_task).set_display_name("5 evaluate")

    exported = export(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluated.outputs["evaluation"],
        fingerprint=fingerprint,
        tracking_uri=tracking_uri,
        **only("export_"),
    )
    place_task(exported, "export", placement_task).set_display_name("6 export")

"""The DAG of one product category: configure, ingest, check_dataset, train, build_index, evaluate, export.

Its parameters are `Category.parameters()`, in the form's alphabetical order under prefixes (`data_*`, `method_*`), all
with defaults; the compiled package has none for what a person must fill in.

A cache key holds a task's settings and the numbers of its input artefacts. `ingest` reads the source only where its
listing changed; everything after it then comes from the cache as well.
"""

import inspect
from typing import Any

from kfp import dsl

from vqi.category import Category
from vqi.steps.build_index.component import build_index
from vqi.steps.check_dataset.component import check_dataset
from vqi.steps.configure.component import configure
from vqi.steps.evaluate.component import evaluate
from vqi.steps.export.component import export
from vqi.steps.ingest.component import ingest
from vqi.steps.train.component import train
from vqi_pipelines.task_placement import place_task, variants

DESCRIPTION = """**Fill in**

- `data_source`: `s3://bucket/prefix` of the photographs;
- `backbone_weights`: `s3://...`; `imagenet` where nodes reach the internet; `random` with `backbone_name` `filterbank`;
- `name` of the product category, and `method_name`.

The rest has defaults; leave `tracking_comparison` empty. `pool`: the nodes of train, build index and evaluate.

**Open** `report` of *5 evaluate*. A set that fails stops at *2 check dataset*: `dataset_page` says why.

Every parameter: `docs/reference/settings.md`."""


def dag(*values: Any) -> None:
    """The tasks of one category; `values` are the parameters of SIGNATURE, in its order."""
    parameters = dict(zip(SIGNATURE.parameters, values, strict=True))
    # Never from the cache: it lists the source, and checks that the tracking server answers now.
    configured = configure(images=variants(), **parameters).set_caching_options(False)
    place_task(configured, "configure").set_display_name("0 configure")

    def settings(step: str) -> Any:
        return configured.outputs[f"{step}_settings"]

    ingested = ingest(settings=settings("ingest"))
    place_task(ingested, "ingest", configured).set_display_name("1 ingest")
    dataset = ingested.outputs["dataset"]

    checked = check_dataset(dataset=dataset, settings=settings("check_dataset"))
    place_task(checked, "check_dataset", configured).set_display_name("2 check dataset")

    trained = train(dataset=dataset, settings=settings("train")).after(checked)
    place_task(trained, "train", configured).set_display_name("3 train")
    network = trained.outputs["network"]

    indexed = build_index(dataset=dataset, network=network, settings=settings("build_index"))
    place_task(indexed, "build_index", configured).set_display_name("4 build index")
    index = indexed.outputs["index"]

    evaluated = evaluate(dataset=dataset, network=network, index=index, settings=settings("evaluate"))
    place_task(evaluated, "evaluate", configured).set_display_name("5 evaluate")

    exported = export(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluated.outputs["evaluation"],
        settings=settings("export"),
    )
    place_task(exported, "export", configured).set_display_name("6 export")


SIGNATURE = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value, annotation=type(value))
        for name, value in Category().parameters().items()
    ]
)
dag.__signature__ = SIGNATURE  # type: ignore[attr-defined]
train_category = dsl.pipeline(dag, name="train-category", description=DESCRIPTION)

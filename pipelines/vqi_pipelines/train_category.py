"""The DAG of one product category: configure, ingest, check_dataset, train, build_index, evaluate, export; the one
whose index several tasks compute; the one that ends with promote; and the compact one, whose tasks run several steps
each.

Its parameters are `Category.parameters()`, in the form's alphabetical order under prefixes (`data_*`, `method_*`), all
with defaults; the compiled package has none for what a person must fill in.

A cache key holds a task's settings and the numbers of its input artefacts. `ingest` reads the source only where its
listing changed; everything after it then comes from the cache as well.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from kfp import dsl

from vqi.category import Category
from vqi.placement import STEP_BY_NAME
from vqi.steps.build_index.component import build_index, index_part, merge_parts
from vqi.steps.check_dataset.component import check_dataset
from vqi.steps.configure.component import configure
from vqi.steps.evaluate.component import evaluate
from vqi.steps.export.component import export
from vqi.steps.ingest.component import ingest
from vqi.steps.make_bundle.component import make_bundle
from vqi.steps.prepare.component import prepare
from vqi.steps.promote.component import promote
from vqi.steps.train.component import train
from vqi_pipelines.task_placement import place_task, variants

DESCRIPTION = """**One category. Fill in**

- `data_source`: `s3://bucket/prefix` of the photographs;
- `backbone_weights`: `s3://...`; `imagenet` where nodes reach the internet; `random` with `backbone_name` `filterbank`;
- `name` of the product category, and `method_name`.

The rest has defaults; leave `tracking_comparison` empty. `pool`: the nodes of train, build index and evaluate.

**Open** `report` of *5 evaluate*. A set that fails stops at *2 check dataset*: its log says why.

Every parameter: `docs/reference/settings.md`."""
_POOL = "`pool`: the nodes of train, build index and evaluate."
SHARDS_DESCRIPTION = DESCRIPTION.replace("**One category.", "**One category, its index by several tasks.").replace(
    _POOL, "`compute_shards`: how many."
)
COMPACT_DESCRIPTION = (
    DESCRIPTION.replace("**One category.", "**One category in three tasks.")
    .replace("*5 evaluate*", "*2 make bundle*")
    .replace("*2 check dataset*", "*1 prepare*")
)
PROMOTE_DESCRIPTION = DESCRIPTION.replace("**One category.", "**One category, registered in MLflow.").replace(
    _POOL, "`promote_*`: when it becomes the champion (*7 promote*)."
)
SHARDS_PARAMETER = "compute_shards"
# Those of the pipeline that ends with promote.
PROMOTE_PARAMETERS = tuple(name for name in Category().parameters() if name.startswith("promote_"))
# That it ends so, its form need not ask.
PROMOTES = "promote_step"
# What a category has and the plain pipeline does not: only the pipelines that read it.
OF_OTHERS = (SHARDS_PARAMETER, *PROMOTE_PARAMETERS)
# The name of the loop over them, which KFP's pages show.
SHARDS = "shards"


def _dag(parameters: dict[str, Any], sharded: bool = False, promotes: bool = False) -> None:
    """The tasks of one category, from its parameters; `sharded`: a task for each of `compute_shards`, and one that
    merges what they kept, in place of build_index; `promotes`: promote comes last."""
    if promotes:
        parameters = {**parameters, PROMOTES: "yes"}
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

    shared = {"dataset": dataset, "network": network, "settings": settings("build_index")}
    if sharded:
        with dsl.ParallelFor(configured.outputs["shards"], name=SHARDS) as shard:
            part = index_part(dataset=dataset, network=network, settings=shard)
            place_task(part, "index_part", configured).set_display_name("4 index part")
        indexed = merge_parts(**shared, parts=dsl.Collected(part.outputs["part"]))
        place_task(indexed, "merge_parts", configured).set_display_name("4 merge parts")
    else:
        indexed = build_index(**shared)
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

    if promotes:
        promoted = promote(dataset=dataset, bundle=exported.outputs["bundle"], settings=settings("promote"))
        # The champion may be another by now.
        promoted.set_caching_options(False)
        place_task(promoted, "promote", configured).set_display_name("7 promote")


def _compact_dag(parameters: dict[str, Any]) -> None:
    """The same steps in three tasks. A task comes from the cache where nothing changed that any of its steps reads."""
    configured = configure(images=variants(["make_bundle"]), **parameters).set_caching_options(False)
    place_task(configured, "configure").set_display_name("0 configure")

    def settings(composite: str) -> dict[str, Any]:
        return {f"{step}_settings": configured.outputs[f"{step}_settings"] for step in STEP_BY_NAME[composite].runs}

    prepared = prepare(**settings("prepare"))
    place_task(prepared, "prepare", configured).set_display_name("1 prepare")
    made = make_bundle(dataset=prepared.outputs["dataset"], **settings("make_bundle"))
    place_task(made, "make_bundle", configured).set_display_name("2 make bundle")


def _signature(*left_out: str) -> inspect.Signature:
    """The parameters of a category but for those left out."""
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value, annotation=type(value))
            for name, value in Category().parameters().items()
            if name not in left_out
        ]
    )


def _pipeline(signature: inspect.Signature, tasks: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """The function of a pipeline with those parameters."""

    def dag(*values: Any) -> None:
        tasks(dict(zip(signature.parameters, values, strict=True)))

    dag.__signature__ = signature  # type: ignore[attr-defined]
    return dag


# A loop is a DAG of its own, which Argo's record holds several times: who needs no shards does not pay for them.
train_category = dsl.pipeline(_pipeline(_signature(*OF_OTHERS), _dag), name="train-category", description=DESCRIPTION)
train_category_shards = dsl.pipeline(
    _pipeline(_signature(*PROMOTE_PARAMETERS), partial(_dag, sharded=True)),
    name="train-category-shards",
    description=SHARDS_DESCRIPTION,
)
train_category_promote = dsl.pipeline(
    _pipeline(_signature(SHARDS_PARAMETER, PROMOTES), partial(_dag, promotes=True)),
    name="train-category-promote",
    description=PROMOTE_DESCRIPTION,
)
train_category_compact = dsl.pipeline(
    _pipeline(_signature(*OF_OTHERS), _compact_dag),
    name="train-category-compact",
    description=COMPACT_DESCRIPTION,
)

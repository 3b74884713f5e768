"""Compiling the DAGs into the packages people upload."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from vqi.category import Category
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole
from vqi_pipelines.package_edits import edit_package

# What a person must fill in: KFP's form says "Missing parameter." beside a parameter without a default, and starts
# nothing until it has a value.
TO_FILL_IN = ("backbone_weights", "categories", "data_source")
PACKAGES = {
    "train_all": "vqi_pipelines.train_all:train_all",
    "train_all_compact": "vqi_pipelines.train_all:train_all_compact",
    "train_category": "vqi_pipelines.train_category:train_category",
    "train_category_compact": "vqi_pipelines.train_category:train_category_compact",
    "train_category_promote": "vqi_pipelines.train_category:train_category_promote",
    "train_category_shards": "vqi_pipelines.train_category:train_category_shards",
}


def pipeline_of(category: Category, compact: bool = False) -> str:
    """The pipeline that runs a category: one of its own where several tasks compute the index, where promote comes
    last, and for the compact form. Raises BadInput for the compact form of one of the others."""
    if compact:
        if category.promote.step == "yes":
            raise BadInput(
                "promote.step is yes, and the compact form ends with export; run vqi promote afterwards, or leave "
                "--compact out."
            )
        if category.compute.shards > 1:
            raise BadInput(
                f"compute.shards is {category.compute.shards}, and the compact form has one task for the index and "
                "more; leave it at 1, or leave --compact out."
            )
        if category.training.nodes > 1:
            raise BadInput(
                f"train.nodes is {category.training.nodes}, and the task of the compact form would hold its node while "
                "others train; leave it at 1, or leave --compact out."
            )
        return "train_category_compact"
    if category.promote.step == "yes":
        return "train_category_promote"
    return "train_category_shards" if category.compute.shards > 1 else "train_category"


def load_pipeline(name: str) -> Any:
    """The pipeline `name`, a component of kfp."""
    module, _, function = PACKAGES[name].partition(":")
    return getattr(import_module(module), function)


def package_text(name: str) -> str:
    """The compiled package of the pipeline `name` as YAML; the same code gives the same text."""
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        compiler.Compiler().compile(load_pipeline(name), str(path))
        documents = list(yaml.safe_load_all(path.read_text()))
    edit_package(*documents)
    without_defaults(documents[0])
    head = (
        f"# The {name} pipeline, compiled by `vqi compile`; upload it to Kubeflow Pipelines. Do not edit: a test "
        "fails when it is stale.\n"
    )
    return head + "---\n".join(
        yaml.safe_dump(document, sort_keys=True, width=150, allow_unicode=True) for document in documents
    )


def without_defaults(package: dict[str, Any]) -> None:
    """Take the defaults of what a person must fill in out of the pipeline's parameters."""
    parameters = package["root"]["inputDefinitions"]["parameters"]
    for name in TO_FILL_IN:
        for key in ("defaultValue", "isOptional"):
            parameters.get(name, {}).pop(key, None)


def compile_packages(folder: Path, only_check: bool = False) -> list[Path]:
    """Write every package into `folder`; the paths that were missing or stale. With `only_check` nothing is written."""
    stale = []
    for name in PACKAGES:
        path, text = Path(folder) / f"{name}.yaml", package_text(name)
        if not path.is_file() or path.read_text() != text:
            stale.append(path)
            if not only_check:
                write_whole(path, text)
    return stale

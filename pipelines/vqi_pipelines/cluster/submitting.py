"""Uploading a package as a version named by its content, and starting runs of it with every parameter."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqi.category import Category, check_texts
from vqi.platform.errors import BadInput, VqiError, closest
from vqi_pipelines.cluster.package import Package
from vqi_pipelines.cluster.server import Server

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Experiment, V2beta1Pipeline, V2beta1PipelineVersion, V2beta1Run

PAGE = 100


@dataclass(frozen=True)
class Uploaded:
    """A pipeline version on a server; `new` says whether this call made it."""

    pipeline_id: str
    version_id: str
    name: str
    new: bool


def upload(server: Server, package: Package, as_default: bool = False) -> Uploaded:
    """The version of the package on the server, uploaded where it is not there yet.

    With `as_default` it is the newest as well: what KFP's form starts. KFP 2 has no other way to choose it, so an older
    version is uploaded once more, under its name and a number.
    """
    pipeline = find_pipeline(server, package.pipeline) or _make_pipeline(server, package)
    # The newest first.
    versions = list(_versions(server, pipeline.pipeline_id))
    held = [each for each in versions if _is_version(each, package.version)]
    if held and (not as_default or held[0] is versions[0]):
        return Uploaded(pipeline.pipeline_id, held[0].pipeline_version_id, held[0].name or package.version, False)
    name = f"{package.version}.{len(held) + 1}" if held else package.version
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{package.pipeline}.yaml"
        file.write_text(package.text, encoding="utf-8")
        made = _upload_version(server, package, file, pipeline.pipeline_id, name)
    return Uploaded(pipeline.pipeline_id, made.pipeline_version_id, name, True)


def find_pipeline(server: Server, name: str) -> V2beta1Pipeline | None:
    """The pipeline of that name, None where the server has none."""
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    return server.find(server.pipelines.pipeline_service_get_pipeline_by_name, name, **options)


def find_version(server: Server, pipeline_id: str, name: str) -> V2beta1PipelineVersion | None:
    """The version of that name, None where the pipeline has none."""
    return next((each for each in _versions(server, pipeline_id) if name in (each.display_name, each.name)), None)


def _versions(server: Server, pipeline_id: str) -> Iterator[V2beta1PipelineVersion]:
    """The versions of a pipeline, the newest first."""
    token = ""
    while True:
        listed = server.call(
            server.pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id,
            page_size=PAGE,
            page_token=token,
            sort_by="created_at desc",
        )
        yield from listed.pipeline_versions or []
        token = listed.next_page_token or ""
        if not token:
            return


def _is_version(version: V2beta1PipelineVersion, name: str) -> bool:
    """Whether a version has that content: `name` is it, or with the number of an upload that made it the newest."""
    return any(held == name or held.startswith(f"{name}.") for held in (version.display_name, version.name) if held)


def find_experiment(server: Server, name: str) -> V2beta1Experiment | None:
    """The experiment of that name, None where there is none."""
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    wanted = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})
    listed = server.call(server.experiments.experiment_service_list_experiments, filter=wanted, page_size=10, **options)
    return next((item for item in listed.experiments or [] if item.display_name == name), None)


def experiment(server: Server, name: str) -> V2beta1Experiment:
    """The experiment of that name, made where there is none."""
    import kfp_server_api as api

    def find_created() -> V2beta1Experiment | None:
        return find_experiment(server, name)

    if existing := find_created():
        return existing
    new = api.V2beta1Experiment(display_name=name, namespace=server.namespace or None)
    try:
        return server.call(server.experiments.experiment_service_create_experiment, new, made=find_created)
    except VqiError:
        # Somebody else made it in between.
        if existing := find_created():
            return existing
        raise


def run_values(package: Package, category: Category) -> dict[str, Any]:
    """Every parameter of the package: the category's where it has one, else the package's default. A clone in the UI
    shows only what was given.

    Raises BadInput for a value that the package does not allow, and for a parameter that nothing gives a value.
    """
    category_values = category.parameters()
    check_texts(category_values)
    values = {}
    for name, described in package.inputs.items():
        if name in category_values:
            values[name] = category_values[name]
        elif "defaultValue" in described:
            values[name] = package.default(name)
        elif not described.get("isOptional"):
            raise BadInput(f"The pipeline {package.pipeline} has a parameter {name} that the category says nothing of.")
        allowed = package.choices(name)
        if name in values and allowed and str(values[name]) not in allowed:
            raise BadInput(f"{name} is {values[name]!r}.{closest(str(values[name]), allowed)}")
    return values


def run_name(values: Mapping[str, Any], now: datetime | None = None) -> str:
    """A unique name that says what the run trains and when it was submitted."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    pool = values.get("pool", "any")
    parts = [
        str(values.get("name", "run")),
        str(values.get("method_name", "")),
        "" if pool == "any" else str(pool),
        stamp,
        secrets.token_hex(2),
    ]
    return "-".join(part for part in parts if part)


def start(
    server: Server,
    uploaded: Uploaded,
    values: Mapping[str, Any],
    experiment_name: str,
    name: str = "",
    service_account: str = "",
    pipeline_root: str = "",
) -> V2beta1Run:
    """Start one run of an uploaded version. Asked again after a lost answer it does not start two: its name is its
    own."""
    import kfp_server_api as api

    name = name or run_name(values)
    experiment_id = experiment(server, experiment_name).experiment_id
    run = api.V2beta1Run(
        display_name=name,
        description=_describe_run(values, uploaded),
        experiment_id=experiment_id,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(values), pipeline_root=pipeline_root or None),
        service_account=service_account or None,
    )

    def find_created() -> V2beta1Run | None:
        listed = server.call(
            server.runs.run_service_list_runs, experiment_id=experiment_id, page_size=20, sort_by="created_at desc"
        )
        return next((item for item in listed.runs or [] if item.display_name == name), None)

    return server.call(server.runs.run_service_create_run, run, made=find_created)


def _make_pipeline(server: Server, package: Package) -> V2beta1Pipeline:
    """The pipeline without a version: uploading one would also make a version that is named after the pipeline and says
    nothing."""
    import kfp_server_api as api

    new = api.V2beta1Pipeline(
        name=package.pipeline,
        display_name=package.pipeline,
        description=package.description(),
        namespace=server.namespace or None,
    )
    try:
        return server.call(
            server.pipelines.pipeline_service_create_pipeline, new, made=lambda: find_pipeline(server, package.pipeline)
        )
    except VqiError:
        # Somebody else made it in between.
        if existing := find_pipeline(server, package.pipeline):
            return existing
        raise


def _upload_version(
    server: Server, package: Package, file: Path, pipeline_id: str, name: str
) -> V2beta1PipelineVersion:
    def find_created() -> V2beta1PipelineVersion | None:
        return find_version(server, pipeline_id, name)

    try:
        return server.call(
            server.uploads.upload_pipeline_version,
            str(file),
            name=name,
            # KFP's form calls a run "Run of" and this.
            display_name=f"{package.pipeline} {name}",
            pipelineid=pipeline_id,
            description=package.version_description(),
            made=find_created,
        )
    except VqiError:
        if existing := find_created():
            return existing
        raise


def _describe_run(values: Mapping[str, Any], uploaded: Uploaded) -> str:
    pool = f" on pool {values['pool']}" if "pool" in values else ""
    return f"{values.get('name', '')}: {values.get('method_name', '')}{pool}, package {uploaded.name}"

"""`vqi upload`: the compiled pipelines, for people who start runs from KFP's UI."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vqi_pipelines.commands import cluster_options as options


@options.takes_connection
def upload(
    connection: options.Connection,
    pipeline: Annotated[str, typer.Option(help="Which pipeline; every one without it.")] = "",
    package: options.PackageFile = None,
    json_output: options.Json = False,
) -> None:
    """Upload the pipelines as versions named by their content, and make them what KFP's form starts; what is there as
    the newest version already is left alone."""
    from vqi.platform.errors import BadInput
    from vqi_pipelines.cluster.package import load_package
    from vqi_pipelines.cluster.submitting import upload as upload_package
    from vqi_pipelines.compiling import PACKAGES

    if package and not pipeline:
        raise BadInput(f"--package needs --pipeline to say which one it is: {', '.join(PACKAGES)}.")
    packages = [load_package(name, package) for name in ([pipeline] if pipeline else PACKAGES)]
    server, _ = connection.reach()
    server.health()
    made = []
    for each in packages:
        uploaded = upload_package(server, each, as_default=True)
        made.append(
            {
                "pipeline": each.pipeline,
                "version": uploaded.name,
                "version_id": uploaded.version_id,
                "new": uploaded.new,
            }
        )
        if not json_output:
            link = (
                f" {server.ui}/#/pipelines/details/{uploaded.pipeline_id}/version/{uploaded.version_id}"
                if server.ui
                else ""
            )
            typer.echo(f"{each.pipeline} {uploaded.name}: {'uploaded' if uploaded.new else 'there already'}{link}")
    if json_output:
        typer.echo(json.dumps(made, indent=2))

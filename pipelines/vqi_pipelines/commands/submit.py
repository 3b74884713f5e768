"""`vqi submit`: one category's DAG in a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.logs import logger
from vqi.platform.printing import printable
from vqi_pipelines.commands import cluster_options as options
from vqi_pipelines.commands.cluster_options import report

if TYPE_CHECKING:
    from vqi.category import Category
    from vqi.placement import StepPlacement
    from vqi_pipelines.cluster.following import RunResult
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes
    from vqi_pipelines.cluster.logs import Logs
    from vqi_pipelines.cluster.server import Server

log = logger(__name__)


@options.takes_connection
def submit(
    connection: options.Connection,
    category: Annotated[
        str,
        typer.Option(
            help="A category of the catalog, a category file, or a new name; else the name of --set data.source=..."
        ),
    ] = "",
    pool: Annotated[
        str, typer.Option(help="Node pool of the heavy steps: any, xeon or gaudi; else the category's.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides the category; may be repeated.")
    ] = None,
    compact: options.Compact = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the run is over and end as it ended (0, 1, 2, or 3 for a gate).")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds that --wait stays; the run goes on after.")] = None,
    no_preflight: Annotated[
        bool, typer.Option("--no-preflight", help="Submit without looking at server, namespace, nodes and data first.")
    ] = False,
    service_account: Annotated[
        str, typer.Option(help="Service account of the run's pods; else KFP's own choice.")
    ] = "",
    pipeline_root: Annotated[
        str, typer.Option(help="Where artefacts go; else what the namespace's kfp-launcher says.")
    ] = "",
    package: options.PackageFile = None,
    experiment: options.Experiment = "vqi",
    json_output: options.Json = False,
) -> None:
    """Run the DAG of one category in a cluster, through Kubeflow Pipelines."""
    from vqi_pipelines.catalog import load_category
    from vqi_pipelines.cluster.following import RunResult
    from vqi_pipelines.cluster.package import load_package
    from vqi_pipelines.cluster.submitting import run_values, start, upload
    from vqi_pipelines.compiling import pipeline_of

    chosen = load_category(category, overrides(set_, pool))
    compiled = load_package(pipeline_of(chosen, compact), package)
    values = run_values(compiled, chosen)
    server, kubernetes = connection.reach()
    if not no_preflight:
        preflight(server, kubernetes, chosen, task_placements(chosen, compact))
    uploaded = upload(server, compiled)
    report(f"{compiled.pipeline} {uploaded.name}: {'uploaded' if uploaded.new else 'there already'}")
    run = start(server, uploaded, values, experiment, service_account=service_account, pipeline_root=pipeline_root)
    report(f"Started {printable(run.display_name)}: {run.run_id}")
    if link := server.run_link(run.run_id):
        report(f"See it at {link}")
    result = wait_for(server, options.logs(server, kubernetes), run.run_id, timeout) if wait else None
    if result is None:
        if not json_output:
            print(run.run_id)
        result = RunResult(run.run_id, run.display_name, run.state or "PENDING", server.run_link(run.run_id))
    finish(result, json_output, tracking_address(chosen, kubernetes, server) if wait else "")


def task_placements(category: Category, compact: bool) -> Mapping[str, StepPlacement]:
    """What each task of a category's run gets, by its name."""
    from vqi.placement import COMPACT_STEPS, composite_placements

    placed = category.step_placements
    return composite_placements(placed, COMPACT_STEPS) if compact else placed


def preflight(
    server: Server,
    kubernetes: Kubernetes | None,
    category: Category,
    placements: Mapping[str, StepPlacement] | None = None,
) -> None:
    """Check everything a run needs before it is submitted; `placements` are what its tasks get where they are not the
    category's steps. Raises BadInput for what is wrong, and reports what could not be checked."""
    from vqi_pipelines.cluster import preflight as checks

    def doubt(sentence: str) -> None:
        report(f"Note: {printable(sentence)}")

    checks.check_server(server, doubt)
    checks.check_data(category, doubt)
    namespace = server.run_namespace(kubernetes)
    if kubernetes is None or not namespace:
        doubt("Secrets and nodes were not checked: there is no kubeconfig here that shows the run's namespace.")
        return
    checks.check_namespace(kubernetes, namespace, server.health().multi_user, category, doubt)
    checks.check_nodes(kubernetes, placements or category.step_placements, category.pool, doubt)


def wait_for(server: Server, logs: Logs, run_id: str, timeout: float | None) -> RunResult:
    """Follow a run to its end; Ctrl-C leaves it going and says how to follow it."""
    from vqi_pipelines.cluster.following import follow

    try:
        return follow(server, run_id, logs, report, timeout)
    except KeyboardInterrupt:
        report(
            f"The run {run_id} goes on. Follow it with `vqi runs {run_id} --wait`, end it with `vqi terminate "
            f"{run_id}`."
        )
        raise typer.Exit(130) from None


def finish(result: RunResult, json_output: bool, tracking: str = "") -> None:
    """Print how a run stands and raise what it failed with; `tracking` is where MLflow is, if the run does not say
    more."""
    from vqi_pipelines.cluster.logs import SUBMIT_AGAIN
    from vqi_pipelines.cluster.steps import OVER

    tracking = result.tracking or tracking
    if result.metrics and not json_output:
        width = max(map(len, result.metrics))
        for name, value in sorted(result.metrics.items()):
            print(f"  {printable(name):{width}}  {value:.4f}")
    if json_output:
        print(json.dumps({**result.as_dict(), "tracking": tracking}, indent=2))
    elif result.state == "SUCCEEDED":
        print(f"Succeeded: {result.name}")
        for title, address in (("Run:", result.link), ("MLflow:", tracking)):
            if address:
                print(f"{title:8}{printable(address)}")
        if tracking and (hint := port_forward(tracking)):
            report(hint)
    if result.note:
        report(result.note)
    if result.error:
        log.error(f"vqi: {result.error}")
        if result.link:
            report(f"See {result.link}")
        if result.state in OVER:
            retry = "" if SUBMIT_AGAIN in result.error else f"; `vqi retry {result.run_id}` goes on where it failed"
            report(f"`vqi logs {result.run_id} STEP` shows a step's log{retry}.")
        raise typer.Exit(result.exit_code)


def tracking_address(category: Category, kubernetes: Kubernetes | None, server: Server) -> str:
    """Where the run's figures are in MLflow, "" where that is not known from here."""
    import os

    from vqi_pipelines.cluster.kubernetes_access import NotAllowed
    from vqi_pipelines.cluster.preflight import SETTINGS

    known = category.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not known and kubernetes and (namespace := server.run_namespace(kubernetes)):
        try:
            known = (kubernetes.config_map(namespace, SETTINGS) or {}).get("MLFLOW_TRACKING_URI", "")
        except NotAllowed:
            return ""
    return f"{known} (experiment {category.tracking.experiment})" if known else ""


def port_forward(address: str) -> str:
    """How to open the address of a service from here, "" for one that is not a cluster's own."""
    from urllib.parse import urlsplit

    parts = urlsplit(address.split(" ", 1)[0])
    labels = (parts.hostname or "").split(".")
    # A service's name, or SERVICE.NAMESPACE.svc and what may follow.
    inside = labels != ["localhost"] and (len(labels) == 1 or "svc" in labels[2:3])
    if not parts.hostname or not inside:
        return ""
    namespace = f"-n {labels[1]} " if len(labels) > 1 else "-n NAMESPACE "
    port = parts.port or (443 if parts.scheme == "https" else 80)
    local = port if port >= 1024 else 8000 + port
    ports = str(port) if local == port else f"{local}:{port}"
    page = f"{parts.scheme}://localhost:{local}{parts.path}" + (f"#{parts.fragment}" if parts.fragment else "")
    return (
        f"MLflow's address opens in pods alone: run `kubectl {namespace}port-forward service/{labels[0]} {ports}` and "
        f"open {page}"
    )


def overrides(set_: list[str] | None, pool: str) -> list[str]:
    """What overrides the category: --set, and --pool as a key like any other."""
    return [*(set_ or []), *([f"pool={pool}"] if pool else [])]

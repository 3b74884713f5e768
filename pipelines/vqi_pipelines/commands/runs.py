"""`vqi runs`, `vqi logs`, `vqi terminate` and `vqi retry`: what goes on in a cluster, and taking hold of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqi.placement import STEPS
from vqi.platform.printing import printable
from vqi_pipelines.commands import cluster_options as options
from vqi_pipelines.commands.cluster_options import report
from vqi_pipelines.commands.submit import finish, wait_for
from vqi_pipelines.commands.tracking_option import name_tracking

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

    from vqi_pipelines.cluster.server import Server

RunId = Annotated[
    str, typer.Argument(help="The run's id, or the beginning of its id or name that no other recent run has.")
]


@options.takes_connection
def runs(
    connection: options.Connection,
    run: Annotated[
        str,
        typer.Argument(
            help="One run (id, or the beginning of its id or name): its steps and metrics. Without it: a list."
        ),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run is over and end as it ended.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds that --wait stays.")] = None,
    category: Annotated[str, typer.Option(help="Only runs of this category.")] = "",
    state: Annotated[
        str, typer.Option(help="Only runs in this state: pending, running, succeeded, failed, canceled.")
    ] = "",
    last: Annotated[int, typer.Option(min=1, max=500, help="How many at most, the newest first.")] = 20,
    experiment: Annotated[str, typer.Option(help="Only runs of this KFP experiment.")] = "",
    json_output: options.Json = False,
) -> None:
    """List the runs of a cluster, or show one."""
    from vqi_pipelines.cluster.following import read_progress, read_result
    from vqi_pipelines.cluster.listing import list_runs
    from vqi_pipelines.cluster.steps import OVER

    server, kubernetes = connection.reach()
    if run:
        chosen_run = the_run(server, run)
        logs = options.logs(server, kubernetes)
        if wait:
            ended = wait_for(server, logs, chosen_run.run_id, timeout)
        elif chosen_run.state in OVER:
            ended = read_result(server, chosen_run, logs)
        else:
            ended = read_progress(server, chosen_run, logs)
        if not json_output and not wait:
            print(f"{printable(ended.name)}: {ended.state.lower()}")
            for name, line in ended.steps.items():
                print(f"  {name}: {line}")
            for sentence in ended.waiting:
                if not ended.error.startswith(sentence):  # `finish` ends with that one
                    print(f"  {sentence}")
        finish(ended, json_output)
        return
    listed = list_runs(server, last, category, state, experiment)
    if json_output:
        print(json.dumps([_row(item) for item in listed], indent=2))
    else:
        _print_table(listed)


@options.takes_connection
def logs(
    connection: options.Connection,
    run: RunId,
    step: Annotated[
        str, typer.Argument(help=f"One of {', '.join(STEPS)}, plan_trials, compare; or the name of one of their pods.")
    ],
) -> None:
    """Print a step's log, from its pod, from KFP, or from KFP's archive."""
    from vqi.platform.errors import RunFailed
    from vqi_pipelines.cluster.logs import chosen_step, step_pods
    from vqi_pipelines.cluster.steps import steps_of

    server, kubernetes = connection.reach()
    chosen_run = the_run(server, run)
    sources = options.logs(server, kubernetes)
    text, name = "", step
    if pods := step_pods(sources.pods(chosen_run.run_id), step):
        text = sources.of_pod(pods[-1])
        for pod in pods if len(pods) > 1 else []:
            shown = ", shown below" if pod is pods[-1] else ""
            report(f"{pod.step} of trial {pod.trial or '-'} ({pod.phase.lower()}{shown}): {pod.name}")
    if not text:
        chosen = chosen_step(steps_of(chosen_run), step)
        if chosen.cached:
            raise RunFailed(
                f"{chosen.name} did not run: KFP had its result from an earlier run with the same inputs, whose log "
                "it is."
            )
        text, name = sources.of(chosen_run.run_id, chosen), chosen.name
    if not text:
        raise RunFailed(
            f"The log of {name} cannot be had: its pod is gone or out of reach, and KFP keeps no archive of it."
        )
    for line in text.splitlines():
        print(printable(line.replace("\t", "    ")))


@options.takes_connection
def terminate(
    connection: options.Connection,
    run: RunId,
    tracking: Annotated[
        str,
        typer.Option(
            help="MLflow, as this machine reaches it, whose runs of the run end too; empty = MLFLOW_TRACKING_URI.",
            callback=name_tracking,
        ),
    ] = "",
) -> None:
    """End a run that goes on, and what it records in MLflow; what its finished steps made stays."""
    from vqi.platform.errors import BadInput
    from vqi.tracking.left_runs import end_terminated
    from vqi.tracking.runs import tracking_address, tracking_client
    from vqi_pipelines.cluster.steps import OVER, state_of

    server, _ = connection.reach()
    chosen_run = the_run(server, run)
    address, state = tracking_address(tracking), state_of(chosen_run)
    if chosen_run.state not in OVER:
        server.call(server.runs.run_service_terminate_run, chosen_run.run_id)
        typer.echo(f"Ending {printable(chosen_run.display_name)}: {chosen_run.run_id}")
    elif state != "CANCELED" or not address:
        raise BadInput(f"The run {chosen_run.run_id} is over ({state.lower()}); there is nothing to end.")
    if not address:
        report("Note: its runs in MLflow stay RUNNING for six hours or more; --tracking URL ends them now.")
        return
    with tracking_client(address) as client:
        ended = end_terminated(client, chosen_run.run_id)
    report(f"Ended in MLflow as KILLED: {ended}")


@options.takes_connection
def retry(
    connection: options.Connection,
    run: RunId,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run is over and end as it ended.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds that --wait stays.")] = None,
    json_output: options.Json = False,
) -> None:
    """Go on with a failed run where it failed: no finished step is repeated."""
    from vqi.platform.errors import BadInput

    server, kubernetes = connection.reach()
    chosen_run = the_run(server, run)
    if chosen_run.state not in ("FAILED", "CANCELED"):
        raise BadInput(
            f"The run {chosen_run.run_id} is {(chosen_run.state or 'pending').lower()}; only one that failed or was "
            "ended can be retried."
        )

    def begun() -> object | None:
        now = server.call(server.runs.run_service_get_run, chosen_run.run_id)
        return now if now.state not in ("FAILED", "CANCELED") else None

    server.call(server.runs.run_service_retry_run, chosen_run.run_id, made=begun)
    report(f"Retrying {printable(chosen_run.display_name)}: {chosen_run.run_id}")
    if wait:
        finish(wait_for(server, options.logs(server, kubernetes), chosen_run.run_id, timeout), json_output)


def the_run(server: Server, wanted: str) -> V2beta1Run:
    """The run that a person named by its id, or by how its id or its name begins. Raises BadInput where that is none or
    several."""
    import re

    from vqi.platform.errors import BadInput
    from vqi_pipelines.cluster.listing import list_runs

    server.health()
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", wanted):
        if match := server.find(server.runs.run_service_get_run, wanted):
            return match
        raise BadInput(f"{server.host} has no run {wanted}; `vqi runs` lists them.")
    near = [
        run
        for run in list_runs(server, 200)
        if run.run_id.startswith(wanted) or (run.display_name or "").startswith(wanted)
    ]
    exact = [run for run in near if run.display_name == wanted]
    if len(exact or near) == 1:
        return server.call(server.runs.run_service_get_run, (exact or near)[0].run_id)
    if not near:
        raise BadInput(
            f"None of the last 200 runs has an id or a name that begins with {wanted!r}; `vqi runs` lists them."
        )
    raise BadInput(
        f"{len(near)} runs begin with {wanted!r}, such as {near[0].run_id} and {near[1].run_id}; write more of it."
    )


def _row(run: V2beta1Run) -> dict[str, Any]:
    from vqi_pipelines.cluster.steps import state_of

    parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
    return {
        "run_id": run.run_id,
        "name": run.display_name,
        "state": state_of(run),
        "category": parameters.get("name", ""),
        "method": parameters.get("method_name", ""),
        "pool": parameters.get("pool", ""),
        "created_at": run.created_at.isoformat() if run.created_at else "",
        "finished_at": run.finished_at.isoformat() if run.finished_at and run.finished_at.year > 1970 else "",
        "recurring_run_id": run.recurring_run_id or "",
    }


def _print_table(listed: list[V2beta1Run]) -> None:
    from vqi_pipelines.cluster.steps import state_of

    rows = [("run", "state", "begun", "minutes", "name")]
    for run in listed:
        over = run.finished_at and run.finished_at.year > 1970
        minutes = f"{(run.finished_at - run.created_at).total_seconds() / 60:.1f}" if over and run.created_at else ""
        begun = run.created_at.strftime("%Y-%m-%d %H:%M") if run.created_at else ""
        rows.append((run.run_id, state_of(run).lower(), begun, minutes, printable(run.display_name or "")))
    for row in rows if listed else [("No runs.", "", "", "", "")]:
        print(f"{row[0]:36}  {row[1]:9}  {row[2]:16}  {row[3]:>7}  {row[4]}".rstrip())

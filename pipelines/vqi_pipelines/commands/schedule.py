"""`vqi schedule`: runs of a category again and again, as KFP's recurring runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.printing import printable
from vqi_pipelines.commands import cluster_options as options
from vqi_pipelines.commands.cluster_options import report

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun


@options.takes_connection
def schedule(
    connection: options.Connection,
    category: Annotated[str, typer.Option(help="Category to run at every time of --cron.")] = "",
    cron: Annotated[
        str,
        typer.Option(
            help="When: '0 2 * * *' (minute hour day month weekday), six fields with the second first, or @daily."
        ),
    ] = "",
    pool: Annotated[
        str, typer.Option(help="Node pool of the heavy steps: any, xeon or gaudi; else the category's.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides the category; may be repeated.")
    ] = None,
    compact: options.Compact = False,
    name: Annotated[str, typer.Option(help="Name of the schedule; else the category's and the method's.")] = "",
    concurrent: Annotated[int, typer.Option(min=1, max=10, help="How many of its runs may go on at once.")] = 1,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="After an outage run every time that was missed, not only the next.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the schedules.")] = False,
    pause: Annotated[str, typer.Option(help="Pause a schedule (its id or name).")] = "",
    resume: Annotated[str, typer.Option(help="Go on with a paused schedule (its id or name).")] = "",
    delete: Annotated[str, typer.Option(help="Delete a schedule (its id or name); its runs stay.")] = "",
    no_preflight: Annotated[
        bool, typer.Option("--no-preflight", help="Do not look at server, namespace, nodes and data first.")
    ] = False,
    service_account: Annotated[
        str, typer.Option(help="Service account of the runs' pods; else KFP's own choice.")
    ] = "",
    package: options.PackageFile = None,
    experiment: options.Experiment = "vqi",
    json_output: options.Json = False,
) -> None:
    """Run a category on a schedule; list, pause, resume and delete schedules."""
    from vqi.platform.errors import BadInput
    from vqi_pipelines.catalog import load_category
    from vqi_pipelines.cluster import schedules
    from vqi_pipelines.cluster.package import load_package
    from vqi_pipelines.cluster.submitting import run_values, upload
    from vqi_pipelines.commands.submit import overrides, preflight, task_placements
    from vqi_pipelines.compiling import pipeline_of

    if sum(map(bool, (category, list_, pause, resume, delete))) != 1:
        raise BadInput("Give one of --category (with --cron), --list, --pause, --resume and --delete.")
    if not category:
        server, _ = connection.reach()
        server.health()
        if list_:
            _show(schedules.list_schedules(server), json_output)
            return
        changes = (
            (pause, schedules.pause, "paused"),
            (resume, schedules.resume, "resumed"),
            (delete, schedules.delete, "deleted"),
        )
        wanted, change, done = next(each for each in changes if each[0])
        match = schedules.find(server, wanted)
        change(server, match.recurring_run_id)
        report(f"{printable(match.display_name)}: {done}")
        return
    if not cron:
        raise BadInput("--category needs --cron, such as --cron '0 2 * * *' for every night at two.")
    when = schedules.cron(cron)
    chosen = load_category(category, overrides(set_, pool))
    compiled = load_package(pipeline_of(chosen, compact), package)
    values = run_values(compiled, chosen)
    server, kubernetes = connection.reach()
    if not no_preflight:
        preflight(server, kubernetes, chosen, task_placements(chosen, compact))
    made = schedules.make(
        server,
        upload(server, compiled),
        values,
        experiment,
        name or f"{chosen.name}-{chosen.method.name}",
        when,
        concurrent=concurrent,
        catch_up=catch_up,
        service_account=service_account,
    )
    if json_output:
        _show([made], True)
    else:
        typer.echo(f"{printable(made.display_name)} runs at '{when}': {made.recurring_run_id}")


def _show(recurring_runs: list[V2beta1RecurringRun], json_output: bool) -> None:
    rows = [
        {
            "id": item.recurring_run_id,
            "name": item.display_name,
            "cron": item.trigger.cron_schedule.cron if item.trigger and item.trigger.cron_schedule else "",
            "state": (item.status or "").lower(),
        }
        for item in recurring_runs
    ]
    if json_output:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(printable(f"{row['id']}  {row['state']:8}  {row['cron']:20}  {row['name']}"))
    if not rows:
        print("No schedules.")

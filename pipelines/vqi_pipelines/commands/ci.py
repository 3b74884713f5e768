"""`vqi ci`: train in the cluster what changed, as one command that any CI calls."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.printing import printable
from vqi_pipelines.commands import cluster_options as options
from vqi_pipelines.commands.cluster_options import report

if TYPE_CHECKING:
    from vqi.category import Category
    from vqi_pipelines.cluster.ci_summary import Trained
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes
    from vqi_pipelines.cluster.package import Package
    from vqi_pipelines.cluster.server import Server


@options.takes_connection
def ci(
    connection: options.Connection,
    since: Annotated[
        str, typer.Option(help="Git revision: categories whose catalog file differs from it are due.")
    ] = "",
    state: Annotated[
        str,
        typer.Option(
            help="File or s3:// object kept between calls: categories whose entry or photographs changed are due."
        ),
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every category of the catalog is due.")] = False,
    category: Annotated[list[str] | None, typer.Option(help="Look at this category alone; may be repeated.")] = None,
    pool: Annotated[
        str, typer.Option(help="Node pool of the heavy steps: any, xeon or gaudi; else each category's.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides every category; may be repeated.")
    ] = None,
    compact: options.Compact = False,
    require: Annotated[
        list[str] | None, typer.Option(help="metric=least, such as image_auroc=0.95; below it the gate says no (3).")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=100, help="How many runs may go on at once.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds that one run is waited for.")] = 6 * 3600.0,
    summary: Annotated[
        Path | None, typer.Option(help="Markdown file for the summary; $GITHUB_STEP_SUMMARY gets it as well.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due and submit nothing.")] = False,
    package: options.PackageFile = None,
    experiment: options.Experiment = "vqi",
) -> None:
    """Submit the categories that changed, wait for them, gate them, and leave a summary. Exit code 3 where only gates
    said no."""
    from vqi.platform.errors import BadInput
    from vqi_pipelines.catalog import category_names, load_category
    from vqi_pipelines.cluster import changes, ci_summary
    from vqi_pipelines.cluster.package import load_package
    from vqi_pipelines.cluster.submitting import upload
    from vqi_pipelines.commands.submit import overrides
    from vqi_pipelines.compiling import pipeline_of

    if not (since or state or all_):
        raise BadInput("Say what is due: --since REVISION, --state FILE, both, or --all.")
    wanted = ci_summary.requirements(require or [])
    names = category or category_names()
    chosen = {name: load_category(name, overrides(set_, pool)) for name in names}
    edited = changes.entries_changed_since(since) if since else None
    before = changes.read_state(state) if state else None
    now = {name: changes.fingerprints(each) for name, each in chosen.items()} if state else {}
    nothing = changes.Fingerprints("", "")
    due = {
        name: changes.why(name, now.get(name, nothing), before, edited) or ("asked for" if all_ else "")
        for name in names
    }
    unchanged = [name for name in names if not due[name]]
    for name in names:
        report(f"{printable(name)}: {due[name] or 'unchanged'}")
    trained: list[Trained] = []
    if not dry_run and len(unchanged) < len(names):
        pipelines = {name: pipeline_of(chosen[name], compact) for name in names if due[name]}
        compiled = {pipeline: load_package(pipeline, package) for pipeline in set(pipelines.values())}
        server, kubernetes = connection.reach()
        server.health()
        for each_package in compiled.values():
            upload(server, each_package)
        going: deque[tuple[Trained, str]] = deque()
        for name, pipeline in pipelines.items():
            if len(going) >= at_once:
                trained.append(_await_run(server, kubernetes, *going.popleft(), timeout, wanted))
            each = ci_summary.Trained(name, due[name])
            if run_id := _start_run(server, kubernetes, compiled[pipeline], chosen[name], experiment, each, compact):
                going.append((each, run_id))
            else:
                trained.append(each)
        trained += [_await_run(server, kubernetes, each, run_id, timeout, wanted) for each, run_id in going]
    elif dry_run:
        trained = [ci_summary.Trained(name, due[name]) for name in names if due[name]]
    if state and not dry_run:
        # What did not end well stays due.
        done = {each.category: now[each.category] for each in trained if each.exit_code == 0}
        changes.write_state(state, {**(before or {}), **done})
    text = ci_summary.markdown(trained, unchanged)
    print(text)
    _leave(text, summary)
    if code := ci_summary.exit_code(trained):
        raise typer.Exit(code)


def _start_run(
    server: Server,
    kubernetes: Kubernetes | None,
    package: Package,
    category: Category,
    experiment: str,
    each: Trained,
    compact: bool,
) -> str:
    """The id of a category's run, "" where it was refused; one that is refused does not keep the others from being
    trained."""
    from vqi.platform.errors import VqiError
    from vqi_pipelines.cluster.submitting import run_values, start, upload
    from vqi_pipelines.commands.submit import preflight, task_placements

    try:
        preflight(server, kubernetes, category, task_placements(category, compact))
        run = start(server, upload(server, package), run_values(package, category), experiment)
    except VqiError as error:
        each.error, each.exit_code = str(error), error.exit_code
        report(printable(f"{each.category}: {error}"))
        return ""
    report(f"{printable(each.category)}: started {printable(run.display_name)}, {run.run_id}")
    return run.run_id


def _await_run(
    server: Server, kubernetes: Kubernetes | None, each: Trained, run_id: str, timeout: float, wanted: dict[str, float]
) -> Trained:
    """Wait for a run and gate what it made."""
    from vqi.platform.errors import GateRefused, VqiError
    from vqi_pipelines.cluster.ci_summary import shortfall
    from vqi_pipelines.cluster.following import follow

    try:
        result = follow(
            server,
            run_id,
            options.logs(server, kubernetes),
            lambda line: report(f"{printable(each.category)} {line.strip()}"),
            timeout,
        )
        each.result, each.metrics, each.error, each.exit_code = result, result.metrics, result.error, result.exit_code
        if not each.exit_code and (missed := shortfall(result.metrics, wanted)):
            raise GateRefused(f"It is not good enough: {missed}.")
    except VqiError as error:
        each.error, each.exit_code = str(error), error.exit_code
    except KeyboardInterrupt:
        report(f"The runs go on. Follow them with `vqi runs --wait RUN`; {printable(each.category)} is {run_id}.")
        raise typer.Exit(130) from None
    return each


def _leave(text: str, summary: Path | None) -> None:
    if summary:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(text)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a") as file:
            file.write(text)

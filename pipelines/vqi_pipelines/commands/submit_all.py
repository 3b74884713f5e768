"""`vqi submit-all`: every category with every method in a cluster, as one run with a comparison at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.errors import BadInput
from vqi.platform.printing import printable
from vqi_pipelines.commands import cluster_options as options
from vqi_pipelines.commands.cluster_options import report

if TYPE_CHECKING:
    from vqi.placement import StepPlacement
    from vqi.steps.plan_trials.planning import Trial

# Of categories that a run is named after.
MOST_NAMES = 3


def name_of(trials: Sequence[Trial]) -> str:
    """What a comparison is called: its categories, of more than three the first two and how many more there are."""
    names = list(dict.fromkeys(trial.category.name for trial in trials))
    shown = names if len(names) <= MOST_NAMES else [*names[:2], f"and-{len(names) - 2}-more"]
    return "-".join(shown)[:60]


def _shared_placement(trials: Sequence[Trial], compact: bool | None) -> dict[str, StepPlacement] | None:
    """What the one task of each trial gets in the compact form; None = the full form. `compact` is what was asked for,
    None where nothing was. Raises BadInput where --compact asks for what the trials cannot have: here, not in the
    cluster."""
    from vqi.steps.plan_trials.planning import placement_of_trials

    if compact is False:
        return None
    try:
        return {"run_trial": placement_of_trials(trials)}
    except BadInput as refusal:
        if compact:
            raise
        report(f"Each step is a task of its own, as with --full: {str(refusal).partition(';')[0]}.")
        return None


@options.takes_connection
def submit_all_command(
    connection: options.Connection,
    category: Annotated[
        list[str] | None, typer.Option(help="A category of the catalog, or a category file; may be repeated.")
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Every category of the catalog.")] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="A method; may be repeated. None: each category's own.")
    ] = None,
    pool: Annotated[
        str, typer.Option(help="Node pool of the heavy steps: any, xeon or gaudi; else each category's.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides every category; may be repeated.")
    ] = None,
    compact: Annotated[
        bool | None,
        typer.Option(
            "--compact/--full",
            help="Each trial as one task, or each of its steps; else compact where all trials can run on the same "
            "nodes. Argo's record holds twelve compact trials, and one full one.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the run is over and end as it ended; 1 where a trial failed.")
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
    """Run every category with every method in a cluster, as one run, and compare them."""
    from vqi_pipelines.cluster.following import RunResult
    from vqi_pipelines.cluster.package import load_package
    from vqi_pipelines.cluster.submitting import run_name, start, upload
    from vqi_pipelines.commands import submit
    from vqi_pipelines.trials import catalog_trials, train_all_parameters

    trials = catalog_trials(category or [], all_of_them, method or [], submit.overrides(set_, pool))
    values = train_all_parameters(trials)
    if left := [trial.category.name for trial in trials if trial.category.promote.step == "yes"]:
        report(f"Note: a comparison promotes nothing, so promote.step of {left[0]} is left out; submit the best alone.")
    shared = _shared_placement(trials, compact)
    compiled = load_package("train_all_compact" if shared else "train_all", package)
    server, kubernetes = connection.reach()
    if not no_preflight:
        # What trials share is checked once.
        distinct = {
            (trial.category.data.source, trial.category.backbone.weights, trial.category.pool): trial.category
            for trial in trials
        }
        for one in distinct.values():
            submit.preflight(server, kubernetes, one, shared)
    uploaded = upload(server, compiled)
    report(f"{compiled.pipeline} {uploaded.name}: {'uploaded' if uploaded.new else 'there already'}")
    name = run_name({"name": "all" if all_of_them else name_of(trials)})
    run = start(
        server, uploaded, values, experiment, name, service_account=service_account, pipeline_root=pipeline_root
    )
    report(f"Started {printable(run.display_name)}: {run.run_id}, {len(trials)} trials")
    if link := server.run_link(run.run_id):
        report(f"See it at {link}")
    result = submit.wait_for(server, options.logs(server, kubernetes), run.run_id, timeout) if wait else None
    if result is None:
        result = RunResult(run.run_id, run.display_name, run.state or "PENDING", server.run_link(run.run_id))
    result.metrics = {}  # the last trial's, which say nothing of the others: the comparison holds all of them
    submit.finish(result, json_output, submit.tracking_address(trials[0].category, kubernetes, server) if wait else "")

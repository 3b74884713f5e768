"""`vqi run-all`: every category with every method on this machine, and a comparison of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vqi.platform.logs import logger
from vqi_pipelines.commands.run import Compact, Isolated

log = logger(__name__)


def run_all_command(
    category: Annotated[
        list[str] | None, typer.Option(help="A category of the catalog, or a category file; may be repeated.")
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Every category of the catalog.")] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="A method; may be repeated. None: each category's own.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides every category; may be repeated.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the runs and comparisons; what is finished in it is not run again.")
    ] = Path("runs"),
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Runs at a time.")] = 1,
    isolated: Isolated = False,
    compact: Compact = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Run every category with every method, and compare them; a run that fails is listed and the others go on."""
    import json
    import signal

    from vqi.platform.printing import printable
    from vqi_pipelines.run_all import run_all
    from vqi_pipelines.trials import catalog_trials

    # Whatever signal stops it, the runs under way stop with it.
    for stop_signal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop_signal, signal.default_int_handler)
    trials = catalog_trials(category or [], all_of_them, method or [], set_ or [])
    done = run_all(trials, out, log.info, parallel, isolated, compact)
    if json_output:
        print(json.dumps(done.comparison.values(), indent=2, allow_nan=False))
    else:
        print(printable(f"{'Comparison:':15}{done.page}"))
        print(printable(f"{'MLflow:':15}{done.comparison.tracking_uri}"))
    if done.exit_code:
        sys.exit(done.exit_code)

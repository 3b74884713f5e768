"""`vqi run`: the DAG of one category on this machine."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.logs import is_quiet, logger

if TYPE_CHECKING:
    from vqi.category import Category

log = logger(__name__)


class Runner(StrEnum):
    """How `--runner` names what a step of a local run is."""

    SUBPROCESS = "subprocess"
    DOCKER = "docker"


Isolated = Annotated[
    bool, typer.Option("--isolated", help="Begin every step's process with nothing imported, as in a cluster: slower.")
]

Compact = Annotated[
    bool, typer.Option("--compact", help="Run several steps in each task, as `vqi submit --compact` does.")
]


def run(
    category: Annotated[
        str,
        typer.Option(
            help="A category of the catalog, a category file, or a new name; else the name of --set data.source=..."
        ),
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides the category; may be repeated.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder that runs are kept in, each in a folder of its own, with their MLflow database."),
    ] = Path("runs"),
    runner: Annotated[
        Runner, typer.Option(help="What a step is: a process here, or a container (images/README.md).")
    ] = Runner.SUBPROCESS,
    isolated: Isolated = False,
    compact: Compact = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Run the whole DAG for one category: ingest, check, train, build index, evaluate, export."""
    from vqi_pipelines.catalog import load_category

    execute(load_category(category, set_ or []), out, json_output, runner, isolated, compact)


class _Reporter:
    """Logs the lines of a local run: `STEP ...` where one begins, and, indented, what it printed."""

    def __init__(self) -> None:
        self.step = ""

    def __call__(self, line: str) -> None:
        if not line.startswith(" ") and line.endswith(" ..."):
            self.step = line.removesuffix(" ...")
        # A step that is quiet prints nothing but warnings and errors.
        level = logging.WARNING if is_quiet() and line.startswith(" ") else logging.INFO
        log.log(level, line, extra={"step": self.step})


def execute(
    category: Category,
    out: Path,
    json_output: bool,
    runner: Runner = Runner.SUBPROCESS,
    isolated: bool = False,
    compact: bool = False,
) -> None:
    """Run a category, then print its summary: a table, or JSON alone on standard output."""
    from vqi_pipelines.local_run import run_category
    from vqi_pipelines.summary import print_summary

    real_output = sys.stdout

    summary = run_category(category, out, _Reporter(), runner.value, isolated, compact)
    if json_output:
        print(summary.to_json(), file=real_output)
    else:
        print_summary(category, summary)

"""The `vqi` command: its sub-commands, and how errors end it (one sentence, an exit code, no traceback)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vqi.platform.errors import VqiError
from vqi_pipelines.commands.categories import categories
from vqi_pipelines.commands.check import check
from vqi_pipelines.commands.ci import ci
from vqi_pipelines.commands.compile import compile_command
from vqi_pipelines.commands.demo import demo
from vqi_pipelines.commands.distill import distill
from vqi_pipelines.commands.methods import methods
from vqi_pipelines.commands.predict import predict
from vqi_pipelines.commands.preview import preview
from vqi_pipelines.commands.run import run
from vqi_pipelines.commands.run_all import run_all_command
from vqi_pipelines.commands.runs import logs, retry, runs, terminate
from vqi_pipelines.commands.schedule import schedule
from vqi_pipelines.commands.submit import submit
from vqi_pipelines.commands.submit_all import submit_all_command
from vqi_pipelines.commands.upload import upload

app = typer.Typer(
    help="Visual quality inspection: from photographs to a checked, calibrated, exported defect detector.\n\n"
    "Exit codes: 0 fine, 1 the run failed, 2 bad input, 3 a gate said no.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command("run-all")(run_all_command)
app.command()(predict)
app.command()(check)
app.command()(categories)
app.command()(distill)
app.command()(methods)
app.command()(preview)
app.command("compile")(compile_command)
app.command()(demo)
app.command()(submit)
app.command("submit-all")(submit_all_command)
app.command()(runs)
app.command()(logs)
app.command()(terminate)
app.command()(retry)
app.command()(schedule)
app.command()(upload)
app.command()(ci)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("vqi"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


def main() -> None:
    """Entry point of the `vqi` script."""
    try:
        app()
    except VqiError as error:
        from vqi.platform.printing import printable

        print(printable(f"vqi: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("vqi: interrupted; nothing half-written was kept.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)

"""The `vqi` command: its sub-commands, and how errors end it (one sentence, an exit code, no traceback)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vqi.platform.bytecode import keep_bytecode
from vqi.platform.errors import VqiError
from vqi.platform.logs import DEBUG, QUIET, logger, set_verbosity, versions
from vqi.platform.system_errors import system_error
from vqi_pipelines.commands.bench import bench
from vqi_pipelines.commands.categories import categories
from vqi_pipelines.commands.check import check
from vqi_pipelines.commands.ci import ci
from vqi_pipelines.commands.compile import compile_command
from vqi_pipelines.commands.convert import convert, split
from vqi_pipelines.commands.demo import demo
from vqi_pipelines.commands.distill import distill
from vqi_pipelines.commands.download import download
from vqi_pipelines.commands.export import export
from vqi_pipelines.commands.methods import methods
from vqi_pipelines.commands.predict import predict
from vqi_pipelines.commands.preview import preview
from vqi_pipelines.commands.put import put
from vqi_pipelines.commands.registry import models, promote, register, rollback
from vqi_pipelines.commands.run import run
from vqi_pipelines.commands.run_all import run_all_command
from vqi_pipelines.commands.runs import logs, retry, runs, terminate
from vqi_pipelines.commands.schedule import schedule
from vqi_pipelines.commands.serve import serve
from vqi_pipelines.commands.submit import submit
from vqi_pipelines.commands.submit_all import submit_all_command
from vqi_pipelines.commands.upload import upload
from vqi_pipelines.commands.watch import watch

log = logger(__name__)


class Command(TyperCommand):
    """A command of ours: every error that it ends with is one sentence on standard error and an exit code.

    With `--json` it is on standard output too: `{"error": sentence, "exit_code": n}`.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()  # where the disk behind `>` is full, flushing raises
            return value
        except BrokenPipeError:
            raise
        except (VqiError, OSError) as error:
            failure = error if isinstance(error, VqiError) else system_error(error)
            _print_error(failure, bool(ctx.params.get("json_output")))
            _discard_output()
            sys.exit(failure.exit_code)


def _discard_output() -> None:
    """Drop what standard output cannot take: Python flushes it at exit, and would end with 120 in place of our code."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # a stream that is not a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(error: VqiError, as_json: bool) -> None:
    if as_json:
        import json

        # Standard output may be what failed.
        with contextlib.suppress(OSError):
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}, indent=2), flush=True)
    log.error(f"vqi: {error}")


# The commands by what a person wants to do; `vqi --help` shows them so.
GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Prepare": {
        "check": check,
        "convert": convert,
        "download": download,
        "split": split,
        "categories": categories,
        "methods": methods,
        "preview": preview,
        "distill": distill,
    },
    "Train on this machine": {"demo": demo, "run": run, "run-all": run_all_command},
    "Use what was trained": {"predict": predict, "serve": serve, "watch": watch, "bench": bench, "export": export},
    "Keep and promote what was trained": {
        "register": register,
        "models": models,
        "promote": promote,
        "rollback": rollback,
    },
    "Train in a cluster": {
        "put": put,
        "submit": submit,
        "submit-all": submit_all_command,
        "runs": runs,
        "logs": logs,
        "retry": retry,
        "terminate": terminate,
        "schedule": schedule,
        "ci": ci,
        "upload": upload,
        "compile": compile_command,
    },
}


class GroupedHelp(TyperGroup):
    """Lists the commands under the headings of GROUPS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, every line as wide as the terminal allows."""
        width = max(map(len, self.commands))
        for title, commands in GROUPS.items():
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(formatter.width - width - 6))
                for name in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=GroupedHelp,
    help="Visual quality inspection: from photographs to a checked, calibrated, exported defect detector.\n\n"
    "Exit codes: 0 fine, 1 the run failed, 2 bad input, 3 a gate said no.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in [row for group in GROUPS.values() for row in group.items()]:
    app.command(name, cls=Command)(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(_installed_version())
        raise typer.Exit


def _installed_version() -> str:
    from importlib.metadata import version

    return version("vqi")


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log versions, devices, files and timings too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors alone.")] = False,
) -> None:
    if verbose and quiet:
        raise typer.BadParameter("--verbose and --quiet exclude each other; leave one out.")
    if verbose or quiet:
        set_verbosity(DEBUG if verbose else QUIET)
    if log.isEnabledFor(logging.DEBUG):
        log.debug(f"vqi {_installed_version()}, {versions()}")


def main() -> None:
    """Entry point of the `vqi` script."""
    keep_bytecode()
    try:
        app()
    except KeyboardInterrupt:
        log.error("vqi: interrupted; nothing half-written was kept.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)

"""`vqi compile`: the packages people upload to Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compile_command(
    out: Annotated[Path, typer.Option(help="Folder the packages are written to.")] = Path("pipelines/compiled"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a package is missing or stale.")
    ] = False,
) -> None:
    """Compile the pipelines into packages."""
    import warnings

    from vqi.platform.errors import RunFailed
    from vqi_pipelines.compiling import PACKAGES, compile_packages

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stale = compile_packages(out, only_check=check)
    if check and stale:
        raise RunFailed(f"Stale: {', '.join(str(path) for path in stale)}; run `vqi compile` and commit the result.")
    for name in PACKAGES:
        path = out / f"{name}.yaml"
        typer.echo(f"{path}: {'written' if path in stale else 'up to date'}")

"""`vqi export`: what a bundle holds, in the file formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class IndexFormat(StrEnum):
    """The formats that a memory bank can be written in."""

    FAISS = "faiss"


def export(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder that a run exported, or an index artefact.")],
    index: Annotated[
        IndexFormat, typer.Option("--index", help="Write the memory bank in this format.")
    ] = IndexFormat.FAISS,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("memory_bank.faiss"),
) -> None:
    """Write the memory bank of a bundle as a faiss index, for tools that search one. Distances in it are squared."""
    from vqi.platform.printing import printable
    from vqi.tools.faiss_index import write_faiss_index

    vectors, length = write_faiss_index(bundle, out)
    typer.echo(f"{vectors} vectors of {length} values: {printable(str(out))}")

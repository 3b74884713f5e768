"""`vqi download`: a public set of photographs, once its licence is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vqi.tools.download import Source
    from vqi.tools.public_sets import PublicSet


def download(
    name: Annotated[str, typer.Argument(help="A public set, such as mvtec-ad; without it: a list.")] = "",
    out: Annotated[Path | None, typer.Argument(help="The folder to write (default: the set's name).")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Load it; without this the command only explains.")
    ] = False,
    mirror: Annotated[
        str,
        typer.Option(help="Another address of the archive, or of a folder that holds it (ends with /)."),
    ] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the archive in OUT.download.")] = False,
) -> None:
    """Load a public set, resume where it stopped, compare its SHA-256 and unpack it."""
    import os

    from vqi.platform.errors import BadInput
    from vqi.tools.download import download as load
    from vqi.tools.download import source_of
    from vqi.tools.public_sets import PUBLIC_SETS, public_set

    if not name:
        if accept_licence:
            raise BadInput("--accept-licence needs the name of a set: each has a licence of its own.")
        width = max(map(len, PUBLIC_SETS))
        for known in PUBLIC_SETS.values():
            typer.echo(f"{known.name:{width}}  {known.title}; {known.licence}")
        return
    public = public_set(name)
    folder = out or Path(name)
    source = source_of(public, mirror)
    if not accept_licence:
        _explain(public, source, folder)
        return
    count = load(source, public.sha256, folder, os.environ, keep)
    typer.echo(f"{public.title}: {count} files in {folder}")
    if not public.sha256:
        typer.echo("No SHA-256 of this archive is public; it was compared with none.")
    typer.echo(f"`vqi check {folder}/CATEGORY` looks at a category.")


def _explain(public: PublicSet, source: Source, folder: Path) -> None:
    """Print what would be loaded, and load nothing."""
    import os
    import shutil

    from vqi.tools.download import size_of

    size = size_of(source, os.environ)
    free = shutil.disk_usage(next(path for path in folder.absolute().parents if path.exists())).free
    rows = {
        "Set": public.title,
        "Page": public.page,
        "Licence": public.licence,
        "Address": source.address,
        "Size": f"{size / 1e6:.0f} MB" if size else "not known from here",
        "Free disk": f"{free / 1e6:.0f} MB; the archive and its content are held at once",
        "SHA-256": public.sha256 or "none is public",
        "Folder": str(folder),
    }
    for title, text in rows.items():
        typer.echo(f"{title:10} {text}")
    typer.echo("Nothing was loaded. Read the licence on the set's page; add --accept-licence to load it.")

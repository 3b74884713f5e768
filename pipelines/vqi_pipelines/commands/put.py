"""`vqi put`: photographs or weights into the store that a cluster's runs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def put(
    source: Annotated[Path, typer.Argument(help="A folder, of which every file is stored; or one file.")],
    address: Annotated[str, typer.Argument(help="s3://bucket/prefix: the files keep their names below it.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Store it where objects are already: adds and replaces, removes none.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Store a folder in the object store of AWS_ENDPOINT_URL, with the keys of AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY."""
    from vqi.platform.errors import BadInput
    from vqi.platform.printing import printable
    from vqi.storage.object_store import Address, ObjectStore

    folder = Address.parse(address)
    if not source.exists():
        raise BadInput(f"{printable(str(source))} does not exist; name a folder or a file of this machine.")
    store = ObjectStore.from_environment()
    if source.is_dir():
        files = [path for path in source.rglob("*") if path.is_file()]
        stored = folder
        held = store.objects(stored)
    else:
        files = [source]
        stored = Address(folder.bucket, "/".join(filter(None, (folder.key, source.name))))
        held = [item for item in [store.find(stored)] if item]
    if not files:
        raise BadInput(f"{printable(str(source))} has no files, so nothing was stored.")
    if held and not overwrite:
        count = f"{len(held)} objects" if len(held) > 1 else "an object"
        raise BadInput(f"{stored} has {count} already; name another prefix, or add --overwrite.")
    if source.is_dir():
        store.upload_folder(source, stored)
    else:
        store.upload_file(source, stored)
    size = sum(file.stat().st_size for file in files)
    if json_output:
        typer.echo(json.dumps({"address": str(stored), "files": len(files), "bytes": size}, indent=2))
    else:
        typer.echo(f"{len(files)} {'files' if len(files) > 1 else 'file'}, {size / 1e6:.1f} MB: {stored}")

"""What an address lists, as a fingerprint: enough to notice a change without reading a byte of content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vqi.platform.errors import BadInput
from vqi.platform.files import canonical_json
from vqi.storage.object_store import Address, ObjectStore


def listing_fingerprint(address: str, key: str) -> str:
    """The sha256 of names, sizes and versions at `address`, which the setting `key` names: an s3:// object or prefix,
    or a file or folder of this machine.

    The version of an object is its ETag, that of a file the time of its last change. Raises BadInput where nothing is
    there, RunFailed where a store does not answer.
    """
    path = Path(address).expanduser()
    listed = _list_objects(address) if address.startswith("s3://") else list_files(path) if path.exists() else []
    if not listed:
        raise BadInput(f"{key} is {address!r}, and nothing is there; see that it is written right.")
    return fingerprint_of(listed)


def fingerprint_of(listed: list[list[Any]]) -> str:
    """The sha256 of a listing."""
    return hashlib.sha256(canonical_json(listed)).hexdigest()


def list_files(path: Path) -> list[list[Any]]:
    """A file, or a folder and the files below it: name, size and time of the last change. Links to folders are not
    followed."""
    files = [path, *sorted(file for file in path.rglob("*") if file.is_file())]
    return [list_file(file, file.relative_to(path.parent).as_posix()) for file in files]


def list_file(file: Path, name: str) -> list[Any]:
    """A file under the name `name`."""
    state = file.stat()
    return [name, state.st_size if file.is_file() else 0, state.st_mtime_ns]


def _list_objects(address: str) -> list[list[Any]]:
    parsed = Address.parse(address)
    store = ObjectStore.from_environment()
    alone = store.find(parsed) if parsed.key else None
    return [[item.key, item.size, item.etag] for item in ([alone] if alone else store.objects(parsed))]

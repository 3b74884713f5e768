"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `destination` that replaces it when the block ends well, and vanishes when it does not.

    An existing `destination` is kept until the new one is complete. KFP hands steps an output path that may already exist as an empty folder.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if destination.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{destination.name}.old.", dir=destination.parent))
            os.replace(destination, retired / "old")
            os.replace(temporary, destination)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            os.replace(temporary, destination)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_whole(destination: Path, content: bytes | str) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, destination)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(destination: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; NaN and infinities are refused (they are not JSON)."""
    write_whole(destination, json.dumps(value, indent=2, allow_nan=False) + "\n")


def canonical_json(value: Any) -> bytes:
    """The one JSON form of `value` that hashes are taken of: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

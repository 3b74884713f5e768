"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqi.platform.errors import RunFailed
from vqi.platform.system_errors import named


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `destination` that replaces it when the block ends well, and vanishes when it
    does not.

    An existing `destination` is kept until the new one is complete. KFP hands steps an output path that may already
    exist as an empty folder.
    """
    destination = Path(destination)
    with _parents(destination):
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        temporary.chmod(0o755)
        try:
            with named(destination, temporary):
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
    data = content.encode() if isinstance(content, str) else content
    with _parents(destination):
        handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
        try:
            with named(destination, Path(name)):
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(name, 0o644)
                os.replace(name, destination)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _parents(destination: Path) -> Iterator[None]:
    """Make the folders above `destination` that are missing; those that are still empty go again where the block
    fails."""
    missing = [parent for parent in destination.parents if not os.path.lexists(parent)]
    try:
        with named(destination, destination.parent / f".{destination.name}."):
            try:
                destination.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(destination)) from error
            except OSError as error:
                error.filename = str(destination)
                raise
            yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def check_writable(destination: Path) -> None:
    """See that a file can be written to `destination`, before hours are spent on what it will hold; nothing stays.

    Raises OSError with the reason and the path where it cannot.
    """
    destination = Path(destination)
    if destination.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(destination))
    missing = [parent for parent in destination.parents if not os.path.lexists(parent)]
    with _parents(destination):
        handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
        os.close(handle)
        os.unlink(name)
    for parent in missing:
        with contextlib.suppress(OSError):  # another process uses it by now
            parent.rmdir()


@contextmanager
def locked(file: Path, seconds: float, what: str) -> Iterator[None]:
    """Hold `file`, which is made where it is missing and stays, against other processes; the lock ends with the
    process.

    Raises RunFailed where `what` is not free within `seconds`. A file system that has no locks (some network shares) is
    used without.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while not _lock(handle):
            if time.monotonic() > deadline:
                raise RunFailed(
                    f"{what} is held by another process since {seconds:.0f} s (lock {file}); end that process, or "
                    "start again later."
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def write_json(destination: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; NaN and infinities are refused (they are not JSON)."""
    write_whole(destination, json.dumps(value, indent=2, allow_nan=False) + "\n")


def canonical_json(value: Any) -> bytes:
    """The one JSON form of `value` that hashes are taken of: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

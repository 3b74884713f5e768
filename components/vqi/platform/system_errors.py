"""What the operating system refuses (a full disk, a read-only folder, too many open files) as one sentence for a
person."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqi.platform.errors import BadInput, RunFailed, VqiError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "it is larger than the file system or a limit of this user allows",
}
_FILES = {errno.EMFILE, errno.ENFILE}
# What was named cannot be used, and will not be the next time either: bad input. By error number: what is wrong, what
# to do.
_REFUSED = {
    errno.EROFS: ("is on a read-only file system", "name a folder that can be written"),
    errno.EACCES: ("may not be opened or written by this user", "change its rights, or name another"),
    errno.EPERM: ("may not be changed by this user", "change its rights, or name another"),
    errno.ENOTDIR: ("lies below a file, not below a folder", "name another folder"),
    errno.EISDIR: ("is a folder, and a file is needed", "name a file"),
    errno.EEXIST: ("is there already and cannot be replaced", "name another, or remove it"),
    errno.ENOTEMPTY: ("is a folder that is not empty", "name another, or remove it"),
    errno.ENOENT: ("does not exist", "name what exists"),
    errno.ENAMETOOLONG: ("has a longer name than the file system takes", "name a shorter one"),
    errno.ELOOP: ("is a link that leads to itself", "name what it should lead to"),
}
# Those of a write, which names no file. A refused connection names none either, and has nothing to do with what is
# being written.
_OF_WRITING = {*_FULL, errno.EIO, errno.EROFS}
_LONGEST = 300


def system_error(error: OSError) -> VqiError:
    """The error for a person: BadInput (exit code 2) where what was named cannot be used, RunFailed (1) where the
    machine could not do it."""
    path = _path(error)
    if error.errno in _FULL:
        where = path or f"A file below {' or '.join(dict.fromkeys((os.getcwd(), tempfile.gettempdir())))}"
        return RunFailed(
            f"{where} cannot be written: {_FULL[error.errno]}; free space, or name a folder on another disk (TMPDIR "
            "for temporary files)."
        )
    if error.errno in _FILES:
        where = f" ({path} could not be opened)" if path else ""
        return RunFailed(f"Too many files are open{where}; raise the limit (ulimit -n), or run less at a time.")
    if path and error.errno in _REFUSED:
        reason, advice = _REFUSED[error.errno]
        return BadInput(f"{path} {reason}; {advice}.")
    reason = _first_line(error.strerror or str(error)) or type(error).__name__
    if path:
        return RunFailed(f"{path} cannot be read or written ({reason}); see that its disk or server works.")
    return RunFailed(
        f"The system refused a call ({reason}); see that the disk, the network and the limits of this user allow it."
    )


@contextmanager
def named(destination: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an OSError of the block name `destination` where it names nothing (as a write to a full disk), or something
    that begins as `temporary`."""
    try:
        yield
    except OSError as error:
        written = error.filename is None and error.errno in _OF_WRITING
        if written or (temporary is not None and str(error.filename or "").startswith(str(temporary))):
            error.filename, error.filename2 = str(destination), None
        raise


def _path(error: OSError) -> str:
    """The file that an error names, "" where it names none: two are named where something is moved, and the second is
    the one that is new."""
    value = error.filename2 or error.filename
    return os.fsdecode(value) if isinstance(value, str | bytes) else ""


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:_LONGEST].rstrip(".")

"""Unpacking archives that are not trusted.

Members are written to numbered files, so a name in an archive never becomes a path on this machine. What would be
dangerous elsewhere (absolute paths, '..', links, devices) is refused all the same: such an archive was not made by
packing photographs.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from vqi.dataset.layouts.names import is_bad_folder, is_mask_folder, is_role_folder, normalised
from vqi.platform.errors import BadInput

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".zip")
_CHUNK = 1 << 18
# A tar header that is longer (names, attributes) is read into memory whole: no honest archive of photographs has one.
_LONGEST_HEADER = 1 << 20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    ValueError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. `most_times` is unpacked bytes to packed, and only counts beyond
    `harmless_bytes`."""

    most_files: int = 1_000_000
    most_bytes: int = 256 << 30
    most_times: int = 200
    harmless_bytes: int = 256 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Meter:
    """Counts what comes out of an archive and stops it at the limits, whatever the headers say."""

    def __init__(self, name: str, packed: int, limits: Limits) -> None:
        self._name, self._packed, self._limits = name, packed, limits
        self._bytes = self._files = 0

    def more_bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._limits.most_bytes:
            raise BadInput(f"The archive {self._name} unpacks to more than {self._limits.most_bytes} bytes; split it.")
        if self._bytes > max(self._limits.harmless_bytes, self._limits.most_times * self._packed):
            raise BadInput(
                f"The archive {self._name} unpacks to more than {self._limits.most_times} times its size: a "
                "decompression bomb, not photographs."
            )

    def more_files(self) -> None:
        self._files += 1
        if self._files > self._limits.most_files:
            raise BadInput(f"The archive {self._name} holds more than {self._limits.most_files} files; split it.")


class _MeteredStream:
    """What tarfile reads from: counts every decompressed byte and refuses headers of a size that would fill the
    memory."""

    def __init__(self, stream: IO[bytes], meter: _Meter, name: str) -> None:
        self._stream, self._meter, self._name = stream, meter, name
        self._furthest = 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_HEADER:
            raise BadInput(
                f"The archive {self._name} has a header of {size} bytes; it was not made by packing photographs."
            )
        data = self._stream.read(size)
        self._count()
        return data

    def seek(self, position: int) -> int:
        self._stream.seek(position)
        self._count()
        return position

    def tell(self) -> int:
        return self._stream.tell()

    def _count(self) -> None:
        position = self._stream.tell()
        self._meter.more_bytes(max(position - self._furthest, 0))
        self._furthest = max(position, self._furthest)


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name."""
    return name.lower().endswith(SUFFIXES)


def checked_name(name: str, where: str) -> str:
    """The path below its root that a name in an archive or object store says, '/'-separated and composed (NFC).

    A backslash separates as a slash does: tools on Windows write it, whatever else they say of the archive. Raises
    BadInput for what is not a plain path.
    """
    name = normalised(name).replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or (parts and parts[0][1:2] == ":" and parts[0][0].isalpha()):
        raise BadInput(f"{where} holds the absolute path {name!r}; pack the photographs by relative paths.")
    if ".." in name.split("/"):
        raise BadInput(
            f"{where} holds the path {name!r}, which leads out of it; pack the photographs from inside their folder."
        )
    if not parts or "\0" in name:
        raise BadInput(f"{where} holds the name {name!r}, which no file can have.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{where} holds the name {name!r}, which is not UTF-8; rename the file.") from error
    return "/".join(parts)


def twice(where: str, path: str, first: str, second: str) -> str:
    """The sentence for two files of one path; `first` and `second` are their names as they came."""
    if normalised(first) == first and normalised(second) == second:
        return f"{where} holds {path!r} twice; pack it again."
    return (
        f"{where} holds {path!r} twice, once with composed letters and once with decomposed ones (as a Mac writes "
        "them); rename one of them."
    )


@contextmanager
def unpacked(
    archive: Path, name: str, limits: Limits | None = None, inside: Path | None = None
) -> Iterator[dict[str, Path]]:
    """The files of an archive by their names in it, in a temporary folder that is removed afterwards; `inside` is the
    folder that it is made in (None: the system's for temporary files).

    `name` says by its suffix what kind of archive it is. Where everything lies in one top folder (`tar cf cookie.tar
    cookie`) names start below it, so that the archive of a folder is the same set as the folder. Raises BadInput where
    the archive is damaged or not harmless.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="vqi-unpacked-", dir=inside) as folder:
        meter = _Meter(name, archive.stat().st_size, limits)
        files: dict[str, Path] = {}
        try:
            members = (
                _zip_members(archive, name, meter)
                if name.lower().endswith(".zip")
                else _tar_members(archive, name, meter)
            )
            originals: dict[str, str] = {}
            for member, size, stream in members:
                path = checked_name(member, f"The archive {name}")
                if path in files:
                    raise BadInput(twice(f"The archive {name}", path, originals[path], member))
                originals[path] = member
                files[path] = Path(folder, f"{len(files):07d}")
                with open(files[path], "wb") as file:
                    _copy(stream, file, size, name, meter if name.lower().endswith(".zip") else None)
        except (*_DAMAGED, NotImplementedError, RuntimeError, OSError) as error:
            # zipfile seeks where a damaged directory says, which may be before the file's beginning. What else the
            # system refuses, a full disk, is not the archive's fault.
            if isinstance(error, OSError) and not isinstance(error, _DAMAGED) and error.errno != errno.EINVAL:
                raise
            raise BadInput(
                f"The archive {name} cannot be unpacked ({error or type(error).__name__}); it is damaged or of "
                "another kind."
            ) from error
        yield _below_top_folder(files)


def _copy(stream: _Readable, file: IO[bytes], size: int, name: str, meter: _Meter | None) -> None:
    """A member's content into a file; a tar's bytes are already counted as they are decompressed."""
    copied = 0
    while chunk := stream.read(_CHUNK):
        copied += len(chunk)
        if meter:
            meter.more_bytes(len(chunk))
        file.write(chunk)
    if copied != size:
        raise BadInput(f"The archive {name} is truncated; copy it again.")


def _tar_members(archive: Path, name: str, meter: _Meter) -> Iterator[tuple[str, int, _Readable]]:
    """The regular files of a tar: name, size, content."""
    with open(archive, "rb") as raw, _decompressed(raw, name) as stream:
        metered = _MeteredStream(stream, meter, name)
        with tarfile.open(fileobj=metered, mode="r:") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile keeps every header it has seen
                meter.more_files()
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    kind = "the link" if member.issym() or member.islnk() else "the special file"
                    raise BadInput(f"The archive {name} holds {kind} {member.name!r}; pack plain files only.")
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, member.size, content
            # tarfile takes a header it cannot read, or none, for the end; the true end is a block of zeros.
            metered.seek(tar.offset)
            if metered.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise BadInput(f"The archive {name} is damaged or truncated; copy it again.")


def _decompressed(raw: IO[bytes], name: str) -> AbstractContextManager[IO[bytes]]:
    if name.lower().endswith("gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if name.lower().endswith("xz"):
        return cast(IO[bytes], lzma.LZMAFile(raw))
    return nullcontext(raw)


def _zip_members(archive: Path, name: str, meter: _Meter) -> Iterator[tuple[str, int, _Readable]]:
    """The regular files of a zip: name, size, content."""
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            meter.more_files()
            mode = member.external_attr >> 16
            path = _zip_name(member)
            if path.endswith(("/", "\\")):
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                kind = "the link" if stat.S_ISLNK(mode) else "the special file"
                raise BadInput(f"The archive {name} holds {kind} {path!r}; pack plain files only.")
            if member.flag_bits & 1:
                raise BadInput(f"The archive {name} is encrypted; unpack it and give the folder.")
            with packed.open(member) as content:
                yield path, member.file_size, content


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name; without the flag that says UTF-8 it is read as UTF-8 all the same where it can be, as a Mac
    writes it, else as cp437."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _below_top_folder(files: dict[str, Path]) -> dict[str, Path]:
    """Names without the one folder they share, unless that folder means something ("good", "train", "masks",
    "scratch")."""
    visible = [
        path for path in files if not any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
    ]
    tops = {path.split("/")[0] if "/" in path else "" for path in visible}
    top = next(iter(tops), "")
    if len(tops) != 1 or not top or is_role_folder(top) or is_mask_folder(top) or is_bad_folder(top):
        return files
    return {path.removeprefix(f"{top}/"): file for path, file in files.items()}

"""Writing the shards of a Dataset: plain tar files that hold the photographs as they came.

Fixed order, fixed headers (mode 0644, no owner, no time): the same content gives the same bytes. `tar xf` unpacks them.
Names that do not fit a plain header (long, not ASCII) get a PAX header, as POSIX.1-2001 says.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from types import TracebackType
from typing import IO

from vqi.dataset.extents import Extent

SHARD_BYTES = 256 * 1000 * 1000


class ShardWriter:
    """Files appended one after the other to shard-00000.tar, shard-00001.tar ... in `folder`, each closed before it
    grows beyond `limit` bytes.

    A single file larger than `limit` gets a shard of its own.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES) -> None:
        self._folder, self._limit = Path(folder), limit
        self._count = 0
        self._shard: IO[bytes] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def add(self, path: str, content: bytes) -> Extent:
        """Append a file under its '/'-separated path and say where its content lies."""
        header = _header(path, len(content))
        padding = -len(content) % tarfile.BLOCKSIZE
        if (
            self._shard
            and self._shard.tell() + len(header) + len(content) + padding + 2 * tarfile.BLOCKSIZE > self._limit
        ):
            self._close()
        if self._shard is None:
            self._shard = open(self._folder / f"shard-{self._count:05d}.tar", "wb")  # noqa: SIM115 - closed by _close
            self._count += 1
        self._shard.write(header)
        extent = Extent(Path(self._shard.name).name, self._shard.tell(), len(content))
        self._shard.write(content)
        self._shard.write(bytes(padding))
        return extent

    def _close(self) -> None:
        if self._shard:
            self._shard.write(bytes(2 * tarfile.BLOCKSIZE))
            self._shard.close()
            self._shard = None


def _header(path: str, length: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.size = length
    member.mode = 0o644
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")

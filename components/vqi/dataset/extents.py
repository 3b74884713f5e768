"""Where the bytes of a file lie in a Dataset, and reading them one by one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


@dataclass(frozen=True)
class Extent:
    """Where a file's bytes lie: shard file name, byte offset of the content (not of the tar header), length in
    bytes."""

    shard: str
    offset: int
    length: int


class ShardReader:
    """Reads files out of the shards of `folder`, which are open until it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._shards: dict[str, BinaryIO] = {}

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shard in self._shards.values():
            shard.close()

    def read(self, extent: Extent) -> bytes:
        """The file's content as it came. Raises OSError where the shard cannot be read."""
        if extent.shard not in self._shards:
            self._shards[extent.shard] = open(self._folder / extent.shard, "rb", 0)  # noqa: SIM115 - __exit__ closes it
        return os.pread(self._shards[extent.shard].fileno(), extent.length, extent.offset)

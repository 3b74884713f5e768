"""The embeddings of the normals that an index is built from: computed once, kept in memory or as files that a build
which was killed resumes from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from vqi.detectors.arrays import Array, empty, to_numpy
from vqi.detectors.indexed import ImageBatches, Indexed, WholeEmbeddings
from vqi.platform.files import write_whole
from vqi.platform.logs import logger
from vqi.platform.memory import MIB
from vqi.platform.progress import Progress

log = logger(__name__)

# Embeddings kept in memory, bytes; more than that is kept in files, where there is a folder for them.
EMBEDDING_MEMORY = 2**30
# Bytes of a file, and of the embeddings that are not worth one: they take seconds.
SHARD_BYTES, LEAST_BYTES = 64 * MIB, 64 * MIB
# The share of the disk's free space that files may take.
_MOST_OF_DISK = 0.8


class Embeddings:
    """The embeddings of any of `count` normals, in any order: kept where they fit into `memory` bytes, read from files
    in `folder` where there is one, computed again where they neither fit nor have a folder.

    `normals(numbers)` gives the images of those numbers, in that order. What is complete in `folder` is not computed
    again: whoever names a folder sees that it belongs to these normals and this network.
    """

    def __init__(
        self,
        detector: Indexed,
        normals: Callable[[Sequence[int]], ImageBatches],
        count: int,
        batch_size: int,
        memory: int = EMBEDDING_MEMORY,
        folder: Path | None = None,
    ) -> None:
        self.detector, self.normals, self.count, self.batch_size, self.memory = (
            detector,
            normals,
            count,
            batch_size,
            memory,
        )
        self.folder = folder
        self.kept: Array | None = None
        self.shards: EmbeddingShards | None = None
        self._looked = False

    def of(self, numbers: Sequence[int]) -> Iterable[Array]:
        """The embeddings of those images, in batches."""
        if not self._looked and self.count:
            self._looked = True
            self._keep()
        if self.kept is not None and list(numbers) == list(range(self.count)):
            return WholeEmbeddings(self.kept, self.batch_size)
        return self._batches(numbers)

    def _batches(self, numbers: Sequence[int]) -> Iterator[Array]:
        batches = (numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size))
        if self.kept is not None:
            yield from (self.kept[list(batch)] for batch in batches)
        elif self.shards is not None:
            yield from (self.detector.own(self.shards.read(batch)) for batch in batches)
        else:
            yield from self.detector.embedded(self.normals(numbers))

    def _keep(self) -> None:
        # With a folder only the size is of interest yet.
        batches = iter(self.detector.embedded(self.normals([0] if self.folder else range(self.count))))
        first = next(batches)
        size = first[:1].nbytes * self.count
        if self.folder and size > LEAST_BYTES:
            self._write_shards(self.folder, first, size)
        if size > self.memory:
            return
        if self.folder:
            if (shards := self.shards) is not None:
                batches = (self.detector.own(shards.read(shard)) for shard in shards.ranges())
            else:
                batches = iter(self.detector.embedded(self.normals(range(self.count))))
            first = next(batches)
        kept = empty((self.count, *first.shape[1:]), first)
        progress, filled = Progress("features of normals", self.count), 0
        for batch in chain([first], batches):
            kept[filled : filled + len(batch)] = batch
            filled += len(batch)
            progress.advance(len(batch))
        self.kept = kept

    def _write_shards(self, folder: Path, first: Array, size: int) -> None:
        shards = EmbeddingShards(folder, self.count, tuple(first.shape[1:]), self.batch_size)
        missing = shards.missing()
        left = sum(map(len, missing))
        free = shutil.disk_usage(folder).free
        if left / self.count * size > _MOST_OF_DISK * free:
            log.warning(
                f"features of normals: {size / MIB:.0f} MiB do not fit on the disk of {folder} ({free / MIB:.0f} MiB "
                "free): they are computed again whenever they are needed, and a build that is killed begins anew"
            )
            return
        log.info(f"features of normals: {size / MIB:.0f} MiB in {folder}, {self.count - left} of {self.count} complete")
        progress = Progress("features of normals", self.count, begun=self.count - left)
        for numbers in _joined(missing):
            batches = self.detector.embedded(self.normals(numbers))
            for shard in shards.ranges(numbers):
                parts: list[np.ndarray] = []
                while sum(map(len, parts)) < len(shard):
                    parts.append(to_numpy(next(batches)))
                    progress.advance(len(parts[-1]))
                shards.write(shard, np.concatenate(parts))
        self.shards = shards


class EmbeddingShards:
    """Files of as many embeddings each, float32 of `shape`, in an existing `folder`: the hash of the content, and the
    content. A file holds a multiple of `batch_size`, so that what resumes computes the same batches.
    """

    def __init__(self, folder: Path, count: int, shape: tuple[int, ...], batch_size: int) -> None:
        self.folder, self.count, self.shape = Path(folder), count, shape
        self.length = int(np.prod(shape))
        each = max(SHARD_BYTES // (4 * self.length), 1)
        self.size = -(-each // batch_size) * batch_size

    def ranges(self, numbers: range | None = None) -> list[range]:
        """The numbers of each file, of all or of those within `numbers`, which begin with a file's first."""
        within = range(self.count) if numbers is None else numbers
        return [range(at, min(at + self.size, within.stop)) for at in range(within.start, within.stop, self.size)]

    def missing(self) -> list[range]:
        """The numbers of the files that are missing or damaged."""
        return [shard for shard in self.ranges() if not self._is_whole(shard)]

    def write(self, shard: range, embeddings: np.ndarray) -> None:
        """Write the file of those numbers, whole or not at all."""
        content = np.ascontiguousarray(embeddings, dtype=np.float32).tobytes()
        write_whole(self._file(shard.start), hashlib.sha256(content).digest() + content)

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """The embeddings of those numbers, in that order: float32 [n, *shape]."""
        values = np.empty((len(numbers), self.length), dtype=np.float32)
        start = 0
        while start < len(numbers):
            # As many as follow one another in a file are read at once.
            end = start + 1
            while (
                end < len(numbers)
                and numbers[end] == numbers[start] + end - start
                and numbers[end] // self.size == numbers[start] // self.size
            ):
                end += 1
            within = numbers[start] % self.size
            file, offset = self._file(numbers[start]), 32 + 4 * self.length * within
            values[start:end] = np.fromfile(file, np.float32, (end - start) * self.length, offset=offset).reshape(
                -1, self.length
            )
            start = end
        return values.reshape(len(numbers), *self.shape)

    def _file(self, number: int) -> Path:
        return self.folder / f"features-{number // self.size:06d}.f32"

    def _is_whole(self, shard: range) -> bool:
        try:
            with open(self._file(shard.start), "rb") as file:
                stated = file.read(32)
                content = hashlib.file_digest(file, "sha256")
                return file.tell() == 32 + 4 * self.length * len(shard) and content.digest() == stated
        except OSError:
            return False


def _joined(ranges: Sequence[range]) -> list[range]:
    """Ranges that follow one another as one."""
    joined: list[range] = []
    for each in ranges:
        if joined and joined[-1].stop == each.start:
            joined[-1] = range(joined[-1].start, each.stop)
        else:
            joined.append(each)
    return joined

"""Rows of numbers in a passing file: what a set of 100,000 photographs is compared by does not fit into memory."""

from __future__ import annotations

import os
import tempfile

import numpy as np


class FileRows:
    """Rows of `width` float32 numbers in a file that vanishes with the process, read back by their numbers as those of
    an array are."""

    def __init__(self, width: int) -> None:
        self._width, self._count = width, 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the rows

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int]:
        return self._count, self._width

    def append(self, rows: np.ndarray) -> None:
        """Add rows, float32 [n, width]."""
        self._file.write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        self._count += len(rows)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of those numbers, [n, width]; neighbours are read at once."""
        self._file.flush()
        handle, size = self._file.fileno(), 4 * self._width
        rows = np.empty((len(numbers), self._width), dtype=np.float32)
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(numbers)], strict=True):
            if first < last:
                content = os.pread(handle, size * int(last - first), size * int(numbers[first]))
                rows[first:last] = np.frombuffer(content, np.float32).reshape(-1, self._width)
        return rows

"""What ingest found of each photograph, in a file of the Dataset: who checks it need not decode the photographs again.

A header of _HEAD bytes (format, SHA-256 of the rows), then a row of fixed size for each photograph that could be
decoded, by the hash of its bytes. A Dataset without the file, or with another, is read as well: photographs are then
decoded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from vqi.dataset.capture import Capture
from vqi.dataset.description import CHANNELS, GRID
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.near_duplicates import LEVELS
from vqi.dataset.thumbnail_views import SIDE

FILE = "inspections.bin"
_FORMAT = b"vqi-inspections/1"
_HEAD, _CHUNK = 128, 1 << 20
_ROW = np.dtype(
    [
        ("sha256", "S64"),
        ("size", "<u4", (2,)),
        ("grey", "?"),
        ("orientation", "u1"),
        ("pages", "<u4"),
        ("shares", "<f8", (2,)),
        ("capture", "<f8", (6,)),
        ("camera", "S96"),
        ("thumbnail", "<u2", (SIDE, SIDE)),
        ("described", "?"),
        ("description", "<f2", (GRID * GRID, CHANNELS)),
    ]
)


def encode_row(sha256: str, image: ImageInspection) -> bytes:
    """The row of a photograph by the hash of its bytes."""
    row = np.zeros((), _ROW)
    row["sha256"], row["size"], row["grey"] = sha256, image.size, image.grey
    row["orientation"], row["pages"] = image.orientation, image.pages
    row["shares"] = image.transparent, image.clipped
    *figures, camera = vars(image.capture).values()
    row["capture"], row["camera"] = figures, camera.encode()[:96]
    row["thumbnail"] = np.rint(image.thumbnail * LEVELS)
    if image.description is not None:
        row["described"], row["description"] = True, image.description
    return row.tobytes()


class InspectionWriter:
    """Writes the file into the folder of a Dataset, row by row."""

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = open(Path(folder) / FILE, "w+b")  # noqa: SIM115 - closed by __exit__
        self._hash = hashlib.sha256()
        self._aspects: list[float] = []

    def __enter__(self) -> InspectionWriter:
        self._file.write(bytes(_HEAD))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.seek(0)
            self._file.write(b" ".join([_FORMAT, self._hash.hexdigest().encode()]).ljust(_HEAD - 1) + b"\n")

    def __len__(self) -> int:
        return len(self._aspects)

    def append(self, row: bytes) -> int:
        """Add a photograph (`encode_row`); the number of its row."""
        self._hash.update(row)
        self._file.write(row)
        height, width = np.frombuffer(row, _ROW)["size"][0].tolist()
        self._aspects.append(width / height)
        return len(self._aspects) - 1

    def thumbnails(self, numbers: np.ndarray) -> np.ndarray:
        """Those of rows written before, float32 [n, SIDE * SIDE]."""
        self._file.flush()
        rows = np.empty((len(numbers), SIDE * SIDE), np.float32)
        for at, number in enumerate(numbers.tolist()):
            content = os.pread(self._file.fileno(), _ROW.itemsize, _HEAD + number * _ROW.itemsize)
            rows[at] = np.frombuffer(content, _ROW)["thumbnail"].reshape(-1)
        rows /= LEVELS
        return rows

    def aspects(self, numbers: np.ndarray) -> np.ndarray:
        """Width by height of rows written before, float64 [n]."""
        return np.array(self._aspects)[numbers]


class InspectionRows(Mapping[str, ImageInspection]):
    """The file of a Dataset, by the hash of a photograph's bytes; empty where it is missing, damaged or of another
    format."""

    def __init__(self, folder: Path) -> None:
        self._rows = _read(Path(folder) / FILE)
        self._numbers = {sha256.decode(): number for number, sha256 in enumerate(self._rows["sha256"].tolist())}

    def __getitem__(self, sha256: str) -> ImageInspection:
        row = self._rows[self._numbers[sha256]]
        height, width = row["size"].tolist()
        transparent, clipped = row["shares"].tolist()
        brightness, red_green, blue_green, sharpness, white, black = row["capture"].tolist()
        return ImageInspection(
            (height, width),
            bool(row["grey"]),
            int(row["orientation"]),
            int(row["pages"]),
            transparent,
            clipped,
            row["thumbnail"].astype(np.float32) / np.float32(LEVELS),
            np.array(row["description"]) if row["described"] else None,
            None,
            Capture(brightness, red_green, blue_green, sharpness, white, black, row["camera"].decode(errors="ignore")),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _read(file: Path) -> np.ndarray:
    none = np.empty(0, _ROW)
    try:
        with open(file, "rb") as stream:
            head = stream.read(_HEAD).split()
            digest, size = hashlib.sha256(), 0
            while content := stream.read(_CHUNK):
                digest.update(content)
                size += len(content)
    except OSError:
        return none
    if not size or size % _ROW.itemsize or head != [_FORMAT, digest.hexdigest().encode()]:
        return none
    return np.memmap(file, _ROW, "r", _HEAD)

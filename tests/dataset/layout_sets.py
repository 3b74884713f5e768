"""Reading small sets that tests make, each file by its name."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from photograph_folders import photograph, write_files
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import Options, Photograph, Reading, SourceFiles
from vqi.dataset.sources import files_of

SIDE = 32


def png(*squares: tuple[int, int, int, int], value: int = 255, side: int = SIDE) -> bytes:
    """A mask with squares of a value, each left, top, right and bottom."""
    painted = np.zeros((side, side), np.uint8)
    for left, top, right, bottom in squares:
        painted[top:bottom, left:right] = value
    stream = io.BytesIO()
    Image.fromarray(painted).save(stream, "PNG")
    return stream.getvalue()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def photographs(*names: str) -> dict[str, bytes]:
    """A photograph for each name."""
    return {name: photograph(sum(map(ord, name))) for name in names}


def read(folder: Path, files: Mapping[str, bytes], layout: str = "auto", most: int = 0, **options: str) -> Reading:
    """The reading of a folder with these files."""
    source, _ = files_of(write_files(folder / "set", dict(files)))
    return read_layout(SourceFiles(source, "set"), layout, Options(**options), (), most)


def by_path(reading: Reading) -> dict[str, Photograph]:
    return {photograph.path: photograph for photograph in reading.photographs}


def rows(reading: Reading) -> dict[str, tuple[Any, ...]]:
    """Split, label, defect type and mask files of each photograph."""
    return {p.path: (p.split, p.label, p.defect, p.mask_files) for p in reading.photographs}

"""Where photographs come from: every source becomes a mapping from '/'-separated names to files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vqi.platform.errors import BadInput


@contextmanager
def opened(source: str) -> Iterator[Mapping[str, Path]]:
    """The files of `source` (a folder) by name."""
    folder = Path(source)
    if not folder.is_dir():
        raise BadInput(f"The source folder {source} does not exist; give the folder of photographs as data.source.")
    yield files_of(folder)


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its '/'-separated name; links are followed, a folder that holds itself is entered once.

    Raises BadInput for a name that is not UTF-8.
    """
    files: dict[str, Path] = {}
    entered: set[tuple[int, int]] = set()
    for parent, below, names in os.walk(folder, followlinks=True):
        identity = os.stat(parent)
        if (identity.st_dev, identity.st_ino) in entered:
            below.clear()
            continue
        entered.add((identity.st_dev, identity.st_ino))
        below.sort()
        for name in names:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError as error:
                raise BadInput(f"The file name {os.fsencode(relative)!r} in {folder} is not UTF-8; rename it.") from error
            if path.is_file():
                files[relative] = path
    return files

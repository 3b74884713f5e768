"""Photographs among the files of this machine: what a path, a folder or a pattern names, and what is passed over."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from vqi.dataset.archives import SUFFIXES as ARCHIVES
from vqi.dataset.images import OTHER_PICTURES, SUFFIXES, count_pages, is_picture
from vqi.platform.errors import BadInput

MAY_BE_PHOTOGRAPHS = (*SUFFIXES, *OTHER_PICTURES, *ARCHIVES)


def expand_pattern(pattern: str, out: Path | None = None) -> Iterator[Path]:
    """The files that a path, a folder (searched through) or a pattern names, in order; `out` is never searched.

    Of a folder also what may be a photograph and is not read (see `explain_omission`). Raises BadInput where a folder
    cannot be read.
    """
    if not os.path.lexists(pattern) and glob.has_magic(pattern):
        for name in sorted(glob.glob(pattern, recursive=True)):
            yield from expand_pattern(name, out)
    elif os.path.isdir(pattern):
        yield from _pictures_under(pattern, out)
    elif os.path.lexists(pattern):
        yield Path(pattern)


def explain_omission(name: str) -> str:
    """Why a file of a folder is not inspected though it may be a photograph, as a sentence; "" where it is."""
    lowered = name.rstrip().lower()
    if lowered.endswith(OTHER_PICTURES):
        return f"{name} was passed over: {os.path.splitext(name)[1]} is not read; save it as PNG, TIFF or JPEG."
    if lowered.endswith(ARCHIVES):
        return f"{name} was passed over: photographs in archives are not inspected; unpack it."
    if not lowered.endswith(SUFFIXES):
        return (
            f"{name} was passed over: it is a picture, but its name does not end like one's ({', '.join(SUFFIXES)}); "
            "rename it."
        )
    return ""


def later_pages_of_file(path: Path) -> tuple[str, str] | None:
    """What a file's pages after the first are called, and the sentence that they are not inspected; None where there
    are none, or no file."""
    if path.is_file():
        with contextlib.suppress(OSError), open(path, "rb") as file:
            return later_pages(file, str(path))
    return None


def later_pages(file: BinaryIO, name: str) -> tuple[str, str] | None:
    """The same of the open file `name`."""
    pages = count_pages(file)
    if pages < 2:
        return None
    which = "page 2" if pages == 2 else f"pages 2 to {pages}"
    sentence = f"{name} holds {pages} pages, only the first was inspected; save each as a file of its own."
    return f"{name}, {which}", sentence


def _pictures_under(folder: str, out: Path | None) -> Iterator[Path]:
    """What may be photographs below a folder, also of kinds that are not read. Links to folders are followed, but for
    those to a folder above."""
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_left(Path(parent, name), out)
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and (
                name.rstrip().lower().endswith(MAY_BE_PHOTOGRAPHS) or _begins_like_a_picture(path)
            ):
                yield path


def _begins_like_a_picture(path: Path) -> bool:
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return is_picture(file.read(16))
    except OSError:
        return False


def _is_left(folder: Path, out: Path | None) -> bool:
    above = folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
    return above or Path(os.path.abspath(folder)) == out


def _raise(error: OSError) -> NoReturn:
    raise BadInput(f"The folder {error.filename} cannot be read ({error.strerror}).") from error

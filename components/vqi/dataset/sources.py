"""Where photographs come from: every source becomes a mapping from '/'-separated names to files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vqi.dataset.archives import SUFFIXES, checked_name, is_archive, twice, unpacked
from vqi.dataset.images import OTHER_PICTURES
from vqi.dataset.images import SUFFIXES as IMAGES
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.layouts.names import normalised
from vqi.platform.caches import cache_folder
from vqi.platform.errors import BadInput
from vqi.storage.listing import fingerprint_of, list_file, listing_fingerprint
from vqi.storage.object_store import Address, ObjectStore


@dataclass(frozen=True)
class Source:
    """The files of a source by their '/'-separated names in composed letters (NFC), what the source is called, and
    notes on what was left out."""

    files: Mapping[str, Path]
    name: str
    notes: tuple[str, ...] = ()


@contextmanager
def open_source(source: str) -> Iterator[Source]:
    """The files of `source`: a folder, an archive, s3://bucket/prefix, or an archive in an object store.

    Raises BadInput where there is no such source or it cannot be used; RunFailed where an object store does not answer.
    """
    if source.startswith("s3://"):
        with cache_folder("objects") as cache, _stored(Address.parse(source), cache) as files:
            yield Source(files, _bare(source.rstrip("/").split("/")[-1]))
        return
    path = _local(source)
    if path.is_dir():
        files, notes = files_of(path)
        yield Source(files, path.resolve().name, notes)
    else:
        with unpacked(path, path.name) as files:
            yield Source(files, _bare(path.name))


def source_fingerprint(source: str) -> str:
    """What `source` lists (names, sizes, and ETags or times of change), as a fingerprint: another one where a
    photograph changed. Raises what `open_source` raises before it reads a file."""
    if source.startswith("s3://"):
        return listing_fingerprint(source, "data.source")
    path = _local(source)
    files = files_of(path)[0] if path.is_dir() else {path.name: path}
    return fingerprint_of([list_file(file, name) for name, file in sorted(files.items())])


def _local(source: str) -> Path:
    """The folder or archive of this machine. Raises BadInput where there is none, or it is something else."""
    if "://" in source or not source:
        raise BadInput(
            f"data.source is {source!r}; give a folder, an archive ({', '.join(SUFFIXES)}) or s3://bucket/prefix."
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if not path.exists():
        raise BadInput(f"The source {source} does not exist; give the folder or archive of photographs as data.source.")
    if path.name.lower().endswith((*IMAGES, *OTHER_PICTURES)):
        raise BadInput(
            f"The source {source} is a single picture; give the folder or archive of all photographs as data.source."
        )
    if not is_archive(path.name):
        raise BadInput(f"The source {source} is neither a folder nor an archive ({', '.join(SUFFIXES)}).")
    return path


def _bare(name: str) -> str:
    """An archive's name without its ending."""
    return next(
        (name[: -len(suffix)] for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)),
        name,
    )


@contextmanager
def _stored(address: Address, cache: Path) -> Iterator[Mapping[str, Path]]:
    store = ObjectStore.from_environment()
    archive = store.find(address) if is_archive(address.key) else None
    if archive:
        with unpacked(store.cached(address, archive, cache), address.key.split("/")[-1]) as files:
            yield files
    else:
        stored: dict[str, Path] = {}
        originals: dict[str, str] = {}
        for name, file in store.download_prefix(address, cache).items():
            path = checked_name(name, str(address))
            if path in stored:
                raise BadInput(twice(str(address), path, originals[path], name))
            stored[path], originals[path] = file, name
        yield stored


def files_of(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Every file below `folder` by its '/'-separated name in composed letters (NFC), and notes on links that lead to no
    file.

    Links are followed; a folder that holds itself is entered once. Raises BadInput for a name that is not UTF-8 and for
    two that are one when composed, OSError for a folder that cannot be read.
    """
    files: dict[str, Path] = {}
    dangling: list[str] = []
    circular: list[str] = []
    for parent, below, names in os.walk(folder, onerror=_raise, followlinks=True):
        # A link to a folder above would be walked for ever; one to a folder beside is another name for it, and is read.
        circular += [
            Path(parent, name).relative_to(folder).as_posix() for name in below if _leads_above(Path(parent, name))
        ]
        below[:] = sorted(name for name in below if not _leads_above(Path(parent, name)))
        for name in sorted(names):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError as error:
                raise BadInput(
                    f"The file name {os.fsencode(relative)!r} in {folder} is not UTF-8; rename it."
                ) from error
            if path.is_symlink() and not path.exists():
                dangling.append(relative)
            elif path.is_file():
                composed = normalised(relative)
                if composed in files:
                    raise BadInput(
                        twice(str(folder), composed, files[composed].relative_to(folder).as_posix(), relative)
                    )
                files[composed] = path
    notes = [
        f"{counted(len(links), 'link')} left out: {what} ({examples(sorted(links))})."
        for links, what in (
            (dangling, "nothing is where they lead"),
            (circular, "they lead to a folder that holds them"),
        )
        if links
    ]
    return files, tuple(notes)


def _raise(error: OSError) -> NoReturn:
    raise error


def _leads_above(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())

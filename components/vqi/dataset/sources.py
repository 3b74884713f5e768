"""Where photographs come from: every source becomes a mapping from '/'-separated names to files on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vqi.dataset.archives import SUFFIXES, checked_name, is_archive, unpacked
from vqi.platform.errors import BadInput
from vqi.platform.object_store import Address, ObjectStore


@contextmanager
def opened(source: str) -> Iterator[Mapping[str, Path]]:
    """The files of `source` by name: a folder, an archive, s3://bucket/prefix, or an archive in an object store.

    Raises BadInput where there is no such source or it cannot be used; RunFailed where an object store does not answer.
    """
    if source.startswith("s3://"):
        with _cache() as cache, _stored(Address.parse(source), cache) as files:
            yield files
        return
    if "://" in source or not source:
        raise BadInput(f"data.source is {source!r}; give a folder, an archive ({', '.join(SUFFIXES)}) or s3://bucket/prefix.")
    path = Path(source).expanduser()
    if path.is_dir():
        yield files_of(path)
    elif not path.exists():
        raise BadInput(f"The source {source} does not exist; give the folder or archive of photographs as data.source.")
    elif not is_archive(path.name):
        raise BadInput(f"The source {source} is neither a folder nor an archive ({', '.join(SUFFIXES)}).")
    else:
        with unpacked(path, path.name) as files:
            yield files


@contextmanager
def _stored(address: Address, cache: Path) -> Iterator[Mapping[str, Path]]:
    store = ObjectStore.from_environment()
    archive = store.find(address) if is_archive(address.key) else None
    if archive:
        with unpacked(store.cached(address, archive, cache), address.key.split("/")[-1]) as files:
            yield files
    else:
        yield {checked_name(name, str(address)): file for name, file in store.download_prefix(address, cache).items()}


@contextmanager
def _cache() -> Iterator[Path]:
    """The folder where downloads are kept between runs: VQI_CACHE, else the user's cache folder; a passing one where that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ["VQI_CACHE"]) if os.environ.get("VQI_CACHE") else home / "vqi"
    folder = folder / "objects"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="vqi-objects-") as passing:
            yield Path(passing)


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its '/'-separated name; links are followed, a folder that holds itself is entered once.

    Raises BadInput for a name that is not UTF-8.
    """
    files: dict[str, Path] = {}
    for parent, below, names in os.walk(folder, followlinks=True):
        # A link to a folder above would be walked for ever; one to a folder beside is another name for it, and is read.
        below[:] = sorted(name for name in below if not _leads_above(Path(parent, name)))
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


def _leads_above(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())

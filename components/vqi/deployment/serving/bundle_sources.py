"""Where a served bundle comes from: a folder of this machine, or a prefix in an object store that is brought here."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vqi.deployment.bundle import read_sidecar
from vqi.deployment.bundle_files import BUNDLE_FILE, SIDECAR
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.storage.object_store import Address, ObjectStore

# The one that is served, and the one that takes over.
KEPT_VERSIONS = 2


class BundleSource(Protocol):
    """Something that holds one version of a bundle at a time."""

    def refresh(self) -> Path:
        """The folder that holds the newest version. Raises BadInput where there is none, RunFailed where a store does
        not answer."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A bundle folder that others replace."""

    folder: Path

    def refresh(self) -> Path:
        return self.folder


@dataclass(frozen=True)
class StoreSource:
    """A bundle below an address in an object store; each version gets a folder of its own in `cache`.

    The `bundle.json` tells a version from others. `vqi put` over a bundle replaces its files in any order: a version
    whose files do not fit together is refused, is not kept, and is brought again later.
    """

    store: ObjectStore
    address: Address
    cache: Path

    def refresh(self) -> Path:
        sidecar = Address(self.address.bucket, "/".join(filter(None, (self.address.key, SIDECAR))))
        item = self.store.find(sidecar)
        if item is None:
            raise BadInput(f"{self.address} is not a bundle: {SIDECAR} is missing in the store.")
        mark = hashlib.sha256(f"{sidecar}/{item.etag}/{item.size}".encode()).hexdigest()[:16]
        folder = self.cache / mark
        if not folder.is_dir():
            self._bring(folder)
        return folder

    def _bring(self, folder: Path) -> None:
        start = len(self.address.key) + 1 if self.address.key else 0
        names = [item.key[start:] for item in self.store.objects(self.address)]
        if strange := next((name for name in names if not re.fullmatch(BUNDLE_FILE, name)), None):
            raise BadInput(f"{self.address} holds {strange[:80]!r}, which is not a file of a bundle; remove it.")
        self.cache.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as whole:
            for name in names:
                self.store.download_file(
                    Address(self.address.bucket, "/".join(filter(None, (self.address.key, name)))), whole / name
                )
            read_sidecar(whole)
        drop_stale(self.cache)


def drop_stale(cache: Path) -> None:
    """Remove all but the newest versions that a source keeps."""
    versions = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for stale in versions[:-KEPT_VERSIONS]:
        shutil.rmtree(stale, ignore_errors=True)

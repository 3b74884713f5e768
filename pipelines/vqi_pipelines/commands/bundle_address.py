"""A bundle as a command takes it: a folder, or an address in an object store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqi.deployment.serving.bundle_sources import BundleSource


def source_of(address: str, cache: Path) -> BundleSource:
    """What holds the versions of the bundle at `address`; those of a store are brought to `cache`. Raises BadInput for
    an address that cannot be one."""
    from vqi.deployment.serving.bundle_sources import FolderSource, StoreSource
    from vqi.storage.object_store import Address, ObjectStore

    if address.startswith("s3://"):
        return StoreSource(ObjectStore.from_environment(), Address.parse(address), cache)
    return FolderSource(Path(os.path.abspath(address)))

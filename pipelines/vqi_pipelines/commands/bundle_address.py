"""A bundle as a command takes it: a folder, or an address in an object store or in the model registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqi.deployment.serving.bundle_sources import BundleSource


def source_of(address: str, cache: Path, tracking: str) -> BundleSource:
    """What holds the versions of the bundle at `address`; those of a store, or of the registry of the MLflow at
    `tracking`, are brought to `cache`. Raises BadInput for an address that cannot be one."""
    from vqi.deployment.serving.bundle_sources import FolderSource, StoreSource
    from vqi.registry.source import RegistrySource, is_registered
    from vqi.storage.object_store import Address, ObjectStore
    from vqi.tracking.registry import ModelAddress

    if address.startswith("s3://"):
        return StoreSource(ObjectStore.from_environment(), Address.parse(address), cache)
    if is_registered(address):
        return RegistrySource(ModelAddress.parse(address), tracking, cache)
    return FolderSource(Path(os.path.abspath(address)))

"""Bundles that are named by an address of the registry: brought here, and followed while an alias moves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqi.deployment.bundle import read_sidecar
from vqi.deployment.serving.bundle_sources import drop_stale
from vqi.platform.caches import cache_folder
from vqi.platform.errors import BadInput
from vqi.registry.figures import bundle_digest
from vqi.tracking.registry import SCHEME, ModelAddress, ModelRegistry, ModelVersion, open_registry


@dataclass(frozen=True)
class RegistrySource:
    """The bundle of a version in the registry; each version gets a folder of its own in `cache`.

    Where an alias names it, another version is brought as soon as the alias means that. A version whose files are not
    a bundle is refused, and not kept.
    """

    address: ModelAddress
    uri: str
    cache: Path

    def refresh(self) -> Path:
        with open_registry(self.uri) as registry:
            folder = bring(registry, registry.resolve(self.address), self.cache)
        drop_stale(self.cache)
        return folder


def bring(registry: ModelRegistry, version: ModelVersion, cache: Path) -> Path:
    """The folder in `cache` that holds the bundle of a version. Raises BadInput where the version does not hold one, or
    another one than was registered."""
    folder = cache / f"{version.name}-{version.version}-{version.digest[:16] or int(version.created.timestamp())}"
    if folder.is_dir():
        os.utime(folder)
        return folder
    registry.download(version, folder)
    try:
        read_sidecar(folder)
        if version.digest not in ("", bundle_digest(folder)):
            raise BadInput("its bundle.json is not the one that was registered.")
    except BadInput as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BadInput(f"The version {version} does not hold a bundle that can be used: {error}") from error
    return folder


def is_registered(bundle: str) -> bool:
    """Whether a text names a version in the registry."""
    return bundle.startswith(SCHEME)


@contextmanager
def bundle_folder(bundle: str, uri: str = "") -> Iterator[Path]:
    """The folder of a bundle that is a folder already, or is named by an address of the registry and brought here.
    Raises BadInput where such an address means nothing, RunFailed where the registry does not answer."""
    if not is_registered(bundle):
        yield Path(bundle)
        return
    with cache_folder("bundles") as cache:
        with open_registry(uri) as registry:
            folder = bring(registry, registry.resolve(ModelAddress.parse(bundle)), cache)
        yield folder

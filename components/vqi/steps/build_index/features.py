"""Where the features of one build are kept until its index is complete, so that a build that is killed resumes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vqi.dataset.manifest import Sample
from vqi.detectors.storage import NetworkRecord
from vqi.platform.devices import Compute
from vqi.platform.errors import RunFailed
from vqi.platform.files import canonical_json, locked
from vqi.platform.logs import logger

log = logger(__name__)

# A folder on a disk that outlives the process.
VARIABLE = "VQI_FEATURES"
LOCK = "lock"


def features_key(record: NetworkRecord, fingerprint: str, normals: Sequence[Sample], compute: Compute) -> str:
    """What the features of `normals` follow from: the Dataset, the network with its geometry, and how it is
    computed."""
    value = [
        fingerprint,
        [sample.path for sample in normals],
        record.tensors_sha256,
        record.method,
        record.settings,
        record.backbone.model_dump(mode="json"),
        list(record.input_size),
        record.notes.get("geometry"),
        compute.model_dump(mode="json"),
        record.versions,
    ]
    return hashlib.sha256(canonical_json(value)).hexdigest()[:32]


@contextmanager
def kept_features(root: Path | None, key: str) -> Iterator[Path | None]:
    """The folder of `key` below `root`, for this process alone; it is removed where the body ends well. None without a
    root, or where another process holds the folder."""
    if root is None:
        yield None
        return
    folder = Path(root) / key
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder / LOCK, 0, str(folder)))
        except RunFailed:
            log.info(f"features of normals: another process keeps the same in {folder}; they are not kept here")
            yield None
            return
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other builds are under way
        Path(root).rmdir()

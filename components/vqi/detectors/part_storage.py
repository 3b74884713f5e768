"""What one of several tasks keeps of its normals for the index (`vqi.detectors.parts`), on disk: JSON and
safetensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.detectors.arrays import Array, to_numpy
from vqi.detectors.storage import NETWORK
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of
from vqi.platform.records import FileRecord, Items, read_record, write_record

if TYPE_CHECKING:
    from vqi.detectors.parts import Coreset

PART, PART_TENSORS = "part.json", "part.safetensors"


class PartRecord(FileRecord):
    """`part.json`: which of the `shards` it is, what it was made from, and the radius of each coreset, by fold."""

    format_name: ClassVar[str] = "vqi-index-part/1"
    remedy: ClassVar[str] = "run index_part again"

    shard: int
    shards: int
    dataset_fingerprint: str
    network_sha256: str
    radii: Items[Items[float]]
    tensors_sha256: str


def save_part(
    folder: Path, coresets: Sequence[Sequence[Coreset]], *, shard: int, shards: int, fingerprint: str, network: Path
) -> None:
    """Write the coresets of each fold into the existing `folder`, tied to the Dataset of that `fingerprint` and the
    `network` artefact."""
    from safetensors.numpy import save_file

    tensors = {
        _name(fold, number): np.ascontiguousarray(to_numpy(coreset.items))
        for fold, each in enumerate(coresets)
        for number, coreset in enumerate(each)
    }
    save_file(tensors, folder / PART_TENSORS)
    record = PartRecord(
        shard=shard,
        shards=shards,
        dataset_fingerprint=fingerprint,
        network_sha256=sha256_of(network / NETWORK),
        radii=tuple(tuple(coreset.radius for coreset in each) for each in coresets),
        tensors_sha256=sha256_of(folder / PART_TENSORS),
    )
    write_record(folder / PART, record)


def load_parts(
    folders: Sequence[Path], *, shards: int, fingerprint: str, network: Path, own: Callable[[np.ndarray], Array]
) -> list[list[Coreset]]:
    """The coresets of each fold, of all parts in the order of their shards; `own` brings what is read to where
    embeddings are.

    Raises BadInput where a part is missing or damaged, or was made from another Dataset or network.
    """
    from safetensors.numpy import load_file

    from vqi.detectors.parts import Coreset

    records = [(read_record(PartRecord, folder / PART), folder) for folder in map(Path, folders)]
    records.sort(key=lambda each: each[0].shard)
    present = [(record.shard, record.shards) for record, _ in records]
    if present != [(shard, shards) for shard in range(shards)]:
        raise BadInput(
            f"The index needs the parts 0 to {shards - 1} of {shards}, and there are "
            f"{', '.join(f'{shard} of {count}' for shard, count in present) or 'none'}; run index_part for each again."
        )
    wanted = sha256_of(network / NETWORK)
    united: list[list[Coreset]] = [[] for _ in records[0][0].radii]
    for record, folder in records:
        if (record.dataset_fingerprint, record.network_sha256) != (fingerprint, wanted):
            raise BadInput(f"The part {folder} was made with another Dataset or network; run index_part again.")
        if sha256_of(folder / PART_TENSORS) != record.tensors_sha256:
            raise BadInput(f"{folder / PART_TENSORS} does not match the hash of its record; run index_part again.")
        tensors = load_file(folder / PART_TENSORS)
        for fold, radii in enumerate(record.radii):
            united[fold] += [Coreset(own(tensors[_name(fold, number)]), radius) for number, radius in enumerate(radii)]
    return united


def _name(fold: int, number: int) -> str:
    return f"fold{fold}.{number}"

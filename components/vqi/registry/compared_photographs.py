"""The photographs that a candidate and a champion are compared on: the test split of a Dataset, or what a source holds
for testing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqi.dataset.grouping import part_of
from vqi.dataset.layouts.contents import Contents
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import Options, SourceFiles
from vqi.dataset.manifest import MANIFEST
from vqi.dataset.reader import Dataset
from vqi.dataset.settings import DataSettings
from vqi.dataset.sources import open_source
from vqi.platform.caches import cache_folder
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore


@dataclass(frozen=True)
class LabelledPhotograph:
    """`read` gives the file's bytes; `group` names the part that it shows, "" for one of its own."""

    name: str
    defect: bool
    group: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ComparedPhotographs:
    """`fingerprint` is the Dataset's, "" where the photographs come from a source."""

    photographs: tuple[LabelledPhotograph, ...]
    fingerprint: str


@contextmanager
def open_photographs(data: DataSettings) -> Iterator[ComparedPhotographs]:
    """The labelled test photographs at `data.source`: a Dataset (a folder or an s3:// address that holds its manifest),
    or anything that ingest reads, as the other keys of `data` say.

    Raises BadInput where there are none, RunFailed where a store does not answer.
    """
    source = data.source
    with _dataset_folder(source) as folder:
        if folder is not None:
            split = _of_dataset(Dataset(folder))
            if not split.photographs:
                raise BadInput(f"The Dataset {source} has no labelled photographs in its test split.")
            yield split
            return
    with open_source(source) as origin:
        options = Options(data.mask_suffix, data.good, data.defect, data.good_class)
        reading = read_layout(
            SourceFiles(origin.files, origin.name), data.layout, options, origin.notes, data.most_per_class
        )
        contents = Contents(origin.files, reading)
        photographs = tuple(
            LabelledPhotograph(
                photograph.path,
                photograph.label == "defect",
                photograph.group or part_of(photograph.path, data.group),
                lambda photograph=photograph: contents.of_photograph(photograph),  # type: ignore[misc]
            )
            for photograph in sorted(reading.photographs, key=lambda photograph: photograph.path)
            if photograph.split == "test" and photograph.label != "unknown"
        )
        if all(photograph.defect for photograph in photographs):
            raise BadInput(
                f"The source {source} (layout {reading.layout}) does not say which good photographs are for testing; "
                "give the Dataset that the run made of it, or a set with a test folder."
            )
        yield ComparedPhotographs(photographs, "")


def _of_dataset(dataset: Dataset) -> ComparedPhotographs:
    photographs = tuple(
        LabelledPhotograph(
            sample.path,
            sample.label == "defect",
            sample.group,
            lambda sample=sample: bytes(dataset.bytes_of(sample.image)),  # type: ignore[misc]
        )
        for sample in dataset.samples("test")
        if sample.label != "unknown"
    )
    return ComparedPhotographs(photographs, dataset.manifest.fingerprint)


@contextmanager
def _dataset_folder(source: str) -> Iterator[Path | None]:
    """The folder of a Dataset, brought here from a store; None where the source is something else."""
    if not source.startswith("s3://"):
        folder = Path(source).expanduser()
        yield folder if (folder / MANIFEST).is_file() else None
        return
    address = Address.parse(source.rstrip("/"))
    store = ObjectStore.from_environment()
    if store.find(Address(address.bucket, f"{address.key}/{MANIFEST}")) is None:
        yield None
        return
    with cache_folder("objects") as cache, tempfile.TemporaryDirectory(prefix="vqi-dataset-") as scratch:
        for name, file in store.download_prefix(address, cache).items():
            if "/" not in name:  # which a Dataset does not have
                Path(scratch, name).symlink_to(file)
        yield Path(scratch)

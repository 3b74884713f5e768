"""What a converter knows of each photograph: the sample of the Dataset that ingest made of the source, and what the
layout itself said of it, before ingest chose anything."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vqi.dataset.grouping import part_of
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import LayoutSplit, Options, Reading, SourceFiles
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.settings import DataSettings
from vqi.dataset.sources import open_source


@dataclass(frozen=True)
class Row:
    """One photograph: its sample, its split (None = the source leaves it to ingest) with what ingest made of that, and
    the part that it shows."""

    sample: Sample
    split: LayoutSplit | None
    dealt: LayoutSplit
    group: str


def read_source(data: DataSettings) -> Reading:
    """What the layout says of the photographs of `data.source`. Raises what ingest raises for it."""
    with open_source(data.source) as origin:
        options = Options(data.mask_suffix, data.good, data.defect, data.good_class)
        files = SourceFiles(origin.files, origin.name)
        return read_layout(files, data.layout, options, origin.notes, data.most_per_class)


def rows_of(dataset: Dataset, reading: Reading, group: str) -> list[Row]:
    """The photographs in the manifest's order; `group` is `data.group`."""
    photograph_by_path = {photograph.path: photograph for photograph in reading.photographs}
    rows = []
    for sample in dataset.manifest.samples:
        photograph = photograph_by_path[sample.path]
        part = part_of(sample.path, group) if group else photograph.group
        rows.append(Row(sample, photograph.split, dealt_split(sample), part))
    return rows


def dealt_split(sample: Sample) -> LayoutSplit:
    """The split of a sample without what ingest holds out of it."""
    if sample.split in ("train", "calibration"):
        return "train"
    return "validation" if sample.split == "validation" else "test"


def mask_png(mask: np.ndarray, value: int = 255) -> bytes:
    """A mask, bool [H, W], as a PNG of 8 bits, or of 16 where the `value` that is defect takes them."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8 if value < 256 else np.uint16) * value).save(stream, "PNG")
    return stream.getvalue()


def file_names(paths: Sequence[str]) -> list[str]:
    """Names for photographs of one folder, in an order that sorting keeps: what is learnt may depend on it. Their own
    where they are unique without endings and sorted, else with numbers before them."""
    names = [path.rsplit("/", 1)[-1] for path in paths]
    stems = [name.rsplit(".", 1)[0].casefold() for name in names]
    if len(set(stems)) == len(stems) and sorted(names) == names:
        return names
    width = len(str(len(names)))
    return [f"{position:0{width}d}_{name}" for position, name in enumerate(names)]


def unused(path: str, used: Iterable[str]) -> str:
    """`path`, or one made from it that is not in `used`."""
    used = set(used)
    while path in used:
        path = f"_{path}"
    return path

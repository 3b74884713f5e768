"""Ingest: photographs from wherever they lie into the Dataset contract (a manifest and tar shards)."""

from __future__ import annotations

import errno
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vqi.dataset.images import Decoding, header_size
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.listing import Photograph, counted
from vqi.dataset.manifest import MANIFEST, Extent, Manifest, MaskFile, Sample, Split
from vqi.dataset.shards import ShardWriter
from vqi.dataset.sources import open_source
from vqi.dataset.splits import TEST_FRACTION, held_out, held_out_by_type, resolve_calibration_fraction, resolve_labelled_fraction
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import whole_folder, write_whole
from vqi.platform.progress import tracked

# A 100-megapixel photograph with three 16-bit channels, uncompressed, takes 600 MB.
MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class _Stored:
    """A file that was written to a shard."""

    sha256: str
    extent: Extent
    width: int
    height: int


def ingest(
    *,
    name: str,
    source: str,
    layout: str,
    mask_suffix: str,
    calibration_fraction: float | None,
    seed: int,
    dataset: Path,
    labelled_fraction: float = 0.0,
    group: str = "",
    white_level: int | None = None,
    max_megapixels: int = 100,
    say: Callable[[str], None] = lambda note: None,
) -> Manifest:
    """Write the Dataset of `source` to the folder `dataset` and return its manifest.

    `source` is a folder, a tar or zip archive, or s3://bucket/prefix. `calibration_fraction` is the share of training normals held out for
    thresholds; None lets their number decide. `labelled_fraction` is the share of the layout's test photographs, of every defect type and of the good
    ones alike, that supervised methods learn from. `group` is a regular expression that names the part a photograph shows (`part_of`).
    `white_level` is the value of white in files with more than 8 bits (None: 65535); a photograph of more than `max_megapixels` is refused.
    `say` is given every note of the manifest as soon as it is known: those that decide what is learnt come before any photograph is read.
    The same content and seed give the same bytes, whatever the source.
    Raises BadInput where the source cannot be read as the layout says; RunFailed where it cannot be reached or the disk is full.
    """
    decoding = Decoding(white_level or 65535, max_megapixels * 1_000_000)
    resolve_calibration_fraction(calibration_fraction, 0)
    resolve_labelled_fraction(labelled_fraction, supervised=False)
    try:
        with open_source(source) as origin, whole_folder(dataset) as folder:
            reading = read_layout(origin.files, layout, mask_suffix, origin.name, origin.notes)
            for note in reading.notes:
                say(note)
            if not any(photograph.label == "good" and photograph.split in (None, "train") for photograph in reading.photographs):
                raise BadInput(f"The source {source} holds no normal photographs to train on.")
            photographs = sorted(reading.photographs, key=lambda photograph: photograph.path)
            stored = _write_shards(photographs, origin.files, reading.top, folder, decoding)
            manifest = _divide(name, photographs, stored, calibration_fraction, labelled_fraction, seed, reading.notes, decoding, group)
            for note in manifest.notes[len(reading.notes) :]:
                say(note)
            write_whole(folder / MANIFEST, manifest.to_json())
            return manifest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(f"The disk is full while the photographs of {source} are brought in; free space or choose another folder.") from error
        reason = f"{error.strerror or error} ({error.filename or 'no file named'})"
        raise RunFailed(f"The photographs of {source} cannot be brought in: {reason}.") from error


def _write_shards(photographs: list[Photograph], files: Mapping[str, Path], top: str, folder: Path, decoding: Decoding) -> dict[str, _Stored]:
    """Photographs in order, each with its masks after it, and what became of every file by its path."""
    stored: dict[str, _Stored] = {}
    with ShardWriter(folder) as shards:
        for photograph in tracked(photographs, "ingest: photographs"):
            for path in (photograph.path, *photograph.masks):
                if path not in stored:
                    content = _content(files[top + path], path)
                    width, height = _size(content, path, decoding)
                    stored[path] = _Stored(hashlib.sha256(content).hexdigest(), shards.add(path, content), width, height)
    return stored


def part_of(path: str, group: str) -> str:
    """What the regular expression `group` finds in a path: its first bracket, or all it matches; "" where it matches nothing or is empty."""
    match = re.search(group, path) if group else None
    return (match[1 if match.re.groups else 0] or "") if match else ""


def _content(file: Path, path: str) -> bytes:
    with open(file, "rb") as opened_file:
        content = opened_file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise BadInput(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB; that is no photograph.")
    return content


def _size(content: bytes, path: str, decoding: Decoding) -> tuple[int, int]:
    """Width and height, or zeros for what is no readable image: the dataset check names it with everything else that is wrong."""
    try:
        return header_size(content, path, decoding)
    except BadInput:
        return 0, 0


def _divide(
    name: str,
    photographs: list[Photograph],
    stored: dict[str, _Stored],
    asked: float | None,
    labelled_fraction: float,
    seed: int,
    found: tuple[str, ...],
    decoding: Decoding,
    group: str,
) -> Manifest:
    """Give every photograph its split and put the manifest together."""
    notes = list(found)
    splits: dict[str, Split] = {photograph.path: photograph.split for photograph in photographs if photograph.split}
    undivided = {photograph.path: stored[photograph.path].sha256 for photograph in photographs if photograph.split is None}
    if undivided:
        test = held_out(undivided, TEST_FRACTION, seed, "test")
        splits.update({path: "test" if path in test else "train" for path in undivided})
        notes.append(
            f"The layout has no split of its own: {len(test)} of {counted(len(undivided), 'normal')} are kept for test, chosen by seed {seed}."
        )
    train = {path: stored[path].sha256 for path, split in splits.items() if split == "train"}
    fraction = resolve_calibration_fraction(asked, len(train))
    calibration = held_out(train, fraction, seed, "calibration")
    splits.update(dict.fromkeys(calibration, "calibration"))
    if calibration:
        notes.append(f"{len(calibration)} of {counted(len(train), 'training normal')} are held out for thresholds, chosen by seed {seed}.")
    else:
        notes.append(f"All {counted(len(train), 'training normal')} stay together: thresholds come from refits, or normals that train holds out.")
    # Normals that no layout divided are divided already: what is theirs to learn from is in train.
    tested: dict[str, dict[str, str]] = defaultdict(dict)
    for photograph in photographs:
        if photograph.split == "test" and photograph.label != "unknown":
            tested[photograph.defect][photograph.path] = stored[photograph.path].sha256
    labelled = held_out_by_type(tested, labelled_fraction, seed, "labelled")
    splits.update(dict.fromkeys(labelled, "labelled"))
    if labelled:
        of_all = counted(sum(map(len, tested.values())), "labelled test photograph")
        notes.append(f"{len(labelled)} of {of_all} are learnt from and not tested on, the same share of every type, chosen by seed {seed}.")
    samples = []
    for photograph in photographs:
        image = stored[photograph.path]
        samples.append(
            Sample(
                path=photograph.path,
                sha256=image.sha256,
                split=splits[photograph.path],
                label=photograph.label,
                defect=photograph.defect,
                width=image.width,
                height=image.height,
                image=image.extent,
                masks=tuple(MaskFile(path, stored[path].sha256, stored[path].extent) for path in photograph.masks),
                group=part_of(photograph.path, group),
            )
        )
    return Manifest(name, tuple(samples), seed, fraction if calibration else 0.0, tuple(notes), labelled_fraction, decoding)

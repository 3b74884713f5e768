"""Ingest: photographs from wherever they lie into the Dataset contract (a manifest and tar shards)."""

from __future__ import annotations

import errno
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from vqi.dataset.images import Decoding, Header, decode_rgb, decoding_errors, load_upright, open_image, read_header
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.listing import Photograph, counted, examples
from vqi.dataset.manifest import MANIFEST, Extent, Manifest, MaskFile, Sample, Split
from vqi.dataset.masks import MaskMeaning, decide_meaning
from vqi.dataset.shards import ShardWriter
from vqi.dataset.sources import open_source
from vqi.dataset.splits import TEST_FRACTION, held_out, held_out_by_type, resolve_calibration_fraction, resolve_labelled_fraction
from vqi.dataset.white_level import WHITE_LEVELS, WhiteLevel
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


@dataclass
class _Intake:
    """What became of the files: those stored, by path; photographs left out as damaged, with the reason; what the wide ones reach."""

    stored: dict[str, _Stored] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    white: WhiteLevel = field(default_factory=WhiteLevel)


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
    skip_damaged: int = 0,
    say: Callable[[str], None] = lambda note: None,
) -> Manifest:
    """Write the Dataset of `source` to the folder `dataset` and return its manifest.

    `source` is a folder, a tar or zip archive, or s3://bucket/prefix. `calibration_fraction` is the share of training normals held out for
    thresholds; None lets their number decide. `labelled_fraction` is the share of the layout's test photographs, of every defect type and of the good
    ones alike, that supervised methods learn from. `group` is a regular expression that names the part a photograph shows (`part_of`).
    `white_level` is the value of white in files with more than 8 bits a channel (None: decided from the normals); the dataset check refuses a
    photograph of more than `max_megapixels`. Up to `skip_damaged` photographs that cannot be decoded, or have a mask that cannot, are left out: with
    0 the check names all that are damaged.
    `say` is given every note of the manifest as soon as it is known: those that decide what is learnt come before any photograph is read.
    The same content and seed give the same bytes, whatever the source.
    Raises BadInput where the source cannot be read as the layout says, or more photographs are damaged than may be left out; RunFailed where it
    cannot be reached or the disk is full.
    """
    decoding = Decoding(white_level or WHITE_LEVELS[-1], max_megapixels * 1_000_000)
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
            intake = _write_shards(photographs, origin.files, reading.top, folder, decoding, white_level is None, skip_damaged)
            photographs = [photograph for photograph in photographs if photograph.path not in intake.damaged]
            if not any(photograph.label == "good" and photograph.split in (None, "train") for photograph in photographs):
                raise BadInput(f"Every normal photograph of {source} is damaged; bring sound ones.")
            masks = sorted({path for photograph in photographs for path in photograph.masks})
            meaning, stated_masks = decide_meaning(masks, lambda path: _content(origin.files[reading.top + path], path), decoding.max_pixels)
            stated_white = f"White is {white_level} in photographs with more than 8 bits a channel, as image.white_level says." if white_level else ""
            if white_level is None:
                chosen, stated_white = intake.white.decide()
                decoding = replace(decoding, white_level=chosen)
            notes = (*reading.notes, *filter(None, (_left_out(intake.damaged, skip_damaged), stated_masks, stated_white)))
            manifest = _divide(name, photographs, intake.stored, calibration_fraction, labelled_fraction, seed, notes, decoding, meaning, group)
            for note in manifest.notes[len(reading.notes) :]:
                say(note)
            write_whole(folder / MANIFEST, manifest.to_json())
            return manifest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(f"The disk is full while the photographs of {source} are brought in; free space or choose another folder.") from error
        reason = f"{error.strerror or error} ({error.filename or 'no file named'})"
        raise RunFailed(f"The photographs of {source} cannot be brought in: {reason}.") from error


def _write_shards(
    photographs: list[Photograph], files: Mapping[str, Path], top: str, folder: Path, decoding: Decoding, find_white: bool, skip_damaged: int
) -> _Intake:
    """Photographs in order, each with its masks after it. `find_white` looks into the normals with more than 8 bits a channel."""
    intake = _Intake()
    with ShardWriter(folder) as shards:
        for photograph in tracked(photographs, "ingest: photographs"):
            paths = [path for path in (photograph.path, *photograph.masks) if path not in intake.stored]
            contents = {path: _content(files[top + path], path) for path in paths}
            if skip_damaged and (reason := _damage(photograph, contents, decoding)):
                intake.damaged[photograph.path] = reason
                continue
            for path, content in contents.items():
                header = _header(content, path)
                intake.stored[path] = _Stored(hashlib.sha256(content).hexdigest(), shards.add(path, content), header.width, header.height)
                if find_white and header.wide and path == photograph.path and photograph.label == "good" and photograph.split in (None, "train"):
                    # The dataset check names what cannot be decoded, with everything else that is wrong.
                    with suppress(BadInput):
                        intake.white.add(content, path, header.white, decoding.max_pixels)
    if len(intake.damaged) > skip_damaged:
        reasons = " ".join(list(intake.damaged.values())[:3])
        raise BadInput(
            f"{counted(len(intake.damaged), 'photograph')} cannot be decoded, more than the {skip_damaged} of data.skip_damaged "
            f"({examples(list(intake.damaged), 20)}); mend them or take them out. {reasons}"
        )
    return intake


def _damage(photograph: Photograph, contents: Mapping[str, bytes], decoding: Decoding) -> str:
    """Why a photograph or a mask of it cannot be decoded; "" where they can, or are refused for their size, which no decoding mends."""
    try:
        for path, content in contents.items():
            header = read_header(content, path)
            if header.width * header.height > decoding.max_pixels:
                continue
            if path == photograph.path:
                decode_rgb(content, path, decoding)
            else:
                with open_image(content, path) as image, decoding_errors(path):
                    load_upright(image, path)
    except BadInput as error:
        return str(error)
    return ""


def _left_out(damaged: Mapping[str, str], skip_damaged: int) -> str:
    """The note on photographs left out as damaged."""
    if not damaged:
        return ""
    are = "photograph is" if len(damaged) == 1 else "photographs are"
    return f"{len(damaged)} damaged {are} left out, as data.skip_damaged={skip_damaged} allows: {', '.join(damaged)}."


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


def _header(content: bytes, path: str) -> Header:
    """The header, with zeros for the size of what is not a readable image: the dataset check names it with everything else that is wrong."""
    try:
        return read_header(content, path)
    except BadInput:
        return Header(0, 0, False, None)


def _divide(
    name: str,
    photographs: list[Photograph],
    stored: dict[str, _Stored],
    asked: float | None,
    labelled_fraction: float,
    seed: int,
    found: tuple[str, ...],
    decoding: Decoding,
    meaning: MaskMeaning,
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
    return Manifest(name, tuple(samples), seed, fraction if calibration else 0.0, tuple(notes), labelled_fraction, decoding, meaning)

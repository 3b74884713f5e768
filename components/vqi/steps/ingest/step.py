"""Ingest: photographs from wherever they lie into the Dataset contract (a manifest and tar shards)."""

from __future__ import annotations

import errno
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vqi.dataset.drawn_masks import DrawnMasks, drawn_notes, store_drawn_masks
from vqi.dataset.images import Decoding, Header, decode_rgb, decoding_errors, load_upright, open_image, read_header
from vqi.dataset.layouts.contents import Contents
from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import Photograph, SourceFiles
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.manifest import MANIFEST, Extent, Manifest, MaskFile, Sample, Split
from vqi.dataset.masks import decide_meaning
from vqi.dataset.near_duplicates import groups, near_duplicates, thumbnail
from vqi.dataset.shards import ShardWriter
from vqi.dataset.sources import open_source
from vqi.dataset.splits import (
    TEST_FRACTION,
    held_out,
    held_out_by_type,
    joined,
    plan_calibration,
)
from vqi.dataset.white_level import WHITE_LEVELS, WhiteLevel
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import whole_folder, write_whole
from vqi.platform.progress import tracked
from vqi.platform.threads import decoding_threads
from vqi.steps.ingest.settings import StepSettings

# Near copies that tie more than this share of the photographs into one group, and leave fewer groups than that, are not
# copies: the parts show no difference that a thumbnail holds, and nothing could be calibrated with so few.
MOST_IN_ONE_GROUP, FEWEST_GROUPS = 0.5, 10


@dataclass(frozen=True)
class _Stored:
    """A file that was written to a shard."""

    sha256: str
    extent: Extent
    width: int
    height: int


@dataclass
class _Intake:
    """What became of the files: those stored, by path; masks drawn, by the photograph's path; photographs left out as
    damaged, with the reason; what the wide ones reach."""

    stored: dict[str, _Stored] = field(default_factory=dict)
    drawn: dict[str, DrawnMasks] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    white: WhiteLevel = field(default_factory=WhiteLevel)


def ingest(settings: StepSettings, *, dataset: Path, report: Callable[[str], None] = lambda note: None) -> Manifest:
    """Write the Dataset of `data.source` to the folder `dataset` and return its manifest.

    `data.source` is a folder, a tar or zip archive, or s3://bucket/prefix. `data.calibration_fraction` is the share of
    training normals held out for thresholds; None lets their number decide, the false-reject rate that is wanted, and
    whether the method `trains` (`plan_calibration`). `data.labelled_fraction` is the share of the layout's test
    photographs, of every defect type and of the good ones alike, that supervised methods learn from. Photographs with
    the same bytes, near copies and photographs of one part stay together in every split; `data.group` is a regular
    expression that names the part a photograph shows (`part_of`). `pixels.white_level` is the value of white in files
    with more than 8 bits a channel (None: decided from the normals); the dataset check refuses a photograph of more
    than `pixels.max_megapixels`. Up to `data.skip_damaged` photographs that cannot be decoded, or have a mask that
    cannot, are left out: with 0 the check names all that are damaged. `report` gets every note of the manifest as soon
    as it is known: those that decide what is learnt come before any photograph is read. The same content and seed give
    the same bytes, whatever the source. Raises BadInput where the source cannot be read as the layout says, or more
    photographs are damaged than may be left out; RunFailed where it cannot be reached or the disk is full.
    """
    name, seed, data = settings.name, settings.seed, settings.data
    source, skip_damaged, calibration_fraction = data.source, data.skip_damaged, data.calibration_fraction
    labelled_fraction = data.labelled_fraction or 0.0
    white_level, rate = settings.pixels.white_level, settings.threshold.false_reject_rate
    decoding = Decoding(white_level or WHITE_LEVELS[-1], settings.pixels.max_megapixels * 1_000_000)
    try:
        with open_source(source) as origin, whole_folder(dataset) as folder:
            reading = read_layout(SourceFiles(origin.files, origin.name), data.layout, data.mask_suffix, origin.notes)
            for note in reading.notes:
                report(note)
            if not any(photograph.is_training_normal for photograph in reading.photographs):
                raise BadInput(f"The source {source} has no normal photographs to train on.")
            photographs = sorted(reading.photographs, key=lambda photograph: photograph.path)
            contents = Contents(origin.files, reading)
            intake = _write_shards(
                photographs, contents, reading.layout, folder, decoding, white_level is None, skip_damaged
            )
            photographs = [photograph for photograph in photographs if photograph.path not in intake.damaged]
            if not any(photograph.is_training_normal for photograph in photographs):
                raise BadInput(f"Every normal photograph of {source} is damaged; bring sound ones.")
            masks = sorted({path for photograph in photographs for path in photograph.mask_files})
            meaning, stated_masks = decide_meaning(masks, contents.of_file, decoding.max_pixels)
            stated_white = (
                f"White is {white_level} in photographs with more than 8 bits a channel, as image.white_level says."
                if white_level
                else ""
            )
            if white_level is None:
                chosen, stated_white = intake.white.decide()
                decoding = replace(decoding, white_level=chosen)
            stated = (
                _left_out(intake.damaged, skip_damaged),
                *drawn_notes(intake.drawn),
                _ignored(photographs),
                stated_masks,
                stated_white,
            )
            notes = (*reading.notes, *filter(None, stated))
            alike = _near_copies([p for p in photographs if _is_dealt(p, labelled_fraction)], contents, decoding)
            grouping = _grouped(photographs, intake.stored, alike, data.group, labelled_fraction)
            samples, fraction, dealt = _split(
                photographs,
                intake,
                grouping,
                calibration_fraction,
                labelled_fraction,
                seed,
                rate,
                settings.trains,
            )
            notes = (*notes, *grouping.notes, *dealt)
            manifest = Manifest(
                name, samples, seed, fraction, notes, labelled_fraction, decoding, meaning, grouping.copies_cross
            )
            for note in manifest.notes[len(reading.notes) :]:
                report(note)
            write_whole(folder / MANIFEST, manifest.to_json())
            return manifest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(
                f"The disk is full while the photographs of {source} are brought in; free space or choose another "
                "folder."
            ) from error
        reason = f"{error.strerror or error} ({error.filename or 'no file named'})"
        raise RunFailed(f"The photographs of {source} cannot be brought in: {reason}.") from error


def _write_shards(
    photographs: list[Photograph],
    contents: Contents,
    layout: str,
    folder: Path,
    decoding: Decoding,
    find_white: bool,
    skip_damaged: int,
) -> _Intake:
    """Photographs in order, each with its masks after it: files, then what is drawn. `find_white` looks into the
    normals with more than 8 bits a channel."""
    intake = _Intake()
    with ShardWriter(folder) as shards:
        for photograph in tracked(photographs, "ingest: photographs"):
            by_path = {photograph.path: contents.of_photograph(photograph)}
            by_path |= {path: contents.of_file(path) for path in photograph.mask_files if path not in intake.stored}
            if skip_damaged and (reason := _damage(photograph, by_path, decoding)):
                intake.damaged[photograph.path] = reason
                continue
            for path, content in by_path.items():
                header = _header(content, path)
                intake.stored[path] = _Stored(
                    hashlib.sha256(content).hexdigest(), shards.add(path, content), header.width, header.height
                )
                if find_white and header.wide and path == photograph.path and photograph.is_training_normal:
                    # The dataset check names what cannot be decoded, with everything else that is wrong.
                    with suppress(BadInput):
                        intake.white.add(content, path, header.white, decoding.max_pixels)
            size = intake.stored[photograph.path]
            # The dataset check names a photograph without a readable header, and one that is too large.
            if not 0 < size.width * size.height <= decoding.max_pixels:
                continue
            for mask in (intake.stored[item] for item in photograph.ignore if isinstance(item, str)):
                if (mask.width, mask.height) != (size.width, size.height):
                    raise BadInput(
                        f"The photograph {photograph.path} (layout {layout}) has {size.width} x {size.height} pixels, "
                        f"and a file of regions to ignore {mask.width} x {mask.height}; save it at the photograph's "
                        "size."
                    )
            drawn = store_drawn_masks(photograph, layout, size.width, size.height, shards, contents.unused_path)
            if drawn.masks or drawn.ignore:
                intake.drawn[photograph.path] = drawn
    if len(intake.damaged) > skip_damaged:
        reasons = " ".join(list(intake.damaged.values())[:3])
        raise BadInput(
            f"{counted(len(intake.damaged), 'photograph')} cannot be decoded, more than the {skip_damaged} of "
            "data.skip_damaged "
            f"({examples(list(intake.damaged), 20)}); mend them or take them out. {reasons}"
        )
    return intake


def _damage(photograph: Photograph, contents: Mapping[str, bytes], decoding: Decoding) -> str:
    """Why a photograph or a mask of it cannot be decoded; "" where they can, or are refused for their size, which no
    decoding mends."""
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


def _ignored(photographs: Sequence[Photograph]) -> str:
    """The note on regions that are neither defect nor good."""
    paths = [photograph.path for photograph in photographs if photograph.ignore]
    if not paths:
        return ""
    return (
        f"{counted(len(paths), 'photograph')} with regions to ignore ({examples(paths)}): the Dataset keeps them, and "
        "pixel metrics count them as good where no mask marks them."
    )


def part_of(path: str, group: str) -> str:
    """What the regular expression `group` finds in a path: its first bracket, or all it matches; "" where it matches
    nothing or is empty."""
    match = re.search(group, path) if group else None
    return (match[1 if match.re.groups else 0] or "") if match else ""


def _header(content: bytes, path: str) -> Header:
    """The header, with zeros for the size of what is not a readable image: the dataset check names it with everything
    else that is wrong."""
    try:
        return read_header(content, path)
    except BadInput:
        return Header(0, 0, False, None)


def _is_dealt(photograph: Photograph, labelled_fraction: float) -> bool:
    """Whether ingest chooses the split of a photograph, so that its near copies must be known."""
    if photograph.split == "test":
        return labelled_fraction > 0 and photograph.label != "unknown"
    return photograph.split in (None, "train")


def _near_copies(photographs: Sequence[Photograph], contents: Contents, decoding: Decoding) -> list[tuple[str, str]]:
    """Pairs of paths of near copies, which join every group of them. What cannot be decoded is a copy of nothing: the
    check names it."""

    def read(photograph: Photograph) -> tuple[np.ndarray, float] | None:
        try:
            image = decode_rgb(contents.of_photograph(photograph), photograph.path, decoding)
        except BadInput:
            return None
        return thumbnail(image), image.shape[1] / image.shape[0]

    with ThreadPoolExecutor(decoding_threads()) as pool:
        read_ones = list(tracked(pool.map(read, photographs), "ingest: thumbnails", len(photographs)))
    known = [(photograph.path, *one) for photograph, one in zip(photographs, read_ones, strict=True) if one]
    if len(known) < 2:
        return []
    pairs = near_duplicates(
        np.stack([pattern for _, pattern, _ in known]), np.array([aspect for _, _, aspect in known])
    )
    return [(known[first][0], known[second][0]) for first, second in pairs]


@dataclass(frozen=True)
class _Grouping:
    """`keys`: the group of each photograph by path, named by content alone; `names`: as the manifest names it, "" = a
    group of its own; `copies_cross`: see Manifest."""

    keys: dict[str, str]
    names: dict[str, str]
    notes: tuple[str, ...]
    copies_cross: bool


def _grouped(
    photographs: Sequence[Photograph],
    stored: Mapping[str, _Stored],
    alike: list[tuple[str, str]],
    group: str,
    labelled_fraction: float,
) -> _Grouping:
    """Which photographs stay together: those with the same bytes, those of one part by name (`part_of`), and near
    copies.

    Where names tell two near copies to be of different parts, the names are believed.
    """
    numbers = {photograph.path: number for number, photograph in enumerate(photographs)}
    hashes = [stored[photograph.path].sha256 for photograph in photographs]
    parts = [part_of(photograph.path, group) if group else photograph.group for photograph in photographs]
    by_part: dict[str, list[int]] = defaultdict(list)
    for number, part in enumerate(parts):
        by_part[part].append(number)
    named = [members for part, members in by_part.items() if part]
    notes = []
    if named:
        notes.append(
            f"{counted(len(named), 'part')} {'is' if len(named) == 1 else 'are'} named by "
            f"{'data.group' if group else 'the layout'}; photographs of one stay together."
        )
        if unnamed := len(by_part.get("", ())):
            what = "data.group matches nothing in the paths" if group else "The layout names no part for the paths"
            notes.append(f"{what} of {counted(unnamed, 'photograph')}; each counts as a part of its own.")
    elif group:
        notes.append("data.group matches nothing in any path, so every photograph counts as a part of its own.")
    pairs = [(numbers[one], numbers[other]) for one, other in alike]
    pairs = [(one, other) for one, other in pairs if not parts[one] or not parts[other] or parts[one] == parts[other]]
    distinct = [(one, other) for one, other in pairs if hashes[one] != hashes[other]]
    largest = max(map(len, groups(distinct)), default=0)
    compared = sum(_is_dealt(photograph, labelled_fraction) for photograph in photographs)
    left = compared - len(distinct)
    copies_cross = largest > max(2, MOST_IN_ONE_GROUP * compared) and left < FEWEST_GROUPS
    if copies_cross:
        notes.append(
            f"{largest} of {compared} photographs are so alike that copies cannot be distinguished from like parts, "
            "so that "
            "each counts as a part of "
            "its own and the threshold promises nothing; name each part with data.group (data.group=(.*) says that "
            "every photograph shows another part)."
        )
        pairs = []
    elif distinct:
        tied = groups(distinct)
        notes.append(
            f"{sum(map(len, tied))} photographs are near copies of others ({counted(len(tied), 'group')}): copies "
            "stay together in every split and "
            "count as one part for the threshold."
        )
    keys = joined(hashes, [*named, *pairs])
    members: dict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        members[key].append(number)
    names: dict[str, str] = {}
    for key, those in members.items():
        called = min((parts[number] for number in those if parts[number]), default="")
        name = called or (key if len({hashes[number] for number in those}) > 1 else "")
        names.update((photographs[number].path, name) for number in those)
    return _Grouping(dict(zip(numbers, keys, strict=True)), names, tuple(notes), copies_cross)


def _split(
    photographs: Sequence[Photograph],
    intake: _Intake,
    grouping: _Grouping,
    calibration_fraction: float | None,
    labelled_fraction: float,
    seed: int,
    false_reject_rate: float,
    trains: bool,
) -> tuple[tuple[Sample, ...], float, tuple[str, ...]]:
    """Every photograph with its split and group, the share of normals held out for thresholds, and what was decided, in
    sentences."""
    notes = []
    keys = grouping.keys
    splits: dict[str, Split] = {photograph.path: photograph.split for photograph in photographs if photograph.split}
    unsplit = {photograph.path: keys[photograph.path] for photograph in photographs if photograph.split is None}
    if unsplit:
        test = held_out(unsplit, TEST_FRACTION, seed, "test")
        splits.update({path: "test" if path in test else "train" for path in unsplit})
        notes.append(
            f"The layout has no split of its own: {len(test)} of {counted(len(unsplit), 'normal')} are kept for test, "
            f"chosen by seed {seed}."
        )
    train = {path: keys[path] for path, split in splits.items() if split == "train"}
    plan = plan_calibration(len(set(train.values())), false_reject_rate, trains, calibration_fraction)
    calibration = held_out(train, plan.fraction, seed, "calibration")
    splits.update(dict.fromkeys(calibration, "calibration"))
    if calibration:
        notes.append(
            f"{len(calibration)} of {counted(len(train), 'training normal')} are held out for thresholds, chosen by "
            f"seed {seed}."
        )
    else:
        where = {
            "split": "train holds a fifth of them out for the threshold",
            "cross": "the threshold comes from refits",
        }
        rest = where.get(plan.kind, "none is held out, so that the threshold promises nothing")
        notes.append(f"All {counted(len(train), 'training normal')} stay together: {rest}.")
    # Normals that no layout split are split already: what is theirs to learn from is in train.
    tested: dict[str, dict[str, str]] = defaultdict(dict)
    for photograph in photographs:
        if photograph.split == "test" and photograph.label != "unknown":
            tested[photograph.defect][photograph.path] = keys[photograph.path]
    labelled = held_out_by_type(tested, labelled_fraction, seed, "labelled")
    splits.update(dict.fromkeys(labelled, "labelled"))
    if labelled:
        of_all = counted(sum(map(len, tested.values())), "labelled test photograph")
        notes.append(
            f"{len(labelled)} of {of_all} are learnt from and not tested on, the same share of every type, chosen by "
            f"seed {seed}."
        )
    samples = []
    for photograph in photographs:
        image = intake.stored[photograph.path]
        drawn = intake.drawn.get(photograph.path, DrawnMasks())
        masks, ignore = (
            tuple(
                MaskFile(path, intake.stored[path].sha256, intake.stored[path].extent)
                for path in items
                if isinstance(path, str)
            )
            for items in (photograph.masks, photograph.ignore)
        )
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
                masks=masks + drawn.masks,
                group=grouping.names[photograph.path],
                ignore=ignore + drawn.ignore,
            )
        )
    return tuple(samples), plan.fraction if calibration else 0.0, tuple(notes)

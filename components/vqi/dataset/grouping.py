"""Which photographs stay together in every split: those with the same bytes, those of one part, and near copies."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vqi.dataset.batch_inspection import Request, inspect_all
from vqi.dataset.decoding import Decoding
from vqi.dataset.inspection_rows import InspectionWriter
from vqi.dataset.intake import Stored
from vqi.dataset.layouts.interface import Photograph
from vqi.dataset.layouts.listing import counted
from vqi.dataset.near_duplicates import groups, near_duplicates, thumbnail_rows
from vqi.dataset.splits import joined
from vqi.platform.progress import tracked

# Near copies that tie more than this share of the photographs into one group, and leave fewer groups than that, are not
# copies: the parts show no difference that a thumbnail holds, and nothing could be calibrated with so few.
MOST_IN_ONE_GROUP, FEWEST_GROUPS = 0.5, 10

# Of so many photographs what is described is kept in memory for a check in this process: 48 KiB each.
MOST_PICTURED = 1000


def part_of(path: str, group: str) -> str:
    """What the regular expression `group` finds in a path: its first bracket, or all it matches; "" where it matches
    nothing or is empty."""
    match = re.search(group, path) if group else None
    return (match[1 if match.re.groups else 0] or "") if match else ""


def is_dealt(photograph: Photograph, labelled_fraction: float) -> bool:
    """Whether ingest chooses the split of a photograph, so that its near copies must be known."""
    if photograph.split == "test":
        return labelled_fraction > 0 and photograph.label != "unknown"
    return photograph.split in (None, "train")


def inspect_photographs(
    photographs: Sequence[Photograph],
    folder: Path,
    decoding: Decoding,
    stored: Mapping[str, Stored],
    rows: InspectionWriter,
    described: bool,
    pictures: MutableMapping[str, Image.Image] | None = None,
) -> dict[str, int]:
    """Note in `rows` what each photograph is, files with the same bytes once; the number of the row by the photograph's
    path. What cannot be decoded has none: the check names it. `folder` holds the shards of those `stored`.
    `described`: whether good ones get a description. `pictures` gets what is described of the first MOST_PICTURED, by
    their hash."""
    good = {stored[photograph.path].sha256 for photograph in photographs if photograph.label == "good"}
    first: dict[str, Photograph] = {}
    for photograph in photographs:
        first.setdefault(stored[photograph.path].sha256, photograph)
    pictured = 0 if pictures is None else MOST_PICTURED
    requests = []
    for number, (sha256, photograph) in enumerate(first.items()):
        file = stored[photograph.path]
        requests.append(
            Request(
                sha256,
                photograph.path,
                file.extent,
                file.width * file.height,
                described and sha256 in good,
                number < pictured,
            )
        )
    by_hash: dict[str, int] = {}
    answers = tracked(inspect_all(folder, requests, decoding), "ingest: looking at photographs", len(requests))
    for sha256, answer in zip(first, answers, strict=True):
        if answer:
            by_hash[sha256] = rows.append(answer.row)
            if pictures is not None and answer.image:
                pictures[sha256] = answer.image
    return {
        photograph.path: by_hash[sha256]
        for photograph in photographs
        if (sha256 := stored[photograph.path].sha256) in by_hash
    }


def near_copies(numbers: Mapping[str, int], rows: InspectionWriter) -> list[tuple[str, str]]:
    """Pairs of paths of near copies, which join every group of them, among photographs by the `numbers` of their
    `rows`."""
    if len(numbers) < 2:
        return []
    paths, every = list(numbers), np.array(list(numbers.values()))
    thumbnails = thumbnail_rows(len(every), lambda part: rows.thumbnails(every[part]))
    pairs = near_duplicates(thumbnails, rows.aspects(every))
    return [(paths[first], paths[second]) for first, second in pairs]


@dataclass(frozen=True)
class Grouping:
    """`keys`: the group of each photograph by path, named by content alone; `names`: as the manifest names it, "" = a
    group of its own; `copies_cross`: see Manifest."""

    keys: dict[str, str]
    names: dict[str, str]
    notes: tuple[str, ...]
    copies_cross: bool


def group_photographs(
    photographs: Sequence[Photograph],
    stored: Mapping[str, Stored],
    alike: list[tuple[str, str]],
    group: str,
    labelled_fraction: float,
) -> Grouping:
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
    compared = sum(is_dealt(photograph, labelled_fraction) for photograph in photographs)
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
    return Grouping(dict(zip(numbers, keys, strict=True)), names, tuple(notes), copies_cross)

"""COCO JSON, as CVAT, Label Studio, Roboflow and most others export it: images, annotations (polygons, run lengths,
boxes) and categories in one file or in one for each split.

A photograph that a file lists without an annotation is good. An annotation with an outline is an outline; one with a
box alone is a box. `iscrowd` is not a reason to ignore a region: exports set it for whatever is stored as run lengths.
Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vqi.dataset.layouts.annotations import (
    PhotographNames,
    Shape,
    annotated,
    left_over,
    moved_note,
    number,
    settled,
    split_in_name,
    stated_size,
    twice,
)
from vqi.dataset.layouts.interface import Box, LayoutReader, Match, Options, Polygon, Reading, RunLengths, SourceFiles
from vqi.platform.errors import BadInput

# The keys of a file that may be larger than is quickly parsed lie near its beginning or its end.
_SEEN = 1 << 18
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_TEXTS = ("license", "date_captured", "coco_url", "flickr_url")


class COCO(LayoutReader):
    """Reads COCO JSON."""

    name = "coco"

    def detect(self, files: SourceFiles) -> Match:
        """Whether a JSON file has images, annotations and categories."""
        exports = _exports(files)
        if exports:
            return Match(0.95, f"{exports[0]} has images, annotations and categories of COCO")
        return Match(0.0, "The source has no JSON file with images, annotations and categories, as layout coco needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs of all files."""
        names = PhotographNames(files)
        photographs, moved = [], 0
        for export in _exports(files):
            content = files.json(export)
            categories, images = _categories(content, export), _entries(content, "images", export)
            shapes: dict[Any, list[Shape]] = defaultdict(list)
            for position, annotation in enumerate(_entries(content, "annotations", export)):
                where = f"{export}, annotation {annotation.get('id', position)}"
                category = categories.get(_key(annotation.get("category_id")))
                if category is None:
                    raise BadInput(f"{where} has the category {annotation.get('category_id')!r}, which is not listed.")
                shapes[_key(annotation.get("image_id"))] += _shapes(annotation, category, where)
            ids = {_key(image.get("id")) for image in images}
            if len(ids) < len(images):
                raise BadInput(f"{export} lists two images with one id; export it again.")
            if lost := sorted(set(shapes) - ids):
                raise BadInput(
                    f"{export} has annotations of the image {lost[0]}, which is not listed; export it again."
                )
            for image in images:
                path = names.find(image.get("file_name"), export)
                split = split_in_name(export) or split_in_name(path)
                metadata = tuple(
                    (key, str(value))
                    for key, value in image.items()
                    if key not in ("id", "file_name", "width", "height", "group", *_TEXTS)
                    and isinstance(value, (str, int, float))
                )
                size = stated_size(image.get("width"), image.get("height"))
                photograph = annotated(path, shapes[_key(image.get("id"))], split, size, metadata)
                moved += split == "train" and photograph.label == "defect"
                photographs.append(replace(photograph, group=_group(image)))
        twice((photograph.path for photograph in photographs), "The COCO files together")
        kept, notes = settled(photographs)
        rest = left_over(files, (photograph.path for photograph in kept), "no COCO file lists them")
        return Reading(kept, (*notes, *moved_note(moved), *rest))


def _exports(files: SourceFiles) -> list[str]:
    """The JSON files that have the keys of COCO in their first or last bytes."""
    return [name for name in files.listing.others if name.lower().endswith(".json") and _has_keys(files, name)]


def _has_keys(files: SourceFiles, name: str) -> bool:
    with files.open(name) as stream:
        seen = stream.read(_SEEN)
        length = stream.seek(0, 2)
        stream.seek(max(length - _SEEN, 0))
        seen += stream.read(_SEEN)
    return all(key in seen for key in _KEYS) or bool(re.search(r"\.coco\.json$", name, re.IGNORECASE))


def _entries(content: Any, key: str, export: str) -> list[Mapping[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadInput(f"{export} has no list of {key}; export it as COCO again.")
    return entries


def _categories(content: Any, export: str) -> dict[Any, str]:
    return {_key(entry.get("id")): str(entry.get("name", "")) for entry in _entries(content, "categories", export)}


def _group(image: Mapping[str, Any]) -> str:
    """The part that a photograph shows, where the file says so (`vqi convert` writes it)."""
    group = image.get("group", "")
    return group if isinstance(group, str) else ""


def _key(value: Any) -> str:
    """An id, a number or a text, as a key."""
    return str(value)[:100]


def _shapes(annotation: Mapping[str, Any], name: str, where: str) -> list[Shape]:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return [Shape(name, _run_lengths(outline, where))]
    if isinstance(outline, list) and outline:
        rings = [outline] if all(isinstance(value, (int, float)) for value in outline) else outline
        return [Shape(name, _polygon(ring, where)) for ring in rings]
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise BadInput(f"{where} has neither an outline nor a box of x, y, width and height; mend the annotation.")
    x, y, width, height = (number(value, where) for value in box)
    return [Shape(name, Box(x, y, x + width, y + height))]


def _polygon(ring: Any, where: str) -> Polygon:
    if not isinstance(ring, list) or len(ring) % 2 or not ring:
        raise BadInput(f"{where} has a polygon that is not x, y, x, y, ...; mend the annotation.")
    polygon = Polygon(list(zip(ring[::2], ring[1::2], strict=True)))
    if polygon.problem:
        raise BadInput(f"{where} has {polygon.problem}; mend the annotation.")
    return polygon


def _run_lengths(outline: Mapping[str, Any], where: str) -> RunLengths:
    size, counts = outline.get("size"), outline.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (list, str)):
        raise BadInput(f"{where} has run lengths without size or counts; mend the annotation.")
    runs = RunLengths(counts, size[0], size[1])
    if runs.problem:
        raise BadInput(f"{where} has {runs.problem}; mend the annotation.")
    return runs

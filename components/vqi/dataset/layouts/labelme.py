"""LabelMe: a JSON file beside each annotated photograph, with polygons, rectangles, circles, lines, points and masks.

A photograph whose file has no shape of a defect is good; one without a file is good where its folder says so, else
unknown. Rectangles are boxes. Areas of the class `__ignore__` count neither way. Format: wkentaro/labelme,
`labelme/label_file.py`.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import math
from typing import Any

import numpy as np
from PIL import Image

from vqi.dataset.layouts.annotations import (
    PhotographNames,
    Shape,
    annotated,
    moved_note,
    number,
    settled,
    split_in_name,
    stated_size,
    twice,
    unannotated,
)
from vqi.dataset.layouts.interface import (
    Box,
    Drawing,
    LayoutReader,
    Match,
    Options,
    Polygon,
    Reading,
    RunLengths,
    SourceFiles,
)
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.platform.errors import BadInput

_SEEN, _MOST_TRIED = 1 << 12, 3
_CIRCLE_POINTS = 90
_LARGEST_MASK = 1 << 24


class LabelMe(LayoutReader):
    """Reads LabelMe's JSON files."""

    name = "labelme"

    def detect(self, files: SourceFiles) -> Match:
        """Whether JSON files have the keys of LabelMe; the first few are tried."""
        tried = [name for name in files.listing.others if name.lower().endswith(".json")]
        if any(_has_keys(files, name) for name in tried[:_MOST_TRIED]):
            return Match(0.9, f"it has {counted(len(tried), 'file')} of LabelMe")
        return Match(0.0, "The source has no JSON files with shapes and imagePath, as layout labelme needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Every photograph: those with a file as it says, the others as their folder does."""
        names = PhotographNames(files)
        beside = {parent_and_stem(path): path for path in files.listing.paths}
        photographs, moved = [], 0
        for name in files.listing.others:
            if not name.lower().endswith(".json"):
                continue
            content = files.json(name)
            if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
                raise BadInput(f"{name} has no list of shapes, as LabelMe's files do; mend or remove it.")
            # The file's own name says more than what it was called when it was drawn, which may be a path elsewhere.
            stem = parent_and_stem(name)
            path = beside.get(stem) or names.find(content.get("imagePath"), name)
            size = stated_size(content.get("imageWidth"), content.get("imageHeight"))
            shapes = [
                shape
                for position, entry in enumerate(content["shapes"])
                for shape in _shapes(entry, size, f"{name}, shape {position}")
            ]
            split = split_in_name(path)
            photograph = annotated(path, shapes, split, size)
            moved += split == "train" and photograph.label == "defect"
            photographs.append(photograph)
        twice((photograph.path for photograph in photographs), "LabelMe's files together")
        drawn = {photograph.path for photograph in photographs}
        bare = [unannotated(path, split_in_name(path)) for path in files.listing.paths if path not in drawn]
        unknown = [photograph.path for photograph in bare if photograph.label == "unknown"]
        kept, notes = settled([*photographs, *bare])
        if unknown:
            notes.append(
                f"{counted(len(unknown), 'photograph')} without a file of LabelMe labelled unknown "
                f"({examples(unknown)}): a folder good, or data.good, says which of them are good."
            )
        return Reading(kept, (*notes, *moved_note(moved)))


def _has_keys(files: SourceFiles, name: str) -> bool:
    with files.open(name) as stream:
        head = stream.read(_SEEN)
        length = stream.seek(0, 2)
        stream.seek(max(length - _SEEN, 0))
        seen = head + stream.read(_SEEN)
    return b'"shapes"' in seen and (b'"imagePath"' in seen or b'"imageData"' in seen)


def _shapes(entry: Any, size: tuple[int, int] | None, where: str) -> list[Shape]:
    if not isinstance(entry, dict) or not isinstance(entry.get("points"), list):
        raise BadInput(f"{where} has no points; mend the annotation.")
    name, kind = str(entry.get("label", "")), entry.get("shape_type") or "polygon"
    if len(entry["points"]) > 1_000_000:
        raise BadInput(f"{where} has {len(entry['points'])} points, more than a person or a tool draws.")
    points = []
    for point in entry["points"]:
        if not isinstance(point, list) or len(point) != 2:
            raise BadInput(f"{where} has a point that is not x and y; mend the annotation.")
        points.append((number(point[0], where), number(point[1], where)))
    return [Shape(name, drawing) for drawing in _drawings(kind, points, entry, size, where)]


def _drawings(
    kind: str, points: list[tuple[float, float]], entry: dict[str, Any], size: tuple[int, int] | None, where: str
) -> list[Drawing]:
    fewest = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1, "mask": 2}
    if kind not in fewest:
        raise BadInput(f"{where} is a {kind!r}; one of {', '.join(fewest)} is read.")
    if len(points) < fewest[kind]:
        raise BadInput(f"{where} is a {kind} of {len(points)} points, fewer than {fewest[kind]}; mend the annotation.")
    if kind == "rectangle":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return [Box(min(xs), min(ys), max(xs), max(ys))]
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points[:2]
        radius = math.hypot(edge_x - x, edge_y - y)
        turns = [2 * math.pi * position / _CIRCLE_POINTS for position in range(_CIRCLE_POINTS)]
        return [Polygon([(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns])]
    if kind in ("line", "linestrip"):
        return [Polygon([start, end]) for start, end in itertools.pairwise(points)]
    if kind in ("point", "points"):
        return [Polygon([point]) for point in points]
    if kind == "mask":
        return [_mask(points, entry.get("mask"), size, where)]
    polygon = Polygon(points)
    if polygon.problem:
        raise BadInput(f"{where} has {polygon.problem}; mend the annotation.")
    return [polygon]


def _mask(points: list[tuple[float, float]], text: Any, size: tuple[int, int] | None, where: str) -> RunLengths:
    """A mask of a part of the photograph, a PNG as base64 text, whose corners are the points."""
    if size is None or not isinstance(text, str) or len(text) > _LARGEST_MASK or size[0] * size[1] > 10 * _LARGEST_MASK:
        raise BadInput(f"{where} is a mask without its picture or the photograph's size; mend the annotation.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as picture:
            if picture.width > size[0] or picture.height > size[1]:
                raise BadInput(f"{where} is a mask larger than the photograph; mend the annotation.")
            part = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{where} is a mask whose picture cannot be decoded ({error}); mend the annotation.") from error
    left, top = round(points[0][0]), round(points[0][1])
    if left < 0 or top < 0 or left + part.shape[1] > size[0] or top + part.shape[0] > size[1]:
        raise BadInput(f"{where} is a mask that reaches beyond the photograph; mend the annotation.")
    whole = np.zeros((size[1], size[0]), bool)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return run_lengths(whole)


def run_lengths(mask: np.ndarray) -> RunLengths:
    """A mask, bool [H, W], as runs row after row, background first."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0] if not flat[0] else [0, 0], changes, [flat.size]])
    return RunLengths(np.diff(edges).astype(np.int64), mask.shape[0], mask.shape[1], by_columns=False)

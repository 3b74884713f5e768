"""Pascal VOC: an XML file with boxes for each photograph, in Annotations/ or beside it, and class pictures with a
palette in SegmentationClass/, whose value 255 is ignored. ImageSets/ says the splits where it is there.

A photograph whose file has no object is good; one without a file is good where its folder says so, else unknown. Where
it has a class picture, that says where its defects lie. Format: Everingham et al., "The PASCAL Visual Object Classes
Challenge", devkit documentation.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import numpy as np

from vqi.dataset.decoding import DEFAULT
from vqi.dataset.images import decoding_errors, load_upright, open_image
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
from vqi.dataset.layouts.interface import Box, LayoutReader, LayoutSplit, Match, Options, Reading, SourceFiles
from vqi.dataset.layouts.labelme import run_lengths
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.dataset.layouts.names import folder_key, is_mask_folder
from vqi.platform.errors import BadInput

_MOST_TRIED, _LARGEST = 3, 16 << 20
# Entities of a document type make a small file a large one, or open others.
_UNSAFE = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_IGNORED = 255
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VOC(LayoutReader):
    """Reads Pascal VOC."""

    name = "voc"

    def detect(self, files: SourceFiles) -> Match:
        """Whether XML files are annotations of VOC, or there is SegmentationClass/ beside JPEGImages/; the first few
        files are tried."""
        tried = [name for name in files.listing.others if name.lower().endswith(".xml")]
        for name in tried[:_MOST_TRIED]:
            with files.open(name) as stream:
                head = stream.read(1 << 12)
            if b"<annotation" in head:
                return Match(0.88, f"it has {counted(len(tried), 'file')} of Pascal VOC")
        folders = {folder_key(folder) for folder in files.listing.folders()}
        if {"segmentationclass", "jpegimages"} <= folders:
            return Match(0.88, "it has SegmentationClass beside JPEGImages, as Pascal VOC")
        return Match(0.0, "The source has neither XML files of Pascal VOC nor SegmentationClass beside JPEGImages.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Every photograph: those with a file or class picture as it says, the others as their folder does."""
        names, splits = PhotographNames(files), _splits(files)
        pictures = {
            parent_and_stem(path)[1]: path
            for path in files.listing.paths
            if folder_key(path.split("/")[0]) == "segmentationclass"
        }
        images = [p for p in files.listing.paths if not any(map(is_mask_folder, p.split("/")[:-1]))]
        images = [path for path in images if not folder_key(path.split("/")[0]).startswith("segmentation")]
        # The file's own name says more than what the photograph was called when it was drawn on.
        by_stem = {parent_and_stem(path): path for path in images}
        stems = Counter(parent_and_stem(path)[1] for path in images)
        by_stem |= {("", stem): path for (_, stem), path in by_stem.items() if stems[stem] == 1}
        annotations: dict[str, tuple[list[Shape], tuple[int, int] | None]] = {}
        for name in files.listing.others:
            if name.lower().endswith(".xml"):
                root = _parsed(files, name)
                own = parent_and_stem(name)
                path = by_stem.get(own) or by_stem.get(("", own[1])) or names.find(_name_in(root, name), name)
                twice([path, *([path] if path in annotations else [])], "The XML files together")
                size = root.find("size")
                stated = None if size is None else stated_size(size.findtext("width"), size.findtext("height"))
                annotations[path] = _objects(root, name), stated
        photographs, bare, moved = [], [], 0
        for path in images:
            stem = parent_and_stem(path)[1]
            split = splits.get(stem) or split_in_name(path)
            shapes, stated = annotations.get(path, ([], None))
            if stem in pictures:
                shapes = [*_painted(files, pictures[stem], shapes)]
            elif path not in annotations:
                bare.append(unannotated(path, split))
                continue
            photograph = annotated(path, shapes, split, stated)
            moved += split == "train" and photograph.label == "defect"
            photographs.append(photograph)
        unknown = [photograph.path for photograph in bare if photograph.label == "unknown"]
        kept, notes = settled([*photographs, *bare])
        if unknown:
            notes.append(
                f"{counted(len(unknown), 'photograph')} without an XML file labelled unknown ({examples(unknown)}): a "
                "folder good, or data.good, says which of them are good."
            )
        return Reading(kept, (*notes, *moved_note(moved)))


def _parsed(files: SourceFiles, name: str) -> ElementTree.Element:
    text = files.text(name, _LARGEST)
    if _UNSAFE.search(text):
        raise BadInput(f"{name} has a document type of its own (DTD), which annotations do not need; remove it.")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not XML ({error}); mend or remove it.") from error
    if root.tag != "annotation":
        raise BadInput(f"{name} is not an annotation of Pascal VOC but <{root.tag[:40]}>; remove it.")
    return root


def _name_in(root: ElementTree.Element, name: str) -> str:
    return (root.findtext("filename") or "").strip() or parent_and_stem(name)[1]


def _objects(root: ElementTree.Element, name: str) -> list[Shape]:
    shapes = []
    for position, item in enumerate(root.findall("object")):
        where = f"{name}, object {position}"
        boxes = item.findall("bndbox")
        if not boxes:
            raise BadInput(f"{where} has no bndbox; mend the annotation.")
        box = boxes[0]
        if len(boxes) > 1 or any(len(box.findall(edge)) > 1 for edge in _EDGES):
            raise BadInput(f"{where} has its bndbox, or an edge of it, twice; mend the annotation.")
        left, top, right, bottom = (number(box.findtext(edge), f"{where}, {edge}") for edge in _EDGES)
        # VOC counts pixels from 1 and the last one in.
        drawn = Box(max(left - 1, 0), max(top - 1, 0), right, bottom)
        if drawn.problem:
            raise BadInput(f"{where} has {drawn.problem}; mend the annotation.")
        shapes.append(Shape((item.findtext("name") or "").strip(), drawn))
    return shapes


def _painted(files: SourceFiles, picture: str, boxes: list[Shape]) -> list[Shape]:
    """The class picture as a shape of what it marks, and one of what it ignores; classes are those of the boxes."""
    with open_image(files.read(picture), picture, DEFAULT.max_pixels) as image, decoding_errors(picture):
        upright = load_upright(image, picture)
        values = np.asarray(upright if upright.mode in ("P", "L", "1") else upright.convert("L")).astype(np.uint8)
        indexed = upright.mode == "P"
    name = "+".join(sorted({shape.name for shape in boxes})) or "defect"
    ignored = (values == _IGNORED) & indexed
    shapes = []
    if (marked := (values > 0) & ~ignored).any():
        shapes.append(Shape(name, run_lengths(marked)))
    if ignored.any():
        shapes.append(Shape("__ignore__", run_lengths(ignored)))
    return shapes


def _splits(files: SourceFiles) -> dict[str, LayoutSplit]:
    """The split of each photograph's stem by ImageSets/*/train.txt, val.txt and test.txt."""
    splits: dict[str, LayoutSplit] = {}
    for name in files.listing.others:
        match = re.fullmatch(r"(?i)(?:.*/)?imagesets/(?:[^/]+/)?(train|val|test)\.txt", name)
        if match:
            named = match[1].lower()
            split: LayoutSplit = "validation" if named == "val" else named  # type: ignore[assignment]
            for line in files.lines(name):
                if line.strip():
                    splits[line.split()[0]] = split
    return splits

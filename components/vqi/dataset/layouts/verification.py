"""Whether what a layout reader returned keeps to its contract: a stranger's reader is not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from vqi.dataset.drawings import MOST_DRAWINGS_OF_A_PHOTOGRAPH, MOST_POINTS_OF_A_PHOTOGRAPH, Drawing, Polygon
from vqi.dataset.layouts.interface import LayoutSplit, Photograph, Reading
from vqi.dataset.layouts.source_files import SourceFiles
from vqi.dataset.manifest import Label
from vqi.dataset.saturation import Saturation
from vqi.platform.errors import BadInput

_LONGEST_NAME = 4096


def verify(reading: object, layout: str, files: SourceFiles) -> None:
    """Raise BadInput, with the layout's name, for the first thing that is wrong."""
    problem = next(_problems(reading, files), None)
    if problem:
        raise BadInput(f"The reader of layout {layout} returned {problem}; mend the source or the reader.")


def _problems(reading: object, files: SourceFiles) -> Iterator[str]:
    if not isinstance(reading, Reading):
        yield f"{type(reading).__name__} in place of a Reading"
        return
    if not all(isinstance(note, str) for note in reading.notes):
        yield "a note that is not text"
    if not all(isinstance(rule, Saturation) for rule in reading.saturation):
        yield "a saturation that is not a Saturation"
    paths: set[str] = set()
    for photograph in reading.photographs:
        if not isinstance(photograph, Photograph):
            yield f"{type(photograph).__name__} in place of a Photograph"
            return
        if not isinstance(photograph.path, str):
            yield f"the path {photograph.path!r}"
        if photograph.path in paths:
            yield f"the photograph {photograph.path} twice"
        for problem in (*_file_problems(photograph, files), *_role_problems(photograph)):
            yield f"for the photograph {photograph.path!r} {problem}"
        paths.add(photograph.path)
    for photograph in reading.photographs:
        for path in photograph.mask_files:
            if path in paths:
                yield f"the mask {path} of {photograph.path} as a photograph too"


def _file_problems(photograph: Photograph, files: SourceFiles) -> Iterator[str]:
    """What is wrong with the files and drawings of a photograph, each a noun that follows "returned"."""
    if photograph.content is None:
        if photograph.path not in files:
            yield "a path that is not a file of the source"
    elif not callable(photograph.content):
        yield "a content that cannot be called"
    elif not _is_plain(photograph.path):
        yield "a path that leads out of the Dataset or that no file can have"
    points = 0
    for item in (*photograph.masks, *photograph.ignore):
        if isinstance(item, str):
            if item not in files:
                yield f"the mask {item!r}, which is not a file of the source"
        elif not isinstance(item, Drawing):
            yield f"a mask that is neither a path nor a drawing ({type(item).__name__})"
        elif item.problem:
            yield item.problem
        elif isinstance(item, Polygon):
            points += len(item.points)
    if len(photograph.masks) + len(photograph.ignore) > MOST_DRAWINGS_OF_A_PHOTOGRAPH:
        yield f"more than {MOST_DRAWINGS_OF_A_PHOTOGRAPH} masks"
    if points > MOST_POINTS_OF_A_PHOTOGRAPH:
        yield f"polygons of {points} points, more than {MOST_POINTS_OF_A_PHOTOGRAPH}"
    size = photograph.size
    if size is not None and not (
        isinstance(size, tuple) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    ):
        yield f"the size {size!r}"


def _role_problems(photograph: Photograph) -> Iterator[str]:
    split, label, defect = photograph.split, photograph.label, photograph.defect
    if split is not None and split not in get_args(LayoutSplit):
        yield f"the split {split!r} (one of {', '.join(get_args(LayoutSplit))} or None)"
    elif label not in get_args(Label):
        yield f"the label {label!r} (one of {', '.join(get_args(Label))})"
    elif not isinstance(defect, str) or not 0 < len(defect) <= _LONGEST_NAME or "\0" in defect:
        yield f"the defect type {defect!r}"
    elif (label == "defect") == (defect in ("good", "unknown")) or (label != "defect" and defect != label):
        yield f"the defect type {defect!r} with the label {label!r}"
    elif label != "good" and split in (None, "train"):
        yield f"the label {label!r} with the split {split!r} (only good photographs are trained on: it belongs to test)"
    elif not isinstance(photograph.group, str) or len(photograph.group) > _LONGEST_NAME:
        yield f"the group {photograph.group!r}"
    elif not all(
        isinstance(entry, tuple) and len(entry) == 2 and all(isinstance(text, str) for text in entry)
        for entry in photograph.metadata
    ):
        yield "metadata that are not pairs of name and value, both text"


def _is_plain(path: object) -> bool:
    if not isinstance(path, str) or not 0 < len(path) <= _LONGEST_NAME or not path.isprintable() or "\\" in path:
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))

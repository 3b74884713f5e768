"""List files, as PaddleX has them: train.txt, val.txt and test.txt at the top, one photograph a line, then its mask or
the number of its class (labels.txt), by space, tab or comma; paths may hold spaces.

A photograph is defective where its mask marks anything, or its class is none of good parts. Without either, what
train.txt lists is good, and of the others their folders decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vqi.dataset.layouts.annotations import innermost_folder, left_over, moved_note, settled, split_in_name, twice
from vqi.dataset.layouts.interface import LayoutReader, LayoutSplit, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted
from vqi.dataset.layouts.marking_masks import marking_masks
from vqi.dataset.layouts.names import is_bad_folder, is_good_folder
from vqi.platform.errors import BadInput

_LIST = re.compile(r"(train|val|valid|validation|test)(_list)?\.txt", re.IGNORECASE)
_CLASSES = ("labels.txt", "label.txt", "label_list.txt")
_SEPARATOR = re.compile(r"[ \t,]+")
# Two paths of the longest kind that a file system has.
_LONGEST_LINE = 8192


@dataclass(frozen=True)
class _Line:
    """One line: the photograph, its mask or the number of its class, and where it stands."""

    path: str
    mask: str
    number: str
    where: str


class Lists(LayoutReader):
    """Reads list files."""

    name = "lists"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there is a list at the top whose first line names a photograph of the source."""
        for name in _lists(files):
            first = next((line for line in files.lines(name) if line.strip()), "").strip()[:_LONGEST_LINE]
            if any(head in files for head, _ in _heads(first)):
                return Match(0.91, f"it has {name}, a list of its photographs")
        return Match(0.0, "The source has no train.txt, val.txt or test.txt at its top that lists its photographs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs of all lists."""
        lines = [line for name in _lists(files) for line in _read_list(files, name)]
        twice((line.path for line in lines), "The lists of the source")
        classes = _classes(files) if any(line.number for line in lines) else []
        marking = marking_masks(files, (line.mask for line in lines if line.mask))
        photographs = [_photograph(line, marking, classes) for line in lines]
        moved = sum(
            p.label == "defect" and split_in_name(line.where.partition(",")[0]) == "train"
            for p, line in zip(photographs, lines, strict=True)
        )
        unlabelled = sum(p.label == "unknown" for p in photographs)
        kept, notes = settled(photographs)
        notes += moved_note(moved)
        if unlabelled:
            notes.append(f"{counted(unlabelled, 'photograph')} of the lists labelled unknown: neither mask nor class.")
        used = [name for line in lines for name in (line.path, line.mask)]
        return Reading(kept, (*notes, *left_over(files, used, "no list names them")))


def _lists(files: SourceFiles) -> list[str]:
    return [name for name in files.listing.others if _LIST.fullmatch(name)]


def _heads(text: str) -> Iterator[tuple[str, str]]:
    """The ways to take a line as a path and what follows it, the longest path first: paths may hold spaces."""
    yield text, ""
    for match in reversed(list(_SEPARATOR.finditer(text))):
        yield text[: match.start()], text[match.end() :]


def _read_list(files: SourceFiles, name: str) -> Iterator[_Line]:
    for position, line in enumerate(files.lines(name), 1):
        text, where = line.strip(), f"{name}, line {position}"
        if not text:
            continue
        if len(text) > _LONGEST_LINE:
            raise BadInput(f"{where} has {len(text)} characters, more than two paths have; mend the list.")
        path, tail = next(((h, t) for h, t in _heads(text.removeprefix("./")) if h in files), ("", ""))
        if not path:
            first_name = _SEPARATOR.split(text)[0]
            try:
                files.find(first_name)
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from error
            raise BadInput(f"{where} does not name a photograph of the source; write its path from the top.")
        if tail.isdigit() or not tail:
            yield _Line(path, "", tail, where)
            continue
        try:
            yield _Line(path, files.find(tail.removeprefix("./")), "", where)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error


def _classes(files: SourceFiles) -> list[str]:
    """The names of the classes that lines number."""
    for name in _CLASSES:
        if name in files:
            lines = [line.strip() for line in files.lines(name) if line.strip()]
            return [re.sub(r"^\d+\s+", "", line) for line in lines]
    raise BadInput(
        f"The lists of the source number classes, and no {_CLASSES[0]} says which is good; write one name a line."
    )


def _photograph(line: _Line, marking: set[str], classes: list[str]) -> Photograph:
    split = split_in_name(line.where.partition(",")[0])
    tested: LayoutSplit = "validation" if split == "validation" else "test"
    good = Photograph(line.path, split, "good", "good")
    folder = innermost_folder(line.path)
    kind = "defect" if not folder or is_good_folder(folder) or folder in ("good", "unknown") else folder
    if line.number:
        if int(line.number) >= len(classes):
            raise BadInput(f"{line.where} has the class {line.number}, and there are names for {len(classes)}.")
        name = classes[int(line.number)]
        return good if is_good_folder(name) else replace(good, split=tested, label="defect", defect=name)
    if line.mask:
        if line.mask not in marking:
            return good
        return replace(good, split=tested, label="defect", defect=kind, masks=(line.mask,))
    if split == "train" or is_good_folder(folder):
        return good
    if is_bad_folder(folder):
        return replace(good, split=tested, label="defect", defect=kind)
    return replace(good, split=tested, label="unknown", defect="unknown")

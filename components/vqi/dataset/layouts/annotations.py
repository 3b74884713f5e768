"""What readers of annotation files share: photographs by the names that annotations give them, splits by the names of
folders and files, and shapes with class names as photographs with masks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vqi.dataset.layouts.interface import Drawing, LayoutSplit, Photograph, SourceFiles
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.dataset.layouts.names import VALIDATION_FOLDERS, folder_key, is_good_folder, is_image_folder, normalised, words
from vqi.platform.errors import BadInput

_IGNORE = ("__ignore__", "_ignore_", "ignore", "ignored", "dontcare", "don't care")
_BACKGROUND = ("background", "_background_", "__background__")
_SPLIT_WORDS: dict[str, LayoutSplit] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys((*VALIDATION_FOLDERS, "valset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


@dataclass(frozen=True)
class Shape:
    """A drawing and the class that an annotation gives it."""

    name: str
    drawing: Drawing | str


class PhotographNames:
    """Finds the photographs that annotation files name: by the path beside the file, from the top, or by what the path
    of one photograph alone ends in (exports name files without the folder that they are unpacked to)."""

    def __init__(self, files: SourceFiles) -> None:
        self._files = files
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in files.listing.paths:
            self._by_name[path.rsplit("/", 1)[-1]].append(path)

    def find(self, name: object, beside: str) -> str:
        """The path of a photograph. Raises BadInput where the name is absolute, leads out of the source, or is that of
        none or of several photographs."""
        try:
            return self._files.find(name, beside)  # type: ignore[arg-type]
        except BadInput:
            parts = normalised(name).replace("\\", "/").split("/") if isinstance(name, str) else [".."]
            if not parts[0] or ".." in parts or parts[0][1:2] == ":":
                raise
            plain = "/".join(part for part in parts if part != ".")
            ends = [p for p in self._by_name[parts[-1]] if p == plain or p.endswith(f"/{plain}")]
            if len(ends) > 1 and (split := split_in_name(beside)):
                ends = [path for path in ends if split_in_name(path) == split]
            if len(ends) > 1:
                raise BadInput(
                    f"{beside} names {name!r}, and the source has several photographs of that name "
                    f"({examples(ends)}); write the path from the top of the source."
                ) from None
            if not ends:
                raise
            return ends[0]


def split_in_name(path: str) -> LayoutSplit | None:
    """The split that a folder of the path says ("images/val/0.png"), or else a word of the file's name
    ("instances_train.json"); None where none or several do."""
    *folders, name = path.split("/")
    for folder in folders:
        if split := _SPLIT_WORDS.get(folder_key(folder)):
            return split
    named = {_SPLIT_WORDS[word] for word in words(parent_and_stem(name)[1]) if word in _SPLIT_WORDS}
    return next(iter(named)) if len(named) == 1 else None


def is_split_name(folder: str) -> bool:
    """Whether a folder's name is that of a split ("training")."""
    return folder_key(folder) in _SPLIT_WORDS


def annotated(
    path: str,
    shapes: Iterable[Shape],
    split: LayoutSplit | None,
    size: tuple[int, int] | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Photograph:
    """A photograph whose annotation was read: without a shape of a defect's class it is good.

    Shapes of a class such as `__ignore__` count neither way, those of a background or a good part mark nothing. The
    defect type is the class; where there are several, all of them in alphabetical order ("dent+scratch").
    """
    ignore = tuple(shape.drawing for shape in shapes if folder_key(shape.name) in _IGNORE)
    defects = [shape for shape in shapes if _is_defect(shape.name)]
    if not defects:
        return Photograph(path, split, "good", "good", ignore=ignore, size=size, metadata=metadata)
    kinds = "+".join(sorted({shape.name.strip() or "defect" for shape in defects}))
    kinds = "defect" if kinds in ("good", "unknown") else kinds
    tested: LayoutSplit = "validation" if split == "validation" else "test"
    masks = tuple(shape.drawing for shape in defects)
    return Photograph(path, tested, "defect", kinds, masks, ignore=ignore, size=size, metadata=metadata)


def unannotated(path: str, split: LayoutSplit | None) -> Photograph:
    """A photograph without any annotation: good where its folder says so, else unknown."""
    if any(is_good_folder(folder) for folder in path.split("/")[:-1]):
        return Photograph(path, split, "good", "good")
    return Photograph(path, "test", "unknown", "unknown")


def innermost_folder(path: str) -> str:
    """The last folder of a path that is neither a split's nor says that pictures lie in it; "" where there is none."""
    folders = [part for part in path.split("/")[:-1] if not is_split_name(part) and not is_image_folder(part)]
    return folders[-1] if folders else ""


def settled(photographs: Sequence[Photograph]) -> tuple[tuple[Photograph, ...], list[str]]:
    """The photographs with what is measured on as test, and notes: a set of train and validation alone is measured on
    its validation, and defective photographs of a train split are not learnt from."""
    notes = []
    if not any(p.split == "test" and p.label == "good" for p in photographs) and any(
        p.split == "validation" for p in photographs
    ):
        moved = sum(p.split == "validation" for p in photographs)
        photographs = [replace(p, split="test") if p.split == "validation" else p for p in photographs]
        notes.append(
            f"The source has no test split: its validation split ({counted(moved, 'photograph')}) is tested on."
        )
    return tuple(photographs), notes


def moved_note(count: int) -> list[str]:
    """The note on defective photographs of a train split."""
    if not count:
        return []
    return [
        f"{counted(count, 'defective photograph')} of the train split {'is' if count == 1 else 'are'} tested on: only "
        "good ones are trained on, and supervised methods take a share of the tested ones."
    ]


def left_over(files: SourceFiles, used: Iterable[str], what: str) -> list[str]:
    """The note on image files that nothing names."""
    rest = sorted(set(files.listing.paths) - set(used))
    return [f"{counted(len(rest), 'image file')} left out: {what} ({examples(rest)})."] if rest else []


def twice(names: Iterable[str], where: str) -> None:
    """Raise BadInput for a photograph that comes twice."""
    again = [name for name, count in Counter(names).items() if count > 1]
    if again:
        raise BadInput(f"{where} names the photograph {again[0]} more than once; keep one entry for each.")


def number(value: Any, where: str) -> float:
    """A finite number, from a number or its text. Raises BadInput that begins with `where`."""
    try:
        parsed = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise BadInput(f"{where} holds {str(value)[:40]!r} in place of a number; mend the annotation.")
    return parsed


def stated_size(width: Any, height: Any) -> tuple[int, int] | None:
    """The size that an annotation states; None where it states none (some tools write 0)."""
    try:
        size = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _is_defect(name: str) -> bool:
    key = folder_key(name)
    return key not in _IGNORE and key not in _BACKGROUND and not is_good_folder(name)

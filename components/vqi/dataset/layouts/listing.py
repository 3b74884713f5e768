"""What every layout reader starts from (the names in a source) and what it hands back (photographs with their roles)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from vqi.dataset.images import SUFFIXES
from vqi.dataset.manifest import Label, Split

GOOD_FOLDERS = ("good", "normal", "normals", "ok", "nominal", "pass")
UNKNOWN_FOLDERS = ("unknown",)
MASK_FOLDERS = ("ground_truth", "groundtruth", "masks", "mask")
VALIDATION_FOLDERS = ("val", "valid", "validation")
ROLE_FOLDERS = frozenset((*GOOD_FOLDERS, *UNKNOWN_FOLDERS, *MASK_FOLDERS, *VALIDATION_FOLDERS, "train", "test"))


@dataclass(frozen=True)
class Listing:
    """The image files of a source by their '/'-separated path, in order, and how many others were passed over.

    `top` is the folder in the source that the paths start from ("" or "name/").
    """

    paths: tuple[str, ...]
    hidden: int = 0
    foreign: int = 0
    top: str = ""

    @staticmethod
    def of(names: Iterable[str]) -> Listing:
        """Hidden files (any part starting with a dot, or a Mac archive's shadow folder) and files that are no images are counted, not kept."""
        paths, hidden, foreign = [], 0, 0
        for name in names:
            parts = name.split("/")
            if any(part.startswith(".") or part == "__MACOSX" for part in parts):
                hidden += 1
            elif not name.lower().endswith(SUFFIXES):
                foreign += 1
            else:
                paths.append(name)
        return Listing(tuple(sorted(paths)), hidden, foreign)

    def below_top_folder(self) -> Listing:
        """The same listing inside the one folder everything lies in, where there is one that has no role of its own; else itself."""
        firsts = {path.split("/")[0] if "/" in path else "" for path in self.paths}
        first = next(iter(firsts), "")
        if len(firsts) != 1 or not first or first.lower() in ROLE_FOLDERS:
            return self
        return Listing(tuple(path[len(first) + 1 :] for path in self.paths), self.hidden, self.foreign, f"{self.top}{first}/")

    def folders(self) -> list[str]:
        """The names of the folders at the top."""
        return sorted({path.split("/")[0] for path in self.paths if "/" in path})

    def notes(self) -> list[str]:
        """Sentences about what was passed over."""
        notes = []
        if self.hidden:
            notes.append(f"{counted(self.hidden, 'hidden file')} left out.")
        if self.foreign:
            notes.append(f"{counted(self.foreign, 'file')} left out: no image by name ({', '.join(SUFFIXES)}).")
        return notes


@dataclass(frozen=True)
class Photograph:
    """A photograph found by a layout reader. `split` is None for normals that the layout leaves undivided; what any of `masks` marks is defect."""

    path: str
    split: Split | None
    label: Label
    defect: str
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a layout reader made of a listing."""

    photographs: tuple[Photograph, ...]
    notes: tuple[str, ...]
    top: str


def role_of(folder: str) -> tuple[Label, str]:
    """Label and defect type of a photograph's folder: "good/line 2" is good, "scratch/deep" is the defect type "scratch/deep"."""
    first = folder.split("/")[0].lower()
    if first in GOOD_FOLDERS:
        return "good", "good"
    if first in UNKNOWN_FOLDERS or not first:
        return "unknown", "unknown"
    return "defect", folder


class Masks:
    """The mask files of a source, found by the photograph they belong to.

    `files` are mask paths by the place they cover: (folder of the photograph, stem of the mask's own name).
    A mask is named like its photograph, with `suffix` after the stem or without.
    """

    def __init__(self, files: Mapping[tuple[str, str], Sequence[str]], suffix: str) -> None:
        self._files, self._suffix = files, suffix
        self._taken: set[str] = set()

    def take(self, folder: str, stem: str) -> str | None:
        """The mask of the photograph `stem` in `folder`, or None; PNG before other formats."""
        for key in ((folder, stem + self._suffix), (folder, stem)):
            if candidates := self._files.get(key):
                chosen = min(candidates, key=lambda path: (not path.lower().endswith(".png"), path))
                self._taken.add(chosen)
                return chosen
        return None

    def notes(self) -> list[str]:
        """A sentence about masks that no photograph asked for."""
        lonely = sorted({path for paths in self._files.values() for path in paths} - self._taken)
        if not lonely:
            return []
        return [f"{counted(len(lonely), 'mask')} left out: no defect photograph of that name ({examples(lonely)})."]


def parent_and_stem(path: str) -> tuple[str, str]:
    """("a/b", "c") of "a/b/c.png"."""
    pure = PurePosixPath(path)
    return "" if str(pure.parent) == "." else str(pure.parent), pure.stem


def counted(number: int, noun: str) -> str:
    """ "1 mask", "3 masks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def examples(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

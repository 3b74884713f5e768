"""The names in a source, sorted by what they are, and what the names of folders say of photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from vqi.dataset.images import OTHER_PICTURES, SUFFIXES
from vqi.dataset.layouts.names import (
    UNKNOWN_FOLDERS,
    folder_key,
    is_good_folder,
    is_image_folder,
    is_mask_folder,
    is_role_folder,
)
from vqi.dataset.manifest import Label

ARCHIVES = (".zip", ".tar", ".tgz", ".txz", ".gz", ".xz", ".bz2", ".7z", ".rar", ".zst")
# What file managers leave in folders without a dot before its name.
_HIDDEN = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")


@dataclass(frozen=True)
class Listing:
    """The image files of a source by their '/'-separated path, in order, and the others that were passed over.

    `hidden` counts hidden files, `pictures` are pictures of kinds that are not read, `archives` lie unopened among the
    photographs, `others` are all other files. `top` is the folder in the source that the paths start from ("" or
    "name/").
    """

    paths: tuple[str, ...]
    hidden: int = 0
    pictures: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    top: str = ""

    @staticmethod
    def of(names: Iterable[str]) -> Listing:
        """Sort names into images and what is passed over. Hidden is what has any part starting with a dot, and what
        file managers leave behind."""
        kinds: dict[str, list[str]] = {"image": [], "hidden": [], "picture": [], "archive": [], "other": []}
        for name in sorted(names):
            kinds[_kind(name)].append(name)
        names_by_kind = {kind: tuple(of_kind) for kind, of_kind in kinds.items()}
        return Listing(
            names_by_kind["image"],
            len(names_by_kind["hidden"]),
            names_by_kind["picture"],
            names_by_kind["archive"],
            names_by_kind["other"],
        )

    def below_top_folder(self) -> Listing:
        """The same listing inside the one folder everything lies in, where there is one that has no role of its own;
        else itself."""
        firsts = {path.split("/")[0] if "/" in path else "" for path in self.paths}
        first = next(iter(firsts), "")
        if len(firsts) != 1 or not first or is_role_folder(first):
            return self
        inside = self.below(first)
        # What lies under masks/ alone are masks; a product called "label" has its splits below.
        return self if is_mask_folder(first) and not any(map(is_role_folder, inside.folders())) else inside

    def below(self, folder: str) -> Listing:
        """The listing of one folder at the top."""

        def inside(paths: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(path[len(folder) + 1 :] for path in paths if path.startswith(f"{folder}/"))

        pictures, archives, others = inside(self.pictures), inside(self.archives), inside(self.others)
        return Listing(inside(self.paths), self.hidden, pictures, archives, others, f"{self.top}{folder}/")

    def folders(self) -> list[str]:
        """The names of the folders at the top."""
        return sorted({path.split("/")[0] for path in self.paths if "/" in path})

    def passed_over(self, opened: Collection[str] = ()) -> list[str]:
        """Sentences about files that were not read, those that may be photographs first; `opened` were."""
        if opened:
            pictures, archives, others = (
                tuple(path for path in paths if path not in opened)
                for paths in (self.pictures, self.archives, self.others)
            )
            return replace(self, pictures=pictures, archives=archives, others=others).passed_over()
        notes = []
        if self.pictures:
            is_are, it_them = ("is", "it") if len(self.pictures) == 1 else ("are", "them")
            notes.append(
                f"{counted(len(self.pictures), 'picture')} left out: {_suffixes(self.pictures)} {is_are} not read "
                f"({examples(self.pictures)}); save {it_them} as PNG, TIFF or JPEG."
            )
        if self.archives:
            notes.append(
                f"{counted(len(self.archives), 'archive')} inside the source left out ({examples(self.archives)}); "
                "unpack what belongs to it."
            )
        if self.hidden:
            notes.append(f"{counted(self.hidden, 'hidden file')} left out.")
        if self.others:
            notes.append(f"{counted(len(self.others), 'file')} left out: no image by name ({_suffixes(self.others)}).")
        return notes


def role_of(folder: str) -> tuple[Label, str]:
    """Label and defect type of a photograph's folder: "good/line 2" is good, "scratch/deep" is the defect type
    "scratch/deep".

    A folder that says no more than that pictures lie in it ("images") does not count.
    """
    parts = [part for part in folder.split("/") if part and not is_image_folder(part)]
    if not parts or folder_key(parts[0]) in UNKNOWN_FOLDERS:
        return "unknown", "unknown"
    return ("good", "good") if is_good_folder(parts[0]) else ("defect", "/".join(parts))


def parent_and_stem(path: str) -> tuple[str, str]:
    """("a/b", "c") of "a/b/c.png"."""
    folder, _, name = path.rstrip().rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder, stem if dot and stem else name


def counted(number: int, noun: str) -> str:
    """ "1 mask", "3 masks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def examples(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _kind(name: str) -> str:
    lower = name.rstrip().lower()
    if any(part.startswith(".") or part in _HIDDEN for part in lower.split("/")):
        return "hidden"
    for kind, suffixes in (("image", SUFFIXES), ("picture", OTHER_PICTURES), ("archive", ARCHIVES)):
        if lower.endswith(suffixes):
            return kind
    return "other"


def _suffixes(names: Sequence[str]) -> str:
    """The endings of names, the most frequent first: ".heic, .gif"."""
    counts = Counter(PurePosixPath(name.rstrip()).suffix.lower() or "without an ending" for name in names)
    return examples([suffix for suffix, _ in counts.most_common()], 6)

"""Which image files of a source are masks, and which photograph each of them belongs to.

A mask lies in a folder whose name says so (at any level; the other folders above it mirror those of the photographs),
or beside its photograph. It is named like its photograph, with the suffix after the stem or without, and with a number
where a photograph has several (`000_mask.png`, `000_mask_1.png`, `000_mask2.png`), or lies in a folder named like the
photograph (`000/001.png`, as in MVTec LOCO).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vqi.dataset.layouts.interface import Photograph
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.dataset.layouts.names import (
    VALIDATION_FOLDERS,
    folder_key,
    is_image_folder,
    is_mask_folder,
    is_mask_word,
    is_split_folder,
)
from vqi.dataset.manifest import Label

_NUMBER = r"[\s_.-]*\(?\d*\)?$"


def separate_masks(paths: Iterable[str], suffix: str) -> tuple[dict[str, str], list[str]]:
    """Masks, each with the folder of photographs that its own mirrors, and photographs among the image files of a
    source, in the order they came.

    A name that ends in the suffix is a mask wherever it lies: trained on as a normal it would do harm. One that goes on
    with a number or another word for masks ("000_mask_1", "000_gt", "mask_000") is a mask where the photograph of the
    rest of its name lies in the same folder.
    """
    paths = list(paths)
    folded_suffix = suffix.casefold()
    stems: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folder, stem = parent_and_stem(path)
        stems[folder].add(stem.casefold())
    folders = {name.casefold() for name in _with_parents(stems)}
    mirrored = {folder: _mirrored_folder(folder, folders, stems) for folder in stems}
    masks: dict[str, str] = {}
    photographs: list[str] = []
    for path in paths:
        folder, stem = parent_and_stem(path)
        named = bool(folded_suffix) and stem.casefold().endswith(folded_suffix)
        if mirrored[folder] != folder or named or _goes_on_as_mask(stem.casefold(), stems[folder], folded_suffix):
            masks[path] = mirrored[folder]
        else:
            photographs.append(path)
    return masks, photographs


def _with_parents(folders: Iterable[str]) -> set[str]:
    return {"/".join(folder.split("/")[:length]) for folder in folders for length in range(len(folder.split("/")) + 1)}


def _mirrored_folder(folder: str, folders: set[str], stems: Mapping[str, set[str]]) -> str:
    """The folder of photographs that a folder of masks mirrors: "test/scratch" for "test/scratch/masks"; the folder
    itself where it holds none.

    Beside folders whose whole name says so, "scratch_masks" and "gt scratch" hold masks where a folder scratch lies
    beside them, and "000_mask" where a photograph 000 does.
    """
    parts = folder.split("/") if folder else []
    mirrored: list[str] = []
    for position, part in enumerate(parts):
        if is_mask_folder(part):
            continue
        parents = ("/".join(parts[:position]), "/".join(mirrored))
        beside = (
            name
            for name in _without_mask_word(part)
            if any(
                f"{parent}/{name}".lstrip("/").casefold() in folders or name.casefold() in stems.get(parent, ())
                for parent in parents
            )
        )
        mirrored.append(next(beside, part))
    return "/".join(mirrored)


def _without_mask_word(part: str) -> Iterator[str]:
    """What is left of a name without a word for masks at its end or start: "scratch" of "scratch_masks"."""
    for match in re.finditer(r"[\W_]+", part):
        head, tail = part[: match.start()], part[match.end() :]
        if head and is_mask_word(tail, certain=True):
            yield head
        if tail and is_mask_word(head, certain=True):
            yield tail


def _goes_on_as_mask(stem: str, stems: set[str], suffix: str) -> bool:
    for length in range(len(stem) - 1, 0, -1):
        rest = stem[length:]
        if stem[:length] not in stems:
            continue
        if suffix and rest.startswith(suffix) and re.match(_NUMBER, rest[len(suffix) :]):
            return True
        if not rest[0].isalnum() and is_mask_word(re.sub(r"^[\W_]*\d*", "", rest)):
            return True
    return _after_mask_word(stem) in stems


def _after_mask_word(stem: str) -> str:
    """ "000" of "mask_000"; "" where the name does not begin with a word for masks."""
    match = re.fullmatch(r"([^\W\d_]+)[\W_]+(.+)", stem, re.DOTALL)
    return match[2] if match and is_mask_word(match[1]) else ""


@dataclass(frozen=True)
class Masked:
    """The masks of every photograph that has any, by the photograph's path, in order; and sentences about how they were
    found."""

    masks: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def attach_to(self, photographs: Iterable[Photograph]) -> tuple[Photograph, ...]:
        """The photographs with their masks."""
        return tuple(replace(photograph, masks=self.masks.get(photograph.path, ())) for photograph in photographs)


def assign_masks(masks: Mapping[str, str], photographs: Mapping[str, Label], suffix: str) -> Masked:
    """Give every mask to the photograph it belongs to: all masks of one are its own.

    `masks` are the folders they mirror by their paths (`separate_masks`), `photographs` are labels by path.
    """
    index = _Photographs(photographs, suffix.casefold())
    named: dict[str, list[str]] = defaultdict(list)
    bare: dict[str, list[str]] = defaultdict(list)
    lonely: list[str] = []
    for mask in sorted(masks):
        owners, has_suffix = index.owners(mask, masks[mask])
        if not owners:
            lonely.append(mask)
        for owner in owners:
            (named if has_suffix else bare)[owner].append(mask)
    chosen: dict[str, tuple[str, ...]] = {}
    unlabelled: set[str] = set()
    spare: set[str] = set()
    for owner in sorted({*named, *bare}):
        candidates = [*named[owner], *bare[owner]]
        if photographs[owner] != "defect":
            unlabelled.update(candidates)
            continue
        # What has no suffix beside a mask that has one may be a copy of the photograph.
        beside = {parent_and_stem(mask)[0] for mask in named[owner]}
        chosen[owner] = _one_of_each_name(
            [*named[owner], *(mask for mask in bare[owner] if parent_and_stem(mask)[0] not in beside)]
        )
        spare.update(set(candidates) - set(chosen[owner]))
    used = {mask for of_one in chosen.values() for mask in of_one}
    return Masked(chosen, tuple(_notes(chosen, lonely, sorted(unlabelled - used), sorted(spare - used))))


def _one_of_each_name(masks: Sequence[str]) -> tuple[str, ...]:
    """Without those that differ from another by the file's format alone; PNG before the others."""
    by_name: dict[tuple[str, str], str] = {}
    for mask in sorted(masks, key=lambda path: (not path.lower().rstrip().endswith(".png"), path)):
        by_name.setdefault(parent_and_stem(mask), mask)
    return tuple(sorted(by_name.values()))


def _notes(
    chosen: Mapping[str, tuple[str, ...]], lonely: list[str], unlabelled: list[str], spare: list[str]
) -> Iterator[str]:
    several = [photograph for photograph, masks in chosen.items() if len(masks) > 1]
    if several:
        first = f"{several[0]}: {examples(chosen[several[0]])}"
        yield f"{counted(len(several), 'photograph')} with several masks: what any of them marks is defect ({first})."
    if lonely:
        yield f"{counted(len(lonely), 'mask')} left out: no defect photograph of that name ({examples(lonely)})."
    if unlabelled:
        yield (
            f"{counted(len(unlabelled), 'mask')} left out: of photographs in no defect's folder "
            f"({examples(unlabelled)})."
        )
    if spare:
        yield (
            f"{counted(len(spare), 'mask')} left out: the photograph has others, with the suffix or as PNG "
            f"({examples(spare)})."
        )


# Photographs of one folder, or of several, by their stems without case.
_Stems = dict[str, list[str]]


class _Photographs:
    """The photographs of a source, found by the folder and the name of a mask."""

    def __init__(self, photographs: Iterable[str], suffix: str) -> None:
        self._suffix = suffix
        self._all: _Stems = defaultdict(list)
        # By every folder that a mask's own may mirror: "test/scratch", or "scratch" alone.
        self._by_folder: dict[tuple[str, str], _Stems] = defaultdict(lambda: defaultdict(list))
        for path in photographs:
            folder, stem = parent_and_stem(path)
            self._by_folder[_split_and_folder(folder)][stem.casefold()].append(path)
            self._all[stem.casefold()].append(path)
        # Where photographs are numbered 1, 1_1, 1_2 a mask 1_3 may be that of a photograph that was taken out.
        self._numbered = any(
            stem[:length] in stems
            for stems in self._by_folder.values()
            for stem in stems
            for length in range(1, len(stem))
            if not stem[length].isalnum()
        )

    def owners(self, mask: str, mirrored_folder: str) -> tuple[list[str], bool]:
        """The photographs that a mask belongs to (several where they differ by format alone), and whether its name has
        the suffix."""
        stem = parent_and_stem(mask)[1]
        split, key = _split_and_folder(mirrored_folder)
        mirrored = self._mirrored(split, key)
        for stems in mirrored:
            if match := self._by_name(stems, stem):
                return match
        # A folder named like the photograph holds its masks.
        parts = key.split("/") if key else []
        for length in range(len(parts) - 1, -1, -1):
            for stems in self._mirrored(split, "/".join(parts[:length])):
                if match := self._by_name(stems, parts[length]):
                    return match[0], True
        if key and mirrored:
            return [], False
        # A folder that mirrors none: the only photograph of the name, below the mask folder's own where that is a
        # split's.
        for name in (parts[0], stem) if parts else (stem,):
            paths, has_suffix = self._by_name(self._all, name) or ([], False)
            paths = [path for path in paths if not split or _split_and_folder(parent_and_stem(path)[0])[0] == split]
            if len(paths) == 1 and (name != stem or not parts):
                return paths, has_suffix or name != stem
        return [], False

    def _mirrored(self, split: str, key: str) -> list[_Stems]:
        """The photographs whose folders a mask's folder mirrors; without a split, test comes before validation."""
        splits = (split,) if split else ("", "test", "validation", "train")
        return [self._by_folder[name, key] for name in splits if (name, key) in self._by_folder]

    def _by_name(self, stems: _Stems, stem: str) -> tuple[list[str], bool] | None:
        """The photographs with the longest name that a mask's goes on from, and whether the mask's name has the suffix;
        None where none is."""
        name = stem.casefold()
        for length in range(len(name), 0, -1):
            paths = stems.get(name[:length])
            has_suffix = self._has_suffix(name[length:]) if paths else None
            if paths and has_suffix is not None:
                # Names that differ by case alone are two photographs: the mask's own case decides.
                exact = [path for path in paths if stem.startswith(parent_and_stem(path)[1])]
                return exact or (paths if len({parent_and_stem(path)[1] for path in paths}) == 1 else []), has_suffix
        last = _after_mask_word(name)
        return (stems[last], True) if last in stems else None

    def _has_suffix(self, rest: str) -> bool | None:
        """Whether what a mask's name adds to its photograph's says "mask"; None where the photograph may be another
        one."""
        if not rest:
            return not self._suffix
        if self._suffix and rest.startswith(self._suffix):
            more = rest[len(self._suffix) :]
            if not more or not more[0].isalpha():
                return True
        if rest[0].isalnum():
            return None
        if is_mask_word(rest):
            return True
        if self._numbered:
            return None
        if self._suffix and rest.endswith(self._suffix):
            return True
        # "000_1" is another mask beside "000", but "000_overlay" is something else.
        return False if re.match(_NUMBER, rest) else None


def _split_and_folder(folder: str) -> tuple[str, str]:
    """("test", "scratch/deep") of "Test/scratch/images/deep", ("", "scratch") of "scratch": as folders are compared."""
    parts = [folder_key(part) for part in folder.split("/") if part and not is_image_folder(part)]
    if not parts or not is_split_folder(parts[0]):
        return "", "/".join(parts)
    return "validation" if parts[0] in VALIDATION_FOLDERS else parts[0], "/".join(parts[1:])

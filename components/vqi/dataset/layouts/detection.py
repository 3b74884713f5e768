"""Which layout a source has, and reading it by that layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from vqi.dataset.layouts import folders, mvtec
from vqi.dataset.layouts.listing import Listing, Photograph, Reading, counted, examples, parent_and_stem
from vqi.dataset.layouts.names import (
    GOOD_FOLDERS,
    is_bad_folder,
    is_good_folder,
    is_role_folder,
    normalised,
    part_in_name,
)
from vqi.platform.errors import BadInput, closest

LAYOUTS = ("auto", "mvtec", "folders")
_READERS = {"mvtec": mvtec, "folders": folders}


def read_layout(
    names: Iterable[str], layout: str, mask_suffix: str, source_name: str = "", source_notes: Sequence[str] = ()
) -> Reading:
    """The photographs among the files of a source, by one of LAYOUTS.

    `names` are '/'-separated paths, `source_name` is what the source is called, `source_notes` say what it left out.

    A set that lies one or more folders down (an archive with a top folder) is found there; paths are given without
    those folders, so that it is the same set. Raises BadInput for an unknown layout, for no images, where the files do
    not fit the layout, and where names speak against what would be taken as good parts.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"data.layout is {layout!r}.{closest(layout, list(LAYOUTS))}")
    if "/" in mask_suffix or "\\" in mask_suffix:
        raise BadInput(
            f"data.mask_suffix is {mask_suffix!r}; it is what follows the photograph's name in its mask's name, such "
            "as '_mask'."
        )
    listing, mask_suffix = Listing.of(names), normalised(mask_suffix)
    if not listing.paths:
        raise BadInput(" ".join((_no_images(listing), *source_notes)))
    passed_over = listing.passed_over()
    chosen, listing = _detected(listing, layout)
    if folders.is_flat(listing):
        _check_flat(listing, mask_suffix, source_name)
    reading = _READERS[chosen].read(listing, mask_suffix)
    doubtful = _doubtful(reading.photographs, chosen, named=layout != "auto")
    return Reading(
        reading.photographs,
        (*doubtful, *_twins(reading.photographs), *reading.notes, *source_notes, *passed_over),
        reading.top,
    )


def _no_images(listing: Listing) -> str:
    for names, what, advice in (
        (listing.pictures, "picture", "such files are not read, save them as PNG, TIFF or JPEG"),
        (listing.archives, "archive", "unpack what belongs to the set, or name one archive as data.source"),
    ):
        if names:
            return f"The source has no images, but {counted(len(names), what)} ({examples(names)}); {advice}."
    unread = listing.hidden + len(listing.others)
    others = f" ({counted(unread, 'other file')})" if unread else ""
    return f"The source has no images{others}; give the folder that holds train/good or good."


def _detected(listing: Listing, layout: str) -> tuple[str, Listing]:
    """The first layout that fits at the top, or below the folders everything lies in."""
    candidates = ("mvtec", "folders") if layout == "auto" else (layout,)
    inner = listing
    while True:
        for name in candidates:
            if _READERS[name].matches(inner) and (inner is listing or inner.folders()):
                return name, inner
        deeper = inner.below_top_folder()
        if deeper is inner:
            break
        inner = deeper
    tops = inner.folders()
    several = [top for top in tops if not is_role_folder(top) and _is_set(inner.below(top))]
    if len(several) > 1:
        raise BadInput(f"The source holds several sets ({examples(several)}); give the folder of one of them.")
    if several and len(tops) > 1:
        rest = examples([top for top in tops if top != several[0]])
        raise BadInput(
            f"The source holds a set in {several[0]} and something else beside it ({rest}); give the folder "
            f"{several[0]} alone."
        )
    if layout != "auto":
        fitting = [name for name, reader in _READERS.items() if inner.folders() and reader.matches(inner)]
        raise BadInput(_READERS[layout].why_not(inner) + (f" data.layout={fitting[0]} fits it." if fitting else ""))
    seen = f"its folders are {examples(tops, 5)}" if tops else f"all lie in {inner.top}"
    raise BadInput(
        "The layout of the source is not recognised: neither train/good (mvtec) nor a folder of normals "
        f"({', '.join(GOOD_FOLDERS)}) is there, {seen}."
    )


def _is_set(listing: Listing) -> bool:
    return bool(listing.folders()) and any(reader.matches(listing) for reader in _READERS.values())


def _check_flat(listing: Listing, mask_suffix: str, source_name: str) -> None:
    """Raise BadInput where something speaks against taking all photographs as good parts."""
    reasons = folders.reasons_against_good(listing, mask_suffix)
    if is_bad_folder(source_name):
        reasons.append(f"the source is called {source_name}")
    if reasons:
        raise BadInput(
            f"Are all {counted(len(listing.paths), 'image')} of the source good parts? It has no folders that say so, "
            f"and {'; '.join(reasons)}. "
            "Put the good parts into a folder good and the others into a folder for each type of defect; if all are "
            "good, put all into good."
        )


def _doubtful(photographs: Iterable[Photograph], layout: str, named: bool) -> list[str]:
    """A note on photographs in folders of good parts whose names speak of a defect.

    `named`: the layout was asked for, and takes folders at their word. Raises BadInput where it was not and other names
    speak of a good part: then the names tell the two from each other.
    """
    part_by_path = {
        photograph.path: part_in_name(_below_good(photograph.path))
        for photograph in photographs
        if photograph.label == "good"
    }
    bad = [path for path in part_by_path if part_by_path[path] == "bad"]
    good = [path for path in part_by_path if part_by_path[path] == "good"]
    if not bad:
        return []
    which = (
        f"{len(bad)} of {counted(len(part_by_path), 'photograph')} in folders of good parts have names that speak of a "
        f"defect ({examples(bad)})"
    )
    if good and not named:
        raise BadInput(
            f"{which}, others of a good part ({examples(good, 1)}); move the defective ones to a folder of their "
            "defect type, or set "
            f"data.layout={layout} where all are good parts."
        )
    return [f"{which}: they are taken as good parts, as their folder says."]


def _twins(photographs: Iterable[Photograph]) -> list[str]:
    """A note on photographs that share their name with another in their folder: one of the two may be a mask, as some
    tools save it."""
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for photograph in photographs:
        by_name[parent_and_stem(photograph.path)].append(photograph.path)
    twins = [paths for paths in by_name.values() if len(paths) > 1]
    if not twins:
        return []
    return [
        f"{counted(len(twins), 'name')} in a folder for two files or more, all taken as photographs "
        f"({', '.join(sorted(twins[0]))}); "
        "where one is a mask, give it a folder ground_truth or the mask suffix."
    ]


def _below_good(path: str) -> str:
    """What a path adds to the folder that says "good": "line 2/NG_0" of "train/good/line 2/NG_0.png"."""
    parts = path.rsplit(".", 1)[0].split("/")
    start = next((position + 1 for position, part in enumerate(parts[:-1]) if is_good_folder(part)), 0)
    return "/".join(parts[start:])

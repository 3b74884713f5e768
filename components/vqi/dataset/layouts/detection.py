"""Which layout a source has, and reading it by that layout."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from vqi.dataset.layouts import AUTO, check_layout, layouts
from vqi.dataset.layouts.folders import FLAT
from vqi.dataset.layouts.interface import Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import Listing, counted, examples, parent_and_stem
from vqi.dataset.layouts.names import GOOD_FOLDERS, is_good_folder, is_role_folder, normalised, part_in_name
from vqi.dataset.layouts.patterns import by_pattern
from vqi.dataset.layouts.verification import verify
from vqi.platform.errors import BadInput, VqiError

# Surer than this is what a file says that only one layout has; below are names of folders.
_SURE = 0.85


def read_layout(
    files: SourceFiles,
    layout: str,
    options: Options,
    source_notes: Sequence[str] = (),
    most_per_class: int = 0,
) -> Reading:
    """The photographs among the files of a source, by a layout's name or AUTO; `source_notes` say what the source left
    out. `most_per_class` photographs of each split and defect type are kept, 0 = all.

    A set that lies one or more folders down (an archive with a top folder) is found there; paths are given without
    those folders, so that it is the same set. Raises BadInput for an unknown layout, for no images, where the files do
    not fit the layout, where names speak against what would be taken as good parts, and where a reader fails or breaks
    its contract.
    """
    check_layout(layout)
    mask_suffix = options.mask_suffix
    if "/" in mask_suffix or "\\" in mask_suffix:
        raise BadInput(
            f"data.mask_suffix is {mask_suffix!r}; it is what follows the photograph's name in its mask's name, such "
            "as '_mask'."
        )
    wanted = _wanted_layout(options) if layout == AUTO else ""
    match, chosen, inner = _detected(files, layout, source_notes, wanted)
    files = inner.untouched()
    reader = layouts()[chosen]
    with reader_errors(chosen):
        reading = reader.read(files, replace(options, mask_suffix=normalised(mask_suffix)))
    verify(reading, chosen, files)
    labelled = [by_pattern(photograph, options) for photograph in reading.photographs]
    kept, limit_notes = _limited(labelled, most_per_class)
    reading = replace(reading, photographs=tuple(kept), notes=(*reading.notes, *limit_notes))
    named = layout != AUTO
    notes: list[str] = []
    if reader.labels_by_folder:
        notes += [*_doubtful(reading.photographs, chosen, named), *_twins(reading.photographs)]
    elif not named:
        notes.append(f"The layout is {chosen}: {match.why}.")
    every_note = (*notes, *reading.notes, *source_notes, *files.passed_over())
    return replace(reading, notes=every_note, top=files.top, layout=chosen)


def _wanted_layout(options: Options) -> str:
    """The layout that what the category says of its source asks for, "" where it asks for none."""
    if options.good_class:
        return "one-class"
    return "patterns" if options.good or options.defect else ""


def _limited(photographs: Sequence[Photograph], most: int) -> tuple[list[Photograph], list[str]]:
    """At most `most` photographs of each split and defect type, chosen by the hashes of their paths; and a note."""
    if not most:
        return list(photographs), []
    classes: dict[tuple[object, str], list[Photograph]] = defaultdict(list)
    for photograph in photographs:
        classes[photograph.split, photograph.defect].append(photograph)
    kept = {
        photograph.path
        for of_class in classes.values()
        for photograph in sorted(of_class, key=lambda p: hashlib.sha256(p.path.encode()).digest())[:most]
    }
    left = len(photographs) - len(kept)
    notes = [f"{counted(left, 'photograph')} left out: data.most_per_class keeps {most} of each class."] if left else []
    return [photograph for photograph in photographs if photograph.path in kept], notes


@contextmanager
def reader_errors(layout: str) -> Iterator[None]:
    """Turns whatever a reader raises into BadInput that names it; what is a sentence already stays as it is.

    A file that cannot be opened is not the reader's fault: OSError stays as well.
    """
    try:
        yield
    except (VqiError, OSError):
        raise
    except (Exception, SystemExit) as error:  # whatever a foreign reader meets
        raise BadInput(
            f"The reader of layout {layout} failed ({type(error).__name__}: {error}); mend or remove its package, or "
            "name another data.layout."
        ) from error


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


def _detected(
    files: SourceFiles, layout: str, source_notes: Sequence[str], wanted: str = ""
) -> tuple[Match, str, SourceFiles]:
    """The surest layout that fits at the top, or below the folders everything lies in. `wanted` is the layout that the
    category asks for by its settings: it is taken where no file speaks surely for another."""
    inner, refusals = files, list[BadInput]()
    while True:
        fitting = _fitting(inner, layout, refusals)
        if wanted and not (fitting and fitting[0][0].sureness > _SURE):
            # Folders that everything lies in say nothing of a class.
            deepest = inner.below_top_folder() is inner
            fitting = _fitting(inner, wanted, refusals) if deepest else []
        if fitting:
            match, name = fitting[0]
            ties = [other for other, _ in fitting if other.sureness == match.sureness]
            if len(ties) > 1:
                ways = "; ".join(f"{other} ({why.why})" for why, other in fitting[: len(ties)])
                raise BadInput(f"The source may be read in several ways: {ways}; name one of them as data.layout.")
            return match, name, inner
        deeper = inner.below_top_folder()
        if deeper is inner:
            break
        inner = deeper
    if refusals:
        raise refusals[0]
    if not files.listing.paths:
        raise BadInput(" ".join((_no_images(files.listing), *source_notes)))
    tops = inner.listing.folders()
    several = [top for top in tops if not is_role_folder(top) and _fitting(inner.below(top), AUTO, refusals)]
    if len(several) > 1:
        raise BadInput(f"The source holds several sets ({examples(several)}); give the folder of one of them.")
    if several and len(tops) > 1:
        rest = examples([top for top in tops if top != several[0]])
        raise BadInput(
            f"The source holds a set in {several[0]} and something else beside it ({rest}); give the folder "
            f"{several[0]} alone."
        )
    if layout != AUTO:
        with reader_errors(layout):
            refusal = layouts()[layout].detect(inner).why
        # That photographs without folders may be good parts is not advice to whoever named a layout.
        others = [name for match, name in _fitting(inner, AUTO, refusals) if match.sureness > FLAT]
        raise BadInput(refusal + (f" data.layout={others[0]} fits it." if others else ""))
    seen = f"its folders are {examples(tops, 5)}" if tops else f"all lie in {inner.top}"
    raise BadInput(
        "The layout of the source is not recognised: neither train/good (mvtec) nor a folder of normals "
        f"({', '.join(GOOD_FOLDERS)}) is there, {seen}. Which photographs are good? Say so by a pattern of their "
        f"paths, such as data.good={_example_pattern(tops)}, or name a data.layout."
    )


def _example_pattern(folders: Sequence[str]) -> str:
    return f"^{re.escape(folders[0])}/" if folders else "OK"


def _fitting(files: SourceFiles, layout: str, refusals: list[BadInput]) -> list[tuple[Match, str]]:
    """The layouts that recognise the files, the surest first, with why; only the one that is named, where one is.

    What readers refuse is appended to `refusals`: a damaged file of one layout may mean nothing in another. Raises
    BadInput where a reader fails.
    """
    fitting = []
    for name, reader in layouts().items():
        if layout in (AUTO, name):
            with reader_errors(name):
                try:
                    match = reader.detect(files)
                except BadInput as refusal:
                    refusals.append(refusal)
                    continue
                if match.sureness > 0 and not (layout == AUTO and match.only_by_name):
                    fitting.append((match, name))
    return sorted(fitting, key=lambda entry: -entry[0].sureness)


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

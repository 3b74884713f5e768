"""Which layout a source has, and reading it by that layout."""

from __future__ import annotations

from collections.abc import Iterable

from vqi.dataset.layouts import folders, mvtec
from vqi.dataset.layouts.listing import GOOD_FOLDERS, Listing, Reading, counted, examples
from vqi.platform.errors import BadInput, closest

LAYOUTS = ("auto", "mvtec", "folders")
_READERS = {"mvtec": mvtec, "folders": folders}


def read_layout(names: Iterable[str], layout: str, mask_suffix: str) -> Reading:
    """The photographs among the files of a source, by one of LAYOUTS. `names` are '/'-separated paths.

    A set that lies one or more folders down (an archive with a top folder) is found there; paths are given without those folders, so that
    it is the same set. Raises BadInput for an unknown layout, for no images, and where the files do not fit the layout.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"data.layout is {layout!r}.{closest(layout, list(LAYOUTS))}")
    if "/" in mask_suffix or "\\" in mask_suffix:
        raise BadInput(f"data.mask_suffix is {mask_suffix!r}; it is what follows the photograph's name in its mask's name, such as '_mask'.")
    listing = Listing.of(names)
    if not listing.paths:
        others = f" ({counted(listing.hidden + listing.foreign, 'other file')})" if listing.hidden + listing.foreign else ""
        raise BadInput(f"The source holds no images{others}; give the folder that holds train/good or good.")
    chosen, listing = _detected(listing, layout)
    reading = _READERS[chosen].read(listing, mask_suffix)
    return Reading(reading.photographs, (*reading.notes, *listing.notes()), reading.top)


def _detected(listing: Listing, layout: str) -> tuple[str, Listing]:
    """The first layout that fits at the top, or below the folders everything lies in."""
    candidates = ("mvtec", "folders") if layout == "auto" else (layout,)
    place = listing
    while True:
        for name in candidates:
            if _READERS[name].matches(place) and (place is listing or place.folders()):
                return name, place
        deeper = place.below_top_folder()
        if deeper is place:
            break
        place = deeper
    several = sorted({path.split("/")[0] for path in place.paths if mvtec.matches(Listing((path.partition("/")[2],)))})
    if several:
        raise BadInput(f"The source holds several sets ({examples(several)}); give the folder of one of them.")
    if layout != "auto":
        return layout, place
    seen = f"its folders are {examples(place.folders(), 5)}" if place.folders() else f"all lie in {place.top}"
    raise BadInput(
        f"The layout of the source cannot be told: neither train/good (mvtec) nor a folder of normals ({', '.join(GOOD_FOLDERS)}) is there, {seen}."
    )

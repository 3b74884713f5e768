"""Which mask files of a source mark anything, for layouts whose good photographs have masks too."""

from __future__ import annotations

from collections.abc import Iterable

from vqi.dataset.decoding import DEFAULT
from vqi.dataset.layouts.interface import SourceFiles
from vqi.dataset.masks import decide_meaning, decode_mask
from vqi.platform.progress import tracked


def marking_masks(files: SourceFiles, masks: Iterable[str]) -> set[str]:
    """Those of `masks` that mark a defect, by the one meaning that all of them have. Raises BadInput for one that
    cannot be decoded."""
    paths = sorted(set(masks))
    meaning, _ = decide_meaning(paths, files.read, DEFAULT.max_pixels)
    return {
        path
        for path in tracked(paths, "ingest: masks", len(paths))
        if decode_mask(files.read(path), path, meaning, DEFAULT.max_pixels).any()
    }

"""Photographs whose paths say what they show by patterns of the user: `data.good` and `data.defect`.

Both are regular expressions that are searched in the path, without regard to case. The first bracket of `data.defect`
is the type of the defect; without a bracket it is the folder. With one of the two alone, every other photograph is the
opposite; with both, what neither matches is unknown.
"""

from __future__ import annotations

import re
from dataclasses import replace

from vqi.dataset.layouts.annotations import split_in_name
from vqi.dataset.layouts.interface import LayoutReader, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.dataset.layouts.masks import assign_masks, separate_masks
from vqi.platform.errors import BadInput


class Patterns(LayoutReader):
    """Reads photographs by patterns of their paths."""

    name = "patterns"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there are photographs at all: the patterns decide, and ask for this layout by being set."""
        if files.listing.paths:
            return Match(0.2, "data.good and data.defect say what its photographs are", only_by_name=True)
        return Match(0.0, "The source has no photographs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Label every photograph by its path. Raises BadInput where a path matches both patterns, or none is good."""
        if not options.good and not options.defect:
            raise BadInput("Layout patterns needs data.good or data.defect, a regular expression of paths.")
        mask_paths, paths = separate_masks(files.listing.paths, options.mask_suffix)
        photographs = [
            by_pattern(Photograph(path, split_in_name(path), "unknown", "unknown"), options) for path in paths
        ]
        unknown = [photograph.path for photograph in photographs if photograph.label == "unknown"]
        good = sum(photograph.label == "good" for photograph in photographs)
        masked = assign_masks(mask_paths, {p.path: p.label for p in photographs}, options.mask_suffix)
        notes = [
            f"By data.good and data.defect {good} of {counted(len(paths), 'photograph')} are good and "
            f"{len(paths) - good - len(unknown)} defective."
        ]
        if unknown:
            notes.append(f"{counted(len(unknown), 'photograph')} match neither and are unknown ({examples(unknown)}).")
        return Reading(masked.attach_to(photographs), (*notes, *masked.notes))


def by_pattern(photograph: Photograph, options: Options) -> Photograph:
    """An unknown photograph with the label that the patterns give it; a known one as it is."""
    if photograph.label != "unknown" or not (options.good or options.defect):
        return photograph
    path, split = photograph.path, photograph.split
    good = re.search(options.good, path, re.IGNORECASE) if options.good else None
    defect = re.search(options.defect, path, re.IGNORECASE) if options.defect else None
    if good and defect:
        raise BadInput(f"{path} matches both data.good and data.defect; make one of them narrower.")
    if good or (not defect and not options.good):
        keep = split_in_name(path)
        return replace(photograph, split=keep, label="good", defect="good", masks=())
    if defect or not options.defect:
        kind = (defect[1] or "") if defect and defect.re.groups else parent_and_stem(path)[0].rsplit("/", 1)[-1]
        kind = "defect" if kind in ("", "good", "unknown", "train", "test") else kind
        return replace(photograph, split="validation" if split == "validation" else "test", label="defect", defect=kind)
    return replace(photograph, split="test")

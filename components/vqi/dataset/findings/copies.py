"""Copies: photographs that occur more than once, as the same bytes, as one part or nearly alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from vqi.dataset.findings.finding import Finding, count_occurring, splits_between, together
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.manifest import Sample
from vqi.dataset.near_duplicates import groups, near_duplicates, thumbnail_rows


def find_copies(samples: Sequence[Sample]) -> Iterator[Finding]:
    by_content: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_content[sample.sha256].append(sample)
    copies = [group for group in by_content.values() if len(group) > 1]
    leaked = [group for group in copies if len({sample.split for sample in group}) > 1]
    contradictory = [
        group for group in copies if len({sample.label for sample in group} - {"unknown"}) > 1 and group not in leaked
    ]
    inside = [group for group in copies if group not in leaked and group not in contradictory]
    if leaked:
        yield Finding(
            "error",
            "leakage",
            f"{count_occurring(leaked, 'image')} in more than one split ({splits_between(leaked)}): what is measured "
            "on an image "
            "that was learnt from is worth "
            "nothing; keep each in one split.",
            together(leaked),
        )
    if contradictory:
        yield Finding(
            "error",
            "contradictory-label",
            f"{count_occurring(contradictory, 'image')} both as good and as defect; keep the right one.",
            together(contradictory),
        )
    if inside:
        yield Finding(
            "warning",
            "duplicate",
            f"{count_occurring(inside, 'image')} more than once in a split: copies count twice in every metric, and "
            "once for "
            "the threshold.",
            together(inside),
        )


def find_torn_parts(samples: Sequence[Sample]) -> Iterator[Finding]:
    """Parts, by name or as near copies, that a layout's own splits tear."""
    by_group: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.group:
            by_group[sample.group].append(sample)
    torn = [group for group in by_group.values() if len({sample.split for sample in group}) > 1]
    if torn:
        what = "1 part stands" if len(torn) == 1 else f"{len(torn)} parts stand"
        yield Finding(
            "warning",
            "part-leakage",
            f"{what} in more than one split ({splits_between(torn)}) with different photographs: a part that was "
            "learnt "
            "from scores lower than a new one, "
            f"so that test figures may look too good; keep all photographs of a part in one split.{_promise(torn)}",
            together(torn),
        )


def find_near_copies(images: Sequence[tuple[Sample, ImageInspection]]) -> Iterator[Finding]:
    # What has the same bytes is reported already, and what ingest tied together is known to be torn (`_parts`).
    distinct = list({sample.sha256: (sample, image) for sample, image in reversed(images)}.values())[::-1]
    if len(distinct) < 2:
        return
    thumbnails = thumbnail_rows(
        len(distinct), lambda part: np.stack([distinct[at][1].thumbnail.reshape(-1) for at in part.tolist()])
    )
    pairs = near_duplicates(thumbnails, np.array([image.size[1] / image.size[0] for _, image in distinct]))
    alike = [[distinct[member][0] for member in group] for group in groups(pairs)]
    across = [group for group in alike if len({sample.split for sample in group}) > 1]
    inside = [group for group in alike if group not in across]
    if across:
        yield Finding(
            "warning",
            "near-leakage",
            f"{count_occurring(across, 'photograph')} again in another split, saved anew, moved a little, exposed "
            "otherwise, "
            "mirrored or turned "
            f"({splits_between(across)}): a copy, or a part that was photographed twice; test figures may look too "
            f"good.{_promise(across)}",
            together(across),
        )
    if inside:
        yield Finding(
            "warning",
            "near-duplicate",
            f"{count_occurring(inside, 'photograph')} again in the same split, saved anew, moved a little, exposed "
            "otherwise, "
            "mirrored or turned; copies add "
            f"weight, not knowledge{_counted(inside)}.",
            together(inside),
        )


def _counted(alike: Sequence[Sequence[Sample]]) -> str:
    """Whether near copies count as one part: not where data.group says otherwise, or ingest took them for like
    parts."""
    normals = [[s for s in group if s.split in ("train", "calibration")] for group in alike]
    if any(len({sample.group_key for sample in group}) > 1 for group in normals):
        return (
            ", but they count as parts of their own here: if they show one part, the threshold's false-reject rate "
            "does not hold (data.group)"
        )
    return ", and count as one part for the threshold" if any(normals) else ""


def _promise(torn: Sequence[Sequence[Sample]]) -> str:
    """What it means where one photograph of a part is learnt from and another sets the threshold."""
    splits = [{sample.split for sample in group} for group in torn]
    if any({"train", "calibration"} <= those for those in splits):
        return (
            " The threshold's false-reject rate is not guaranteed: some of what sets it was learnt from; name each "
            "part with data.group."
        )
    return ""

"""Photographs with their masks and groups become samples with splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from vqi.dataset.drawn_masks import DrawnMasks
from vqi.dataset.grouping import Grouping
from vqi.dataset.intake import Intake
from vqi.dataset.layouts.interface import Photograph
from vqi.dataset.layouts.listing import counted
from vqi.dataset.manifest import MaskFile, Sample, Split
from vqi.dataset.splits import TEST_FRACTION, held_out, held_out_by_type, plan_calibration


def split_photographs(
    photographs: Sequence[Photograph],
    intake: Intake,
    grouping: Grouping,
    calibration_fraction: float | None,
    labelled_fraction: float,
    seed: int,
    false_reject_rate: float,
    trains: bool,
) -> tuple[tuple[Sample, ...], float, tuple[str, ...]]:
    """Every photograph with its split and group, the share of normals held out for thresholds, and what was decided, in
    sentences."""
    notes = []
    keys = grouping.keys
    splits: dict[str, Split] = {photograph.path: photograph.split for photograph in photographs if photograph.split}
    unsplit = {photograph.path: keys[photograph.path] for photograph in photographs if photograph.split is None}
    if unsplit:
        test = held_out(unsplit, TEST_FRACTION, seed, "test")
        splits.update({path: "test" if path in test else "train" for path in unsplit})
        notes.append(
            f"The layout has no split of its own: {len(test)} of {counted(len(unsplit), 'normal')} are kept for test, "
            f"chosen by seed {seed}."
        )
    train = {path: keys[path] for path, split in splits.items() if split == "train"}
    plan = plan_calibration(len(set(train.values())), false_reject_rate, trains, calibration_fraction)
    calibration = held_out(train, plan.fraction, seed, "calibration")
    splits.update(dict.fromkeys(calibration, "calibration"))
    if calibration:
        notes.append(
            f"{len(calibration)} of {counted(len(train), 'training normal')} are held out for thresholds, chosen by "
            f"seed {seed}."
        )
    else:
        where = {
            "split": "train holds a fifth of them out for the threshold",
            "cross": "the threshold comes from folds of them",
        }
        rest = where.get(plan.kind, "none is held out, so that the threshold promises nothing")
        notes.append(f"All {counted(len(train), 'training normal')} stay together: {rest}.")
    # Normals that no layout split are split already: what is theirs to learn from is in train.
    tested: dict[str, dict[str, str]] = defaultdict(dict)
    for photograph in photographs:
        if photograph.split == "test" and photograph.label != "unknown":
            tested[photograph.defect][photograph.path] = keys[photograph.path]
    labelled = held_out_by_type(tested, labelled_fraction, seed, "labelled")
    splits.update(dict.fromkeys(labelled, "labelled"))
    if labelled:
        of_all = counted(sum(map(len, tested.values())), "labelled test photograph")
        notes.append(
            f"{len(labelled)} of {of_all} are learnt from and not tested on, the same share of every type, chosen by "
            f"seed {seed}."
        )
    samples = []
    for photograph in photographs:
        image = intake.stored[photograph.path]
        drawn = intake.drawn.get(photograph.path, DrawnMasks())
        masks, ignore = (
            tuple(
                MaskFile(path, intake.stored[path].sha256, intake.stored[path].extent)
                for path in items
                if isinstance(path, str)
            )
            for items in (photograph.masks, photograph.ignore)
        )
        samples.append(
            Sample(
                path=photograph.path,
                sha256=image.sha256,
                split=splits[photograph.path],
                label=photograph.label,
                defect=photograph.defect,
                width=image.width,
                height=image.height,
                image=image.extent,
                masks=masks + drawn.masks,
                group=grouping.names[photograph.path],
                ignore=ignore + drawn.ignore,
                boxes=drawn.boxes,
                metadata=photograph.metadata,
            )
        )
    return tuple(samples), plan.fraction if calibration else 0.0, tuple(notes)

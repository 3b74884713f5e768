"""Whether a Dataset is fit to learn from: findings in sentences, and the verdict.

An error stops the run: something would be learnt or measured wrongly. A warning does not: the figures mean less than
they seem to.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from vqi.dataset.check_record import (
    CheckRecord,
    ExampleRecord,
    FindingRecord,
    ReasonRecord,
    SplitRecord,
    UnusualRecord,
    first_paths,
)
from vqi.dataset.findings.alignment import find_unaligned
from vqi.dataset.findings.copies import find_copies, find_near_copies, find_torn_parts
from vqi.dataset.findings.exposure import BLANK_DEVIATION, find_blurred, find_exposed_otherwise
from vqi.dataset.findings.finding import Finding, alone, by_number, count_images, in_pixels
from vqi.dataset.findings.mask_position import find_misplaced_masks
from vqi.dataset.findings.masks import find_mask_meaning, find_mask_trouble
from vqi.dataset.findings.shift import find_shift
from vqi.dataset.geometry import Geometry
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.inspection import Inspection
from vqi.dataset.labelled import few_labelled
from vqi.dataset.manifest import SPLITS, Label, Manifest, Sample
from vqi.dataset.scaling import TRANSPARENT_GREY
from vqi.dataset.splits import CALIBRATION_FRACTION, CalibrationPlan, plan_calibration
from vqi.dataset.unusual import Unusual, most_unusual

# Two normals are the least that have a spread; with fewer than ten the spread is guesswork.
FEWEST_NORMALS, FEW_NORMALS = 2, 10
SHOWN = 10
# Errors that a sentence holds; the others are counted in it.
REASONS = 3
# Photographs with more pixels above the white level than this lose something.
_CLIPPED = 1e-3


@dataclass(frozen=True)
class Verdict:
    """The result of a check: images by split and label (`counts`), by split and defect type (`defects`), the paths
    pictured (`shown`), the `notes` of ingest, first of all what decides what is learnt, and the most `unusual` normals,
    for a person to look at."""

    name: str
    fingerprint: str
    findings: tuple[Finding, ...]
    counts: dict[str, dict[Label, int]]
    defects: dict[str, dict[str, int]]
    shown: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    unusual: tuple[Unusual, ...] = ()

    @property
    def contents(self) -> list[str]:
        """What the set holds, a line a split: "test: 5 good, 3 defect (dent 1, scratch 2)"."""
        lines = []
        for split in SPLITS:
            counts = [f"{count} {label}" for label, count in self.counts[split].items() if count]
            types = [
                f"{defect} {count}"
                for defect, count in self.defects[split].items()
                if defect not in ("good", "unknown")
            ]
            if counts:
                lines.append(f"{split}: {', '.join(counts)}" + (f" ({', '.join(types)})" if types else ""))
        return lines

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def check_pass(self) -> bool:
        return not self.errors

    @property
    def reasons(self) -> str:
        """The first errors as text; empty where the set passes."""
        more = len(self.errors) - REASONS
        return " ".join(finding.sentence for finding in self.errors[:REASONS]) + (
            f" And {more} more." if more > 0 else ""
        )

    @property
    def record(self) -> CheckRecord:
        """The verdict as its file holds it."""
        labels = {defect for by_defect in self.defects.values() for defect in by_defect} - {"unknown"}
        return CheckRecord(
            name=self.name,
            fingerprint=self.fingerprint,
            done_flag=True,
            check_pass=self.check_pass,
            error=None if self.check_pass else ReasonRecord(type=self.errors[0].code, message=self.reasons),
            notes=self.notes,
            num_classes=len(labels),
            attributes={
                split: SplitRecord(
                    samples=sum(self.counts[split].values()),
                    labels=self.counts[split],
                    defects=self.defects[split],
                    sample_paths=self.shown[split],
                )
                for split in SPLITS
            },
            findings=tuple(
                FindingRecord(
                    severity=finding.severity,
                    code=finding.code,
                    sentence=finding.sentence,
                    paths=first_paths(finding.paths),
                    count=len(finding.paths),
                    examples=tuple(ExampleRecord(path=one.path, caption=one.caption) for one in finding.examples),
                )
                for finding in self.findings
            ),
            unusual=tuple(UnusualRecord(path=one.path, deviation=one.deviation) for one in self.unusual),
        )


def chosen_samples(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Up to SHOWN paths of every split for a person to look at: from every defect type in turn, spread evenly over
    each."""
    chosen: dict[str, tuple[str, ...]] = {}
    for split in SPLITS:
        by_defect: dict[str, list[str]] = defaultdict(list)
        for sample in manifest.samples:
            if sample.split == split:
                by_defect[sample.defect].append(sample.path)
        picks: list[str] = []
        share = math.ceil(SHOWN / max(len(by_defect), 1))
        queues = [
            [paths[round(at)] for at in np.linspace(0, len(paths) - 1, min(share, len(paths)))]
            for _, paths in sorted(by_defect.items())
        ]
        for turn in range(share):
            picks += [queue[turn] for queue in queues if turn < len(queue)]
        chosen[split] = tuple(picks[:SHOWN])
    return chosen


def judge(
    manifest: Manifest,
    inspections: Sequence[Inspection],
    geometry: Geometry,
    false_reject_rate: float,
    trains: bool = False,
    calibration_fraction: float | None = None,
) -> Verdict:
    """The verdict on a Dataset from one inspection of every sample; `false_reject_rate` lies in (0, 1).

    Whether the method `trains` and the `calibration_fraction` that was asked for say where its threshold comes from
    (`plan_calibration`).
    """
    images = [(inspection.sample, inspection.image) for inspection in inspections if inspection.image]
    findings = [
        *_unreadable(inspections),
        *_splits(manifest, images),
        *_threshold(manifest, images, false_reject_rate, trains, calibration_fraction),
        *_labelled(manifest, images),
        *find_copies(manifest.samples),
        *find_torn_parts(manifest.samples),
        *find_near_copies(images),
        *find_mask_trouble(manifest, inspections, geometry),
        *find_mask_meaning(manifest, inspections),
        *find_misplaced_masks(inspections, geometry),
        *find_unaligned(manifest),
        *_geometry(images, geometry),
        *_likeness(manifest, images),
        *find_blurred(images),
        *find_exposed_otherwise(images),
        *find_shift(images),
    ]
    counts: dict[str, dict[Label, int]] = {split: dict.fromkeys(get_args(Label), 0) for split in SPLITS}
    defects: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for sample in manifest.samples:
        counts[sample.split][sample.label] += 1
        defects[sample.split][sample.defect] += 1
    ordered = sorted(findings, key=lambda finding: finding.severity != "error")
    by_split: dict[str, dict[str, int]] = {split: dict(sorted(defects[split].items())) for split in SPLITS}
    return Verdict(
        manifest.name,
        manifest.fingerprint,
        tuple(ordered),
        counts,
        by_split,
        chosen_samples(manifest),
        manifest.notes,
        most_unusual(images, geometry),
    )


def _unreadable(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    bad = [inspection for inspection in inspections if inspection.problem]
    if bad:
        sentence = bad[0].problem or ""
        sentence = sentence if len(bad) == 1 else f"{len(bad)} images cannot be used; the first: {sentence}"
        yield Finding("error", "unreadable-image", sentence, alone(inspection.sample for inspection in bad))


def _splits(manifest: Manifest, images: Sequence[tuple[Sample, ImageInspection]]) -> Iterator[Finding]:
    usable: Counter[tuple[str, str]] = Counter((sample.split, sample.label) for sample, _ in images)
    normals = usable["train", "good"]
    if normals < FEWEST_NORMALS:
        held = "is empty: it has no readable normal image" if normals == 0 else "holds a single readable normal image"
        yield Finding(
            "error",
            "empty-train",
            f"The train split {held}; give at least {FEWEST_NORMALS} images of good parts, better {FEW_NORMALS}.",
        )
    elif normals < FEW_NORMALS:
        yield Finding(
            "warning",
            "few-normals",
            f"Only {normals} normal images to learn from; with fewer than {FEW_NORMALS} what is normal is guesswork.",
        )
    intruders = [
        sample for sample in manifest.samples if sample.split in ("train", "calibration") and sample.label != "good"
    ]
    if intruders:
        yield Finding(
            "error",
            "defect-in-train",
            f"{count_images(intruders)} in the train or calibration split {by_number(intruders, 'is', 'are')} not "
            "labelled good; they belong to test.",
            alone(intruders),
        )
    if not any(split == "test" for split, _ in usable):
        yield Finding(
            "error",
            "empty-test",
            "The test split is empty, so nothing can be measured; add test images, or give one plain folder of "
            "normals (some are kept for test).",
        )
    else:
        for label, what in (
            ("good", "no false rejects can be counted"),
            ("defect", "how well defects are found cannot be measured"),
        ):
            if not usable["test", label]:
                yield Finding("warning", f"no-{label}-test", f"The test split has no {label} image: {what}.")
    unknown = [
        sample for sample in manifest.samples if sample.split in ("validation", "test") and sample.label == "unknown"
    ]
    if unknown:
        yield Finding(
            "warning",
            "unknown-label",
            f"{count_images(unknown)} without a label: scored, but left out of every metric.",
            alone(unknown),
        )


def _threshold(
    manifest: Manifest,
    images: Sequence[tuple[Sample, ImageInspection]],
    false_reject_rate: float,
    trains: bool,
    calibration_fraction: float | None,
) -> Iterator[Finding]:
    """Whether there are normals enough for the false-reject rate that was asked for, counted in parts."""
    normals = [sample for sample, _ in images if sample.label == "good" and sample.split in ("train", "calibration")]
    parts = {sample.group_key for sample in normals}
    if not parts:
        return
    held_out = {sample.group_key for sample in normals if sample.split == "calibration"}
    plan = plan_calibration(len(parts), false_reject_rate, trains, calibration_fraction)
    if held_out:
        scores = len(held_out)
        plan = replace(plan, kind="split", scores=scores, smallest_rate=1 / (scores + 1))
    if plan.smallest_rate is None:
        yield Finding(
            "warning",
            "seen-threshold",
            "No normal is held out (data.calibration_fraction=0) and the method trains on all of them, so its "
            "threshold promises no false-reject "
            f"rate; leave data.calibration_fraction at auto, which holds out {CALIBRATION_FRACTION:.0%}.",
        )
    elif false_reject_rate < plan.smallest_rate:
        yield Finding(
            "warning",
            "few-for-threshold",
            f"A false-reject rate of {false_reject_rate:.2%} was asked for, but "
            f"{_source(plan, len(parts), len(normals))} allow "
            f"{plan.smallest_rate:.2%} at the least, which is used instead; {plan.normals_needed} normal "
            f"{_noun(len(parts), len(normals)).partition(' (')[0]} in all are needed for what was asked.",
        )


def _source(plan: CalibrationPlan, parts: int, normals: int) -> str:
    """Where the scores that a threshold is taken from come from."""
    what = _noun(parts, normals)
    if plan.kind == "split":
        return f"the {plan.scores} of {parts} normal {what} that are held out for the threshold"
    return f"{parts} normal {what} for the threshold"


def _noun(parts: int, normals: int) -> str:
    """What counts: images, or parts where several images show one."""
    return "images" if parts == normals else "parts (several images of one count once)"


def _labelled(manifest: Manifest, images: Sequence[tuple[Sample, ImageInspection]]) -> Iterator[Finding]:
    """Whether there is enough to learn from for a supervised method, where the set was split for one."""
    if manifest.labelled_fraction and not any(
        sample.split == "labelled" and sample.label == "defect" for sample, _ in images
    ):
        yield Finding(
            "error",
            "no-labelled-defect",
            "There is no labelled defect to learn from: a supervised method needs at least 2 test photographs of a "
            "defect type, one of them to learn "
            "from and one to test on.",
        )
    elif few := few_labelled(manifest):
        yield Finding("warning", "few-labelled", " ".join(few))
    unknown = [sample for sample in manifest.samples if sample.split == "labelled" and sample.label == "unknown"]
    if unknown:
        yield Finding(
            "error",
            "unknown-labelled",
            f"{count_images(unknown)} in the labelled split without a label; label them good or defect.",
            alone(unknown),
        )


def _geometry(images: Sequence[tuple[Sample, ImageInspection]], geometry: Geometry) -> Iterator[Finding]:
    outside = [(sample, image) for sample, image in images if not image.holds(geometry)]
    if outside:
        samples = [sample for sample, _ in outside]
        yield Finding(
            "error",
            "region-outside",
            f"{' or '.join(key for key in ('image.region', 'image.area') if getattr(geometry, key[6:]))} reaches to "
            f"{geometry.reach[0]:g}, {geometry.reach[1]:g}, outside {count_images(samples)} (the first has "
            f"{in_pixels(outside[0][1].size)} pixels); make it smaller or leave these images out.",
            alone(samples),
        )
    seen = geometry.region and (geometry.region[3] - geometry.region[1], geometry.region[2] - geometry.region[0])
    small = [
        sample
        for sample, image in images
        if (seen or image.size)[0] < geometry.size[0] or (seen or image.size)[1] < geometry.size[1]
    ]
    if small:
        yield Finding(
            "warning",
            "enlarged",
            f"{count_images(small)} {by_number(small, 'is', 'are')} smaller than the {in_pixels(geometry.size)} "
            "pixels of "
            "image.size: "
            "enlarging adds cost, not detail.",
            alone(small),
        )


def _likeness(manifest: Manifest, images: Sequence[tuple[Sample, ImageInspection]]) -> Iterator[Finding]:
    if not images:
        return
    sizes = Counter(image.size for _, image in images)
    if len(sizes) > 1:
        usual, count = sizes.most_common(1)[0]
        odd = [sample for sample, image in images if image.size != usual]
        aspects = [width / height for height, width in sizes]
        stretched = (
            " Their shapes differ too, so that resizing distorts each in its own way."
            if max(aspects) > 1.03 * min(aspects)
            else ""
        )
        if 2 * count >= len(images):
            sentence = (
                f"{count_images(odd)} {by_number(odd, 'is', 'are')} not of the usual {in_pixels(usual)} pixels "
                f"({len(sizes)} sizes in all)."
            )
        else:
            smallest, largest = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
            sentence = (
                f"The images come in {len(sizes)} sizes, from {in_pixels(smallest)} to {in_pixels(largest)} pixels."
            )
            odd = []
        yield Finding("warning", "mixed-sizes", sentence + stretched, alone(odd))
    grey = [sample for sample, image in images if image.grey]
    colour = [sample for sample, image in images if not image.grey]
    if grey and colour:
        fewer = min(grey, colour, key=len)
        yield Finding(
            "warning",
            "mixed-channels",
            f"{len(grey)} images are stored grey and {len(colour)} in colour; a camera's mode that differs between "
            "splits is learnt as a defect.",
            alone(fewer),
        )
    turned = [sample for sample, image in images if image.orientation != 1]
    if turned:
        masks = " Masks must be drawn on the turned image." if any(sample.masks for sample in turned) else ""
        yield Finding(
            "warning",
            "turned",
            f"{count_images(turned)} {by_number(turned, 'is', 'are')} turned by {by_number(turned, 'its', 'their')} "
            "EXIF "
            f"orientation before use.{masks}",
            alone(turned),
        )
    several = [(sample, image) for sample, image in images if image.pages > 1]
    if several:
        samples = [sample for sample, _ in several]
        yield Finding(
            "warning",
            "more-pages",
            f"{count_images(samples)} {by_number(samples, 'holds', 'hold')} more than one page (the first "
            f"{several[0][1].pages}): only page {manifest.decoding.page} is read (image.page); save each page "
            "as a file of its own where each is a photograph.",
            alone(samples),
        )
    transparent = [(sample, image.transparent) for sample, image in images if image.transparent]
    if transparent:
        samples, share = [sample for sample, _ in transparent], np.mean([share for _, share in transparent])
        yield Finding(
            "warning",
            "transparent",
            f"{count_images(samples)} {by_number(samples, 'has', 'have')} transparent pixels ({share:.1%} of all): "
            "they "
            "become grey "
            f"{TRANSPARENT_GREY}, in training as in prediction, whatever lies under them.",
            alone(samples),
        )
    clipped = [(sample, image.clipped) for sample, image in images if image.clipped > _CLIPPED]
    if clipped:
        samples, share = [sample for sample, _ in clipped], np.mean([share for _, share in clipped])
        decoding = manifest.decoding
        beyond, remedy = f"above the white level, {decoding.white_level}", "image.white_level to the value of white"
        if decoding.float_white is not None:
            beyond = f"outside of the range {decoding.float_black:g} to {decoding.float_white:g}"
            remedy = "image.range to the values of black and white"
        yield Finding(
            "warning",
            "clipped-white",
            f"{count_images(samples)} {by_number(samples, 'has', 'have')} values {beyond} ({share:.1%} of the pixels), "
            f"which are cut off; set {remedy}.",
            alone(samples),
        )
    blank = [sample for sample, image in images if image.thumbnail.std() < BLANK_DEVIATION]
    if blank:
        yield Finding(
            "warning",
            "blank",
            f"{count_images(blank)} of nearly one colour: a covered lens or a light that was off?",
            alone(blank),
        )

"""Whether a Dataset is fit to learn from: findings in sentences, and the verdict.

An error stops the run: something would be learnt or measured wrongly. A warning does not: the figures mean less than
they seem to.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from vqi.dataset.check_record import CheckRecord, FindingRecord, ReasonRecord, Severity, SplitRecord
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import ImageInspection, Inspection
from vqi.dataset.labelled import few_labelled
from vqi.dataset.manifest import SPLITS, Label, Manifest, Sample, Split
from vqi.dataset.masks import background_name
from vqi.dataset.near_duplicates import groups, near_duplicates
from vqi.dataset.scaling import TRANSPARENT_GREY
from vqi.dataset.splits import CALIBRATION_FRACTION, CalibrationPlan, plan_calibration
from vqi.dataset.unusual import Unusual, most_unusual

# Two normals are the least that have a spread; with fewer than ten the spread is guesswork.
FEWEST_NORMALS, FEW_NORMALS = 2, 10
SHOWN = 10
# Errors that a sentence holds; the others are counted in it.
REASONS = 3
_BLANK_DEVIATION = 1.5
# A mask whose marks take this share of the edges is drawn the other way round, where so large a share of a set's masks
# are.
_REACHES_EVERY_EDGE, _MIXED_MASKS = 0.95, 0.2
# Photographs with more pixels above the white level than this lose something.
_CLIPPED = 1e-3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `paths` holds the files it is about: a tuple each, of one file or of several that belong
    together."""

    severity: Severity
    code: str
    sentence: str
    paths: tuple[tuple[str, ...], ...] = ()


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
                    severity=finding.severity, code=finding.code, sentence=finding.sentence, paths=finding.paths
                )
                for finding in self.findings
            ),
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
        *_copies(manifest.samples),
        *_parts(manifest.samples),
        *_near_copies(images),
        *_masks(manifest, inspections, geometry),
        *_meaning(manifest, inspections),
        *_alignment(manifest),
        *_geometry(images, geometry),
        *_likeness(manifest, images),
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
        yield Finding("error", "unreadable-image", sentence, _alone(inspection.sample for inspection in bad))


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
            f"{_images(intruders)} in the train or calibration split {_by_number(intruders, 'is', 'are')} not "
            "labelled good; they belong to test.",
            _alone(intruders),
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
            f"{_images(unknown)} without a label: scored, but left out of every metric.",
            _alone(unknown),
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
            f"{_images(unknown)} in the labelled split without a label; label them good or defect.",
            _alone(unknown),
        )


def _copies(samples: Sequence[Sample]) -> Iterator[Finding]:
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
            f"{_occur(leaked, 'image')} in more than one split ({_between(leaked)}): what is measured on an image "
            "that was learnt from is worth "
            "nothing; keep each in one split.",
            _together(leaked),
        )
    if contradictory:
        yield Finding(
            "error",
            "contradictory-label",
            f"{_occur(contradictory, 'image')} both as good and as defect; keep the right one.",
            _together(contradictory),
        )
    if inside:
        yield Finding(
            "warning",
            "duplicate",
            f"{_occur(inside, 'image')} more than once in a split: copies count twice in every metric, and once for "
            "the threshold.",
            _together(inside),
        )


def _parts(samples: Sequence[Sample]) -> Iterator[Finding]:
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
            f"{what} in more than one split ({_between(torn)}) with different photographs: a part that was learnt "
            "from scores lower than a new one, "
            f"so that test figures may look too good; keep all photographs of a part in one split.{_promise(torn)}",
            _together(torn),
        )


def _near_copies(images: Sequence[tuple[Sample, ImageInspection]]) -> Iterator[Finding]:
    # What has the same bytes is reported already, and what ingest tied together is known to be torn (`_parts`).
    distinct = list({sample.sha256: (sample, image) for sample, image in reversed(images)}.values())[::-1]
    if len(distinct) < 2:
        return
    thumbnails = np.stack([image.thumbnail for _, image in distinct])
    pairs = near_duplicates(thumbnails, np.array([image.size[1] / image.size[0] for _, image in distinct]))
    alike = [[distinct[member][0] for member in group] for group in groups(pairs)]
    across = [group for group in alike if len({sample.split for sample in group}) > 1]
    inside = [group for group in alike if group not in across]
    if across:
        yield Finding(
            "warning",
            "near-leakage",
            f"{_occur(across, 'photograph')} again in another split, saved anew, moved a little, exposed otherwise, "
            "mirrored or turned "
            f"({_between(across)}): a copy, or a part that was photographed twice; test figures may look too "
            f"good.{_promise(across)}",
            _together(across),
        )
    if inside:
        yield Finding(
            "warning",
            "near-duplicate",
            f"{_occur(inside, 'photograph')} again in the same split, saved anew, moved a little, exposed otherwise, "
            "mirrored or turned; copies add "
            f"weight, not knowledge{_counted(inside)}.",
            _together(inside),
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


def _masks(manifest: Manifest, inspections: Sequence[Inspection], geometry: Geometry) -> Iterator[Finding]:
    masked = [
        (inspection.sample, inspection.mask, inspection.image)
        for inspection in inspections
        if inspection.mask and inspection.image
    ]
    unreadable = [(sample, mask) for sample, mask, _ in masked if mask.problem]
    if unreadable:
        more = f" ({len(unreadable)} masks in all)" if len(unreadable) > 1 else ""
        yield Finding(
            "error",
            "unreadable-mask",
            f"{unreadable[0][1].problem}{more}",
            _masks_of(sample for sample, _ in unreadable),
        )
    readable = [entry for entry in masked if not entry[1].problem]
    other = [(sample, mask, image) for sample, mask, image in readable if mask.size != image.size]
    if other:
        sample, mask, image = other[0]
        more = f" ({len(other)} masks in all)" if len(other) > 1 else ""
        turned = sum(image.orientation != 1 and mask.size == image.size[::-1] for _, mask, image in other)
        why = (
            f" {turned} of these images {'is' if turned == 1 else 'are'} turned by EXIF orientation before use: turn "
            "their masks too."
            if turned
            else ""
        )
        yield Finding(
            "error",
            "mask-size",
            f"The mask {sample.masks[0].path} has {_pixels(mask.size)} pixels, its image {_pixels(image.size)}{more}; "
            f"save masks at the images' size.{why}",
            _masks_of(sample for sample, _, _ in other),
        )
    fitting = [(sample, mask, image) for sample, mask, image in readable if mask.size == image.size]
    empty = [(sample, mask) for sample, mask, _ in fitting if sample.label == "defect" and not mask.pixels]
    if empty:
        samples, values = [sample for sample, _ in empty], [mask.values for _, mask in empty]
        yield Finding(
            "error",
            "empty-mask",
            f"{_images(samples)} labelled defect {_by_number(samples, 'has', 'have')} a mask that marks no pixel "
            f"(values: {_first_few(values)}; "
            f"background is {background_name(manifest.mask_meaning)}); draw the defect or drop the mask.",
            _masks_of(samples),
        )
    good = [sample for sample, mask, _ in fitting if sample.label == "good" and mask.pixels]
    if good:
        yield Finding(
            "error",
            "mask-on-good",
            f"{_images(good)} labelled good {_by_number(good, 'has', 'have')} a mask that marks a defect; correct the "
            "label or the mask.",
            _masks_of(good),
        )
    missing = [o.sample for o in inspections if o.sample.label == "defect" and not o.sample.masks]
    if missing:
        defects = sum(inspection.sample.label == "defect" for inspection in inspections)
        which = (
            f"None of the {defects} defect images has"
            if len(missing) == defects
            else f"{len(missing)} of {defects} defect images have"
        )
        what = "no pixel metric can be computed" if len(missing) == defects else "pixel metrics leave them out"
        yield Finding(
            "warning",
            "mask-missing",
            f"{which} {'a' if len(missing) == defects else 'no'} mask: {what}.",
            _alone(missing),
        )
    visible = [(sample, mask) for sample, mask, image in fitting if mask.pixels and image.holds(geometry)]
    lost = [(sample, 1 - mask.pixels_seen / mask.pixels) for sample, mask in visible if mask.pixels_seen < mask.pixels]
    if lost:
        whole = sum(share == 1 for _, share in lost)
        samples = [sample for sample, _ in lost]
        yield Finding(
            "warning",
            "defect-outside",
            f"{_images(samples)} {_by_number(samples, 'has', 'have')} defect pixels outside what the network sees "
            "(image.crop, image.region): "
            f"{np.mean([share for _, share in lost]):.0%} of the defect is lost on average"
            + (f", all of it in {whole}." if whole else "."),
            _alone(samples),
        )
    vanished = [sample for sample, mask in visible if mask.pixels_seen and not mask.pixels_at_input]
    if vanished:
        yield Finding(
            "warning",
            "defect-vanishes",
            f"{_images(vanished)} {_by_number(vanished, 'has', 'have')} a defect that vanishes at the "
            f"{_pixels(geometry.map_size)} pixels the "
            "network sees; use a larger image.size.",
            _alone(vanished),
        )


def _meaning(manifest: Manifest, inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Whether the set's masks can mean what was decided for them."""
    meaning = manifest.mask_meaning
    if meaning.problem:
        yield Finding(
            "error", "mask-meaning", meaning.problem, _masks_of(sample for sample in manifest.samples if sample.masks)
        )
        return
    masked = [
        (o.sample, o.mask)
        for o in inspections
        if o.image and o.mask and not o.mask.problem and o.mask.size == o.image.size
    ]
    most = [(sample, mask) for sample, mask in masked if mask.share > 0.5]
    if not most:
        return
    samples, values = [sample for sample, _ in most], _first_few(mask.values for _, mask in most)
    background = background_name(meaning)
    # In an inverted mask the defect is what does not reach the edges.
    inverted = [sample for sample, mask in most if mask.share < 1 and mask.border > _REACHES_EVERY_EDGE]
    if len(masked) > len(inverted) >= max(2, _MIXED_MASKS * len(masked)):
        yield Finding(
            "error",
            "mask-conventions",
            f"The masks do not agree on what is background: it is {background} in {len(masked) - len(inverted)} of "
            f"them, and in {len(inverted)} that "
            f"value is an island in what would be defect (values: {values}); draw all masks in one way.",
            _masks_of(inverted),
        )
        return
    half = f", {len(most)} of {len(masked)} masks," if 2 * len(most) >= len(masked) > 1 else ""
    yield Finding(
        "warning",
        "mask-covers-most",
        f"{_images(samples)}{half} {_by_number(samples, 'has', 'have')} a mask that marks more than half of the "
        "photograph (the first "
        f"{most[0][1].share:.0%}; values: {values}; background is {background}): inverted?",
        _masks_of(samples),
    )


def _alignment(manifest: Manifest) -> Iterator[Finding]:
    failed = [s for s in manifest.samples if s.alignment is not None and s.alignment.matrix is None]
    if failed and manifest.reference:
        good = [sample for sample in failed if sample.label == "good"]
        first = failed[0].alignment
        yield Finding(
            "warning",
            "not-aligned",
            f"{_images(failed)} ({len(good)} of them good) could not be aligned to {manifest.reference.path} and "
            f"{_by_number(failed, 'is', 'are')} used as {_by_number(failed, 'it lies', 'they lie')} (the first: "
            f"{first.reason if first else ''}); name a better reference in image.align, or raise image.align_limit.",
            _alone(failed),
        )


def _geometry(images: Sequence[tuple[Sample, ImageInspection]], geometry: Geometry) -> Iterator[Finding]:
    outside = [(sample, image) for sample, image in images if not image.holds(geometry)]
    if outside:
        samples = [sample for sample, _ in outside]
        yield Finding(
            "error",
            "region-outside",
            f"{' or '.join(key for key in ('image.region', 'image.area') if getattr(geometry, key[6:]))} reaches to "
            f"{geometry.reach[0]:g}, {geometry.reach[1]:g}, outside {_images(samples)} (the first has "
            f"{_pixels(outside[0][1].size)} pixels); make it smaller or leave these images out.",
            _alone(samples),
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
            f"{_images(small)} {_by_number(small, 'is', 'are')} smaller than the {_pixels(geometry.size)} pixels of "
            "image.size: "
            "enlarging adds cost, not detail.",
            _alone(small),
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
                f"{_images(odd)} {_by_number(odd, 'is', 'are')} not of the usual {_pixels(usual)} pixels "
                f"({len(sizes)} sizes in all)."
            )
        else:
            smallest, largest = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
            sentence = f"The images come in {len(sizes)} sizes, from {_pixels(smallest)} to {_pixels(largest)} pixels."
            odd = []
        yield Finding("warning", "mixed-sizes", sentence + stretched, _alone(odd))
    grey = [sample for sample, image in images if image.grey]
    colour = [sample for sample, image in images if not image.grey]
    if grey and colour:
        fewer = min(grey, colour, key=len)
        yield Finding(
            "warning",
            "mixed-channels",
            f"{len(grey)} images are stored grey and {len(colour)} in colour; a camera's mode that differs between "
            "splits is learnt as a defect.",
            _alone(fewer),
        )
    turned = [sample for sample, image in images if image.orientation != 1]
    if turned:
        masks = " Masks must be drawn on the turned image." if any(sample.masks for sample in turned) else ""
        yield Finding(
            "warning",
            "turned",
            f"{_images(turned)} {_by_number(turned, 'is', 'are')} turned by {_by_number(turned, 'its', 'their')} EXIF "
            f"orientation before use.{masks}",
            _alone(turned),
        )
    several = [(sample, image) for sample, image in images if image.pages > 1]
    if several:
        samples = [sample for sample, _ in several]
        yield Finding(
            "warning",
            "more-pages",
            f"{_images(samples)} {_by_number(samples, 'holds', 'hold')} more than one page (the first "
            f"{several[0][1].pages}): only page {manifest.decoding.page} is read (image.page); save each page "
            "as a file of its own where each is a photograph.",
            _alone(samples),
        )
    transparent = [(sample, image.transparent) for sample, image in images if image.transparent]
    if transparent:
        samples, share = [sample for sample, _ in transparent], np.mean([share for _, share in transparent])
        yield Finding(
            "warning",
            "transparent",
            f"{_images(samples)} {_by_number(samples, 'has', 'have')} transparent pixels ({share:.1%} of all): they "
            "become grey "
            f"{TRANSPARENT_GREY}, in training as in prediction, whatever lies under them.",
            _alone(samples),
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
            f"{_images(samples)} {_by_number(samples, 'has', 'have')} values {beyond} ({share:.1%} of the pixels), "
            f"which are cut off; set {remedy}.",
            _alone(samples),
        )
    blank = [sample for sample, image in images if image.thumbnail.std() < _BLANK_DEVIATION]
    if blank:
        yield Finding(
            "warning",
            "blank",
            f"{_images(blank)} of nearly one colour: a covered lens or a light that was off?",
            _alone(blank),
        )


def _first_few(values: Iterable[str]) -> str:
    """The different texts in order, at most three of them."""
    different = list(dict.fromkeys(values))
    return "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")


def _alone(samples: Iterable[Sample]) -> tuple[tuple[str, ...], ...]:
    return tuple((sample.path,) for sample in samples)


def _masks_of(samples: Iterable[Sample]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(mask.path for mask in sample.masks) or (sample.path,) for sample in samples)


def _together(sample_groups: Sequence[Sequence[Sample]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sample.path for sample in group) for group in sample_groups)


def _between(sample_groups: Sequence[Sequence[Sample]]) -> str:
    """Which splits share images, in the order of a run."""
    shared: set[Split] = {sample.split for group in sample_groups for sample in group}
    return " and ".join(split for split in SPLITS if split in shared)


def _images(samples: Sequence[Sample]) -> str:
    return "1 image" if len(samples) == 1 else f"{len(samples)} images"


def _occur(items: Sequence[object], what: str) -> str:
    return f"1 {what} occurs" if len(items) == 1 else f"{len(items)} {what}s occur"


def _by_number(samples: Sequence[Sample], one: str, many: str) -> str:
    return one if len(samples) == 1 else many


def _pixels(size: tuple[int, int]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{size[1]} x {size[0]}"

"""Masks: whether they can be read, fit their photographs, and mean what was decided for the set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vqi.dataset.findings.finding import Finding, alone, by_number, count_images, first_few, in_pixels, masks_of
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import Inspection
from vqi.dataset.manifest import Manifest
from vqi.dataset.masks import background_name

# A mask whose marks take this share of the edges is drawn the other way round, where so large a share of a set's masks
# are.
_REACHES_EVERY_EDGE, _MIXED_MASKS = 0.95, 0.2


def find_mask_trouble(manifest: Manifest, inspections: Sequence[Inspection], geometry: Geometry) -> Iterator[Finding]:
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
            masks_of(sample for sample, _ in unreadable),
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
            f"The mask {sample.masks[0].path} has {in_pixels(mask.size)} pixels, its image "
            f"{in_pixels(image.size)}{more}; "
            f"save masks at the images' size.{why}",
            masks_of(sample for sample, _, _ in other),
        )
    fitting = [(sample, mask, image) for sample, mask, image in readable if mask.size == image.size]
    empty = [(sample, mask) for sample, mask, _ in fitting if sample.label == "defect" and not mask.pixels]
    if empty:
        samples, values = [sample for sample, _ in empty], [mask.values for _, mask in empty]
        yield Finding(
            "error",
            "empty-mask",
            f"{count_images(samples)} labelled defect {by_number(samples, 'has', 'have')} a mask that marks no pixel "
            f"(values: {first_few(values)}; "
            f"background is {background_name(manifest.mask_meaning)}); draw the defect or drop the mask.",
            masks_of(samples),
        )
    good = [sample for sample, mask, _ in fitting if sample.label == "good" and mask.pixels]
    if good:
        yield Finding(
            "error",
            "mask-on-good",
            f"{count_images(good)} labelled good {by_number(good, 'has', 'have')} a mask that marks a defect; correct "
            "the "
            "label or the mask.",
            masks_of(good),
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
            alone(missing),
        )
    visible = [(sample, mask) for sample, mask, image in fitting if mask.pixels and image.holds(geometry)]
    lost = [(sample, 1 - mask.pixels_seen / mask.pixels) for sample, mask in visible if mask.pixels_seen < mask.pixels]
    if lost:
        whole = sum(share == 1 for _, share in lost)
        samples = [sample for sample, _ in lost]
        yield Finding(
            "warning",
            "defect-outside",
            f"{count_images(samples)} {by_number(samples, 'has', 'have')} defect pixels outside what the network sees "
            "(image.crop, image.region): "
            f"{np.mean([share for _, share in lost]):.0%} of the defect is lost on average"
            + (f", all of it in {whole}." if whole else "."),
            alone(samples),
        )
    vanished = [sample for sample, mask in visible if mask.pixels_seen and not mask.pixels_at_input]
    if vanished:
        yield Finding(
            "warning",
            "defect-vanishes",
            f"{count_images(vanished)} {by_number(vanished, 'has', 'have')} a defect that vanishes at the "
            f"{in_pixels(geometry.map_size)} pixels the "
            "network sees; use a larger image.size.",
            alone(vanished),
        )


def find_mask_meaning(manifest: Manifest, inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Whether the set's masks can mean what was decided for them."""
    meaning = manifest.mask_meaning
    if meaning.problem:
        yield Finding(
            "error", "mask-meaning", meaning.problem, masks_of(sample for sample in manifest.samples if sample.masks)
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
    samples, values = [sample for sample, _ in most], first_few(mask.values for _, mask in most)
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
            masks_of(inverted),
        )
        return
    half = f", {len(most)} of {len(masked)} masks," if 2 * len(most) >= len(masked) > 1 else ""
    yield Finding(
        "warning",
        "mask-covers-most",
        f"{count_images(samples)}{half} {by_number(samples, 'has', 'have')} a mask that marks more than half of the "
        "photograph (the first "
        f"{most[0][1].share:.0%}; values: {values}; background is {background}): inverted?",
        masks_of(samples),
    )

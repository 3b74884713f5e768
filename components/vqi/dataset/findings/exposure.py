"""Photographs that were taken otherwise than the rest of their set: out of focus, too bright, too dark.

A figure counts where it lies apart from the set's median by a step that a person sees, and by several times the spread
of the middle half of the set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vqi.dataset.capture import Capture
from vqi.dataset.findings.finding import Example, Finding, alone, by_number, count_images
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.manifest import Sample

# Fewer photographs have no rest that one could differ from.
FEWEST = 10
# Deviations (1.4826 times the median absolute deviation), octaves of sharpness, share of the pixels.
DEVIATIONS, OCTAVES, SHARE = 6.0, 0.8, 0.05
# Sharpness is compared among photographs whose sides differ from the median side by no more than this factor.
SIDES = 1.5
# Below this deviation of the grey levels a photograph shows nothing.
BLANK_DEVIATION = 1.5
# The brightest tenth, or the darkest, of a set: what is clipped lies in it.
_TENTH = 0.1
_PICTURED = 6

Images = Sequence[tuple[Sample, ImageInspection]]


def find_blurred(images: Images) -> Iterator[Finding]:
    """Photographs with much less fine structure than the rest, at their brightness. A blank one has a finding of its
    own."""
    shown = [one for one in images if one[1].thumbnail.std() >= BLANK_DEVIATION]
    if len(shown) < FEWEST:
        return
    sides = np.array([math.sqrt(image.size[0] * image.size[1]) for _, image in shown])
    alike = np.abs(np.log(sides / np.median(sides))) <= math.log(SIDES)
    values = np.array([image.capture.sharpness for _, image in shown])
    if np.count_nonzero(alike) < FEWEST:
        return
    middle, spread = _middle_and_spread(values[alike])
    chosen = np.flatnonzero(alike & (values < middle - max(OCTAVES, DEVIATIONS * spread)))
    if not len(chosen):
        return
    chosen = chosen[np.argsort(values[chosen], kind="stable")]
    samples = [shown[number][0] for number in chosen.tolist()]
    shares = [2.0 ** (values[number] - middle) for number in chosen.tolist()]
    yield Finding(
        "warning",
        "blurred",
        f"{count_images(samples)} {by_number(samples, 'is', 'are')} much less sharp than the rest (the least sharp "
        f"{by_number(samples, 'has', 'of them has')} {shares[0]:.0%} of the usual sharpness): out of focus, moved, or "
        "a "
        "dirty lens?",
        alone(samples),
        tuple(
            Example(sample.path, f"{share:.0%} of the usual sharpness")
            for sample, share in zip(samples[:_PICTURED], shares, strict=False)
        ),
    )


def find_exposed_otherwise(images: Images) -> Iterator[Finding]:
    """Photographs that are clipped where the rest is not: at white among the brightest, at black among the darkest."""
    if len(images) < FEWEST:
        return
    brightness = np.array([image.capture.brightness for _, image in images])
    yield from _clipped(
        images, lambda capture: capture.white, brightness > np.quantile(brightness, 1 - _TENTH), "white", "over-exposed"
    )
    yield from _clipped(
        images, lambda capture: capture.black, brightness < np.quantile(brightness, _TENTH), "black", "under-exposed"
    )


def _clipped(
    images: Images, share_of: Callable[[Capture], float], extreme: np.ndarray, end: str, code: str
) -> Iterator[Finding]:
    shares = np.array([share_of(image.capture) for _, image in images])
    middle, spread = _middle_and_spread(shares)
    chosen = np.flatnonzero(extreme & (shares > middle + max(SHARE, DEVIATIONS * spread)))
    if not len(chosen):
        return
    chosen = chosen[np.argsort(-shares[chosen], kind="stable")]
    samples = [images[number][0] for number in chosen.tolist()]
    yield Finding(
        "warning",
        code,
        f"{count_images(samples)} {by_number(samples, 'is', 'are')} {code} (up to {shares[chosen[0]]:.0%} of the "
        "pixels "
        f"are {end}, {middle:.1%} in the median photograph): what is clipped shows no defect.",
        alone(samples),
        tuple(
            Example(images[number][0].path, f"{shares[number]:.0%} of the pixels are {end}")
            for number in chosen[:_PICTURED].tolist()
        ),
    )


def _middle_and_spread(values: np.ndarray) -> tuple[float, float]:
    """The median, and 1.4826 times the median absolute deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))

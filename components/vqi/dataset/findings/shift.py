"""Whether the test split's normals were taken with another camera or in another light than those learnt from.

Ranks are compared (H. B. Mann, D. R. Whitney, Ann. Math. Statist. 18, 1947) over permutations of the parts, and the
largest of all figures' at once, so that many figures raise no more false alarms than one (P. H. Westfall, S. S. Young,
"Resampling-based multiple testing", 1993, max T).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from vqi.dataset.findings.finding import Example, Finding, alone
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.manifest import Sample

# Parts on either side that a comparison takes at least and at most (more are chosen evenly).
FEWEST_TRAIN, FEWEST_TEST, MOST = 10, 3, 400
# The figures of a capture: in words, as they are written, and the step that a difference of medians takes at least
# (grey levels; octaves).
FIGURES: dict[str, tuple[str, str, float]] = {
    "brightness": ("brightness", "{:.0f}", 4.0),
    "red_green": ("red less green", "{:.1f}", 2.0),
    "blue_green": ("blue less green", "{:.1f}", 2.0),
    "sharpness": ("sharpness (octaves)", "{:.2f}", 0.2),
}
# The effect that is reported at least, as Cliff's delta: 0.6 is a chance of 80 % that a test photograph lies above (or
# below) one of train. And the share of sets without a difference that may be reported.
EFFECT, ALPHA = 0.6, 0.001
PERMUTATIONS, SEED = 4999, 0
_PICTURED = 3

Images = Sequence[tuple[Sample, ImageInspection]]


def find_shift(images: Images) -> Iterator[Finding]:
    """The figures in which the normals of test differ from those of train and calibration, or that their files name
    other cameras."""
    normals = [one for one in images if one[0].label == "good"]
    train = [one for one in normals if one[0].split in ("train", "calibration")]
    test = [one for one in normals if one[0].split == "test"]
    parts = [_by_part(side) for side in (train, test)]
    if len(parts[0]) < FEWEST_TRAIN or len(parts[1]) < FEWEST_TEST:
        return
    first, second = ([_mean(part) for part in _evenly(side)] for side in parts)
    values = np.array([*first, *second])
    differing = differing_figures(values, len(first))
    reasons, captions = [], {}
    for name in differing:
        phrase, form, _ = FIGURES[name]
        at = list(FIGURES).index(name)
        medians = [form.format(np.median(side)) for side in (values[: len(first), at], values[len(first) :, at])]
        reasons.append(f"{phrase} {medians[0]} in train and {medians[1]} in test")
        captions[name] = phrase, form
    cameras = [{image.capture.camera for _, image in side} - {""} for side in (train, test)]
    if all(cameras) and not cameras[0] & cameras[1]:
        named = [" and ".join(sorted(side)[:3]) for side in cameras]
        reasons.append(f"camera {named[0]} in train and {named[1]} in test")
    if reasons:
        yield Finding(
            "warning",
            "other-capture",
            f"The good photographs of test were taken otherwise than those learnt from ({'; '.join(reasons)}): another "
            "camera, lens or light is found as a defect, or hides one. Figures of this test hold for its camera and "
            "light.",
            alone(sample for sample, _ in test),
            _examples(train, test, differing[0] if differing else "brightness"),
        )


def differing_figures(values: np.ndarray, train: int) -> list[str]:
    """The names of the figures whose values [parts, figures] differ between the first `train` rows and the others, the
    largest effect first."""
    test = len(values) - train
    ranks = np.apply_along_axis(_mid_ranks, 0, values)
    # Twice the share of pairs in which test lies above, less one.
    effects = 2 * (ranks[train:].sum(axis=0) - test * (test + 1) / 2) / (train * test) - 1
    steps = np.abs(np.median(values[train:], axis=0) - np.median(values[:train], axis=0))
    least = np.array([step for _, _, step in FIGURES.values()])
    large = (np.abs(effects) >= EFFECT) & (steps >= least)
    if not large.any():
        return []
    scale = np.maximum(ranks.std(axis=0), 1e-9)
    centred = (ranks - ranks.mean(axis=0)) / scale
    random = np.random.default_rng(SEED)
    # The sums of the smaller side are those of the larger with the other sign.
    smaller = min(train, test)
    largest = np.array(
        [
            np.abs(centred[random.choice(len(values), smaller, replace=False)].sum(axis=0)).max()
            for _ in range(PERMUTATIONS)
        ]
    )
    sums = np.abs(centred[train:].sum(axis=0))
    chances = (1 + (largest[:, None] >= sums - 1e-9).sum(axis=0)) / (PERMUTATIONS + 1)
    order = np.argsort(-np.abs(effects), kind="stable")
    names = list(FIGURES)
    return [names[at] for at in order if large[at] and chances[at] <= ALPHA]


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; those of equal values are their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _by_part(images: Images) -> list[list[ImageInspection]]:
    parts: dict[str, list[ImageInspection]] = defaultdict(list)
    for sample, image in images:
        parts[sample.group_key].append(image)
    return list(parts.values())


def _mean(part: Sequence[ImageInspection]) -> list[float]:
    return [float(np.mean([getattr(image.capture, name) for image in part])) for name in FIGURES]


def _evenly(parts: list[list[ImageInspection]]) -> list[list[ImageInspection]]:
    if len(parts) <= MOST:
        return parts
    return [parts[round(at)] for at in np.linspace(0, len(parts) - 1, MOST)]


def _examples(train: Images, test: Images, name: str) -> tuple[Example, ...]:
    """The photographs of either side that lie nearest to its median of a figure."""
    phrase, form, _ = FIGURES[name]
    examples = []
    for side, images in (("train", train), ("test", test)):
        values = np.array([getattr(image.capture, name) for _, image in images])
        nearest = np.argsort(np.abs(values - np.median(values)), kind="stable")[:_PICTURED]
        examples += [
            Example(images[number][0].path, f"{side}: {phrase} {form.format(values[number])}") for number in nearest
        ]
    return tuple(examples)

"""Masks that do not lie on what looks different: mirrored, turned, shifted, or drawn for another photograph.

Some defects and some normals are described finely (`description.describe`, FINE cells along a side). A cell's deviation
is how far its error by a subspace of the normals (vqi.dataset.unusual) lies above the normals' own at that cell. Masks
are then judged one by one, and all together: those as drawn against the same masks mirrored and turned, and against
those of other photographs, by sign tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from vqi.dataset.description import seen_cells
from vqi.dataset.findings.finding import Example, Finding, alone, by_number, count_images
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import FINE, Inspection
from vqi.dataset.manifest import Manifest, Sample
from vqi.dataset.unusual import SEED, fit_subspace, left_out_errors

# Normals that are needed and looked at, and defects that are looked at, evenly chosen.
FEWEST_NORMALS, MOST_NORMALS, MOST_DEFECTS = 20, 120, 200
# Deviations: a mask is on nothing where all in and beside it lies below INSIDE, and something else is plainly different
# from OUTSIDE on and beyond 99 % of the normals.
INSIDE, OUTSIDE, RARE = 2.5, 5.0, 0.99
# Masks that are judged together at least; the chance of a false alarm of one test; the mean gain (area under the ROC
# curve) that turned masks must bring, and the share of masks that must gain.
TOGETHER, ALPHA, GAIN, SHARE = 12, 0.01, 0.1, 0.75
# Masks as drawn lie on what differs where they do so better than those of other photographs this often, or this well.
BETTER, WELL = 0.65, 0.65
_PICTURED = 6
_TURNS = {
    "mirrored left to right": lambda cells: cells[:, ::-1],
    "mirrored top to bottom": lambda cells: cells[::-1],
    "turned by 180 degrees": lambda cells: cells[::-1, ::-1],
    "turned by 90 degrees to the left": lambda cells: np.rot90(cells, 1),
    "turned by 90 degrees to the right": lambda cells: np.rot90(cells, 3),
    "with height and width exchanged": lambda cells: cells.T,
}


def compared_paths(manifest: Manifest) -> frozenset[str]:
    """The photographs that are described finely; an empty result where the set has too few normals, or lacks masks."""
    normals = [s.path for s in manifest.samples if s.label == "good" and s.split in ("train", "calibration")]
    defects = [s.path for s in manifest.samples if s.label == "defect" and s.masks]
    if len(normals) < FEWEST_NORMALS or not defects:
        return frozenset()
    return frozenset([*_evenly(normals, MOST_NORMALS), *_evenly(defects, MOST_DEFECTS)])


@dataclass(frozen=True)
class _Marked:
    """A defect: deviations of its cells, which of them its mask touches, and which count at all; [FINE, FINE] each."""

    sample: Sample
    size: tuple[int, int]
    deviations: np.ndarray
    mask: np.ndarray
    counted: np.ndarray

    @cached_property
    def _ranks(self) -> np.ndarray:
        """From 1, of the deviations of the cells that count."""
        deviations = self.deviations[self.counted]
        ranks = np.empty(len(deviations))
        ranks[np.argsort(deviations, kind="stable")] = np.arange(1, len(deviations) + 1)
        return ranks

    def overlap(self, mask: np.ndarray) -> float:
        """The chance that a cell of `mask` deviates more than one that is not (area under the ROC curve)."""
        inside, outside = mask & self.counted, ~mask & self.counted
        count, rest = np.count_nonzero(inside), np.count_nonzero(outside)
        if not count or not rest:
            return 0.5
        return float((self._ranks[inside[self.counted]].sum() - count * (count + 1) / 2) / (count * rest))


def find_misplaced_masks(inspections: Sequence[Inspection], geometry: Geometry) -> Iterator[Finding]:
    """Masks of photographs that were described finely (`compared_paths`) and do not lie on what looks different."""
    normals = [
        (one.sample, one.image.size, one.image.cells)
        for one in inspections
        if one.image and one.image.cells is not None and one.sample.label == "good"
    ]
    if len(normals) < FEWEST_NORMALS:
        return
    cells = np.stack([described for *_, described in normals])
    errors = np.log(left_out_errors(cells, [sample.group_key for sample, *_ in normals], SEED) + 1e-6)
    middle = np.median(errors, axis=0)
    spread = 1.4826 * np.median(np.abs(errors - middle), axis=0)
    spread = np.maximum(spread, max(np.median(spread) / 2, 1e-6))
    subspace = fit_subspace(cells)
    usual = [
        deviations[seen_cells(geometry, size, FINE)].max(initial=0.0)
        for deviations, (_, size, _) in zip((errors - middle) / spread, normals, strict=True)
    ]
    marked = []
    for one in inspections:
        if not (one.image and one.image.cells is not None and one.mask and one.mask.cells is not None):
            continue
        deviations = (np.log(subspace.errors(one.image.cells[None])[0] + 1e-6) - middle) / spread
        counted = seen_cells(geometry, one.image.size, FINE).reshape(FINE, FINE)
        if one.mask.ignored_cells is not None:
            counted = counted & ~one.mask.ignored_cells
        mask = one.mask.cells & counted
        if 0 < np.count_nonzero(mask) < np.count_nonzero(counted) / 2:
            marked.append(_Marked(one.sample, one.image.size, deviations.reshape(FINE, FINE), one.mask.cells, counted))
    yield from _together(marked, usual)
    yield from _one_by_one(marked, usual)


def _one_by_one(marked: Sequence[_Marked], usual: Sequence[float]) -> Iterator[Finding]:
    beyond = max(OUTSIDE, float(np.quantile(usual, RARE)))
    elsewhere = []
    for one in marked:
        near = _grown(one.mask)
        inside, outside = (np.where(part & one.counted, one.deviations, -np.inf) for part in (near, ~near))
        if inside.max() < INSIDE and outside.max() > beyond:
            elsewhere.append((one, float(inside.max()), outside))
    if not elsewhere:
        return
    samples = [one.sample for one, *_ in elsewhere]
    examples = []
    for one, highest, outside in elsewhere[:_PICTURED]:
        row, column = np.unravel_index(int(outside.argmax()), outside.shape)
        down, right = (round((at + 0.5) / FINE * side) for at, side in zip((row, column), one.size, strict=True))
        examples.append(
            Example(
                one.sample.path,
                f"{highest:.1f} deviations at the mask, {outside.max():.1f} at x {right}, y {down}",
            )
        )
    yield Finding(
        "warning",
        "mask-elsewhere",
        f"{count_images(samples)} {by_number(samples, 'has', 'have')} a mask on what looks like any good part, while "
        "another area looks different: shifted, mirrored, or the mask of another photograph?",
        alone(samples),
        tuple(examples),
    )


def _together(marked: Sequence[_Marked], usual: Sequence[float]) -> Iterator[Finding]:
    if len(marked) < TOGETHER:
        return
    drawn = np.array([one.overlap(one.mask) for one in marked])
    turned = {name: np.array([one.overlap(turn(one.mask)) for one in marked]) for name, turn in _TURNS.items()}
    best = max(turned, key=lambda name: float(turned[name].mean()))
    gains, losses = int((turned[best] > drawn).sum()), int((turned[best] < drawn).sum())
    samples = [one.sample for one in marked]
    worst = [marked[number] for number in np.argsort(drawn, kind="stable")[:_PICTURED]]
    if (
        turned[best].mean() - drawn.mean() >= GAIN
        and gains >= SHARE * (gains + losses)
        and len(_TURNS) * sign_test(gains, losses) < ALPHA
    ):
        yield Finding(
            "warning",
            "masks-turned",
            f"{gains} of {len(marked)} masks would lie better on what looks different if they were {best} (a marked "
            f"cell differs more than an unmarked one with a chance of {turned[best].mean():.0%}, as drawn "
            f"{drawn.mean():.0%}): see that masks are drawn on the photographs as they are stored.",
            alone(samples),
            tuple(Example(one.sample.path, f"as drawn {one.overlap(one.mask):.0%}") for one in worst),
        )
        return
    others = np.array(
        [
            np.mean([one.overlap(marked[(at + step) % len(marked)].mask) for step in _steps(len(marked))])
            for at, one in enumerate(marked)
        ]
    )
    better = float((drawn > others).mean())
    differ = np.median([one.deviations[one.counted].max() for one in marked]) > np.quantile(usual, 0.9)
    if differ and better < BETTER and drawn.mean() < WELL:
        yield Finding(
            "warning",
            "masks-elsewhere",
            f"The masks lie no better on what looks different than masks of other photographs ({better:.0%} of "
            f"{len(marked)} do; a marked cell differs more than an unmarked one with a chance of {drawn.mean():.0%}): "
            "shifted, or paired with the wrong photographs? Where defects are not seen but known, as a part that is "
            "missing, this may be right.",
            alone(samples),
            tuple(Example(one.sample.path, f"{one.overlap(one.mask):.0%}") for one in worst),
        )


def sign_test(gains: int, losses: int) -> float:
    """The chance of so many gains or more where gains and losses are as likely."""
    total = gains + losses
    return sum(comb(total, count) for count in range(gains, total + 1)) / 2**total


def _steps(count: int) -> list[int]:
    """How far away the other photographs are whose masks are tried."""
    return sorted({max(1, count // 2), max(1, count // 3), max(1, count // 5)})


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask and its eight neighbours."""
    padded = np.pad(mask, 1)
    rows = padded[:, 1:-1] | padded[:, :-2] | padded[:, 2:]
    grown: np.ndarray = rows[1:-1] | rows[:-2] | rows[2:]
    return grown


def _evenly(paths: list[str], most: int) -> list[str]:
    if len(paths) <= most:
        return paths
    return [paths[round(at)] for at in np.linspace(0, len(paths) - 1, most)]

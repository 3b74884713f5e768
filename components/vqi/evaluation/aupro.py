"""Per-region overlap (PRO), exact, and the pixel scores of a whole test set it is computed from.

Source: P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129 (2021), section 5.2: at each threshold the
share found of every connected ground-truth region (8-neighbourhood) is averaged over all regions; the area under that
curve over the false-positive rate of all good pixels is taken up to a limit (.3 by habit, .05 where false alarms cost)
and divided by it.

sPRO, where the data set says from which share on a region counts as found whole: P. Bergmann et al., "Beyond Dents and
Scratches", IJCV 130 (2022), section 4.2: min(found pixels / saturated pixels, 1) in place of the share found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqi.evaluation.metrics import Confusion, Ranking


def aupro(ranking: Ranking, regions: np.ndarray, limit: float) -> float | None:
    """Area under the PRO curve up to the false-positive rate `limit`, divided by `limit`: in [0, 1]; None where a class
    is missing.

    `regions` [P] names the region of each positive pixel, in the order the pixels were given to `ranking`. Exact: every
    distinct score is a threshold, and where good and defect pixels share a score the curve is the straight line across
    it.
    """
    if not ranking.positives or not ranking.negatives:
        return None
    _, inverse, sizes = np.unique(regions, return_inverse=True, return_counts=True)
    return overlap_area(ranking, 1 / sizes[inverse], limit)


def overlap_area(ranking: Ranking, weights: np.ndarray, limit: float) -> float | None:
    """`aupro` with what each positive pixel adds to the overlap of its region once it is found, `weights` [P]; those of
    a region sum to 1."""
    if not ranking.positives or not ranking.negatives:
        return None
    cumulative = np.cumsum(np.bincount(ranking.members, weights=weights, minlength=ranking.levels.size))
    # Divided by its own last value, which is the number of regions but for rounding: the curve ends at 1 and never
    # exceeds it.
    overlap = cumulative / cumulative[-1]
    rates = np.empty(2 * overlap.size + 2)
    heights = np.empty_like(rates)
    rates[0], rates[-1] = 0, 1
    rates[1:-1:2] = ranking.false_positives_above / ranking.negatives
    rates[2:-1:2] = ranking.false_positives / ranking.negatives
    heights[0], heights[-1] = 0, 1
    heights[1:-1:2] = np.concatenate([[0], overlap[:-1]])
    heights[2:-1:2] = overlap
    inside = int(np.searchsorted(rates, limit, "right"))
    area = float(np.sum(np.diff(rates[:inside]) * (heights[1:inside] + heights[: inside - 1]))) / 2
    if inside < rates.size:
        left, right = rates[inside - 1], rates[inside]
        at_limit = heights[inside - 1] + (heights[inside] - heights[inside - 1]) * (limit - left) / (right - left)
        area += (limit - left) * (heights[inside - 1] + at_limit) / 2
    return min(1.0, area / limit)


def saturated_pixels(values: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a region that its saturated overlap depends on, and what each adds to it.

    `values` are the map's in the region, [n] with n > 0. At whatever threshold k = share x n pixels are above, the
    region counts as found whole: the highest k matter, with 1 / k each, and the last with what is left of 1.
    """
    saturated = max(share * values.size, 1.0)
    count = int(np.ceil(saturated - 1e-9))
    highest = np.sort(values, axis=None)[::-1][:count].astype(np.float32)
    weights = np.full(highest.size, 1 / saturated)
    weights[-1] = 1 - (highest.size - 1) / saturated
    return highest, weights


def label_regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The connected regions (8-neighbourhood) of a mask, bool [H, W]: their labels, int32 [H, W] (0 = none), and how
    many they are.

    Made for masks at the size they were drawn at: nearest resizing to the network's geometry tears a thin scratch into
    many regions, so labels are brought there in the mask's stead (`Geometry.apply_labels`).
    """
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels, count - 1


class PixelScores:
    """The map values of a test set, gathered image by image: good pixels, and defect pixels with their region and
    defect type.

    Needs 4 bytes a pixel for at most `pixels` pixels (468 images of 256 x 256: 117 MiB) and 12 bytes a defect pixel;
    the maps themselves are not kept. The good pixels are sorted in place, once, and shared by all metrics of all defect
    types.
    """

    def __init__(self, pixels: int) -> None:
        # Pages that are never written to are never taken: the size is a bound, not a cost.
        self._good = np.empty(pixels, dtype=np.float32)
        self._used = 0
        self._sorted = True
        self._defective: list[np.ndarray] = []
        self._regions: list[np.ndarray] = []
        self._types: list[str] = []
        self.regions = 0
        self._saturated: list[tuple[np.ndarray, np.ndarray]] = []

    def add(
        self,
        values: np.ndarray,
        truth: np.ndarray | None = None,
        defect: str = "good",
        excluded: np.ndarray | None = None,
        saturated: Sequence[tuple[np.ndarray, float]] = (),
    ) -> None:
        """Add one map, float32 [h, w] and finite, with its truth (None = every pixel is good).

        `truth` [h, w] is int32 with the region of every pixel (0 = good), or a bool mask whose connected regions are
        taken as they are: for a mask that was never scaled down, which tears thin regions (see `label_regions`).
        `excluded`, bool [h, w], are pixels that count neither way. `saturated` are the regions of sPRO, bool [h, w] and
        share each, which may overlap.
        """
        labels = label_regions(truth)[0] if truth is not None and truth.dtype == np.bool_ else truth
        mask = None if labels is None else labels > 0
        if excluded is not None:
            good = values[~excluded if mask is None else ~(excluded | mask)]
            mask = None if mask is None else mask & ~excluded
        else:
            good = values.ravel() if mask is None else values[~mask]
        self._good[self._used : self._used + good.size] = good
        self._used += good.size
        self._sorted = False
        for region, share in saturated:
            kept = region if excluded is None else region & ~excluded
            if kept.any():
                self._saturated.append(saturated_pixels(values[kept], share))
        if labels is None or mask is None or not mask.any():
            return
        names, regions = np.unique(labels[mask], return_inverse=True)
        self._defective.append(values[mask].astype(np.float32, copy=False))
        self._regions.append((regions + self.regions).astype(np.int32))
        self._types.append(defect)
        self.regions += names.size

    @property
    def good(self) -> np.ndarray:
        """Scores of the good pixels, ascending, float32."""
        good = self._good[: self._used]
        if not self._sorted:
            good.sort()
            self._sorted = True
        return good

    def defective(self, defect: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores, float32 [P], and regions, int32 [P], of the defect pixels; of one type where `defect` names it."""
        chosen = [number for number, kind in enumerate(self._types) if defect in (None, kind)]
        if not chosen:
            return np.empty(0, np.float32), np.empty(0, np.int32)
        return np.concatenate([self._defective[n] for n in chosen]), np.concatenate([self._regions[n] for n in chosen])

    def ranking_metrics(self, defect: str | None = None) -> dict[str, float | None]:
        """Pixel AUROC, AUPR, best F1, AUPRO up to .3 and up to .05.

        Those of one defect type set its pixels against all good pixels of the test set: the same false-positive rate
        for every type, so that types compare, and the AUPRO of the whole set is the mean of the types' weighted by
        their regions.
        """
        scores, regions = self.defective(defect)
        ranking = Ranking(scores, self.good, negative_sorted=True)
        return {
            "pixel_auroc": ranking.auroc,
            "pixel_aupr": ranking.average_precision,
            "pixel_f1_max": ranking.f1_max,
            "aupro": aupro(ranking, regions, 0.3),
            "aupro_05": aupro(ranking, regions, 0.05),
        }

    def saturated_overlap(self, limit: float) -> float | None:
        """Area under the sPRO curve up to the false-positive rate `limit`, divided by it; None where the data set has
        no saturation thresholds, or no good pixel."""
        if not self._saturated:
            return None
        scores, weights = (np.concatenate(parts) for parts in zip(*self._saturated, strict=True))
        return overlap_area(Ranking(scores, self.good, negative_sorted=True), weights, limit)

    def confusion(self, threshold: float, defect: str | None = None) -> Confusion:
        """Pixels counted at the decision `value > threshold`."""
        scores, _ = self.defective(defect)
        rejected = self._used - int(np.searchsorted(self.good, np.float32(threshold), "right"))
        detected = int(np.count_nonzero(scores > np.float32(threshold)))
        return Confusion(
            true_positive=detected,
            false_positive=rejected,
            true_negative=self._used - rejected,
            false_negative=scores.size - detected,
        )

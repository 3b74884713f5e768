"""Thresholds from normals alone, with a bound on the share of good parts they reject (conformal prediction).

Split: the scores of n normals the detector has not seen. A part is rejected where its score lies strictly above the k-th smallest of them,
k = ceil((n + 1)(1 - rate)). If the normals of tomorrow come from where these came from (exchangeable), a good part is rejected with probability
at most `rate`, for every detector and every n (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Papadopoulos et al., ECML
2002). It needs k <= n: fewer than 1 / rate - 1 normals cannot promise that rate, and the smallest they can is 1 / (n + 1).

Cross: each training normal is scored by a refit it is not in (k folds), the scores are pooled and the same order statistic is taken; parts are then
scored by the detector built from all normals (cross-conformal: Vovk, Ann. Math. Artif. Intell. 74, 2015). One pooled threshold has no exact
guarantee for a finite n. What is proven is weaker and for a detector whose score never rises when normals are added, such as the distance to a full
memory bank: whatever it rejects, the fold-wise comparison of CV+ (Barber et al., Ann. Statist. 49, 2021) rejects too, and that rejects at most
2 rate + min(2 (1 - 1/k) / (n/k + 1), (1 - k/n) / (k + 1)). In practice the final detector has seen more normals than each refit, so its scores of
good parts tend to lie lower than the pooled ones and the rate comes out at or below the one asked for.

Seen: the scores are those of images that the network itself was trained on. The same order statistic is taken, and nothing is promised.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vqi.platform.errors import BadInput, RunFailed

CALIBRATION = "calibration.json"
# What a report compares the chosen rate with.
COMPARED_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Calibration:
    """Scores of normals that the scoring detector had not seen: an image score, its map's maximum and median an image, in the order of `paths`.

    `kind` "split": held-out normals under the final detector; "cross": training normals under refits in `folds` folds; "seen": training normals of a
    network that learnt from them.
    """

    kind: Literal["split", "cross", "seen"]
    folds: int | None
    paths: tuple[str, ...]
    scores: tuple[float, ...]
    map_maxima: tuple[float, ...]
    map_medians: tuple[float, ...]


@dataclass(frozen=True)
class Threshold:
    """Decisions are `score > image` and `map value > pixel`. `false_reject_rate` is what is promised, at least `requested_false_reject_rate`.

    `floor` is where the colours of maps begin (see `pictures.Scale`): 0, or where a normal's map has its middle below 0, the median of those.
    """

    image: float
    pixel: float
    floor: float
    kind: Literal["split", "cross", "seen"]
    requested_false_reject_rate: float
    false_reject_rate: float
    calibration_images: int
    folds: int | None
    guarantee: str


def read_calibration(index: Path) -> Calibration:
    """Read `calibration.json` of an index artefact.

    Raises BadInput where it is missing, damaged or holds no image, RunFailed where a score is not finite.
    """
    path = Path(index) / CALIBRATION
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        kind, folds, images = value["kind"], value["folds"], value["images"]
        if kind not in ("split", "cross", "seen"):
            raise ValueError(f"kind is {kind!r}")
        paths = tuple(str(image["path"]) for image in images)
        scores = tuple(float(image["score"]) for image in images)
        maxima = tuple(float(image["map_max"]) for image in images)
        medians = tuple(float(image["map_median"]) for image in images)
        folds = None if folds is None else int(folds)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing, so there is no score to take a threshold from; run build_index again.") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__}: {error}); run build_index again.") from error
    if not scores:
        raise BadInput(
            f"{path} holds no calibration scores; give the set normals to calibrate on "
            "(data.calibration_fraction above 0, or 0 for refits of the training normals) and run build_index again."
        )
    for name, score, maximum, median in zip(paths, scores, maxima, medians, strict=True):
        if not all(map(math.isfinite, (score, maximum, median))):
            raise RunFailed(f"The calibration image {name} has a score that is not finite ({score}, map {maximum}); check the image and the weights.")
    return Calibration(kind, folds, paths, scores, maxima, medians)


def conformal_threshold(scores: Sequence[float], rate: float) -> tuple[float, float]:
    """The threshold for decisions `score > threshold` and the false-reject rate it promises: `rate`, or 1 / (n + 1) where n is too small for it.

    Raises BadInput for a rate outside (0, 1) or no scores.
    """
    check_rate(rate)
    if not len(scores):
        raise BadInput("There are no calibration scores to take a threshold from; hold out normals or use refits of the training normals.")
    n = len(scores)
    # As a fraction of the decimal the user wrote: in floating point (n + 1)(1 - rate) may land just above a whole number and skip a rank.
    rank = math.ceil((n + 1) * (1 - Fraction(str(rate))))
    ascending = sorted(scores)
    return (ascending[rank - 1], rate) if rank <= n else (ascending[-1], 1 / (n + 1))


def check_rate(rate: float) -> None:
    """Raises BadInput where `rate` is no false-reject rate."""
    if not 0 < rate < 1:
        raise BadInput(f"threshold.false_reject_rate is {rate}; it must lie between 0 and 1 (0.01 = one good part in a hundred), both excluded.")


def calibrate(calibration: Calibration, rate: float) -> Threshold:
    """Image and pixel thresholds for a false-reject rate.

    The pixel threshold is the same construction on the maxima of the maps: a good part gets any marked pixel at all with at most that rate.
    """
    image, promised = conformal_threshold(calibration.scores, rate)
    pixel, _ = conformal_threshold(calibration.map_maxima, rate)
    n = len(calibration.scores)
    floor = min(0.0, statistics.median(calibration.map_medians))
    return Threshold(image, pixel, floor, calibration.kind, rate, promised, n, calibration.folds, _guarantee(calibration, rate, promised))


def standing_out(calibration: Calibration) -> list[tuple[str, float]]:
    """Calibration normals that score far above the others, as (path, score), highest first: often a defect that slipped in, or another camera set-up.

    Far above: beyond Tukey's outer fence, the third quartile plus three times the interquartile range (Exploratory Data Analysis, 1977).
    """
    low, high = statistics.quantiles(calibration.scores, n=4, method="inclusive")[::2] if len(calibration.scores) > 3 else (0.0, math.inf)
    fence = high + 3 * (high - low)
    return sorted(
        ((path, score) for path, score in zip(calibration.paths, calibration.scores, strict=True) if score > fence), key=lambda row: -row[1]
    )


def promised_rates(images: int) -> list[float]:
    """The false-reject rates worth comparing that `images` calibration scores can promise, the smallest of all first."""
    smallest = 1 / (images + 1)
    return [smallest, *(rate for rate in COMPARED_RATES if rate > smallest * 1.05)]


def _guarantee(calibration: Calibration, rate: float, promised: float) -> str:
    n = len(calibration.scores)
    share = f"{100 * promised:.3g} %"
    if calibration.kind == "seen":
        return (
            f"No false-reject rate is promised: the threshold comes from the {n} good photographs that the network was trained on, whose scores lie "
            "lower than those of new parts; hold some out (data.calibration_fraction=0.2) for a threshold that can be trusted."
        )
    if calibration.kind == "split":
        sentence = (
            f"At most {share} of good parts are rejected on average, guaranteed as long as they look like the {n} good photographs "
            "that were held out of training to set the threshold"
        )
    else:
        sentence = (
            f"About {share} of good parts are expected to be rejected: the threshold comes from all {n} good training photographs, each scored "
            f"by one of {calibration.folds} refits that had not seen it; this is an estimate that tends to the safe side, without an exact guarantee"
        )
    if promised > rate:
        needed = math.ceil(1 / Fraction(str(rate))) - 1
        sentence += f"; {100 * rate:.3g} % was asked for, which takes at least {needed} good photographs to calibrate on"
    return sentence + "."

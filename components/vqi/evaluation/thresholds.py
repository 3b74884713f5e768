"""Thresholds from normals alone, with a bound on the share of good parts they reject (conformal prediction).

Split: the scores of n normals the detector has not seen. A part is rejected where its score lies strictly above the
k-th smallest of them, k = ceil((n + 1)(1 - rate)). If the normals of tomorrow come from where these came from
(exchangeable), a good part is rejected with probability at most `rate`, for every detector and every n (Vovk,
Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Papadopoulos et al., ECML 2002). It needs k <= n:
fewer than 1 / rate - 1 normals cannot promise that rate, and the smallest they can is 1 / (n + 1).

Cross: each training normal is scored by an index it is not in (k folds; a refit, or what stands for one:
`Detector.left_out_scores`), the scores are pooled and the same order statistic is taken; parts are then scored by the
detector built from all normals (cross-conformal: Vovk, Ann. Math. Artif. Intell. 74, 2015). One pooled threshold has no
exact guarantee for a finite n. What is proven is weaker and for a detector whose score never rises when normals are
added, such as the distance to a full memory bank: whatever it rejects, the fold-wise comparison of CV+ (Barber et al.,
Ann. Statist. 49, 2021) rejects too, and that rejects at most 2 rate + min(2 (1 - 1/k) / (n/k + 1), (1 - k/n) / (k +
1)). In practice the rate comes out near the one asked for, on either side: in simulations with n from 31 to 99 the
distance to a bank rejected 4 to 14 % less than the figure, the error of a principal subspace 7 to 20 % more.

One detector: these rates are averages over many draws of the n normals. Given one draw, the share it rejects is
distributed as Beta(n + 1 - k, k) (independent scores without ties; with ties it is lower): at n = 99 and 1 % it exceeds
1 % with a chance of 37 %, and 3 % with one of 5 % (V. Vovk, "Conditional validity of inductive conformal predictors",
ACML 2012). Of refits that is an approximation: their 95 % quantile was .9 to 1.3 times Beta's in the same simulations.

Either: the image threshold and the pixel threshold hold the rate one by one. A good part is rejected or gets a marked
region more often, by at most both rates together; `either_rate` estimates it.

Seen: the scores are those of images that the network itself was trained on. The same order statistic is taken, and
nothing is promised.

Several photographs of one part are not exchangeable with those of a new part; parts are. So n counts parts (groups),
and a part's score is the highest of its photographs': any function of a group that does not depend on their order keeps
the groups exchangeable (Dunn, Wasserman, Ramdas, JASA 118, 2023; Lee, Barber, Willett, "Distribution-free inference
with hierarchical data", JRSS B, 2025). The maximum promises most: a good part that is photographed as often as those
were has any of its photographs rejected with at most `rate`, and so one photograph of it all the more rarely.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from fractions import Fraction

from vqi.dataset.splits import CalibrationKind
from vqi.evaluation.calibration import Calibration
from vqi.platform.errors import BadInput
from vqi.platform.records import Record

NOTHING_PROMISED = (
    "No false-reject rate is promised: the threshold comes from {n} good photographs that were learnt from, or that "
    "may "
    "be copies of such, and their scores lie lower than those of new parts; hold some out "
    "(data.calibration_fraction=0.2), and name each part with data.group, for a threshold that can be trusted."
)
# What a report compares the chosen rate with.
COMPARED_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


class Threshold(Record):
    """Decisions are `score > image` and `map value > pixel`. `false_reject_rate` is what is promised, at least
    `requested_false_reject_rate`, on average over many calibrations; this one exceeds it with `chance_above` and stays
    below `rate_95` with a chance of 95 %. `either_rate` is the estimated share of good parts that are rejected or get a
    marked region. All four are None where nothing is promised ("seen").

    `floor` is where the colours of maps begin (see `pictures.Scale`): 0, or where a normal's map has its middle below
    0, the median of those.
    """

    image: float
    pixel: float
    floor: float
    kind: CalibrationKind
    requested_false_reject_rate: float
    false_reject_rate: float | None
    chance_above: float | None
    rate_95: float | None
    either_rate: float | None
    calibration_images: int
    folds: int | None
    guarantee: str


def conformal_threshold(scores: Sequence[float], rate: float) -> tuple[float, float]:
    """The threshold for decisions `score > threshold` and the false-reject rate it promises: `rate`, or 1 / (n + 1)
    where n is too small for it.

    Raises BadInput for a rate outside (0, 1) or no scores.
    """
    check_rate(rate)
    if not len(scores):
        raise BadInput(
            "There are no calibration scores to take a threshold from; hold out normals or use refits of the training "
            "normals."
        )
    n = len(scores)
    return sorted(scores)[threshold_rank(n, rate) - 1], max(rate, 1 / (n + 1))


def threshold_rank(n: int, rate: float) -> int:
    """Which of `n` calibration scores, counted from 1 at the lowest, is the threshold of a false-reject rate:
    ceil((n + 1)(1 - rate)), at most n.
    """
    # As a fraction of the decimal the user wrote: in floating point (n + 1)(1 - rate) may land just above a whole
    # number and skip a rank.
    return min(n, math.ceil((n + 1) * (1 - Fraction(str(rate)))))


def chance_above(n: int, rank: int, rate: float) -> float:
    """The chance that one detector, whose threshold is the `rank`-th smallest of `n` calibration scores, rejects more
    than `rate` of good parts.

    P(Beta(n + 1 - rank, rank) > rate) = P(Binomial(n, rate) <= n - rank); exact, and without scipy, which prediction
    does not install.
    """
    if not 0 < rate < 1:
        return float(rate <= 0)
    logs = [
        math.lgamma(n + 1)
        - math.lgamma(j + 1)
        - math.lgamma(n - j + 1)
        + j * math.log(rate)
        + (n - j) * math.log1p(-rate)
        for j in range(n - rank + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def rate_quantile(n: int, rank: int, level: float = 0.95) -> float:
    """The share of good parts that one detector rejects at most, with a chance of `level`: the quantile of Beta(n +
    1 - rank, rank).
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chance_above(n, rank, middle) > 1 - level else (low, middle)
    return (low + high) / 2


def either_rate(scores: Sequence[float], maxima: Sequence[float], rank: int) -> float:
    """The estimated share of good parts whose score or whose map's maximum lies above its threshold, the `rank`-th
    smallest of n each.

    Of the n normals those are counted that would lie above the threshold of the others by one or the other; over n + 1,
    so that two statistics that always agree give the promised rate. Twice that rate is never exceeded on average,
    whatever the two have in common.
    """
    above = len(scores) + 1 - rank

    def highest(values: Sequence[float]) -> set[int]:
        descending = sorted(values, reverse=True)
        # Values that tie with the first one below the threshold's rank are not above it.
        cut = descending[above] if above < len(descending) else -math.inf
        return {number for number, value in enumerate(values) if value > cut}

    return len(highest(scores) | highest(maxima)) / (len(scores) + 1)


def check_rate(rate: float) -> None:
    """Raises BadInput where `rate` is not a false-reject rate."""
    if not 0 < rate < 1:
        raise BadInput(
            f"threshold.false_reject_rate is {rate}; it must lie between 0 and 1 (0.01 = one good part in a hundred), "
            "both excluded."
        )


def calibrate(calibration: Calibration, rate: float, marks_good: bool = True) -> Threshold:
    """Image and pixel thresholds for a false-reject rate.

    The pixel threshold is the same construction on the maxima of the maps: a good part gets any marked pixel at all
    with at most that rate. `marks_good`: whether regions are marked on parts judged good too (see BoxRule).
    """
    image, promised = conformal_threshold(calibration.scores, rate)
    pixel, _ = conformal_threshold(calibration.map_maxima, rate)
    n = len(calibration.scores)
    floor = min(0.0, statistics.median(calibration.map_medians))
    if calibration.kind == "seen":
        return Threshold(
            image=image,
            pixel=pixel,
            floor=floor,
            kind="seen",
            requested_false_reject_rate=rate,
            false_reject_rate=None,
            chance_above=None,
            rate_95=None,
            either_rate=None,
            calibration_images=n,
            folds=calibration.folds,
            guarantee=NOTHING_PROMISED.format(n=n),
        )
    rank = threshold_rank(n, rate)
    above, quantile = chance_above(n, rank, promised), rate_quantile(n, rank)
    # The rank may hold a lower rate than was asked for; both thresholds together are never said to do better than one
    # of them promises.
    either = max(promised, either_rate(calibration.scores, calibration.map_maxima, rank)) if marks_good else promised
    sentences = [
        _guarantee(calibration, rate, promised),
        f"That is an average over many choices of these photographs: of 100 such detectors about {100 * above:.0f} "
        "reject more than "
        f"{_percent(promised)}, and 95 less than {_percent(quantile)}.",
        *([_either(calibration.kind, promised, either)] if marks_good else []),
    ]
    return Threshold(
        image=image,
        pixel=pixel,
        floor=floor,
        kind=calibration.kind,
        requested_false_reject_rate=rate,
        false_reject_rate=promised,
        chance_above=above,
        rate_95=quantile,
        either_rate=either,
        calibration_images=n,
        folds=calibration.folds,
        guarantee=" ".join(sentences),
    )


def manual_threshold(calibration: Calibration, image: float) -> Threshold:
    """The thresholds where a person sets that of the image: what it promises, and the pixel threshold that goes with
    it.

    With k of n calibration scores at or below `image`, a good part is expected to be rejected at a rate of at most (n +
    1 - k) / (n + 1): the expected value of that figure over the calibration photographs is the true rate p of a
    threshold fixed beforehand and (1 - p) / (n + 1) more. Above all scores it is 1 / (n + 1), however high the
    threshold: n scores show no less. The pixel threshold has the same rank among the maxima of the maps.

    Raises BadInput where `image` is not finite.
    """
    if not math.isfinite(image):
        raise BadInput(f"The threshold is {image}; it must be a number of the scale of the scores.")
    n = len(calibration.scores)
    at_or_below = sum(score <= image for score in calibration.scores)
    promised = (n + 1 - at_or_below) / (n + 1)
    chosen = calibrate(calibration, min(promised, n / (n + 1)))
    sentence = (
        f"The threshold of {image:.6g} was set by hand, {at_or_below} of the {n} calibration scores lie at or below it"
    )
    if calibration.kind == "seen":
        sentence += ": no false-reject rate is promised, since the network was trained on the photographs they are of"
    elif not at_or_below:
        sentence += ": every good part must be expected to be rejected"
    else:
        expected = f"about {100 * promised:.3g} % of good parts, or fewer, are expected to be rejected"
        sentence += f": {expected} as long as they look like those photographs"
        if at_or_below == n:
            sentence += f"; however high a threshold lies above all scores, {n} photographs cannot promise less"
    return chosen.model_copy(
        update={
            "image": image,
            "pixel": _same_rank(image, calibration.scores, calibration.map_maxima),
            "requested_false_reject_rate": promised,
            "false_reject_rate": None if calibration.kind == "seen" else promised,
            # Those of a rank chosen by a rate: a threshold that a person sets has none.
            "chance_above": None,
            "rate_95": None,
            "either_rate": None,
            "guarantee": f"{sentence}.",
        }
    )


def _same_rank(value: float, scores: Sequence[float], maxima: Sequence[float]) -> float:
    """The map value that stands among `maxima` where `value` stands among `scores`: between two of them in the same
    proportion, outside of them by the ratio of the two ranges. It is `value` itself where the score is the map's
    maximum.
    """
    low, high = sorted(scores), sorted(maxima)
    span = low[-1] - low[0]
    ratio = (high[-1] - high[0]) / span if span > 0 else 1.0
    if value < low[0]:
        return high[0] - (low[0] - value) * ratio
    if value >= low[-1]:
        return high[-1] + (value - low[-1]) * ratio
    rank = bisect.bisect_right(low, value)
    share = (value - low[rank - 1]) / (low[rank] - low[rank - 1])
    return high[rank - 1] + share * (high[rank] - high[rank - 1])


def standing_out(calibration: Calibration) -> list[tuple[str, float]]:
    """Calibration normals that score far above the others, as (path, score), highest first: often a defect that slipped
    in, or another camera set-up.

    Far above: beyond Tukey's outer fence, the third quartile plus three times the interquartile range (Exploratory Data
    Analysis, 1977).
    """
    low, high = (
        statistics.quantiles(calibration.scores, n=4, method="inclusive")[::2]
        if len(calibration.scores) > 3
        else (0.0, math.inf)
    )
    fence = high + 3 * (high - low)
    return sorted(
        ((path, score) for path, score in zip(calibration.paths, calibration.scores, strict=True) if score > fence),
        key=lambda row: -row[1],
    )


def promised_rates(images: int) -> list[float]:
    """The false-reject rates worth comparing that `images` calibration scores can promise, the smallest of all
    first."""
    smallest = 1 / (images + 1)
    return [smallest, *(rate for rate in COMPARED_RATES if rate > smallest * 1.05)]


def _guarantee(calibration: Calibration, rate: float, promised: float) -> str:
    """What is promised on average, and what it takes to promise more."""
    n, share = len(calibration.scores), _percent(promised)
    one_each = calibration.images in (0, n)
    what = "photographs" if one_each else f"parts ({calibration.images} photographs; a part counts once)"
    if calibration.kind == "split":
        sentence = (
            f"At most {share} of good parts are rejected on average, guaranteed as long as they look like the {n} "
            f"good {what} "
            "that were held out of training to set the threshold"
        )
    else:
        sentence = (
            f"About {share} of good parts are expected to be rejected: the threshold comes from all {n} good training "
            f"{what}, each scored "
            f"by one of {calibration.folds} indices that were built without it; this is an estimate without an exact "
            "guarantee and may err to either side"
        )
    if promised > rate:
        needed = math.ceil(1 / Fraction(str(rate))) - 1
        if calibration.kind == "split" and calibration.parts:
            needed = math.ceil(needed * Fraction(calibration.parts, n))
        noun = "photographs" if one_each else "parts"
        sentence += f"; {_percent(rate)} was asked for, which takes at least {needed} good {noun} in all"
    return sentence + "."


def _either(kind: CalibrationKind, promised: float, either: float) -> str:
    """The rate of both thresholds together."""
    bound = f", and on average to no more than {_percent(min(1.0, 2 * promised))}" if kind == "split" else ""
    return (
        "Regions are marked above a threshold of their own with the same rate: one or the other, a rejection or a "
        "marked region, "
        f"happens to about {_percent(either)} of good parts{bound}."
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"

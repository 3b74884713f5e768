"""The first thing a person reads: what the threshold does, what the nearest choices would do, what sets it, and
what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from vqi.evaluation.calibration import Calibration
from vqi.evaluation.metrics import Confusion
from vqi.evaluation.records import Choice, Decisive, NeighbourChoice, Verdict
from vqi.evaluation.thresholds import Threshold, conformal_threshold, rate_quantile, threshold_rank

# Neighbours of the rank in use: half as many calibration photographs above the threshold, twice and four times as many.
NEIGHBOURS = (0.5, 2, 4)
LARGEST_RATE = 0.25
NAMED = 5


def verdict(calibration: Calibration, threshold: Threshold, good: np.ndarray, defective: np.ndarray) -> Verdict:
    """The verdict from the raw scores of good and of defective test images, [n] each."""
    confusion = Confusion.at(threshold.image, defective, good)
    decisions = summarise_decisions(confusion)
    choices = _choices(calibration, threshold, good, defective)
    decisive = _decisive(calibration, threshold, good, defective)
    sentences = [
        decisions.sentence,
        _promise(threshold),
        _neighbours(choices, threshold),
        _single(decisive, confusion, threshold),
        _advice(decisive, confusion, threshold),
    ]
    return Verdict(
        fine=decisions.fine,
        sentence=decisions.sentence,
        text=tuple(sentence for sentence in sentences if sentence),
        choices=tuple(choices),
        decisive=decisive,
    )


def summarise_decisions(confusion: Confusion) -> Verdict:
    """The result in one sentence of plain language, and whether nothing went wrong."""
    detected, defects, rejected, good = totals(confusion)
    passed = (
        "no good part was tested"
        if not good
        else f"{rejected or 'none'} of {good} good part{'s' * (good != 1)} would be rejected"
    )
    caught = f"{'all' if detected == defects else detected or 'none'} of {defects} defective part{'s' * (defects != 1)}"
    if not defects and not good:
        sentence = "No labelled image was tested: how well this detector works is not known."
    elif not defects:
        sentence = f"No defective part was tested, so nothing is known about what is found; at the threshold {passed}."
    else:
        sentence = f"At the threshold this detector finds {caught}, and {passed}."
    return Verdict(fine=bool(defects) and detected == defects and not rejected, sentence=sentence, text=(sentence,))


def totals(confusion: Confusion) -> tuple[int, int, int, int]:
    """Defects found, all defects, good parts rejected, all good parts."""
    return confusion.true_positive, confusion.defects, confusion.false_positive, confusion.good


def percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.3g} %"


def choice(calibration: Calibration, rate: float, good: np.ndarray, defective: np.ndarray) -> Choice:
    """What a false-reject rate would do to the test images."""
    value, possible = conformal_threshold(calibration.scores, rate)
    n, promises = len(calibration.scores), calibration.kind != "seen"
    return Choice(
        rate=possible,
        promised=possible if promises else None,
        rate_95=rate_quantile(n, threshold_rank(n, rate)) if promises else None,
        threshold=value,
        confusion=Confusion.at(value, defective, good),
    )


def _choices(
    calibration: Calibration, threshold: Threshold, good: np.ndarray, defective: np.ndarray
) -> list[NeighbourChoice]:
    """The threshold in use and its nearest neighbours, the strictest first: what to ask for (`rate`), what it
    promises, and its decisions.
    """
    n, requested = len(calibration.scores), threshold.requested_false_reject_rate
    in_use = max(requested, 1 / (n + 1))
    above = n + 1 - threshold_rank(n, in_use)
    # Upwards to hundredths of a percent: a rate that a person can type, at which the promise holds still.
    rates = {math.ceil(round(above * times) / (n + 1) * 10**4) / 10**4 for times in NEIGHBOURS if above * times >= 1}
    seen, rows = set(), []
    for rate in [in_use, *sorted(rate for rate in rates if rate <= LARGEST_RATE)]:
        value, _ = conformal_threshold(calibration.scores, rate)
        if value in seen:
            continue
        seen.add(value)
        rows.append(NeighbourChoice(**dict(choice(calibration, rate, good, defective)), in_use=rate == in_use))
    return sorted(rows, key=lambda row: -row.threshold)


def _decisive(
    calibration: Calibration, threshold: Threshold, good: np.ndarray, defective: np.ndarray
) -> Decisive | None:
    """The threshold without one calibration photograph, where there are some that move it down: which those are,
    highest first, and what follows.
    """
    n = len(calibration.scores)
    if n < 2:
        return None
    order = sorted(range(n), key=lambda number: -calibration.scores[number])
    requested = max(threshold.requested_false_reject_rate, 1 / (n + 1))
    above, above_without = (
        n + 1 - threshold_rank(n, requested),
        n - threshold_rank(n - 1, threshold.requested_false_reject_rate),
    )
    # Of n - 1 the same number lies at or above the threshold: without one of these photographs it comes down to the
    # next; else it stays.
    without = calibration.scores[order[above]] if above_without == above and above < n else threshold.image
    if without >= threshold.image:
        return None
    return Decisive(
        photographs=tuple(calibration.paths[number] for number in order[:above][:NAMED]),
        count=above,
        threshold=without,
        confusion=Confusion.at(without, defective, good),
    )


def _promise(threshold: Threshold) -> str:
    if threshold.false_reject_rate is None:
        return "No share of rejected good parts is promised."
    rate = percent(threshold.false_reject_rate)
    if threshold.kind == "split":
        share = (
            f"On average at most {rate} of good parts are rejected, guaranteed for parts like those it was "
            "calibrated on"
        )
    else:
        share = f"About {rate} of good parts are expected to be rejected"
    return (
        f"{share}; this one detector may reject up to {percent(threshold.rate_95)}, by chance of the photographs (95 "
        "% certainty)."
    )


def _neighbours(choices: Sequence[NeighbourChoice], threshold: Threshold) -> str:
    """What the nearest other thresholds would do on the same test parts."""
    others = [row for row in choices if not row.in_use]
    mine = next(row.confusion for row in choices if row.in_use)
    if not others or not mine.total:
        return ""
    named = " and ".join(percent(row.rate) for row in others)
    if all(row.confusion == mine for row in others):
        return (
            f"{'A threshold' if len(others) == 1 else 'Thresholds'} for {named} would decide the same of these parts."
        )
    parts = []
    for row in others:
        detected, defects, rejected, good = totals(row.confusion)
        done = [f"finds {detected} of {defects}"] * bool(defects) + [f"rejects {rejected} of {good}"] * bool(good)
        parts.append(f"{percent(row.rate)} {' and '.join(done)}")
    promise = {"split": "guaranteed on average", "cross": "expected, not guaranteed", "seen": "not promised"}[
        threshold.kind
    ]
    return f"Nearest choices: a false-reject rate of {'; '.join(parts)} ({promise}; set threshold.false_reject_rate)."


def _single(decisive: Decisive | None, confusion: Confusion, threshold: Threshold) -> str:
    """Which photograph sets the threshold, and by how much."""
    if decisive is None:
        return ""
    changed = _changed(confusion, decisive.confusion)
    if decisive.count > 1:
        # No single one sets it; that any of several moves it is worth a sentence only where decisions hang on it.
        if not changed:
            return ""
        who = (
            f"without any one of the {decisive.count} highest of {threshold.calibration_images} calibration photographs"
        )
    else:
        who = f"without {decisive.photographs[0]}"
    size = f"{decisive.threshold:.4g} in place of {threshold.image:.4g}"
    what = changed or "with the same decisions on these parts"
    if decisive.count == 1:
        return f"One good photograph alone sets the threshold: {who} it would be {size}, {what}."
    return f"{who[0].upper()}{who[1:]} the threshold would be {size}, {what}."


def _changed(before: Confusion, after: Confusion) -> str:
    """The decisions that a lower threshold changes, as a clause; empty where it changes none."""
    detected, defects, rejected, good = totals(after)
    changes = []
    if after.true_positive != before.true_positive:
        changes.append(f"finding {detected} of {defects} defective parts")
    if after.false_positive != before.false_positive:
        changes.append(f"rejecting {rejected} of {good} good ones")
    return " and ".join(changes)


def _advice(decisive: Decisive | None, confusion: Confusion, threshold: Threshold) -> str:
    """What to do next; empty where there is nothing."""
    steps = []
    if decisive and decisive.count == 1 and _changed(confusion, decisive.confusion):
        steps.append(
            "look at that photograph, and leave it out if the part is not good or was taken in another way (a good "
            "part that looks unusual stays)"
        )
    rate, promised = threshold.requested_false_reject_rate, threshold.false_reject_rate
    if promised is None:
        steps.append("hold normals out for the threshold (data.calibration_fraction=0.2)")
    elif promised > rate:
        more = math.ceil(1 / Fraction(str(rate))) - 1 - threshold.calibration_images
        steps.append(f"bring {more} more good photographs to calibrate on for the {percent(rate)} that was asked for")
    if not steps:
        return ""
    sentence = "; ".join(steps)
    return f"What to do: {sentence}."

"""The first thing a person reads: the result, the nearest choices, the photograph that sets the threshold, and
what to do.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from example_results import confusion
from vqi.evaluation.calibration import Calibration
from vqi.evaluation.records import Decisive, Verdict
from vqi.evaluation.thresholds import calibrate, conformal_threshold
from vqi.evaluation.verdict import summarise_decisions, verdict


def calibration(scores: list[float], kind: Literal["split", "cross", "seen"] = "cross") -> Calibration:
    values = tuple(map(float, scores))
    return Calibration(
        kind, 10 if kind == "cross" else None, tuple(f"{n}.png" for n in range(len(values))), values, values, values
    )


def judged(
    scores: list[float], good: list[float], defective: list[float], rate: float = 0.01, kind: Any = "cross"
) -> Verdict:
    normals = calibration(scores, kind)
    return verdict(normals, calibrate(normals, rate), np.array(good, dtype=float), np.array(defective, dtype=float))


# Thirty good parts from 1 to 1.29, and one that stands alone at 3; half of the defects lie between.
NORMALS = [3.0, *(1 + n / 100 for n in range(30))]
GOOD, DEFECTIVE = [1.1] * 13 + [1.285], [1.5] * 16 + [4.0] * 16


def test_one_photograph_that_halves_the_detections_is_named_with_its_effect() -> None:
    result = judged(NORMALS, GOOD, DEFECTIVE)
    assert result.decisive == Decisive(
        photographs=("0.png",), count=1, threshold=1.29, confusion=confusion(32, 0, 14, 0)
    )
    first, promise, choices, single, advice = result.text
    assert (
        first
        == result.sentence
        == "At the threshold this detector finds 16 of 32 defective parts, and none of 14 good parts would be rejected."
    )
    assert promise.startswith(
        "About 3.12 % of good parts are expected to be rejected; this one detector may reject up to 9.21 %"
    )
    assert (
        "a false-reject rate of 6.25 % finds 32 of 32 and rejects 0 of 14; 12.5 % finds 32 of 32 and rejects 1 of 14"
        in choices
    )
    assert "expected, not guaranteed" in choices
    assert single == (
        "One good photograph alone sets the threshold: without 0.png it would be 1.29 in place of 3, finding 32 of 32 "
        "defective parts."
    )
    assert "look at that photograph" in advice
    assert "bring 68 more good photographs to calibrate on for the 1 %" in advice
    assert not result.fine


def test_the_choices_keep_what_they_promise_and_can_be_typed() -> None:
    result = judged(NORMALS, GOOD, DEFECTIVE)
    assert [(row.rate, row.threshold, row.in_use) for row in result.choices] == [
        (1 / 32, 3.0, True),
        (0.0625, 1.29, False),
        (0.125, 1.27, False),
    ]
    assert [row.promised for row in result.choices] == [1 / 32, 0.0625, 0.125]
    for n, rate in ((31, 0.01), (150, 0.01), (250, 0.02), (777, 0.03), (5, 0.3)):
        random = np.random.default_rng(n)
        scores = random.permutation(n).tolist()
        rows = judged(scores, [0], [n], rate).choices
        (in_use,) = (row for row in rows if row.in_use)
        assert in_use.threshold == calibrate(calibration(scores), rate).image
        assert len({row.threshold for row in rows}) == len(rows)
        for row in rows:
            typed = float(f"{row.rate:.4f}") if not row.in_use else row.rate
            assert conformal_threshold(scores, typed) == (row.threshold, row.promised)
            assert sum(score > row.threshold for score in scores) + 1 <= row.promised * (n + 1) + 1e-9


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [2, 9, 31, 59, 99, 100, 140])
@pytest.mark.parametrize("levels", [None, 12])
def test_what_one_photograph_moves_is_what_leaving_each_out_shows(n: int, rate: float, levels: int | None) -> None:
    random = np.random.default_rng(n)
    scores = random.lognormal(size=n) if levels is None else random.integers(0, levels, n).astype(float)
    threshold = calibrate(calibration(scores.tolist()), rate)
    without = [conformal_threshold(np.delete(scores, number).tolist(), rate)[0] for number in range(n)]
    lower = {f"{number}.png": value for number, value in enumerate(without) if value < threshold.image}
    decisive = judged(scores.tolist(), [0.0], [9.0], rate).decisive
    if not lower:
        assert decisive is None
    else:
        assert decisive.count == len(lower)
        assert set(decisive.photographs) <= set(lower)
        assert {decisive.threshold} == set(lower.values())


def test_a_threshold_that_hangs_on_no_photograph_is_not_blamed_on_one() -> None:
    result = judged([1 + n / 1000 for n in range(200)], [1.05] * 20, [5.0] * 10, rate=0.02, kind="split")
    assert not any("alone" in sentence or "look at that photograph" in sentence for sentence in result.text)
    assert result.fine
    assert result.text[1].startswith("On average at most 2 % of good parts are rejected, guaranteed")
    assert not any(sentence.startswith("What to do") for sentence in result.text)
    assert any("would decide the same" in sentence for sentence in result.text)


def test_a_single_photograph_without_consequence_is_reported_and_needs_no_action() -> None:
    result = judged([1 + n / 1000 for n in range(99)], [1.05] * 20, [5.0] * 10)
    assert any("same decisions on these parts" in sentence for sentence in result.text)
    assert "Thresholds for 2 % and 4 % would decide the same of these parts." in result.text
    assert "A threshold for 15.4 % would decide the same of these parts." in judged(list(range(12)), [1.0], [99.0]).text
    assert not any("look at" in sentence for sentence in result.text)


def test_scores_that_were_trained_on_promise_nothing_anywhere() -> None:
    result = judged(NORMALS, GOOD, DEFECTIVE, kind="seen")
    assert result.text[1] == "No share of rejected good parts is promised."
    assert "(not promised; set threshold.false_reject_rate)" in result.text[2]
    assert {(row.promised, row.rate_95) for row in result.choices} == {(None, None)}
    assert "data.calibration_fraction" in result.text[-1]


@pytest.mark.parametrize(("good", "defective"), [([], []), ([1.0, 4.0], []), ([], [1.0, 4.0])])
@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0], [3.0, 1.0, 1.0]])
def test_a_verdict_exists_whatever_is_missing(scores: list[float], good: list[float], defective: list[float]) -> None:
    result = judged(scores, good, defective)
    assert result.sentence == result.text[0]
    assert all(
        sentence.endswith(".") and "None" not in sentence and " of 0" not in sentence for sentence in result.text
    )
    assert sum(row.in_use for row in result.choices) == 1


def test_the_result_is_fine_where_all_is_detected_and_nothing_rejected() -> None:
    assert summarise_decisions(confusion(3, 0, 5, 0)).fine
    assert not summarise_decisions(confusion(3, 1, 5, 0)).fine
    assert not summarise_decisions(confusion(0, 0, 5, 0)).fine

"""The gate of a promotion: figures of a candidate, of the champion, and the rule they are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqi.evaluation.paired_bootstrap import Estimate, compare_paired, rates_of
from vqi.platform.records import Items, Record
from vqi.registry.measuring import Measured
from vqi.registry.settings import PromoteSettings


class Figure(Record):
    """One row of the comparison. `low` and `high` are the interval of candidate less champion, `reason` is why the rule
    refuses it ("" where it passes)."""

    name: str
    candidate: float
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


class Judgement(Record):
    """Every figure, and how many parts they come from."""

    figures: Items[Figure]
    good: int
    defect: int

    @property
    def reasons(self) -> list[str]:
        """Why the candidate is refused; empty where it passes."""
        return [figure.reason for figure in self.figures if figure.reason]


def judge_first(candidate: Measured, defect: np.ndarray, rule: PromoteSettings) -> Judgement:
    """The figures of a candidate where no champion stands, held against the absolute part of the rule."""
    rates = rates_of(candidate.scored, defect)
    auroc, recall, rejects = (float(value[0]) for value in (rates.auroc, rates.recall, rates.false_rejects))
    figures = (
        Figure(name="image AUROC", candidate=auroc, reason=_too_low("image AUROC", auroc, "min_auroc", rule.min_auroc)),
        Figure(name="recall", candidate=recall, reason=_too_low("recall", recall, "min_recall", rule.min_recall)),
        Figure(name="false rejects", candidate=rejects, reason=_too_many(rejects, rule)),
        Figure(name="latency, ms", candidate=candidate.latency_ms),
        Figure(name="size, MiB", candidate=candidate.size_mib),
    )
    return Judgement(figures=figures, good=int((~defect).sum()), defect=int(defect.sum()))


def judge_pair(
    candidate: Measured,
    champion: Measured,
    defect: np.ndarray,
    groups: Sequence[str],
    rule: PromoteSettings,
    seed: int = 0,
) -> Judgement:
    """The figures of both, held against the whole rule."""
    paired = compare_paired(candidate.scored, champion.scored, defect, groups, seed)
    auroc, recall, rejects = paired.auroc, paired.recall, paired.false_rejects
    figures = (
        _figure(
            "image AUROC",
            auroc,
            _too_low("image AUROC", auroc.first, "min_auroc", rule.min_auroc)
            or _fallen("image AUROC", auroc, "max_auroc_loss", rule.max_auroc_loss, rule),
        ),
        _figure(
            "recall",
            recall,
            _too_low("recall", recall.first, "min_recall", rule.min_recall)
            or _fallen("recall", recall, "max_recall_loss", rule.max_recall_loss, rule),
        ),
        _figure("false rejects", rejects, _too_many(rejects.first, rule) or _risen(rejects, rule)),
        _ratio("latency, ms", candidate.latency_ms, champion.latency_ms, "max_latency_ratio", rule.max_latency_ratio),
        _ratio("size, MiB", candidate.size_mib, champion.size_mib, "max_size_ratio", rule.max_size_ratio),
    )
    return Judgement(figures=figures, good=paired.parts[0], defect=paired.parts[1])


def _figure(name: str, estimate: Estimate, reason: str) -> Figure:
    return Figure(
        name=name,
        candidate=estimate.first,
        champion=estimate.second,
        low=estimate.low,
        high=estimate.high,
        reason=reason,
    )


def _too_low(name: str, value: float, key: str, least: float) -> str:
    return f"{name} is {value:.4f}, promote.{key} = {least:g} is the least" if value < least else ""


def _too_many(value: float, rule: PromoteSettings) -> str:
    if value <= rule.max_false_rejects:
        return ""
    return f"false rejects are {value:.4f}, promote.max_false_rejects = {rule.max_false_rejects:g} is the most"


def _fallen(name: str, estimate: Estimate, key: str, most: float, rule: PromoteSettings) -> str:
    """Why a figure that should be high is refused; rounding of the difference does not count."""
    loss = -(estimate.low if rule.evidence == "interval" else estimate.difference)
    if loss <= most + 1e-12:
        return ""
    return f"{name} {_may(rule)} by {loss:.4f}, promote.{key} = {most:g} is the most"


def _risen(estimate: Estimate, rule: PromoteSettings) -> str:
    gain = estimate.high if rule.evidence == "interval" else estimate.difference
    if gain <= rule.max_false_rejects_gain + 1e-12:
        return ""
    most = rule.max_false_rejects_gain
    word = "may rise" if rule.evidence == "interval" else "rise"
    return f"false rejects {word} by {gain:.4f}, promote.max_false_rejects_gain = {most:g} is the most"


def _may(rule: PromoteSettings) -> str:
    return "may fall" if rule.evidence == "interval" else "falls"


def _ratio(name: str, value: float, champion: float, key: str, most: float) -> Figure:
    ratio = value / champion if champion > 0 else 1.0
    what = name.partition(",")[0]
    reason = f"{what} is {ratio:.2f} times the champion's, promote.{key} = {most:g} is the most" if ratio > most else ""
    return Figure(name=name, candidate=value, champion=champion, reason=reason)

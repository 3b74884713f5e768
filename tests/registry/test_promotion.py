"""The gate: what it lets pass, what it refuses, what it keeps, and how a champion returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from step_calls import ingest
from vqi.dataset.settings import DataSettings
from vqi.evaluation.paired_bootstrap import Scored
from vqi.platform.errors import BadInput, RunFailed
from vqi.registry import promotion as promoting
from vqi.registry.gate import judge_first, judge_pair
from vqi.registry.measuring import Measured, measure
from vqi.registry.promotion import promote, roll_back
from vqi.registry.registering import register_bundle
from vqi.registry.settings import PromoteSettings
from vqi.tracking.registry import CHAMPION, ModelAddress, open_registry

# Times of a few milliseconds on a busy machine say nothing.
RULE = PromoteSettings(max_latency_ratio=1000)


def champion_of(name: str) -> int | None:
    with open_registry() as registry:
        version = registry.version_of(name, CHAMPION)
    return version.version if version else None


def tags_of(name: str, version: int) -> dict[str, str]:
    with open_registry() as registry:
        return dict(registry.resolve(ModelAddress(name, version=version)).tags)


def test_champions_follow_each_other_and_return(registry_uri: str, name: str, variant: Any, tested: Path) -> None:
    data = DataSettings(source=str(tested))
    register_bundle(variant("first"), name)
    first = promote(name, RULE, data)
    assert (first.decision, first.candidate, first.champion) == ("accepted", 1, None)
    assert [figure.name for figure in first.figures][:3] == ["image AUROC", "recall", "false rejects"]
    assert (first.photographs, first.good, first.defect) == (12, 6, 6)
    assert promote(f"{name}/1", RULE, data).decision == "unchanged"

    # A threshold far above finds nothing.
    register_bundle(variant("blind", factor=1000.0), name)
    blind = promote(name, RULE, data)
    assert (blind.decision, blind.champion, champion_of(name)) == ("refused", 1, 1)
    assert blind.reasons == ("recall is 0.0000, promote.min_recall = 0.5 is the least",)
    kept = tags_of(name, 2)
    assert (kept["promotion.decision"], kept["promotion.against"]) == ("refused", f"{name}/1")
    assert json.loads(kept["promotion.figures"])[1]["champion"] == 1.0

    register_bundle(variant("third", auroc=0.95), name)
    third = promote(name, RULE, data)
    assert (third.decision, third.champion, champion_of(name)) == ("accepted", 1, 3)
    assert third.figures[0].low == third.figures[0].high == 0
    with open_registry() as registry:
        assert registry.version_of(name, "candidate") is None
        assert registry.champions(name) == [1, 3]
    assert "vqi.champion_until" in tags_of(name, 1)

    back, present = roll_back(name)
    assert (back.version, present.version if present else None, champion_of(name)) == (1, 3, 1)
    with pytest.raises(BadInput, match=rf"No champion of {name} before this one is known \(version 1 stands\)"):
        roll_back(name)
    assert promote(f"{name}/3", RULE, data).decision == "accepted"


def test_an_alias_that_was_set_elsewhere_is_known_to_the_history(
    registry_uri: str, name: str, variant: Any, tested: Path
) -> None:
    for label in ("one", "two"):
        register_bundle(variant(label), name)
    with open_registry() as registry:
        registry.set_alias(name, CHAMPION, 1)
    assert promote(name, RULE, DataSettings(source=str(tested))).champion == 1
    assert roll_back(name)[0].version == 1


def test_a_champion_that_became_another_meanwhile_is_not_replaced(
    registry_uri: str, name: str, variant: Any, tested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_bundle(variant("one"), name)
    register_bundle(variant("two"), name)

    def meanwhile(*arguments: Any) -> Any:
        with open_registry() as registry:
            registry.set_alias(name, CHAMPION, 1)
        return measure(*arguments)

    monkeypatch.setattr(promoting, "measure", meanwhile)
    with pytest.raises(RunFailed, match="became another while"):
        promote(f"{name}/2", RULE, DataSettings(source=str(tested)))
    assert champion_of(name) == 1


def test_the_dataset_that_a_version_was_registered_with_is_compared_on(
    registry_uri: str, name: str, toy_bundle: Path, tested: Path, tmp_path: Path
) -> None:
    ingest(
        name="plates",
        source=str(tested),
        layout="mvtec",
        mask_suffix="",
        calibration_fraction=0.0,
        seed=0,
        dataset=tmp_path / "dataset",
    )
    register_bundle(toy_bundle, name, dataset=str(tmp_path / "dataset"))
    promotion = promote(name, RULE, DataSettings())
    assert (promotion.decision, promotion.photographs, promotion.data) == ("accepted", 12, str(tmp_path / "dataset"))
    # The toy bundle was not made from it.
    assert promotion.notes[0].startswith("The photographs are another Dataset's than the test split of")


def test_without_photographs_it_says_what_to_do(
    registry_uri: str, name: str, toy_bundle: Path, tmp_path: Path, tested: Path
) -> None:
    register_bundle(toy_bundle, name, dataset=str(tmp_path / "gone"))
    with pytest.raises(BadInput, match=r"its Dataset .*gone is not here; name some with --data"):
        promote(name, RULE, DataSettings())
    with pytest.raises(BadInput, match="does not say which good photographs are for testing"):
        promote(name, RULE, DataSettings(source=str(tested / "train")))
    with pytest.raises(BadInput, match="does not exist"):
        promote(name, RULE, DataSettings(source=str(tmp_path / "nowhere")))


def measured(scores: np.ndarray, threshold: float = 0.5, latency: float = 10.0, size: float = 5.0) -> Measured:
    return Measured(Scored(scores, threshold), latency, size, 0, "openvino")


GOOD, BAD = np.linspace(0.0, 0.4, 40), np.linspace(0.6, 1.0, 40)
DEFECT = np.arange(80) >= 40
PERFECT = np.concatenate([GOOD, BAD])


def test_every_part_of_the_rule_refuses_what_it_is_for() -> None:
    worse = PERFECT.copy()
    worse[40:44] = 0.2  # four defects among the good parts
    strict = PERFECT.copy()
    strict[36:40] = 0.55  # four good parts rejected
    champion = measured(PERFECT)
    groups = [""] * 80

    def reasons(candidate: Measured, **rule: Any) -> list[str]:
        return judge_pair(candidate, champion, DEFECT, groups, PromoteSettings(**rule)).reasons

    assert reasons(measured(PERFECT)) == []
    assert [reason.partition(" ")[0] for reason in reasons(measured(worse))] == ["image", "recall"]
    assert "falls by 0.0500, promote.max_auroc_loss = 0.01 is the most" in reasons(measured(worse))[0]
    assert reasons(measured(worse), max_auroc_loss=0.06, max_recall_loss=0.1) == []
    assert "may fall by" in reasons(measured(worse), max_auroc_loss=0.06, max_recall_loss=0.1, evidence="interval")[0]
    assert reasons(measured(strict)) == [
        "false rejects rise by 0.1000, promote.max_false_rejects_gain = 0.02 is the most"
    ]
    assert reasons(measured(PERFECT, latency=16.0)) == [
        "latency is 1.60 times the champion's, promote.max_latency_ratio = 1.5 is the most"
    ]
    assert reasons(measured(PERFECT, size=11.0))[0].startswith("size is 2.20 times")
    # What is allowed each time must not lead anywhere in the end.
    assert "promote.min_auroc = 0.97 is the least" in reasons(measured(worse), max_auroc_loss=0.5, min_auroc=0.97)[0]
    first = judge_first(measured(worse), DEFECT, PromoteSettings(min_auroc=0.99, min_recall=0.95, max_false_rejects=0))
    assert [reason.partition(" is ")[0] for reason in first.reasons] == ["image AUROC", "recall"]
    assert judge_first(champion, DEFECT, PromoteSettings()).reasons == []


def test_measuring_scores_as_the_bundle_does(toy_bundle: Path, tested: Path) -> None:
    from vqi.deployment.predictor import Predictor
    from vqi.registry.compared_photographs import open_photographs

    with open_photographs(DataSettings(source=str(tested))) as compared:
        names = [photograph.name for photograph in compared.photographs]
        assert names[0].startswith("test/good/")
        (row,) = measure([toy_bundle], compared.photographs)
    expected = [result.score for result in Predictor(toy_bundle, threads=1).predict([tested / path for path in names])]  # type: ignore[union-attr]
    assert row.scored.scores.tolist() == expected
    assert row.latency_ms > 0
    assert row.size_mib == pytest.approx(
        sum(path.stat().st_size for path in toy_bundle.rglob("*") if path.is_file()) / 2**20, abs=1e-3
    )

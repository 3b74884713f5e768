"""What a person fills in, to the trials of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vqi.category import Category
from vqi.dataset.sources import source_fingerprint
from vqi.platform.errors import BadInput, RunFailed
from vqi.steps.plan_trials.planning import OF_THE_COMPARISON, plan
from vqi.steps.plan_trials.step import ITEM, plan_compact_trials, plan_trials, trial_key
from vqi.tracking.comparisons import Comparison, trial_tags

CAP, NUT = (
    {"name": "cap", "data_source": "s3://photos/cap"},
    {"name": "nut", "data_source": "s3://photos/nut", "image_size": "512,512"},
)


def refuse(source: str) -> str:
    """The listing of a source that cannot be reached."""
    raise RunFailed(f"{source} cannot be had.")


def test_categories_by_methods_by_settings() -> None:
    methods = [
        "padim",
        {"method_name": "patchcore", "method_settings": [{"coreset_ratio": 0.1}, {"coreset_ratio": 0.01}]},
    ]
    trials = plan(json.dumps([CAP, NUT]), json.dumps(methods), '{"backbone_name": "filterbank"}')
    assert [(trial.mark, trial.category.name, trial.label) for trial in trials] == [
        ("1", "cap", "padim"),
        ("2", "cap", "patchcore (coreset_ratio=0.1)"),
        ("3", "cap", "patchcore (coreset_ratio=0.01)"),
        ("4", "nut", "padim"),
        ("5", "nut", "patchcore (coreset_ratio=0.1)"),
        ("6", "nut", "patchcore (coreset_ratio=0.01)"),
    ]
    assert {trial.category.backbone.name for trial in trials} == {"filterbank"}
    assert trials[5].category.image.size == (512, 512)
    assert trials[0].category.image.size == (256, 256)


def test_what_is_nearer_wins_and_settings_go_with_their_method() -> None:
    own = {**CAP, "image_size": "300,300", "method_settings": {"coreset_ratio": 0.2}}
    first, second = plan(
        json.dumps([own]),
        '["patchcore", {"method_name": "padim", "image_size": "400,400"}]',
        '{"image_size": "200,200"}',
    )
    assert (first.category.image.size, first.category.method.settings) == ((300, 300), {"coreset_ratio": 0.2})
    assert (second.category.image.size, second.category.method.settings) == ((400, 400), {})


def test_names_by_commas_and_none_at_all() -> None:
    assert [trial.label for trial in plan(json.dumps([CAP]), "padim, patchcore")] == ["padim", "patchcore"]
    assert [trial.label for trial in plan(json.dumps([{**CAP, "method_name": "dfm"}]))] == ["dfm"]


def test_every_trial_is_complete_and_survives_a_loop_that_makes_floats_of_numbers() -> None:
    (trial,) = plan(json.dumps([CAP]))
    floats = {
        name: float(value) if isinstance(value, int) else value for name, value in trial.category.parameters().items()
    }
    assert set(floats) == set(Category().parameters())
    assert Category.from_parameters(floats) == trial.category


@pytest.mark.parametrize(
    ("categories", "methods", "common", "sentence"),
    [
        ("", "", "", "categories is empty"),
        ("[", "", "", "categories is not readable JSON"),
        ("flange", "", "", "it must be a list"),
        ('["flange"]', "", "", "categories, entry 1 is 'flange'; it must be an object"),
        ('[{"name": "cap"}]', "", "", "categories, entry 1: data_source is missing"),
        (
            json.dumps([CAP, {"nmae": "nut"}]),
            "",
            "",
            "categories, entry 2: 'nmae' is not a parameter of a run. Did you mean 'name'?",
        ),
        (json.dumps([CAP]), "patchcor", "", "with methods, entry 1"),
        (json.dumps([CAP]), '[{"method_settings": {}}]', "", "methods, entry 1 names no method"),
        (json.dumps([CAP]), "", "[1]", "common is [1]"),
        (json.dumps([CAP]), "", '{"tracking_uri": "http://here"}', "tracking_uri is one for all trials"),
        (json.dumps([CAP, CAP]), "", "", "Trials 1 and 2 (cap, patchcore) are the same run"),
        (json.dumps([CAP]), '[{"method_name": "patchcore", "method_settings": {"coreset": 1}}]', "", "coreset"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(categories: str, methods: str, common: str, sentence: str) -> None:
    with pytest.raises(BadInput) as refused:
        plan(categories, methods, common)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_mlflow_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadInput, match="gathered through MLflow"):
        plan_trials(
            categories=json.dumps([CAP]),
            methods="",
            common="{}",
            pool="any",
            tracking_uri="",
            experiment="vqi",
            key="k",
            name="n",
        )


def test_the_plan_is_kept_in_mlflow_before_anything_runs(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    items = plan_trials(
        categories=json.dumps([CAP, NUT]),
        methods="",
        common="{}",
        pool="any",
        tracking_uri=uri,
        experiment="all",
        key="k",
        name="n",
    )
    comparison = Comparison.find(uri, "all", "k")
    assert comparison is not None
    assert [trial.category for trial in comparison.read_trials()] == ["cap", "nut"]
    assert [item[f"{ITEM}tracking_comparison"] for item in items] == [
        f"{comparison.run_id}/1",
        f"{comparison.run_id}/2",
    ]
    for item in items:
        category = Category.from_parameters({name.removeprefix(ITEM): value for name, value in item.items()})
        assert (category.tracking.uri, category.tracking.experiment) == (uri, "all")
    assert not set(comparison.read_trials()[0].parameters) & set(OF_THE_COMPARISON)
    assert Comparison.find(uri, "all", "another") is None


def test_an_index_in_shards_is_refused_in_a_cluster_s_comparison() -> None:
    """Its trials are of one DAG, which has one task for it."""
    category = {**CAP, "backbone_name": "filterbank", "compute_shards": 4}
    with pytest.raises(BadInput, match=r"compute_shards of cap is 4, and a comparison in a cluster has one task"):
        plan_trials(
            categories=json.dumps([category]),
            methods="",
            common="{}",
            pool="any",
            tracking_uri="",
            experiment="e",
            key="k",
            name="n",
        )


def test_a_compact_trial_is_what_is_not_the_default_and_all_get_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqi.steps.plan_trials.step.source_fingerprint", refuse)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    outputs = plan_compact_trials(
        categories=json.dumps([CAP, NUT]),
        methods="padim",
        common='{"resources": "{\\"train\\": {\\"memory\\": \\"9Gi\\"}}"}',
        pool="xeon",
        tracking_uri=uri,
        experiment="all",
        key="k",
        name="n",
        images={"run_trial": {"": "here/export:1", "gaudi": "here/export-gaudi:1"}},
    )
    comparison = Comparison.find(uri, "all", "k")
    assert comparison is not None
    cap, nut = outputs["trials"]
    assert cap == {
        "name": "cap",
        "data_source": "s3://photos/cap",
        "method_name": "padim",
        "pool": "xeon",
        "resources": '{"train": {"memory": "9Gi"}}',
        "tracking_uri": uri,
        "tracking_experiment": "all",
        "tracking_comparison": f"{comparison.run_id}/1",
    }
    assert Category.from_parameters(nut).image.size == (512, 512)
    assert outputs["node_selector"] == {"vqi/pool": "xeon"}
    placement = outputs["run_trial_placement"]
    assert (placement["image"], placement["memory"], placement["accelerator"]) == ("here/export:1", "9Gi", "")


def test_a_compact_trial_has_the_same_key_in_every_comparison_until_a_photograph_changes(tmp_path: Path) -> None:
    (tmp_path / "cap").mkdir()
    photograph = tmp_path / "cap" / "1.png"
    photograph.write_bytes(b"1")
    (trial,) = plan(json.dumps([{**CAP, "data_source": str(tmp_path / "cap")}]))
    (other,) = plan(json.dumps([{**CAP, "data_source": str(tmp_path / "cap"), "seed": 1}]))
    key = trial_key(trial, source_fingerprint)
    assert key == trial_key(trial, source_fingerprint) != trial_key(other, source_fingerprint)
    assert trial_tags(Category.parse({"tracking": {"comparison": key}}).tracking.comparison) == {"vqi.trial_key": key}
    photograph.write_bytes(b"22")
    assert trial_key(trial, source_fingerprint) not in (key, "")
    photograph.unlink()
    (tmp_path / "cap").rmdir()
    assert trial_key(trial, source_fingerprint) == ""


def test_compact_trials_of_two_pools_are_refused_before_anything_begins() -> None:
    with pytest.raises(
        BadInput, match=r"The trials 1 \(cap, patchcore\) and 2 \(nut, patchcore\) need different nodes"
    ):
        plan_compact_trials(
            categories=json.dumps([CAP, {**NUT, "pool": "gaudi"}]),
            methods="",
            common="{}",
            pool="any",
            tracking_uri="",
            experiment="e",
            key="k",
            name="n",
            images={},
        )

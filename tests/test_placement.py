from __future__ import annotations

from typing import Any

import pytest

from vqi.placement import (
    DEVICE_STEPS,
    POOLS,
    STEPS,
    composite_placement,
    parse_resources,
    placements,
    runs_step,
    shared_placement,
)
from vqi.platform.errors import BadInput

DEVICES = {"any": "auto", "xeon": "cpu", "gaudi": "hpu"}


@pytest.mark.parametrize("pool", POOLS)
def test_only_the_steps_that_touch_the_device_follow_the_pool(pool: str) -> None:
    pooled, anywhere = placements(pool), placements()
    assert tuple(pooled) == STEPS
    for step, placement in pooled.items():
        if step in DEVICE_STEPS:
            assert placement.device == DEVICES[pool]
            assert placement.node_selector == ({} if pool == "any" else {"vqi/pool": pool})
            assert (placement.accelerator, placement.accelerators) == (
                ("habana.ai/gaudi", "1") if pool == "gaudi" else ("", "0")
            )
            assert placement.variant == ("gaudi" if pool == "gaudi" else "")
        else:
            assert placement == anywhere[step]
            (term,) = placement.node_affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            assert term == {"matchExpressions": [{"key": "vqi/pool", "operator": "NotIn", "values": ["gaudi"]}]}


def test_any_prefers_nodes_without_gaudi_and_bears_no_gaudi_taint() -> None:
    placement = placements("any")["train"]
    assert set(placement.node_affinity) == {"preferredDuringSchedulingIgnoredDuringExecution"}
    assert "habana.ai/gaudi" not in str(placement.tolerations)
    assert "habana.ai/gaudi" in str(placements("gaudi")["train"].tolerations)


def test_a_card_a_process_for_training_and_one_for_the_rest() -> None:
    by_step = placements("gaudi", processes=8)
    assert [by_step[step].accelerators for step in DEVICE_STEPS] == ["8", "1", "1"]


def test_the_device_by_name_needs_its_nodes() -> None:
    assert placements("any", device="hpu") == placements("gaudi")
    assert placements("any", device="cpu")["train"].device == "cpu"
    for pool, device in (("gaudi", "cpu"), ("xeon", "hpu"), ("xeon", "cuda:0")):
        with pytest.raises(BadInput, match=f"pool is {pool}, but compute.device is '{device}'"):
            placements(pool, device=device)


def test_resources_override_the_defaults() -> None:
    resources = {"train": {"cpu": 8, "memory": "16Gi", "hugepages": "1Gi"}, "ingest": {"cpu": 0.5}}
    by_step, default = placements("xeon", resources), placements("xeon")
    train = by_step["train"]
    # What is asked for is both guaranteed and the limit.
    assert (train.cpu_request, train.cpu, train.memory) == ("8", "8", "16Gi")
    assert (train.accelerator, train.accelerators) == ("hugepages-2Mi", "1Gi")
    assert (by_step["ingest"].cpu_request, by_step["ingest"].cpu, by_step["ingest"].memory) == (
        "0.5",
        "0.5",
        default["ingest"].memory,
    )
    assert by_step["evaluate"] == default["evaluate"]


def test_kfp_and_yaml_write_numbers_in_their_own_ways() -> None:
    assert (
        parse_resources({"train": {"cpu": 4.0}}) == parse_resources({"train": {"cpu": "4"}}) == {"train": {"cpu": "4"}}
    )


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ("much", "must map steps"),
        ({"trian": {}}, "Did you mean 'train'?"),
        ({"configure": {"cpu": 1}}, "resources.configure is not a step"),
        ({"train": 4}, "must be a mapping"),
        ({"train": {"gpu": 1}}, "resources.train.gpu is not a key here. Did you mean 'cpu'?"),
        ({"train": {"cpu": "four"}}, "write cores such as 2, 0.5 or 500m"),
        ({"train": {"cpu": "4 "}}, "write cores"),
        ({"train": {"cpu": True}}, "write cores"),
        ({"train": {"cpu": 0}}, "between 50m and 1024"),
        ({"train": {"cpu": "1025"}}, "between 50m and 1024"),
        ({"train": {"memory": 8}}, "which is 8 bytes"),
        ({"train": {"memory": "8GB"}}, "write bytes such as 8Gi"),
        ({"train": {"memory": "1.5Gi"}}, "write bytes"),
        ({"train": {"memory": "8m"}}, "write bytes"),
        ({"train": {"hugepages": "3Mi"}}, "multiple of 2Mi"),
        ({"export": {"hugepages": "1Gi"}}, "only train, build_index, evaluate"),
    ],
)
def test_bad_resources_are_one_sentence(resources: Any, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        placements("any", resources)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hugepages_beside_a_gaudi_are_refused_with_the_way_out() -> None:
    with pytest.raises(BadInput, match=r"habana\.ai/gaudi; let the cluster add them"):
        placements("gaudi", {"train": {"hugepages": "1Gi"}})


def test_an_unknown_pool() -> None:
    with pytest.raises(BadInput, match="Did you mean 'gaudi'"):
        placements("guadi")


def test_a_composite_gets_the_largest_of_what_its_steps_get_on_the_nodes_of_the_device() -> None:
    resources = {"train": {"cpu": 8, "hugepages": "1Gi"}, "export": {"memory": "16Gi"}, "ingest": {"cpu": "500m"}}
    by_step = placements("xeon", resources)
    made = composite_placement("make_bundle", by_step)
    assert (made.cpu_request, made.cpu, made.memory) == ("8", "8", "16Gi")
    assert (made.accelerator, made.accelerators) == ("hugepages-2Mi", "1Gi")
    assert (made.node_selector, made.variant) == ({"vqi/pool": "xeon"}, "")
    prepared = composite_placement("prepare", by_step)
    # 500m is less than the check's 2.
    assert (prepared.cpu_request, prepared.cpu, prepared.memory) == ("500m", "2", "2Gi")
    assert prepared.node_affinity == by_step["ingest"].node_affinity


def test_a_composite_on_gaudi_has_the_cards_of_its_training() -> None:
    trial = composite_placement("run_trial", placements("gaudi", processes=4))
    assert (trial.accelerator, trial.accelerators, trial.variant) == ("habana.ai/gaudi", "4", "gaudi")
    assert trial.memory == "32Gi"


def test_trials_share_what_the_largest_needs_and_no_nodes_of_different_pools() -> None:
    def trial(pool: str, **resources: Any) -> Any:
        return composite_placement("run_trial", placements(pool, resources))

    shared = shared_placement({"1": trial("xeon", train={"cpu": 2}), "2": trial("xeon", evaluate={"memory": "9Gi"})})
    assert (shared.cpu, shared.memory) == ("4", "9Gi")
    with pytest.raises(BadInput) as refused:
        shared_placement({"1 (cap)": trial("xeon"), "2 (nut)": trial("gaudi")})
    assert str(refused.value) == (
        "The trials 1 (cap) and 2 (nut) need different nodes (pool xeon and pool gaudi with habana.ai/gaudi), and all "
        "of a compact comparison run on the same; compare them in two, or ask for the full form."
    )


def test_a_task_runs_its_step_or_those_of_a_composite() -> None:
    assert runs_step("make-bundle", "evaluate")
    assert runs_step("build-index", "build_index")
    assert runs_step("plan-compact-trials", "plan_trials")
    assert not runs_step("prepare", "evaluate")
    assert not runs_step("for-loop-1", "evaluate")

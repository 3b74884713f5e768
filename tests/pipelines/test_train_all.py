"""The compiled package of every category at once."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from vqi.category import Category
from vqi.steps.plan_trials.step import ITEM
from vqi_pipelines.train_all import PARALLEL, train_all
from vqi_pipelines.train_category import OF_OTHERS, train_category

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"


def packaged(name: str) -> dict:
    return next(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text()))


@pytest.fixture(scope="module")
def package() -> dict:
    return packaged("train_all")


def tasks_of(package: dict) -> list[tuple[str, dict]]:
    """Every task of the pipeline and of all DAGs within it."""
    dags = [package["root"], *(component for component in package["components"].values() if "dag" in component)]
    return [pair for dag in dags for pair in dag["dag"]["tasks"].items()]


def the_loop(package: dict) -> dict:
    return next(task for _, task in tasks_of(package) if "parameterIterator" in task)


def test_it_parses_strictly(package: dict) -> None:
    json_format.ParseDict(package, pipeline_spec_pb2.PipelineSpec())


def test_a_trial_is_the_very_dag_of_train_category(package: dict) -> None:
    alone = packaged("train_category")
    assert package["components"]["comp-train-category"]["dag"] == alone["root"]["dag"]
    for name, component in alone["components"].items():
        assert package["components"][name] == component
    assert package["deploymentSpec"]["executors"].items() >= alone["deploymentSpec"]["executors"].items()


def test_a_trial_gets_every_parameter_from_its_own_item(package: dict) -> None:
    inputs = next(task for name, task in tasks_of(package) if name == "train-category")["inputs"]["parameters"]
    parameters = set(inspect.signature(train_category.pipeline_func).parameters)
    assert set(inputs) == parameters == set(Category().parameters()) - set(OF_OTHERS)
    for name, source in inputs.items():
        # Not a constant: an item's attribute `name` is KFP's own.
        assert source["parameterExpressionSelector"] == f'parseJson(string_value)["{ITEM}{name}"]'


def test_the_loop_is_limited(package: dict) -> None:
    assert the_loop(package)["iteratorPolicy"]["parallelismLimit"] == PARALLEL


def test_task_names_are_unique_over_all_dags(package: dict) -> None:
    # KFP's pages look artefacts up by the task's name over the whole run.
    names = Counter(name for name, _ in tasks_of(package))
    assert not [name for name, count in names.items() if count > 1]


def test_the_comparison_stands_outside_the_loop_and_runs_whatever_happens(package: dict) -> None:
    tasks = package["root"]["dag"]["tasks"]
    assert set(tasks) == {"compare", "exit-handler-1"}
    assert tasks["compare"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    # A hook on a loop itself is never run by KFP's backend; it must hang on the DAG around the loop.
    assert tasks["compare"]["dependentTasks"] == ["exit-handler-1"]
    assert "parameterIterator" not in tasks["exit-handler-1"]
    # What kfp.local tells an exit task by.
    assert any("taskFinalStatus" in source for source in tasks["compare"]["inputs"]["parameters"].values())


def test_one_page_and_one_metrics_outside_the_trials(package: dict) -> None:
    outputs = package["components"]["comp-compare"]["outputDefinitions"]["artifacts"].values()
    assert sorted(output["artifactType"]["schemaTitle"] for output in outputs) == ["system.HTML", "system.Metrics"]


def test_planning_and_comparing_are_never_cached_and_know_each_other_by_the_run(package: dict) -> None:
    own = {name: task for name, task in tasks_of(package) if name in ("plan-trials", "compare")}
    for task in own.values():
        assert not task["cachingOptions"].get("enableCache")
        assert task["inputs"]["parameters"]["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    # One unnamed output: kfp.local loops over no other.
    assert list(package["components"]["comp-plan-trials"]["outputDefinitions"]["parameters"]) == ["Output"]


def test_the_comparison_is_read_by_the_first_step_alone(package: dict) -> None:
    """What it hands to train does not hold it (tests/steps/test_configure.py), so that a training comes from the
    cache."""
    tasks = package["components"]["comp-train-category"]["dag"]["tasks"]
    readers = {name for name, task in tasks.items() if "tracking_comparison" in task["inputs"].get("parameters", {})}
    assert readers == {"configure"}


def test_every_parameter_is_flat_text_with_a_default() -> None:
    for parameter in inspect.signature(train_all.pipeline_func).parameters.values():
        assert parameter.annotation is str
        assert isinstance(parameter.default, str)


def test_a_trial_is_configured_as_it_is_alone(package: dict) -> None:
    def platform(name: str) -> dict:
        *_, last = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
        return last["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    together, alone = platform("train_all"), platform("train_category")
    assert together.items() >= alone.items()
    # plan_trials begins an MLflow run, as train does, and so reads where KFP's UI is.
    for own, like in (("exec-compare", "exec-configure"), ("exec-plan-trials", "exec-train")):
        assert together[own]["securityContext"] == alone["exec-configure"]["securityContext"]
        for what in ("configMapAsEnv", "configMapAsVolume", "secretAsVolume"):
            assert together[own][what] == alone[like][what]

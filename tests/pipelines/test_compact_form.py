"""The compact form as it is compiled: fewer tasks, each with what its steps need, and no more than is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from vqi.category import Category
from vqi.placement import COMPACT_STEPS, STEP_BY_NAME, composite_placement
from vqi.platform.errors import BadInput
from vqi.steps.configure.step import configure
from vqi.steps.images import image
from vqi_pipelines.compiling import pipeline_of
from vqi_pipelines.task_placement import variants

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text()))


def dags(package: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (each for each in (package["root"], *package["components"].values()) if "dag" in each)


@pytest.mark.parametrize("name", ["train_category_compact", "train_all_compact"])
def test_it_parses_strictly_and_its_tasks_are_steps_by_name(name: str) -> None:
    package, _ = documents(name)
    json_format.ParseDict(package, pipeline_spec_pb2.PipelineSpec())
    for label, executor in package["deploymentSpec"]["executors"].items():
        step = label.removeprefix("exec-").replace("-", "_")
        assert executor["container"]["args"][:2] == ["--function_to_execute", step]
        assert STEP_BY_NAME[step].name == step


def test_a_category_is_three_tasks_in_a_row() -> None:
    package, _ = documents("train_category_compact")
    tasks = package["root"]["dag"]["tasks"]
    assert {name: task.get("dependentTasks", []) for name, task in tasks.items()} == {
        "configure": [],
        "prepare": ["configure"],
        "make-bundle": ["prepare"],
    }
    # Its own steps' settings alone: what a task has as inputs is its cache key.
    for task, steps in (("prepare", STEP_BY_NAME["prepare"].runs), ("make-bundle", STEP_BY_NAME["make_bundle"].runs)):
        settings = {name for name in tasks[task]["inputs"]["parameters"] if name.endswith("_settings")}
        assert settings == {f"{step}_settings" for step in steps}
    assert not tasks["configure"]["cachingOptions"].get("enableCache")


@pytest.mark.parametrize("pool", ["any", "gaudi"])
def test_a_composite_gets_what_its_largest_step_needs(pool: str) -> None:
    package, platform = documents("train_category_compact")
    category = Category.parse(
        {
            "pool": pool,
            "resources": {"export": {"cpu": 14, "memory": "40Gi"}},
            "data": {"source": str(COMPILED.parent)},
            "backbone": {"name": "filterbank"},
        }
    )
    outputs = configure(category.parameters(), json.loads(variants(["make_bundle"])))
    for composite in COMPACT_STEPS:
        expected = composite_placement(composite, category.step_placements)
        task = composite.replace("_", "-")
        container = package["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
        inputs = package["root"]["dag"]["tasks"][task]["inputs"]["parameters"]

        def resolved(value: str, inputs: dict[str, Any] = inputs) -> Any:
            named = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}", value)
            if not named:
                return value
            spec = inputs[named[1]]
            field = re.search(r'\["(\w+)"\]', spec["parameterExpressionSelector"])
            assert field
            return outputs[spec["taskOutputParameter"]["outputParameterKey"]][field[1]]

        resources = container["resources"]
        assert resolved(resources["resourceCpuLimit"]) == expected.cpu
        assert resolved(resources["resourceMemoryLimit"]) == expected.memory
        assert resolved(container["image"]) == image(composite, expected.variant)
        if STEP_BY_NAME[composite].device:
            assert resolved(resources["accelerator"]["resourceType"]) == expected.accelerator
            nodes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{task}"]
            assert nodes["nodeSelector"]["nodeSelectorJson"]["taskOutputParameter"]["outputParameterKey"] == (
                "node_selector"
            )
            assert outputs["node_selector"] == expected.node_selector


def test_no_output_of_configure_is_in_a_package_that_reads_none_of_it() -> None:
    for name in ("train_category", "train_category_compact", "train_category_shards", "train_all"):
        package, platform = documents(name)
        held = set(package["components"]["comp-configure"]["outputDefinitions"]["parameters"])
        read = set(re.findall(r'"outputParameterKey": "(\w+)"', json.dumps([package, platform])))
        assert held <= read
    assert "train_placement" not in json.dumps(documents("train_category_compact"))


def test_a_trial_is_one_task_that_gets_its_item_whole_and_the_placement_of_all() -> None:
    package, platform = documents("train_all_compact")
    (loop,) = [each for each in dags(package) if "run-trial" in each["dag"]["tasks"]]
    (task,) = loop["dag"]["tasks"].values()
    inputs = task["inputs"]["parameters"]
    item = inputs["trial"]["componentInputParameter"]
    # Of another type KFP 2.17's driver makes text of it.
    assert loop["inputDefinitions"]["parameters"][item] == {"parameterType": "STRUCT"}
    assert "parameterExpressionSelector" not in inputs["trial"]
    (outer,) = [each["dag"]["tasks"]["for-loop-2"] for each in dags(package) if "for-loop-2" in each["dag"]["tasks"]]
    nodes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-run-trial"]
    handed_in = {
        "memory": inputs["memory"]["componentInputParameter"],
        "nodes": nodes["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"],
    }
    sources = {key: outer["inputs"]["parameters"][name]["taskOutputParameter"] for key, name in handed_in.items()}
    assert sources == {
        "memory": {"producerTask": "plan-compact-trials", "outputParameterKey": "run_trial_placement"},
        "nodes": {"producerTask": "plan-compact-trials", "outputParameterKey": "node_selector"},
    }
    artifacts = package["components"]["comp-run-trial"]["outputDefinitions"]["artifacts"]
    assert set(artifacts) == {"report", "bundle"}


def test_training_on_several_nodes_has_no_compact_form() -> None:
    category = Category.parse({"method": {"name": "stfpm"}, "train": {"nodes": 2}})
    with pytest.raises(BadInput, match=r"train\.nodes is 2"):
        pipeline_of(category, compact=True)


def test_shards_have_no_compact_form() -> None:
    category = Category.parse({"compute": {"shards": 2}})
    assert pipeline_of(Category(), compact=True) == "train_category_compact"
    with pytest.raises(BadInput, match="the compact form has one task for the index"):
        pipeline_of(category, compact=True)

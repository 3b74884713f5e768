from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from vqi.category import Category, choices
from vqi.platform.errors import BadInput
from vqi_pipelines.compiling import PACKAGES, compile_packages, package_text, pipeline_of
from vqi_pipelines.task_placement import variants
from vqi_pipelines.train_category import OF_OTHERS, train_category, train_category_promote, train_category_shards

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"


@pytest.fixture(scope="module")
def package() -> dict:
    return next(yaml.safe_load_all((COMPILED / "train_category.yaml").read_text()))


def test_compiled_packages_are_fresh() -> None:
    assert compile_packages(COMPILED, only_check=True) == [], "run `vqi compile` and commit the result"


def test_the_compiled_packages_are_complete() -> None:
    assert {path.stem for path in COMPILED.glob("*.yaml")} == set(PACKAGES)


def test_stale_and_missing_are_distinguished_from_fresh(tmp_path: Path) -> None:
    assert compile_packages(tmp_path, only_check=True) == [tmp_path / f"{name}.yaml" for name in PACKAGES]
    assert not any(tmp_path.iterdir())
    compile_packages(tmp_path)
    assert compile_packages(tmp_path, only_check=True) == []
    (tmp_path / "train_category.yaml").write_text("edited")
    assert compile_packages(tmp_path, only_check=True) == [tmp_path / "train_category.yaml"]


def test_the_text_does_not_depend_on_the_process() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); from vqi_pipelines.compiling import package_text as t; "
        "print(t('train_category'), end='')"
    )
    environment = {"PYTHONHASHSEED": "7", "PATH": "/usr/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == package_text("train_category")


def test_the_package_parses_strictly(package: dict) -> None:
    spec = json_format.ParseDict(package, pipeline_spec_pb2.PipelineSpec())
    assert set(spec.root.dag.tasks) == {
        "configure",
        "ingest",
        "check-dataset",
        "train",
        "build-index",
        "evaluate",
        "export",
    }


def test_parameters_are_the_category_s() -> None:
    """The shards, and the rule of a promotion, are parameters of the pipelines that read them alone."""
    shards, promotes, plain = (
        {name: parameter.default for name, parameter in inspect.signature(each.pipeline_func).parameters.items()}
        for each in (train_category_shards, train_category_promote, train_category)
    )
    whole = Category().parameters()
    assert plain == {name: value for name, value in whole.items() if name not in OF_OTHERS}
    assert shards == plain | {"compute_shards": 1}
    assert promotes == {name: value for name, value in whole.items() if name not in ("compute_shards", "promote_step")}


@pytest.mark.parametrize("name", sorted(path.stem for path in COMPILED.glob("train_category*.yaml")))
def test_configure_has_the_inputs_that_its_package_feeds(name: str) -> None:
    package = next(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text()))
    declared = package["components"]["comp-configure"]["inputDefinitions"]["parameters"]
    assert declared.keys() == package["root"]["dag"]["tasks"]["configure"]["inputs"]["parameters"].keys()
    assert "seed" in declared


def test_a_category_with_shards_runs_in_a_pipeline_of_its_own() -> None:
    assert pipeline_of(Category.parse({"compute": {"shards": 2}})) == "train_category_shards"
    assert pipeline_of(Category()) == "train_category"


def test_a_category_that_promotes_runs_in_a_pipeline_of_its_own() -> None:
    category = Category.parse({"promote": {"step": "yes"}})
    assert pipeline_of(category) == "train_category_promote"
    with pytest.raises(BadInput, match="the compact form ends with export; run vqi promote afterwards"):
        pipeline_of(category, compact=True)
    with pytest.raises(BadInput, match=r"leave compute\.shards at 1, or promote\.step at no"):
        Category.parse({"promote": {"step": "yes"}, "compute": {"shards": 2}})


def test_promote_comes_last_reads_the_bundle_and_is_never_cached() -> None:
    package = next(yaml.safe_load_all((COMPILED / "train_category_promote.yaml").read_text()))
    tasks = package["root"]["dag"]["tasks"]
    assert tasks["promote"]["dependentTasks"] == ["export"]
    assert tasks["promote"]["cachingOptions"] == {}
    read = {
        name: spec["taskOutputArtifact"]["producerTask"]
        for name, spec in tasks["promote"]["inputs"]["artifacts"].items()
    }
    assert read == {"bundle": "export", "dataset": "ingest"}
    step = tasks["configure"]["inputs"]["parameters"]["promote_step"]
    assert step == {"runtimeValue": {"constant": "yes"}}


def test_the_shards_are_a_loop_between_train_and_merge_parts() -> None:
    package = next(yaml.safe_load_all((COMPILED / "train_category_shards.yaml").read_text()))
    json_format.ParseDict(package, pipeline_spec_pb2.PipelineSpec())
    tasks = package["root"]["dag"]["tasks"]
    assert tasks["for-loop-1"]["dependentTasks"] == ["train"]
    assert tasks["merge-parts"]["dependentTasks"] == ["for-loop-1"]
    assert tasks["evaluate"]["dependentTasks"] == ["merge-parts"]
    assert "build-index" not in tasks
    loop = package["components"]["comp-for-loop-1"]
    # Of what stands outside of a loop its tasks read the loop's own inputs, and all of them are handed in.
    (part,) = loop["dag"]["tasks"].values()
    read = {spec["componentInputParameter"] for spec in part["inputs"]["parameters"].values()}
    assert {"image", "cpu", "memory", "accelerator", "settings"} <= set(part["inputs"]["parameters"])
    assert read <= set(loop["inputDefinitions"]["parameters"])
    given = set(tasks["for-loop-1"]["inputs"]["parameters"])
    item = tasks["for-loop-1"]["parameterIterator"]["itemInput"]
    assert set(loop["inputDefinitions"]["parameters"]) - given == {item}
    # Of another type KFP 2.17's driver makes text of it, and refuses that for the task's settings.
    assert loop["inputDefinitions"]["parameters"][item] == {"parameterType": "STRUCT"}


def test_all_but_what_must_be_filled_in_has_a_default_and_choices_are_drop_downs(package: dict) -> None:
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == set(Category().parameters()) - set(OF_OTHERS)
    without = {name for name, parameter in parameters.items() if "defaultValue" not in parameter}
    # KFP's form says "Missing parameter." beside these, and greys Start out.
    assert without == {"backbone_weights", "data_source"}
    assert without == {name for name, parameter in parameters.items() if not parameter.get("isOptional")}
    for name, allowed in choices().items():
        if name in OF_OTHERS:
            continue
        assert parameters[name]["literals"] == allowed
        assert parameters[name]["defaultValue"] in allowed


def test_every_step_gets_its_own_settings_and_all_but_the_first_may_come_from_the_cache(package: dict) -> None:
    tasks = package["root"]["dag"]["tasks"]
    for name, task in tasks.items():
        assert task["cachingOptions"].get("enableCache", False) is (name != "configure")
        if name == "configure":
            continue
        assert set(package["components"][f"comp-{name}"]["inputDefinitions"]["parameters"]) == {"settings"}
        settings = task["inputs"]["parameters"]["settings"]["taskOutputParameter"]
        assert settings == {
            "outputParameterKey": f"{name.replace('-', '_')}_settings",
            "producerTask": "configure",
        }


def test_training_waits_for_the_check(package: dict) -> None:
    assert "check-dataset" in package["root"]["dag"]["tasks"]["train"]["dependentTasks"]


def test_few_outputs_one_report_and_images_tagged_by_version(package: dict) -> None:
    outputs = [
        artefact["artifactType"]["schemaTitle"]
        for name, component in package["components"].items()
        for artefact in component.get("outputDefinitions", {}).get("artifacts", {}).values()
    ]
    assert len(outputs) <= 12
    assert outputs.count("system.Metrics") == outputs.count("system.ClassificationMetrics") == 1
    images = [executor["container"]["image"] for executor in package["deploymentSpec"]["executors"].values()]
    named = [image for image in images if "{{" not in image]
    named += [image for step in json.loads(variants()).values() for image in step.values()]
    assert len(set(named)) == 3 + 6  # configure runs in ingest's; train, build_index and evaluate have a Gaudi variant
    assert not any(image.endswith(":latest") or ":" not in image for image in named)
    assert "pip install" not in str(package["deploymentSpec"])

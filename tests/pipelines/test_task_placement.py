"""What the compiled package asks of a cluster, resolved as KFP's driver does it; no cluster is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig

from vqi.category import Category
from vqi.placement import CONFIGURABLE, DEVICE_STEPS, POOLS, STEPS, TORCH_STEPS
from vqi.steps.configure.step import configure
from vqi.steps.images import image
from vqi_pipelines.local_pipeline import local_pipeline
from vqi_pipelines.task_placement import variants
from vqi_pipelines.train_category import OF_OTHERS, train_category

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled" / "train_category.yaml"


@pytest.fixture(scope="module")
def documents() -> list[dict]:
    return list(yaml.safe_load_all(COMPILED.read_text()))


def selected_field(spec: dict[str, Any]) -> str | None:
    """The field of an output that a task's input is; None where it is all of it."""
    if "parameterExpressionSelector" not in spec:
        return None
    field = re.fullmatch(r'parseJson\(string_value\)\["(\w+)"\]', spec["parameterExpressionSelector"])
    assert field
    return field[1]


class Driver:
    """A task's pod, from the package and the outputs of `configure`."""

    def __init__(self, documents: list[dict], step: str, outputs: dict[str, Any]) -> None:
        package, platform = documents
        name = step.replace("_", "-")
        self.tasks = package["root"]["dag"]["tasks"]
        self.task = self.tasks[name]
        self.container = package["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        self.platform = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]
        self.outputs = outputs

    def answer(self, spec: dict[str, Any]) -> Any:
        """A parameter of the task, or of its platform spec."""
        if "runtimeValue" in spec:
            return spec["runtimeValue"]["constant"]
        output = spec["taskOutputParameter"]
        assert output["producerTask"] == "configure"
        assert "configure" in self.ancestors(self.task)
        value = self.outputs[output["outputParameterKey"]]
        field = selected_field(spec)
        return value if field is None else value[field]

    def ancestors(self, task: dict[str, Any]) -> set[str]:
        """The tasks that have ended before a task begins."""
        direct = task.get("dependentTasks", [])
        return set(direct).union(*(self.ancestors(self.tasks[name]) for name in direct))

    def text(self, value: str) -> str:
        """A container's value: what is written, or the parameter that it names, which must be among the task's own."""
        named = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}", value)
        return self.answer(self.task["inputs"]["parameters"][named[1]]) if named else value

    def resource(self, name: str) -> str:
        return self.text(self.container["resources"][name])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("pool", POOLS)
def test_every_step_is_configured_for_its_pool(documents: list[dict], pool: str, step: str) -> None:
    category = Category.parse(
        {
            "pool": pool,
            "resources": {"train": {"cpu": 6, "memory": "12Gi"}, "export": {"cpu": "500m"}},
            "data": {"source": str(COMPILED.parent)},
            "backbone": {"name": "filterbank"},
        }
    )
    expected = category.step_placements[step]
    driver = Driver(documents, step, configure(category.parameters(), json.loads(variants())))
    assert driver.resource("resourceCpuRequest") == expected.cpu_request
    assert driver.resource("resourceCpuLimit") == expected.cpu
    assert driver.resource("resourceMemoryRequest") == driver.resource("resourceMemoryLimit") == expected.memory
    assert driver.text(driver.container["image"]) == image(step, expected.variant)
    accelerator = driver.container["resources"].get("accelerator")
    if step in DEVICE_STEPS:
        assert driver.text(accelerator["resourceType"]) == expected.accelerator
        assert driver.text(accelerator["resourceCount"]) == expected.accelerators
        settings = driver.answer(driver.task["inputs"]["parameters"]["settings"])
        assert settings["compute"]["device"] == expected.device
        assert driver.answer(driver.platform["nodeSelector"]["nodeSelectorJson"]) == expected.node_selector
        assert driver.answer(driver.platform["tolerations"][0]["tolerationJson"]) == list(expected.tolerations)
    else:
        assert accelerator is None
        assert "nodeSelector" not in driver.platform
        assert driver.platform["tolerations"] == list(expected.tolerations)
    (affinity,) = driver.platform["nodeAffinity"]
    assert driver.answer(affinity["nodeAffinityJson"]) == expected.node_affinity


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_what_a_restricted_namespace_requires(documents: list[dict], step: str) -> None:
    driver = Driver(documents, step, {})
    config = json_format.ParseDict(driver.platform, KubernetesExecutorConfig())
    assert config.security_context.run_as_user == 1000
    assert config.security_context.run_as_non_root
    assert config.image_pull_policy == "IfNotPresent"
    # A namespace that lacks one of ours still starts the pod.
    assert [(volume.secret_name, volume.mount_path, volume.optional) for volume in config.secret_as_volume] == [
        ("vqi-store", "/etc/vqi/store", True),
        ("vqi-tracking", "/etc/vqi/tracking", True),
    ]
    assert [(volume.config_map_name, volume.mount_path, volume.optional) for volume in config.config_map_as_volume] == [
        ("vqi-settings", "/etc/vqi/settings", True),
        ("vqi-ca", "/etc/vqi/ca", True),
    ]
    # KFP's launcher, which is no program of ours, goes through the proxy too; keys are in no pod's specification.
    (settings,) = config.config_map_as_env
    assert (settings.config_map_name, settings.optional) == ("vqi-settings", True)
    assert {pair.env_var for pair in settings.key_to_env} == {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
    assert not config.secret_as_env
    assert [(field.name, field.field_path) for field in config.field_path_as_env] == [
        ("VQI_NODE", "metadata.annotations['workflows.argoproj.io/node-name']")
    ]
    memory = [(mount.mount_path, mount.medium) for mount in config.empty_dir_mounts]
    assert memory == ([("/dev/shm", "Memory")] if step in TORCH_STEPS else [])


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_retried_long_after_its_first_attempt_began(documents: list[dict], step: str) -> None:
    retry = Driver(documents, step, {}).task["retryPolicy"]
    assert retry["maxRetryCount"] == (1 if step == "configure" else 3)
    assert retry["backoffDuration"] != "0s"
    # Argo counts from the first attempt's start and kills the retried pod there: an hour, KFP's default, is less than a
    # training takes.
    assert int(retry["backoffMaxDuration"].removesuffix("s")) >= 14 * 24 * 3600


def test_the_pool_leaves_what_is_cached_of_other_steps(documents: list[dict]) -> None:
    """A task's inputs are its cache key: those that come from `configure` may differ by pool for the steps that
    touch the device alone."""
    values = {"data": {"source": str(COMPILED.parent)}, "backbone": {"name": "filterbank"}}
    outputs = [
        configure(Category.parse({"pool": pool, **values}).parameters(), json.loads(variants())) for pool in POOLS
    ]
    fields = [
        {(name, key): value for name, held in output.items() if isinstance(held, dict) for key, value in held.items()}
        | {(name, None): held for name, held in output.items()}
        for output in outputs
    ]
    names = {name for each in fields for name in each}
    varying = {name for name in names if len({json.dumps(each.get(name)) for each in fields}) > 1}
    assert varying  # the pool says something
    for step in CONFIGURABLE:
        parameters = Driver(documents, step, {}).task["inputs"]["parameters"]
        read = {
            (spec["taskOutputParameter"]["outputParameterKey"], selected_field(spec))
            for spec in parameters.values()
            if spec.get("taskOutputParameter", {}).get("producerTask") == "configure"
        }
        assert read
        assert not {"pool", "resources"} & {spec.get("componentInputParameter") for spec in parameters.values()}
        if step not in DEVICE_STEPS:
            assert not read & varying


@pytest.mark.parametrize("step", STEPS)
def test_a_step_s_inputs_are_what_a_person_and_its_container_read(documents: list[dict], step: str) -> None:
    """KFP's page lists a task's inputs, and its driver resolves those that the container names."""
    driver = Driver(documents, step, {})
    written = yaml.safe_dump(driver.task["inputs"]["parameters"])
    assert "{{$.inputs" not in written
    assert "pipelinechannel--" not in written
    named = set(re.findall(r"inputs\.parameters\['(.+?)'\]", json.dumps(driver.container)))
    assert named <= set(driver.task["inputs"]["parameters"])
    if step != "configure":
        assert set(driver.task["inputs"]["parameters"]) == {"settings"} | named


@pytest.mark.parametrize("step", STEPS)
def test_a_step_waits_for_all_that_it_reads_and_no_dependency_follows_from_another(
    documents: list[dict], step: str
) -> None:
    driver = Driver(documents, step, {})
    inputs = driver.task["inputs"]
    sources = [*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()]
    producers = {value["producerTask"] for source in sources for value in source.values() if "producerTask" in value}
    assert producers <= driver.ancestors(driver.task)
    assert len(driver.task.get("dependentTasks", [])) == (0 if step == "configure" else 1)


@pytest.mark.parametrize("step", STEPS)
def test_a_container_runs_its_step_by_name(documents: list[dict], step: str) -> None:
    container = Driver(documents, step, {}).container
    assert container["command"] == ["python3", "-m", "vqi.steps"]
    assert container["args"] == ["--function_to_execute", step, "--executor_input", "{{$}}"]


def test_a_shard_gets_what_build_index_gets_from_outside_of_its_loop() -> None:
    package, platform = yaml.safe_load_all((COMPILED.parent / "train_category_shards.yaml").read_text())
    loop = package["components"]["comp-for-loop-1"]
    inputs = loop["dag"]["tasks"]["index-part"]["inputs"]["parameters"]
    nodes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-index-part"]
    outer = package["root"]["dag"]["tasks"]["for-loop-1"]["inputs"]["parameters"]

    def output(spec: dict[str, Any]) -> str:
        """What of configure an input inside of the loop is."""
        handed = outer[spec["componentInputParameter"]]["taskOutputParameter"]
        assert handed["producerTask"] == "configure"
        return handed["outputParameterKey"]

    for field in ("image", "cpu", "cpu_request", "memory", "accelerator", "accelerators"):
        assert (output(inputs[field]), selected_field(inputs[field])) == ("build_index_placement", field)
    assert output(nodes["nodeSelector"]["nodeSelectorJson"]) == "node_selector"
    assert output(nodes["tolerations"][0]["tolerationJson"]) == "tolerations"
    assert output(nodes["nodeAffinity"][0]["nodeAffinityJson"]) == "node_affinity"
    container = package["deploymentSpec"]["executors"]["exec-index-part"]["container"]
    assert container["image"] == "{{$.inputs.parameters['image']}}"
    assert container["args"][:2] == ["--function_to_execute", "index_part"]


def test_every_parameter_of_the_run_is_checked_by_the_first_step(documents: list[dict]) -> None:
    inputs = documents[0]["root"]["dag"]["tasks"]["configure"]["inputs"]["parameters"]
    checked = {name for name, spec in inputs.items() if spec.get("componentInputParameter") == name}
    assert checked == set(Category().parameters()) - set(OF_OTHERS)
    assert not documents[0]["root"]["dag"]["tasks"]["configure"].get("dependentTasks")


def test_a_local_run_has_images_no_retries_and_no_limits() -> None:
    before = train_category.pipeline_spec.SerializeToString(deterministic=True)
    spec = json_format.MessageToDict(local_pipeline(train_category).pipeline_spec)
    assert train_category.pipeline_spec.SerializeToString(deterministic=True) == before
    for step in STEPS:
        name = step.replace("_", "-")
        container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        assert container["image"] == image(step)
        assert "resources" not in container
        assert "retryPolicy" not in spec["root"]["dag"]["tasks"][name]

"""What the SDK cannot write into a compiled package: drop-downs, quantities that are fields of one output, programs by
name, and no more arrows than the order of the steps needs.

Argo stores a task's specification up to seven times in the record of a run, which KFP's API server cannot read any more
beyond 1 MB. So what a task is given comes as one output of `configure` a step, and the step's source stays in its
image. KFP 2.17's driver resolves the selector of a task's input before it reads image, cpu, memory and accelerator;
what it resolves is the task's cache key, field by field.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from vqi.category import choices
from vqi.placement import STEP_BY_NAME, Step

# A field of the output `STEP_placement` of configure, and the values of the container that it feeds.
QUANTITIES = {
    "cpu_request": ("resourceCpuRequest",),
    "cpu": ("resourceCpuLimit",),
    "memory": ("resourceMemoryRequest", "resourceMemoryLimit"),
}
ACCELERATOR = {"accelerator": "resourceType", "accelerators": "resourceCount"}
# The SDK adds these inputs where an image, a quantity or an accelerator is a parameter. Their values are placeholders
# that nothing reads, and KFP's page lists them before the step's own.
UNREAD = (
    "accelerator_count",
    "accelerator_type",
    "base_image",
    "cpu_limit",
    "cpu_request",
    "memory_limit",
    "memory_request",
)


def edit_package(package: dict[str, Any], platform: dict[str, Any]) -> None:
    """Make all edits of this module in a compiled package and its platform's document, as the SDK wrote them."""
    add_choices(package)
    for dag, name, task in _tasks(package):
        row = STEP_BY_NAME[step_of(name)]
        if row.placement_output:
            executor = package["components"][task["componentRef"]["name"]]["executorLabel"]
            outside = _task_of(row.placed_by) not in dag["dag"]["tasks"]
            source = hand_in(package, dag, row) if outside else _output(row)
            add_placement(row, task, source, package["deploymentSpec"]["executors"][executor]["container"])
    drop_unread_outputs(package, platform)
    drop_unfed_inputs(package)
    for component in _dags(package):
        reduce_dependencies(component["dag"]["tasks"])
    for label, executor in package["deploymentSpec"]["executors"].items():
        name_program(step_of(label.removeprefix("exec-")), executor["container"])
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        drop_repeated_names(executor)


def add_choices(package: dict[str, Any]) -> None:
    """Write `literals` into the pipeline's parameters: KFP's form shows a drop-down for them and its server refuses
    anything else.

    The SDK has no way to say it (kubeflow/pipelines#11385).
    """
    parameters = package["root"]["inputDefinitions"]["parameters"]
    for name, allowed in choices().items():
        if name in parameters:
            parameters[name]["literals"] = allowed


def hand_in(package: dict[str, Any], loop: dict[str, Any], row: Step) -> dict[str, Any]:
    """Give a loop's DAG what says what a task in it gets, which comes from outside of it; returns what its tasks
    name: six times a task, so the name is short."""
    name = row.placement_output
    loop["inputDefinitions"]["parameters"][name] = {"parameterType": "STRUCT"}
    for dag in _dags(package):
        for task in dag["dag"]["tasks"].values():
            if package["components"][task["componentRef"]["name"]] is loop:
                task["inputs"]["parameters"][name] = _output(row)
    return {"componentInputParameter": name}


def drop_unread_outputs(package: dict[str, Any], platform: dict[str, Any]) -> None:
    """Drop the outputs of `configure` that no task of this package reads: each would be in Argo's record, and on KFP's
    page. KFP's launcher keeps what a program returns beside them to itself."""
    read = set(re.findall(r'"outputParameterKey": "(\w+)"', json.dumps([package, platform])))
    for name, component in package["components"].items():
        if name == "comp-configure":
            outputs = component["outputDefinitions"]["parameters"]
            for key in outputs.keys() - read:
                del outputs[key]


def drop_unfed_inputs(package: dict[str, Any]) -> None:
    """Drop the optional inputs of `configure` that this package does not feed: the program has the same defaults, and
    each would be in Argo's record several times."""
    fed: set[str] = set()
    for _, name, task in _tasks(package):
        if step_of(name) == "configure":
            fed |= task["inputs"]["parameters"].keys()
    for name, component in package["components"].items():
        if name == "comp-configure":
            inputs = component["inputDefinitions"]["parameters"]
            for key in [key for key, value in inputs.items() if value.get("isOptional") and key not in fed]:
                del inputs[key]


def add_placement(row: Step, task: dict[str, Any], source: dict[str, Any], container: dict[str, Any]) -> None:
    """Let a task's container have the image and quantities of the output `STEP_placement`, each a field of it; `source`
    is how the task names that output."""
    fields = [*QUANTITIES, *(("image", *ACCELERATOR) if row.device else ())]
    parameters = task["inputs"]["parameters"]
    for name in UNREAD:
        parameters.pop(name, None)
    for field in fields:
        parameters[field] = {
            **copy.deepcopy(source),  # as one object YAML would write an anchor
            "parameterExpressionSelector": f'parseJson(string_value)["{field}"]',
        }
    resources: dict[str, Any] = {value: _input(field) for field, values in QUANTITIES.items() for value in values}
    if row.device:
        container["image"] = _input("image")
        resources["accelerator"] = {value: _input(field) for field, value in ACCELERATOR.items()}
    container["resources"] = resources


def name_program(step: str, container: dict[str, Any]) -> None:
    """Replace the source that the SDK writes into a container's command by the step's name (vqi.steps.__main__)."""
    container["command"] = ["python3", "-m", "vqi.steps"]
    container["args"] = ["--function_to_execute", step, "--executor_input", "{{$}}"]


def reduce_dependencies(tasks: dict[str, Any]) -> None:
    """Drop a DAG's dependencies that follow from others, so that its picture has an arrow less for each: evaluate waits
    for build_index, and so for all before that."""
    direct = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}

    def ancestors(name: str) -> set[str]:
        return direct[name].union(*map(ancestors, direct[name]))

    for name, task in tasks.items():
        implied = set().union(*map(ancestors, direct[name]))
        if implied:
            task["dependentTasks"] = sorted(direct[name] - implied)


def drop_repeated_names(executor: dict[str, Any]) -> None:
    """Drop the constant that the SDK writes beside the name of each ConfigMap and Secret; the driver falls back to the
    name."""
    for mounted in ("configMapAsEnv", "configMapAsVolume", "secretAsEnv", "secretAsVolume"):
        for item in executor.get(mounted, []):
            item.pop("configMapNameParameter", None)
            item.pop("secretNameParameter", None)


def step_of(task: str) -> str:
    """The step that a task or an executor is named after. Raises KeyError for one that is none."""
    return STEP_BY_NAME[task.replace("-", "_")].name


def _input(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _output(row: Step) -> dict[str, Any]:
    """The output that says what a step gets, as a task of the same DAG names it."""
    return {
        "taskOutputParameter": {"producerTask": _task_of(row.placed_by), "outputParameterKey": row.placement_output}
    }


def _task_of(step: str) -> str:
    return step.replace("_", "-")


def _dags(package: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The root and the components that are DAGs."""
    return (each for each in (package["root"], *package["components"].values()) if "dag" in each)


def _tasks(package: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """The tasks of every DAG that run a container: the DAG, the task's name, the task."""
    for component in _dags(package):
        for name, task in component["dag"]["tasks"].items():
            if "executorLabel" in package["components"][task["componentRef"]["name"]]:
                yield component, name, task

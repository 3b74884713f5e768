"""Several steps in one task: the compact form of a DAG, whose record in a cluster is small.

Each step is a process of its own, forked from one that has imported what it needs (`warm_server`): it has its own
report, its own sentence, its own peak of memory, and reads what the steps before it wrote. An output of the task is
that of the step that has it by the same name; all others lie beside it and end with the pod.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqi.placement import STEP_BY_NAME
from vqi.platform.logs import logger
from vqi.platform.threads import follow_cpu_limit
from vqi.steps.reports import Reporter, StepReport
from vqi.steps.warm_server import LAYERS, import_layer

log = logger(__name__)

# What a composite prints as a step begins; of a step that is killed it is the last word.
BEGINS = "{composite}: {step} begins, {number} of {count}"

# By what whoever runs the task asks it to end.
ENDS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class _Made:
    """What a step may read by name: plain values, and artefacts as KFP's executor hands them over."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_composite(
    name: str, parameters: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> None:
    """Run the steps of a composite in turn, until one fails: this process then ends as that one did.

    `parameters` are what its steps read by name, the settings of a step as STEP_settings; `inputs` and `outputs` are
    the artefacts of the task by their names. What steps note about an output, the artefact of the task has too.
    """
    # Before the layers import what reads it.
    follow_cpu_limit()
    executor_input = _executor_input(sys.argv)
    folder = Path(executor_input["outputs"]["outputFile"]).parent
    made = _Made(dict(parameters), {key: _runtime_artifact(artifact) for key, artifact in inputs.items()})
    steps = STEP_BY_NAME[name].runs
    layers = iter(LAYERS)
    imported: set[str] = set()
    for number, step in enumerate(steps, 1):
        log.info(BEGINS.format(composite=name, step=step, number=number, count=len(steps)), extra={"step": name})
        if step not in imported:
            # What the step needs may already be more than the memory that there is.
            Reporter.of_process().write(StepReport(step=step, state="running"))
        while step not in imported:
            layer = next(layers)
            # Of a layer that none of the steps is in, the next ones need what it imports all the same.
            import_layer(layer)
            imported |= set(layer.steps)
        output_file = folder / step / "executor_output.json"
        _run(step, _input_of(step, made, outputs, output_file))
        _collect(step, made, json.loads(output_file.read_text()) if output_file.is_file() else {})
    for key, artifact in outputs.items():
        artifact.metadata.update(made.artifacts[key].get("metadata") or {})


def _executor_input(arguments: Sequence[str]) -> dict[str, Any]:
    """What KFP's launcher handed over to this process."""
    value: dict[str, Any] = json.loads(arguments[list(arguments).index("--executor_input") + 1])
    return value


def _runtime_artifact(artifact: Any) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "type": {"schemaTitle": artifact.schema_title, "schemaVersion": artifact.schema_version},
        "uri": artifact.uri,
        "metadata": dict(artifact.metadata),
    }


def _input_of(step: str, made: _Made, outputs: Mapping[str, Any], output_file: Path) -> dict[str, Any]:
    """What KFP's launcher would hand over to the step."""
    from vqi.steps.__main__ import ports_of

    parameters: dict[str, Any] = {}
    read: dict[str, Any] = {}
    written: dict[str, Any] = {}
    # Outputs that end with the pod stand beside one of the task's: by its address a step knows its run.
    beside = next(iter(outputs.values())).uri.rpartition("/")[0]
    for name, port in ports_of(step).items():
        if not port.kind:
            parameters[name] = made.parameters[f"{step}_settings" if name == "settings" else name]
        elif not port.written:
            read[name] = {"artifacts": [made.artifacts[name]]}
        else:
            hidden = {"name": name, "type": port.kind, "uri": f"{beside}/{name}", "metadata": {}}
            made.artifacts[name] = _runtime_artifact(outputs[name]) if name in outputs else hidden
            written[name] = {"artifacts": [made.artifacts[name]]}
    return {
        "inputs": {"parameterValues": parameters, "artifacts": read},
        "outputs": {"artifacts": written, "outputFile": str(output_file)},
    }


def _run(step: str, executor_input: Mapping[str, Any]) -> None:
    """Run a step in a process forked from this one. Where it fails, this process ends with its exit code or by its
    signal."""
    from vqi.steps.__main__ import main

    arguments = ["--function_to_execute", step, "--executor_input", json.dumps(executor_input)]
    sys.stdout.flush()
    # An end that somebody asks for meanwhile is for the process that is about to begin as well.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    pid = os.fork()
    if not pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sys.argv = ["vqi.steps", *arguments]
        main(arguments)
        sys.exit(0)
    # A terminal sends its signal to the step as well.
    handlers = (
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, number)),
        signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, state = os.waitpid(pid, 0)
    for number, handler in zip(ENDS, handlers, strict=True):
        signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(state)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if code:
        sys.exit(code)


def _collect(step: str, made: _Made, output: Mapping[str, Any]) -> None:
    """Keep what a step wrote into its record of outputs."""
    made.parameters |= output.get("parameterValues") or {}
    for key, held in (output.get("artifacts") or {}).items():
        made.artifacts[key] |= {"metadata": held["artifacts"][0].get("metadata") or {}}

"""A step in a pod: `python3 -m vqi.steps --function_to_execute train --executor_input {...}`.

KFP's own command carries the source of the step's face into the pod and runs it from a file. The image has that source
already: a name in its stead keeps seven copies of it a step out of Argo's record of a run, and spares the pod a shell.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vqi.placement import STEP_BY_NAME
from vqi.platform.mounted_environment import read_mounted_environment


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the step that the arguments name, as KFP's launcher hands them over, and write KFP's record of its
    outputs."""
    parser = argparse.ArgumentParser(prog="python3 -m vqi.steps", description=__doc__)
    parser.add_argument("--function_to_execute", required=True, help="The step, such as train.")
    parser.add_argument("--executor_input", required=True, type=json.loads, help="KFP's inputs and outputs, as JSON.")
    options = parser.parse_args(arguments)
    # Before the logger, certificates and clients read the environment.
    read_mounted_environment()
    # kfp then leaves out its client and compiler, and with them the decorator of our faces: a second of every start.
    os.environ["_KFP_RUNTIME"] = "true"
    from kfp import dsl
    from kfp.dsl.executor import Executor

    if not hasattr(dsl, "component"):
        setattr(dsl, "component", lambda **_: lambda function: function)  # noqa: B010

    face = _load_face(options.function_to_execute)
    Executor(executor_input=options.executor_input, function_to_execute=face).execute()


@dataclass(frozen=True)
class Port:
    """What a step reads or writes: an artefact's `kind` by KFP's schema, empty for a parameter, which is read."""

    kind: dict[str, str]
    written: bool = False


def ports_of(step: str) -> dict[str, Port]:
    """What a step reads and writes, by its name."""
    from kfp.dsl.types import type_annotations as annotations

    face = _load_face(step)
    ports = {}
    for name, annotation in getattr(face, "python_func", face).__annotations__.items():
        if name == "return":  # values, which follow from no port
            continue
        if not annotations.is_Input_Output_artifact_annotation(annotation):
            ports[name] = Port({})
            continue
        artifact = annotations.get_io_artifact_class(annotation)
        kind = {"schemaTitle": artifact.schema_title, "schemaVersion": artifact.schema_version}
        ports[name] = Port(kind, written=annotations.is_artifact_wrapped_in_Output(annotation))
    return ports


def _load_face(step: str) -> Any:
    return getattr(importlib.import_module(STEP_BY_NAME[step].face), step)


if __name__ == "__main__":
    main()

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

    name = options.function_to_execute
    face = getattr(importlib.import_module(STEP_BY_NAME[name].face), name)
    Executor(executor_input=options.executor_input, function_to_execute=face).execute()


if __name__ == "__main__":
    main()

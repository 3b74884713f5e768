"""A pipeline as kfp.local can run it: what is meant for a cluster alone is taken out of a copy.

kfp.local would repeat a step that refuses its input.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


# kfp.local runs no command that does not name its executor.
WARM_COMMAND = ["python3", "-m", "vqi.steps.warm_client", "kfp.dsl.executor_main"]


def local_pipeline(pipeline: GraphComponent, items: Sequence[Any] = (), warm: bool = False) -> GraphComponent:
    """A copy of `pipeline` whose tasks run once, with all that this machine has, and in `warm` processes; `items` are
    what its loop goes through, if it has one."""
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

    spec = PipelineSpec()
    spec.CopyFrom(pipeline.pipeline_spec)
    for executor in spec.deployment_spec["executors"].values():
        if "container" in executor and "resources" in executor["container"]:  # an importer has no container
            del executor["container"]["resources"]
        if warm and "container" in executor:
            executor["container"].update({"command": WARM_COMMAND})
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
            if task.HasField("parameter_iterator"):
                # Each computes with every core, and its progress is read by a person.
                task.iterator_policy.parallelism_limit = 1
                # kfp.local loops over no output that has a name.
                task.parameter_iterator.items.raw = json.dumps(items)
    local = copy.copy(pipeline)
    implementation = dataclasses.replace(pipeline.component_spec.implementation, graph=spec)
    local.component_spec = dataclasses.replace(pipeline.component_spec, implementation=implementation)
    return local

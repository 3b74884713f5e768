"""A pipeline as kfp.local can run it: what is meant for a cluster alone is taken out of a copy.

kfp.local would repeat a step that refuses its input.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


# kfp.local runs no command that does not name its executor.
WARM_COMMAND = ["python3", "-m", "vqi.steps.warm_client", "kfp.dsl.executor_main"]


def local_pipeline(pipeline: GraphComponent, warm: bool = False) -> GraphComponent:
    """A copy of `pipeline` whose tasks run once, with all that this machine has, and in `warm` processes."""
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
    local = copy.copy(pipeline)
    implementation = dataclasses.replace(pipeline.component_spec.implementation, graph=spec)
    local.component_spec = dataclasses.replace(pipeline.component_spec, implementation=implementation)
    return local

"""A pipeline as kfp.local can run it: what is meant for a cluster alone is taken out of a copy.

kfp.local would repeat a step that refuses its input.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def local_pipeline(pipeline: GraphComponent) -> GraphComponent:
    """A copy of `pipeline` whose tasks run once, with all that this machine has."""
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

    spec = PipelineSpec()
    spec.CopyFrom(pipeline.pipeline_spec)
    for executor in spec.deployment_spec["executors"].values():
        if "container" in executor and "resources" in executor["container"]:  # an importer has no container
            del executor["container"]["resources"]
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
    local = copy.copy(pipeline)
    implementation = dataclasses.replace(pipeline.component_spec.implementation, graph=spec)
    local.component_spec = dataclasses.replace(pipeline.component_spec, implementation=implementation)
    return local

"""A pipeline as kfp.local can run it: what is meant for a cluster alone is taken out of a copy.

kfp.local takes an image for what is written there, and does not look what `configure` answers up; it would repeat a
step that refuses its input.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

from vqi.steps.images import image

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def local_pipeline(pipeline: GraphComponent) -> GraphComponent:
    """A copy of `pipeline` whose tasks run in the image of their step, once, with all that this machine has."""
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

    spec = PipelineSpec()
    spec.CopyFrom(pipeline.pipeline_spec)
    for label, executor in spec.deployment_spec["executors"].items():
        if "container" not in executor:  # an importer
            continue
        container = executor["container"]
        if "{{" in container["image"]:
            container["image"] = image(label.removeprefix("exec-").rstrip("-0123456789").replace("-", "_"))
        if "resources" in container:
            del container["resources"]
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
    local = copy.copy(pipeline)
    implementation = dataclasses.replace(pipeline.component_spec.implementation, graph=spec)
    local.component_spec = dataclasses.replace(pipeline.component_spec, implementation=implementation)
    return local

"""Places the tasks of a DAG in a cluster when the package is compiled: nodes, image, accelerator, resources, settings,
secrets and retries. docs/placement.md says what an administrator sets up.

What depends on the pool or the catalog comes from the outputs of the step `configure` when a task starts. KFP 2.17
resolves such outputs in two ways (backend/src/v2/driver: container.go, k8s.go, resolve.go): image, cpu, memory and
accelerator from the task's own inputs, where vqi_pipelines.package_edits adds them; node selector, tolerations and
affinity from the platform spec, where `taskOutputParameter` is looked up among the tasks of the same DAG. So
`configure` must stand in the DAG whose tasks read it. An empty accelerator type requests none; `{}` and `[]` select,
tolerate and prefer nothing; an empty cpu or memory would be an error, and `configure` returns none.

What a task has as inputs is part of its cache key: another image, accelerator, device or quantity repeats the steps it
is for, another node does not. The compiler writes the placement of the steps that do not touch the device, the same
in every pool, and they stay cached.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqi.placement import DEVICE_STEPS, STEP_BY_NAME, placement_of
from vqi.platform import mounted_environment
from vqi.steps.images import image
from vqi.steps.reports import NODE

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

USER = 1000

SETTINGS, STORE, TRACKING, CERTIFICATES = "vqi-settings", "vqi-store", "vqi-tracking", "vqi-ca"
# KFP's launcher, which brings a step's artefacts, reads them too: it is not a program of ours, and reads no files.
PROXY_KEYS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# By Argo's name of a step's node `compare` knows which trial the step belongs to: a parameter would be a part of every
# cache key.
NODE_NAME = "metadata.annotations['workflows.argoproj.io/node-name']"
# Where vqi.platform.certificates looks.
CERTIFICATES_FOLDER = "/etc/vqi/ca"

# Argo counts `backoff_max_duration` from the first attempt's start, refuses a retry after it and ends a retried pod at
# it. KFP's default of an hour would leave a training that is killed in its second hour dead.
LONGEST = "28d"


def place_task(task: PipelineTask, step: str, configured: PipelineTask | None = None) -> PipelineTask:
    """Configure `task`, which runs `step`, for a cluster, and return it.

    `configured` is the DAG's task of the step `configure`, or of the one that places `step` instead. It is None for
    that task itself, and in a DAG without one.
    """
    from kfp import kubernetes

    _set_nodes_and_resources(task, step, configured)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    row = STEP_BY_NAME[step]
    if row.loads_torch:  # its processes and data loaders share memory through /dev/shm, of which a container has 64 MB
        kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory")
    # Every one of them is optional: a store may need no keys (a role of the node's), and a run may be tracked nowhere.
    kubernetes.use_config_map_as_env(task, SETTINGS, {key: key for key in PROXY_KEYS}, optional=True)
    kubernetes.use_field_path_as_env(task, NODE, NODE_NAME)
    kubernetes.use_config_map_as_volume(
        task, SETTINGS, mount_path=_mounted(mounted_environment.SETTINGS), optional=True
    )
    kubernetes.use_secret_as_volume(task, STORE, mount_path=_mounted(mounted_environment.STORE), optional=True)
    kubernetes.use_secret_as_volume(task, TRACKING, mount_path=_mounted(mounted_environment.TRACKING), optional=True)
    kubernetes.use_config_map_as_volume(task, CERTIFICATES, mount_path=CERTIFICATES_FOLDER, optional=True)
    return task.set_retry(row.retries, backoff_duration=row.first_pause, backoff_factor=2, backoff_max_duration=LONGEST)


def variants(steps: Sequence[str] = DEVICE_STEPS) -> str:
    """The images of those of a DAG's tasks that touch the device, by variant, as the step `configure` takes them: by
    their names where the package is compiled."""
    named = {step: {variant: image(step, variant) for variant in ("", "gaudi")} for step in steps}
    return json.dumps(named, sort_keys=True)


def _mounted(name: str) -> str:
    return str(mounted_environment.FOLDER / name)


def _set_nodes_and_resources(task: PipelineTask, step: str, configured: PipelineTask | None) -> None:
    """Set the nodes of a task, and its cpu and memory where they are the same in every run; the others, image and
    accelerator are fields of what `configure` hands out (vqi_pipelines.package_edits)."""
    from kfp import kubernetes

    if configured:
        task.after(configured)  # the compiler does not see that cpu and memory depend on it
    default = placement_of(step)
    if STEP_BY_NAME[step].device and configured:
        outputs = configured.outputs
        kubernetes.add_node_selector_json(task, outputs["node_selector"])
        kubernetes.add_toleration_json(task, outputs["tolerations"])
        kubernetes.add_node_affinity_json(task, outputs["node_affinity"])
    else:
        kubernetes.add_toleration_json(task, list(default.tolerations))
        kubernetes.add_node_affinity_json(task, default.node_affinity)
    if not (STEP_BY_NAME[step].placement_output and configured):
        task.set_cpu_request(default.cpu_request).set_cpu_limit(default.cpu)
        task.set_memory_request(default.memory).set_memory_limit(default.memory)

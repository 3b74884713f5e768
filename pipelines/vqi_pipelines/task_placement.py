"""Places the tasks of a DAG in a cluster when the package is compiled: nodes, image, accelerator, resources, settings,
secrets and retries. docs/placement.md says what an administrator sets up.

What depends on the pool or the catalog comes from the outputs of the step `configure` when a task starts. KFP 2.17
resolves such outputs in two ways (backend/src/v2/driver: container.go, k8s.go, resolve.go): image, cpu, memory and
accelerator from the task's own inputs, where the compiler adds them; node selector, tolerations and affinity from the
platform spec, where `taskOutputParameter` is looked up among the tasks of the same DAG. So `configure` must stand in
the DAG whose tasks read it. An empty accelerator type requests none; `{}` and `[]` select, tolerate and prefer nothing;
an empty cpu or memory would be an error, and `configure` returns none.

What a task has as inputs is part of its cache key: another image, accelerator, device or quantity repeats the steps it
is for, another node does not. The compiler writes the placement of the steps that do not touch the device, the same
in every pool, and they stay cached.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vqi.placement import CONFIGURABLE, DEVICE_STEPS, STEP_BY_NAME, StepPlacement, placement_of
from vqi.steps.images import image
from vqi.tracking.origins import KFP_UI

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

USER = 1000

SETTINGS, STORE, TRACKING, CERTIFICATES = "vqi-settings", "vqi-store", "vqi-tracking", "vqi-ca"
SETTINGS_KEYS = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_S3_ADDRESSING_STYLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_TRACKING_URI",
    "NO_PROXY",
    "VQI_CHECKPOINTS",
    "VQI_LOG",
)
# Where a person opens KFP: the steps that begin MLflow runs write the link of their run there.
BEGIN_MLFLOW_RUNS = ("evaluate", "plan_trials", "train")
# boto3, which MLflow stores artefacts with, reads the region under another name.
SETTINGS_UNDER_OTHER_NAMES = {"AWS_REGION": "AWS_DEFAULT_REGION"}
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
TRACKING_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# Where vqi.platform.certificates looks.
CERTIFICATES_FOLDER = "/etc/vqi/ca"

# Argo counts `backoff_max_duration` from the first attempt's start, refuses a retry after it and ends a retried pod at
# it. KFP's default of an hour would leave a training that is killed in its second hour dead.
LONGEST = "28d"


def place_task(task: PipelineTask, step: str, configured: PipelineTask | None = None) -> PipelineTask:
    """Configure `task`, which runs `step`, for a cluster, and return it.

    `configured` is the DAG's task of the step `configure`. It is None for that task itself, and in a DAG without one.
    """
    from kfp import kubernetes

    _set_nodes_and_resources(task, step, configured)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    row = STEP_BY_NAME[step]
    if row.loads_torch:  # its processes and data loaders share memory through /dev/shm, of which a container has 64 MB
        kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory")
    # Every one of them is optional: a store may need no keys (a role of the node's), and a run may be tracked nowhere.
    keys = (*SETTINGS_KEYS, *((KFP_UI,) if step in BEGIN_MLFLOW_RUNS else ()))
    kubernetes.use_config_map_as_env(task, SETTINGS, {key: key for key in keys}, optional=True)
    kubernetes.use_config_map_as_env(task, SETTINGS, SETTINGS_UNDER_OTHER_NAMES, optional=True)
    kubernetes.use_secret_as_env(task, STORE, {key: key for key in STORE_KEYS}, optional=True)
    kubernetes.use_secret_as_env(task, TRACKING, {key: key for key in TRACKING_KEYS}, optional=True)
    kubernetes.use_config_map_as_volume(task, CERTIFICATES, mount_path=CERTIFICATES_FOLDER, optional=True)
    return task.set_retry(row.retries, backoff_duration=row.first_pause, backoff_factor=2, backoff_max_duration=LONGEST)


def variants() -> str:
    """The images of the steps that touch the device, by variant, as the step `configure` takes them: by their names
    where the package is compiled."""
    named = {step: {variant: image(step, variant) for variant in ("", "gaudi")} for step in DEVICE_STEPS}
    return json.dumps(named, sort_keys=True)


def _set_nodes_and_resources(task: PipelineTask, step: str, configured: PipelineTask | None) -> None:
    """Set the nodes, image, accelerator, cpu and memory of a task."""
    from kfp import kubernetes

    if configured:
        task.after(configured)  # the compiler does not see that cpu and memory depend on it
    if step in DEVICE_STEPS and configured:
        outputs = configured.outputs
        kubernetes.add_node_selector_json(task, outputs["node_selector"])
        kubernetes.add_toleration_json(task, outputs["tolerations"])
        kubernetes.add_node_affinity_json(task, outputs["node_affinity"])
        task.set_container_image(outputs[f"{step}_image"])
        task.set_accelerator_type(outputs[f"{step}_accelerator"]).set_accelerator_limit(outputs[f"{step}_accelerators"])
    else:
        default = placement_of(step)
        kubernetes.add_toleration_json(task, list(default.tolerations))
        kubernetes.add_node_affinity_json(task, default.node_affinity)
    quantities = configured.outputs if step in CONFIGURABLE and configured else _outputs(step, placement_of(step))
    task.set_cpu_request(quantities[f"{step}_cpu_request"]).set_cpu_limit(quantities[f"{step}_cpu"])
    task.set_memory_request(quantities[f"{step}_memory"]).set_memory_limit(quantities[f"{step}_memory"])


def _outputs(step: str, placement: StepPlacement) -> dict[str, str]:
    return {
        f"{step}_cpu_request": placement.cpu_request,
        f"{step}_cpu": placement.cpu,
        f"{step}_memory": placement.memory,
    }

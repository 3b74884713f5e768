"""The TrainJob of Kubeflow Trainer v2 (trainer.kubeflow.org/v1alpha1) that trains on several nodes: its manifest, and
what its status and pods say.

The runtime that it names (manifests/components/trainer) has all that is the same for every training: mounts, security,
restarts. The pods go where the step's own pod may go, in the step's own image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vqi.placement import memory_advice
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.steps.train.settings import NodeResources

API_GROUP, API_VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "vqi-training"
# Trainer's word for both the job that stands for all nodes and the container of each.
NODE = "node"
# Which training a TrainJob is: another start of the same step finds what an earlier one left.
TRAINING = "vqi/training"
JOBSET = "jobset.sigs.k8s.io/jobset-name"
_POSITION = "batch.kubernetes.io/job-completion-index"
_RESTART = "jobset.sigs.k8s.io/restart-attempt"
# The kubelet goes on trying for ever, and none of these passes by itself.
_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_BAD_INPUT = BadInput.exit_code


@dataclass(frozen=True)
class OwnPod:
    """The step's pod: what owns the TrainJob, and where and as what its nodes run."""

    name: str
    uid: str
    image: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    affinity: dict[str, Any]
    pull_secrets: list[dict[str, str]]

    @staticmethod
    def of(pod: Mapping[str, Any]) -> OwnPod:
        """From the pod as the API has it."""
        spec = pod["spec"]
        main = next(container for container in spec["containers"] if container["name"] == "main")
        # What Kubernetes adds to every pod it adds to these as well.
        tolerations = [
            t for t in spec.get("tolerations") or [] if not t.get("key", "").startswith("node.kubernetes.io/")
        ]
        return OwnPod(
            pod["metadata"]["name"],
            pod["metadata"]["uid"],
            main["image"],
            dict(spec.get("nodeSelector") or {}),
            tolerations,
            dict(spec.get("affinity") or {}),
            list(spec.get("imagePullSecrets") or []),
        )


def manifest(
    name: str,
    work: str,
    pod: OwnPod,
    resources: NodeResources,
    *,
    nodes: int,
    processes: int,
    training: str,
    kfp_run: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """The TrainJob `name`, whose nodes are handed `work`.

    The step's pod owns it: where that is deleted, Kubernetes deletes the TrainJob. The nodes have the label of the
    run's pods, so that network policies and `vqi runs` take them for such.
    """
    limits = {"cpu": resources.cpu, "memory": resources.memory}
    requests = {"cpu": resources.cpu_request, "memory": resources.memory}
    if resources.accelerator:
        limits[resources.accelerator] = requests[resources.accelerator] = resources.accelerators
    where = {
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "affinity": pod.affinity,
        "imagePullSecrets": pod.pull_secrets,
    }
    template: dict[str, Any] = {"spec": {key: value for key, value in where.items() if value}}
    if kfp_run:
        template["metadata"] = {"labels": {"pipeline/runid": kfp_run}}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": {TRAINING: training, "app.kubernetes.io/part-of": "vqi"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}],
        },
        "spec": {
            "runtimeRef": {"apiGroup": API_GROUP, "kind": "TrainingRuntime", "name": RUNTIME},
            "trainer": {
                "image": pod.image,
                "command": ["python3", "-m", "vqi.steps.train.node"],
                # Kubernetes would put a variable in the place of $(...).
                "args": [work.replace("$(", "$$(")],
                "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
                "numNodes": nodes,
                "numProcPerNode": processes,
                "resourcesPerNode": {"requests": requests, "limits": limits},
            },
            "runtimePatches": [
                {
                    "manager": "vqi.steps/train",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
                }
            ],
        },
    }


Phase = Literal["waiting", "suspended", "running", "complete", "failed"]


@dataclass(frozen=True)
class Failure:
    """How the container of a node ended: its `position` among the nodes, 0 the first."""

    position: str
    exit_code: int
    reason: str
    message: str
    ended: str
    memory: str

    @property
    def error(self) -> VqiError:
        """What the step raises for it."""
        if self.reason == "OOMKilled":
            return RunFailed(f"Node {self.position} was killed for its memory; {memory_advice('train', self.memory)}.")
        message = self.message.removesuffix(".") or f"no word, exit code {self.exit_code} ({self.reason or 'Error'})"
        kind = BadInput if self.exit_code == _BAD_INPUT else RunFailed
        return kind(f"Node {self.position} ended: {message}.")

    @property
    def order(self) -> tuple[int, str]:
        """The cause comes before what it led to: the other nodes fail because one is missing."""
        known = 0 if self.reason == "OOMKilled" else 1 if self.exit_code == _BAD_INPUT else 2
        return known, self.ended


@dataclass(frozen=True)
class State:
    """Where a TrainJob stands. `sentence` is what a person should know of it; `restart` counts from 0."""

    phase: Phase
    sentence: str
    restart: int = 0
    failures: tuple[Failure, ...] = ()


def state_of(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], warnings: Sequence[str] = ()) -> State:
    """The state of a TrainJob from its status, its pods and the last warnings about its pods' makers, all as the API
    has them."""
    conditions = {item["type"]: item for item in (job.get("status") or {}).get("conditions") or []}
    nodes = job["spec"]["trainer"]["numNodes"]
    restart = max((int(_labels(pod).get(_RESTART, 0)) for pod in pods), default=0)
    failures = tuple(sorted(filter(None, map(_failure, pods)), key=lambda failure: failure.order))

    def holds(name: str) -> bool:
        return bool(conditions.get(name, {}).get("status") == "True")

    if holds("Failed"):
        message = conditions["Failed"].get("message") or conditions["Failed"].get("reason")
        return State("failed", _line(message), restart, failures)
    if holds("Complete"):
        return State("complete", f"{nodes} nodes have trained", restart)
    if holds("Suspended"):
        return State("suspended", "suspended: a queue has not admitted it yet, or somebody suspended it", restart)
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") in ("Running", "Succeeded")]
    if len(running) == nodes:
        return State("running", f"{nodes} nodes are training", restart, failures)
    if failures:
        return State("running", str(failures[0].error).removesuffix("."), restart, failures)
    reasons = [reason for pod in pods if (reason := _waiting(pod))] or (list(warnings) if len(pods) < nodes else [])
    why = f": {reasons[0]}" if reasons else ""
    return State("waiting", f"{len(running)} of {nodes} nodes have begun{why}", restart, failures)


def position_of(pod: Mapping[str, Any]) -> str:
    """Which of the nodes a pod is, "0" the first."""
    return str(_labels(pod).get(_POSITION, "?"))


def _labels(pod: Mapping[str, Any]) -> Mapping[str, str]:
    return {**(pod["metadata"].get("annotations") or {}), **(pod["metadata"].get("labels") or {})}


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == NODE), {})


def _failure(pod: Mapping[str, Any]) -> Failure | None:
    ended = (_container(pod).get("state") or {}).get("terminated")
    status = pod.get("status") or {}
    if ended and ended["exitCode"]:
        container = next(item for item in pod["spec"]["containers"] if item["name"] == NODE)
        memory = ((container.get("resources") or {}).get("limits") or {}).get("memory", "")
        # A program's own words are many lines; the last one is what ended it.
        lines = [line for line in (ended.get("message") or "").splitlines() if line.strip()]
        return Failure(
            position_of(pod),
            ended["exitCode"],
            ended.get("reason") or "",
            _line(lines[-1] if lines else ""),
            ended.get("finishedAt") or "",
            memory,
        )
    if status.get("phase") == "Failed":  # evicted, or its node is lost
        return Failure(position_of(pod), 1, status.get("reason") or "", _line(status.get("message")), "", "")
    return None


def _waiting(pod: Mapping[str, Any]) -> str:
    """Why a pod does not run yet, "" where it only takes its time."""
    who = f"node {position_of(pod)}"
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        return f"{who} cannot have its image ({reason}: {_line(waiting.get('message'))})"
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        return f"the container of {who} cannot be made ({reason}: {_line(waiting.get('message'))})"
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"no node of the cluster takes {who} ({_line(condition.get('message'))})"
    return ""


def _line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()[:400].removesuffix(".")

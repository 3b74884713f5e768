"""Reads a run's namespace from the Kubernetes API: nodes, secrets, pods and their logs. All of it is optional: many
accounts may submit and not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes import client as k8s

TIMEOUT = (5, 30)
RUN_LABEL = "pipeline/runid"
NODE_NAME = "workflows.argoproj.io/node-name"
# In Argo's names, the number of an attempt and that of a loop's iteration.
ATTEMPT, ITERATION = re.compile(r"\(\d+\)"), re.compile(r"\.iteration-iterations\((\d+):")
DRIVER = re.compile(r"\.([\w-]+)-driver$")
# A pod that waits for one of these waits for a person; the kubelet itself goes on trying for ever.
PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")


class NotAllowed(Exception):
    """The account of the kubeconfig may not read, or the Kubernetes API does not answer."""


@dataclass(frozen=True)
class Node:
    """A node that takes pods: ready, not cordoned."""

    name: str
    labels: dict[str, str]
    allocatable: dict[str, str]
    taints: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Pod:
    """A pod of a run. `step` is "" for KFP's own (drivers); `trouble` is one sentence where the pod waits for a
    person. `node` is Argo's name of what it runs, the same for each attempt; `exit_code`, `reason` and `ended` are
    those of its main container, once that has ended, and `memory` is what that may take ("" without a limit).
    """

    name: str
    step: str
    phase: str
    started: str
    trouble: str
    node: str = ""
    exit_code: int | None = None
    reason: str = ""
    ended: str = ""
    memory: str = ""

    @property
    def trial(self) -> str:
        """The number of the trial that the pod belongs to in a comparison, counted from 1; "" elsewhere."""
        iteration = ITERATION.search(self.node)
        return str(int(iteration[1]) + 1) if iteration else ""

    @property
    def title(self) -> str:
        """The step, and which of several it is."""
        loop = "shard" if self.step == "index-part" else "trial"
        return f"{self.step} ({loop} {self.trial})" if self.trial else self.step

    @property
    def driver(self) -> str:
        """The task whose driver, KFP's own, the pod is; "" for another pod."""
        task = DRIVER.search(self.node)
        return task[1] if task else ""


class Kubernetes:
    """A cluster as its kubeconfig, or the service account of this pod, lets one see it."""

    def __init__(self, client: k8s.ApiClient) -> None:
        from kubernetes import client as k8s

        self._core = k8s.CoreV1Api(client)

    @staticmethod
    def reach(context: str = "") -> Kubernetes | None:
        """The cluster of the kubeconfig's `context`, or else of this pod, or else of the kubeconfig; None where there
        is none. No request is made."""
        from kubernetes import client as k8s
        from kubernetes import config

        configuration = k8s.Configuration()
        try:
            if context:
                raise config.ConfigException("a context is a kubeconfig's")
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            try:
                config.load_kube_config(context=context or None, client_configuration=configuration)
            except (config.ConfigException, OSError):
                return None
        configuration.retries = 2
        return Kubernetes(k8s.ApiClient(configuration))

    def has_service(self, namespace: str, name: str) -> bool:
        """Whether a Service with pods behind it exists, not a mere alias; True as well where the account may not read
        it."""
        from kubernetes.client import ApiException

        try:
            with _translate_errors():
                try:
                    return (
                        self._core.read_namespaced_service(name, namespace, _request_timeout=TIMEOUT).spec.type
                        != "ExternalName"
                    )
                except ApiException as error:
                    if error.status == 404:
                        return False
                    raise
        except NotAllowed:
            return True

    def has_namespace(self, namespace: str) -> bool:
        return self._exists(self._core.read_namespace, namespace)

    def has_secret(self, namespace: str, name: str) -> bool:
        return self._exists(self._core.read_namespaced_secret, name, namespace)

    def has_service_account(self, namespace: str, name: str) -> bool:
        return self._exists(self._core.read_namespaced_service_account, name, namespace)

    def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """The data of a ConfigMap, None where there is none. Raises NotAllowed."""
        from kubernetes.client import ApiException

        with _translate_errors():
            try:
                return self._core.read_namespaced_config_map(name, namespace, _request_timeout=TIMEOUT).data or {}
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

    def nodes(self) -> list[Node]:
        """The nodes that take pods. Raises NotAllowed."""
        with _translate_errors():
            listed = self._core.list_node(_request_timeout=TIMEOUT).items
        ready_nodes = []
        for node in listed:
            ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or [])
            if ready and not node.spec.unschedulable:
                taints = tuple(
                    {"key": t.key, "value": t.value or "", "effect": t.effect} for t in node.spec.taints or []
                )
                ready_nodes.append(
                    Node(node.metadata.name, node.metadata.labels or {}, node.status.allocatable or {}, taints)
                )
        return ready_nodes

    def pods(self, namespace: str, run_id: str) -> list[Pod]:
        """The pods of a run, in the order they were made. Raises NotAllowed."""
        with _translate_errors():
            listed = self._core.list_namespaced_pod(
                namespace, label_selector=f"{RUN_LABEL}={run_id}", _request_timeout=TIMEOUT
            ).items
        listed.sort(key=lambda pod: (pod.metadata.creation_timestamp is not None, pod.metadata.creation_timestamp))
        return [_pod(pod) for pod in listed]

    def log(self, namespace: str, pod: str) -> str:
        """What a pod's main container printed. Raises NotAllowed."""
        with _translate_errors():
            response = self._core.read_namespaced_pod_log(
                pod, namespace, container="main", _preload_content=False, _request_timeout=TIMEOUT
            )
            return response.data.decode("utf-8", "replace")

    def _exists(self, operation: Any, *arguments: str) -> bool:
        from kubernetes.client import ApiException

        with _translate_errors():
            try:
                operation(*arguments, _request_timeout=TIMEOUT)
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
        return True


@contextmanager
def _translate_errors() -> Iterator[None]:
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        raise NotAllowed(f"the Kubernetes API says {error.status} {error.reason}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise NotAllowed("the Kubernetes API does not answer") from error


def _pod(pod: Any) -> Pod:
    node = (pod.metadata.annotations or {}).get(NODE_NAME, "")
    step = _step(node)
    main = next((status for status in pod.status.container_statuses or [] if status.name == "main"), None)
    ended = main.state.terminated if main and main.state else None
    container = next((item for item in (pod.spec.containers if pod.spec else []) if item.name == "main"), None)
    limits = (container.resources.limits if container and container.resources else None) or {}
    return Pod(
        pod.metadata.name,
        step,
        pod.status.phase or "",
        str(pod.metadata.creation_timestamp or ""),
        _trouble(pod, step),
        ATTEMPT.sub("", node),
        ended.exit_code if ended else None,
        (ended.reason or "") if ended else (pod.status.reason or ""),
        str(ended.finished_at or "") if ended else "",
        str(limits.get("memory", "")),
    )


def _step(node: str) -> str:
    """The task a pod runs, from Argo's name for it (`run-x1y2z.root.train.executor(0)`)."""
    parts = node.split(".")
    if len(parts) < 2 or ATTEMPT.sub("", parts[-1]) != "executor":
        return ""
    return re.sub(r"\(.*\)$", "", parts[-2])


def _trouble(pod: Any, step: str) -> str:
    who = f"step {step}" if step else f"pod {pod.metadata.name}"
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        waiting = status.state.waiting if status.state else None
        if waiting and waiting.reason in PULLING:
            return (
                f"The image {status.image} of {who} cannot be had by its node ({waiting.reason}); "
                "push it where the nodes pull from, or name where it is with VQI_IMAGES and VQI_IMAGE_TAG and submit "
                "again."
            )
        if waiting and waiting.reason in ("CreateContainerConfigError", "CreateContainerError"):
            return f"The container of {who} cannot be made ({waiting.reason}: {_line(waiting.message)})."
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return f"No node takes {who} yet ({_line(condition.message)})."
    return ""


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:300].rstrip(".")

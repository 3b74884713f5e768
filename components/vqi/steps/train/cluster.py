"""The few calls of the Kubernetes API that a step needs which trains on several nodes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.logs import logger
from vqi.steps.train.train_job import API_GROUP, API_VERSION, JOBSET, NODE, PLURAL, TRAINING, position_of

if TYPE_CHECKING:
    from kubernetes import client as k8s

log = logger(__name__)

TIMEOUT = (5, 30)
# Where a pod reads its namespace.
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RIGHTS = "manifests/components/trainer has the rights and the runtime that several nodes need"


class NotAnswering(RunFailed):
    """The Kubernetes API does not answer, or not as it should; it may later."""


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, client: k8s.ApiClient, namespace: str) -> None:
        from kubernetes import client as k8s

        self.namespace = namespace
        self._core, self._custom = k8s.CoreV1Api(client), k8s.CustomObjectsApi(client)

    @staticmethod
    def reach(nodes: int) -> Cluster:
        """The cluster and namespace of this pod, or of the kubeconfig. Raises BadInput where there is none."""
        from kubernetes import client as k8s
        from kubernetes import config

        configuration = k8s.Configuration()
        try:
            try:
                config.load_incluster_config(client_configuration=configuration)
                namespace = NAMESPACE.read_text(encoding="utf-8").strip()
            except config.ConfigException:
                # Read here: the client reads the variable once, when it is imported.
                file = os.environ.get("KUBECONFIG") or None
                config.load_kube_config(file, client_configuration=configuration)
                namespace = config.list_kube_config_contexts(file)[1]["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise BadInput(
                f"train.nodes is {nodes}, which takes a cluster with Kubeflow Trainer, and this is none; leave "
                "train.nodes at 1 (train.processes trains in several processes of one machine)."
            ) from error
        configuration.retries = 2
        return Cluster(k8s.ApiClient(configuration), namespace)

    def pod(self, name: str) -> dict[str, Any]:
        """A pod of the namespace. Raises BadInput where it is not there."""
        with self._asking("read its own pod"):
            if name and (pod := self._read(self._core.read_namespaced_pod, name, self.namespace)):
                return dict(pod)
        raise BadInput(
            f"The step does not know its own pod ({name or 'KFP_POD_NAME is not set'}), which its TrainJob is to "
            "belong to; leave train.nodes at 1."
        )

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Make a TrainJob. Raises BadInput where there is no Kubeflow Trainer v2, or it refuses this one."""
        from kubernetes.client import ApiException

        with self._asking("make a TrainJob"):
            try:
                self._custom.create_namespaced_custom_object(
                    API_GROUP, API_VERSION, self.namespace, PLURAL, manifest, _request_timeout=TIMEOUT
                )
            except ApiException as error:
                if error.status == 404:
                    raise BadInput(
                        f"This cluster has no Kubeflow Trainer v2 ({PLURAL}.{API_GROUP}/{API_VERSION}); install it, or "
                        "leave train.nodes at 1."
                    ) from error
                raise

    def job(self, name: str) -> dict[str, Any] | None:
        """A TrainJob, None where it is not there."""
        with self._asking("read its TrainJob"):
            return self._read(
                self._custom.get_namespaced_custom_object, API_GROUP, API_VERSION, self.namespace, PLURAL, name
            )

    def names(self, training: str) -> list[str]:
        """The TrainJobs of a training, by their names."""
        with self._asking("list TrainJobs"):
            listed = self._read(
                self._custom.list_namespaced_custom_object,
                API_GROUP,
                API_VERSION,
                self.namespace,
                PLURAL,
                label_selector=f"{TRAINING}={training}",
            )
        return [item["metadata"]["name"] for item in (listed or {}).get("items", [])]

    def remove(self, name: str) -> None:
        """Delete a TrainJob, and with it its pods; one that cannot be deleted now is said."""
        try:
            with self._asking("delete its TrainJob"):
                self._read(
                    self._custom.delete_namespaced_custom_object, API_GROUP, API_VERSION, self.namespace, PLURAL, name
                )
        except (BadInput, RunFailed) as error:
            log.warning(f"TrainJob {name} is not deleted: {error} Kubernetes deletes it with the pod of this step.")

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The pods of a TrainJob, the first node's first."""
        with self._asking("list the pods of its TrainJob"):
            listed = self._read(self._core.list_namespaced_pod, self.namespace, label_selector=f"{JOBSET}={name}")
        return sorted((listed or {}).get("items", []), key=position_of)

    def warnings(self, name: str) -> list[str]:
        """What keeps pods of a TrainJob from being made (a quota, a policy, a missing runtime), the last first; nothing
        where events may not be read."""
        messages: list[tuple[str, str]] = []
        with suppress(BadInput):
            for maker in (f"{name}-{NODE}-0", name):
                with self._asking("list events"):
                    listed = self._read(
                        self._core.list_namespaced_event,
                        self.namespace,
                        field_selector=f"involvedObject.name={maker},type=Warning",
                    )
                for event in (listed or {}).get("items", []):
                    when = event.get("lastTimestamp") or event.get("eventTime") or ""
                    # Each attempt is a pod with another name, and the same trouble.
                    text = re.sub(rf"{re.escape(name)}-{NODE}-0-(\d+)-\w+", r"node \1", event.get("message") or "")
                    messages.append((str(when), " ".join(text.split())[:400]))
        return [message for _, message in sorted(messages, reverse=True)]

    def log_lines(self, pod: str) -> Iterator[str]:
        """The lines of a node's log as they come, from the first, until its container ends; none of a pod that has
        gone."""
        from kubernetes.client import ApiException

        with self._asking("read the log of a node"):
            try:
                response = self._core.read_namespaced_pod_log(
                    pod, self.namespace, container=NODE, follow=True, _preload_content=False, _request_timeout=(5, 600)
                )
            except ApiException as error:
                if error.status == 404:
                    return
                raise
            rest = b""
            for chunk in response.stream(4096):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
            if rest:
                yield rest.decode("utf-8", "replace")

    def _read(self, operation: Any, *arguments: Any, **options: Any) -> dict[str, Any] | None:
        """What an operation answers as plain values, None where the object or its kind is not there. The client's own
        models refuse what a newer or older cluster leaves out."""
        import json

        from kubernetes.client import ApiException

        try:
            answer = operation(*arguments, _request_timeout=TIMEOUT, _preload_content=False, **options)
            return dict(json.loads(answer.data))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        import json

        import urllib3
        from kubernetes.client import ApiException

        try:
            yield
        except ApiException as error:
            message = error.reason or ""
            with suppress(ValueError, TypeError):
                message = json.loads(error.body).get("message") or message
            if error.status == 403 and "denied the request" not in message and "exceeded quota" not in message:
                raise BadInput(f"The account of this step may not {what} ({message}); {RIGHTS}.") from error
            if error.status in (400, 403, 422):
                raise BadInput(f"The cluster refuses to let train {what}: {message.removesuffix('.')}.") from error
            raise NotAnswering(f"The Kubernetes API answers {error.status} ({message}) to {what}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NotAnswering(f"The Kubernetes API does not answer to {what}") from error


class LogFollower:
    """Passes the log of the first node on, line by line, whichever pod that is: `take` hands it the pods as they are.

    A connection that breaks is made again, and what was read before is passed over.
    """

    def __init__(self, cluster: Cluster, patience: float = 3.0) -> None:
        self._cluster, self._patience = cluster, patience
        self._followed: dict[str, threading.Thread] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # The last lines may still be on their way.
        for thread in self._followed.values():
            thread.join(self._patience)

    def take(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Follow the first node's pod among these, if it has begun and is not followed already."""
        for pod in pods:
            name, phase = pod["metadata"]["name"], (pod.get("status") or {}).get("phase")
            if position_of(pod) == "0" and phase in ("Running", "Succeeded", "Failed") and name not in self._followed:
                thread = threading.Thread(target=self._pass_on, args=(name,), daemon=True)
                self._followed[name] = thread
                thread.start()

    def _pass_on(self, pod: str) -> None:
        seen, failed = 0, 0
        while failed < 20:
            number = 0
            try:
                for line in self._cluster.log_lines(pod):
                    number += 1
                    if number > seen:
                        log.info(line)
                return
            except NotAnswering:
                failed = failed + 1 if number <= seen else 0
                seen = max(seen, number)
                threading.Event().wait(min(2.0, self._patience))
            except BadInput as error:
                log.warning(f"{error} The lines of the nodes are not shown.")
                return

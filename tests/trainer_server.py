"""A Kubernetes API for tests, in this process, that takes TrainJobs: what a step asks of it which trains on several
nodes. What becomes of a TrainJob is the test's own: `advance` is called whenever one is read."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE, STEP_POD = "vqi", "train-category-x-train-1"
CUSTOM = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
Json = dict[str, Any]


def step_pod() -> Json:
    """The pod of the step itself, as KFP and Argo make it."""
    return {
        "metadata": {"name": STEP_POD, "uid": "6f0e2c5a-0000-4000-8000-000000000001"},
        "spec": {
            "containers": [{"name": "wait", "image": "argoexec"}, {"name": "main", "image": "here/vqi/train:1"}],
            "nodeSelector": {"vqi/pool": "xeon"},
            "tolerations": [
                {"key": "vqi/pool", "operator": "Equal", "value": "xeon", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            ],
            "imagePullSecrets": [{"name": "registry"}],
        },
    }


def node_pod(
    job: str,
    position: int,
    phase: str = "Running",
    *,
    state: Json | None = None,
    conditions: list[Json] | None = None,
    restart: int = 0,
) -> Json:
    """The pod of a node; `state` is that of its container."""
    labels = {
        "jobset.sigs.k8s.io/jobset-name": job,
        "jobset.sigs.k8s.io/restart-attempt": str(restart),
        "batch.kubernetes.io/job-completion-index": str(position),
    }
    limits = {"cpu": "4", "memory": "4Gi"}
    return {
        "metadata": {"name": f"{job}-node-0-{position}-r{restart}", "labels": labels},
        "spec": {"containers": [{"name": "node", "resources": {"limits": limits}}]},
        "status": {
            "phase": phase,
            "conditions": conditions or [],
            "containerStatuses": [{"name": "node", "state": state}] if state else [],
        },
    }


def ended(exit_code: int, message: str = "", reason: str = "Error", at: str = "2026-11-29T08:00:00Z") -> Json:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": at}}


@dataclass
class TrainerApi:
    """What the cluster holds and was asked. `refusal`: status and message in answer to a new TrainJob; `forbidden`:
    resources that the account may not use."""

    jobs: dict[str, Json] = field(default_factory=dict)
    pods: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    created: list[Json] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    forbidden: set[str] = field(default_factory=set)
    advance: Callable[[Json], None] = lambda job: None

    def end(self, job: Json, kind: str, message: str = "") -> None:
        """Let a TrainJob have that condition."""
        job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": kind, "message": message}]}


@contextmanager
def serving(api: TrainerApi, kubeconfig: Path) -> Iterator[TrainerApi]:
    """Serve `api` on a port of this machine, and write a kubeconfig that points there."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            kind = re.search(r"/(trainjobs|pods|events)(?:/|$)", parts.path)
            if kind and kind[1] in api.forbidden:
                status, content = 403, _status(403, f"{kind[1]} is forbidden")
            elif parts.path.startswith(CUSTOM):
                status, content = self._of_trainjobs(parts.path.removeprefix(CUSTOM).strip("/"), query, body)
            else:
                status, content = self._of_core(parts.path.removeprefix(f"/api/v1/namespaces/{NAMESPACE}/"), query)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _of_trainjobs(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
            if self.command == "POST":
                if api.refusal:
                    return api.refusal[0], _status(*api.refusal)
                job = json.loads(body)
                api.created.append(json.loads(body))
                api.jobs[job["metadata"]["name"]] = job
                return 201, job
            if not name:
                key, _, value = query["labelSelector"].partition("=")
                return 200, {"items": [job for job in api.jobs.values() if job["metadata"]["labels"].get(key) == value]}
            if name not in api.jobs:
                return 404, _status(404, "not found")
            if self.command == "DELETE":
                api.deleted.append(name)
                api.pods = [pod for pod in api.pods if not pod["metadata"]["name"].startswith(name)]
                return 200, api.jobs.pop(name)
            api.advance(api.jobs[name])
            return (200, api.jobs[name]) if name in api.jobs else (404, _status(404, "not found"))

        def _of_core(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
            if path == f"pods/{STEP_POD}":
                return 200, step_pod()
            if match := re.fullmatch(r"pods/([^/]+)/log", path):
                return (200, api.logs[match[1]]) if match[1] in api.logs else (404, _status(404, "not found"))
            if path == "pods":
                key, _, value = query["labelSelector"].partition("=")
                return 200, {"items": [pod for pod in api.pods if pod["metadata"]["labels"].get(key) == value]}
            if path == "events":
                name = query["fieldSelector"].split(",")[0].partition("=")[2]
                return 200, {"items": [event for event in api.events if event["involvedObject"]["name"] == name]}
            return 404, _status(404, "not found")

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host = f"http://127.0.0.1:{server.server_address[1]}"
    context = {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": host}}],
                "users": [{"name": "test", "user": {}}],
                "contexts": [context],
            }
        )
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(code: int, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}

"""A Kubernetes API for tests, in this process: what `vqi submit` reads, built from the kubernetes client's own
models, and its kubeconfig."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes import client as k8s

NAMESPACE = "vqi"


def node(name: str, pool: str = "", gaudi: int = 0, ready: bool = True, cordoned: bool = False, taint: str = "") -> Any:
    return k8s.V1Node(
        metadata=k8s.V1ObjectMeta(name=name, labels={"vqi/pool": pool} if pool else {}),
        spec=k8s.V1NodeSpec(
            unschedulable=cordoned or None,
            taints=[k8s.V1Taint(key=taint, value=pool, effect="NoSchedule")] if taint else None,
        ),
        status=k8s.V1NodeStatus(
            allocatable={"cpu": "16", "memory": "64Gi", **({"habana.ai/gaudi": str(gaudi)} if gaudi else {})},
            conditions=[k8s.V1NodeCondition(type="Ready", status=str(ready))],
        ),
    )


def pod(
    run_id: str,
    step: str,
    waiting: str = "",
    unschedulable: str = "",
    *,
    exit_code: int | None = None,
    reason: str = "",
    trial: int | None = None,
    attempt: int = 0,
    made: int = 0,
) -> Any:
    """A pod of a step, waiting for an image or a node, or ended with `exit_code` and the kubelet's `reason`. `trial`
    is its iteration of a comparison's loop, and `made` the second in which it was made."""
    ended = None if exit_code is None else k8s.V1ContainerStateTerminated(exit_code=exit_code, reason=reason)
    state = k8s.V1ContainerState(
        waiting=k8s.V1ContainerStateWaiting(reason=waiting) if waiting else None, terminated=ended
    )
    dag = "" if trial is None else f".for-loop-1(0).iteration-iterations({trial}:{trial})(0).train-category(0)"
    phases = {None: "Pending", 0: "Succeeded"}
    status = k8s.V1ContainerStatus(
        name="main", image=f"vqi/{step}:0.1.0", image_id="", ready=False, restart_count=0, state=state
    )
    unplaced = k8s.V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=unschedulable)
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            name=f"train-category-x-{step}" + ("" if trial is None else f"-{trial}-{attempt}"),
            creation_timestamp=datetime(2026, 11, 28, 20, 0, made, tzinfo=UTC),
            labels={"pipeline/runid": run_id},
            annotations={"workflows.argoproj.io/node-name": f"train-category-x.root{dag}.{step}.executor({attempt})"},
        ),
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name="main", resources=k8s.V1ResourceRequirements(limits={"memory": "4Gi"}))]
        ),
        status=k8s.V1PodStatus(
            phase=phases.get(exit_code, "Failed"),
            conditions=[unplaced] if unschedulable else [],
            container_statuses=None if unschedulable else [status],
        ),
    )


@dataclass
class Cluster:
    """What the cluster holds. `forbidden` are resources that the account may not look at; `kfp` is behind the Service
    ml-pipeline."""

    nodes: list[Any] = field(default_factory=lambda: [node("cpu1"), node("xeon1", "xeon")])
    named: dict[str, set[str]] = field(
        default_factory=lambda: {
            "namespaces": {NAMESPACE},
            "secrets": {"mlpipeline-minio-artifact", "vqi-store"},
            "serviceaccounts": {"pipeline-runner"},
            "services": {"ml-pipeline"},
        }
    )
    config_maps: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"kfp-launcher": {}, "vqi-settings": {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}}
    )
    pods: list[Any] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    kfp: str = ""
    host: str = ""


@contextmanager
def serving(cluster: Cluster, kubeconfig: Path) -> Iterator[Cluster]:
    """Serve `cluster` on a port of this machine and write a kubeconfig that points there."""
    serialise = k8s.ApiClient(k8s.Configuration()).sanitize_for_serialization

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            if match := re.fullmatch(r"/api/v1/namespaces/\w+/services/ml-pipeline:http/proxy(/.*)", parts.path):
                self._forward(f"{match[1]}?{parts.query}", body)
                return
            status, content = self._read_object(parts.path, parse_qs(parts.query))
            self._send(status, "text/plain" if isinstance(content, str) else "application/json", content)

        def _read_object(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
            if path == "/api/v1/nodes":
                return self._allowed("nodes", k8s.V1NodeList(items=cluster.nodes))
            if match := re.fullmatch(r"/api/v1/namespaces/([^/]+)", path):
                return self._held("namespaces", match[1], k8s.V1Namespace())
            match = re.fullmatch(rf"/api/v1/namespaces/{NAMESPACE}/(\w+)(?:/([^/]+))?(/log)?", path)
            if not match:
                return 404, _status(404)
            kind, name, log = match.groups()
            if kind == "pods" and log:
                return (200, cluster.logs[name]) if name in cluster.logs else (404, _status(404))
            if kind == "pods":
                key, _, value = query["labelSelector"][0].partition("=")
                return self._allowed(
                    "pods", k8s.V1PodList(items=[p for p in cluster.pods if p.metadata.labels.get(key) == value])
                )
            if kind == "configmaps":
                held = cluster.config_maps.get(name)
                return self._allowed(kind, k8s.V1ConfigMap(data=held)) if held is not None else (404, _status(404))
            if kind == "services":
                alias = "ExternalName" if name in cluster.aliases else "ClusterIP"
                return self._held(kind, name, k8s.V1Service(spec=k8s.V1ServiceSpec(type=alias)))
            return self._held(kind, name, k8s.V1Secret())

        def _held(self, kind: str, name: str, answer: Any) -> tuple[int, Any]:
            return self._allowed(kind, answer) if name in cluster.named[kind] else (404, _status(404))

        def _allowed(self, kind: str, answer: Any) -> tuple[int, Any]:
            return (403, _status(403)) if kind in cluster.forbidden else (200, serialise(answer))

        def _forward(self, path: str, body: bytes) -> None:
            upstream = http.client.HTTPConnection(cluster.kfp.removeprefix("http://"), timeout=10)
            upstream.request(
                self.command, path, body, {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            )
            answer = upstream.getresponse()
            self._send(answer.status, answer.getheader("Content-Type") or "", answer.read())
            upstream.close()

        def _send(self, status: int, kind: str, content: Any) -> None:
            data = (
                content
                if isinstance(content, bytes)
                else content.encode()
                if isinstance(content, str)
                else json.dumps(content).encode()
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    cluster.host = f"http://127.0.0.1:{server.server_address[1]}"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": cluster.host}}],
                "users": [{"name": "test", "user": {}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"}

"""A KFP server for tests, in this process: it answers with kfp_server_api's own models and takes nothing that they do
not know.

A run goes on when it is read: every GET of a run takes it to the next of its `stages`.
"""

from __future__ import annotations

import email.parser
import email.policy
import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api as api

from vqi.placement import STEP_TABLE

STEPS = tuple(step.name.replace("_", "-") for step in STEP_TABLE if step.of_category and step.configurable)
METRICS = {"image_auroc": 0.9875, "pixel_auroc": 0.97, "threshold": 0.5}
WORKFLOW = "train-category-x1y2z"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


def launcher_log(metrics: dict[str, Any], name: str = "evaluation") -> str:
    """What KFP's launcher leaves of a step that logged metrics."""

    def artifact(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"artifacts": [{"name": name, "uri": f"minio://mlpipeline/{name}", "metadata": metadata}]}

    held = {
        "executor-logs": {},
        "evaluation": {},
        "metrics": {},
        name: metrics,
        "roc_and_confusion_matrix": {"confidenceMetrics": []},
    }
    output = {"artifacts": {name: artifact(name, metadata) for name, metadata in held.items()}}
    return (
        "vqi evaluate: 3.1 s, peak 512 MiB\nI1121 20:00:00.0 18 launcher_v2.go:1230] ExecutorOutput: "
        f"{json.dumps(output, indent=2)}\nI1121 done\n"
    )


def failed_log(step: str, sentence: str, status: int) -> str:
    """What is left of a step that ended with `status`; the launcher itself always ends with 1."""
    return (
        f"I1121 20:00:00.0 18 launcher_v2.go:94] input\nvqi {step}: {sentence}\n"
        f"E1121 20:00:01.0 18 launcher_v2.go:449] Component failed to execute successfully: exit status {status}\n"
        f"F1121 20:00:01.0 18 main.go:59] failed to execute component: exit status {status}\n"
        'time=2026-11-21T20:00:02Z level=INFO msg="sub-process exited" argo=true error="exit status 1"\nError: exit '
        "status 1\n"
    )


@dataclass
class Kfp:
    """The server's state and how it is to behave. `faults` yields, for each request, "" or what goes wrong with it:

    a status ("503"), "closed" (the connection ends before anything is done) or "lost" (it is done, and the answer never
    arrives).
    """

    health: dict[str, Any] = field(
        default_factory=lambda: {
            "tag_name": "2.17.0",
            "commit_sha": "abc",
            "multi_user": False,
            "pipeline_store": "database",
        }
    )
    token: str = ""
    page: str = ""
    faults: Iterator[str] = field(default_factory=lambda: itertools.repeat(""))
    final: str = "SUCCEEDED"
    # 2.17 ends a run that was terminated as if it had failed.
    terminated: str = "FAILED"
    fails_at: str = ""
    cached: tuple[str, ...] = ()
    logs: dict[str, str] = field(default_factory=lambda: {"evaluate": launcher_log(METRICS)})
    host: str = ""
    requests: list[str] = field(default_factory=list)
    spoilt: int = 0
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, int] = field(default_factory=dict)
    schedules: dict[str, Any] = field(default_factory=dict)
    finished: bool = True

    def get_pipeline_by_name(self, query: dict[str, str], name: str) -> Any:
        for pipeline in self.pipelines.values():
            if pipeline.name == name and (pipeline.namespace or "") == query.get("namespace", ""):
                return pipeline
        raise Refused(404, f"Failed to get a pipeline with name {name}: ResourceNotFoundError")

    def create_pipeline(self, query: dict[str, str], body: Any) -> Any:
        if any(held.name == body.name for held in self.pipelines.values()):
            raise Refused(409, "Failed to create a new pipeline. The name is already in use: Already exist error")
        body.pipeline_id, body.created_at = str(uuid.uuid4()), _now()
        self.pipelines[body.pipeline_id] = body
        return body

    def list_pipeline_versions(self, query: dict[str, str], pipeline_id: str) -> Any:
        held = [version for version in self.versions.values() if version.pipeline_id == pipeline_id]
        if query.get("sort_by") == "created_at desc":
            held.reverse()
        return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=held or None, total_size=len(held))

    def upload_version(self, query: dict[str, str], content: bytes) -> Any:
        if query["pipelineid"] not in self.pipelines:
            raise Refused(404, "Pipeline not found")
        if any(
            version.name == query["name"]
            for version in self.versions.values()
            if version.pipeline_id == query["pipelineid"]
        ):
            raise Refused(
                409, f"Failed to upload a pipeline version. The name {query['name']} already exist: AlreadyExistError"
            )
        made = api.V2beta1PipelineVersion(
            pipeline_id=query["pipelineid"],
            pipeline_version_id=str(uuid.uuid4()),
            name=query["name"],
            display_name=query.get("display_name", query["name"]),
            description=query.get("description"),
            created_at=_now(),
        )
        self.versions[made.pipeline_version_id] = made
        self.packages[made.pipeline_version_id] = content.decode()
        return made

    def list_experiments(self, query: dict[str, str]) -> Any:
        predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
        held = [
            e for e in self.experiments.values() if all(getattr(e, p["key"]) == p["string_value"] for p in predicates)
        ]
        return api.V2beta1ListExperimentsResponse(experiments=held or None, total_size=len(held))

    def create_experiment(self, query: dict[str, str], body: Any) -> Any:
        if any(held.display_name == body.display_name for held in self.experiments.values()):
            raise Refused(409, "Already exist error")
        if self.health["multi_user"] and not body.namespace:
            raise Refused(400, "An experiment cannot have an empty namespace in multi-user mode")
        body.experiment_id, body.created_at = str(uuid.uuid4()), _now()
        self.experiments[body.experiment_id] = body
        return body

    def list_runs(self, query: dict[str, str]) -> Any:
        held = [run for run in self.runs.values() if query.get("experiment_id", run.experiment_id) == run.experiment_id]
        held = sorted(held, key=lambda run: run.created_at, reverse=True)
        start, size = int(query.get("page_token") or 0), int(query.get("page_size", 10))
        more = str(start + size) if start + size < len(held) else None
        return api.V2beta1ListRunsResponse(
            runs=held[start : start + size] or None, total_size=len(held), next_page_token=more
        )

    def create_run(self, query: dict[str, str], body: Any) -> Any:
        version = body.pipeline_version_reference.pipeline_version_id
        if version not in self.versions or body.experiment_id not in self.experiments:
            raise Refused(404, "ResourceNotFoundError: PipelineVersion not found")
        _check_parameters(self.packages[version], body.runtime_config.parameters)
        body.run_id, body.created_at, body.state = str(uuid.uuid4()), _now(), "PENDING"
        self.runs[body.run_id], self.stage[body.run_id] = body, 0
        return body

    def get_run(self, query: dict[str, str], run_id: str) -> Any:
        run = self._run(run_id)
        if run.state == "CANCELING":
            self._enter(run, self.terminated)
        elif run.state not in ("SUCCEEDED", "FAILED", "CANCELED"):
            self._advance(run)
        return run

    def terminate_run(self, query: dict[str, str], run_id: str) -> Any:
        self._enter(self._run(run_id), "CANCELING")
        return {}

    def _enter(self, run: Any, state: str) -> None:
        """Change a run's state and note it in its history, which ends with the state it is in."""
        if state != run.state:
            entry = api.V2beta1RuntimeStatus(update_time=_now(), state=state)
            run.state, run.state_history = state, [*(run.state_history or []), entry]

    def retry_run(self, query: dict[str, str], run_id: str) -> Any:
        run = self._run(run_id)
        if run.state != "FAILED":
            raise Refused(400, "Workflow must be Failed/Error to retry")
        self._enter(run, "RUNNING")
        self.final, self.fails_at = "SUCCEEDED", ""
        return {}

    def create_recurring_run(self, query: dict[str, str], body: Any) -> Any:
        _check_parameters(
            self.packages[body.pipeline_version_reference.pipeline_version_id], body.runtime_config.parameters
        )
        if len(body.trigger.cron_schedule.cron.split()) not in (1, 6):
            raise Refused(400, "Schedule cron is not a supported format")
        body.recurring_run_id, body.created_at, body.status = str(uuid.uuid4()), _now(), "ENABLED"
        self.schedules[body.recurring_run_id] = body
        return body

    def list_recurring_runs(self, query: dict[str, str]) -> Any:
        held = list(self.schedules.values())
        return api.V2beta1ListRecurringRunsResponse(recurring_runs=held or None, total_size=len(held))

    def switch_recurring_run(self, query: dict[str, str], identity: str, verb: str) -> Any:
        self.schedules[identity].status = "ENABLED" if verb == "enable" else "DISABLED"
        return {}

    def delete_recurring_run(self, query: dict[str, str], identity: str) -> Any:
        if self.schedules.pop(identity, None) is None:
            raise Refused(404, "ResourceNotFoundError")
        return {}

    def read_log(self, query: dict[str, str], run_id: str, node: str) -> str:
        step = next((step for step in STEPS if node == _pod("executor", step)), "")
        if step not in self.logs:
            raise Refused(500, "Failed to read logs")
        return self.logs[step]

    def _run(self, run_id: str) -> Any:
        if run_id not in self.runs:
            raise Refused(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found.")
        return self.runs[run_id]

    def _advance(self, run: Any) -> None:
        self.stage[run.run_id] += 1
        stage = self.stage[run.run_id]
        done, ended = STEPS[: stage - 1], False
        if self.fails_at and self.fails_at in done:
            done, ended = done[: done.index(self.fails_at) + 1], True
        ended = ended or len(done) == len(STEPS)
        self._enter(run, self.final if ended and self.finished else "RUNNING")
        if ended:
            run.finished_at = _now()
        states = {step: "FAILED" if step == self.fails_at else "SUCCEEDED" for step in done}
        if not ended and stage <= len(STEPS):
            states[STEPS[stage - 1]] = "RUNNING"
        run.run_details = api.V2beta1RunDetails(
            task_details=[task for step, state in states.items() for task in self._tasks(run.run_id, step, state)]
        )

    def _tasks(self, run_id: str, step: str, state: str) -> list[Any]:
        """The Argo nodes of one task, as KFP lists them: each names itself by a pod, and its children by Argo's
        ids."""
        start = datetime(2026, 11, 21, 20, 0, tzinfo=UTC) + timedelta(seconds=10 * STEPS.index(step))
        never = datetime(1970, 1, 1, tzinfo=UTC)
        end = never if state == "RUNNING" else start + timedelta(seconds=7)
        inner = "SKIPPED" if step in self.cached else state

        def node(display: str, state: str | None, child: str = "") -> Any:
            children = [api.PipelineTaskDetailChildTask(pod_name=f"{WORKFLOW}-{_hash(child, step)}")] if child else None
            return api.V2beta1PipelineTaskDetail(
                run_id=run_id, display_name=display, start_time=start, end_time=end, state=state, child_tasks=children
            )

        # As 2.17 lists them: no node says its own id, and each has its attempts beside it.
        attempts = (
            [node("executor", inner, "executor"), node("executor(0)", inner)]
            if inner != "SKIPPED"
            else [node("executor", inner)]
        )
        return [
            node(f"{step}-driver", "SUCCEEDED", "driver"),
            node(f"{step}-driver(0)", "SUCCEEDED", "dag"),
            node(step, state, "dag"),
            node(f"{step}(0)", state, "executor"),
            *attempts,
            node("not-reached-driver", None),
            node("not-reached", None),
        ]


Route = tuple[str, str, str, Callable[..., Any]]
ROUTES: list[Route] = [
    ("GET", "/apis/v2beta1/pipelines/names/{name}", "", Kfp.get_pipeline_by_name),
    ("POST", "/apis/v2beta1/pipelines", "V2beta1Pipeline", Kfp.create_pipeline),
    ("POST", "/apis/v2beta1/pipelines/upload_version", "file", Kfp.upload_version),
    ("GET", "/apis/v2beta1/pipelines/{pipeline_id}/versions", "", Kfp.list_pipeline_versions),
    ("GET", "/apis/v2beta1/experiments", "", Kfp.list_experiments),
    ("POST", "/apis/v2beta1/experiments", "V2beta1Experiment", Kfp.create_experiment),
    ("GET", "/apis/v2beta1/runs", "", Kfp.list_runs),
    ("POST", "/apis/v2beta1/runs", "V2beta1Run", Kfp.create_run),
    ("GET", "/apis/v2beta1/runs/{run_id}", "", Kfp.get_run),
    ("POST", "/apis/v2beta1/runs/{run_id}:terminate", "", Kfp.terminate_run),
    ("POST", "/apis/v2beta1/runs/{run_id}:retry", "", Kfp.retry_run),
    ("GET", "/apis/v2beta1/recurringruns", "", Kfp.list_recurring_runs),
    ("POST", "/apis/v2beta1/recurringruns", "V2beta1RecurringRun", Kfp.create_recurring_run),
    (
        "POST",
        "/apis/v2beta1/recurringruns/{recurring_run_id}:enable",
        "",
        lambda kfp, query, i: kfp.switch_recurring_run(query, i, "enable"),
    ),
    (
        "POST",
        "/apis/v2beta1/recurringruns/{recurring_run_id}:disable",
        "",
        lambda kfp, query, i: kfp.switch_recurring_run(query, i, "disable"),
    ),
    ("DELETE", "/apis/v2beta1/recurringruns/{recurring_run_id}", "", Kfp.delete_recurring_run),
]
# Served beside the API that kfp_server_api knows, by the API server's own handlers.
LOGS: Route = ("GET", "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log", "text", Kfp.read_log)


@contextmanager
def serving(kfp: Kfp) -> Iterator[Kfp]:
    """Serve `kfp` on a port of this machine; `kfp.host` is its address."""
    lock = threading.Lock()
    client = api.ApiClient(api.Configuration())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                kfp.requests.append(f"{self.command} {urlsplit(self.path).path}")
                fault = next(kfp.faults)
                kfp.spoilt += bool(fault)
                if fault == "closed":
                    self.close_connection = True
                    return
                if fault.isdigit():
                    self._send(int(fault), "text/plain", b"upstream away")
                    return
                try:
                    status, kind, content = 200, "application/json", self._handled(body)
                    if kfp.page:
                        kind, content = "text/html; charset=utf-8", kfp.page.encode()
                except Refused as refused:
                    status, kind = refused.status, "application/json"
                    content = json.dumps(
                        {"error": refused.message, "code": 5, "message": refused.message, "details": []}
                    ).encode()
            if fault == "lost":
                self.close_connection = True
                return
            self._send(status, kind, content)

        def _handled(self, body: bytes) -> bytes:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/apis/v2beta1/healthz" and kfp.health:
                return json.dumps(kfp.health).encode()
            if kfp.token and self.headers.get("Authorization") != f"Bearer {kfp.token}":
                raise Refused(401, "Request header error: there is no user identity header")
            for method, template, takes, handler in [*ROUTES, LOGS]:
                match = re.fullmatch(re.sub(r"\{\w+\}", r"([^/:]+)", template), parts.path)
                if match and method == self.command:
                    arguments: list[Any] = [unquote(group) for group in match.groups()]
                    if takes.startswith("V2beta1"):
                        arguments.append(_strictly(json.loads(body), takes))
                    elif takes == "file":
                        arguments.append(_uploaded(self.headers["Content-Type"], body))
                    answer = handler(kfp, query, *arguments)
                    return (
                        answer.encode()
                        if isinstance(answer, str)
                        else json.dumps(client.sanitize_for_serialization(answer)).encode()
                    )
            raise Refused(404, "Not Found")

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kfp.host = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield kfp
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _strictly(value: Any, kind: str) -> Any:
    """A model of kfp_server_api from JSON; a key that the model does not have is refused, as KFP's gateway does."""
    if kind.startswith("dict(") or kind in ("object", "str", "int", "bool"):
        return value
    if kind == "datetime":
        return datetime.fromisoformat(value)
    if kind.startswith("list["):
        return [_strictly(item, kind[5:-1]) for item in value]
    model = getattr(api, kind)
    if isinstance(value, str):  # an enumeration
        if value not in model.allowable_values:
            raise Refused(400, f"{value} is not a {kind}")
        return value
    names = {key: attribute for attribute, key in model.attribute_map.items()}
    unknown = set(value) - set(names)
    if unknown:
        raise Refused(400, f'unknown field "{unknown.pop()}"')
    return model(**{names[key]: _strictly(item, model.openapi_types[names[key]]) for key, item in value.items()})


def _check_parameters(package: str, parameters: dict[str, Any]) -> None:
    """As KFP's server does: only parameters that the pipeline has, and of a choice only what is allowed."""
    import yaml

    known = next(iter(yaml.safe_load_all(package)))["root"]["inputDefinitions"]["parameters"]
    for name, value in parameters.items():
        if name not in known:
            raise Refused(400, f"parameter {name} is not an input of the pipeline")
        if known[name].get("literals") and value not in known[name]["literals"]:
            raise Refused(400, f"input parameter {name} value {value!r} is not one of the allowed literals")


def _uploaded(kind: str, body: bytes) -> bytes:
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {kind}\r\n\r\n".encode() + body
    )
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    return part.get_payload(decode=True)


def _hash(kind: str, step: str) -> str:
    return str(1000 * (1 + ("driver", "dag", "executor").index(kind)) + STEPS.index(step))


def _pod(kind: str, step: str) -> str:
    template = {
        "driver": "system-container-driver",
        "dag": "system-container-executor",
        "executor": "system-container-impl",
    }[kind]
    return f"{WORKFLOW}-{template}-{_hash(kind, step)}"


def _now() -> datetime:
    return datetime.now(UTC)

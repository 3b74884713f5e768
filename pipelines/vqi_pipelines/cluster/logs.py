"""A step's log, wherever it can still be had: its pod, the KFP API server, the KFP UI's archive."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlencode

from vqi.platform.errors import BadInput, GateRefused, RunFailed, VqiError, closest
from vqi.platform.printing import printable
from vqi_pipelines.cluster.kubernetes_access import Kubernetes, NotAllowed
from vqi_pipelines.cluster.server import Server
from vqi_pipelines.cluster.steps import Step

# KFP's launcher ends with 1 whatever the step's own exit code was, and says that one in its log.
EXIT_STATUS = re.compile(r"failed to execute (?:component|successfully): exit status (\d+)")
# A step's last word where its own work was done (vqi.steps.running).
DONE = re.compile(r"\d+\.\d s, peak \d+ MiB")
# The launcher's, where it could not go on: of a chain of causes the last ones say most.
LAUNCHER_FAILED = re.compile(r"^F\d{4} [^\]]*\] (?:failed to execute component: )?(.+)$", re.MULTILINE)
# What a component logged as metrics, as KFP's launcher shows it before it publishes it.
EXECUTOR_OUTPUT = "ExecutorOutput: "


@dataclass(frozen=True)
class Logs:
    """Where the logs of a run's steps may be had from. `namespace` is the run's own."""

    server: Server
    kubernetes: Kubernetes | None
    namespace: str

    def of(self, run_id: str, step: Step) -> str:
        """The log of the step's last attempt, "" where none can be had any more."""
        return self._from_pods(run_id, step.name) or self._from_server(run_id, step) or ""

    def _from_pods(self, run_id: str, name: str) -> str:
        if self.kubernetes is None or not self.namespace:
            return ""
        try:
            pods = [pod for pod in self.kubernetes.pods(self.namespace, run_id) if pod.step == name]
            return self.kubernetes.log(self.namespace, pods[-1].name) if pods else ""
        except NotAllowed:
            return ""

    def _from_server(self, run_id: str, step: Step) -> str:
        for pod in reversed(step.pods):
            about = urlencode({"podname": pod, "podnamespace": self.namespace, "runid": run_id})
            for path in (f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", f"/k8s/pod/logs?{about}"):
                try:
                    text = self.server.get_text(path)
                except VqiError:
                    continue
                if text and not text.lstrip().startswith("<"):
                    return text
        return ""


def failure(step: str, log: str) -> VqiError:
    """The error that a step's log ends with: the step's own sentence and its own exit code."""
    statuses = EXIT_STATUS.findall(log)
    kind = {2: BadInput, 3: GateRefused}.get(int(statuses[-1]) if statuses else 1, RunFailed)
    sentences = re.findall(rf"^vqi {re.escape(step.replace('-', '_'))}: (.+)$", log, re.MULTILINE)
    launcher = LAUNCHER_FAILED.findall(log)
    if sentences and launcher and DONE.fullmatch(sentences[-1].strip()):
        return _not_kept(step, launcher[-1])
    if sentences:
        return kind(f"{step}: {printable(sentences[-1].strip())}")
    if not log:
        return RunFailed(f"{step} failed, and its log cannot be had any more.")
    lines = [line.strip() for line in log.splitlines() if line.strip() and not re.match(r"[IWEF]\d{4} ", line)]
    return RunFailed(
        f"{step} failed: {printable(lines[-1][:300]) if lines else printable(log.strip().splitlines()[-1][:300])}"
    )


def _not_kept(step: str, launcher: str) -> RunFailed:
    """A step whose own work was done, and what came of it was lost: a store that is full or away."""
    artifact = re.search(r'failed to upload output artifact "([^"]+)"', launcher)
    answer = launcher.partition("api error ")[2] or ": ".join(launcher.split(": ")[-2:])
    lost = f"its artefact {artifact[1]} could not be stored" if artifact else "KFP's launcher failed after it"
    return RunFailed(f"{step} did its work, but {printable(lost)}: {printable(answer[-300:]).rstrip('.')}.")


def metrics(log: str) -> dict[str, float]:
    """The numbers that a step noted at its output `evaluation` (compare: `method_means`); empty where there are none.

    KFP's API does not tell them (they are in its metadata store); its launcher prints them into the step's log.
    """
    start = log.rfind(EXECUTOR_OUTPUT)
    if start < 0:
        return {}
    try:
        output, _ = json.JSONDecoder().raw_decode(log, start + len(EXECUTOR_OUTPUT))
        held = output["artifacts"]
        # `metrics` and `means` are those of earlier versions, which noted none at `evaluation`.
        logged = [
            held[name]["artifacts"][0]["metadata"]
            for name in ("evaluation", "method_means", "metrics", "means")
            if name in held
        ]
        numbers = [
            {
                name: value
                for name, value in values.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
            for values in logged
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return {}
    return next((values for values in numbers if values), {})


def tracking_page(log: str) -> str:
    """The page in MLflow that `evaluate` noted at its output `evaluation`; "" where it noted none."""
    start = log.rfind(EXECUTOR_OUTPUT)
    if start < 0:
        return ""
    try:
        output, _ = json.JSONDecoder().raw_decode(log, start + len(EXECUTOR_OUTPUT))
        page = output["artifacts"]["evaluation"]["artifacts"][0]["metadata"]["mlflow"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return page if isinstance(page, str) else ""


def chosen_step(steps: list[Step], name: str) -> Step:
    """The step that a person named (`build_index` and `build-index` are the same). Raises BadInput for one that the run
    does not have."""
    wanted = name.replace("_", "-")
    for step in reversed(steps):
        if step.name == wanted:
            return step
    if not steps:
        raise BadInput("No step of the run has begun yet.")
    raise BadInput(f"No step {name!r} of the run has begun.{closest(wanted, sorted({step.name for step in steps}))}")

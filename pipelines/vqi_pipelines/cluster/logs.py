"""A step's log, wherever it can still be had: its pod, the KFP API server, the KFP UI's archive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from vqi.placement import STEP_BY_NAME, memory_advice, runs_step
from vqi.platform.errors import BadInput, GateRefused, RunFailed, VqiError, closest
from vqi.platform.printing import printable
from vqi.steps.composite import BEGINS
from vqi_pipelines.cluster.kubernetes_access import Kubernetes, NotAllowed, Pod
from vqi_pipelines.cluster.server import Server
from vqi_pipelines.cluster.steps import Step

# KFP's launcher ends with 1 whatever the step's own exit code was, and says that one in its log.
EXIT_STATUS = re.compile(r"failed to execute (?:component|successfully): exit status (\d+)")
# What a process that was killed ends with, and the kubelet's word for one that took more than its limit.
KILLED, OUT_OF_MEMORY = 137, "OOMKilled"
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
        pods = [pod for pod in self.pods(run_id) if pod.step == step.name]
        return (self.of_pod(pods[-1]) if pods else "") or self._from_server(run_id, step) or ""

    def pods(self, run_id: str) -> list[Pod]:
        """The pods of a run that are still there, found by their label: in the order they were made; none where they
        cannot be seen from here. KFP's own record of a run does not name them all."""
        if self.kubernetes is None or not self.namespace:
            return []
        try:
            return self.kubernetes.pods(self.namespace, run_id)
        except NotAllowed:
            return []

    def of_pod(self, pod: Pod) -> str:
        """What a pod printed, "" where that cannot be had."""
        if self.kubernetes is None:
            return ""
        try:
            return self.kubernetes.log(self.namespace, pod.name)
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


def failure(step: str, log: str, pod: Pod | None = None) -> VqiError:
    """The error that a step ended with: the step's own sentence and its own exit code, from the end of its `log`; of a
    composite, those of the step that it ran last.

    A step that was killed says nothing; its `pod` says why, where it is still there.
    """
    log = _messages(log)
    task = who = pod.title if pod else step
    if begun := _last_begun(step, log):
        ran = begun[1] or begun[2]
        who = who.replace(step, ran.replace("_", "-"), 1)
        step, log = ran, log[begun.start() :]
    statuses = EXIT_STATUS.findall(log)
    status = int(statuses[-1]) if statuses else pod.exit_code if pod and pod.exit_code is not None else 1
    sentences = re.findall(rf"^vqi {re.escape(step.replace('-', '_'))}: (.+)$", log, re.MULTILINE)
    done = bool(sentences) and bool(DONE.fullmatch(sentences[-1].strip()))
    if status == KILLED or (pod and pod.reason == OUT_OF_MEMORY):
        return _killed(step, who, log, pod)
    launcher = LAUNCHER_FAILED.findall(log)
    if done:
        return (
            _not_kept(task, launcher[-1]) if launcher else RunFailed(f"{who} did its work, and was ended after that.")
        )
    if sentences:
        kind = {2: BadInput, 3: GateRefused}.get(status, RunFailed)
        return kind(f"{who}: {printable(sentences[-1].strip())}")
    if not log:
        return RunFailed(f"{who} failed, and its log cannot be had any more.")
    lines = [line.strip() for line in log.splitlines() if line.strip() and not re.match(r"[IWEF]\d{4} ", line)]
    return RunFailed(
        f"{who} failed: {printable(lines[-1][:300]) if lines else printable(log.strip().splitlines()[-1][:300])}"
    )


# The remedy where a run cannot be gone on with.
SUBMIT_AGAIN = "submit again, what is done comes from the cache"


def driver_failure(pod: Pod, log: str) -> RunFailed:
    """The error of a driver, KFP's own pod before each task, from its log."""
    lines = LAUNCHER_FAILED.findall(log)
    reason = f": {printable(': '.join(lines[-1].split(': ')[-2:])[-300:]).rstrip('.')}" if lines else ""
    # KFP 2.17 does not know a driver's work again that is already in its metadata.
    lost = "two tasks have the same task name" in reason
    remedy = f" A driver was lost after its work; {SUBMIT_AGAIN}." if lost else ""
    return RunFailed(f"KFP's own driver of {pod.driver} failed, before the step began{reason}.{remedy}")


def _last_begun(composite: str, log: str) -> re.Match[str] | None:
    """Where a composite says that a step of it begins, the last time; or where a step of it says the last word, in a
    log without such lines (`VQI_LOG=quiet`). The step is one of both groups. None for what is not a composite."""
    row = STEP_BY_NAME.get(composite.replace("-", "_"))
    if row is None or not row.runs:
        return None
    step = f"({'|'.join(row.runs)})"
    begins = BEGINS.format(composite=row.name, step=step, number=r"\d+", count=r"\d+")
    places = [*re.finditer(rf"^{begins}$|^vqi {step}: ", log, re.MULTILINE)]
    return next((place for place in reversed(places) if place[1]), places[-1] if places else None)


def _messages(log: str) -> str:
    """The log with the messages of lines that a step wrote as JSON (VQI_LOG)."""
    lines = []
    for line in log.splitlines(keepends=True):
        try:
            lines.append(f"{json.loads(line)['message']}\n" if line.startswith('{"') else line)
        except (ValueError, KeyError, TypeError):
            lines.append(line)
    return "".join(lines)


def _killed(step: str, who: str, log: str, pod: Pod | None) -> RunFailed:
    """A step that the kernel or the node ended: it has no word of its own for that."""
    advice = memory_advice(step.replace("-", "_"), pod.memory if pod else "")
    announced = re.findall(r"about (\d+) MiB of memory", log)
    need = f"; it announced about {max(map(int, announced))} MiB of its own" if announced else ""
    if pod and pod.reason == OUT_OF_MEMORY:
        return RunFailed(f"{who} ran out of memory and was killed ({OUT_OF_MEMORY}){need}: {advice}.")
    return RunFailed(f"{who} was killed (exit status {KILLED}), as happens where memory runs out{need}: {advice}.")


def _not_kept(step: str, launcher: str) -> RunFailed:
    """A step whose own work was done, and what came of it was lost: a store that is full or away."""
    artifact = re.search(r'failed to upload output artifact "([^"]+)"', launcher)
    answer = launcher.partition("api error ")[2] or ": ".join(launcher.split(": ")[-2:])
    lost = f"its artefact {artifact[1]} could not be stored" if artifact else "KFP's launcher failed after it"
    remedy = "when that is mended, `vqi retry` repeats this step and none before it"
    return RunFailed(f"{step} did its work, but {printable(lost)}: {printable(answer[-300:]).rstrip('.')}; {remedy}.")


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


def step_pods(pods: Iterable[Pod], name: str) -> list[Pod]:
    """The last attempt of every pod's task that a person named, by the step (`build_index` and `build-index` are the
    same; a composite runs several) or by the pod itself: those that failed last."""
    attempts = [pod for pod in pods if pod.step]
    if itself := [pod for pod in attempts if pod.name == name]:
        return itself
    last = {pod.node: pod for pod in attempts if runs_step(pod.step, name.replace("-", "_"))}
    return sorted(last.values(), key=lambda pod: pod.phase == "Failed")


def chosen_step(steps: list[Step], name: str) -> Step:
    """The step that a person named (`build_index` and `build-index` are the same). Raises BadInput for one that the run
    does not have."""
    wanted = name.replace("_", "-")
    for step in reversed(steps):
        if runs_step(step.name, wanted.replace("-", "_")):
            return step
    if not steps:
        raise BadInput("No step of the run has begun yet.")
    raise BadInput(f"No step {name!r} of the run has begun.{closest(wanted, sorted({step.name for step in steps}))}")

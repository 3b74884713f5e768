"""Follow a run to its end: report what changes, recognise what stops it for good, and return how it ended as an exit
code."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vqi.placement import runs_step
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.printing import printable
from vqi_pipelines.cluster.kubernetes_access import PULLING, Kubernetes, NotAllowed, Pod
from vqi_pipelines.cluster.logs import Logs, driver_failure, failure, metrics, tracking_page
from vqi_pipelines.cluster.server import Server
from vqi_pipelines.cluster.steps import OVER, Step, state_of, steps_of

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

EVERY_SECONDS = 3.0
# The kubelet tries for ever to pull an image. A registry may be away for so long before the run counts as stuck.
PULL_SECONDS = 90.0
# A server that is restarted or upgraded is waited for: the run does not need it to go on.
OUTAGE_SECONDS = 900.0
# KFP reports the end of a run a little before it reports how the last steps ended.
STEPS_SECONDS = 20.0
# Of a comparison, beside the first.
MOST_FAILURES = 5
STALE = (
    "KFP does not tell how the last steps went; how the run ended is right. Ask again in a minute; where it stays so, "
    "Argo has compressed the "
    "run's record, as it does above 1 MB, and KFP 2.17 does not read it then."
)


@dataclass
class RunResult:
    """How a run ended; `to_json` of the commands prints it."""

    run_id: str
    name: str
    state: str
    link: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    tracking: str = ""
    note: str = ""
    error: str = ""
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def follow(
    server: Server,
    run_id: str,
    logs: Logs,
    report: Callable[[str], None],
    timeout: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> RunResult:
    """Wait for a run and report every change of a step. Raises RunFailed after `timeout` seconds, BadInput for an image
    that cannot be pulled."""
    until = None if timeout is None else now() + timeout
    reported: dict[str, str] = {}
    troubles = _Troubles(logs.kubernetes, logs.namespace, run_id, now)
    away: float | None = None
    over: float | None = None
    while True:
        try:
            run, away = server.call(server.runs.run_service_get_run, run_id), None
        except RunFailed as error:
            away = now() if away is None else away
            if now() - away > OUTAGE_SECONDS or (until is not None and now() > until):
                raise RunFailed(f"{error} The run {run_id} may go on; ask with `vqi runs {run_id}`.") from error
            continue
        steps = steps_of(run)
        for name, line in progress(steps).items():
            if reported.get(name) != line:
                reported[name] = line
                report(f"  {name}: {line}")
        if run.state in OVER:
            over = now() if over is None else over
            if (
                all(step.state in OVER for step in steps)
                or now() - over > STEPS_SECONDS
                or (until is not None and now() > until)
            ):
                return read_result(server, run, logs)
            time.sleep(EVERY_SECONDS)
            continue
        for sentence in troubles.news():
            report(f"  {sentence}")
        if stuck := troubles.hopeless():
            raise BadInput(f"{stuck} {_left_as_it_is(run_id)}")
        if until is not None and now() > until:
            raise RunFailed(
                f"The run {run_id} is not over after {timeout:.0f} s; it goes on. Follow it with `vqi runs {run_id} "
                "--wait`."
            )
        time.sleep(EVERY_SECONDS)


def progress(steps: Iterable[Step]) -> dict[str, str]:
    """A line for each step's name: its state, and how many of each where it runs in a loop."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.name, []).append(step)
    lines = {}
    for name, group in groups.items():
        if len(group) == 1:
            only = group[0]
            seconds = (
                f" in {only.seconds:.0f} s"
                if only.state == "SUCCEEDED" and only.seconds is not None and not only.cached
                else ""
            )
            lines[name] = ("succeeded (from the cache)" if only.cached else only.state.lower()) + seconds
        else:
            counts = Counter(step.state.lower() for step in group)
            lines[name] = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return lines


def read_result(server: Server, run: V2beta1Run, logs: Logs) -> RunResult:
    """How a run that is over ended: its metrics, or the sentence and exit code of the step that failed."""
    steps, state = steps_of(run), state_of(run)
    if state == "CANCELED":  # KFP calls what went on then failed, or leaves it running for ever
        steps = [step if step.state in ("SUCCEEDED", "SKIPPED") else replace(step, state=state) for step in steps]
    result = RunResult(
        run.run_id, printable(run.display_name or ""), state, server.run_link(run.run_id), progress(steps)
    )
    result.seconds = {step.name: step.seconds for step in steps if step.seconds is not None}
    # One trial's figures would pass for those of all.
    compares = any(runs_step(name, "plan_trials") for name in result.steps)
    # In a form of the DAG whose tasks run several steps, the one that runs evaluate has what evaluate noted.
    measuring = (
        "compare" if compares else next((name for name in result.steps if runs_step(name, "evaluate")), "evaluate")
    )
    if any(step.state not in OVER for step in steps) and (known := _steps_of_pods(logs.pods(run.run_id))):
        # Steps from the cache have no pod. What goes on in the record and has none is a loop or a DAG.
        names = {step.name for step in known}
        steps = [step for step in steps if step.state in OVER and step.name not in names] + known
        result.steps = progress(steps)
    if any(step.state not in OVER for step in steps):
        result.note = STALE
        if measuring not in result.steps:
            steps = [*steps, Step(measuring, run.state, None, None, ())]
    for step in steps:
        if step.name == measuring and step.state == "SUCCEEDED":
            log = logs.of(run.run_id, step)
            result.metrics, result.tracking = metrics(log) or result.metrics, tracking_page(log)
    if state != "SUCCEEDED":
        error = _why(run, state, steps, logs)
        result.error, result.exit_code = str(error), error.exit_code
    return result


def read_progress(server: Server, run: V2beta1Run, logs: Logs) -> RunResult:
    """How a run that goes on stands, and what its pods wait for; an image that cannot be pulled is its error."""
    waiting = troubles(logs.pods(run.run_id))
    unpullable = next((sentence for sentence in waiting if _is_pull(sentence)), "")
    return RunResult(
        run.run_id,
        printable(run.display_name or ""),
        state_of(run),
        server.run_link(run.run_id),
        progress(steps_of(run)),
        waiting=waiting,
        error=unpullable and f"{unpullable} {_left_as_it_is(run.run_id)}",
        exit_code=BadInput.exit_code if unpullable else 0,
    )


def troubles(pods: Iterable[Pod]) -> list[str]:
    """What pods wait for, a sentence each."""
    return list(dict.fromkeys(printable(pod.trouble) for pod in pods if pod.trouble))


def _why(run: V2beta1Run, state: str, steps: list[Step], logs: Logs) -> VqiError:
    if state == "CANCELED":
        return RunFailed(f"The run {run.run_id} was terminated.")
    # The first that failed: what holds it failed after it. Pods come first: the record has no trials in it, and where
    # it is too large no steps.
    if failed := failed_pods(logs.pods(run.run_id)):
        first, *others = (failure(pod.step, logs.of_pod(pod), pod) for pod in failed)
        return type(first)("\n".join([str(first), *_others(others)]))
    for step in sorted(
        (step for step in steps if step.state == "FAILED"),
        key=lambda step: (not step.pods, step.ended is None, step.ended),
    ):
        return failure(step.name, logs.of(run.run_id, step))
    drivers = {pod.node: pod for pod in logs.pods(run.run_id) if pod.driver}
    for pod in drivers.values():
        if pod.phase == "Failed":
            return driver_failure(pod, logs.of_pod(pod))
    reason = run.error.message if run.error else ""
    return RunFailed(
        f"The run {run.run_id} ended {state.lower()} before a step began{f': {printable(reason)}' if reason else ''}."
    )


def failed_pods(pods: Iterable[Pod]) -> list[Pod]:
    """The last attempts that failed, one for each step of each trial, in the order they ended."""
    last = {pod.node: pod for pod in pods if pod.step}
    return sorted((pod for pod in last.values() if pod.phase == "Failed"), key=lambda pod: pod.ended or pod.started)


def _others(others: Sequence[VqiError]) -> list[str]:
    """A line for each failure beside the first, and how many more there are."""
    more = len(others) - MOST_FAILURES
    return [f"  {other}" for other in others[:MOST_FAILURES]] + ([f"  {more} more failed."] if more > 0 else [])


def _steps_of_pods(pods: Iterable[Pod]) -> list[Step]:
    """The steps whose pods are still there, by their last attempts."""
    last = {pod.node: pod for pod in pods if pod.step}
    return [Step(pod.step, pod.phase.upper(), None, None, (pod.name,)) for pod in last.values()]


class _Troubles:
    """What pods wait for, each reported once."""

    def __init__(self, kubernetes: Kubernetes | None, namespace: str, run_id: str, now: Callable[[], float]) -> None:
        self._kubernetes, self._namespace, self._run_id, self._now = kubernetes, namespace, run_id, now
        self._since: dict[str, float] = {}

    def news(self) -> list[str]:
        if self._kubernetes is None or not self._namespace:
            return []
        try:
            current = troubles(self._kubernetes.pods(self._namespace, self._run_id))
        except NotAllowed:
            self._kubernetes = None
            return []
        # The kubelet shows ErrImagePull and ImagePullBackOff in turns: the same trouble.
        keys = {_key(sentence): sentence for sentence in current}
        new = [sentence for key, sentence in keys.items() if key not in self._since]
        self._since = {key: self._since.get(key, self._now()) for key in keys}
        self._shown = keys
        return new

    def hopeless(self) -> str:
        """The sentence of an image that has not been pulled for too long, "" where there is none."""
        for key, since in self._since.items():
            if self._now() - since > PULL_SECONDS and _is_pull(self._shown[key]):
                return self._shown[key]
        return ""


def _left_as_it_is(run_id: str) -> str:
    return f"The run is left as it is; `vqi terminate {run_id}` ends it."


def _is_pull(sentence: str) -> bool:
    """Whether this is the trouble of an image that a node cannot pull."""
    return any(reason in sentence for reason in PULLING)


def _key(sentence: str) -> str:
    for reason in PULLING:
        sentence = sentence.replace(reason, "")
    return sentence

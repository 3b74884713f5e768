"""train on several nodes: the step makes a TrainJob of Kubeflow Trainer v2, follows it, and takes the network that its
nodes left in the store. Whatever ends the step, the TrainJob goes.

The nodes are scheduled, started and restarted by Trainer and Kubernetes; nothing here does. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.files import canonical_json, whole_folder
from vqi.platform.logs import logger, variables_of_children
from vqi.steps.reports import POD
from vqi.steps.train.cluster import Cluster, LogFollower, NotAnswering
from vqi.steps.train.exchange import Exchange
from vqi.steps.train.settings import StepSettings
from vqi.steps.train.train_job import OwnPod, State, manifest, state_of
from vqi.storage.copying import s3_address
from vqi.training.record import TrainingRecord, read_network_notes

log = logger(__name__)

# Seconds that nodes may take to begin: VQI_NODES_WAIT of the namespace, or this. A queue (suspended) may take longer.
WAIT, WAIT_VARIABLE = 3600.0, "VQI_NODES_WAIT"
POLL = 3.0
# What stands still is said again after so long, and an API that is away is waited for so long.
REPEATED, AWAY = 300.0, 600.0
# How long an earlier TrainJob of the same training may take to go.
REMOVAL = 120.0


def train_on_nodes(
    settings: StepSettings, *, dataset: str, network: Path, kfp_run: str = "", poll: float = POLL
) -> TrainingRecord | None:
    """Train on `settings.train.nodes` nodes and write the network artefact to `network`; how it was learnt. `dataset`
    is the address that KFP has the Dataset at.

    Raises BadInput where there is no cluster with Kubeflow Trainer, or it refuses the TrainJob, or a node says that
    its input is bad; RunFailed where nodes do not begin in time, or training broke off (its checkpoints stay).
    """
    nodes = settings.train.nodes
    source, prefix = s3_address(dataset), settings.train.checkpoints
    if not source or not prefix.startswith("s3://"):
        raise BadInput(
            f"train.nodes is {nodes}, and nodes exchange their work in a store: the Dataset must lie in one (it is at "
            f"{dataset or 'no address'}) and train.checkpoints, or VQI_CHECKPOINTS of the namespace, must name an "
            "s3://bucket/prefix; else leave train.nodes at 1."
        )
    if settings.node is None:
        raise BadInput("The settings do not say what each node gets (node); compile and submit the pipeline again.")
    cluster = Cluster.reach(nodes)
    pod = OwnPod.of(cluster.pod(os.environ.get(POD, "")))
    values = settings.model_dump(mode="json", exclude_none=True)
    training = hashlib.sha256(canonical_json([kfp_run, source, values])).hexdigest()[:20]
    name = f"vqi-train-{uuid.uuid4().hex[:10]}"
    exchange = Exchange(f"{prefix.rstrip('/')}/nodes/{name}")
    work = {"dataset": source, "exchange": str(exchange.address), "settings": values, "kfp_run": kfp_run}
    job = manifest(
        name,
        json.dumps(work, sort_keys=True),
        pod,
        settings.node,
        nodes=nodes,
        processes=settings.train.processes,
        training=training,
        kfp_run=kfp_run,
        # Without it torch warns of every second in which the first node's name is not known yet.
        environment={**variables_of_children(), "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )
    with _ended_by_signals(), exchange.alive():
        try:
            remove_earlier(cluster, training)
            cluster.create(job)
            log.info(f"made TrainJob {name}: {nodes} nodes, {settings.train.processes} processes each")
            follow(cluster, name, poll, _patience())
            with whole_folder(network) as folder:
                exchange.fetch_network(folder)
        finally:
            # A second signal must not keep it from going.
            with _deaf():
                cluster.remove(name)
                exchange.remove()
    return read_network_notes(network).training


def remove_earlier(cluster: Cluster, training: str) -> None:
    """Delete what an earlier start of this step left, and wait until its nodes have gone: both would write the same
    checkpoints. Raises RunFailed where they stay."""
    earlier = cluster.names(training)
    for name in earlier:
        log.info(f"an earlier start of this step left TrainJob {name}; it is deleted, and its checkpoints are taken up")
        cluster.remove(name)
    until = time.monotonic() + REMOVAL
    while earlier and any(cluster.job(name) or cluster.pods(name) for name in earlier):
        if time.monotonic() > until:
            raise RunFailed(f"TrainJob {earlier[0]} of an earlier start does not go; delete it and run this again.")
        time.sleep(1.0)


def follow(cluster: Cluster, name: str, poll: float, patience: float) -> None:
    """Say what becomes of a TrainJob until it is complete; the first node's log is passed on.

    Raises what a node said where it failed, RunFailed where it was deleted, where nodes have not begun after
    `patience` seconds, or where the API is away for long.
    """
    shown = State("waiting", "")
    shown_at = begun_at = answered_at = time.monotonic()
    last: State | None = None
    with LogFollower(cluster) as follower:
        while True:
            time.sleep(poll)
            try:
                job = cluster.job(name)
                if job is None:
                    raise RunFailed(f"Somebody deleted TrainJob {name} while it trained; its checkpoints stay.")
                pods = cluster.pods(name)
                state = state_of(job, pods, cluster.warnings(name) if len(pods) < _nodes(job) else ())
            except NotAnswering as error:
                if time.monotonic() - answered_at > AWAY:
                    raise RunFailed(f"{error}, for {AWAY:.0f} s; TrainJob {name} is given up.") from error
                continue
            now = answered_at = time.monotonic()
            follower.take(pods)
            if state.restart > shown.restart:
                cause = last.failures[0].error if last and last.failures else "a node ended"
                log.warning(f"TrainJob {name} begins again from its last checkpoint, on all nodes ({cause})")
            if state.phase != "waiting":
                begun_at = now
            again = state.phase in ("waiting", "suspended") and now - shown_at > REPEATED
            if (state.phase, state.sentence, state.restart) != (shown.phase, shown.sentence, shown.restart) or again:
                if state.phase in ("waiting", "suspended", "running"):
                    log.info(f"TrainJob {name}: {state.sentence}")
                shown, shown_at = state, now
            if state.failures:
                last = state
            if state.phase == "complete":
                return
            if state.phase == "failed":
                raise _error(name, state, last)
            if state.phase == "waiting" and now - begun_at > patience:
                raise RunFailed(
                    f"After {patience:.0f} s {state.sentence}; free the nodes, lower train.nodes or resources.train, "
                    f"or raise {WAIT_VARIABLE}."
                )


def _nodes(job: dict) -> int:
    return int(job["spec"]["trainer"]["numNodes"])


def _error(name: str, state: State, last: State | None) -> VqiError:
    failures = state.failures or (last.failures if last else ())
    if failures:
        return failures[0].error
    return RunFailed(f"TrainJob {name} failed: {state.sentence}; its checkpoints stay.")


def _patience() -> float:
    text = os.environ.get(WAIT_VARIABLE, "").strip()
    with suppress(ValueError):
        if not text or float(text) > 0:
            return float(text or WAIT)
    raise BadInput(f"{WAIT_VARIABLE} is {text!r}; write seconds, such as 3600.")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM (the run is terminated, the pod evicted) ends the block with a sentence, and what it leaves is cleaned
    up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise RunFailed(
            "train was stopped by a signal; the TrainJob of its nodes is deleted, and its checkpoints stay."
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deaf() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

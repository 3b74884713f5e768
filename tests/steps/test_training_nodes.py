"""train on several nodes: the TrainJob that is made, what is said of it, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trainer_server
from every_method import BACKBONE, COMPUTE, GEOMETRY, write_dataset
from s3_server import free_ports
from step_calls import train
from trainer_server import STEP_POD, TrainerApi, ended, node_pod
from vqi.category import Category
from vqi.detectors.storage import read_network
from vqi.platform.errors import BadInput, RunFailed
from vqi.steps.train import exchange as exchanges
from vqi.steps.train.exchange import Exchange
from vqi.steps.train.nodes import train_on_nodes
from vqi.steps.train.settings import NodeResources, StepSettings
from vqi.steps.train.train_job import state_of
from vqi.storage.object_store import Address, ObjectStore
from vqi.training.settings import TrainSettings

RUN = "0b8a3f1e-1111-4222-8333-444444444444"
RESOURCES = NodeResources(cpu_request="500m", cpu="4", memory="4Gi")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainerApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KFP_POD_NAME", STEP_POD)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with trainer_server.serving(TrainerApi(), tmp_path / "kubeconfig") as served:
        yield served


def settings(bucket: str, nodes: int = 2, method: str = "stfpm", **budgets: Any) -> StepSettings:
    return StepSettings(
        name="parts",
        method=method,
        method_settings={},
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        train=TrainSettings(nodes=nodes, checkpoints=f"s3://{bucket}/checkpoints/parts", **budgets),
        node=RESOURCES,
    )


def start(bucket: str, network: Path, **options: Any) -> Any:
    return train_on_nodes(
        settings(bucket, **options),
        dataset=f"minio://{bucket}/artifacts/{RUN}/dataset?endpoint=x",
        network=network,
        kfp_run=RUN,
        poll=0.05,
    )


def stored(bucket: str, prefix: str) -> list[str]:
    return [item.key for item in ObjectStore.from_environment().objects(Address(bucket, prefix))]


def assert_nothing_stays(api: TrainerApi, bucket: str) -> None:
    assert api.jobs == {}
    assert api.deleted == [job["metadata"]["name"] for job in api.created]
    assert stored(bucket, "checkpoints/parts/nodes") == []


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert node["name"] == "node"
    template: dict[str, Any] = node["template"]["spec"]["template"]
    return template


def test_the_trainjob_is_the_step_s_and_goes_where_the_step_goes(api: TrainerApi, bucket: str, tmp_path: Path) -> None:
    api.advance = lambda job: api.end(job, "Failed", "as the test wants it")
    with pytest.raises(RunFailed, match="as the test wants it"):
        start(bucket, tmp_path / "network", nodes=3, processes=2)
    (job,) = api.created
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "Pod",
        STEP_POD,
        trainer_server.step_pod()["metadata"]["uid"],
    )
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (3, 2, "here/vqi/train:1")
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "4Gi"}
    template = pod_of(job)
    assert template["metadata"]["labels"] == {"pipeline/runid": RUN}
    assert template["spec"]["nodeSelector"] == {"vqi/pool": "xeon"}
    assert [toleration["key"] for toleration in template["spec"]["tolerations"]] == ["vqi/pool"]
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    (argument,) = trainer["args"]
    work = json.loads(argument)
    assert work["dataset"] == f"s3://{bucket}/artifacts/{RUN}/dataset"
    # The nodes read what the step reads.
    assert StepSettings(**work["settings"]) == settings(bucket, nodes=3, processes=2)
    assert_nothing_stays(api, bucket)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient memory."}
JOB = {"spec": {"trainer": {"numNodes": 2}}}


@pytest.mark.parametrize(
    ("status", "pods", "warnings", "phase", "sentence"),
    [
        ({}, [], ["exceeded quota: cpu"], "waiting", "0 of 2 nodes have begun: exceeded quota: cpu"),
        ({}, [], [], "waiting", "0 of 2 nodes have begun"),
        (
            {},
            [node_pod("t", 0), node_pod("t", 1, "Pending", conditions=[UNPLACED])],
            [],
            "waiting",
            "1 of 2 nodes have begun: no node of the cluster takes node 1 "
            "(0/3 nodes are available: 3 Insufficient memory)",
        ),
        (
            {},
            [node_pod("t", 0, "Pending", state=waiting("ImagePullBackOff", "no such tag")), node_pod("t", 1)],
            [],
            "waiting",
            "1 of 2 nodes have begun: node 0 cannot have its image (ImagePullBackOff: no such tag)",
        ),
        ({}, [node_pod("t", 0), node_pod("t", 1)], [], "running", "2 nodes are training"),
        (
            {"conditions": [{"type": "Suspended", "status": "True"}]},
            [],
            [],
            "suspended",
            "suspended: a queue has not admitted it yet, or somebody suspended it",
        ),
        (
            {"conditions": [{"type": "Suspended", "status": "False"}]},
            [node_pod("t", 0), node_pod("t", 1)],
            [],
            "running",
            "2 nodes are training",
        ),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, [], [], "complete", "2 nodes have trained"),
        (
            {"conditions": [{"type": "Failed", "status": "True", "message": "jobset failed"}]},
            [],
            [],
            "failed",
            "jobset failed",
        ),
        (
            {},
            [node_pod("t", 0), node_pod("t", 1, "Failed", state=ended(1, "noise\nThe disk is full.\n"))],
            [],
            "running",
            "Node 1 ended: The disk is full",
        ),
    ],
)
def test_the_state_of_a_trainjob_is_one_sentence(
    status: dict, pods: list, warnings: list[str], phase: str, sentence: str
) -> None:
    state = state_of({**JOB, "status": status}, pods, warnings)
    assert (state.phase, state.sentence) == (phase, sentence)


@pytest.mark.parametrize(
    ("pods", "kind", "sentence"),
    [
        (
            [
                node_pod("t", 0, "Failed", state=ended(1, "Connection closed by peer", at="2026-11-29T08:00:00Z")),
                node_pod("t", 1, "Failed", state=ended(137, "", "OOMKilled", "2026-11-29T08:00:05Z")),
            ],
            RunFailed,
            "Node 1 was killed for its memory; its limit is 4Gi; resources.train.memory of the category raises it.",
        ),
        (
            [
                node_pod("t", 0, "Failed", state=ended(1, "Connection closed by peer", at="2026-11-29T08:00:00Z")),
                node_pod("t", 1, "Failed", state=ended(2, "There is no object s3://x.", at="2026-11-29T08:00:05Z")),
            ],
            BadInput,
            "Node 1 ended: There is no object s3://x.",
        ),
        (
            [
                node_pod("t", 0, "Failed", state=ended(1, "Connection closed by peer.", at="2026-11-29T08:00:09Z")),
                node_pod("t", 1, "Failed", state=ended(1, "The loss is nan.", at="2026-11-29T08:00:05Z")),
            ],
            RunFailed,
            "Node 1 ended: The loss is nan.",
        ),
        (
            [node_pod("t", 0, "Failed", state=ended(139))],
            RunFailed,
            "Node 0 ended: no word, exit code 139 (Error).",
        ),
    ],
)
def test_what_a_node_says_last_is_what_the_step_says(
    api: TrainerApi, bucket: str, tmp_path: Path, pods: list, kind: type, sentence: str
) -> None:
    def fail(job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        api.pods = json.loads(json.dumps(pods).replace('"t"', f'"{name}"').replace('"t-', f'"{name}-'))
        api.end(job, "Failed", "jobset failed due to one or more job failures")

    api.advance = fail
    with pytest.raises(kind) as error:
        start(bucket, tmp_path / "network")
    assert str(error.value) == sentence
    assert_nothing_stays(api, bucket)
    assert not (tmp_path / "network").exists()


def test_the_first_node_s_log_and_a_restart_are_told(
    api: TrainerApi, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[Callable[[str], list]] = [
        lambda name: [node_pod(name, 0, "Pending"), node_pod(name, 1, "Pending")],
        lambda name: [node_pod(name, 0), node_pod(name, 1)],
        lambda name: [node_pod(name, 0), node_pod(name, 1, "Failed", state=ended(1, "The node was lost."))],
        lambda name: [node_pod(name, 0, restart=1), node_pod(name, 1, restart=1)],
        lambda name: [node_pod(name, 0, restart=1)],
    ]

    def go_on(job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        api.logs = {f"{name}-node-0-0-r{n}": f"stfpm: step {5 + n}/9\n" for n in range(2)}
        api.pods = steps.pop(0)(name) if steps else api.pods
        if not steps:
            api.end(job, "Complete")

    api.advance = go_on
    with pytest.raises(RunFailed, match="left no network"):
        start(bucket, tmp_path / "network")
    lines = [line for line in capsys.readouterr().err.splitlines() if "made TrainJob" not in line]
    name = api.created[0]["metadata"]["name"]
    assert {"stfpm: step 5/9", "stfpm: step 6/9"} <= set(lines)
    assert [line for line in lines if not line.startswith("stfpm")] == [
        f"TrainJob {name}: 0 of 2 nodes have begun",
        f"TrainJob {name}: 2 nodes are training",
        f"TrainJob {name}: Node 1 ended: The node was lost",
        f"TrainJob {name} begins again from its last checkpoint, on all nodes (Node 1 ended: The node was lost.)",
        f"TrainJob {name}: 2 nodes are training",
    ]
    assert_nothing_stays(api, bucket)


@pytest.mark.parametrize(
    ("refusal", "forbidden", "sentence"),
    [
        ((404, "the server could not find the requested resource"), "", "This cluster has no Kubeflow Trainer v2"),
        (
            (403, 'admission webhook "x" denied the request: TrainingRuntime vqi-training not found.'),
            "",
            "refuses to let train make a TrainJob: .*vqi-training not found",
        ),
        (None, "trainjobs", r"may not .*TrainJobs? \(trainjobs is forbidden\); manifests/components/trainer"),
        (None, "pods", r"may not read its own pod \(pods is forbidden\)"),
    ],
)
def test_a_cluster_that_cannot_is_one_sentence(
    api: TrainerApi, bucket: str, tmp_path: Path, refusal: Any, forbidden: str, sentence: str
) -> None:
    api.refusal, api.forbidden = refusal, {forbidden}
    with pytest.raises(BadInput, match=sentence):
        start(bucket, tmp_path / "network")
    assert stored(bucket, "checkpoints/parts/nodes") == []


def test_nodes_that_never_begin_are_given_up_with_the_reason(
    api: TrainerApi, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQI_NODES_WAIT", "0.3")

    calls: list[str] = []

    def wait(job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        maker, pod = {"name": f"{name}-node-0"}, f"{name}-node-0-1-{len(calls):05d}"
        calls.append(pod)
        api.events = [
            {
                "involvedObject": maker,
                "message": f'Error creating: pods "{pod}" is forbidden: exceeded quota',
                "lastTimestamp": "2026-11-29T08:00:00Z",
            }
        ]

    api.advance = wait
    with pytest.raises(RunFailed, match=r'begun: Error creating: pods "node 1" is .*quota; .*VQI_NODES_WAIT'):
        start(bucket, tmp_path / "network")
    assert_nothing_stays(api, bucket)


def test_a_trainjob_that_somebody_deletes_ends_the_step(api: TrainerApi, bucket: str, tmp_path: Path) -> None:
    api.advance = lambda job: api.jobs.clear()
    with pytest.raises(RunFailed, match="Somebody deleted TrainJob"):
        start(bucket, tmp_path / "network")


def test_a_second_start_of_a_step_deletes_what_the_first_left(api: TrainerApi, bucket: str, tmp_path: Path) -> None:
    api.advance = lambda job: api.end(job, "Failed", "as the test wants it")
    with pytest.raises(RunFailed):
        start(bucket, tmp_path / "network")
    # As where the first was killed and could not delete it; another run's stays.
    (left,) = api.created
    other = json.loads(json.dumps(left))
    other["metadata"] |= {"name": "other", "labels": {"vqi/training": "other"}}
    api.jobs |= {"left": {**left, "metadata": {**left["metadata"], "name": "left"}}, "other": other}
    with pytest.raises(RunFailed):
        start(bucket, tmp_path / "network")
    assert "left" in api.deleted
    assert set(api.jobs) == {"other"}


# A step of its own process: a signal that it does not take must end it alone, not the tests.
STEP = """
import sys
from pathlib import Path
from test_training_nodes import start
from vqi.steps.running import step
with step("train"):
    start(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_step_that_is_told_to_stop_deletes_its_trainjob(api: TrainerApi, bucket: str, tmp_path: Path) -> None:
    calls, running = [], threading.Event()

    def stop(job: dict[str, Any]) -> None:
        calls.append(job)
        if len(calls) == 3:
            assert running.wait(60)
            process.send_signal(signal.SIGTERM)

    api.advance = stop
    process = subprocess.Popen(
        [sys.executable, "-c", STEP, bucket, str(tmp_path / "network")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        text=True,
    )
    running.set()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == RunFailed.exit_code, said
    assert "train was stopped by a signal; the TrainJob of its nodes is deleted" in said
    assert_nothing_stays(api, bucket)


def test_without_a_cluster_or_a_store_nothing_is_begun(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadInput, match="which takes a cluster with Kubeflow Trainer, and this is none"):
        start(bucket, tmp_path / "network")
    with pytest.raises(BadInput, match="nodes exchange their work in a store"):
        train_on_nodes(settings(bucket), dataset="/local/dataset", network=tmp_path / "network")


def test_nodes_end_where_the_step_no_longer_says_that_it_is_there(bucket: str) -> None:
    exchange, gone = Exchange(f"s3://{bucket}/x"), threading.Event()
    with exchange.alive(every=0.05):
        exchange.watch(gone.set, every=0.05, patience=1.0)
        assert not gone.wait(2.0)
    assert gone.wait(10.0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"method": {"name": "patchcore"}}, "patchcore learns nothing by gradient steps"),
        ({"method": {"name": "efficient_ad"}}, "cannot share efficient_ad's batch of 1; raise train.batch_size"),
        (
            {"method": {"name": "stfpm"}, "train": {"nodes": 2, "checkpoints": "/tmp/x"}},
            "which only one of 2 nodes would see",
        ),
    ],
)
def test_what_nodes_cannot_share_is_refused_in_the_first_step(values: dict, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Category.parse({"train": {"nodes": 2}, **values})


def test_the_step_that_waits_gets_little_and_its_nodes_what_training_gets() -> None:
    values = {"method": {"name": "stfpm"}, "pool": "gaudi", "resources": {"train": {"cpu": 8, "memory": "48Gi"}}}
    category = Category.parse({**values, "train": {"nodes": 4, "processes": 2}})
    step, node = category.step_placements["train"], StepSettings.of(category).node
    assert (step.accelerator, step.memory, step.node_selector) == ("", "2Gi", {"vqi/pool": "gaudi"})
    assert node == NodeResources(
        cpu_request="8", cpu="8", memory="48Gi", accelerator="habana.ai/gaudi", accelerators="2"
    )
    assert StepSettings.of(Category.parse(values)).node is None


@pytest.mark.slow
def test_two_nodes_train_what_one_does(
    api: TrainerApi, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two real processes in the place of pods, with the variables that Trainer sets."""
    monkeypatch.setattr(exchanges, "RENEWED", 1.0)
    dataset = write_dataset(tmp_path)
    store = ObjectStore.from_environment()
    store.upload_folder(dataset, Address(bucket, f"artifacts/{RUN}/dataset"))
    (port,) = free_ports(1)
    nodes: list[subprocess.Popen] = []

    def work(job: dict[str, Any]) -> None:
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        for position in range(0 if nodes else trainer["numNodes"]):
            pet = {"NNODES": "2", "NPROC_PER_NODE": "1", "NODE_RANK": str(position)}
            pet |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **{f"PET_{key}": item for key, item in pet.items()}}
            log = open(tmp_path / f"node-{position}.log", "w")  # noqa: SIM115
            command = [sys.executable, "-W", "ignore", *trainer["command"][1:], *trainer["args"]]
            nodes.append(subprocess.Popen(command, env=environment, stderr=log, stdout=log))
        codes = [node.poll() for node in nodes]
        api.logs[f"{name}-node-0-0-r0"] = (tmp_path / "node-0.log").read_text()
        api.pods = [node_pod(name, position) for position in range(2)]
        if None not in codes:
            api.end(job, "Failed" if any(codes) else "Complete", f"exit codes {codes}")

    api.advance = work
    budgets: dict[str, Any] = {"max_steps": 2, "batch_size": 4}
    try:
        record = start(bucket, tmp_path / "network", **budgets)
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    alone = train(
        dataset=dataset,
        network=tmp_path / "alone",
        method="stfpm",
        settings={},
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        budgets=TrainSettings(**budgets),
    )
    assert record.processes == 2
    assert [point.loss for point in record.points] == pytest.approx([point.loss for point in alone.points], rel=1e-4)
    assert record.held_out == alone.held_out
    read_network(tmp_path / "network")
    assert "stfpm: 2 steps of 4 images" in capfd.readouterr().err
    assert_nothing_stays(api, bucket)

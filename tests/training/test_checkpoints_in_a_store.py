"""Checkpoints in an object store: killed in the middle of an upload, over a network that spoils a third of the calls,
with a store that fills up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_run import resumable
from minio import Minio
from toy_learner import ToyImages, ToyLearner

from fault_proxy import FULL, Call, Fault, a_third, faulty
from s3_server import KEY, REGION, SECRET, Server
from vqi.detectors.settings import Budget
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, RunFailed
from vqi.storage import object_store
from vqi.storage.object_store import Address, ObjectStore
from vqi.training.checkpoints import STATE, TENSORS, Checkpoints
from vqi.training.loop import Loop, Training
from vqi.training.settings import TrainSettings

SCRIPT = Path(__file__).parent / "killed_run.py"


def trained(learner: ToyLearner, **options: Any) -> Training:
    pictures = ToyImages(10)
    settings, budget = TrainSettings(max_steps=9), Budget(batch_size=4, epochs=3)
    return Loop(
        learner,
        pictures,
        name="toy",
        settings=settings,
        budget=budget,
        compute=Compute(),
        seed=3,
        checkpoint_seconds=0.0,
        **options,
    ).run(pictures)


def same(first: ToyLearner, second: ToyLearner) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_checkpoints_in_an_object_store(bucket: str) -> None:
    whole = ToyLearner()
    trained(whole)
    part, resumed = ToyLearner(), ToyLearner()
    kept = Checkpoints(f"s3://{bucket}/toy", "run", 1)

    class Stop(Exception):
        pass

    def stop(point: dict[str, float]) -> None:
        if point["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        trained(part, checkpoints=kept, record=stop)
    checkpoint = kept.latest()
    assert checkpoint is not None
    assert checkpoint.step == 4
    training = trained(resumed, checkpoints=Checkpoints(f"s3://{bucket}/toy", "run", 1))
    assert training.steps == 9
    assert same(whole, resumed)
    kept.remove_all()
    assert kept.latest() is None


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "which"), [("UploadPart", 8), ("CompleteMultipartUpload", 3), ("PutObject", 3)])
def test_a_run_killed_in_the_middle_of_an_upload_resumes(
    s3: Server,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    operation: str,
    which: int,
) -> None:
    """A checkpoint of 12 MB is three parts and a small object: the third checkpoint is never whole."""
    if operation != "UploadPart" and not request.config.getoption("--s3"):
        pytest.skip("one moment of three is enough here (make test-s3 kills at each)")
    monkeypatch.setattr(object_store, "PART_SIZE", 5 << 20)
    process: subprocess.Popen[bytes] | None = None

    def kill(call: Call) -> Fault:
        if process and call.operation == operation and proxy.calls[operation] == which - 1:
            process.kill()
        return None

    address = f"s3://{bucket}/toy"
    with faulty(s3.endpoint, kill) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        process = subprocess.Popen([sys.executable, str(SCRIPT), address, "6", "0.05", "12"], stdout=subprocess.DEVNULL)
        assert process.wait(120) == -signal.SIGKILL
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    whole = {name for name, files in Checkpoints(address, "run", 2)._folders().items() if files == {STATE, TENSORS}}
    assert whole == {"step-000000001", "step-000000002"}
    with faulty(s3.endpoint, a_third(seed=which)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        weights = resumable(address, 6, 0.0, 12)
        assert proxy.spoilt >= 10
    captured = capsys.readouterr()
    assert "resumed at step 2 of 6" in captured.err
    assert captured.out.count("step") == 4
    assert weights == resumable(str(tmp_path), 6, 0.0, 12)
    keys = [
        item.key.removeprefix("toy/run/")
        for item in ObjectStore.from_environment(s3.environment()).objects(Address(bucket, "toy/run"))
    ]
    assert keys == [f"step-{step:09d}/{file}" for step in (5, 6) for file in (STATE, TENSORS)]


def test_what_killed_runs_left_is_removed(s3: Server, bucket: str, tmp_path: Path) -> None:
    store = ObjectStore.from_environment()
    (tmp_path / "tensors").write_bytes(b"half of a checkpoint")
    store.upload_file(tmp_path / "tensors", Address(bucket, "toy/run/step-000000002/tensors.safetensors"))
    client = Minio(s3.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region=REGION)
    client._create_multipart_upload(bucket, "toy/run/best/tensors.safetensors", {})
    trained(ToyLearner(), checkpoints=Checkpoints(f"s3://{bucket}/toy", "run", 1))
    assert {item.key.split("/")[2] for item in store.objects(Address(bucket, "toy"))} == {"step-000000009"}
    assert store.abandon_uploads(Address(bucket, "toy/run/best/tensors.safetensors")) == 0


def test_a_store_that_fills_up_does_not_end_the_training(
    s3: Server, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, part = ToyLearner(), ToyLearner()
    trained(whole)
    with faulty(
        s3.endpoint, lambda call: FULL if "step-000000004" in call.path and call.method == "PUT" else None
    ) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        assert trained(part, checkpoints=Checkpoints(f"s3://{bucket}/toy", "run", 2)).steps == 9
        assert proxy.spoilt == 1
    assert same(whole, part)
    messages = capsys.readouterr().err
    assert "is full, or the quota of" in messages
    assert "Learning goes on; the next checkpoint is tried in its time." in messages


def test_a_store_that_never_takes_one_ends_it_at_once(s3: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(s3.endpoint, lambda call: FULL if call.method == "PUT" else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        with pytest.raises(RunFailed, match="is full"):
            trained(ToyLearner(), checkpoints=Checkpoints(f"s3://{bucket}/toy", "run", 2))


def test_a_missing_bucket_is_reported_before_anything_is_learnt(s3: Server) -> None:
    with pytest.raises(BadInput, match="There is no bucket 'nobody-made-this'"):
        trained(ToyLearner(), checkpoints=Checkpoints("s3://nobody-made-this/toy", "run", 2))

"""Tracking against a real sqlite store and a real MLflow server on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_proxy import Call, Fault, a_third, faulty
from s3_server import Server
from vqi.platform.errors import BadInput, RunFailed
from vqi.storage.object_store import Address, ObjectStore
from vqi.tracking import runs
from vqi.tracking.runs import check_tracking, code_version, shown_address, track_run, tracking_address


@pytest.fixture(autouse=True)
def no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose file does not exist yet; made once, since a new one takes MLflow seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'deep' / 'mlflow.db'}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(sqlite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    # Making a store's tables takes longer than starting a server: it gets a copy of the one that is there.
    check_tracking(sqlite, "bolts")
    shutil.copy(sqlite.removeprefix("sqlite:///"), folder / "server.db")
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    log = open(folder / "log", "wb")  # noqa: SIM115
    process = subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd=folder,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"mlflow server does not start here: {(folder / 'log').read_text()[-300:]}")
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()


def run(uri: str, **changes: Any) -> str | None:
    values: dict[str, Any] = {
        "uri": uri,
        "experiment": "bolts",
        "run_name": "bolts patchcore",
        "parameters": {"method": "patchcore", "long": "x" * 9000},
        "metrics": {
            "image_auroc": 0.97,
            "pixel_auroc": None,
            "aupro": float("nan"),
            "odd": float("inf"),
            "confusion": {"true_positive": 3},
            "n": 4,
        },
        "tags": {"vqi.dataset_fingerprint": "abc"},
        "artifacts": [],
    }
    return track_run(**values | changes)


def read(uri: str, run_id: str | None) -> tuple[Any, list[str]]:
    from mlflow.tracking import MlflowClient

    assert run_id is not None
    client = MlflowClient(tracking_uri=uri)
    return client.get_run(run_id), [item.path for item in client.list_artifacts(run_id)]


@pytest.mark.parametrize("store", ["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def test_a_run_is_recorded_whole(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = request.getfixturevalue(store)
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.txt").write_text("a")
    check_tracking(uri, "bolts")
    run_id = run(uri, artifacts=[tmp_path / "results.json", tmp_path / "pictures"])
    recorded, artifacts = read(uri, run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics == {"image_auroc": 0.97, "n": 4}
    assert recorded.data.params == {"method": "patchcore", "long": "x" * 6000}
    assert recorded.data.tags["vqi.dataset_fingerprint"] == "abc"
    assert sorted(artifacts) == ["pictures", "results.json"]
    # Neither store leaves anything in the folder the step happened to run in.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "results.json"]


def test_runs_of_one_experiment_stay_together(sqlite: str) -> None:
    first, second = (read(sqlite, run(sqlite))[0] for _ in range(2))
    assert first.info.experiment_id == second.info.experiment_id
    assert first.info.run_id != second.info.run_id


def test_a_hundred_and_more_parameters_fit(sqlite: str) -> None:
    recorded, _ = read(sqlite, run(sqlite, parameters={f"p{number}": number for number in range(150)}))
    assert len(recorded.data.params) == 150


def test_no_address_is_no_tracking() -> None:
    check_tracking("", "bolts")
    assert run("") is None


@pytest.mark.slow
def test_many_processes_make_one_new_database(tmp_path: Path) -> None:
    """What MLflow does by itself fails here in one of the processes or more: "duplicate column name", "table already
    exists"."""
    address = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    program = (
        f"from vqi.tracking.runs import check_tracking, open_run; check_tracking({address!r}, 'a'); "
        f"open_run({address!r}, 'a', 'run')"
    )
    running = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=300)[1] for process in running] == [""] * 4
    assert [process.returncode for process in running] == [0] * 4
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=address)
    (experiment,) = client.search_experiments(filter_string="name = 'a'")
    assert len(client.search_runs([experiment.experiment_id])) == 4


def test_the_environment_names_the_address(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite)
    assert tracking_address("") == sqlite
    assert tracking_address("http://elsewhere") == "http://elsewhere"
    assert run("") is not None


def test_an_absent_server_is_one_sentence_soon() -> None:
    started = time.monotonic()
    with pytest.raises(RunFailed) as caught:
        check_tracking(f"http://user:secret@127.0.0.1:{free_port()}", "bolts")
    assert time.monotonic() - started < 20
    assert "\n" not in str(caught.value)
    assert "check tracking.uri" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "API request to http://mlflow.vqi.svc:5000/api/2.0/mlflow/runs/create failed with exception "
            "HTTPConnectionPool(host='mlflow.vqi.svc', port=5000): Max retries exceeded with url: "
            "/api/2.0/mlflow/runs/create (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at "
            "0x7f1>: Failed to establish a new connection: [Errno 111] Connection refused'))",
            "Connection refused",
        ),
        (
            "API request to http://mlflow:5000/api failed with exception HTTPConnectionPool(host='mlflow', port=5000): "
            "Max retries exceeded with url: /api (Caused by ResponseError('too many 503 error responses'))",
            "too many 503 error responses",
        ),
        (
            "HTTPConnectionPool(host='m', port=5): Max retries exceeded with url: /a (Caused by ReadTimeoutError("
            "\"HTTPConnectionPool(host='m', port=5): Read timed out. (read timeout=7)\"))",
            "Read timed out. (read timeout=7)",
        ),
        (
            "Failed to upload /tmp/results.json to b/1/results.json: An error occurred (AccessDenied) when calling the "
            "PutObject operation: Access Denied.",
            "AccessDenied: Access Denied.",
        ),
        (f"no room for http://mlflow:5000/{'x' * 90} in the database", "no room for ..."),
    ],
)
def test_the_reason_is_short_and_never_cut_in_an_address(message: str, reason: str) -> None:
    with pytest.raises(RunFailed) as caught, runs._one_sentence("http://user:secret@mlflow.vqi.svc:5000"):
        raise OSError(message)
    assert str(caught.value) == (
        f"Tracking at http://mlflow.vqi.svc:5000 does not work (OSError: {reason}); see that the server runs and that "
        "tracking.uri is right, or leave tracking.uri empty."
    )


def test_a_server_that_never_answers_is_one_sentence_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the user sets stands; two tries of our own seven seconds stay below twenty all the same.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(RunFailed, match="does not work"):
            run(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 10
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_run_that_breaks_off_gets_the_status_failed(sqlite: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    with pytest.raises(RunFailed, match="does not work"):
        run(sqlite, experiment="broken", artifacts=[tmp_path / "missing.json"])
    client = MlflowClient(tracking_uri=sqlite)
    (broken,) = client.search_runs([client.get_experiment_by_name("broken").experiment_id])
    assert broken.info.status == "FAILED"


def test_a_deleted_experiment_is_reported(sqlite: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=sqlite)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(BadInput, match=r"was deleted; restore it"):
        check_tracking(sqlite, "gone")


@pytest.mark.parametrize("uri", ["ftp://somewhere", "mlflow.db", "localhost:5000"])
def test_an_address_of_no_kind_is_refused(uri: str) -> None:
    with pytest.raises(BadInput, match="sqlite:///FILE"):
        check_tracking(uri, "bolts")


def test_a_password_is_never_shown() -> None:
    assert shown_address("https://me:secret@host:5000/path") == "https://host:5000/path"
    assert shown_address("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"


def test_the_code_version_carries_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQI_COMMIT", "1234abc")
    assert code_version().endswith("+1234abc")


@pytest.fixture
def stored_experiment(sqlite: str, s3: Server, bucket: str) -> str:
    """An experiment whose artefacts go to an object store."""
    import boto3
    from mlflow.store.artifact import s3_artifact_repo
    from mlflow.tracking import MlflowClient

    check_tracking(sqlite, "bolts")
    MlflowClient(tracking_uri=sqlite).create_experiment(bucket, artifact_location=f"s3://{bucket}/mlflow")
    # A process keeps its client and its credentials, whatever becomes of the environment.
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    boto3.DEFAULT_SESSION = None
    return bucket


@pytest.mark.slow
@pytest.mark.parametrize(("over_tls", "kinds"), [(False, ("slow_down", "closed", "unanswered")), (True, ("closed",))])
def test_artefacts_go_to_an_object_store(
    sqlite: str,
    s3: Server,
    stored_experiment: str,
    authority: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    over_tls: bool,
    kinds: tuple[str, ...],
) -> None:
    """A third of the calls are spoilt; the large file goes in parts. Over TLS the store's authority is our own."""
    if over_tls and s3.kind == "rclone":
        pytest.skip("over TLS boto3 sends bodies in chunks, without the length that rclone's server asks for")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "large.png").write_bytes(os.urandom(12 << 20))
    (tmp_path / "results.json").write_text("{}")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    often = a_third(7, kinds)

    def plan(call: Call) -> Fault:
        # Which calls are a third depends on the run's id, which is drawn: the first part is spoilt whatever it is, and
        # so is the call that ends the upload, which is then tried again although the store did it. That one just once:
        # lost three times, it would be lost for good.
        if call.operation == "CompleteMultipartUpload":
            return kinds[-1] if call.times == 0 else None
        return kinds[0] if (call.operation, call.times) == ("UploadPart", 0) else often(call)

    with faulty(s3.endpoint, plan, authority[1] if over_tls else None) as proxy:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority[0]))
        run_id = run(sqlite, experiment=stored_experiment, artifacts=[tmp_path / "results.json", tmp_path / "pictures"])
        assert proxy.calls["UploadPart"] >= 2
        assert proxy.spoilt >= 1
    stored = Address(stored_experiment, f"mlflow/{run_id}/artifacts")
    downloaded = ObjectStore.from_environment(s3.environment()).download_prefix(stored, tmp_path / "back")
    sent = {name: (tmp_path / name).read_bytes() for name in ("results.json", "pictures/large.png")}
    assert {name: file.read_bytes() for name, file in downloaded.items()} == sent


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-wrong"}, "SignatureDoesNotMatch|InvalidAccessKeyId|Forbidden|403"),
        ({"AWS_ENDPOINT_URL_S3": ""}, "[Cc]onnect"),
    ],
)
def test_a_store_of_artefacts_that_refuses(
    sqlite: str,
    stored_experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    reason: str,
) -> None:
    (tmp_path / "results.json").write_text("{}")
    for name, value in changes.items():
        monkeypatch.setenv(name, value or f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        RunFailed,
        match=rf"The store of MLflow's artefacts cannot be written .*({reason}).*; check MLFLOW_S3_ENDPOINT_URL",
    ):
        run(sqlite, experiment=stored_experiment, artifacts=[tmp_path / "results.json"])

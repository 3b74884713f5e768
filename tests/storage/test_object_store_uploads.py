"""Uploads: in one piece and in parts, over a network that spoils a third of the calls, complete or not there at all."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from minio import Minio
from minio.error import InvalidResponseError

from fault_proxy import FULL, SLOW_DOWN, Answer, Call, Fault, a_third, every, faulty
from s3_server import KEY, REGION, SECRET, Server
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.storage import object_store, s3_client
from vqi.storage.object_store import Address, ObjectStore

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest parts that S3 takes."""
    monkeypatch.setattr(object_store, "PART_SIZE", 5 * MIB)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(12 * MIB + 345))
    return file


def client(server: Server) -> Minio:
    return Minio(server.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region=REGION)


def unfinished(server: Server, bucket: str, key: str) -> int:
    try:
        return len(client(server)._list_multipart_uploads(bucket, prefix=key).uploads)
    except InvalidResponseError as error:
        # rclone's way to say that there is none.
        if "NoSuchUpload" not in str(error):
            raise
        return 0


def impatient(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The store behind a proxy, with pauses too short to wait for."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    store = ObjectStore.from_environment()
    store._pause = 0.001
    return store


def test_a_large_file_goes_in_parts_and_comes_back(
    s3: Server, bucket: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(s3.endpoint) as proxy:
        store = impatient(proxy.endpoint, monkeypatch)
        store.upload_file(large, Address(bucket, "a/large.bin"))
        assert (proxy.calls["UploadPart"], proxy.calls["PutObject"]) == (3, 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    store = ObjectStore.from_environment()
    item = store.find(Address(bucket, "a/large.bin"))
    assert item
    assert item.size == large.stat().st_size
    assert sha256_of(store.download_file(Address(bucket, "a/large.bin"), tmp_path / "back")) == sha256_of(large)
    assert unfinished(s3, bucket, "a/large.bin") == 0


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1])
def test_files_of_every_size(bucket: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    store = ObjectStore.from_environment()
    store.upload_file(tmp_path / "file", Address(bucket, "file"))
    assert (
        store.download_file(Address(bucket, "file"), tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_third_of_the_calls_spoilt(
    s3: Server, bucket: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.bin").write_bytes(os.urandom(1000 * number))
    large.rename(folder / "large.bin")
    with faulty(s3.endpoint, a_third(seed)) as proxy:
        store = impatient(proxy.endpoint, monkeypatch)
        store.upload_folder(folder, Address(bucket, "set"))
        files = store.download_prefix(Address(bucket, "set"), tmp_path / "cache")
        assert proxy.spoilt >= len(proxy.calls) / 4
        assert len({fault for _, fault in proxy.faults}) >= 3
    assert {name: sha256_of(file) for name, file in files.items()} == {
        path.name: sha256_of(path) for path in folder.iterdir()
    }
    assert (
        unfinished(s3, bucket, "set/large.bin")
        <= proxy.faults["CreateMultipartUpload", "unanswered"] + proxy.faults["CreateMultipartUpload", "half"]
    )


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("fault", ["closed", "unanswered", "half", "slow_down"])
def test_each_step_of_an_upload_in_parts(
    s3: Server, bucket: str, large: Path, monkeypatch: pytest.MonkeyPatch, operation: str, fault: str
) -> None:
    address = Address(bucket, "large.bin")
    with faulty(s3.endpoint, every(fault, operation, times=2)) as proxy:
        impatient(proxy.endpoint, monkeypatch).upload_file(large, address)
        assert proxy.spoilt_with(fault) >= 2
    check = client(s3).stat_object(bucket, "large.bin")
    assert check.size == large.stat().st_size
    assert (check.metadata or {})["x-amz-meta-sha256"] == sha256_of(large)


def test_a_part_that_never_passes_leaves_nothing(
    s3: Server, bucket: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_part(call: Call) -> Fault:
        return SLOW_DOWN if "partNumber=2" in call.path else None

    with faulty(s3.endpoint, second_part) as proxy:
        with pytest.raises(
            RunFailed, match=r"large.bin cannot be stored in the store at .* after 9 attempts \(SlowDown\)"
        ):
            impatient(proxy.endpoint, monkeypatch).upload_file(large, Address(bucket, "large.bin"))
        assert proxy.faults["UploadPart", "SlowDown"] == 9
        assert proxy.calls["AbortMultipartUpload"] == 1
    assert not list(client(s3).list_objects(bucket, recursive=True))
    assert unfinished(s3, bucket, "large.bin") == 0


def test_an_upload_that_is_interrupted_leaves_nothing(
    s3: Server, bucket: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore.from_environment()

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store._client, "_complete_multipart_upload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.upload_file(large, Address(bucket, "large.bin"))
    assert not list(client(s3).list_objects(bucket, recursive=True))
    assert unfinished(s3, bucket, "large.bin") == 0


@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_a_full_store_is_reported_at_once(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    with faulty(s3.endpoint, every(FULL, "PutObject", "UploadPart")) as proxy:
        store = impatient(proxy.endpoint, monkeypatch)
        with pytest.raises(
            RunFailed,
            match=r"is full, or the quota of .* is reached \(XMinioStorageFull\): s3://.*/file was not stored; make "
            r"room",
        ):
            store.upload_file(tmp_path / "file", Address(bucket, "file"))
        assert 1 <= proxy.spoilt <= 3
    assert not list(client(s3).list_objects(bucket, recursive=True))
    assert unfinished(s3, bucket, "file") == 0


def test_a_folder_stops_at_the_first_refusal(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{number}").write_bytes(b"x")
    with faulty(s3.endpoint, every(FULL, "PutObject")) as proxy:
        with pytest.raises(RunFailed, match="is full"):
            impatient(proxy.endpoint, monkeypatch).upload_folder(tmp_path / "folder", Address(bucket, ""))
        assert proxy.calls["PutObject"] < 60


def test_a_store_that_accepts_and_stores_nothing(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with faulty(s3.endpoint, every("swallowed", "PutObject", times=1)) as proxy:
        store = impatient(proxy.endpoint, monkeypatch)
        store.upload_file(tmp_path / "file", Address(bucket, "file"))
        assert proxy.calls["PutObject"] == 2
        assert store.find(Address(bucket, "file"))
    with (
        faulty(s3.endpoint, every("swallowed", "PutObject")) as proxy,
        pytest.raises(RunFailed, match="which said yes, but it is not there"),
    ):
        impatient(proxy.endpoint, monkeypatch).upload_file(tmp_path / "file", Address(bucket, "other"))


def test_a_slow_line_takes_a_part_longer_than_a_connection_may(
    s3: Server, bucket: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "CONNECT_SECONDS", 0.5)
    with faulty(s3.endpoint) as proxy:
        proxy.reading = 4 * MIB
        impatient(proxy.endpoint, monkeypatch).upload_file(large, Address(bucket, "large.bin"))
        assert proxy.calls["UploadPart"] == 3


def test_a_server_that_does_not_answer_in_time(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.5)
    (tmp_path / "file").write_bytes(b"content")
    with faulty(s3.endpoint, every(2.0, "PutObject", "GetObject", times=1)) as proxy:
        store = impatient(proxy.endpoint, monkeypatch)
        store.upload_file(tmp_path / "file", Address(bucket, "file"))
        assert store.download_file(Address(bucket, "file"), tmp_path / "back").read_bytes() == b"content"
        assert proxy.spoilt_with("slow") == 2


def test_a_store_that_asks_for_a_pause_gets_it(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", pauses.append)
    (tmp_path / "file").write_bytes(b"content")
    plan = every(Answer(503, "SlowDown", headers=(("Retry-After", "7"),)), "PutObject", times=2)
    with faulty(s3.endpoint, plan) as proxy:
        impatient(proxy.endpoint, monkeypatch).upload_file(tmp_path / "file", Address(bucket, "file"))
    assert pauses == [7.0, 7.0]


def test_pauses_grow(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", pauses.append)
    with faulty(s3.endpoint, every("slow_down", "ListObjects")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        with pytest.raises(RunFailed, match="after 9 attempts"):
            ObjectStore.from_environment().objects(Address("bucket", ""))
    assert len(pauses) == 8
    assert all(low <= pause <= 2 * low for pause, low in zip(pauses, (0.125, 0.25, 0.5, 1, 2, 4, 8, 10), strict=True))


def test_what_a_killed_upload_left_is_dropped(s3: Server, bucket: str, tmp_path: Path) -> None:
    upload = client(s3)._create_multipart_upload(bucket, "run/large.bin", {})
    client(s3)._upload_part(bucket, "run/large.bin", os.urandom(5 * MIB), None, upload, 1)
    neighbour = client(s3)._create_multipart_upload(bucket, "run/large.bin2", {})
    assert unfinished(s3, bucket, "run/large.bin") >= 1
    assert ObjectStore.from_environment().abandon_uploads(Address(bucket, "run/large.bin")) == 1
    left = client(s3)._list_multipart_uploads(bucket, prefix="run/large.bin2").uploads
    assert [item.upload_id for item in left] == [neighbour]


def test_two_who_send_the_same_file_at_once(bucket: str, large: Path, tmp_path: Path) -> None:
    stores = [ObjectStore.from_environment() for _ in range(2)]
    threads = [threading.Thread(target=store.upload_file, args=(large, Address(bucket, "one"))) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        sha256_of(stores[0].download_file(Address(bucket, "one"), tmp_path / "back"))
        == hashlib.sha256(large.read_bytes()).hexdigest()
    )


def test_a_file_that_does_not_exist(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.bin cannot be read"):
        ObjectStore.from_environment().upload_file(tmp_path / "nothing.bin", Address(bucket, "x"))

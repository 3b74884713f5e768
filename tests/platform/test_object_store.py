"""The object store against a real S3 server, over a good network and a bad one."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from fault_proxy import a_third, faulty
from s3_server import Server
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.platform.object_store import Address, ObjectStore, download_file

CONTENTS = {f"set/{index:02d}.bin": bytes([index]) * (50_000 * index) for index in range(12)}


pytestmark = pytest.mark.every_s3_server


@pytest.fixture
def filled(bucket: str, tmp_path: Path) -> str:
    """A bucket with CONTENTS and a neighbour whose name starts alike."""
    for key, content in (CONTENTS | {"set2/other.bin": b"neighbour"}).items():
        path = tmp_path / "sent" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    ObjectStore.from_environment().upload_folder(tmp_path / "sent", Address(bucket, ""))
    return bucket


def cached_contents(files: dict[str, Path]) -> dict[str, bytes]:
    return {f"set/{name}": path.read_bytes() for name, path in files.items()}


def test_what_is_sent_comes_back(filled: str, tmp_path: Path) -> None:
    store = ObjectStore.from_environment()
    address = Address.parse(f"s3://{filled}/set/")
    assert [item.key for item in store.objects(address)] == sorted(CONTENTS)
    assert cached_contents(store.download_prefix(address, tmp_path / "cache")) == CONTENTS


def test_a_second_download_takes_only_what_changed(filled: str, tmp_path: Path) -> None:
    store, address, cache = ObjectStore.from_environment(), Address(filled, "set"), tmp_path / "cache"
    before = {name: (path, path.stat().st_mtime_ns) for name, path in store.download_prefix(address, cache).items()}
    (tmp_path / "new").write_bytes(b"changed")
    store.upload_file(tmp_path / "new", Address(filled, "set/03.bin"))
    after = store.download_prefix(address, cache)
    assert after["03.bin"].read_bytes() == b"changed"
    assert not before["03.bin"][0].exists()
    for name, (path, changed) in before.items():
        if name != "03.bin":
            assert (after[name], after[name].stat().st_mtime_ns) == (path, changed)


def test_one_file_with_its_checksum(filled: str, tmp_path: Path) -> None:
    destination = tmp_path / "folder" / "weights.pth"
    checksum = hashlib.sha256(CONTENTS["set/07.bin"]).hexdigest()
    assert download_file(f"s3://{filled}/set/07.bin", destination, sha256=checksum) == destination
    assert sha256_of(destination) == checksum
    assert [path.name for path in destination.parent.iterdir()] == ["weights.pth"]


def test_another_checksum_is_refused_and_leaves_nothing(filled: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"has SHA-256 .*, not {'0' * 64} as asked for"):
        download_file(f"s3://{filled}/set/07.bin", tmp_path / "folder" / "x", sha256="0" * 64)
    assert list((tmp_path / "folder").iterdir()) == []


def test_the_download_goes_on_where_it_stopped(filled: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(s3.endpoint, a_third(kinds=("half", "closed"))) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        for index in range(11, 5, -1):
            key = f"set/{index:02d}.bin"
            assert store.download_file(Address(filled, key), tmp_path / "out" / f"{index}").read_bytes() == CONTENTS[key]
        assert network.spoilt >= 4
        assert 1 <= network.faults["GetObject", "half"] == network.ranges
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(str(index) for index in range(6, 12))


def test_a_folder_comes_complete_over_a_bad_network(filled: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(s3.endpoint, a_third()) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        files = ObjectStore.from_environment().download_prefix(Address(filled, "set"), tmp_path / "cache")
        assert cached_contents(files) == CONTENTS
        assert network.spoilt >= 4
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_part_file_of_other_content_is_noticed(filled: str, tmp_path: Path) -> None:
    store = ObjectStore.from_environment()
    address = Address(filled, "set/09.bin")
    store.download_file(address, tmp_path / "whole")
    item = store.find(address)
    assert item
    part = tmp_path / f"x.{hashlib.sha256(f'{address}/{item.etag}/{item.size}'.encode()).hexdigest()[:16]}.part"
    part.write_bytes(b"\xff" * 500)
    assert store.download_file(address, tmp_path / "x").read_bytes() == CONTENTS["set/09.bin"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-wrong"}, "refuses the credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses the credentials"),
        ({"AWS_ACCESS_KEY_ID": ""}, "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}, "No credentials"),
        ({"AWS_ENDPOINT_URL_S3": ""}, "No object store is named; set AWS_ENDPOINT_URL_S3"),
        ({"AWS_ENDPOINT_URL_S3": "minio:9000"}, "must read http://host:port"),
        ({"AWS_ENDPOINT_URL_S3": "http://me:secret@minio:9000"}, "must read http://host:port"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE names the file /nowhere/ca.pem, which does not exist"),
    ],
)
def test_a_wrong_environment_is_one_sentence(filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, sentence: str) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=sentence) as refusal:
        ObjectStore.from_environment().download_prefix(Address(filled, "set"), tmp_path / "cache")
    assert "secret" not in str(refusal.value).replace("SECRET", "")


def test_what_is_not_there_is_one_sentence(filled: str, tmp_path: Path) -> None:
    store = ObjectStore.from_environment()
    with pytest.raises(BadInput, match="There is no bucket 'nosuchbucket'"):
        store.download_prefix(Address("nosuchbucket", "set"), tmp_path)
    with pytest.raises(BadInput, match="There is no bucket 'nosuchbucket'"):
        store.download_file("s3://nosuchbucket/set", tmp_path / "x")
    with pytest.raises(BadInput, match=f"There are no objects under s3://{filled}/se "):
        store.download_prefix(Address(filled, "se"), tmp_path)
    with pytest.raises(BadInput, match=f"There is no object s3://{filled}/nothing "):
        store.download_file(f"s3://{filled}/nothing", tmp_path / "x")
    assert not list(tmp_path.glob("x*"))


def test_a_store_that_is_away_is_a_failed_run(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = ObjectStore.from_environment()
    store._pause = 0.001
    started = time.monotonic()
    with pytest.raises(RunFailed, match=r"cannot be had from the store at http://127.0.0.1:9 after 9 attempts"):
        store.download_prefix(Address("bucket", "set"), tmp_path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["s3://", "s3:///key", "s3://UPPER/key", "s3://a/key", "http://bucket/key", "s3://buc ket/key", "bucket/key"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="is no address in an object store"):
        Address.parse(text)


def test_addresses() -> None:
    assert Address.parse("s3://bucket") == Address.parse("s3://bucket/") == Address("bucket", "")
    assert Address.parse("s3://my.bucket-1/a/ü b/") == Address("my.bucket-1", "a/ü b")
    assert str(Address("bucket", "a/b")) == "s3://bucket/a/b"

"""The object store against a real S3 server, over a good network and a bad one."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minio import Minio

from fault_proxy import ALL, Answer, a_third, every, faulty
from s3_server import KEY, REGION, SECRET, Server
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.storage.object_store import ATTEMPTS, Address, ObjectStore, download_file

CONTENTS = {f"set/{index:02d}.bin": bytes([index]) * (50_000 * index) for index in range(12)}


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


def test_the_download_goes_on_where_it_stopped(
    filled: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(s3.endpoint, a_third(kinds=("half", "closed"))) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        for index in range(11, 5, -1):
            key = f"set/{index:02d}.bin"
            assert (
                store.download_file(Address(filled, key), tmp_path / "out" / f"{index}").read_bytes() == CONTENTS[key]
            )
        assert network.spoilt >= 4
        assert 1 <= network.faults["GetObject", "half"] == network.ranges
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(str(index) for index in range(6, 12))


def test_a_folder_comes_complete_over_a_bad_network(
    filled: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
            "No credentials",
        ),
        ({"AWS_ENDPOINT_URL_S3": ""}, "No object store is named; set AWS_ENDPOINT_URL_S3"),
        ({"AWS_ENDPOINT_URL_S3": "minio:9000"}, "must read http://host:port"),
        ({"AWS_ENDPOINT_URL_S3": "http://me:secret@minio:9000"}, "must read http://host:port"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE names the file /nowhere/ca.pem, which does not exist"),
    ],
)
def test_a_wrong_environment_is_one_sentence(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, sentence: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=sentence) as refusal:
        ObjectStore.from_environment().download_prefix(Address(filled, "set"), tmp_path / "cache")
    assert "secret" not in str(refusal.value).replace("SECRET", "")


def test_what_does_not_exist_is_one_sentence(filled: str, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///key", "s3://UPPER/key", "s3://a/key", "http://bucket/key", "s3://buc ket/key", "bucket/key"],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="is not an address in an object store"):
        Address.parse(text)


def test_addresses() -> None:
    assert Address.parse("s3://bucket") == Address.parse("s3://bucket/") == Address("bucket", "")
    assert Address.parse("s3://my.bucket-1/a/ü b/") == Address("my.bucket-1", "a/ü b")
    assert str(Address("bucket", "a/b")) == "s3://bucket/a/b"


@pytest.mark.parametrize("text", ["s3://bucket/../other", "s3://bucket/a/../../b", "s3://bucket/./a", "s3://bucket/.."])
def test_keys_that_http_shortens(text: str) -> None:
    with pytest.raises(BadInput, match=r"has '\.' or '\.\.' as a part of its key"):
        Address.parse(text)


ODD_KEYS = (
    "two words",
    "ümläut/日本語.png",
    "100%",
    "a%20b",
    "a+b c",
    "x&y=z?w",
    "no#anchor",
    "~tilde",
    "'quoted' (really)",
    "dots..inside",
    "*;:@,!$",
)


def test_odd_keys(bucket: str, tmp_path: Path) -> None:
    store = ObjectStore.from_environment()
    for number, key in enumerate(ODD_KEYS):
        (tmp_path / "file").write_bytes(f"{number}".encode())
        store.upload_file(tmp_path / "file", Address(bucket, f"odd keys/{key}"))
        stored = store.find(Address.parse(f"s3://{bucket}/odd keys/{key}"))
        assert stored
        assert stored.key == f"odd keys/{key}"
    assert [item.key for item in store.objects(Address(bucket, "odd keys"))] == sorted(
        f"odd keys/{key}" for key in ODD_KEYS
    )
    files = store.download_prefix(Address(bucket, "odd keys"), tmp_path / "cache")
    assert {key: file.read_bytes() for key, file in files.items()} == {
        key: f"{number}".encode() for number, key in enumerate(ODD_KEYS)
    }
    for key in ODD_KEYS:
        store.remove(Address(bucket, f"odd keys/{key}"))
    assert not store.objects(Address(bucket, ""))


def test_a_listing_of_many_pages_goes_on_where_it_broke_off(
    bucket: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sent").mkdir()
    for number in range(100):
        (tmp_path / "sent" / f"{number:03d} ü+%").write_bytes(b"x")
    ObjectStore.from_environment().upload_folder(tmp_path / "sent", Address(bucket, "many"))
    # Each page has a path of its own, with the bucket's new name in its token: what is spoilt goes by the calls' order.
    order = itertools.count()
    with faulty(s3.endpoint, lambda call: ALL[n // 3 % 4] if (n := next(order)) % 3 == 1 else None) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        store._pause = 0.001
        real = store._client._list_objects
        monkeypatch.setattr(
            store._client, "_list_objects", lambda *arguments, **options: real(*arguments, **options, max_keys=7)
        )
        assert [item.key for item in store.objects(Address(bucket, "many"))] == [
            f"many/{number:03d} ü+%" for number in range(100)
        ]
        assert network.calls["ListObjects"] >= 15 + network.spoilt
        assert network.spoilt >= 4


def test_ten_thousand_keys(bucket: str, s3: Server, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--s3"):
        pytest.skip("takes too long to fill a store with ten thousand objects (make test-s3 does)")
    client = Minio(s3.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region=REGION)
    keys = [f"many/{number % 10}/{number:05d}" for number in range(10_000)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(bucket, key, io.BytesIO(b"x"), 1), keys))
    assert [item.key for item in ObjectStore.from_environment().objects(Address(bucket, "many"))] == sorted(keys)


def test_an_object_with_a_content_encoding_comes_as_it_is_stored(bucket: str, s3: Server, tmp_path: Path) -> None:
    packed = gzip.compress(b"a table of figures" * 1000)
    client = Minio(s3.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region=REGION)
    client.put_object(bucket, "table.csv.gz", io.BytesIO(packed), len(packed), metadata={"Content-Encoding": "gzip"})
    assert (
        ObjectStore.from_environment().download_file(Address(bucket, "table.csv.gz"), tmp_path / "x").read_bytes()
        == packed
    )


def test_a_large_download_may_break_off_any_number_of_times(
    bucket: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "sent").write_bytes(content)
    ObjectStore.from_environment().upload_file(tmp_path / "sent", Address(bucket, "large"))
    with faulty(s3.endpoint, every("half", "GetObject", times=14)) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        store._pause = 0.001
        assert store.download_file(Address(bucket, "large"), tmp_path / "x").read_bytes() == content
        assert network.faults["GetObject", "half"] == 14 > ATTEMPTS


def test_a_disk_that_is_full_here(filled: str, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            RunFailed, match=r"set/09.bin cannot be written to .*/folder \(File too large\); make room there"
        ):
            ObjectStore.from_environment().download_file(Address(filled, "set/09.bin"), tmp_path / "folder" / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "folder").iterdir()) == []


def test_something_that_is_no_store(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Answer(200, "Welcome", "<unfinished")
    with faulty(s3.endpoint, every(page, "ListObjects")) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        store._pause = 0.001
        with pytest.raises(RunFailed, match=r"after 9 attempts \(ParseError\)"):
            store.objects(Address("bucket", ""))

"""What a store refuses, and how it is reached: credentials, session tokens, rights, regions, certificates, styles of
address."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.credentials import AssumeRoleProvider

from fault_proxy import Answer, a_third, every, faulty
from s3_server import KEY, SECRET, Server, binary, serving
from vqi.platform.errors import BadInput, RunFailed
from vqi.storage.object_store import Address, ObjectStore


@pytest.fixture
def stored(bucket: str, tmp_path: Path) -> Address:
    (tmp_path / "file").write_bytes(b"content")
    ObjectStore.from_environment().upload_file(tmp_path / "file", Address(bucket, "set/file"))
    return Address(bucket, "set/file")


def everything(address: Address, folder: Path) -> list[Any]:
    """Each way to use a store, as functions."""
    store = ObjectStore.from_environment()
    store._pause = 0.001
    (folder / "sent").write_bytes(b"sent")
    return [
        lambda: store.find(address),
        lambda: store.objects(Address(address.bucket, "set")),
        lambda: store.download_file(address, folder / "got"),
        lambda: store.download_prefix(Address(address.bucket, "set"), folder / "cache"),
        lambda: store.upload_file(folder / "sent", Address(address.bucket, "set/new")),
    ]


@pytest.mark.parametrize(
    "changes", [{"AWS_SECRET_ACCESS_KEY": "wrong-wrong"}, {"AWS_ACCESS_KEY_ID": "nobody-of-that-name"}]
)
def test_wrong_credentials(
    stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    for use in everything(stored, tmp_path):
        with pytest.raises(BadInput, match=r"refuses the credentials \(\w+\); check AWS_ACCESS_KEY_ID"):
            use()
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidTokenId"])
def test_a_session_token_that_has_expired(
    s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    operations = ("HeadObject", "GetObject", "PutObject", "ListObjects", "HeadBucket")
    with faulty(s3.endpoint, every(Answer(400 if code == "ExpiredToken" else 403, code), *operations)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        for use in everything(stored, tmp_path):
            with pytest.raises(
                BadInput,
                match=rf"refuses the credentials \({code}\): the session token has expired .* set AWS_SESSION_TOKEN",
            ):
                use()
        # Asked once more for the reason where the first answer had none, and never again.
        assert proxy.spoilt <= 8


def test_a_session_token_of_nobody(
    s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if s3.kind == "rclone":
        pytest.skip("rclone knows no session tokens")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "nonsense")
    for use in everything(stored, tmp_path):
        with pytest.raises(BadInput, match="refuses the credentials"):
            use()


def assumed_role(server: Server, monkeypatch: pytest.MonkeyPatch, allowed: list[str] | None = None) -> None:
    """Put credentials with a session token into the environment, of a role that may do what is `allowed` (None:
    all)."""
    if server.kind != "minio":
        pytest.skip(f"{server.kind} gives session tokens only with an identity provider (MinIO without one)")
    statement = {"Effect": "Allow", "Action": allowed, "Resource": ["arn:aws:s3:::*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}) if allowed else None
    role = AssumeRoleProvider(
        sts_endpoint=server.endpoint, access_key=KEY, secret_key=SECRET, policy=policy, region="us-east-1"
    ).retrieve()
    assert role.session_token
    for name, value in {
        "ACCESS_KEY_ID": role.access_key,
        "SECRET_ACCESS_KEY": role.secret_key,
        "SESSION_TOKEN": role.session_token,
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_a_session_token_is_used(s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assumed_role(s3, monkeypatch)
    for use in everything(stored, tmp_path):
        use()
    assert (tmp_path / "got").read_bytes() == b"content"
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(BadInput, match="refuses the credentials"):
        everything(stored, tmp_path)[0]()


def test_the_credentials_file_may_hold_the_token(
    s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["[line-3]", f"aws_access_key_id = {KEY}", f"aws_secret_access_key = {SECRET}"]
    (tmp_path / "credentials").write_text("\n".join(lines))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(BadInput, match="No credentials for the object store are set"):
        ObjectStore.from_environment()
    monkeypatch.setenv("AWS_PROFILE", "line-3")
    assert ObjectStore.from_environment().find(stored)


def test_rights_that_are_missing(s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assumed_role(s3, monkeypatch, ["s3:GetObject"])
    find, objects, download, download_prefix, upload = everything(stored, tmp_path)
    assert find()
    assert download().read_bytes() == b"content"
    for use in (objects, download_prefix):
        with pytest.raises(BadInput, match=r"denies access to s3://.*; check the credentials and what may be read"):
            use()
    with pytest.raises(
        BadInput, match=r"denies access to s3://.*/set/new; check the credentials and what may be written there"
    ):
        upload()


def test_the_rights_the_guide_names_suffice(
    s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assumed_role(
        s3, monkeypatch, ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"]
    )
    for use in everything(stored, tmp_path):
        use()
    store = ObjectStore.from_environment()
    store.remove(stored)
    assert store.find(stored) is None
    # Not among them: listing unfinished uploads. Without it nothing is dropped, and nothing fails.
    assert store.abandon_uploads(stored) == 0


def test_a_missing_bucket(s3: Server, bucket: str, tmp_path: Path) -> None:
    find, *others = everything(Address("nobody-made-this", "set/file"), tmp_path)
    assert find() is None
    for use in others:
        with pytest.raises(BadInput, match=r"There is no bucket 'nobody-made-this' in the store at http"):
            use()
    assert not (tmp_path / "got").exists()


def test_another_region(s3_server: Server, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if s3.kind != "minio":
        pytest.skip(f"{s3.kind} takes requests for any region")
    (tmp_path / "store").mkdir()
    with serving("minio", tmp_path / "store", region="eu-central-1") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        Minio(server.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region="eu-central-1").make_bucket(
            "parts"
        )
        for use in everything(Address("parts", "set/file"), tmp_path):
            with pytest.raises(BadInput, match=r"in the region 'eu-central-1' .*; set AWS_REGION=eu-central-1"):
                use()
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        everything(Address("parts", "set/file"), tmp_path)[-1]()
        assert ObjectStore.from_environment().objects(Address("parts", ""))


@pytest.mark.parametrize("kind", ["minio", "seaweedfs"])
def test_bucket_in_the_host_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not binary(kind):
        pytest.skip(f"{kind} is not here")
    hosts: list[str] = []
    real = socket.getaddrinfo

    def resolved(host: str, *rest: Any, **options: Any) -> Any:
        if str(host).endswith("store.test"):
            hosts.append(str(host))
            host = "127.0.0.1"
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    (tmp_path / "store").mkdir()
    with serving(kind, tmp_path / "store", domain="store.test") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        Minio(server.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region="us-east-1").make_bucket(
            "parts"
        )
        for style, host in (("virtual", "parts.store.test"), ("path", "store.test"), ("auto", "store.test")):
            monkeypatch.setenv("AWS_S3_ADDRESSING_STYLE", style)
            hosts.clear()
            everything(Address("parts", "set/file"), tmp_path)[-1]()
            assert [item.key for item in ObjectStore.from_environment().objects(Address("parts", ""))] == ["set/new"]
            assert set(hosts) == {host}


@pytest.mark.parametrize(
    ("address", "style", "sentence"),
    [
        (
            "http://gateway:9000/minio",
            "",
            r"must read http://host:port or https://host:port, without the path '/minio'",
        ),
        ("http://gateway:9000/parts/", "", r"without the path '/parts/'"),
        ("ftp://gateway:9000", "", "must read http://host:port or https://host:port"),
        ("http://gateway:9000?x=1", "", "must read http://host:port or https://host:port"),
        ("http://gateway:port", "", "cannot be used"),
        ("http://gateway:9000", "dns", "AWS_S3_ADDRESSING_STYLE is 'dns'; it must be path"),
    ],
)
def test_addresses_that_cannot_be(monkeypatch: pytest.MonkeyPatch, address: str, style: str, sentence: str) -> None:
    for name, value in {"URL_S3": address, "STYLE": style}.items():
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3" if name == "URL_S3" else "AWS_S3_ADDRESSING_STYLE", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(BadInput, match=sentence):
        ObjectStore.from_environment()


@pytest.fixture
def over_tls(
    s3: Server, stored: Address, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The store behind TLS, with the file of its authority, which the environment does not name yet."""
    with faulty(s3.endpoint, tls=authority[1]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield authority[0]


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_of_ones_own(
    over_tls: Path, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with pytest.raises(RunFailed, match="is not trusted; name its authority's file in AWS_CA_BUNDLE"):
        everything(stored, tmp_path)[0]()
    monkeypatch.setenv(variable, str(over_tls))
    for use in everything(stored, tmp_path):
        use()
    assert (tmp_path / "got").read_bytes() == b"content"


def test_connections_that_break_under_tls(
    s3: Server, stored: Address, authority: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(s3.endpoint, a_third(), authority[1]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority[0]))
        for _ in range(3):
            for use in everything(stored, tmp_path):
                use()
        assert proxy.spoilt >= 4


def test_a_certificate_of_another_host(
    over_tls: Path, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(over_tls))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL_S3"].replace("localhost", "127.0.0.1"))
    with pytest.raises(RunFailed, match="is not for this host name"):
        everything(stored, tmp_path)[0]()


def test_tls_where_none_is_spoken(s3: Server, stored: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint.replace("http:", "https:"))
    with pytest.raises(BadInput, match="speaks plain HTTP; write its address with http://"):
        everything(stored, tmp_path)[0]()

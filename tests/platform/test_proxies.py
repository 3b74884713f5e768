"""Which proxy an address has, and the S3 client through a real one."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import pytest

from fault_proxy import faulty
from forward_proxy import forwarding
from s3_server import Server
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.proxies import proxy_of
from vqi.storage.object_store import Address, ObjectStore

STORE = "http://minio.factory.example:9000"


def through(url: str, **environ: str) -> str:
    proxy = proxy_of(url, environ)
    return proxy.url if proxy else ""


def test_each_scheme_has_its_variable_and_the_small_ones_win() -> None:
    both = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://tls:2"}
    assert through("http://a", **both) == "http://plain:1"
    assert through("https://a", **both) == "http://tls:2"
    assert through("http://a", HTTPS_PROXY="http://tls:2") == ""
    assert through("http://a", **both, http_proxy="other:3") == "http://other:3"
    assert through("http://a", **both, http_proxy="") == ""
    assert through("https://a", ALL_PROXY="http://all:4") == "http://all:4"
    assert through("http://a") == ""


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        ("minio.factory.example", STORE, True),
        ("factory.example", STORE, True),
        (".factory.example", STORE, True),
        (" localhost , Factory.Example ", STORE, True),
        ("actory.example", STORE, False),
        ("minio", STORE, False),
        ("minio.factory.example:9000", STORE, True),
        ("minio.factory.example:9001", STORE, False),
        ("minio.factory.example:80", "http://minio.factory.example", True),
        ("minio.factory.example:443", "https://minio.factory.example", True),
        ("*", STORE, True),
        ("", STORE, False),
        ("10.0.0.0/8", "http://10.3.4.5:9000", True),
        ("10.0.0.0/8", "http://11.3.4.5:9000", False),
        ("10.3.4.5", "http://10.3.4.5:9000", True),
        ("10.3.4.5:9000", "http://10.3.4.5:9000", True),
        ("10.3.4.5:1", "http://10.3.4.5:9000", False),
        ("10.0.0.0/nonsense", "http://10.3.4.5:9000", False),
        ("fd00::/8", "http://[fd00::7]:9000", True),
        ("[fd00::7]:9000", "http://[fd00::7]:9000", True),
        ("fd00::7", "http://[fd00::7]:9000", True),
        ("fd00::8", "http://[fd00::7]:9000", False),
        ("", "http://169.254.169.254/latest", True),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_what_no_proxy_covers(entries: str, url: str, direct: bool, name: str) -> None:
    environ = {"HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128", name: entries}
    assert (proxy_of(url, environ) is None) == direct


@pytest.mark.parametrize(
    "entries", ["a.example", ".a.example", "a.example:81", "*", "b.example,x.a.example", "A.EXAMPLE", "10.0.0.1"]
)
@pytest.mark.parametrize("host", ["a.example", "x.a.example", "xa.example", "a.example:81", "10.0.0.1", "10.0.0.1:81"])
def test_host_names_are_covered_as_the_standard_library_does(entries: str, host: str) -> None:
    expected = bool(urllib.request.proxy_bypass_environment(host, {"no": entries}))
    assert (proxy_of(f"http://{host}", {"http_proxy": "p:1", "no_proxy": entries}) is None) == expected


@pytest.mark.parametrize(
    "value",
    [
        "socks5://user:secret@proxy:1080",
        "http://user:secret@proxy:port",
        "http://user:secret@",
        "http://u:se/cr:et@p:1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(value: str) -> None:
    with pytest.raises(BadInput, match=r"HTTPS_PROXY is '.*'; it must read http://HOST:PORT") as caught:
        proxy_of("https://a", {"HTTPS_PROXY": value})
    assert "secret" not in str(caught.value)
    assert "se/cr" not in str(caught.value)


def test_credentials_are_sent_and_never_shown() -> None:
    proxy = proxy_of("http://a", {"HTTP_PROXY": "http://us%40er:se%3Acret@proxy:1"})
    assert proxy is not None
    assert proxy.url == "http://proxy:1"
    assert proxy.headers == {"proxy-authorization": "Basic dXNAZXI6c2U6Y3JldA=="}
    assert "dXNAZXI" not in repr(proxy)


def stored_and_read(bucket: str, folder: Path) -> bytes:
    store, address = ObjectStore.from_environment(), Address(bucket, "set/file")
    store._pause = 0.001
    (folder / "sent").write_bytes(b"content" * 40_000)  # larger than one piece
    store.upload_file(folder / "sent", address)
    assert [item.key for item in store.objects(Address(bucket, "set"))] == ["set/file"]
    return store.download_file(address, folder / "got").read_bytes()


def test_a_store_behind_a_proxy(s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that this machine does not resolve: what arrives came through the proxy.
    port = s3.endpoint.rpartition(":")[2]
    with forwarding("user:pass word", {"store.invalid": "127.0.0.1"}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://store.invalid:{port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass%20word@{proxy.address}")
        assert stored_and_read(bucket, tmp_path) == b"content" * 40_000
        assert len(proxy.requests) >= 3
        assert all(target.startswith(f"http://store.invalid:{port}/") for _, target in proxy.requests)

        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@{proxy.address}")
        with pytest.raises(BadInput, match=r"asks for a user and a password, or refuses them \(407\)") as caught:
            stored_and_read(bucket, tmp_path)
        assert "secret" not in str(caught.value)


def test_no_proxy_leads_past_it(s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with forwarding() as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        stored_and_read(bucket, tmp_path)
        assert proxy.requests == []
        monkeypatch.setenv("no_proxy", "")
        stored_and_read(bucket, tmp_path)
        assert proxy.requests


def test_tls_goes_through_a_tunnel(
    s3: Server, bucket: str, authority: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority[0]))
    with faulty(s3.endpoint, tls=authority[1]) as store, forwarding("user:secret") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint)
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{proxy.address}")
        assert stored_and_read(bucket, tmp_path) == b"content" * 40_000
        assert {method for method, _ in proxy.requests} == {"CONNECT"}

        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        with pytest.raises(BadInput, match=r"asks for a user and a password, or refuses them \(407\)"):
            stored_and_read(bucket, tmp_path)


def test_a_proxy_that_is_away(s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(
        RunFailed, match="the proxy cannot be reached or does not connect; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    ) as caught:
        stored_and_read(bucket, tmp_path)
    assert "secret" not in str(caught.value)

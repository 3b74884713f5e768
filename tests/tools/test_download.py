"""An archive is loaded once its licence is accepted, goes on where it stopped, and is the one that was expected."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vqi.dataset.archives import SUFFIXES
from vqi.platform.errors import BadInput, RunFailed
from vqi.tools import download as module
from vqi.tools.download import Source, download, size_of, source_of
from vqi.tools.public_sets import PUBLIC_SETS, public_set
from vqi_pipelines.commands.download import download as command


def archive(
    names: tuple[str, ...] = ("set/bolt/train/good/0.png", "set/bolt/test/bad/1.png", "set/licence.txt"),
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number, name in enumerate(names):
            content = bytes([number]) * 700_000
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class Web:
    """A server of one file: `cuts` are the bytes after which answers break off, in turn; `ranges` says whether it can
    go on at a place; `seen` are the ranges asked for."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"one"'
    status: int = 200
    port: int = 0
    seen: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return Source(f"http://127.0.0.1:{self.port}/set.tar", "set.tar")


@pytest.fixture
def web() -> Iterator[Web]:
    held = Web(archive())

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._begin(200, len(held.content))

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            held.seen.append(wanted)
            if held.status != 200:
                self._begin(held.status, 0)
                return
            begin = 0
            if wanted and held.ranges and self.headers.get("If-Range") == held.tag:
                begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            rest = held.content[begin:]
            whole = len(held.content)
            self._begin(206 if begin else 200, len(rest), f"bytes {begin}-{whole - 1}/{whole}" if begin else "")
            self.wfile.write(rest[: held.cuts.pop(0)] if held.cuts else rest)
            self.close_connection = True

        def _begin(self, status: int, length: int, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", held.tag)
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_set_is_loaded_and_unpacked_below_its_top_folder(web: Web, tmp_path: Path) -> None:
    assert download(web.source, sha256(web.content), tmp_path / "set", {}) == 3
    assert files(tmp_path) == ["set/bolt/test/bad/1.png", "set/bolt/train/good/0.png", "set/licence.txt"]
    assert (tmp_path / "set/bolt/test/bad/1.png").read_bytes() == bytes([1]) * 700_000


@pytest.mark.parametrize(("ranges", "tag"), [(True, '"one"'), (False, '"one"'), (True, 'W/"weak"')])
def test_a_connection_that_breaks_is_made_again(web: Web, tmp_path: Path, ranges: bool, tag: str) -> None:
    web.ranges, web.tag, web.cuts = ranges, tag, [500_000, 900_000]
    download(web.source, sha256(web.content), tmp_path / "set", {}, keep=True)
    assert (tmp_path / "set.download/set.tar").read_bytes() == web.content
    resumed = [wanted for wanted in web.seen if wanted]
    assert bool(resumed) == (tag == '"one"')
    if ranges and resumed:
        assert web.seen == ["", "bytes=500000-", "bytes=1400000-"]


def test_a_second_call_goes_on_where_the_first_ended(web: Web, tmp_path: Path) -> None:
    web.cuts = [600_000, *[0] * 20]
    with pytest.raises(RunFailed, match=r"could not be loaded whole.*goes on where it stopped, at 1 MiB"):
        download(web.source, "", tmp_path / "set", {})
    assert not (tmp_path / "set").exists()
    web.cuts, web.seen = [], []
    assert download(web.source, sha256(web.content), tmp_path / "set", {}) == 3
    assert web.seen == ["bytes=600000-"]
    assert not (tmp_path / "set.download").exists()


def test_nothing_of_another_address_is_continued(web: Web, tmp_path: Path) -> None:
    web.cuts = [600_000, *[0] * 20]
    with pytest.raises(RunFailed):
        download(web.source, "", tmp_path / "set", {})
    web.cuts, web.seen = [], []
    download(Source(f"{web.source.address}?mirror", "set.tar"), sha256(web.content), tmp_path / "set", {})
    assert web.seen == [""]


def test_a_file_that_changed_in_between_is_loaded_anew(web: Web, tmp_path: Path) -> None:
    web.cuts = [600_000, *[0] * 20]
    with pytest.raises(RunFailed):
        download(web.source, "", tmp_path / "set", {})
    web.cuts, web.tag, web.content = [], '"two"', archive(("set/bolt/train/good/7.png",))
    download(web.source, sha256(web.content), tmp_path / "set", {})
    assert files(tmp_path) == ["set/bolt/train/good/7.png"] or files(tmp_path) == ["set/train/good/7.png"]


def test_another_file_is_refused_and_removed(web: Web, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"its SHA-256 is {sha256(web.content)}, not {'0' * 64}; it was removed"):
        download(web.source, "0" * 64, tmp_path / "set", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.png", "/etc/outside.png", "a/../../outside.png"])
def test_a_hostile_archive_leaves_nothing(web: Web, tmp_path: Path, name: str) -> None:
    web.content = archive((name,))
    with pytest.raises(BadInput):
        download(web.source, "", tmp_path / "inner" / "set", {})
    assert list((tmp_path / "inner").iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "inner"]


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", archive()[:1_000_000]])
def test_what_is_not_an_archive_is_refused(web: Web, tmp_path: Path, content: bytes) -> None:
    web.content = content
    with pytest.raises(BadInput, match="archive"):
        download(web.source, "", tmp_path / "set", {})
    assert list(tmp_path.iterdir()) == []
    web.content = archive()
    assert download(web.source, "", tmp_path / "set", {}) == 3


def test_a_server_that_refuses_ends_it(web: Web, tmp_path: Path) -> None:
    web.status = 403
    with pytest.raises(BadInput, match="answers with status 403"):
        download(web.source, "", tmp_path / "set", {})
    web.status = 503
    with pytest.raises(RunFailed, match="status 503"):
        download(web.source, "", tmp_path / "set", {})


def test_what_is_there_stays(web: Web, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine.png").write_bytes(b"mine")
    with pytest.raises(BadInput, match="exists already"):
        download(web.source, "", tmp_path / "set", {})
    assert web.seen == []


def test_without_the_flag_it_only_explains(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("mvtec-ad", tmp_path / "set", mirror=web.source.address)
    shown = capsys.readouterr().out
    assert "CC BY-NC-SA 4.0" in shown
    assert f"Size       {len(web.content) / 1e6:.0f} MB" in shown
    assert "Nothing was loaded" in shown
    assert web.seen == []
    assert files(tmp_path) == []
    assert size_of(Source("http://127.0.0.1:9/set.tar", "set.tar"), {}) is None


def test_addresses(tmp_path: Path) -> None:
    known = public_set("mvtec-ad")
    assert source_of(known).address == known.address
    assert source_of(known, "https://files.example/ad/") == Source(f"https://files.example/ad/{known.file}", known.file)
    assert source_of(known, "https://files.example/ad.zip") == Source("https://files.example/ad.zip", "ad.zip")
    assert source_of(known, "https://files.example/get?id=4").file == known.file
    for mirror in ("file:///etc/passwd", "ftp://files.example/", "files.example/ad.zip", "https:///x.tar"):
        with pytest.raises(BadInput, match="is not an address"):
            source_of(known, mirror)
    with pytest.raises(BadInput, match="a name or a password"):
        source_of(known, "https://me:secret@files.example/")
    with pytest.raises(BadInput, match="has no address that a program can load"):
        source_of(public_set("mpdd"))
    with pytest.raises(BadInput, match="mvtec-ad"):
        public_set("mvtec_ad")


def test_the_table_is_whole() -> None:
    for name, public in PUBLIC_SETS.items():
        assert public.name == name
        assert public.file.endswith(SUFFIXES)
        assert public.page.startswith("https://")
        assert not public.sha256 or len(public.sha256) == 64
        if public.address:
            assert source_of(public).file == public.file

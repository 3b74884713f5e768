"""Photographs from folders, stores, addresses and memory, as one stream."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_bundle import photograph
from vqi.deployment.photographs import Photographs, name_of, shown
from vqi.deployment.predictor import Prediction, Predictor, Unreadable
from vqi.platform.errors import BadInput, RunFailed
from vqi.storage.object_store import Address, ObjectStore


@pytest.fixture(scope="module")
def predictor(toy_bundle: Path) -> Predictor:
    return Predictor(toy_bundle, "onnxruntime", batch_size=2)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: `line` with a good part and, below it, a defect."""
    (tmp_path / "line" / "late").mkdir(parents=True)
    Image.fromarray(photograph(0)).save(tmp_path / "line" / "0.png")
    Image.fromarray(photograph(7, defect=True)).save(tmp_path / "line" / "late" / "7.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def web(files: Path) -> Iterator[int]:
    """The port of a server of that folder; /away leads to a private network."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *values: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def decisions(results: Iterator[Prediction | Unreadable]) -> list[tuple[str, str]]:
    return [(result.name, "unreadable" if isinstance(result, Unreadable) else result.decision) for result in results]


def test_paths_patterns_bytes_and_arrays_are_one_stream(predictor: Predictor, files: Path) -> None:
    def parts() -> Iterator[object]:
        yield "line"
        yield [Path("line/0.png"), ("seen", photograph(7, defect=True))]
        yield "line/**/7.*"
        yield (files / "line" / "0.png").read_bytes()
        yield "absent*.png"
        yield "line/notes.txt"

    assert decisions(predictor.predict(Photographs(parts()))) == [
        ("line/0.png", "good"),
        ("line/late/7.png", "defect"),
        ("line/0.png", "good"),
        ("seen", "defect"),
        ("line/late/7.png", "defect"),
        ("image 5", "good"),
        ("absent*.png", "unreadable"),
        ("line/notes.txt", "unreadable"),
    ]


def test_one_source_needs_no_list_and_a_stranger_is_refused(predictor: Predictor) -> None:
    assert decisions(predictor.predict(Photographs(photograph(1)))) == [("image 0", "good")]
    with pytest.raises(BadInput, match="A int holds no photographs; give a path"):
        list(Photographs([3]))


def test_an_endless_stream_is_taken_from_as_it_is_predicted(predictor: Predictor) -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield photograph(taken)

    results = predictor.predict(Photographs(camera()))
    for _ in range(10):
        next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert 10 <= taken <= 10 + 3 * predictor.photographs


def test_an_address_is_read_from_allowed_hosts_alone(predictor: Predictor, files: Path, web: int) -> None:
    here = f"http://127.0.0.1:{web}"
    addresses = [f"{here}/line/late/7.png?token=abc", f"{here}/line/1.png", f"{here}/away"]
    with Photographs(addresses, hosts=["127.0.0.1"], keep=True) as photographs:
        defect, missing, away = predictor.predict(photographs)
        assert photographs.content(defect.name) == (files / "line" / "late" / "7.png").read_bytes()
        assert photographs.content(defect.name) is None
    assert isinstance(defect, Prediction)
    assert (defect.name, defect.decision) == (f"{here}/line/late/7.png?token=...", "defect")
    assert isinstance(missing, Unreadable)
    assert missing.reason.endswith("is not fetched: The address answered with status 404 and no photograph.")
    assert isinstance(away, Unreadable)
    assert "Photographs are not fetched from '169.254.169.254'" in away.reason
    (refused,) = predictor.predict(Photographs(addresses[0]))
    assert isinstance(refused, Unreadable)
    assert refused.reason.endswith("no host is allowed; name its host (--allow-host, or hosts=).")
    (private,) = predictor.predict(Photographs(f"http://localhost:{web}/line/0.png", hosts=["localhost"]))
    assert isinstance(private, Unreadable)
    assert "lies in a private network" in private.reason


def test_what_signs_an_address_is_not_shown() -> None:
    signed = "https://a:b@store/x.png?X-Amz-Signature=1&part=2&AccessKeyId=3#z"
    assert shown(signed) == "https://store/x.png?X-Amz-Signature=...&part=2&AccessKeyId=..."
    assert shown("s3://bucket/a?token=1") == "s3://bucket/a?token=1"


def test_photographs_come_from_a_store(predictor: Predictor, files: Path, bucket: str) -> None:
    store = ObjectStore.from_environment()
    (files / "line" / "notes.txt").write_text("no photograph")
    (files / "line" / "5.heic").write_bytes(b"x")
    store.upload_folder(files / "line", Address(bucket, "line"))
    prefix = f"s3://{bucket}/line"
    assert decisions(predictor.predict(Photographs(prefix))) == [
        (f"{prefix}/0.png", "good"),
        (f"{prefix}/5.heic", "unreadable"),
        (f"{prefix}/late/7.png", "defect"),
    ]
    named = {
        pattern: [name_of(item) for item in Photographs(pattern)]
        for pattern in (f"{prefix}/0.png", f"{prefix}/*.png", f"{prefix}/**/*.png", f"s3://{bucket}/*/late")
    }
    assert list(named.values()) == [
        [f"{prefix}/0.png"],
        [f"{prefix}/0.png"],
        [f"{prefix}/0.png", f"{prefix}/late/7.png"],
        [f"s3://{bucket}/*/late"],
    ]
    absent, unmatched = Photographs([f"{prefix}/none", f"{prefix}/9*.png"])
    assert isinstance(absent, Unreadable)
    assert absent.reason == f"{prefix}/none holds no images."
    assert isinstance(unmatched, Unreadable)
    assert unmatched.reason == f"{prefix}/9*.png names no object."
    with pytest.raises(BadInput, match="is not an address in an object store"):
        list(Photographs("s3://x"))
    with pytest.raises(BadInput, match=r"has more than 0 MiB"):
        store.read_bytes(Address(bucket, "line/0.png"), most=10)


def test_a_store_that_is_away_ends_the_run(
    predictor: Predictor, files: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore.from_environment()
    store.upload_folder(files / "line", Address(bucket, "line"))

    def away(*_: object) -> bytes:
        raise RunFailed("The store is away.")

    monkeypatch.setattr(ObjectStore, "read_bytes", away)
    with pytest.raises(RunFailed, match="away"):
        list(predictor.predict(Photographs(f"s3://{bucket}/line")))

"""`vqi put`: a folder or a file into a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import s3_server
from vqi.storage.object_store import Address, ObjectStore
from vqi_pipelines.command import app


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A store with an empty bucket `vqi`."""
    (tmp_path / "store").mkdir()
    if not s3_server.binary("rclone"):
        pytest.skip(s3_server.MISSING["rclone"])
    with s3_server.serving("rclone", tmp_path / "store") as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        store = ObjectStore.from_environment()
        store.make_bucket("vqi")
        yield store


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of two photographs, one of them in a folder of its own."""
    (tmp_path / "flange" / "good").mkdir(parents=True)
    (tmp_path / "flange" / "a.png").write_bytes(b"a")
    (tmp_path / "flange" / "good" / "b.png").write_bytes(b"bb")
    return tmp_path / "flange"


def put(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["put", *map(str, arguments)])


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [item.key for item in store.objects(Address("vqi", prefix))]


def test_a_folder_is_stored_below_the_address(store: ObjectStore, photographs: Path) -> None:
    done = put(photographs, "s3://vqi/photographs/flange/")
    assert done.exit_code == 0, done.output
    assert done.stdout == "2 files, 0.0 MB: s3://vqi/photographs/flange\n"
    assert keys(store) == ["photographs/flange/a.png", "photographs/flange/good/b.png"]


def test_a_file_keeps_its_name(store: ObjectStore, photographs: Path) -> None:
    done = put(photographs / "a.png", "s3://vqi/weights", "--json")
    assert json.loads(done.stdout) == {"address": "s3://vqi/weights/a.png", "files": 1, "bytes": 1}
    assert keys(store) == ["weights/a.png"]


def test_what_is_stored_is_replaced_only_on_request(store: ObjectStore, photographs: Path) -> None:
    put(photographs, "s3://vqi/flange")
    (photographs / "a.png").write_bytes(b"another")
    for source, sentence in [
        (photographs, "s3://vqi/flange has 2 objects already; name another prefix, or add --overwrite."),
        (photographs / "a.png", "s3://vqi/flange/a.png has an object already"),
    ]:
        refused = put(source, "s3://vqi/flange")
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    assert [item.size for item in store.objects(Address("vqi", "flange"))] == [1, 2]
    (photographs / "good" / "b.png").unlink()
    assert put(photographs, "s3://vqi/flange", "--overwrite").exit_code == 0
    assert [item.size for item in store.objects(Address("vqi", "flange"))] == [7, 2]
    # The same name beside it is not in the way.
    assert put(photographs, "s3://vqi/flange-2").exit_code == 0


def test_what_cannot_be_stored_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, address, sentence in [
        (tmp_path / "absent", "s3://vqi/a", "absent does not exist; name a folder or a file of this machine."),
        (tmp_path / "empty", "s3://vqi/a", "empty has no files, so nothing was stored."),
        (tmp_path / "empty", "vqi/a", "is not an address in an object store"),
    ]:
        refused = put(source, address)
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    assert keys(store) == []

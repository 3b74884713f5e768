"""`vqi ci`: what changed is trained, gated and summed up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from test_submit_command import Vqi, _quick, kfp, vqi

import s3_server
from kfp_server import Kfp, failed_log, launcher_log
from vqi.storage.object_store import Address, ObjectStore

__all__ = ["_quick", "kfp", "vqi"]  # fixtures


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of two categories, `plate` and `cap`, in a git repository."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    monkeypatch.setenv("VQI_CATALOG", str(folder))
    for name in ("plate", "cap"):
        entry = {"data": {"source": f"s3://photographs/{name}"}, "backbone": {"name": "filterbank"}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entry))
    git(folder, "init", "-q")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True
    )


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "entries")


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A store with a photograph of either category; what is yielded adds one more to a category."""
    (tmp_path / "store").mkdir()
    if not s3_server.binary("rclone"):
        pytest.skip(s3_server.MISSING["rclone"])
    with s3_server.serving("rclone", tmp_path / "store") as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        store = ObjectStore.from_environment()
        store._client.make_bucket("photographs")

        def put(category: str, name: str) -> None:
            (tmp_path / name).write_bytes(name.encode())
            store.upload_file(tmp_path / name, Address("photographs", f"{category}/{name}"))

        put("plate", "a.png")
        put("cap", "a.png")
        yield put


def trained(kfp: Kfp) -> list[str]:
    return sorted(run.runtime_config.parameters["name"] for run in kfp.runs.values())


def test_since_a_revision_only_what_was_edited(
    kfp: Kfp, vqi: Vqi, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    done = vqi("ci", "--since", "HEAD", "--host", kfp.host)
    assert done.code == 0, done.err
    assert "Unchanged: cap, plate." in done.out
    assert not kfp.requests
    (catalog / "cap.yaml").write_text((catalog / "cap.yaml").read_text() + "seed: 3\n")
    commit(catalog)
    done = vqi("ci", "--since", "HEAD~1", "--dry-run", "--host", kfp.host)
    assert "cap: entry edited" in done.err
    assert "| cap | entry edited | due |" in done.out
    assert not kfp.requests
    done = vqi("ci", "--since", "HEAD~1", "--host", kfp.host, "--summary", str(tmp_path / "summary.md"))
    assert done.code == 0, done.err
    assert trained(kfp) == ["cap"]
    written = (tmp_path / "summary.md").read_text()
    assert "| cap | entry edited | trained | 0.9875 | 0.9700 |  |" in written
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith(written)
    done = vqi("ci", "--since", "nowhere", "--host", kfp.host)
    assert done.code == 2
    assert "git cannot say what changed since 'nowhere'" in done.err


@pytest.mark.slow
def test_state_knows_new_photographs(
    kfp: Kfp, vqi: Vqi, catalog: Path, photographs: Callable[[str, str], None], tmp_path: Path
) -> None:
    state = str(tmp_path / "state.json")
    call = ("ci", "--state", state, "--host", kfp.host)
    done = vqi(*call)
    assert done.code == 0, done.err
    assert trained(kfp) == ["cap", "plate"]
    assert "plate: unchanged" in vqi(*call).err
    photographs("plate", "b.png")
    done = vqi(*call)
    assert "plate: photographs changed" in done.err
    assert trained(kfp) == ["cap", "plate", "plate"]
    # What failed stays due.
    photographs("cap", "b.png")
    kfp.fails_at, kfp.final, kfp.logs["ingest"] = "ingest", "FAILED", failed_log("ingest", "no space is left", 1)
    assert vqi(*call).code == 1
    kfp.fails_at, kfp.final = "", "SUCCEEDED"
    done = vqi(*call)
    assert done.code == 0
    assert "cap: photographs changed" in done.err
    assert set(json.loads(Path(state).read_text())) == {"cap", "plate"}
    Path(state).write_text("[1]")
    assert "is not a state that `vqi ci` wrote" in vqi(*call).err


def test_compact_runs_are_of_a_pipeline_of_their_own(kfp: Kfp, vqi: Vqi, catalog: Path) -> None:
    call = ("ci", "--all", "--compact", "--host", kfp.host)
    done = vqi(*call)
    assert done.code == 0, done.err
    assert trained(kfp) == ["cap", "plate"]
    assert [pipeline.name for pipeline in kfp.pipelines.values()] == ["train-category-compact"]
    kfp.requests.clear()
    refused = vqi(*call, "--set", "compute.shards=2")
    assert refused.code == 2
    assert "the compact form has one task for the index" in refused.err
    assert not kfp.requests


def test_gates(kfp: Kfp, vqi: Vqi, catalog: Path) -> None:
    call = ("ci", "--all", "--host", kfp.host, "--require", "image_auroc=0.99")
    done = vqi(*call, "--category", "cap")
    assert done.code == 3
    assert "| cap | asked for | refused by a gate |" in done.out
    assert r"image\_auroc is 0.9875, below 0.99" in done.out
    kfp.logs["evaluate"] = launcher_log({"image_auroc": 0.995})
    assert vqi(*call, "--category", "cap").code == 0
    kfp.logs.clear()
    done = vqi(*call, "--category", "cap")
    assert done.code == 3
    assert r"image\_auroc is not known" in done.out
    assert "must be written metric=least" in vqi("ci", "--all", "--require", "high").err
    assert "Say what is due" in vqi("ci").err


def test_one_that_is_refused_does_not_sink_the_others(kfp: Kfp, vqi: Vqi, catalog: Path) -> None:
    (catalog / "cap.yaml").write_text("data: {source: /a/folder}\n")
    done = vqi("ci", "--all", "--host", kfp.host, "--at-once", "1")
    assert done.code == 2
    assert trained(kfp) == ["plate"]
    assert "| cap | asked for | bad input |" in done.out
    assert "which no pod of the cluster can read" in done.out
    assert "| plate | asked for | trained |" in done.out

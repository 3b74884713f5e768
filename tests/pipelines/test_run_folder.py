"""What a local run shows at the top of its folder is its own: it can be copied away in any of the usual ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vqi.deployment.bundle import read_sidecar
from vqi_pipelines.local_run import summarise


@pytest.fixture
def run(toy_bundle: Path, tmp_path: Path) -> Path:
    """A run whose export left a bundle among KFP's artefacts."""
    artefact = tmp_path / "run" / "artifacts" / "train-category-1" / "export" / "bundle"
    shutil.copytree(toy_bundle, artefact)
    (tmp_path / "run" / "steps").mkdir()
    (tmp_path / "run" / "steps" / "export.json").write_text(
        json.dumps(
            {"format": "vqi-step/1", "step": "export", "state": "succeeded", "outputs": {"bundle": str(artefact)}}
        )
    )
    assert summarise("plates", tmp_path / "run").bundle == str(tmp_path / "run" / "bundle")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "command",
    [
        ["cp", "-r", "run/bundle", "elsewhere"],
        ["rsync", "-a", "run/bundle/", "elsewhere"],
        ["rsync", "-a", "run/bundle", "."],
        ["tar", "-cf", "bundle.tar", "-C", "run", "bundle"],
        ["mv", "run/bundle", "elsewhere"],
    ],
)
def test_a_bundle_survives_being_copied_without_its_run(run: Path, command: list[str]) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, cwd=run.parent, check=True)
    shutil.rmtree(run)
    if command[0] == "tar":
        subprocess.run(["tar", "-xf", "bundle.tar"], cwd=run.parent, check=True)
    copied = run.parent / ("elsewhere" if "elsewhere" in command else "bundle")
    assert not copied.is_symlink()
    assert read_sidecar(copied).name == "plates"


def test_the_artefact_stays_and_its_bytes_are_stored_once(run: Path) -> None:
    (artefact,) = run.glob("artifacts/*/export/bundle")
    assert read_sidecar(artefact) == read_sidecar(run / "bundle")
    assert os.path.samefile(artefact / "model.onnx", run / "bundle" / "model.onnx")


def test_where_files_cannot_be_linked_they_are_copied(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not the owner")

    shutil.rmtree(run / "bundle")
    monkeypatch.setattr(os, "link", refuse)
    summarise("plates", run)
    assert read_sidecar(run / "bundle").name == "plates"


def test_summarising_again_changes_nothing(run: Path) -> None:
    before = (run / "bundle" / "bundle.json").stat()
    summarise("plates", run)
    assert (run / "bundle" / "bundle.json").stat() == before

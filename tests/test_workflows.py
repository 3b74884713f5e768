"""The workflows of GitHub Actions, as far as they can be seen without it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).resolve().parents[1] / ".github" / "workflows").glob("*.yml"))


def steps(file):
    return [step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_by_full_version(file):
    used = [step["uses"] for step in steps(file) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", each) for each in used), used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_may_read_the_code_and_nothing_else_unless_a_job_declares_it(file):
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    granted = {
        right
        for job in workflow["jobs"].values()
        for right, how in job.get("permissions", {}).items()
        if how == "write"
    }
    assert granted <= ({"packages"} if file.stem == "images" else set())
    assert all(
        step["with"]["persist-credentials"] is False
        for step in steps(file)
        if step.get("uses", "").startswith("actions/checkout@")
    )
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_script_runs_is_bash_without_anything_written_into_it(file):
    for script in (step["run"] for step in steps(file) if "run" in step):
        assert "${{" not in script, "hand it over in env: what GitHub writes into a script is run"
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_what_ci_runs_exists():
    """Scripts, make targets and commands that workflows call."""
    root = FILES[0].parents[2]
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    called = {word for file in FILES for word in re.findall(r"\bmake ([a-z-]+)", file.read_text())}
    assert called <= targets | {"cluster-up"}

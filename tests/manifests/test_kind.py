"""What brings up a cluster on a laptop, as far as it can be held without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from rendering import MANIFESTS

ROOT = MANIFESTS.parent
SCRIPTS = sorted(MANIFESTS.rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_scripts_are_bash_that_stops_at_the_first_failure(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert "set -euo pipefail" in script.read_text()


def test_kubeflow_pipelines_is_the_version_that_packages_are_compiled_with() -> None:
    compiled_with = re.search(r'"kfp==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert compiled_with
    for folder in ("kfp", "kfp/cluster-scoped"):
        kustomization = yaml.safe_load((MANIFESTS / "kind" / folder / "kustomization.yaml").read_text())
        (remote,) = [resource for resource in kustomization["resources"] if resource.startswith("https://")]
        assert remote.startswith("https://github.com/kubeflow/pipelines/")
        assert remote.endswith(f"?ref={compiled_with[1]}")


def test_its_controller_retries_whatever_ended_a_step_and_looks_every_second() -> None:
    folder = MANIFESTS / "kind" / "kfp"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    patches = [patch["path"] for patch in kustomization["patches"] if "path" in patch]
    local = [resource for resource in kustomization["resources"] if not resource.startswith("https://")]
    assert sorted([*patches, *local, "kustomization.yaml"]) == sorted(file.name for file in folder.glob("*.yaml"))
    settings, deployment = yaml.safe_load_all((folder / "retries.yaml").read_text())
    retries = yaml.safe_load(settings["data"]["workflowDefaults"])["spec"]["templateDefaults"]["retryStrategy"]
    # Without a limit Argo would repeat a driver for ever.
    # A DAG that failed has no message: without the expression Argo repeats each as well, and all that is in it.
    expression = "lastRetry.message != '' && !(lastRetry.message contains 'OOMKilled')"
    backoff = {"duration": "20", "factor": "2"}
    assert retries == {"limit": "3", "backoff": backoff, "retryPolicy": "Always", "expression": expression}
    # The rest replaces upstream's, which every pod of the restricted profile needs.
    executor = yaml.safe_load(settings["data"]["executor"])
    assert {entry["name"]: entry["value"] for entry in executor["env"]} == {
        "EXECUTOR_RETRY_BACKOFF_DURATION": "2s",
        "EXECUTOR_RETRY_BACKOFF_STEPS": "10",
    }
    assert executor["securityContext"]["runAsNonRoot"] is True
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container == {"name": "workflow-controller", "env": [{"name": "DEFAULT_REQUEUE_TIME", "value": "1s"}]}


def test_the_node_image_is_pinned_and_its_node_is_of_a_pool() -> None:
    (node,) = yaml.safe_load((MANIFESTS / "kind" / "cluster.yaml").read_text())["nodes"]
    assert re.search(r":v1\.34\.\d+@sha256:[0-9a-f]{64}$", node["image"])
    assert node["labels"] == {"vqi/pool": "xeon"}


@pytest.mark.parametrize("missing", ["docker", "kind", "kubectl"])
def test_a_missing_tool_is_named_before_anything_is_made(missing: str, tmp_path: Path) -> None:
    for tool in ("docker", "kind", "kubectl", "git"):
        if tool != missing:
            (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / tool).chmod(0o755)
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    done = subprocess.run(
        [str(MANIFESTS / "kind" / "up.sh")], capture_output=True, text=True, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f"cluster-up: {missing} is not installed (docs/cluster.md says what is needed)."


def test_the_parts_come_up_in_their_order(tmp_path: Path) -> None:
    """The whole script against tools that only write down what they are asked, without the run at its end."""
    calls = tmp_path / "calls"
    answers = {
        "docker": (
            'case "$*" in info*MemTotal*) echo 16000000000 ;; exec*) exit 1 ;;\n"image ls"*) printf "vqi/%s:$V\\n" '
            "ingest train train-gaudi ;; esac"
        ),
        "kind": 'case "$*" in "get clusters") ;; version) echo kind v0.30.0 ;; esac',
        "kubectl": 'case "$*" in *"get secret"*) exit 1 ;; "get nodes"*) echo node/vqi ;; *"create secret"*) cat '
        ">/dev/null ;; esac",
        "git": "",
    }
    for tool, answer in answers.items():
        (tmp_path / tool).write_text(f'#!/bin/bash\nV={version("vqi")}\necho "{tool} $*" >> {calls}\n{answer}\n')
        (tmp_path / tool).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "BIN": str(Path(sys.executable).parent),
        "CLUSTER_KUBECONFIG": str(tmp_path / "made" / "kubeconfig"),
        "RUN": "no",
    }
    done = subprocess.run([str(MANIFESTS / "kind" / "up.sh")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = calls.read_text().splitlines()

    def first(start: str) -> int:
        return next(index for index, line in enumerate(lines) if line.startswith(start))

    order = [
        "kind create cluster --name vqi",
        "kind load docker-image --name vqi vqi/ingest:",
        "kubectl apply --server-side -f manifests/base/namespace.yaml",
        "kubectl --namespace vqi create secret generic vqi-store",
        "kubectl apply --server-side -k manifests/overlays/kind",
        "kubectl apply --server-side -k manifests/kind/kfp/cluster-scoped",
        "kubectl wait --for=condition=established",
        "kubectl --namespace vqi rollout status deployment/minio",
        "kubectl --namespace vqi rollout status deployment/ml-pipeline",
    ]
    assert [first(step) for step in order] == sorted(first(step) for step in order)
    assert not any("gaudi" in line for line in lines if line.startswith("kind load"))
    assert str(tmp_path / "made" / "kubeconfig") in done.stderr


def fake_kubectl(folder: Path, secrets: dict[str, str]) -> None:
    """A kubectl that knows the namespace vqi and `secrets`, and writes down what it is called with and what it is
    piped."""
    cases = "\n".join(
        f'  *"get secret {name} "*|*"get secret {name}") echo "{value}" ;;' for name, value in secrets.items()
    )
    (folder / "kubectl").write_text(
        f'#!/bin/bash\necho "$*" >> {folder}/calls\ncase "$*" in\n{cases}\n  "get namespace vqi") ;;\n'
        f'  *"create secret generic"*) cat >> {folder}/piped; touch {folder}/made ;;\n'
        f'  *"get secret vqi-store -o"*) printf a2V5 ;;\n  *) exit 1 ;;\nesac\n'
    )
    (folder / "kubectl").chmod(0o755)


def make_secrets(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}:{os.environ['PATH']}"
    command = [str(MANIFESTS / "make-secrets.sh"), "vqi"]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": path, **environment})


def test_a_new_pair_of_keys_is_random_and_stands_in_no_command_line(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        fake_kubectl(folder, {})
        done = make_secrets(folder)
        assert done.returncode == 0, done.stderr
        piped = dict(line.split("=", 1) for line in (folder / "piped").read_text().splitlines())
        assert len(piped["AWS_SECRET_ACCESS_KEY"]) == 40
        assert set(piped) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "accesskey", "secretkey"}
        assert piped["AWS_SECRET_ACCESS_KEY"] not in (folder / "calls").read_text() + done.stdout + done.stderr
        made.append(piped["AWS_SECRET_ACCESS_KEY"])
    assert made[0] != made[1]


def test_keys_of_a_store_that_exists_are_taken_and_its_objects_are_left(tmp_path: Path) -> None:
    fake_kubectl(tmp_path, {})
    make_secrets(tmp_path, AWS_ACCESS_KEY_ID="theirs", AWS_SECRET_ACCESS_KEY="their-secret", AWS_SESSION_TOKEN="token")
    assert (
        "AWS_ACCESS_KEY_ID=theirs\nAWS_SECRET_ACCESS_KEY=their-secret\nAWS_SESSION_TOKEN=token\n"
        in (tmp_path / "piped").read_text()
    )
    (tmp_path / "made").unlink()
    fake_kubectl(tmp_path, {"vqi-store": "a2V5", "mlpipeline-minio-artifact": "a2V5"})
    done = make_secrets(tmp_path, AWS_ACCESS_KEY_ID="others", AWS_SECRET_ACCESS_KEY="other-secret")
    assert done.returncode == 0
    assert not (tmp_path / "made").exists()


def test_half_a_pair_of_keys_is_refused(tmp_path: Path) -> None:
    fake_kubectl(tmp_path, {})
    done = make_secrets(tmp_path, AWS_ACCESS_KEY_ID="theirs")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()

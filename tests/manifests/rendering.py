"""Manifests as a cluster would be given them: rendered by the kustomize in kubectl, or by kustomize itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
RENDERED = ("base", *(f"overlays/{folder.name}" for folder in sorted((MANIFESTS / "overlays").iterdir())))


def kustomize_command() -> list[str]:
    """The command that renders: on the PATH, or beside this interpreter (`make kustomize`). Skips where there is none;
    fails where required."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    if kubectl := shutil.which("kubectl", path=path):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize", path=path):
        return [kustomize, "build"]
    message = "manifests are rendered by kubectl or kustomize; `make kustomize` builds one where Go is"
    if os.environ.get("VQI_REQUIRE_KUSTOMIZE"):
        pytest.fail(message)
    pytest.skip(message)


def render(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization."""
    done = subprocess.run([*kustomize_command(), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@cache
def objects(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of one of RENDERED."""
    return tuple(render(MANIFESTS / name))


def of_kind(name: str, kind: str) -> list[dict[str, Any]]:
    return [item for item in objects(name) if item["kind"] == kind]


def the_one(name: str, kind: str, called: str) -> dict[str, Any]:
    (match,) = [item for item in of_kind(name, kind) if item["metadata"]["name"] == called]
    return match


def pod_templates(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the manifests make: (kind/name, spec of the pod)."""
    for item in objects(name):
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"):
            yield f"{item['kind']}/{item['metadata']['name']}", item["spec"]["template"]["spec"]
        elif item["kind"] == "CronJob":
            yield f"CronJob/{item['metadata']['name']}", item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield f"Pod/{item['metadata']['name']}", item["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"], *pod.get("ephemeralContainers", [])]

"""components/trainer: the runtime of TrainJobs is what the step expects, restricted, and with no more rights than it
uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pod_security import violations
from rendering import MANIFESTS, render

from vqi.platform import mounted_environment
from vqi.steps.train.train_job import API_GROUP, API_VERSION, NODE, RUNTIME
from vqi_pipelines.task_placement import CERTIFICATES, CERTIFICATES_FOLDER, SETTINGS, STORE, TRACKING


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The objects of the component by their kinds, in a namespace."""
    folder = tmp_path_factory.mktemp("trainer")
    component = os.path.relpath(MANIFESTS / "components" / "trainer", folder.resolve())
    (folder / "kustomization.yaml").write_text(f"namespace: vqi\ncomponents: [{component}]\n")
    return {item["kind"]: item for item in render(folder)}


def job_of(rendered: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (job,) = rendered["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    template: dict[str, Any] = job["template"]
    # Trainer finds the first node's name by it.
    assert job["name"] == NODE
    return template


def test_the_runtime_is_the_one_that_the_step_names(rendered: dict[str, dict[str, Any]]) -> None:
    runtime = rendered["TrainingRuntime"]
    assert runtime["apiVersion"] == f"{API_GROUP}/{API_VERSION}"
    assert runtime["metadata"]["name"] == RUNTIME
    assert runtime["metadata"]["namespace"] == "vqi"
    assert job_of(rendered)["metadata"]["labels"] == {f"{API_GROUP}/trainjob-ancestor-step": "trainer"}


def test_a_node_is_a_pod_of_the_restricted_profile_with_what_a_step_has(rendered: dict[str, dict[str, Any]]) -> None:
    pod = job_of(rendered)["spec"]["template"]["spec"]
    assert violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["name"] == NODE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder = Path(mounted_environment.FOLDER)
    names = {
        path: source.get("name") or source.get("secretName") for path, source in _sources(volumes, mounted).items()
    }
    assert names == {
        str(folder / mounted_environment.SETTINGS): SETTINGS,
        str(folder / mounted_environment.STORE): STORE,
        str(folder / mounted_environment.TRACKING): TRACKING,
        CERTIFICATES_FOLDER: CERTIFICATES,
    }
    assert {"/tmp", "/dev/shm"} <= set(mounted)


def _sources(volumes: dict[str, Any], mounted: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What is mounted from an object, by its path; each may be missing."""
    sources = {}
    for path, name in mounted.items():
        source = volumes[name].get("configMap") or volumes[name].get("secret")
        if source:
            assert source["optional"] is True
            sources[path] = source
    return sources


def test_only_what_may_pass_is_begun_again(rendered: dict[str, dict[str, Any]]) -> None:
    job = job_of(rendered)["spec"]
    assert job["backoffLimit"] == 0
    disrupted, lasting = job["podFailurePolicy"]["rules"]
    assert disrupted == {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert (lasting["action"], lasting["onExitCodes"]["values"]) == ("FailJob", [2, 137])
    policy = rendered["TrainingRuntime"]["spec"]["template"]["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 2
    assert [rule["action"] for rule in policy["rules"]] == ["FailJobSet"]


def test_the_step_s_rights_are_those_it_uses(rendered: dict[str, dict[str, Any]]) -> None:
    rights = {
        (group, resource): rule["verbs"]
        for rule in rendered["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        (API_GROUP, "trainjobs"): ["create", "get", "list", "delete"],
        ("", "pods"): ["get", "list"],
        ("", "pods/log"): ["get"],
        ("", "events"): ["list"],
    }
    for kind in ("Role", "RoleBinding", "NetworkPolicy"):
        kubernetes_validate.validate(rendered[kind], "1.34", strict=True)

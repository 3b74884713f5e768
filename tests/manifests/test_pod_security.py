"""The profile's rules refuse what a cluster refuses (tests/manifests/pod_security.py), so that passing them means
something."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pod_security import violations

ADMITTED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "main",
            "image": "vqi/train:0.1.0",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            # What a Gaudi step asks for: devices and hugepages are resources, no privileges.
            "resources": {"limits": {"habana.ai/gaudi": 1, "hugepages-2Mi": "1Gi", "memory": "8Gi", "cpu": "4"}},
        }
    ],
    "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "huge", "emptyDir": {"medium": "HugePages"}},
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    pod = copy.deepcopy(ADMITTED)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    here: Any = pod
    for part in way:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
    here[last] = value
    return pod


def test_a_pod_like_ours_is_admitted() -> None:
    assert violations(ADMITTED) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("hostIPC", True, "hostIPC"),
        ("volumes/0", {"name": "shm", "hostPath": {"path": "/dev/shm"}}, "hostPath"),
        ("securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl"),
        ("securityContext/runAsNonRoot", False, "may run as root"),
        ("securityContext/runAsUser", 0, "user 0"),
        ("securityContext/seccompProfile", {"type": "Unconfined"}, "seccomp"),
        ("containers/0/securityContext/privileged", True, "privileged"),
        ("containers/0/securityContext/allowPrivilegeEscalation", True, "gain privileges"),
        ("containers/0/securityContext/capabilities", {}, "does not drop"),
        ("containers/0/securityContext/capabilities", {"drop": ["ALL"], "add": ["IPC_LOCK"]}, "adds IPC_LOCK"),
        ("containers/0/securityContext/procMount", "Unmasked", "/proc"),
        ("containers/0/securityContext/runAsUser", 0, "user 0"),
        ("containers/0/ports", [{"containerPort": 80, "hostPort": 80}], "host port"),
        ("containers/0/livenessProbe", {"httpGet": {"host": "elsewhere", "port": 80}}, "another host"),
        ("containers/0/securityContext/seLinuxOptions", {"type": "spc_t"}, "SELinux"),
        ("containers/0/securityContext/appArmorProfile", {"type": "Unconfined"}, "AppArmor"),
        ("initContainers", [{"name": "first", "image": "vqi/ingest:0.1.0"}], "first does not drop"),
    ],
)
def test_what_the_profile_forbids_is_a_violation(path: str, value: object, reason: str) -> None:
    assert any(reason in violation for violation in violations(changed(path, value))), violations(changed(path, value))

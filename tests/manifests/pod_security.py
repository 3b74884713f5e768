"""The `restricted` Pod Security profile, rule by rule (kubernetes.io/docs/concepts/security/pod-security-standards,
Kubernetes 1.34)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: dict[str, Any]) -> list[str]:
    """What the profile refuses in a pod's spec; empty where it would be admitted."""
    return [
        *_of_the_pod(pod),
        *(
            violation
            for container in _containers(pod)
            for violation in _of_a_container(container, pod.get("securityContext") or {})
        ),
    ]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod.get("containers", []), *pod.get("ephemeralContainers", [])]


def _of_the_pod(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext") or {}
    yield from (
        f"{key} shares a namespace of the host" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)
    )
    for volume in pod.get("volumes", []):
        yield from (f"volume {volume['name']} is a {kind}" for kind in volume if kind != "name" and kind not in VOLUMES)
    yield from (f"sysctl {item['name']}" for item in context.get("sysctls", []) if item["name"] not in SAFE_SYSCTLS)
    if context.get("runAsUser") == 0:
        yield "the pod runs as user 0"
    yield from _common("the pod", context)


def _of_a_container(container: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext") or {}
    if context.get("privileged"):
        yield f"{name} is privileged"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} unmasks /proc"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges (allowPrivilegeEscalation is not false)"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} does not drop ALL capabilities"
    yield from (f"{name} adds {added}" for added in capabilities.get("add", []) if added != "NET_BIND_SERVICE")
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        yield f"{name} may run as root (runAsNonRoot is not true)"
    if context.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    seccomp = context.get("seccompProfile", pod_context.get("seccompProfile")) or {}
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no seccomp profile"
    yield from (
        f"{name} has host port {port['hostPort']}" for port in container.get("ports", []) if port.get("hostPort")
    )
    handlers = [container.get(probe) or {} for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += [(container.get("lifecycle") or {}).get(hook) or {} for hook in ("postStart", "preStop")]
    yield from (
        f"{name} probes another host"
        for handler in handlers
        for kind in ("httpGet", "tcpSocket")
        if (handler.get(kind) or {}).get("host")
    )
    yield from _common(name, context)


def _common(name: str, context: dict[str, Any]) -> Iterator[str]:
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name} sets SELinux options"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} is unconfined by AppArmor"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name} is a host process"

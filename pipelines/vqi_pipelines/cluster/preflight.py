"""What can be known before a run is submitted, each finding one clear sentence: a mistake stops the submission, a doubt
is reported."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from vqi.category import Category
from vqi.placement import POOL_LABEL, StepPlacement
from vqi.platform.errors import BadInput, VqiError
from vqi.storage.object_store import Address, ObjectStore
from vqi_pipelines.cluster.kubernetes_access import Kubernetes, Node, NotAllowed
from vqi_pipelines.cluster.server import SERVICE_ACCOUNT_OF_RUNS, Server

TRIED = (2, 17)
STORE_SECRET, SETTINGS = "vqi-store", "vqi-settings"
# KFP's own, in the namespace of a run: where artefacts go, and with which credentials.
KFP_CONFIG, KFP_SECRET = "kfp-launcher", "mlpipeline-minio-artifact"
PROBE_SECONDS = 3.0

Doubt = Callable[[str], None]


def check_server(server: Server, doubt: Doubt) -> None:
    """The server answers, and is a KFP that this can speak to."""
    version = server.health().version
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if not match:
        doubt(f"The KFP at {server.host} does not say its version; this was tried with {TRIED[0]}.{TRIED[1]}.")
        return
    number = (int(match[1]), int(match[2]))
    if number[0] != TRIED[0]:
        raise BadInput(
            f"The KFP at {server.host} is version {version}; {TRIED[0]}.x is needed (--no-preflight submits "
            "nevertheless)."
        )
    if number < TRIED:
        doubt(
            f"The KFP at {server.host} is version {version}, older than {TRIED[0]}.{TRIED[1]}, which this was tried "
            "with."
        )


def check_data(category: Category, doubt: Doubt, environ: Mapping[str, str] = os.environ) -> None:
    """Photographs and weights are where a pod can read them, as far as that can be seen from here."""
    source, weights = category.data.source, category.backbone.weights
    if not source:
        raise BadInput(
            "data.source is empty; name s3://bucket/prefix, for example with --set data.source=s3://photographs/flange."
        )
    named = {"data.source": source}
    if category.backbone.name != "filterbank" and weights not in ("imagenet", "random"):
        named["backbone.weights"] = weights
    elif category.backbone.name != "filterbank" and weights == "imagenet":
        doubt(
            "backbone.weights is imagenet: the pods of train download it, which needs a way out of the cluster; "
            "s3://bucket/file needs none."
        )
    named |= {f"method.settings.{name}": path for name, path in category.method_paths.items()}
    if category.train.checkpoints:
        named["train.checkpoints"] = category.train.checkpoints
    for key, location in named.items():
        if "://" not in location:
            raise BadInput(
                f"{key} is {location!r}, a path of a machine, which no pod of the cluster can read; put it in a store "
                "and name s3://bucket/..."
            )
    stored = {key: Address.parse(location) for key, location in named.items() if location.startswith("s3://")}
    if not stored:
        return
    try:
        store = ObjectStore.from_environment(environ)
    except BadInput as error:
        doubt(f"Whether {' and '.join(stored)} can be read was not checked from here: {error}")
        return
    if not _answers(store.endpoint):
        doubt(
            f"Whether {' and '.join(stored)} can be read was not checked: the store at {store.endpoint} does not "
            "answer from here."
        )
        return
    for key, address in stored.items():
        try:
            exists = bool(store.find(address)) or bool(store.objects(address))
        except VqiError as error:
            raise BadInput(f"{key} cannot be read: {error}") from error
        # Checkpoints are written there; the bucket is enough.
        if not exists and key != "train.checkpoints":
            raise BadInput(f"{key} is {address}, and there is nothing under it in the store at {store.endpoint}.")


def check_namespace(kubernetes: Kubernetes, namespace: str, multi_user: bool, category: Category, doubt: Doubt) -> None:
    """The run's namespace has what KFP and the steps take from it."""
    try:
        if not kubernetes.has_namespace(namespace):
            raise BadInput(
                f"There is no namespace {namespace!r} in the cluster; name the one that runs happen in with "
                "--namespace."
            )
    except NotAllowed:
        pass  # namespaces are the cluster's; what is in ours may still be seen
    account = "default-editor" if multi_user else SERVICE_ACCOUNT_OF_RUNS
    stored = any(
        location.startswith("s3://")
        for location in (category.data.source, category.backbone.weights, category.train.checkpoints)
    )
    wanted: list[tuple[Callable[[str, str], Any], str, str, str]] = [
        (kubernetes.config_map, "ConfigMap", KFP_CONFIG, "KFP's launcher reads where artefacts go from it"),
        (kubernetes.has_secret, "Secret", KFP_SECRET, "KFP reads and writes artefacts with it"),
        (kubernetes.has_service_account, "service account", account, "the run's pods run as it"),
    ]
    if stored:
        wanted.append((kubernetes.has_secret, "Secret", STORE_SECRET, "the steps read s3:// with it"))
        wanted.append((kubernetes.config_map, "ConfigMap", SETTINGS, "it says where the store is"))
    for read_object, kind, name, why in wanted:
        try:
            if read_object(namespace, name) in (None, False):
                raise BadInput(
                    f"The namespace {namespace} has no {kind} {name} ({why}); make it as docs/cluster.md says, or "
                    "submit with --no-preflight."
                )
        except NotAllowed as error:
            doubt(f"Whether the namespace {namespace} has the {kind} {name} was not checked: {error}.")


def check_nodes(kubernetes: Kubernetes, placements: Mapping[str, StepPlacement], pool: str, doubt: Doubt) -> None:
    """For every step there is a node that could take it, were it empty. What other pods hold of it now is the
    scheduler's affair."""
    try:
        nodes = kubernetes.nodes()
    except NotAllowed as error:
        doubt(f"Whether a node takes the steps was not checked: {error}.")
        return
    if not nodes:
        raise BadInput("No node of the cluster takes pods (none is ready and not cordoned).")
    if pool != "any" and not any(node.labels.get(POOL_LABEL) == pool for node in nodes):
        known = sorted({label for node in nodes if (label := node.labels.get(POOL_LABEL))})
        raise BadInput(
            f"No ready node has the label {POOL_LABEL}={pool} (pools of this cluster: {', '.join(known) or 'none'}); "
            f"label one with `kubectl label node NAME {POOL_LABEL}={pool}`, or submit to another pool."
        )
    for step, placement in placements.items():
        reasons = {node.name: refusal(node, placement) for node in nodes}
        if all(reasons.values()):
            counted = Counter(reasons.values())
            raise BadInput(
                f"No node of the cluster can take {step}: "
                f"{'; '.join(f'{count} of {len(nodes)} {reason}' for reason, count in counted.items())}."
            )


def refusal(node: Node, placement: StepPlacement) -> str:
    """Why a node, were it empty, would not be given a step; "" where it could be."""
    for key, value in placement.node_selector.items():
        if node.labels.get(key) != value:
            return f"without the label {key}={value}"
    terms = placement.node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms", []
    )
    if terms and not any(all(_matches(node, rule) for rule in term["matchExpressions"]) for term in terms):
        return "kept for other steps by their labels"
    for taint in node.taints:
        if taint["effect"] != "PreferNoSchedule" and not any(
            _tolerates(toleration, taint) for toleration in placement.tolerations
        ):
            return f"with the taint {taint['key']}"
    wanted = {"cpu": placement.cpu_request, "memory": placement.memory}
    if placement.accelerator:
        wanted[placement.accelerator] = placement.accelerators
    for resource, amount in wanted.items():
        if quantity(node.allocatable.get(resource, "0")) < quantity(amount):
            return f"with less than {amount} {resource}"
    return ""


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity (`500m`, `4Gi`) as a number."""
    from kubernetes.utils.quantity import parse_quantity

    return parse_quantity(text)


def _matches(node: Node, rule: Mapping[str, Any]) -> bool:
    value, values = node.labels.get(rule["key"]), rule.get("values", [])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[rule["operator"]]


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    same = toleration.get("effect") in (None, "", taint["effect"]) and toleration.get("key") in (None, "", taint["key"])
    return same and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint["value"])


def _answers(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection(
            (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)), timeout=PROBE_SECONDS
        ):
            return True
    except OSError:
        return False

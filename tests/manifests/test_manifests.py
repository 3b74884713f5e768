"""Every overlay, rendered: valid, restricted, bounded, without a credential, and with no more rights and ways out than
a run needs."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from fnmatch import fnmatch
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pod_security import violations
from rendering import MANIFESTS, RENDERED, containers, objects, of_kind, pod_templates, render, the_one

from vqi_pipelines.commands.watch import watch

KUBERNETES = "1.34"
PODS = [name for name in RENDERED if name != "overlays/multi-user"]
RUNS = {"matchExpressions": [{"key": "pipeline/runid", "operator": "Exists"}]}


def reached(name: str, kind: str = "egress") -> set[tuple[str, int]]:
    """What the pods of a run may reach by all policies that select them: (whom, port)."""
    reachable = set()
    for policy in of_kind(name, "NetworkPolicy"):
        if policy["spec"]["podSelector"] == RUNS:
            for rule in policy["spec"].get(kind, []):
                peers = [json.dumps(peer, sort_keys=True) for peer in rule.get("to", [])] or ["anything"]
                reachable |= {(_short(peer), port["port"]) for peer in peers for port in rule["ports"]}
    return reachable


def _short(peer: str) -> str:
    values = re.findall(
        r'"(?:app|component|k8s-app|app\.kubernetes\.io/name|kubernetes\.io/metadata\.name)": "([\w.-]+)"', peer
    )
    return "/".join(values) or peer


@pytest.mark.parametrize("name", RENDERED)
def test_every_object_is_of_its_schema(name: str) -> None:
    assert len(objects(name)) >= 5
    for item in objects(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_the_schema_refuses_a_misspelt_field() -> None:
    broken = json.loads(json.dumps(next(iter(of_kind("base", "Job")))))
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", RENDERED)
def test_every_object_has_one_namespace_and_no_two_share_a_name(name: str) -> None:
    expected = "team-a" if name == "overlays/multi-user" else "vqi"
    namespaces = [item["metadata"].get("namespace") for item in objects(name) if item["kind"] != "Namespace"]
    assert set(namespaces) == {expected}
    names = [(item["kind"], item["metadata"]["name"]) for item in objects(name)]
    assert len(names) == len(set(names))
    for binding in of_kind(name, "RoleBinding"):
        assert {subject["namespace"] for subject in binding["subjects"]} == {expected}


@pytest.mark.parametrize("name", PODS)
def test_the_namespace_enforces_the_restricted_profile_at_a_version(name: str) -> None:
    labels = the_one(name, "Namespace", "vqi")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == f"v{KUBERNETES}"


@pytest.mark.parametrize("name", PODS)
def test_every_pod_of_ours_passes_the_restricted_profile_with_a_read_only_root(name: str) -> None:
    pods = dict(pod_templates(name))
    assert pods
    for called, pod in pods.items():
        assert violations(pod) == [], called
        assert pod["securityContext"]["runAsUser"] == 1000, called
        assert pod["automountServiceAccountToken"] is False, called
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, called
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), called


@pytest.mark.parametrize("name", PODS)
def test_every_container_asks_for_what_it_needs_and_is_bounded(name: str) -> None:
    for called, pod in pod_templates(name):
        for container in containers(pod):
            for which in ("requests", "limits"):
                assert set(container["resources"][which]) >= {"cpu", "memory"}, called
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], called


@pytest.mark.parametrize("name", PODS)
def test_every_server_is_probed(name: str) -> None:
    for deployment in of_kind(name, "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, (deployment["metadata"]["name"], probe)
            # Slow to start is not dead: a database that is being migrated takes minutes.
            patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
            assert patience >= 120


@pytest.mark.parametrize("name", [name for name in PODS if name != "base"])
def test_every_image_has_a_version(name: str) -> None:
    for called, pod in pod_templates(name):
        for container in containers(pod):
            repository, _, tag = container["image"].partition(":")
            assert "@sha256:" in container["image"] or (tag and tag != "latest"), (called, repository)


def test_versions_stand_in_one_file_and_are_those_of_the_package() -> None:
    pinned = yaml.safe_load((MANIFESTS / "components" / "versions" / "kustomization.yaml").read_text())["images"]
    version = re.search(r'^version = "(.+)"$', (MANIFESTS.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert {image["newTag"] for image in pinned} == {version[1]}
    used = {
        container["image"].rsplit(":", 1)[0]
        for overlay in ("overlays/serving", "overlays/watching")
        for _, pod in pod_templates(overlay)
        for container in containers(pod)
    }
    assert used == {image["name"] for image in pinned}
    for file in MANIFESTS.rglob("*.yaml"):
        if not {"versions", "kind"} & set(file.relative_to(MANIFESTS).parts):
            assert not re.search(r"^\s*(-\s+)?image:\s*\S+[:@]", file.read_text(), re.MULTILINE), file


@pytest.mark.parametrize("name", RENDERED)
def test_no_credential_is_rendered(name: str) -> None:
    assert not of_kind(name, "Secret")
    suspicious = re.compile(r"pass(word|wd)?$|secret(_?key)?$|token$|access_?key(_id)?$", re.IGNORECASE)

    def check_value(value: Any, path: str) -> None:
        if isinstance(value, dict):
            # A literal environment variable; valueFrom and references carry no value.
            if "name" in value and "value" in value:
                assert not suspicious.search(str(value["name"])), path
            for key, inner in value.items():
                if isinstance(inner, str) and not key.endswith(("Key", "Name")) and key != "name":
                    assert not suspicious.search(key) or key == "key", f"{path}.{key}"
                check_value(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                check_value(inner, path)

    for item in objects(name):
        check_value(item, f"{item['kind']}/{item['metadata']['name']}")
        assert not re.search(r"://[^/\s]+:[^/\s]+@", json.dumps(item)), "an address carries a password"


@pytest.mark.parametrize("name", RENDERED)
def test_a_run_has_the_three_rights_it_needs(name: str) -> None:
    assert not [item for item in objects(name) if item["kind"].startswith("Cluster")]
    (role,) = of_kind(name, "Role")
    rights = {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {
        ("argoproj.io", "workflowtaskresults", "create", ()),
        ("argoproj.io", "workflowtaskresults", "patch", ()),
        ("", "configmaps", "get", ("kfp-launcher",)),
        ("", "secrets", "get", ("mlpipeline-minio-artifact",)),
    }
    (binding,) = of_kind(name, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = "default-editor" if name == "overlays/multi-user" else "pipeline-runner"
    assert [subject["name"] for subject in binding["subjects"]] == [account]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", set()),
        ("overlays/xeon", {("minio", 9000), ("mlflow", 5000)}),
        ("overlays/gaudi", {("minio", 9000), ("mlflow", 5000)}),
        ("overlays/kind", {("minio", 9000), ("mlflow", 5000)}),
        ("overlays/multi-user", {("kubeflow/seaweedfs", 8333), ("vqi/mlflow", 5000)}),
        ("overlays/existing-services", {("anything", port) for port in (443, 5000, 8333, 9000)}),
    ],
)
def test_a_run_reaches_what_it_speaks_to_and_nothing_else(name: str, expected: set[tuple[str, int]]) -> None:
    assert reached(name) == expected | {
        ("kube-system/kube-dns", 53),
        *((f"{prefix}ml-pipeline", port) for prefix in ("", "kubeflow/") for port in (8887, 8888)),
        *((f"{prefix}metadata-grpc-server", 8080) for prefix in ("", "kubeflow/")),
        ("anything", 6443),
    }
    assert reached(name, "ingress") == set()


@pytest.mark.parametrize("name", PODS)
def test_every_pod_of_ours_is_kept_in_by_policies(name: str) -> None:
    for item in objects(name):
        if item["kind"] in ("Deployment", "Job"):
            label = item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
            policies = [
                policy
                for policy in of_kind(name, "NetworkPolicy")
                if policy["spec"]["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": label}
            ]
            assert any(set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"} for policy in policies), label


@pytest.mark.parametrize("name", PODS)
def test_services_stay_off_the_nodes_with_devices_and_may_use_those_kept_for_inspection(name: str) -> None:
    for called, pod in pod_templates(name):
        affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert affinity["nodeSelectorTerms"] == [
            {"matchExpressions": [{"key": "vqi/pool", "operator": "NotIn", "values": ["gaudi"]}]}
        ], called
        assert pod["tolerations"] == [
            {"key": "vqi/pool", "operator": "Equal", "value": "xeon", "effect": "NoSchedule"}
        ], called


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_refers_to_exists_or_is_a_secret_that_the_guide_makes(name: str) -> None:
    present = {(item["kind"], item["metadata"]["name"]) for item in objects(name)}
    made_by_hand = {"vqi-store", "vqi-tracking", "vqi-mlflow", "vqi-serve", "vqi-watch"}
    for called, pod in pod_templates(name):
        text = json.dumps(pod)
        for claim in re.findall(r'"claimName": "([\w-]+)"', text):
            assert ("PersistentVolumeClaim", claim) in present, called
        for container in containers(pod):
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert ("ConfigMap", source["configMapRef"]["name"]) in present, called
                else:
                    assert source["secretRef"]["name"] in made_by_hand, called
    for service in of_kind(name, "Service"):
        selected = [
            item
            for item in of_kind(name, "Deployment")
            if service["spec"]["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(selected) == 1
        ports = {port["name"] for port in selected[0]["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize(("overlay", "name"), [("overlays/serving", "serve"), ("overlays/watching", "watch")])
def test_a_server_reaches_mlflow_and_mlflow_lets_it_in(overlay: str, name: str) -> None:
    own = the_one(overlay, "NetworkPolicy", f"vqi-{name}")["spec"]
    assert {"port": 5000, "protocol": "TCP"} in [port for rule in own["egress"] for port in rule["ports"]]
    (rule,) = the_one(overlay, "NetworkPolicy", "mlflow")["spec"]["ingress"]
    admitted = {
        value
        for peer in rule["from"]
        for expression in peer.get("podSelector", {}).get("matchExpressions", [])
        if expression["key"] == "app.kubernetes.io/name"
        for value in expression["values"]
    }
    assert f"vqi-{name}" in admitted
    (container,) = the_one(overlay, "Deployment", f"vqi-{name}")["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "vqi-tracking", "optional": True}} in container["envFrom"]


def test_mlflow_answers_to_its_service_names_alone_and_runs_no_jobs() -> None:
    """Both were found by running it: 403 for a name it was not told, and 1.1 GB for processes that nothing uses."""
    settings = the_one("overlays/xeon", "ConfigMap", "vqi-mlflow")["data"]
    allowed = settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for host in ("mlflow", "mlflow:5000", "mlflow.vqi:5000", "mlflow.vqi.svc.cluster.local:5000", "localhost:5000"):
        assert any(fnmatch(host, pattern) for pattern in allowed), host
    assert not any(fnmatch("evil.example.com", pattern) for pattern in allowed)
    assert settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_component_can_be_left_out() -> None:
    """MinIO without MLflow and MLflow without MinIO render, and say nothing about the one that is not there."""
    for kept, other in (("minio", "mlflow"), ("mlflow", "minio")):
        folder = MANIFESTS / f".test-{kept}"
        folder.mkdir(exist_ok=True)
        try:
            (folder / "kustomization.yaml").write_text(
                f"resources: [../base]\ncomponents: [../components/{kept}, ../components/versions]\nnamespace: vqi\n"
            )
            rendered = render(folder)
        finally:
            (folder / "kustomization.yaml").unlink()
            folder.rmdir()
        assert [item["metadata"]["name"] for item in rendered if item["kind"] == "Deployment"] == [kept]
        (settings,) = [item for item in rendered if item["metadata"]["name"] == "vqi-settings"]
        assert other not in json.dumps(settings["data"])


@pytest.mark.parametrize("name", ["overlays/xeon", "overlays/existing-services"])
def test_runs_and_steps_use_one_store(name: str) -> None:
    settings = the_one(name, "ConfigMap", "vqi-settings")["data"]
    launcher = the_one(name, "ConfigMap", "kfp-launcher")["data"]
    provider = yaml.safe_load(launcher["providers"])["minio"]["default"]
    assert launcher["defaultPipelineRoot"].startswith("minio://mlpipeline/")
    scheme = "http" if provider["disableSSL"] else "https"
    assert settings["AWS_ENDPOINT_URL"] == f"{scheme}://{provider['endpoint']}"
    assert settings["AWS_REGION"] == provider["region"]
    # Checkpoints and reports go where the buckets' job has them expire.
    buckets = yaml.safe_load(the_one("base", "ConfigMap", "vqi-buckets")["data"]["buckets.yaml"])
    expiring = {f"s3://{bucket['name']}/{rule['prefix']}" for bucket in buckets for rule in bucket.get("expire", [])}
    assert f"{settings['VQI_CHECKPOINTS']}/" in expiring
    assert f"{settings['VQI_STEP_REPORTS']}/" in expiring
    assert provider["credentials"]["secretRef"]["secretName"] == "mlpipeline-minio-artifact"


def test_a_team_keeps_what_kubeflow_s_profile_controller_made() -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in objects("overlays/multi-user")}
    assert not names & {("Namespace", "team-a"), ("ServiceAccount", "default-editor"), ("ConfigMap", "kfp-launcher")}
    settings = the_one("overlays/multi-user", "ConfigMap", "vqi-settings")["data"]
    # The prefix that the team's own key pair opens.
    assert settings["VQI_CHECKPOINTS"].startswith("s3://mlpipeline/private/team-a/")
    assert settings["VQI_STEP_REPORTS"].startswith("s3://mlpipeline/private/team-a/")


def test_the_runtime_of_kserve_is_restricted_and_serves_where_kserve_mounts() -> None:
    folder = MANIFESTS / "components" / "kserve"
    runtime = yaml.safe_load((folder / "serving-runtime.yaml").read_text())
    service = yaml.safe_load((folder / "inference-service.yaml").read_text())
    (container,) = runtime["spec"]["containers"]
    assert violations({**runtime["spec"], "securityContext": container["securityContext"]}) == []
    assert "{{.Name}}=/mnt/models" in container["args"]
    assert {container["readinessProbe"]["httpGet"]["port"]} == {port["containerPort"] for port in container["ports"]}
    # Without it one of some hundred requests was refused when the bundle changed (KServe's controller, 2026-11-29).
    plain = the_one("overlays/serving", "Deployment", "vqi-serve")["spec"]["template"]["spec"]["containers"][0]
    assert container["lifecycle"] == plain["lifecycle"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"].items() <= runtime["spec"]["supportedModelFormats"][0].items()


def test_a_watch_has_one_process_and_the_options_that_the_command_has() -> None:
    deployment = the_one("overlays/watching", "Deployment", "vqi-watch")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    (container,) = deployment["template"]["spec"]["containers"]
    command, settings = container["command"], the_one("overlays/watching", "ConfigMap", "vqi-watch")["data"]
    assert {name for word in command for name in re.findall(r"\$\((\w+)\)", word)} == set(settings)
    (folders,) = deployment["template"]["spec"]["initContainers"]
    assert settings["SOURCE"] in folders["command"]
    assert command[command.index("--state") + 1] in folders["command"]
    options = set(inspect.signature(watch).parameters)
    assert {word.removeprefix("--").replace("-", "_") for word in command if word.startswith("--")} <= options

"""`vqi submit` and the commands beside it, against a KFP and a Kubernetes API in this process."""

from __future__ import annotations

import importlib.metadata
import inspect
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import kfp_server_api
import pytest

import kubernetes_server
from kfp_server import METRICS, ROUTES, STEPS, Kfp, failed_log, serving
from vqi.category import Category
from vqi.platform.errors import BadInput, GateRefused, RunFailed
from vqi.tracking.address_name import address_name
from vqi.tracking.origins import origin_tags
from vqi.tracking.runs import open_run
from vqi_pipelines.cluster import following, logs, schedules, server
from vqi_pipelines.cluster import package as package_module
from vqi_pipelines.cluster.package import Package, load_package
from vqi_pipelines.command import main
from vqi_pipelines.compiling import PACKAGES

SOURCE = "s3://photographs/flange"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Vqi = Callable[..., Done]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(server, "LONGEST_PAUSE_SECONDS", 0.002)
    for name in (
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "MINIO_ENDPOINT",
        "MLFLOW_S3_ENDPOINT_URL",
        "AWS_REGION",
        "MLFLOW_TRACKING_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("ENDPOINT", "NAMESPACE", "SA_TOKEN_PATH", "UI_ENDPOINT"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))


@pytest.fixture
def kfp() -> Iterator[Kfp]:
    with serving(Kfp()) as running:
        yield running


@pytest.fixture
def vqi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vqi:
    def call(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["vqi", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Done(code, out, err)

    return call


@pytest.fixture
def submit(kfp: Kfp, vqi: Vqi) -> Vqi:
    return lambda *arguments: vqi(
        "submit", "--category", "flange", "--set", f"data.source={SOURCE}", "--host", kfp.host, *arguments
    )


def the_run(kfp: Kfp) -> object:
    (run,) = kfp.runs.values()
    return run


# The contract


def test_the_fake_speaks_the_clients_contract() -> None:
    services = [getattr(kfp_server_api, name) for name in dir(kfp_server_api) if name.endswith("ServiceApi")]
    declared = set()
    for service in services:
        for path, method in re.findall(r"'(/apis/[^']+)', '(\w+)',", inspect.getsource(service)):
            declared.add((method, path))
    for method, path, _, _ in ROUTES:
        assert (method, path) in declared


# Submitting


def test_submit_passes_every_parameter_and_waits(kfp: Kfp, submit: Vqi) -> None:
    done = submit("--wait")
    assert done.code == 0, done.err
    run = the_run(kfp)
    package = load_package()
    assert set(run.runtime_config.parameters) == set(package.inputs)
    assert run.runtime_config.parameters["data_source"] == SOURCE
    assert run.runtime_config.parameters["method_settings"] == '{"coreset_ratio": 0.03}'
    assert re.fullmatch(r"flange-patchcore-\d{8}-\d{6}-[0-9a-f]{4}", run.display_name)
    # Every step was told as it began and as it ended, once; the run's own address is shown.
    for step in STEPS:
        assert done.err.count(f"  {step}: running\n") == 1
        assert done.err.count(f"  {step}: succeeded in 7 s\n") == 1
    assert f"{kfp.host}/#/runs/details/{run.run_id}" in done.out
    assert "image_auroc  0.9875" in done.out


def test_json_is_one_object(submit: Vqi) -> None:
    done = submit("--wait", "--json")
    answer = json.loads(done.out)
    assert answer["state"] == "SUCCEEDED"
    assert answer["metrics"] == METRICS
    assert answer["exit_code"] == done.code == 0
    assert set(answer["seconds"]) == set(STEPS)


def test_a_version_is_uploaded_once_and_describes_its_form(kfp: Kfp, submit: Vqi, vqi: Vqi) -> None:
    printed = [submit().out.strip() for _ in range(2)]
    assert printed == list(kfp.runs)
    assert len(kfp.versions) == len(kfp.pipelines) == 1
    assert len(kfp.runs) == 2
    (version,) = kfp.versions.values()
    package = load_package()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*-[0-9a-f]{12}", version.name)
    # KFP's form calls a run "Run of" and this.
    assert version.display_name == f"train-category {version.name}"
    assert kfp.packages[version.pipeline_version_id] == package.text
    assert version.description == f"vqi {importlib.metadata.version('vqi')}, images of `vqi/*:0.1.0`"
    (pipeline,) = kfp.pipelines.values()
    assert pipeline.description == package.description()
    for name in ("data_source", "backbone_weights"):
        assert f"`{name}`" in pipeline.description.split("The rest has defaults")[0]
    assert "photographs" in pipeline.description
    assert "there already" in vqi("upload", "--host", kfp.host, "--pipeline", "train_category").out


@pytest.mark.parametrize("pipeline", PACKAGES)
def test_the_description_fits_into_kfp_s_card(pipeline: str) -> None:
    """The card of KFP 2.17 is 440 px wide and does not scroll; with 10 or 11 lines of 56 characters it was 588 px high
    in Chromium, and below 600 it fits a screen."""
    text = load_package(pipeline).description()
    blocks = [re.sub(r"[`*]|^- ", "", block.replace("\n", " ")) for block in re.split(r"\n\n|\n(?=- )", text)]
    assert sum(math.ceil(len(block) / 56) for block in blocks) <= 11
    # Names with underscores outside of backticks lose them, as Markdown's emphasis.
    assert "_" not in re.sub(r"`[^`]*`", "", text)


def test_private_images_go_to_a_pipeline_of_another_name(
    kfp: Kfp, submit: Vqi, vqi: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit().code == 0
    text = load_package().text
    private = Package(re.sub(r"(vqi/[a-z-]+):0\.1\.0", r"\1:try_1", text))
    assert private.pipeline == "train-category-try-1"
    monkeypatch.setattr(package_module, "load_package", lambda *arguments: private)
    done = submit()
    assert "train-category-try-1 " in done.err
    assert [pipeline.name for pipeline in kfp.pipelines.values()] == ["train-category", "train-category-try-1"]
    (version, other) = kfp.versions.values()
    assert version.pipeline_id != other.pipeline_id

    digest = f"@sha256:{'0' * 64}"
    assert Package(re.sub(r"(vqi/[a-z-]+):0\.1\.0", rf"\1{digest}", text)).pipeline == "train-category-digests"
    released = Package(re.sub(r"vqi/([a-z-]+):0\.1\.0", rf"ghcr.io/x/vqi/\1{digest}", text))
    assert released.pipeline == "train-category-ghcr-io-x-vqi"
    assert released.version_description().endswith("images of `ghcr.io/x/vqi/*:digests`")


def test_upload_makes_an_older_version_what_the_form_starts(
    kfp: Kfp, vqi: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = load_package()
    newer = Package(older.text.replace("defaultValue: 8", "defaultValue: 16"))
    upload = ("upload", "--host", kfp.host, "--pipeline", "train_category")
    for package, ends in [
        (older, f"{older.version}: uploaded"),
        (newer, f"{newer.version}: uploaded"),
        (older, f"{older.version}.2: uploaded"),
        (older, f"{older.version}.2: there already"),
        (newer, f"{newer.version}.2: uploaded"),
    ]:
        monkeypatch.setattr(package_module, "load_package", lambda *arguments, package=package: package)
        assert vqi(*upload).out.strip().partition(" http")[0].endswith(ends)
        # KFP's form takes the version that was made last.
        assert kfp.packages[list(kfp.versions)[-1]] == package.text
    assert len(kfp.versions) == 4


def test_a_version_that_somebody_uploads_meanwhile_is_used(
    kfp: Kfp, submit: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit().code == 0
    first = kfp.list_pipeline_versions
    calls = itertools.count()

    def late(query: dict, pipeline_id: str) -> object:
        return first(query, pipeline_id) if next(calls) else kfp_server_api.V2beta1ListPipelineVersionsResponse()

    routes = [(m, p, t, (lambda _, q, i: late(q, i)) if p.endswith("/versions") else h) for m, p, t, h in ROUTES]
    monkeypatch.setattr("kfp_server.ROUTES", routes)
    done = submit()
    assert done.code == 0, done.err
    assert len(kfp.versions) == 1
    assert len(kfp.runs) == 2


def test_pool_and_resources_are_parameters_of_the_run(kfp: Kfp, submit: Vqi) -> None:
    done = submit("--pool", "xeon", "--set", "resources={train: {cpu: 2}}")
    assert done.code == 0, done.err
    run = the_run(kfp)
    assert run.runtime_config.parameters["pool"] == "xeon"
    assert json.loads(run.runtime_config.parameters["resources"]) == {"train": {"cpu": "2"}}
    assert "-xeon-" in run.display_name


def test_a_value_the_package_does_not_allow() -> None:
    from vqi_pipelines.cluster.submitting import run_values

    package = load_package()
    narrow = type(package)(re.sub(r"\n +- gaudi\n", "\n", package.text))
    with pytest.raises(BadInput, match=r"pool is 'gaudi'\. Known: any, xeon\."):
        run_values(narrow, Category.parse({"pool": "gaudi"}))


# A bad network


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "closed", "lost"])
def test_a_flaky_server_gets_one_run(kfp: Kfp, submit: Vqi, fault: str) -> None:
    # Every third request, the first included: each kind of call is hit in one run or another.
    for start in range(3):
        kfp.faults = itertools.islice(itertools.cycle((fault, "", "")), start, None)
        done = submit("--wait")
        assert done.code == 0, done.err
    assert kfp.spoilt > 10
    assert len(kfp.runs) == 3
    assert len({run.display_name for run in kfp.runs.values()}) == 3
    assert len(kfp.pipelines) == len(kfp.versions) == len(kfp.experiments) == 1


def test_a_server_that_stays_away(kfp: Kfp, submit: Vqi) -> None:
    kfp.faults = itertools.repeat("503")
    done = submit()
    assert done.code == 1
    assert (
        done.err.splitlines()[-1]
        == f"vqi: {kfp.host} stays unavailable (status 503 8 times); try again when it is well."
    )


# What a person gets wrong


def test_a_wrong_host(vqi: Vqi) -> None:
    done = vqi("submit", "--category", "flange", "--set", f"data.source={SOURCE}", "--host", "http://127.0.0.1:9")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("vqi: No KFP server answers at http://127.0.0.1:9 after 8 attempts (")
    assert "check --host" in done.err


def test_a_host_that_is_no_name(vqi: Vqi) -> None:
    done = vqi("runs", "--host", "http://kfp.invalid")
    assert done.code == 2
    assert "There is no host 'kfp.invalid'" in done.err


def test_no_host_and_no_kubeconfig(vqi: Vqi) -> None:
    done = vqi("runs")
    assert done.code == 2
    assert "No KFP server is named" in done.err
    assert "port-forward" in done.err


def test_a_host_that_does_not_speak_tls(kfp: Kfp, vqi: Vqi) -> None:
    done = vqi("runs", "--host", kfp.host.replace("http://", "https://"))
    assert done.code == 2
    assert "does not speak TLS as asked" in done.err
    assert done.err.count("\n") == 1


def test_a_login_page_is_no_server(kfp: Kfp, submit: Vqi) -> None:
    kfp.page = "<html>Log in with Dex</html>"
    done = submit()
    assert done.code == 2
    assert "is not a KFP API server" in done.err
    assert "login page" in done.err


def test_an_old_server(kfp: Kfp, submit: Vqi) -> None:
    kfp.health = {}
    done = submit()
    assert done.code == 2
    assert "older KFP (2.x is needed)" in done.err
    kfp.health = {"tag_name": "3.0.0", "multi_user": False}
    done = submit()
    assert done.code == 2
    assert "is version 3.0.0; 2.x is needed" in done.err
    assert submit("--no-preflight").code == 0


def test_a_token_that_has_expired(kfp: Kfp, submit: Vqi, tmp_path: Path) -> None:
    kfp.token = "fresh"
    token = tmp_path / "token"
    token.write_text("stale\n")
    done = submit("--token-file", str(token))
    assert done.code == 2
    assert "the token is missing, has expired or is for another audience" in done.err
    assert not kfp.runs
    token.write_text("fresh\n")
    assert submit("--token-file", str(token)).code == 0
    done = submit("--token-file", str(tmp_path / "nowhere"))
    assert done.code == 2
    assert "nowhere, which does not exist" in done.err


def test_several_teams_need_a_namespace(kfp: Kfp, submit: Vqi) -> None:
    kfp.health = {"tag_name": "2.17.0", "multi_user": True}
    done = submit()
    assert done.code == 2
    assert "name yours with --namespace" in done.err
    assert submit("--namespace", "team-a").code == 0
    (made,) = kfp.experiments.values()
    assert made.namespace == "team-a"
    assert next(iter(kfp.pipelines.values())).namespace == "team-a"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--category", "flanje"], "Did you mean 'flange'?"),
        (
            ["--category", "flange"],
            "data.source is 'demo/parts', a path of a machine, which no pod of the cluster can read",
        ),
        (
            [
                "--category",
                "flange",
                "--set",
                f"data.source={SOURCE}",
                "--set",
                "backbone.name=resnet18",
                "--set",
                "backbone.weights=w.pth",
            ],
            "backbone.wei",
        ),
        (["--category", "flange", "--set", "data.source="], "data.source is empty"),
        (
            ["--category", "flange", "--set", f"data.source={SOURCE}/{{{{x}}}}"],
            "data_source holds '{{', which Kubeflow Pipelines does not hand on as it is",
        ),
        (["--category", "flange", "--pool", "moon"], "pool is 'moon'. Known: any, gaudi, xeon."),
    ],
)
def test_bad_input_starts_nothing(kfp: Kfp, vqi: Vqi, arguments: list[str], sentence: str) -> None:
    done = vqi("submit", *arguments, "--host", kfp.host)
    assert done.code == 2
    assert sentence in done.err
    assert not kfp.runs


def test_a_package_older_than_the_code(kfp: Kfp, submit: Vqi, tmp_path: Path) -> None:
    package = tmp_path / "train_category.yaml"
    package.write_text(load_package().text.replace("defaultValue: 8", "defaultValue: 16", 1))
    done = submit("--package", str(package))
    assert done.code == 2
    assert "is older than the code" in done.err
    package.write_text("- no package")
    assert "is not a compiled pipeline" in submit("--package", str(package)).err
    assert "cannot be read" in submit("--package", str(tmp_path / "nowhere.yaml")).err
    # The same pipeline for another registry is not other code.
    package.write_text(
        load_package()
        .text.replace("vqi/train:", "registry.example:5000/vqi/train:")
        .replace("vqi/ingest:", "registry.example/i/ingest:")
    )
    assert submit("--package", str(package)).code == 0
    made = list(kfp.versions.values())[-1]
    assert "`registry.example:5000/vqi/*:0.1.0`" in made.description
    # Of other images: not what everyone starts.
    assert kfp.pipelines[made.pipeline_id].name == "train-category-registry-example-i-registry-example-5000-vqi"


# How a run ends


@pytest.mark.parametrize(("status", "code"), [(1, 1), (2, 2), (3, 3)])
def test_the_exit_code_is_the_steps(kfp: Kfp, submit: Vqi, status: int, code: int) -> None:
    kfp.fails_at, kfp.final = "export", "FAILED"
    kfp.logs["export"] = failed_log("export", "the exported scores differ by 0.2\x1b[2J", status)
    done = submit("--wait", "--json")
    assert done.code == code
    answer = json.loads(done.out)
    assert answer["error"] == "export: the exported scores differ by 0.2\\x1b[2J"
    assert answer["exit_code"] == code
    assert answer["metrics"] == METRICS
    assert "vqi retry" in done.err


def test_a_run_whose_log_is_gone_still_fails(kfp: Kfp, submit: Vqi) -> None:
    kfp.fails_at, kfp.final = "train", "FAILED"
    done = submit("--wait")
    assert done.code == 1
    assert "train failed, and its log cannot be had any more" in done.err


def test_a_retried_run_goes_on(kfp: Kfp, submit: Vqi, vqi: Vqi) -> None:
    kfp.fails_at, kfp.final = "train", "FAILED"
    assert submit("--wait").code == 1
    run = the_run(kfp)
    done = vqi("retry", run.run_id, "--wait", "--host", kfp.host)
    assert done.code == 0, done.err
    assert len(kfp.runs) == 1
    done = vqi("retry", run.run_id, "--host", kfp.host)
    assert done.code == 2
    assert "only one that failed or was ended can be retried" in done.err


def test_a_server_that_is_restarted_meanwhile_is_waited_for(
    kfp: Kfp, submit: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count_requests() -> int:
        return sum(request.startswith("GET /apis/v2beta1/runs/") for request in kfp.requests)

    kfp.faults = ("503" if 2 < count_requests() < 30 else "" for _ in itertools.count())
    done = submit("--wait")
    assert done.code == 0, done.err
    assert kfp.spoilt > 20
    monkeypatch.setattr(following, "OUTAGE_SECONDS", 0.0)
    kfp.requests.clear()
    kfp.faults = ("503" if count_requests() > 2 else "" for _ in itertools.count())
    done = submit("--wait")
    assert done.code == 1
    assert "stays unavailable" in done.err
    assert "may go on; ask with `vqi runs" in done.err


def test_timeout_and_interrupt_leave_the_run_going(kfp: Kfp, submit: Vqi, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.finished = False
    done = submit("--wait", "--timeout", "0.1")
    assert done.code == 1
    assert "it goes on. Follow it with `vqi runs" in done.err
    assert the_run(kfp).state == "RUNNING"

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "time", SimpleNamespace(sleep=interrupted, monotonic=lambda: 0.0))
    done = submit("--wait")
    assert done.code == 130
    assert "goes on. Follow it with `vqi runs" in done.err
    assert not any(request.endswith(":terminate") for request in kfp.requests)


def test_a_cached_step_is_reported_and_has_no_log(kfp: Kfp, submit: Vqi, vqi: Vqi) -> None:
    kfp.cached = ("train",)
    done = submit("--wait")
    assert "  train: succeeded (from the cache)\n" in done.err
    assert "  build-index: succeeded in 7 s\n" in done.err
    done = vqi("logs", the_run(kfp).run_id, "train", "--host", kfp.host)
    assert done.code == 1
    assert "KFP had its result from an earlier run" in done.err


def test_terminate_ends_what_mlflow_has_of_the_run(
    kfp: Kfp, submit: Vqi, vqi: Vqi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.finished = False
    for _ in range(3):
        assert submit().code == 0
    first, second, third = kfp.runs
    assert "stay RUNNING for six hours or more" in vqi("terminate", first, "--host", kfp.host).err
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    left = open_run(uri, "vqi", "flange stfpm", origin_tags(second), "")
    assert left is not None
    done = vqi("terminate", second, "--host", kfp.host, "--tracking", uri)
    assert (done.code, done.err) == (0, "Ended in MLflow as KILLED: 1\n")
    assert left.client.get_run(left.run_id).info.status == "KILLED"
    # One that was ended in KFP's page.
    assert vqi("runs", first, "--host", kfp.host).code == 1
    done = vqi("terminate", first, "--host", kfp.host, "--tracking", uri)
    assert (done.code, done.out, done.err) == (0, "", "Ended in MLflow as KILLED: 0\n")
    # An address that cannot be one ends nothing.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlflow:5000")
    done = vqi("terminate", third, "--host", kfp.host)
    assert done.code == 2
    assert "MLFLOW_TRACKING_URI is 'mlflow:5000'; it must be" in done.err
    assert address_name() == "tracking.uri"
    assert not any(request.endswith(f"{third}:terminate") for request in kfp.requests)


def test_runs_logs_and_terminate(kfp: Kfp, submit: Vqi, vqi: Vqi) -> None:
    kfp.finished = False
    assert submit().code == submit().code == 0
    first, second = kfp.runs.values()
    listed = json.loads(vqi("runs", "--host", kfp.host, "--json").out)
    assert [row["run_id"] for row in listed] == [second.run_id, first.run_id]
    assert {row["category"] for row in listed} == {"flange"}
    assert json.loads(vqi("runs", "--host", kfp.host, "--category", "plate", "--json").out) == []
    assert "Did you mean 'failed'" in vqi("runs", "--host", kfp.host, "--state", "faild").err
    assert first.run_id in vqi("runs", "--host", kfp.host).out
    done = vqi("logs", "flange", "train", "--host", kfp.host)
    assert done.code == 2
    assert "2 runs begin with 'flange'" in done.err
    assert vqi("terminate", first.run_id, "--host", kfp.host).code == 0
    (row,) = [row for row in json.loads(vqi("runs", "--json", "--host", kfp.host).out) if row["run_id"] == first.run_id]
    assert row["state"] == "CANCELING"
    ended = vqi("runs", first.run_id, "--host", kfp.host)
    assert kfp.runs[first.run_id].state == "FAILED"
    assert ended.code == 1
    assert f"vqi: The run {first.run_id} was terminated." in ended.err
    assert f"{first.display_name}: canceled" in ended.out
    assert "there is nothing to end" in vqi("terminate", first.run_id, "--host", kfp.host).err
    done = vqi("runs", "0" * 8, "--host", kfp.host)
    assert done.code == 2
    assert "None of the last 200 runs" in done.err
    kfp.finished = True
    while kfp.get_run({}, second.run_id).state != "SUCCEEDED":
        pass
    assert "ExecutorOutput" in vqi("logs", second.run_id, "evaluate", "--host", kfp.host).out
    assert "Did you mean 'build-index'" in vqi("logs", second.run_id, "build_indx", "--host", kfp.host).err


def test_how_a_log_becomes_an_error() -> None:
    assert isinstance(logs.failure("build-index", failed_log("build_index", "no", 2)), BadInput)
    assert isinstance(logs.failure("export", failed_log("export", "no", 3)), GateRefused)
    killed = logs.failure(
        "train",
        "vqi is learning\nKilled\nF1121 20:00:01.0 18 main.go:59] failed to execute component: signal: killed\n",
    )
    assert isinstance(killed, RunFailed)
    assert str(killed) == "train failed: Killed"
    assert logs.metrics("nothing here") == {}
    assert logs.metrics("ExecutorOutput: {broken") == {}


@pytest.mark.parametrize(
    ("launcher", "sentence"),
    [
        (
            'failed to upload output artifact "dataset" to remote storage URI "minio://tiny/v2": uploadFile(): unable '
            "to complete copying: "
            "operation error S3: PutObject, https response error StatusCode: 400, api error "
            "XMinioAdminBucketQuotaExceeded: Bucket quota exceeded",
            "ingest did its work, but its artefact dataset could not be stored: XMinioAdminBucketQuotaExceeded: "
            "Bucket quota exceeded",
        ),
        (
            'failed to upload output artifact "dataset" to remote storage URI "minio://tiny/v2": dial tcp '
            "10.0.0.1:9000: connect: connection refused",
            "ingest did its work, but its artefact dataset could not be stored: connect: connection refused",
        ),
        (
            "rpc error: metadata store is gone",
            "ingest did its work, but KFP's launcher failed after it: rpc error: metadata store is gone",
        ),
    ],
)
def test_an_artefact_that_the_launcher_could_not_store_is_reported(launcher: str, sentence: str) -> None:
    log = "vqi ingest: 2.6 s, peak 58 MiB\nI1121 23:52:30.5 16 launcher_v2.go:206] publish success.\n"
    log += f"F1121 23:52:30.5 16 main.go:59] failed to execute component: {launcher}\n"
    error = logs.failure("ingest", log)
    assert isinstance(error, RunFailed)
    assert str(error) == f"{sentence}; when that is mended, `vqi retry` repeats this step and none before it."


# Schedules


def test_a_schedule_is_made_listed_paused_and_deleted(kfp: Kfp, vqi: Vqi) -> None:
    make = [
        "schedule",
        "--category",
        "flange",
        "--cron",
        "30 2 * * 1-5",
        "--set",
        f"data.source={SOURCE}",
        "--host",
        kfp.host,
    ]
    done = vqi(*make)
    assert done.code == 0, done.err
    (made,) = kfp.schedules.values()
    assert made.trigger.cron_schedule.cron == "0 30 2 * * 1-5"
    assert made.no_catchup
    assert set(made.runtime_config.parameters) == set(load_package().inputs)
    again = vqi(*make)
    assert again.code == 2
    assert "There is a schedule 'flange-patchcore' already" in again.err
    assert vqi("schedule", "--pause", "flange-patchcore", "--host", kfp.host).code == 0
    (row,) = json.loads(vqi("schedule", "--list", "--json", "--host", kfp.host).out)
    assert row["state"] == "disabled"
    assert vqi("schedule", "--resume", made.recurring_run_id, "--host", kfp.host).code == 0
    assert made.status == "ENABLED"
    done = vqi("schedule", "--delete", "flange-patchcor", "--host", kfp.host)
    assert done.code == 2
    assert "Did you mean 'flange-patchcore'?" in done.err
    going = kfp_server_api.V2beta1Run(
        run_id="r-1",
        display_name="r",
        state="RUNNING",
        created_at=datetime.now(UTC),
        recurring_run_id=made.recurring_run_id,
        experiment_id="e",
    )
    kfp.runs["r-1"] = going
    done = vqi("schedule", "--delete", "flange-patchcore", "--host", kfp.host)
    assert done.code == 2
    assert "The run r-1 that the schedule began goes on" in done.err
    going.state = "SUCCEEDED"
    assert vqi("schedule", "--delete", "flange-patchcore", "--host", kfp.host).code == 0
    assert not kfp.schedules


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("15 0 2 * * *", "15 0 2 * * *"),
        ("*/5 8-17 * jan-mar mon", "0 */5 8-17 * jan-mar mon"),
        ("@daily", "@daily"),
    ],
)
def test_cron_as_kfp_takes_it(written: str, taken: str) -> None:
    assert schedules.cron(written) == taken


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("nightly", "has 1 fields"),
        ("60 2 * * *", "the minute is '60'; it must be 0 to 59"),
        ("0 2 * * 7", "the day of the week is '7'; it must be 0 to 6"),
        ("*/0 2 * * *", "the step '0' of the minute"),
        ("0 9-5 * * *", "ends before it begins"),
        ("0 2 * foo *", "the month is 'foo'"),
    ],
)
def test_cron_that_kfp_would_refuse(written: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=re.escape(sentence)):
        schedules.cron(written)


# What the Kubernetes API tells


@pytest.fixture
def cluster(kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[kubernetes_server.Cluster]:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KF_PIPELINES_NAMESPACE", kubernetes_server.NAMESPACE)
    with kubernetes_server.serving(kubernetes_server.Cluster(kfp=kfp.host), tmp_path / "kubeconfig") as running:
        yield running


def test_without_a_host_the_kubeconfigs_cluster(kfp: Kfp, cluster: kubernetes_server.Cluster, vqi: Vqi) -> None:
    done = vqi("submit", "--category", "flange", "--set", f"data.source={SOURCE}", "--wait")
    assert done.code == 0, done.err
    assert the_run(kfp).state == "SUCCEEDED"
    assert "MLflow: http://mlflow:5000 (experiment vqi)" in done.out
    cluster.aliases.add("ml-pipeline")
    done = vqi("runs")
    assert done.code == 2
    assert "has no Service ml-pipeline in vqi or kubeflow" in done.err


def test_the_namespace_of_runs_is_where_their_account_is(
    cluster: kubernetes_server.Cluster, submit: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_NAMESPACE")
    cluster.config_maps.pop("kfp-launcher")
    assert "The namespace vqi has no ConfigMap kfp-launcher" in submit().err


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("secrets", "mlpipeline-minio-artifact", "has no Secret mlpipeline-minio-artifact"),
        ("secrets", "vqi-store", "has no Secret vqi-store (the steps read s3:// with it)"),
        ("serviceaccounts", "pipeline-runner", "has no service account pipeline-runner"),
        ("config_maps", "kfp-launcher", "has no ConfigMap kfp-launcher"),
        ("config_maps", "vqi-settings", "has no ConfigMap vqi-settings"),
        ("namespaces", "vqi", "There is no namespace 'vqi'"),
    ],
)
def test_what_the_namespace_lacks(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, kind: str, name: str, sentence: str
) -> None:
    held = cluster.config_maps if kind == "config_maps" else cluster.named[kind]
    held.pop(name) if isinstance(held, dict) else held.discard(name)
    done = submit()
    assert done.code == 2
    assert sentence in done.err
    assert not kfp.runs
    assert submit("--no-preflight").code == 0


def test_what_may_not_be_read_is_reported(kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi) -> None:
    cluster.forbidden = {"secrets", "nodes", "namespaces"}
    done = submit()
    assert done.code == 0, done.err
    assert "has the Secret vqi-store was not checked: the Kubernetes API says 403" in done.err
    assert "Whether a node takes the steps was not checked" in done.err


@pytest.mark.slow
def test_pools_and_their_nodes(cluster: kubernetes_server.Cluster, submit: Vqi) -> None:
    def refused(pool: str) -> str:
        done = submit("--pool", pool)
        assert done.code == 2
        return done.err

    node = kubernetes_server.node
    assert submit().code == submit("--pool", "xeon").code == 0
    assert "No ready node has the label vqi/pool=gaudi (pools of this cluster: xeon)" in refused("gaudi")
    cluster.nodes.append(node("gaudi1", "gaudi"))
    assert (
        "No node of the cluster can take train: 2 of 3 without the label vqi/pool=gaudi; 1 of 3 with less than 1 "
        "habana.ai/gaudi" in refused("gaudi")
    )
    cluster.nodes[-1] = node("gaudi1", "gaudi", gaudi=8)
    assert submit("--pool", "gaudi").code == 0
    cluster.nodes = [node("gaudi1", "gaudi", gaudi=8)]
    assert "can take configure: 1 of 1 kept for other steps by their labels" in refused("gaudi")
    cluster.nodes = [node("xeon1", "xeon", taint="vqi/pool"), node("other", taint="dedicated")]
    assert submit("--pool", "xeon").code == 0
    done = submit("--set", "resources={train: {memory: 1Ti}}")
    assert "can take train: 1 of 2 with less than 1Ti memory; 1 of 2 with the taint dedicated" in done.err
    cluster.nodes = [node("xeon1", "xeon", cordoned=True), node("xeon2", "xeon", ready=False)]
    assert "No node of the cluster takes pods" in refused("xeon")


def test_an_image_that_cannot_be_pulled(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.finished = False
    monkeypatch.setattr(following, "PULL_SECONDS", 0.0)
    original = Kfp.create_run

    def create(self: Kfp, query: dict, body: object) -> object:
        run = original(self, query, body)
        cluster.pods = [kubernetes_server.pod(run.run_id, "train", waiting="ImagePullBackOff")]
        return run

    routes = [(m, p, t, create if h is original else h) for m, p, t, h in ROUTES]
    monkeypatch.setattr("kfp_server.ROUTES", routes)
    done = submit("--wait", "--timeout", "60")
    assert done.code == 2
    assert "vqi: The image vqi/train:0.1.0 of step train cannot be had by its node (ImagePullBackOff)" in done.err
    assert "vqi terminate" in done.err


def test_a_pod_that_no_node_takes_is_reported_and_waited_for(cluster: kubernetes_server.Cluster) -> None:
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes

    cluster.pods = [
        kubernetes_server.pod("run-1", "train", unschedulable="0/2 nodes are available: 2 Insufficient memory.")
    ]
    reached = Kubernetes.reach()
    assert reached
    (pod,) = reached.pods("vqi", "run-1")
    assert pod.step == "train"
    assert pod.trouble == "No node takes step train yet (0/2 nodes are available: 2 Insufficient memory)."
    assert reached.pods("vqi", "run-2") == []


def test_logs_come_from_the_pod_first(kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi) -> None:
    assert submit("--wait").code == 0
    run = the_run(kfp)
    cluster.pods = [kubernetes_server.pod(run.run_id, "train")]
    cluster.logs["train-category-x-train"] = "epoch 1\x1b[2J\n"
    done = vqi("logs", run.run_id, "train", "--host", kfp.host)
    assert done.code == 0, done.err
    assert done.out == "epoch 1\\x1b[2J\n"


def test_a_run_that_goes_on_says_what_its_pods_wait_for(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi
) -> None:
    kfp.finished = False
    assert submit().code == 0
    run = the_run(kfp)
    cluster.pods = [
        kubernetes_server.pod(run.run_id, "train", waiting="ImagePullBackOff"),
        kubernetes_server.pod(run.run_id, "export", unschedulable="0/2 nodes are available"),
    ]
    done = vqi("runs", run.run_id, "--host", kfp.host)
    assert done.code == 2
    assert "vqi: The image vqi/train:0.1.0 of step train cannot be had by its node (ImagePullBackOff)" in done.err
    assert f"`vqi terminate {run.run_id}` ends it" in done.err
    assert "vqi retry" not in done.err
    assert "The image" not in done.out
    assert "  No node takes step export yet (0/2 nodes are available)." in done.out
    waiting = json.loads(vqi("runs", run.run_id, "--json", "--host", kfp.host).out)["waiting"]
    assert waiting[0].startswith("The image vqi/train:0.1.0 of step train")
    assert len(waiting) == 2
    del cluster.pods[0]
    assert vqi("runs", run.run_id, "--host", kfp.host).code == 0
    cluster.forbidden = {"pods"}
    assert json.loads(vqi("runs", run.run_id, "--json", "--host", kfp.host).out)["waiting"] == []


def fail_with_pods(kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, *pods: dict) -> str:
    """Run to an end that KFP calls FAILED while it names no step (a record that is too large), with such pods; the
    run's id."""
    kfp.final = "FAILED"
    assert submit("--wait").code == 1
    run = the_run(kfp)
    run.run_details = None
    cluster.pods = [kubernetes_server.pod(run.run_id, **values, made=made) for made, values in enumerate(pods)]
    return run.run_id


def test_a_trial_that_failed_is_found_by_the_labels_of_its_pods(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi
) -> None:
    run_id = fail_with_pods(
        kfp, cluster, submit,
        {"step": "train", "trial": 0, "exit_code": 1},
        {"step": "train", "trial": 1, "exit_code": 1},
        {"step": "train", "trial": 1, "exit_code": 1, "attempt": 1},
        {"step": "train", "trial": 0, "exit_code": 0, "attempt": 1},
        {"step": "build-index", "trial": 0, "exit_code": 0},
        {"step": "train", "trial": 2, "exit_code": 0},
    )  # fmt: skip
    cluster.logs = {
        "train-category-x-train-1-1": failed_log("train", "method.settings.steps is 0.", 2),
        "train-category-x-train-0-1": "vqi train: 6.3 s, peak 698 MiB\n",
        "train-category-x-train-2-0": "vqi train: 6.4 s, peak 698 MiB\n",
    }
    done = vqi("runs", run_id, "--host", kfp.host)
    assert done.code == 2
    assert "vqi: train (trial 2): method.settings.steps is 0.\n" in done.err
    done = vqi("logs", run_id, "train", "--host", kfp.host)
    assert done.code == 0, done.err
    assert "vqi train: method.settings.steps is 0." in done.out
    assert "train of trial 2 (failed, shown below): train-category-x-train-1-1" in done.err
    assert "train of trial 1 (succeeded): train-category-x-train-0-1" in done.err
    done = vqi("logs", run_id, "train-category-x-train-2-0", "--host", kfp.host)
    assert done.out == "vqi train: 6.4 s, peak 698 MiB\n"
    done = vqi("logs", run_id, "export", "--host", kfp.host)
    assert done.code == 2
    assert "No step of the run has begun yet." in done.err


@pytest.mark.parametrize(
    ("exit_code", "log"),
    [
        # The kernel kills all of the container: its log just ends.
        (137, "memory bank: about 5000 MiB of memory\n"),
        # It kills the step alone, as Kubernetes 1.34 with containerd 1.6 did: the launcher ends with 1.
        (1, f"memory bank: about 5000 MiB of memory\nKilled\n{failed_log('train', 'epoch 3', 137)}"),
    ],
)
def test_a_step_killed_for_memory_says_so_with_its_limit_and_the_key_that_raises_it(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi, exit_code: int, log: str
) -> None:
    run_id = fail_with_pods(
        kfp, cluster, submit, {"step": "build-index", "trial": 0, "exit_code": exit_code, "reason": "OOMKilled"}
    )
    cluster.logs["train-category-x-build-index-0-0"] = log
    done = vqi("runs", run_id, "--host", kfp.host)
    assert done.code == 1
    assert (
        "vqi: build-index (trial 1) ran out of memory and was killed (OOMKilled); it announced about 5000 MiB of its "
        "own: its limit is 4Gi; resources.build_index.memory of the category raises it.\n" in done.err
    )


def test_several_failures_are_all_named(kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi) -> None:
    pods = [{"step": "train", "trial": number, "exit_code": 1} for number in range(8)]
    run_id = fail_with_pods(kfp, cluster, submit, *pods)
    cluster.logs = {f"train-category-x-train-{n}-0": failed_log("train", f"reason {n}.", 1) for n in range(8)}
    err = vqi("runs", run_id, "--host", kfp.host).err
    assert "vqi: train (trial 1): reason 0.\n  train (trial 2): reason 1.\n" in err
    assert "  train (trial 6): reason 5.\n  2 more failed.\n" in err


def test_the_sentence_of_a_step_is_read_from_a_line_of_json_too() -> None:
    line = json.dumps({"time": "t", "level": "error", "step": "train", "message": "vqi train: no photographs."})
    log = f'{line}\n{{"not ours": 1}}\n{failed_log("x", "y", 2)}'
    error = logs.failure("train", log)
    assert (str(error), type(error)) == ("train: no photographs.", BadInput)


def test_the_error_of_a_composite_is_that_of_the_step_that_it_ran_last() -> None:
    before = "make_bundle: train begins, 1 of 4\nvqi train: 6.3 s, peak 698 MiB\nmake_bundle: evaluate begins, 3 of 4\n"
    error = logs.failure("make-bundle", before + failed_log("evaluate", "the test split is empty.", 2))
    assert (str(error), type(error)) == ("evaluate: the test split is empty.", BadInput)
    killed = logs.failure("make-bundle", f"{before}memory bank: about 900 MiB of memory\n{failed_log('x', 'y', 137)}")
    assert str(killed) == (
        "evaluate was killed (exit status 137), as happens where memory runs out; it announced about 900 MiB of its "
        "own: its limit is not known here; resources.evaluate.memory of the category raises it."
    )
    quiet = logs.failure("make-bundle", failed_log("train", "the loss is not finite.", 1))
    assert str(quiet) == "train: the loss is not finite."
    done = "make_bundle: export begins, 4 of 4\nvqi export: 6.3 s, peak 698 MiB\n"
    lost = "F1121 20:00:01.0 18 main.go:59] failed to execute component: rpc error: metadata store is gone\n"
    assert str(logs.failure("make-bundle", before + done + lost)).startswith(
        "make-bundle did its work, but KFP's launcher failed after it"
    )


def test_the_task_of_a_compact_run_is_found_by_any_of_its_steps(
    kfp: Kfp, cluster: kubernetes_server.Cluster, submit: Vqi, vqi: Vqi
) -> None:
    run_id = fail_with_pods(
        kfp, cluster, submit,
        {"step": "run-trial", "trial": 0, "exit_code": 0},
        {"step": "run-trial", "trial": 1, "exit_code": 1},
    )  # fmt: skip
    log = "run_trial: train begins, 4 of 7\n" + failed_log("train", "the loss is not finite.", 1)
    cluster.logs["train-category-x-run-trial-1-0"] = log
    done = vqi("runs", run_id, "--host", kfp.host)
    assert "vqi: train (trial 2): the loss is not finite.\n" in done.err
    assert "vqi train: the loss is not finite." in vqi("logs", run_id, "train", "--host", kfp.host).out


def test_submit_compact_starts_a_pipeline_of_its_own(kfp: Kfp, submit: Vqi) -> None:
    assert submit("--compact").code == 0
    (pipeline,) = kfp.pipelines.values()
    assert pipeline.name == "train-category-compact"
    assert set(the_run(kfp).runtime_config.parameters) == set(load_package("train_category_compact").inputs)
    refused = submit("--compact", "--set", "compute.shards=2")
    assert refused.code == 2
    assert "compute.shards is 2, and the compact form has one task for the index" in refused.err


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        # The run ended around it; the line that a step closes with is not an error.
        ("vqi train: 6.3 s, peak 698 MiB\n", "train did its work, and was ended after that."),
        # The kernel kills the step alone, and the launcher goes on.
        (failed_log("train", "epoch 3", 137), "train was killed (exit status 137), as happens where memory runs out"),
    ],
)
def test_a_step_that_has_no_sentence_of_its_own(log: str, sentence: str) -> None:
    assert str(logs.failure("train", log)).startswith(sentence)

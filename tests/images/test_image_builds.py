"""The images: what the table of steps, the Dockerfiles, the requirements and the compiled packages say of each
other."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vqi.placement import DEVICE_STEPS, STEP_TABLE
from vqi.steps.images import image
from vqi.storage.buckets import read_buckets

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "images"


def script(name: str) -> ModuleType:
    """images/NAME.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location(f"images_{name}", IMAGES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build, resolve = script("build"), script("resolve")
IMAGES_BY_NAME, VARIABLES = build.images(), build.variables({})
NAMES = sorted(IMAGES_BY_NAME)


def stages(dockerfile: str) -> dict[str, tuple[str, str]]:
    """The base and the text of each stage of a Dockerfile, by its name."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / dockerfile).read_text())
    matches = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: (base, body) for base, name, body in matches}


def chain(name: str) -> str:
    """The text of an image's stage and of every stage below it."""
    chosen = IMAGES_BY_NAME[name]
    known, stage, text = stages(chosen.dockerfile), chosen.target, ""
    while stage in known:
        stage, body = known[stage]
        stage = chosen.arguments["STAGE"] if stage == "${STAGE}" else stage
        text = body + text
    return text


def test_all_images_are_built_by_default_but_those_that_need_habanas():
    default, gaudi = ([image.name for image in build.chosen_images([group])] for group in ("default", "gaudi"))
    assert sorted([*default, *gaudi]) == NAMES
    assert all(name.endswith("-gaudi") for name in gaudi)
    assert not any(name.endswith("-gaudi") for name in default)


@pytest.mark.parametrize("step", STEP_TABLE, ids=lambda step: step.name)
def test_a_step_runs_in_an_image_of_the_stage_that_the_table_names(step):
    known = stages("images/Dockerfile")
    assert IMAGES_BY_NAME[step.image].arguments == {"STAGE": step.stage}
    assert step.stage in known
    assert step.device == (step.gaudi_stage in known)
    assert build.tag(IMAGES_BY_NAME[step.image], VARIABLES) == image(step.name)
    installed = {name for file in re.findall(r"-r /([a-z-]+)\.txt", chain(step.image)) for name in pins(file)}
    assert {*closure(step.extra)} - {"triton"} <= installed | {*pins("torch-cuda")}


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert VARIABLES["VERSION"] == project["version"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_number_and_is_labelled(name):
    text = chain(name)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    labels = re.findall(r"org\.opencontainers\.image\.(\w+)=", text)
    assert {"title", "description", "licenses", "version", "revision"} <= set(labels)


@pytest.mark.parametrize("name", NAMES)
def test_build_arguments_are_declared_where_they_are_handed_over(name):
    chosen = IMAGES_BY_NAME[name]
    declared = set(re.findall(r"^ARG (\w+)", (ROOT / chosen.dockerfile).read_text(), re.MULTILINE))
    assert set(build.build_arguments(chosen, VARIABLES)) <= declared


@pytest.mark.parametrize("dockerfile", ["images/Dockerfile", "images/minio.Dockerfile"])
def test_bases_are_build_arguments_or_stages(dockerfile):
    known = stages(dockerfile)
    outside = {base for base, _ in known.values() if base not in known}
    assert outside <= {"${BASE_IMAGE}", "${GAUDI_BASE_IMAGE}", "${GO_IMAGE}", "${STAGE}", "scratch"}


def test_nothing_is_called_latest():
    for path in [*IMAGES.glob("*Dockerfile"), IMAGES / "build.py", *(ROOT / "pipelines" / "compiled").glob("*.yaml")]:
        assert not re.search(r":latest\b|@latest\b", path.read_text()), path


def test_bases_that_can_be_pulled_by_anybody_are_named_by_digest():
    for name in ("BASE_IMAGE", "GO_IMAGE"):
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", VARIABLES[name])


def test_every_image_of_the_compiled_packages_is_built():
    tags = {build.tag(each, VARIABLES) for each in IMAGES_BY_NAME.values()}
    for path in (ROOT / "pipelines" / "compiled").glob("*.yaml"):
        # Those that executors name, and those that `configure` gets and tasks read at run time.
        named = set(re.findall(r"\bvqi/[a-z-]+:[\w.-]+", path.read_text()))
        assert named, path
        assert named <= tags, path


@pytest.mark.parametrize("step", DEVICE_STEPS)
def test_steps_that_touch_the_device_have_a_variant_for_gaudi(step):
    assert image(step, "gaudi") in {build.tag(each, VARIABLES) for each in IMAGES_BY_NAME.values()}


def pins(stage: str) -> dict[str, str]:
    lines = (IMAGES / "requirements" / f"{stage}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines)


def closure(extra: str) -> Iterator[str]:
    """The names of all that an extra of pyproject.toml installs, by what the installed packages say of themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(text) for text in [*project["dependencies"], *extras[extra]]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "vqi":
            waiting += [Requirement(text) for wanted in requirement.extras for text in extras[wanted]]
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.marker and not requirement.marker.evaluate()) or (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            yield name
            try:
                needed = [Requirement(text) for text in requires(name) or []]
            except PackageNotFoundError:  # a client of the MLflow server's image alone
                continue
            waiting += [
                Requirement(str(r).split(";")[0])
                for r in needed
                if r.marker is None or r.marker.evaluate({"extra": wanted})
            ]


def test_requirements_are_the_pins_of_the_constraints():
    known = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    files = {path.stem for path in (IMAGES / "requirements").glob("*.txt")}
    assert files == {*resolve.EXTRAS, "torch", "torch-cuda"}
    for stage in files:
        assert {name: known[name] for name in pins(stage)} == pins(stage), f"{stage}: `make pins` writes it again"


@pytest.mark.parametrize("stage", sorted(resolve.EXTRAS))
def test_a_stage_installs_all_that_its_extra_needs_and_nothing_else(stage):
    torch = {*pins("torch"), *pins("torch-cuda"), "triton"}
    assert set(pins(stage)) == {*closure(resolve.EXTRAS[stage])} - torch | set(resolve.ALONE.get(stage, ())), (
        "`make pins` writes it again"
    )


@pytest.mark.parametrize("name", ["ingest", "check-dataset", "predict", "compare", "mlflow"])
def test_images_that_need_no_torch_have_none(name):
    assert "torch" not in re.findall(r"-r /([a-z-]+)\.txt", chain(name))
    assert not {"torch", "torchvision", "triton"} & {
        name for stage in ("data", "predict", "compare", "mlflow") for name in pins(stage)
    }


@pytest.mark.parametrize("name", [each.name for each in build.chosen_images(["gaudi"])])
def test_nothing_replaces_habanas_torch(name):
    installed = re.findall(r"-r /(?:tmp/)?([a-z-]+)\.txt", chain(name))
    assert installed
    assert not {"torch", "torch-cuda"} & set(installed)
    assert "--system-site-packages" in chain(name)


def fake_docker(folder: Path, buildx: bool) -> Path:
    program = folder / "docker"
    program.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "buildx version" ] && exit {0 if buildx else 1}\necho "$@" >> {folder}/calls\n'
    )
    program.chmod(0o755)
    return program


def test_without_buildx_the_targets_are_built_one_by_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER", str(fake_docker(tmp_path, buildx=False)))
    monkeypatch.setenv("PIP_CONF", "/somewhere/pip.conf")
    monkeypatch.setenv("TORCH_INDEX", "https://index.example/cpu")
    assert build.main(["train", "gaudi"]) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    names = [re.search(r" -t vqi/([a-z-]+):", call)[1] for call in calls]
    assert names == ["train", "train-gaudi", "build-index-gaudi", "evaluate-gaudi", "export-gaudi"]
    assert "--build-arg STAGE=measuring" in calls[0]
    assert "--build-arg STAGE=gaudi-measuring" in calls[1]
    assert f"-t {image('train')} " in calls[0]
    assert "--build-arg TORCH_INDEX=https://index.example/cpu" in calls[0]
    assert "--secret id=pip,src=/somewhere/pip.conf" in calls[0]
    assert capsys.readouterr().out.split()[0] == image("train")


def test_with_buildx_the_same_images_are_handed_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER", str(fake_docker(tmp_path, buildx=True)))
    assert build.main([]) == 0
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert re.fullmatch(r"buildx bake -f \S+\.json --load", call)
    assert build.main(["--print", "default"]) == 0
    targets = json.loads(capsys.readouterr().out)["target"]
    assert list(targets) == [each.name for each in build.chosen_images(["default"])]
    assert targets["export"]["args"]["STAGE"] == "exporting"
    assert targets["export"]["tags"] == [image("export")]


def test_an_image_that_does_not_exist_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER", str(fake_docker(tmp_path, buildx=True)))
    assert build.main(["trian"]) == 2
    assert "'trian' is not an image" in capsys.readouterr().err


COMPOSE = yaml.safe_load((IMAGES / "compose.yaml").read_text())


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_laptops_service_is_one_of_our_images_and_as_confined_as_in_a_cluster(name):
    service = COMPOSE["services"][name]
    image_name, version = re.fullmatch(
        r"\$\{VQI_IMAGES:-vqi\}/([a-z-]+):\$\{VQI_IMAGE_TAG:-([^}]+)\}", service["image"]
    ).groups()
    assert image_name in NAMES
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert service["pull_policy"] == "never"
    assert service["user"] == "1000:1000"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_laptops_service_is_open_to_itself_alone_and_knows_no_default_key(name):
    service = COMPOSE["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    keys = {
        variable: value
        for variable, value in service["environment"].items()
        if re.search("KEY|PASSWORD|USER$", variable)
    }
    assert len(keys) == 2
    assert all(re.fullmatch(r"\$\{AWS_[A-Z_]+:\?.+\}", value) for value in keys.values())


def test_a_laptops_buckets_are_those_its_services_and_docs_name():
    buckets = {bucket.name for bucket in read_buckets(IMAGES / "compose-buckets.yaml")}
    assert buckets == {"mlflow", "vqi"}
    assert COMPOSE["services"]["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://mlflow/")

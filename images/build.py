"""Builds the images: by `docker buildx bake`, or where Docker has no buildx one after the other by `docker build` with
the same arguments.

The images of the steps come from the table of steps (`vqi.placement`). `make images` runs this; the names that follow
are images or groups of them. Variables are taken from the environment (images/README.md). `--print` writes the
definition for bake as JSON to standard output and builds nothing. It needs Python 3.11 and Docker alone, no installed
package.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "components"))

from vqi.placement import STEP_TABLE  # noqa: E402  the package need not be installed

# Bases are named by digest as well, so that a build can be repeated. Habana publishes one image a release of its
# software; its tag names release and build.
VARIABLES = {
    "BASE_IMAGE": "python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b",
    "GAUDI_BASE_IMAGE": "vault.habana.ai/gaudi-docker/1.24.0/ubuntu24.04/habanalabs/"
    "pytorch-installer-2.10.0:1.24.0-1007",
    "GO_IMAGE": "golang:1.26-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d",
    "TORCH_INDEX": "",
    "GOPROXY": "",
    "PIP_CONF": "",
    "VQI_IMAGES": "vqi",
    "VERSION": "",
    "REVISION": "",
}
OURS = ("BASE_IMAGE", "GAUDI_BASE_IMAGE", "TORCH_INDEX", "VERSION", "REVISION")
PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class Image:
    """An image: the target in a Dockerfile that it is, and the build arguments that it takes beside the variables of
    its Dockerfile.

    `group` is what it is built with: servers, xeon or gaudi.
    """

    name: str
    group: str
    target: str
    dockerfile: str = "images/Dockerfile"
    variables: tuple[str, ...] = OURS
    arguments: Mapping[str, str] = field(default_factory=dict)


def images() -> dict[str, Image]:
    """Every image by its name: the servers, `predict`, `serve`, `watch`, and those that steps run in, as the table of
    steps names them."""
    servers = [
        Image("minio", "servers", "minio", "images/minio.Dockerfile", ("GO_IMAGE", "GOPROXY", "VERSION", "REVISION")),
        Image("mlflow", "servers", "mlflow"),
    ]
    steps = [Image(step.image, "xeon", "step", arguments={"STAGE": step.stage}) for step in STEP_TABLE]
    predict = Image("predict", "xeon", "predict", arguments={"STAGE": "predicting"})
    serve = Image("serve", "xeon", "serve", arguments={"STAGE": "serving"})
    watch = Image("watch", "xeon", "watch", arguments={"STAGE": "watching"})
    gaudi = [
        Image(f"{step.image}-gaudi", "gaudi", "step", arguments={"STAGE": step.gaudi_stage})
        for step in STEP_TABLE
        if step.device
    ]
    return {image.name: image for image in [*servers, *steps, predict, serve, watch, *gaudi]}


GROUPS = {"default": ("servers", "xeon"), "servers": ("servers",), "xeon": ("xeon",), "gaudi": ("gaudi",)}


def chosen_images(names: Iterable[str]) -> list[Image]:
    """The images of names and of groups, each once, in order. Raises KeyError for a name that is neither."""
    known = images()
    chosen: dict[str, Image] = {}
    for name in names:
        members = (
            [image for image in known.values() if image.group in GROUPS[name]] if name in GROUPS else [known[name]]
        )
        chosen.update({image.name: image for image in members})
    return list(chosen.values())


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of a build: the environment's, else the image names that compiled packages ask for, and the
    revision of the code."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, text=True, capture_output=True
    )
    defaults = {
        **VARIABLES,
        "VERSION": environment.get("VQI_IMAGE_TAG") or version,
        "REVISION": described.stdout.strip(),
    }
    return {name: environment.get(name) or value for name, value in defaults.items()}


def tag(image: Image, values: Mapping[str, str]) -> str:
    """The name and tag of an image."""
    return f"{values['VQI_IMAGES']}/{image.name}:{values['VERSION']}"


def build_arguments(image: Image, values: Mapping[str, str]) -> dict[str, str]:
    """The build arguments of an image."""
    return {**{name: values[name] for name in image.variables}, **image.arguments}


def bake_definition(chosen: Iterable[Image], values: Mapping[str, str]) -> dict[str, Any]:
    """What `docker buildx bake` builds the images by."""
    targets = {
        image.name: {
            "context": ".",
            "dockerfile": image.dockerfile,
            "target": image.target,
            "platforms": [PLATFORM],
            "tags": [tag(image, values)],
            "args": build_arguments(image, values),
            "secret": [f"type=file,id=pip,src={values['PIP_CONF']}"] if values["PIP_CONF"] else [],
        }
        for image in chosen
    }
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def build_one_by_one(chosen: Iterable[Image], values: Mapping[str, str], docker: list[str], options: list[str]) -> int:
    """Build the images by `docker build`, in order; returns the exit status of the first that fails, else 0."""
    secret = ["--secret", f"id=pip,src={values['PIP_CONF']}"] if values["PIP_CONF"] else []
    for image in chosen:
        arguments = [
            part
            for name, value in build_arguments(image, values).items()
            for part in ("--build-arg", f"{name}={value}")
        ]
        what = ["-f", image.dockerfile, "--target", image.target, "-t", tag(image, values)]
        command = [*docker, "build", "--quiet", *what, *arguments, *secret, *options, "."]
        code = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, stdout=subprocess.DEVNULL
        ).returncode
        if code:
            return code
        print(tag(image, values), flush=True)
    return 0


def main(names: list[str]) -> int:
    only_print = "--print" in names
    values = variables()
    try:
        chosen = chosen_images([name for name in names if name != "--print"] or ["default"])
    except KeyError as error:
        print(f"make images: {error} is not an image; there are {', '.join([*GROUPS, *images()])}.", file=sys.stderr)
        return 2
    definition = json.dumps(bake_definition(chosen, values), indent=2)
    if only_print:
        print(definition)
        return 0
    docker, options = (
        shlex.split(os.environ.get("DOCKER") or "docker"),
        shlex.split(os.environ.get("BUILD_OPTIONS", "")),
    )
    if subprocess.run([*docker, "buildx", "version"], capture_output=True).returncode:
        return build_one_by_one(chosen, values, docker, options)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(definition)
        file.flush()
        return subprocess.run([*docker, "buildx", "bake", "-f", file.name, "--load", *options], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

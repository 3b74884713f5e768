"""Builds the targets of docker-bake.hcl: by `docker buildx bake`, or where Docker has no buildx one after the other by `docker build`.

`make images` runs it. The names that follow are targets or groups; variables of the bake file are taken from the environment in both cases.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BAKE_FILE = ROOT / "images" / "docker-bake.hcl"
BLOCK = re.compile(r'^(variable|group|target) "([^"]+)" \{([^\n]*)\}$|^(variable|group|target) "([^"]+)" \{\n(.*?)^\}$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Target:
    """What `docker build` is told of one target."""

    name: str
    dockerfile: str
    stage: str
    tag: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class BakeFile:
    """As much of a bake file as ours says: plain variables, groups, targets that inherit one other."""

    variables: dict[str, str]
    groups: dict[str, list[str]]
    targets: dict[str, Target]

    def chosen(self, names: Iterable[str]) -> list[Target]:
        """The targets of names and of groups, each once, in order. Raises KeyError for a name that is neither."""
        found: dict[str, Target] = {}
        for name in names:
            members = self.chosen(self.groups[name]) if name in self.groups else [self.targets[name]]
            found.update({target.name: target for target in members})
        return list(found.values())


def read_bake_file(path: Path = BAKE_FILE, environment: Mapping[str, str] = os.environ) -> BakeFile:
    """The bake file with the variables that the environment sets."""
    variables: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    bodies: dict[str, str] = {}
    for match in BLOCK.finditer(path.read_text()):
        kind, name, body = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], match[6])
        if kind == "variable":
            variables[name] = environment.get(name) or _text(body, "default")
        elif kind == "group":
            groups[name] = re.findall(r'"([^"]+)"', body)
        else:
            bodies[name] = body

    def filled(text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], text)

    targets = {}
    for name, body in bodies.items():
        inherited = re.search(r'inherits\s*=\s*\["([^"]+)"\]', body)
        whole = bodies[inherited[1]] + body if inherited else body
        tag = re.search(r'tags\s*=\s*\["([^"]+)"\]', body)
        if tag:  # a target without a tag is there to be inherited
            block = re.search(r"args = \{(.*?)\}", whole, re.DOTALL)
            arguments = dict(re.findall(r"(\w+)\s*=\s*(\w+)", block[1] if block else ""))
            arguments = {argument: variables[variable] for argument, variable in arguments.items()}
            targets[name] = Target(name, _text(whole, "dockerfile"), _text(body, "target"), filled(tag[1]), arguments)
    return BakeFile(variables, groups, targets)


def _text(body: str, key: str) -> str:
    match = re.search(rf'\b{key}\s*=\s*"([^"]*)"', body)
    if not match:
        raise ValueError(f"{BAKE_FILE.name}: no {key} in {body.strip()!r}")
    return match[1]


def environment() -> dict[str, str]:
    """The environment of a build: image names as compiled packages ask for them, and the revision of the code."""
    from vqi.steps.images import image

    name, _, tag = image("train").rpartition(":")
    git = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, text=True, capture_output=True)
    given = {"VQI_IMAGES": name.rpartition("/")[0], "VERSION": tag, "REVISION": git.stdout.strip()}
    return {**given, **{key: value for key, value in os.environ.items() if value or key not in given}}


def main(names: list[str]) -> int:
    known = environment()
    bake = read_bake_file(environment=known)
    docker = shlex.split(known.get("DOCKER") or "docker")
    options = shlex.split(known.get("BUILD_OPTIONS", ""))
    try:
        targets = bake.chosen(names or ["default"])
    except KeyError as error:
        print(f"make images: {error} is no target of images/docker-bake.hcl; it has {', '.join([*bake.groups, *bake.targets])}.", file=sys.stderr)
        return 2
    if subprocess.run([*docker, "buildx", "version"], capture_output=True).returncode == 0:
        command = [*docker, "buildx", "bake", "-f", str(BAKE_FILE.relative_to(ROOT)), "--load", *options]
        return subprocess.run([*command, *(target.name for target in targets)], cwd=ROOT, env=known).returncode
    secret = ["--secret", f"id=pip,src={bake.variables['PIP_CONF']}"] if bake.variables["PIP_CONF"] else []
    for target in targets:
        arguments = [part for name, value in target.arguments.items() for part in ("--build-arg", f"{name}={value}")]
        what = ["-f", target.dockerfile, "--target", target.stage, "-t", target.tag]
        command = [*docker, "build", "--quiet", *what, *arguments, *secret, *options, "."]
        code = subprocess.run(command, cwd=ROOT, env={**known, "DOCKER_BUILDKIT": "1"}, stdout=subprocess.DEVNULL).returncode
        if code:
            return code
        print(target.tag, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

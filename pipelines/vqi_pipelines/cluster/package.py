"""A compiled package as it is uploaded: fresh or refused, named by its content, described for the person at the
form."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from vqi.placement import STEP_TABLE
from vqi.platform.errors import BadInput, closest
from vqi_pipelines.compiling import PACKAGES, package_text

# `registry/path/STEP:TAG` or `STEP@DIGEST`, which say where a package runs and not what it does; those of placed steps
# are in a task's JSON.
_STEPS = "|".join(sorted({step.image for step in STEP_TABLE} | {"predict"}))
IMAGE = re.compile(rf"[\w.:/-]+/(?:{_STEPS})(?:-gaudi)?(?::[\w.-]+|@sha256:[0-9a-f]{{64}})")


@dataclass(frozen=True)
class Package:
    """A compiled pipeline."""

    text: str

    @cached_property
    def spec(self) -> dict[str, Any]:
        return next(iter(yaml.safe_load_all(self.text)))

    @property
    def pipeline(self) -> str:
        """The pipeline's name on the server: one of its own for images other than those of the version.

        The newest version of a pipeline is what KFP's form starts: a version for trying something out must not become
        what everyone starts.
        """
        return "-".join([str(self.spec["pipelineInfo"]["name"]), *self._private_images()])

    @property
    def version(self) -> str:
        """The name of this version: the same content is the same version wherever it is uploaded from."""
        return f"{version('vqi')}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """The pipeline's parameters: name to type, default and choices as KFP's specification has them."""
        return self.spec["root"].get("inputDefinitions", {}).get("parameters", {})

    @property
    def steps(self) -> list[str]:
        """The tasks at the root, as the run's graph names them."""
        return list(self.spec["root"]["dag"]["tasks"])

    @property
    def images(self) -> list[str]:
        """Every image that a step of the package may run in."""
        return sorted(set(IMAGE.findall(json.dumps(self.spec))))

    def default(self, name: str) -> Any:
        """The default of a parameter, as its type writes it: the compiler makes a float of every
        number."""
        value = self.inputs[name].get("defaultValue", "")
        return int(value) if self.inputs[name]["parameterType"] == "NUMBER_INTEGER" and value != "" else value

    def choices(self, name: str) -> list[str]:
        """What a parameter may be where it is a choice; empty where it is free."""
        return [str(value) for value in self.inputs.get(name, {}).get("literals", [])]

    def description(self) -> str:
        """Markdown of the pipeline: what must be filled in, and what to look at. KFP's form shows it in a card that
        does not scroll."""
        return str(self.spec["pipelineInfo"].get("description", "")).strip()

    def version_description(self) -> str:
        """One line of Markdown on the version: where its images come from."""
        origins = dict.fromkeys(_origin(image) for image in self.images)
        return f"vqi {version('vqi')}, images of {', '.join(f'`{origin}`' for origin in origins)}"

    def _private_images(self) -> list[str]:
        """What tells the package's images from those of the version, as words of a name; empty where nothing does."""
        parts = [image.partition("@")[0].rpartition("/") for image in self.images]
        registries = sorted({registry for registry, _, _ in parts} - {"vqi"})
        tags = sorted({name.partition(":")[2] for _, _, name in parts} - {"", version("vqi")})
        digests = any("@" in image for image in self.images)
        # Of a registry the digests are those of its versions: its packages stay one pipeline.
        words = [*registries, *tags] or (["digests"] if digests else [])
        return [name for word in words if (name := re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-"))]


def load_package(pipeline: str = "train_category", file: Path | None = None) -> Package:
    """The package of a pipeline: the file named, else the one of the checkout, else compiled now (so always where
    VQI_IMAGES names a registry).

    Raises BadInput for a file that is missing, is not a package, or is older than the code.
    """
    if pipeline not in PACKAGES:
        raise BadInput(f"There is no pipeline {pipeline!r}.{closest(pipeline, list(PACKAGES))}")
    current = _compile(pipeline)
    chosen = any(os.environ.get(name) for name in ("VQI_IMAGES", "VQI_IMAGE_TAG", "VQI_IMAGE_DIGESTS"))
    if file is None and not chosen:
        file = next((path for folder in _compiled_folders() if (path := folder / f"{pipeline}.yaml").is_file()), None)
    if file is None:
        return Package(current)
    try:
        text = Path(file).read_text(encoding="utf-8")
        package = Package(text)
        package.pipeline, package.steps, package.images  # noqa: B018 each raises where the file is not a package
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"The package {file} cannot be read ({getattr(error, 'strerror', None) or 'not text'}); `vqi compile` "
            "writes it."
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise BadInput(f"{file} is not a compiled pipeline; `vqi compile` writes one.") from error
    if package.spec["pipelineInfo"]["name"] != (name := Package(current).spec["pipelineInfo"]["name"]):
        raise BadInput(f"The package {file} is of {package.spec['pipelineInfo']['name']}, and this starts {name}.")
    if text != current and _without_images(text) != _without_images(current):
        raise BadInput(f"The package {file} is older than the code, or was edited; run `vqi compile` and submit again.")
    if chosen and text != current:
        raise BadInput(
            f"The package {file} names other images than VQI_IMAGES and VQI_IMAGE_TAG do; run `vqi compile` with them "
            "set."
        )
    return package


@cache
def _compile(pipeline: str) -> str:
    """Compiled once a process: it takes a second, and images are named when the steps are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return package_text(pipeline)


def _without_images(text: str) -> str:
    # As values: a longer name of an image wraps the lines of YAML elsewhere.
    return IMAGE.sub("", json.dumps(list(yaml.safe_load_all(text)), sort_keys=True))


def _compiled_folders() -> list[Path]:
    return [Path("pipelines/compiled"), Path(__file__).resolve().parents[2] / "compiled"]


def _origin(image: str) -> str:
    """Registry, path and tag of an image without the step; `digests` in place of one."""
    registry, _, name = image.partition("@")[0].rpartition("/")
    return f"{registry}/*:{name.partition(':')[2] or 'digests'}"

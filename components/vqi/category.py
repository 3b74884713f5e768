"""One product category's configuration: what a factory edits, strict when parsed.

The same object is a YAML file in the catalog (nested sections) and the parameters of a pipeline run (flat scalars,
`data.source` becoming `data_source`): KFP's form shows flat scalars well and everything else badly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from vqi.dataset.geometry import Geometry
from vqi.dataset.splits import resolve_labelled_fraction
from vqi.detectors.settings import BackboneSettings, local_paths, method_names, parse_settings, settings_class
from vqi.placement import POOLS, Pool, StepPlacement, parse_resources, placements
from vqi.platform.devices import DEVICES, PRECISIONS, Compute, Precision
from vqi.platform.errors import BadInput, closest
from vqi.training.settings import TrainSettings, check_training_precision

Layout = Literal["auto", "mvtec", "folders"]


def _numbers(value: Any) -> Any:
    """`256`, `"256,256"`, `"256x256"`, `"[256, 256]"` and lists are the same list of numbers; "" and null are none."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        parts = [part for part in re.split(r"[\s,;x\[\]()]+", value.strip()) if part]
        try:
            value = [float(part) for part in parts]
        except ValueError:
            return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = [value[0], value[0]]
    if isinstance(value, (list, tuple)):
        return tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in value)
    return value


def _names(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[\s,]+", value.strip("[] ")) if part)
    return value


def _fraction(value: Any) -> Any:
    return None if value in (None, "", "auto") else value


Size = Annotated[tuple[int, int], BeforeValidator(_numbers)]
OptionalSize = Annotated[tuple[int, int] | None, BeforeValidator(_numbers)]
Region = Annotated[tuple[int, int, int, int] | None, BeforeValidator(_numbers)]
Triple = Annotated[tuple[float, float, float] | None, BeforeValidator(_numbers)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    source: str = Field("", description="folder, tar or zip file, or s3://bucket/prefix")
    layout: Layout = Field("auto", description="how the source is laid out")
    mask_suffix: str = Field("_mask", max_length=64, description="what a mask's file name adds to its image's")
    group: str = Field(
        "",
        max_length=200,
        description="regular expression found in the paths of photographs of one part, such as a serial number: what "
        "its first bracket "
        "(or all of it) matches is the part; photographs of one part never stand on both sides of a sample split",
    )
    skip_damaged: int = Field(
        0,
        ge=0,
        le=100_000,
        description="damaged photographs (or with a damaged mask) that may be left out, and are named; more stop the "
        "run",
    )
    calibration_fraction: Annotated[float | None, BeforeValidator(_fraction)] = Field(
        None,
        ge=0,
        le=0.9,
        description="share of normals held out for the threshold; 0 = k-fold refits; auto = 0.2 where that suffices "
        "for the rate asked for, else 0",
    )
    labelled_fraction: Annotated[float | None, BeforeValidator(_fraction)] = Field(
        None,
        ge=0,
        le=0.9,
        description="share of the test images that supervised methods learn from instead; auto = 0.8 for these, else 0",
    )

    @field_validator("group")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from error
        return value


class Image(_Section):
    size: Size = Field((256, 256), description="height, width the photograph is resized to")
    white_level: Annotated[int | None, BeforeValidator(_fraction)] = Field(
        None,
        ge=1,
        le=65535,
        description="the value of white in files with more than 8 bits a channel, such as 4095 of a 12-bit camera; "
        "auto = from the normals",
    )
    max_megapixels: int = Field(
        100, ge=1, le=10_000, description="a larger photograph is refused: a header may promise any size"
    )
    crop: OptionalSize = Field(None, description="height, width of the centre crop after resizing")
    region: Region = Field(None, description="x1, y1, x2, y2 in original pixels, cut out first")


class Backbone(_Section):
    name: str = Field("resnet18", description="a torchvision model, or filterbank (no weights needed)")
    weights: str = Field("imagenet", description="imagenet, a file, s3://..., or random (tests only)")
    sha256: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$", description="of the weights file; checked where given")
    layers: Names = Field((), description="node names; empty = the method's own default")
    mean: Triple = Field(None, description="normalisation the weights were trained with; empty = ImageNet's")
    std: Triple = Field(None, description="likewise")

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not all(math.isfinite(v) and v > 0 for v in value):
            raise ValueError("must be three numbers above 0")
        return value


class Method(_Section):
    name: str = Field("patchcore", description="the detector")
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own settings")


class Train(_Section):
    max_steps: int = Field(0, ge=0, description="optimiser steps; 0 = no limit")
    max_epochs: int = Field(
        0, ge=0, description="passes over the images; 0 = no limit; without either the method's own budget holds"
    )
    max_seconds: float = Field(0.0, ge=0, description="wall time; 0 = no limit")
    batch_size: int = Field(
        0, ge=-1, le=4096, description="images a step; 0 = the method's own, -1 = the largest that fits"
    )
    checkpoints: str = Field("", description="folder or s3://bucket/prefix that an interrupted training resumes from")
    patience: int = Field(
        0, ge=0, description="epochs without a better loss on held-out normals before training stops; 0 = no early stop"
    )
    processes: int = Field(1, ge=1, le=1024, description="processes that train together, one a device")


class Threshold(_Section):
    false_reject_rate: float = Field(0.01, gt=0, lt=1, description="share of good parts that may be rejected")


class ComputeSection(_Section):
    device: str = Field("auto", description="auto, cpu, cuda, xpu or hpu")
    precision: str = Field("float32", description="of the network's forward pass")
    batch_size: int = Field(8, ge=1, le=4096, description="images a batch")


class Tracking(_Section):
    uri: str = Field("", description="MLflow address; empty = MLFLOW_TRACKING_URI, or none")
    experiment: str = Field("vqi", min_length=1, max_length=200, description="MLflow experiment")
    comparison: str = Field(
        "",
        pattern=r"^([A-Za-z0-9]{1,64}/[A-Za-z0-9]{1,16})?$",
        description="RUN/TRIAL: the MLflow run that this one is a trial of; train_all sets it",
    )


class Export(_Section):
    tolerance: float = Field(
        1e-3, gt=0, le=1, description="largest relative deviation of exported scores that passes the parity gate"
    )


class Category(_Section):
    """A product category. `parse` and `from_parameters` check all of it, method settings and geometry included."""

    name: str = Field(
        "category", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="letters, digits, '.', '_' and '-'"
    )
    data: Data = Data()
    image: Image = Image()
    backbone: Backbone = Backbone()
    method: Method = Method()
    train: Train = Train()
    threshold: Threshold = Threshold()
    compute: ComputeSection = ComputeSection()
    tracking: Tracking = Tracking()
    export: Export = Export()
    seed: int = Field(
        0, ge=0, lt=2**31, description="of every random choice: the same data, seed and machine give the same scores"
    )
    pool: Pool = Field(
        "any",
        description="nodes of a cluster that train, build_index and evaluate run on; a local run takes the device "
        "from it alone",
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description="step -> {cpu, memory, hugepages} in a cluster, such as {train: {cpu: 8, memory: 16Gi}}",
    )

    @staticmethod
    def parse(value: Any, where: str = "The category") -> Category:
        """A category from nested plain values. Raises BadInput with one sentence: the key, what is wrong, and a near
        match."""
        if not isinstance(value, Mapping):
            raise BadInput(f"{where} must be a mapping of keys such as name, data and method.")
        try:
            category = Category.model_validate(value)
        except ValidationError as error:
            raise BadInput(f"{where}: {_sentence(error)}") from error
        category.check()
        return category

    @staticmethod
    def from_parameters(parameters: Mapping[str, Any]) -> Category:
        """A category from a pipeline's flat parameters (the inverse of `parameters`)."""
        nested: dict[str, Any] = {}
        for name, value in parameters.items():
            section, _, key = name.partition("_")
            if name in _JSON:
                try:
                    value = json.loads(value or "{}")
                except ValueError as error:
                    raise BadInput(
                        f"{name} is {value!r}, which is not JSON ({error}); write it as {_JSON[name]}."
                    ) from error
            if name in TOP:
                nested[name] = value
            else:
                nested.setdefault(section, {})[key] = value
        return Category.parse(nested, "The parameters of this run")

    def parameters(self) -> dict[str, str | int | float]:
        """The flat parameters of a run, every one of them, so that a run can be cloned."""
        flat: dict[str, str | int | float] = {key: _scalar(getattr(self, key)) for key in TOP}
        flat["resources"] = _scalar(parse_resources(self.resources))
        for section, value in self:
            if isinstance(value, _Section):
                flat.update({f"{section}_{key}": _scalar(item) for key, item in value})
        for key in ("calibration_fraction", "labelled_fraction"):
            flat[f"data_{key}"] = "auto" if (fraction := getattr(self.data, key)) is None else str(fraction)
        flat["image_white_level"] = "auto" if self.image.white_level is None else str(self.image.white_level)
        return dict(sorted(flat.items()))

    def check(self) -> None:
        """What no single field can say: the method's settings, the geometry, device and precision."""
        parse_settings(self.method.name, self.method.settings)
        if self.data.layout not in get_args(Layout):
            raise BadInput(f"data.layout is {self.data.layout!r}.{closest(self.data.layout, list(get_args(Layout)))}")
        # Each raises where it cannot be made.
        for composed in (
            "geometry",
            "placement",
            "backbone_settings",
            "labelled_fraction",
            "training",
            "step_placements",
        ):
            getattr(self, composed)
        if settings_class(self.method.name).budget:
            check_training_precision(self.method.name, self.compute.precision, self.step_placements["train"].device)

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.image.size, self.image.crop, self.image.region)

    @property
    def placement(self) -> Compute:
        return Compute(self.compute.device, cast(Precision, self.compute.precision), self.compute.batch_size)

    @property
    def step_placements(self) -> dict[str, StepPlacement]:
        """What each step is given in a cluster, by its name."""
        return placements(self.pool, self.resources, self.compute.device, self.training.processes)

    @property
    def training(self) -> TrainSettings:
        return TrainSettings(
            **{**dict(self.train), "processes": max(self.train.processes, len(self.placement.devices))}
        )

    @property
    def backbone_settings(self) -> BackboneSettings:
        defaults = {item.name: item.default for item in fields(BackboneSettings)}
        values = {key: value for key, value in self.backbone if value is not None}
        return BackboneSettings(**{**defaults, **values})

    @property
    def labelled_fraction(self) -> float:
        """The share of the source's test photographs that the method learns from."""
        return resolve_labelled_fraction(self.data.labelled_fraction, settings_class(self.method.name).supervised)

    @property
    def trains(self) -> bool:
        """Whether the method learns by gradient."""
        return settings_class(self.method.name).budget is not None

    @property
    def intake(self) -> dict[str, Any]:
        """The arguments of `ingest`, but for where the Dataset goes."""
        return {
            "name": self.name,
            "source": self.data.source,
            "layout": self.data.layout,
            "mask_suffix": self.data.mask_suffix,
            "calibration_fraction": self.data.calibration_fraction,
            "labelled_fraction": self.labelled_fraction,
            "seed": self.seed,
            "group": self.data.group,
            "white_level": self.image.white_level,
            "max_megapixels": self.image.max_megapixels,
            "skip_damaged": self.data.skip_damaged,
            "false_reject_rate": self.threshold.false_reject_rate,
            "trains": self.trains,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The method's settings, defaults filled in."""
        return parse_settings(self.method.name, self.method.settings).model_dump()

    @property
    def method_paths(self) -> dict[str, str]:
        """The settings of the method that name a file or folder of this machine."""
        return local_paths(self.method.name, self.method.settings)


def choices() -> dict[str, list[str]]:
    """The parameters that a form should offer as a drop-down, and what it offers."""
    return {
        "data_layout": list(get_args(Layout)),
        "method_name": method_names(),
        "compute_device": list(DEVICES),
        "compute_precision": list(PRECISIONS),
        "pool": list(POOLS),
    }


def keys() -> list[str]:
    """Every key of a category as `--set` and the catalog name it."""
    names = [*TOP]
    for section, field in Category.model_fields.items():
        if isinstance(field.default, _Section):
            names += [f"{section}.{key}" for key in type(field.default).model_fields]
    return names


# The keys that stand in no section; a parameter of a run is named as they are.
TOP = ("name", "pool", "resources", "seed")
# Parameters that are JSON as a string: KFP's form and its run page show a mapping badly.
_JSON = {"method_settings": '{"coreset_ratio": 0.01}', "resources": '{"train": {"cpu": "4", "memory": "8Gi"}}'}

_SHAPES = {
    "image.size": "two whole numbers, height and width in pixels, such as 256,256",
    "image.crop": "two whole numbers, height and width in pixels, such as 224,224, or empty",
    "image.region": "four whole numbers, x1,y1,x2,y2 in pixels of the original image, or empty",
    "backbone.mean": "three numbers, such as 0.5,0.5,0.5, or empty",
    "backbone.std": "three numbers, such as 0.5,0.5,0.5, or empty",
    "name": "letters, digits, '.', '_' and '-', at most 63, and begin with a letter or digit",
}


def _scalar(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value)
    return value


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        siblings = [key.rpartition(".")[2] for key in keys() if key.rpartition(".")[0] == ".".join(path[:-1])]
        if len(path) == 1:
            siblings = [*sorted(Category.model_fields)]
        return f"{where} is not a key here.{closest(path[-1], siblings)}"
    value = first.get("input")
    if first["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", str(first["ctx"]["expected"]))
        return f"{where} is {value!r}.{closest(str(value), known)}"
    shape = _SHAPES.get(".".join(path[:2]))
    if shape and first["type"] not in ("value_error",):
        return f"{'.'.join(path[:2])} must be {shape}."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where} is {value!r}: {'it ' if message.startswith('should') else ''}{message[0].lower()}{message[1:]}."

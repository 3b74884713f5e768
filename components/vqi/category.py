"""One product category's configuration: what a factory edits, strict when parsed.

A category composes the sections that the rooms own (`vqi.dataset.settings`, `vqi.training.settings` ...). The same
object is a YAML file in the catalog (nested sections) and the parameters of a pipeline run (flat scalars, `data.source`
becoming `data_source`): KFP's form shows flat scalars well and everything else badly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from vqi.dataset.geometry import Geometry
from vqi.dataset.layouts import check_layout
from vqi.dataset.settings import DataSettings, ImageSettings, PixelSettings
from vqi.dataset.splits import resolve_labelled_fraction
from vqi.deployment.exports import check_formats
from vqi.deployment.settings import ExportSettings
from vqi.detectors.settings import BackboneSettings, local_paths, method_names, parse_settings, settings_class
from vqi.evaluation.settings import EvaluationSettings, ThresholdSettings
from vqi.placement import Pool, StepPlacement, parse_resources, placements
from vqi.platform.devices import DEVICES, Compute
from vqi.platform.errors import BadInput
from vqi.platform.settings import Settings, choices_of, extra_of, sentence, shorten, type_of
from vqi.registry.settings import PromoteSettings
from vqi.tracking.settings import TrackingSettings
from vqi.training.settings import TrainSettings, check_nodes, check_training_precision


class MethodSection(Settings):
    """The section `method`: the detector, and its own settings (`vqi.detectors.settings`)."""

    name: str = Field("patchcore", description="the detector")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="the method's own settings",
        json_schema_extra={"example": '{"coreset_ratio": 0.01}'},
    )


class Category(Settings):
    """A product category. `parse` and `from_parameters` check all of it, method settings and placement included."""

    name: str = Field(
        "category",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="letters, digits, '.', '_' and '-'",
        json_schema_extra={
            "shape": "letters, digits, '.', '_' and '-', at most 63, and begin with a letter or digit",
        },
    )
    data: DataSettings = DataSettings()
    image: ImageSettings = ImageSettings()
    backbone: BackboneSettings = BackboneSettings()
    method: MethodSection = MethodSection()
    train: TrainSettings = TrainSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    compute: Compute = Compute()
    tracking: TrackingSettings = TrackingSettings()
    export: ExportSettings = ExportSettings()
    promote: PromoteSettings = PromoteSettings()
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="of every random choice: the same data, seed and machine give the same scores",
    )
    pool: Pool = Field(
        "any",
        description="nodes of a cluster that train, build_index and evaluate run on; a local run takes the device "
        "from it alone",
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description="step -> {cpu, memory, hugepages} in a cluster, such as {train: {cpu: 8, memory: 16Gi}}",
        json_schema_extra={"example": '{"train": {"cpu": "4", "memory": "8Gi"}}'},
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
            raise BadInput(f"{where}: {sentence(error, Category)}") from error
        category.check()
        return category

    @staticmethod
    def from_parameters(parameters: Mapping[str, Any]) -> Category:
        """A category from a pipeline's flat parameters (the inverse of `parameters`)."""
        nested: dict[str, Any] = {}
        known = fields()
        for name, value in parameters.items():
            section, _, key = name.partition("_")
            field = known.get(name if name in Category.model_fields else f"{section}.{key}")
            example = extra_of(field, "example") if field else None
            if example:  # a mapping is JSON: KFP's form and its run page show one badly
                try:
                    value = json.loads(value or "{}")
                except (ValueError, TypeError, RecursionError) as error:
                    raise BadInput(
                        f"{name} is {shorten(value)}, which is not JSON ({error}); write it as {example}."
                    ) from error
            if name in Category.model_fields:
                nested[name] = value
            else:
                nested.setdefault(section, {})[key] = value
        return Category.parse(nested, "The parameters of this run")

    def parameters(self) -> dict[str, str | int | float]:
        """The flat parameters of a run, every one of them, so that a run can be cloned; sorted by name."""
        values = {}
        for key, field in fields().items():
            section, _, name = key.rpartition(".")
            value = getattr(getattr(self, section) if section else self, name)
            values[key.replace(".", "_")] = _scalar(parse_resources(value) if key == "resources" else value, field)
        return dict(sorted(values.items()))

    def check(self) -> None:
        """What no single section can say: the method's settings, its labels, device and precision, placement. Raises
        BadInput."""
        parse_settings(self.method.name, self.method.settings)
        check_layout(self.data.layout)
        check_formats(self.export.formats)
        resolve_labelled_fraction(self.data.labelled_fraction, settings_class(self.method.name).supervised)
        if self.compute.shards > 1 and not settings_class(self.method.name).fits_in_parts:
            raise BadInput(
                f"compute.shards is {self.compute.shards}, but {self.method.name} computes its index in one task; "
                "leave compute.shards at 1."
            )
        if self.compute.shards > 1 and self.promote.step == "yes":
            raise BadInput(
                f"compute.shards is {self.compute.shards}, and the pipeline that ends with promote has one task for "
                "the index; leave compute.shards at 1, or promote.step at no and run vqi promote afterwards."
            )
        check_nodes(self.method.name, self.training, settings_class(self.method.name).budget)
        device = self.step_placements["train"].device
        if self.trains:
            check_training_precision(self.method.name, self.compute.precision, device)

    @property
    def geometry(self) -> Geometry:
        """What the network sees of a photograph."""
        return Geometry(**{name: getattr(self.image, name) for name in Geometry.model_fields})

    @property
    def pixels(self) -> PixelSettings:
        """How a file becomes pixels."""
        return PixelSettings(**{name: getattr(self.image, name) for name in PixelSettings.model_fields})

    @property
    def training(self) -> TrainSettings:
        """The section `train`, with a process for each device that is named."""
        return self.train.model_copy(update={"processes": max(self.train.processes, len(self.compute.devices))})

    @property
    def step_placements(self) -> dict[str, StepPlacement]:
        """What each step gets in a cluster, by its name."""
        training = self.training
        return placements(self.pool, self.resources, self.compute.device, training.processes, training.nodes)

    @property
    def training_node(self) -> StepPlacement:
        """What each of several nodes gets that train together."""
        return placements(self.pool, self.resources, self.compute.device, self.training.processes)["train"]

    @property
    def device_compute(self) -> Compute:
        """`compute` on the device that the pool has: what train, build_index and evaluate run on. The shards are the
        index's alone: their number must not be a part of every step's cache key."""
        return self.compute.model_copy(update={"device": self.step_placements["train"].device, "shards": 1})

    @property
    def index_compute(self) -> Compute:
        """What the steps run on that compute the index."""
        return self.device_compute.model_copy(update={"shards": self.compute.shards})

    @property
    def resolved_labelled_fraction(self) -> float:
        """The share of the source's test photographs that the method learns from."""
        return resolve_labelled_fraction(self.data.labelled_fraction, settings_class(self.method.name).supervised)

    @property
    def trains(self) -> bool:
        """Whether the method learns by gradient."""
        return settings_class(self.method.name).budget is not None

    @property
    def reads_weights(self) -> bool:
        """Whether the method reads the weights of a pretrained network."""
        return settings_class(self.method.name).uses_backbone and self.backbone.name != "filterbank"

    @property
    def method_settings(self) -> dict[str, Any]:
        """The method's settings, defaults filled in."""
        return parse_settings(self.method.name, self.method.settings).model_dump()

    @property
    def method_paths(self) -> dict[str, str]:
        """The settings of the method that name a file or folder of the machine they are read on."""
        return local_paths(self.method.name, self.method.settings)


def fields() -> dict[str, FieldInfo]:
    """Every key of a category as `--set` and the catalog name it, with what it takes."""
    named: dict[str, FieldInfo] = {}
    for name, field in Category.model_fields.items():
        kind = type_of(field)
        if isinstance(kind, type) and issubclass(kind, Settings):
            named |= {f"{name}.{key}": item for key, item in kind.model_fields.items()}
        else:
            named[name] = field
    return named


# What Argo takes for a template or Kubernetes for a variable, what YAML and JSON cannot hold, and what MySQL's utf8
# cannot: runs with one of them hang, or hold something else than was typed.
_UNSAFE = re.compile("\\{\\{|\\$\\(|[\\x00-\\x08\\x0b-\\x1f\\x7f]|[\\U00010000-\\U0010ffff]")


def check_texts(parameters: Mapping[str, Any]) -> None:
    """Raises BadInput for the first parameter whose text a cluster would change or choke on."""
    for name, value in parameters.items():
        unsafe = _UNSAFE.search(value) if isinstance(value, str) else None
        if unsafe:
            raise BadInput(
                f"{name} holds {unsafe[0]!r}, which Kubeflow Pipelines does not hand on as it is; write it otherwise."
            )


def choices() -> dict[str, list[str]]:
    """The parameters that a form should offer as a drop-down, and what it offers."""
    return {
        **{key.replace(".", "_"): list(allowed) for key, field in fields().items() if (allowed := choices_of(field))},
        "method_name": method_names(),
        "compute_device": list(DEVICES),
    }


def _scalar(value: Any, field: FieldInfo) -> str | int | float:
    if value is None:
        return str(extra_of(field, "none") or "")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value)
    return value if type_of(field) in (int, float) and extra_of(field, "none") is None else str(value)

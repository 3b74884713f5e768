"""The table of steps, and what each gets in a cluster: the one module that knows node pools, accelerators and default
resources.

A new step is a row of STEP_TABLE, a folder of `vqi.steps`, a task of the DAG and its docs: images, placement, retries,
checks and help texts come from the row.

An administrator labels nodes `vqi/pool=xeon` or `vqi/pool=gaudi` (docs/placement.md). Only train, build_index and
evaluate touch the device; the other steps stay away from Gaudi nodes whatever the pool. Nothing here knows KFP: the
step `configure` hands these values to the tasks of a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, get_args

from vqi.platform.errors import BadInput, closest

Pool = Literal["any", "xeon", "gaudi"]
POOLS: tuple[Pool, ...] = get_args(Pool)
POOL_LABEL = "vqi/pool"
GAUDI = "habana.ai/gaudi"
HUGEPAGES = "hugepages-2Mi"


@dataclass(frozen=True)
class Step:
    """A step of a DAG, as everything outside its own folder knows it.

    `image` is the image that it runs in, `stage` the stage of images/Dockerfile that this image is made from, and
    `extra` the extra of pyproject.toml that the stage installs. A step with `loads_torch` gets shared memory. One with
    `device` follows the pool and has a second image, made from `gaudi_stage`. `configurable` steps can be given
    resources in the catalog. `of_category` tells the steps of one category's DAG from those of a comparison, and from
    those that do the work of another step in parts, or in another form: `part_of` names it, and they have its folder,
    its settings and what it gets. `runs` are the steps that a composite runs in its one task, one after the other; what
    it gets stands in an output of the step `placed_by`. An `optional` step runs where a category asks for it. A failed
    pod is tried again `retries` times, the first time
    after `first_pause`.
    """

    name: str
    image: str
    stage: str
    extra: str
    cpu_request: str
    cpu: str
    memory: str
    loads_torch: bool = False
    device: bool = False
    gaudi_stage: str = ""
    configurable: bool = True
    of_category: bool = True
    part_of: str = ""
    runs: tuple[str, ...] = ()
    placed_by: str = "configure"
    optional: bool = False
    retries: int = 3
    first_pause: str = "30s"

    @property
    def settings_of(self) -> str:
        """The step whose settings and placement it takes: its own, or those of the step that it does a part of."""
        return self.part_of or self.name

    @property
    def face(self) -> str:
        """The module that holds its KFP face, a function of its name."""
        return f"vqi.steps.{self.settings_of}.component"

    @property
    def placement_output(self) -> str:
        """The output of `placed_by` that holds what the step gets; "" for one that gets the same in every run."""
        return f"{self.settings_of}_placement" if self.runs or self.settings_of in CONFIGURABLE else ""


# Small requests, so that a laptop's cluster can run a category, and limits with room for photographs of some
# megapixels. A slip in the form ends the first step: where failures are retried it should still be reported within
# seconds.
_DATA: dict[str, Any] = {"cpu_request": "250m", "cpu": "2", "memory": "2Gi"}
_TORCH: dict[str, Any] = {"cpu_request": "500m", "cpu": "4", "memory": "4Gi", "loads_torch": True}
_FIRST: dict[str, Any] = {"configurable": False, "retries": 1, "first_pause": "5s"}
_INDEX: dict[str, Any] = {**_TORCH, "device": True, "gaudi_stage": "gaudi"}
_PART: dict[str, Any] = {**_INDEX, "configurable": False, "of_category": False, "part_of": "build_index"}
_COMPOSITE: dict[str, Any] = {"configurable": False, "of_category": False}
_EXPORTING: dict[str, Any] = {**_INDEX, **_COMPOSITE, "gaudi_stage": "gaudi-exporting"}
_PLAN: dict[str, Any] = {"of_category": False, **_FIRST}
_PREPARED = ("ingest", "check_dataset")
_MADE = ("train", "build_index", "evaluate", "export")
STEP_TABLE = (
    Step("configure", "ingest", "data", "ingest", "100m", "1", "512Mi", **_FIRST),
    Step("ingest", "ingest", "data", "ingest", **_DATA),
    Step("check_dataset", "check-dataset", "data", "check-dataset", **_DATA),
    # Training logs its curves to MLflow as it goes, so its image has all that evaluate has; the layers are the same
    # ones.
    Step("train", "train", "measuring", "train", **_TORCH, device=True, gaudi_stage="gaudi-measuring"),
    Step("build_index", "build-index", "neighbours", "build-index", **_INDEX),
    # In its place where compute.shards is above 1: one task a shard of the normals, and one after them.
    Step("index_part", "build-index", "neighbours", "build-index", **_PART),
    Step("merge_parts", "build-index", "neighbours", "build-index", **_PART),
    Step("evaluate", "evaluate", "measuring", "evaluate", **_TORCH, device=True, gaudi_stage="gaudi-measuring"),
    Step("export", "export", "exporting", "export", **_TORCH),
    # In the pipeline train-category-promote, after export.
    Step("promote", "export", "exporting", "export", "500m", "2", "4Gi", of_category=False, optional=True, **_FIRST),
    # The compact form: several steps in one task. Its own quantities are the largest of theirs.
    Step("prepare", "ingest", "data", "check-dataset", **_DATA, **_COMPOSITE, runs=_PREPARED),
    Step("make_bundle", "export", "exporting", "export", **_EXPORTING, runs=_MADE),
    Step(
        "run_trial",
        "export",
        "exporting",
        "export",
        **_EXPORTING,
        runs=("configure", *_PREPARED, *_MADE),
        placed_by="plan_compact_trials",
    ),
    Step("plan_trials", "compare", "comparing", "compare", "250m", "1", "1Gi", **_PLAN),
    Step("plan_compact_trials", "compare", "comparing", "compare", "250m", "1", "1Gi", part_of="plan_trials", **_PLAN),
    Step("compare", "compare", "comparing", "compare", "250m", "1", "1Gi", of_category=False, configurable=False),
)
STEP_BY_NAME = {step.name: step for step in STEP_TABLE}
STEPS = tuple(step.name for step in STEP_TABLE if step.of_category)
PARTS = tuple(step.name for step in STEP_TABLE if step.part_of == "build_index")
# Those that report what they did in one category's DAG, whatever its shards and its form.
ALL_STEPS = tuple(step.name for step in STEP_TABLE if step.of_category or step.optional or step.name in PARTS)
# The tasks of one category's compact form, after configure.
COMPACT_STEPS = tuple(step.name for step in STEP_TABLE if step.runs and step.placed_by == "configure")
# Those that are given images and nodes of their own.
DEVICE_STEPS = tuple(step.name for step in STEP_TABLE if step.device and not step.part_of and not step.runs)
TORCH_STEPS = tuple(step.name for step in STEP_TABLE if step.loads_torch)
CONFIGURABLE = tuple(step.name for step in STEP_TABLE if step.configurable)

_KEYS = ("cpu", "memory", "hugepages")
_CPU = re.compile(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?")
_BYTES = re.compile(r"([0-9]+)(|k|M|G|T|Ki|Mi|Gi|Ti)")
_FACTORS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kMGT", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)},
}
_MIB = 2**20


@dataclass(frozen=True)
class StepPlacement:
    """What one step is given.

    Memory is both request and limit: a pod that stays below its request is the last that a node evicts. `cpu_request`
    is what must be free, `cpu` the limit that threads follow. `accelerator` is one extended resource (KFP requests one
    a task), "" for none, and `accelerators` how much of it. `variant` names the image: "" the step's own, "gaudi" the
    one on Habana's PyTorch. `device` is what `compute.device` becomes.
    """

    cpu_request: str
    cpu: str
    memory: str
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, str], ...] = ()
    node_affinity: dict[str, Any] = field(default_factory=dict)
    accelerator: str = ""
    accelerators: str = "0"
    variant: str = ""
    device: str = "cpu"


def _toleration(pool: Pool) -> dict[str, str]:
    return {"key": POOL_LABEL, "operator": "Equal", "value": pool, "effect": "NoSchedule"}


_NOT_GAUDI = {"matchExpressions": [{"key": POOL_LABEL, "operator": "NotIn", "values": ["gaudi"]}]}
# A node without the label matches NotIn too, so this needs no labels in a cluster without Gaudi.
AWAY_FROM_GAUDI = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_NOT_GAUDI]}}
RATHER_NOT_GAUDI = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": _NOT_GAUDI}]}
# Nodes that are kept for this work by a taint.
XEON_TOLERATIONS = (_toleration("xeon"),)
GAUDI_TOLERATIONS = (_toleration("gaudi"), {"key": GAUDI, "operator": "Exists", "effect": "NoSchedule"})

# What a step gets that waits for pods of its own.
_WAITING: dict[str, Any] = {"cpu_request": "100m", "cpu": "1", "memory": "2Gi", "accelerator": "", "accelerators": "0"}

# A Gaudi server has 8 cards beside some 150 cores and a terabyte: a card's work is not to wait for its host.
_GAUDI_HOST: dict[str, Any] = {"cpu_request": "4", "cpu": "12", "memory": "32Gi"}


def placements(
    pool: str = "any",
    resources: Mapping[str, Any] | None = None,
    device: str = "auto",
    processes: int = 1,
    nodes: int = 1,
) -> dict[str, StepPlacement]:
    """The placement of every step, by its name.

    `resources` maps a step to {cpu, memory, hugepages}, which override the defaults. `device` is `compute.device` and
    must suit the pool. `processes` train together, a card each. Where `nodes` above 1 train together, the step train
    makes their pods and waits: it needs neither a card nor what `resources` name, which its nodes get. Raises BadInput
    with one sentence for anything that is wrong.
    """
    if pool not in POOLS:
        raise BadInput(f"pool is {pool!r}.{closest(str(pool), list(POOLS))}")
    overrides = parse_resources(resources or {})
    device, gaudi = _device(pool, device)
    by_step = {step: _default(STEP_BY_NAME[step]) for step in STEPS}
    for step in DEVICE_STEPS:
        if gaudi:
            cards = str(max(1, processes)) if step == "train" else "1"
            by_step[step] = StepPlacement(
                **_GAUDI_HOST,
                node_selector={POOL_LABEL: "gaudi"},
                tolerations=GAUDI_TOLERATIONS,
                accelerator=GAUDI,
                accelerators=cards,
                variant="gaudi",
                device=device,
            )
        elif pool == "xeon":
            by_step[step] = replace(
                by_step[step], node_selector={POOL_LABEL: "xeon"}, tolerations=XEON_TOLERATIONS, device=device
            )
        else:
            by_step[step] = replace(
                by_step[step], tolerations=XEON_TOLERATIONS, node_affinity=RATHER_NOT_GAUDI, device=device
            )
    by_step = {step: _override(step, placement, overrides.get(step, {})) for step, placement in by_step.items()}
    if nodes > 1:
        by_step["train"] = replace(by_step["train"], **_WAITING)
    return by_step


def composite_placement(composite: str, by_step: Mapping[str, StepPlacement]) -> StepPlacement:
    """What a composite gets, from what the steps that it runs would get alone: the nodes of those that touch the
    device, and of each quantity the largest."""
    row = STEP_BY_NAME[composite]
    placed = [by_step[step] if step in by_step else placement_of(step) for step in row.runs]
    nodes = [by_step[step] for step in row.runs if STEP_BY_NAME[step].device] or placed[-1:]
    # With huge pages for one of them alone, the others can use them too.
    nodes.sort(key=lambda placement: not placement.accelerator)
    return _with_largest(nodes[0], placed)


def composite_placements(by_step: Mapping[str, StepPlacement], composites: Sequence[str]) -> dict[str, StepPlacement]:
    """The placement of each of the composites, by its name."""
    return {name: composite_placement(name, by_step) for name in composites}


def placement_fields(step: str, placement: StepPlacement, images: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What a task's container reads of its placement, by the names that its inputs have in the compiled package. A
    package that has no task of the step names no images of it."""
    fields = {"cpu_request": placement.cpu_request, "cpu": placement.cpu, "memory": placement.memory}
    if STEP_BY_NAME[step].device:
        fields |= {
            "image": images.get(step, {}).get(placement.variant, ""),
            "accelerator": placement.accelerator,
            "accelerators": placement.accelerators,
        }
    return fields


def shared_placement(of_trials: Mapping[str, StepPlacement]) -> StepPlacement:
    """What every trial of a loop gets, from what each would get alone, by what a person knows it by: of each quantity
    the largest. Raises BadInput where they need different nodes: KFP takes none from an item of a loop."""
    (first, shared), *others = of_trials.items()
    for name, other in others:
        if _nodes(other) != _nodes(shared):
            raise BadInput(
                f"The trials {first} and {name} need different nodes ({_pool(shared)} and {_pool(other)}), and all of "
                "a compact comparison run on the same; compare them in two, or ask for the full form."
            )
    return _with_largest(shared, list(of_trials.values()))


def _with_largest(placement: StepPlacement, all_of_them: Sequence[StepPlacement]) -> StepPlacement:
    same = [other for other in all_of_them if other.accelerator == placement.accelerator]
    amount = (lambda text: _size("", text)[1]) if placement.accelerator == HUGEPAGES else int
    return replace(
        placement,
        cpu_request=max((other.cpu_request for other in all_of_them), key=_cores),
        cpu=max((other.cpu for other in all_of_them), key=_cores),
        memory=max((other.memory for other in all_of_them), key=lambda text: _size("", text)[1]),
        accelerators=max((other.accelerators for other in same), key=amount),
    )


def _nodes(placement: StepPlacement) -> tuple[Any, ...]:
    return (placement.node_selector, placement.tolerations, placement.node_affinity, placement.accelerator)


def _pool(placement: StepPlacement) -> str:
    pool = f"pool {placement.node_selector.get(POOL_LABEL, 'any')}"
    return f"{pool} with {placement.accelerator}" if placement.accelerator else pool


def steps_of_run(shards: int, promotes: bool = False) -> tuple[str, ...]:
    """The steps of one category's DAG in their order, where `shards` tasks compute its index; `promotes`: whether it
    ends with the step promote."""
    last = ("promote",) if promotes else ()
    if shards == 1:
        return STEPS + last
    return tuple(part for step in STEPS for part in (PARTS if step == "build_index" else (step,))) + last


def placement_of(step: str) -> StepPlacement:
    """What a step gets that neither a pool nor the catalog configures. Raises KeyError for a step that does not
    exist."""
    return _default(STEP_BY_NAME[step])


def runs_step(task: str, step: str) -> bool:
    """Whether the task of a run, by the name that KFP gives it, is a step or runs it among others. `plan_trials` stands
    for what plans a compact comparison too."""
    row = STEP_BY_NAME.get(task.replace("-", "_"))
    return row is not None and (step in (row.name, *row.runs) or (step == "plan_trials" and row.settings_of == step))


def _default(step: Step) -> StepPlacement:
    """What a row of the table gets where nothing else is configured: away from Gaudi nodes unless it computes on the
    device."""
    if step.device:
        return StepPlacement(step.cpu_request, step.cpu, step.memory)
    return StepPlacement(
        step.cpu_request, step.cpu, step.memory, tolerations=XEON_TOLERATIONS, node_affinity=AWAY_FROM_GAUDI
    )


def memory_advice(step: str, limit: str) -> str:
    """What to do about a step that was killed for its memory: its `limit` ("" where that is not known), and the key of
    the catalog that raises it where there is one."""
    known = f"its limit is {limit}" if limit else "its limit is not known here"
    key = STEP_BY_NAME[step].settings_of if step in STEP_BY_NAME else step
    if key not in CONFIGURABLE:
        return known
    return f"{known}; resources.{key}.memory of the category raises it"


def shown_memory(size: int) -> str:
    """A number of bytes as a quantity that a person wrote: 4Gi, 2500Mi, 1000000."""
    for unit in ("Gi", "Mi"):
        if size and size % _FACTORS[unit] == 0:
            return f"{size // _FACTORS[unit]}{unit}"
    return str(size)


def parse_resources(value: Any) -> dict[str, dict[str, str]]:
    """`resources` of a category, checked, its quantities as text: {"train": {"cpu": "4", "memory": "8Gi"}}. Raises
    BadInput."""
    if not isinstance(value, Mapping):
        raise BadInput(
            f"resources is {value!r}; it must map steps to what they get, such as {{train: {{cpu: 4, memory: 8Gi}}}}."
        )
    parsed: dict[str, dict[str, str]] = {}
    for step, quantities in value.items():
        if step not in CONFIGURABLE:
            raise BadInput(f"resources.{step} is not a step.{closest(str(step), list(CONFIGURABLE))}")
        if not isinstance(quantities, Mapping):
            raise BadInput(f"resources.{step} is {quantities!r}; it must be a mapping such as {{cpu: 4, memory: 8Gi}}.")
        for key in quantities:
            if key not in _KEYS:
                raise BadInput(f"resources.{step}.{key} is not a key here.{closest(str(key), list(_KEYS))}")
        checks = {"cpu": _cpu, "memory": _memory, "hugepages": _hugepages}
        parsed[step] = {key: checks[key](f"resources.{step}.{key}", quantity) for key, quantity in quantities.items()}
        if "hugepages" in quantities and step not in DEVICE_STEPS:
            raise BadInput(f"resources.{step}.hugepages cannot be set; only {', '.join(DEVICE_STEPS)} can use them.")
    return parsed


def _device(pool: str, device: str) -> tuple[str, bool]:
    """The device of the steps that touch one, and whether it is a Gaudi."""
    kind = device.partition(":")[0]
    if pool == "gaudi" and kind not in ("auto", "hpu"):
        raise BadInput(
            f"pool is gaudi, but compute.device is {device!r}; leave compute.device at auto, or choose another pool."
        )
    if pool == "xeon" and kind not in ("auto", "cpu"):
        raise BadInput(
            f"pool is xeon, but compute.device is {device!r}; leave compute.device at auto, or choose another pool."
        )
    if kind == "auto":
        return {"gaudi": "hpu", "xeon": "cpu"}.get(pool, "auto"), pool == "gaudi"
    # Whoever asks for a Gaudi by the device's name needs such a node as well.
    return device, kind == "hpu"


def _override(step: str, placement: StepPlacement, quantities: Mapping[str, str]) -> StepPlacement:
    if cpu := quantities.get("cpu"):
        placement = replace(placement, cpu_request=cpu, cpu=cpu)
    if memory := quantities.get("memory"):
        placement = replace(placement, memory=memory)
    if hugepages := quantities.get("hugepages"):
        if placement.accelerator:
            raise BadInput(
                f"resources.{step}.hugepages cannot be set for Gaudi nodes: KFP requests one extended resource a "
                f"task, and that is {GAUDI}; "
                "let the cluster add them (docs/placement.md)."
            )
        placement = replace(placement, accelerator=HUGEPAGES, accelerators=hugepages)
    return placement


def _cpu(where: str, value: Any) -> str:
    text = _text(value)
    if not _CPU.fullmatch(text):
        raise BadInput(f"{where} is {value!r}; write cores such as 2, 0.5 or 500m.")
    if not Decimal("0.05") <= _cores(text) <= 1024:
        raise BadInput(f"{where} is {value!r}; it must lie between 50m and 1024 cores.")
    return text


def _cores(text: str) -> Decimal:
    return Decimal(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def _memory(where: str, value: Any) -> str:
    text, size = _size(where, value)
    if not 256 * _MIB <= size <= 64 * 1024**4:
        raise BadInput(f"{where} is {value!r}, which is {size} bytes; it must lie between 256Mi and 64Ti.")
    return text


def _hugepages(where: str, value: Any) -> str:
    text, size = _size(where, value)
    if size == 0 or size % (2 * _MIB):
        raise BadInput(f"{where} is {value!r}; it must be a multiple of 2Mi, the size of a page, such as 1Gi.")
    return text


def _size(where: str, value: Any) -> tuple[str, int]:
    text = _text(value)
    match = _BYTES.fullmatch(text)
    if not match:
        raise BadInput(f"{where} is {value!r}; write bytes such as 8Gi or 512Mi.")
    return text, int(match[1]) * _FACTORS[match[2]]


def _text(value: Any) -> str:
    """A quantity as it is written: YAML makes a number of 4, and KFP a float of every number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if isinstance(value, bool) else str(value)

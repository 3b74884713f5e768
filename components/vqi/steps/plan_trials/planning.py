"""From what a person fills in to the trials of a comparison: categories x methods x settings, each trial the whole set
of parameters of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vqi.category import Category
from vqi.placement import StepPlacement, composite_placement, shared_placement
from vqi.platform.errors import BadInput, closest
from vqi.platform.files import canonical_json
from vqi.tracking.comparisons import PlannedTrial

MOST_TRIALS = 500
# One for all trials: by them the trials are found again.
OF_THE_COMPARISON = ("tracking_comparison", "tracking_experiment", "tracking_uri")


@dataclass(frozen=True)
class Trial:
    """One run of a comparison. `mark` tells it from the others; `category` holds all its parameters, checked."""

    mark: str
    category: Category
    label: str

    def entry(self, key: str = "") -> PlannedTrial:
        """What a comparison needs to know of a trial that may never report; `key` as PlannedTrial has it."""
        return PlannedTrial(
            key=key,
            trial=self.mark,
            category=self.category.name,
            method=self.category.method.name,
            label=self.label,
            parameters={
                key: value for key, value in self.category.parameters().items() if key not in OF_THE_COMPARISON
            },
        )


def plan(categories: str, methods: str = "", common: str = "{}", pool: str = "any") -> list[Trial]:
    """The trials of a comparison, from text as it is typed into a form. All of it is JSON (or YAML, which JSON is a
    part of).

    `categories`: a list of objects, each the parameters of one category: `[{"name": "cap", "data_source":
    "s3://photos/cap"}]`. `methods`: names by commas, or a list of names and of objects: `[{"method_name": "patchcore",
    "method_settings": {"coreset_ratio": 0.1}}]`; `method_settings` may be a list of settings to try one after the
    other. Empty: each category's own method. `common`: parameters for every trial, which a category overrides, which a
    method overrides. What nobody names has its default. `pool`: of the trials that name none.

    Raises BadInput with one sentence: which entry is wrong, and how.
    """
    shared = {"pool": pool, **_parameters(_read(common or "{}", "common"), "common")}
    trials: list[Trial] = []
    named = _listed(categories, "categories")
    if not named:
        raise BadInput(
            'categories is empty; fill in a list of objects, such as [{"name": "cap", "data_source": "s3://photos/cap"}].'
        )
    for number, entry in enumerate(named, start=1):
        own = {**shared, **_parameters(entry, f"categories, entry {number}")}
        for where, chosen in _variants(methods):
            where = f"categories, entry {number}" + (f", with {where}" if where else "")
            trials.append(_trial(own, chosen, where))
    if len(trials) > MOST_TRIALS:
        raise BadInput(
            f"{len(named)} categories make {len(trials)} trials, and a comparison holds {MOST_TRIALS}; name fewer, or "
            "make several comparisons."
        )
    return _mark(trials)


def check_unsharded(trials: Sequence[Trial]) -> None:
    """Raises BadInput for a trial whose index several tasks are to compute: the trials of a cluster's comparison are of
    one DAG, which has one task for it."""
    for trial in trials:
        if trial.category.compute.shards > 1:
            raise BadInput(
                f"compute_shards of {trial.category.name} is {trial.category.compute.shards}, and a comparison in a "
                "cluster has one task for each index; leave it at 1, or submit the category alone."
            )


def placement_of_trials(trials: Sequence[Trial]) -> StepPlacement:
    """What the task of every trial of a compact comparison gets. Raises BadInput where they need different nodes, or
    one trains on several."""
    for trial in trials:
        if trial.category.training.nodes > 1:
            raise BadInput(
                f"train.nodes of {trial.category.name} is {trial.category.training.nodes}, and the task of a compact "
                "trial would hold its node while others train; leave it at 1, or ask for the full form."
            )
    return shared_placement(
        {
            f"{trial.mark} ({trial.category.name}, {trial.category.method.name})": composite_placement(
                "run_trial", trial.category.step_placements
            )
            for trial in trials
        }
    )


def mark_trials(categories: list[Category]) -> list[Trial]:
    """The trials of categories that are complete already, methods and all."""
    return _mark([Trial("", category, "") for category in categories])


def _variants(methods: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each method asks for over a category's own parameters, and where it is written."""
    if not methods.strip():
        yield "", {}
        return
    for number, entry in enumerate(_listed(methods, "methods"), start=1):
        where = f"methods, entry {number}"
        parameters = _parameters({"method_name": entry} if isinstance(entry, str) else entry, where)
        if not parameters.get("method_name"):
            raise BadInput(f"{where} names no method; write a name, or an object with method_name.")
        settings = parameters.get("method_settings")
        for each in settings if isinstance(settings, list) else [settings]:
            yield where, parameters if each is None else {**parameters, "method_settings": each}


def _trial(own: dict[str, Any], chosen: dict[str, Any], where: str) -> Trial:
    values = {**own, **chosen}
    changed = chosen.get("method_name", own.get("method_name")) != own.get("method_name", Category().method.name)
    if changed and "method_settings" not in chosen:
        values.pop("method_settings", None)  # they are another method's
    values = {
        name: canonical_json(value).decode() if isinstance(value, Mapping) else value for name, value in values.items()
    }
    try:
        category = Category.from_parameters(values)
    except BadInput as error:
        raise BadInput(f"{where}: {str(error).removeprefix('The parameters of this run: ')}") from error
    if not category.data.source:
        raise BadInput(f"{where}: data_source is missing; name an s3://bucket/prefix or an archive.")
    return Trial("", category, "")


def _mark(trials: list[Trial]) -> list[Trial]:
    """The trials with their marks and labels. Raises BadInput where two are the same run."""
    seen: dict[bytes, int] = {}
    for number, trial in enumerate(trials, start=1):
        same = seen.setdefault(canonical_json(trial.entry().parameters), number)
        if same != number:
            raise BadInput(
                f"Trials {same} and {number} ({trial.category.name}, {trial.category.method.name}) are the same run; "
                "name it once."
            )
    width = len(str(len(trials)))
    return [
        Trial(f"{number:0{width}}", trial.category, _label(trial, trials))
        for number, trial in enumerate(trials, start=1)
    ]


def _label(trial: Trial, trials: list[Trial]) -> str:
    """The method, and where the category has it several times, what differs."""
    method, rivals = (
        trial.category.method.name,
        [other.entry().parameters for other in trials if other.category.name == trial.category.name],
    )
    rivals = [other for other in rivals if other["method_name"] == method]
    own = trial.entry().parameters
    differing = [key for key in own if key != "method_settings" and any(other[key] != own[key] for other in rivals)]
    differences = [f"{key}={own[key]}" for key in differing]
    if any(other["method_settings"] != own["method_settings"] for other in rivals):
        differences.insert(
            0,
            ", ".join(f"{key}={value}" for key, value in trial.category.method.settings.items()) or "default settings",
        )
    return f"{method} ({'; '.join(differences)})" if differences else method


def _read(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is not readable JSON: {' '.join(str(error).split())}.") from error


def _listed(text: str, where: str) -> list[Any]:
    value = _read(text, where)
    if isinstance(value, str) and where == "methods":
        return [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, Mapping):
        return [value]
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadInput(f"{where} is {text!r}; it must be a list, such as [{{...}}, {{...}}].")
    return value


def _parameters(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f'{where} is {value!r}; it must be an object of parameters, such as {{"name": "cap"}}.')
    known = [name for name in Category().parameters() if name not in OF_THE_COMPARISON]
    for name in value:
        if name in OF_THE_COMPARISON:
            raise BadInput(f"{where}: {name} is one for all trials; set it beside categories, not in them.")
        if name not in known:
            raise BadInput(f"{where}: {name!r} is not a parameter of a run.{closest(str(name), known)}")
    return {name: item for name, item in value.items() if item is not None}

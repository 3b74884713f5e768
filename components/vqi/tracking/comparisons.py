"""Comparisons in MLflow: one run that holds the runs of its trials.

It is also how a comparison learns the results of its trials: they share nothing else.

A trial is known to its steps as RUN/TRIAL: the id of the MLflow run of the comparison, and the trial's own mark in it.
One that may come from KFP's cache knows nothing of a comparison: its steps know its key, which is that of the same
trial in every comparison.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.records import Items, Record, parse_json, parse_part
from vqi.tracking.left_runs import end_kfp_run, end_silent
from vqi.tracking.origins import KFP_RUN, is_kfp_run, origin_tags
from vqi.tracking.runs import experiment_id, shown_address, tracking_address, tracking_client

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# What MLflow's own pages nest runs by.
PARENT = "mlflow.parentRunId"
COMPARISON, TRIAL, TRIAL_KEY = "vqi.comparison", "vqi.trial", "vqi.trial_key"
TRIALS = "trials.json"
MOST_TRIALS = 1000
RUNNING = "attributes.status = 'RUNNING'"


def trial_tags(comparison: str) -> dict[str, str]:
    """The tags that make a run a trial, from RUN/TRIAL or its key; none from ''."""
    parent, _, trial = comparison.partition("/")
    if comparison and not trial:
        return {TRIAL_KEY: comparison}
    return {PARENT: parent, TRIAL: trial} if comparison else {}


class PlannedTrial(Record):
    """What a comparison knows of a trial that may never report; `parameters` are those of its run. A trial with a `key`
    is found by it, in whichever comparison it was made."""

    trial: str
    category: str
    method: str
    label: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class TrialRun:
    """The MLflow run of a trial; `metrics` are those that its steps recorded, `kfp_run` is the KFP run that made it."""

    run_id: str
    trial: str
    metrics: dict[str, float]
    kfp_run: str = ""


class Comparison:
    """The MLflow run of a comparison. Every call raises RunFailed with one sentence where the server does not answer or
    refuses."""

    def __init__(self, address: str, run_id: str) -> None:
        self.address, self.run_id = address, run_id

    @staticmethod
    def begin(uri: str, experiment: str, name: str, key: str) -> Comparison:
        """A new run named `name`, found again by `key`. Raises BadInput where no address is given."""
        address = _needed(uri)
        with tracking_client(address) as client:
            identity = experiment_id(client, experiment, create=True)
            end_silent(client, identity)
            # Where the first step is repeated, the comparison that it began before is not gone on with.
            for left in _search(client, identity, f"tags.`{COMPARISON}` = '{key}' and {RUNNING}", MOST_TRIALS):
                client.set_terminated(left.info.run_id, "KILLED")
            tags = {COMPARISON: key} | (origin_tags(key) if is_kfp_run(key) else {})
            run = client.create_run(identity, run_name=name, tags=tags)
            return Comparison(address, run.info.run_id)

    @staticmethod
    def find(uri: str, experiment: str, key: str) -> Comparison | None:
        """The latest run that was begun with `key`."""
        address = _needed(uri)
        with tracking_client(address) as client:
            runs = _search(client, experiment_id(client, experiment), f"tags.`{COMPARISON}` = '{key}'", 1)
            return Comparison(address, runs[0].info.run_id) if runs else None

    def write_trials(self, trials: Sequence[PlannedTrial]) -> None:
        """Store what was planned, a list without a format of its own."""
        with tracking_client(self.address) as client:
            client.log_text(self.run_id, json.dumps([trial.values() for trial in trials], indent=2), TRIALS)

    def read_trials(self) -> tuple[PlannedTrial, ...]:
        """What was planned. Raises RunFailed where it was not stored, or is damaged."""
        text = self.read_text(self.run_id, TRIALS)
        where = f"{TRIALS} of the comparison {self.run_id} in MLflow"
        if text is None:
            raise RunFailed(f"{where} is missing; look at its first step.")
        try:
            value = {"trials": parse_json(text, where, "look at its first step")}
            return parse_part(_Planned, value, where, "look at its first step").trials
        except BadInput as error:
            raise RunFailed(str(error)) from error

    def trial_runs(self) -> dict[str, TrialRun]:
        """The finished run of each trial, the latest where a trial was run again."""
        with tracking_client(self.address) as client:
            experiment = client.get_run(self.run_id).info.experiment_id
            runs = _search(
                client, experiment, f"tags.`{PARENT}` = '{self.run_id}' and attributes.status = 'FINISHED'", MOST_TRIALS
            )
            trials = [_trial_run(run) for run in runs]
        return {trial.trial: trial for trial in reversed(trials)}

    def runs_of_key(self, key: str) -> list[TrialRun]:
        """The finished runs of a trial by its key, in whichever comparison they were made, the latest first."""
        with tracking_client(self.address) as client:
            experiment = client.get_run(self.run_id).info.experiment_id
            wanted = f"tags.`{TRIAL_KEY}` = '{key}' and attributes.status = 'FINISHED'"
            return [_trial_run(run) for run in _search(client, experiment, wanted, MOST_TRIALS)]

    def adopt(self, run_id: str, trial: str) -> None:
        """Make a run that is there already a trial of this one."""
        with tracking_client(self.address) as client:
            for key, value in trial_tags(f"{self.run_id}/{trial}").items():
                client.set_tag(run_id, key, value)

    def read_text(self, run_id: str, name: str) -> str | None:
        """A text file that a run stored; None where it has none."""
        with tempfile.TemporaryDirectory() as folder, tracking_client(self.address) as client:
            if name not in {item.path for item in client.list_artifacts(run_id)}:
                return None
            stored = Path(client.download_artifacts(run_id, name, folder)).read_bytes()
        # What is not UTF-8 is not JSON either, and is refused as such.
        return stored.decode("utf-8", "replace")

    def end_left_runs(self, key: str) -> None:
        """End what is still running of the trials: a training that was killed, or whose run was terminated, cannot.
        Nothing is done for a comparison that KFP does not run."""
        with tracking_client(self.address) as client:
            experiment = client.get_run(self.run_id).info.experiment_id
            if is_kfp_run(key):
                end_kfp_run(client, experiment, key, but=self.run_id)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], complete: bool) -> None:
        """Record the outcome; FAILED where trials are missing."""
        with tracking_client(self.address) as client:
            for key, value in metrics.items():
                client.log_metric(self.run_id, key, value)
            for file in files:
                client.log_artifact(self.run_id, str(file))
            client.set_terminated(self.run_id, "FINISHED" if complete else "FAILED")

    @property
    def shown_address(self) -> str:
        return shown_address(self.address)


class _Planned(Record):
    trials: Items[PlannedTrial]


def _trial_run(run: Any) -> TrialRun:
    tags = run.data.tags
    return TrialRun(run.info.run_id, tags.get(TRIAL, ""), dict(run.data.metrics), tags.get(KFP_RUN, ""))


def _needed(uri: str) -> str:
    address = tracking_address(uri)
    if not address:
        raise BadInput(
            "The trials of a comparison are gathered through MLflow, and no address is given; set tracking_uri or "
            "MLFLOW_TRACKING_URI."
        )
    return address


def _search(client: MlflowClient, experiment: str, wanted: str, most: int) -> list[Any]:
    if not experiment:
        return []
    return list(client.search_runs([experiment], wanted, max_results=most, order_by=["attributes.start_time DESC"]))

"""MLflow runs that nobody finished: a pod that is killed, or a KFP run that is terminated, leaves its run RUNNING.

No step can ask whether the process behind a run lives. Ending a run that goes on does no harm: it takes its figures as
before, and the step that completes it sets its end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqi.tracking.origins import KFP_RUN

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# What is learnt, and from what: a training that starts again has the same.
TRAINING = "vqi.training"
# A training records its losses every few seconds; an index of a memory bank may be built for hours.
SILENT_SECONDS = 6 * 3600.0
MOST_RUNS = 100


def end_training(client: MlflowClient, experiment: str, training: str) -> None:
    """End the runs that an interrupted start of the same training left."""
    for run in _running(client, [experiment], f"tags.`{TRAINING}` = '{training}'"):
        client.set_terminated(run.info.run_id, "KILLED")


def end_kfp_run(client: MlflowClient, experiment: str, kfp_run: str, but: str) -> None:
    """End the runs that the trials of a KFP run left, when all of them are over; `but` is the comparison's own."""
    for run in _running(client, [experiment], f"tags.`{KFP_RUN}` = '{kfp_run}'"):
        if run.info.run_id != but:
            client.set_terminated(run.info.run_id, "KILLED")


def end_terminated(client: MlflowClient, kfp_run: str) -> int:
    """End the runs that a terminated KFP run left, in whichever experiments they are; how many they were."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    left = _running(client, experiments, f"tags.`{KFP_RUN}` = '{kfp_run}'")
    for run in left:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(left)


def end_silent(client: MlflowClient, experiment: str, silent_seconds: float = SILENT_SECONDS) -> None:
    """End the runs of KFP runs from which nothing came for so long."""
    latest = round((time.time() - silent_seconds) * 1000)
    wanted = f"tags.`{KFP_RUN}` != '' and attributes.start_time < {latest}"
    for run in _running(client, [experiment], wanted):
        if _last_sign(client, experiment, run) < latest:
            client.set_terminated(run.info.run_id, "KILLED")


def _running(client: MlflowClient, experiments: Sequence[str], wanted: str) -> list[Any]:
    if not any(experiments):
        return []
    running = f"{wanted} and attributes.status = 'RUNNING'"
    return list(client.search_runs([*experiments], running, max_results=MOST_RUNS))


def _last_sign(client: MlflowClient, experiment: str, run: Any) -> int:
    """When a run, or another of its KFP run, last recorded something, in milliseconds."""
    signs = [run.info.start_time]
    for name in run.data.metrics:
        signs += [metric.timestamp for metric in client.get_metric_history(run.info.run_id, name)[-1:]]
    others = client.search_runs(
        [experiment],
        f"tags.`{KFP_RUN}` = '{run.data.tags[KFP_RUN]}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return max([*signs, *(max(other.info.start_time, other.info.end_time or 0) for other in others)])

"""The runs of a server, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqi.platform.errors import BadInput, closest
from vqi_pipelines.cluster.server import Server
from vqi_pipelines.cluster.steps import state_of

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

STATES = ("pending", "running", "succeeded", "skipped", "failed", "canceling", "canceled", "paused")
PAGE = 100


def list_runs(server: Server, last: int, category: str = "", state: str = "", experiment: str = "") -> list[V2beta1Run]:
    """At most `last` runs that are of the category, in the state and of the experiment, where these are asked for."""
    from vqi_pipelines.cluster.submitting import find_experiment

    if state and state.lower() not in STATES:
        raise BadInput(f"--state is {state!r}.{closest(state.lower(), list(STATES))}")
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    if experiment:
        match = find_experiment(server, experiment)
        if match is None:
            raise BadInput(f"{server.host} has no experiment {experiment!r}.")
        options["experiment_id"] = match.experiment_id
    kept: list[V2beta1Run] = []
    token = ""
    while True:
        listed = server.call(
            server.runs.run_service_list_runs, page_size=PAGE, page_token=token, sort_by="created_at desc", **options
        )
        for run in listed.runs or []:
            parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
            if (not category or parameters.get("name") == category) and (
                not state or state_of(run).lower() == state.lower()
            ):
                kept.append(run)
        token = listed.next_page_token or ""
        if len(kept) >= last or not token:
            return kept[:last]

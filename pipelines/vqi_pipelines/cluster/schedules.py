"""Recurring runs. KFP's cron has six fields, the second first, in the time zone of its scheduler (UTC unless its
administrator chose another)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vqi.platform.errors import BadInput, closest
from vqi_pipelines.cluster.server import Server
from vqi_pipelines.cluster.steps import OVER
from vqi_pipelines.cluster.submitting import Uploaded, experiment

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun

FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 6),
)
NAMES = {
    "month": {
        name: i + 1
        for i, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
    },
    "day of the week": {name: i for i, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))},
}
SHORTHANDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def cron(text: str) -> str:
    """The cron expression as KFP takes it. Five fields, as crontab has them, get second 0 before them.

    Raises BadInput for anything that KFP's scheduler would refuse, or silently never run.
    """
    text = " ".join(text.split())
    if text in SHORTHANDS or re.fullmatch(r"@every (\d+(\.\d+)?(h|m|s))+", text):
        return text
    fields = text.split(" ")
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise BadInput(
            f"--cron {text!r} has {len(fields)} fields; write five (minute hour day month weekday), or six with the "
            "second first: '0 0 2 * * *'."
        )
    for field, (name, low, high) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            _check(part, name, low, high, text)
    return " ".join(fields)


def make(
    server: Server,
    uploaded: Uploaded,
    values: Mapping[str, Any],
    experiment_name: str,
    name: str,
    when: str,
    concurrent: int = 1,
    catch_up: bool = False,
    service_account: str = "",
) -> V2beta1RecurringRun:
    """A recurring run of an uploaded version. Raises BadInput where there is one of that name: two would do everything
    twice."""
    import kfp_server_api as api

    if any(item.display_name == name for item in list_schedules(server)):
        raise BadInput(
            f"There is a schedule {name!r} already; delete it with `vqi schedule --delete {name}`, or give --name "
            "another."
        )
    new = api.V2beta1RecurringRun(
        display_name=name,
        description=f"{values.get('name', '')}: {values.get('method_name', '')}, package {uploaded.name}",
        experiment_id=experiment(server, experiment_name).experiment_id,
        namespace=server.namespace or None,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(values)),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=when)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency=str(concurrent),
        no_catchup=not catch_up,
        service_account=service_account or None,
    )

    def find_created() -> V2beta1RecurringRun | None:
        return next((item for item in list_schedules(server) if item.display_name == name), None)

    return server.call(server.schedules.recurring_run_service_create_recurring_run, new, made=find_created)


def list_schedules(server: Server) -> list[V2beta1RecurringRun]:
    """Every recurring run, the newest first."""
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    recurring_runs: list[V2beta1RecurringRun] = []
    token = ""
    while True:
        page = server.call(
            server.schedules.recurring_run_service_list_recurring_runs,
            page_size=100,
            page_token=token,
            sort_by="created_at desc",
            **options,
        )
        recurring_runs += page.recurring_runs or []
        token = page.next_page_token or ""
        if not token:
            return recurring_runs


def find(server: Server, wanted: str) -> V2beta1RecurringRun:
    """The one recurring run of that id or name. Raises BadInput where that is none or several."""
    everything = list_schedules(server)
    near = [item for item in everything if wanted in (item.recurring_run_id, item.display_name)]
    if len(near) > 1:
        raise BadInput(f"{len(near)} schedules are named {wanted!r}; give the id that `vqi schedule --list` shows.")
    if not near:
        raise BadInput(f"There is no schedule {wanted!r}.{closest(wanted, [item.display_name for item in everything])}")
    return near[0]


def pause(server: Server, identity: str) -> None:
    """No more runs until it is resumed."""
    server.call(server.schedules.recurring_run_service_disable_recurring_run, identity)


def resume(server: Server, identity: str) -> None:
    server.call(server.schedules.recurring_run_service_enable_recurring_run, identity)


def delete(server: Server, identity: str) -> None:
    """The schedule goes, its finished runs stay. One that is gone by then is deleted.

    Raises BadInput while a run that it began goes on: Kubernetes takes that run's pods away with the schedule, and KFP
    shows it as running for ever.
    """
    if going := _under_way(server, identity):
        raise BadInput(
            f"The run {going} that the schedule began goes on, and would be lost with it; `vqi schedule --pause "
            f"{identity}` stops new ones, "
            f"delete it when `vqi runs {going}` is over."
        )
    server.find(server.schedules.recurring_run_service_delete_recurring_run, identity)


def _under_way(server: Server, identity: str) -> str:
    """A run of the schedule among the server's newest that is not over, "" where there is none."""
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    newest = (
        server.call(server.runs.run_service_list_runs, page_size=100, sort_by="created_at desc", **options).runs or []
    )
    return next((run.run_id for run in newest if run.recurring_run_id == identity and run.state not in OVER), "")


def _check(part: str, name: str, low: int, high: int, text: str) -> None:
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        raise BadInput(f"--cron {text!r}: the step {step!r} of the {name} is not a number above 0.")
    if span == "*" or (span == "?" and name.startswith("day")):
        return
    first, dash, last = span.partition("-")
    numbers = [_number(value, name) for value in ([first, last] if dash else [first])]
    if any(number is None for number in numbers) or not all(
        low <= number <= high for number in numbers if number is not None
    ):
        raise BadInput(f"--cron {text!r}: the {name} is {part!r}; it must be {low} to {high}, a range, a list or *.")
    if dash and numbers[0] > numbers[1]:  # type: ignore[operator]
        raise BadInput(f"--cron {text!r}: the range {span!r} of the {name} ends before it begins.")


def _number(text: str, name: str) -> int | None:
    return int(text) if text.isdigit() else NAMES.get(name, {}).get(text.lower())

"""Tracking of runs in MLflow: a sqlite file by default, a server by its address. MLflow is imported only where a run is
tracked."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import subprocess
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import locked
from vqi.platform.logs import logger
from vqi.platform.system_errors import system_error
from vqi.tracking.address_name import address_name, leave_empty
from vqi.tracking.left_runs import TRAINING, end_silent, end_training
from vqi.tracking.server import check_server

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logger(__name__)

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
# MLflow's own seven retries with a growing pause and a patience of two minutes keep a step waiting for a quarter of an
# hour.
FIRST_CONTACT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "7",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}
# Seconds that another process is given to make a database; 1 to 20 were seen.
LONGEST_CREATION = 300.0
LONGEST_PARAMETER = 6000
LONGEST_TAG = 5000
LONGEST_REASON = 100
COMMIT = "VQI_COMMIT"
# What MLflow keeps a run's name under.
RUN_NAME = "mlflow.runName"


def tracking_address(uri: str) -> str:
    """Where runs are tracked: `uri`, else MLFLOW_TRACKING_URI, else '' (nowhere). Raises BadInput for an address of no
    known kind."""
    address = uri.strip() or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if address and address.split(":", 1)[0].split("+")[0] not in SCHEMES:
        raise BadInput(
            f"{address_name()} is {shown_address(address)!r}; it must be sqlite:///FILE, or the address of an MLflow "
            f"server (http://HOST:PORT){leave_empty()}."
        )
    return address


def shown_address(address: str) -> str:
    """The address without the user name and password it may carry."""
    if address.startswith("sqlite"):
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query=""))


def check_tracking(uri: str, experiment: str) -> None:
    """See that runs can be tracked there, before hours are spent on one. Nothing is written on a server; a sqlite file
    is made where it is missing.

    Raises BadInput for an address of no known kind, RunFailed within some 20 s where nothing answers.
    """
    address = tracking_address(uri)
    if address:
        check_server(address, experiment)
        with _quiet(), _one_sentence(address):
            experiment_id(_client(address), experiment)


def track_run(
    *,
    uri: str,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tags: Mapping[str, str],
    artifacts: Sequence[Path],
    run_id: str = "",
) -> str | None:
    """Record one finished run (`run_id`: one that `open_run` began) and return its id; None where no address is given
    (`uri` empty and no MLFLOW_TRACKING_URI).

    Metrics that are not finite numbers are left out. `artifacts` are files or folders, copied to the run's artefact
    store. Where it cannot be completed the run is marked FAILED, if the server still answers. Raises BadInput for
    an address of no known kind, RunFailed where the server does not answer (within some 20 s) or refuses.
    """
    address = tracking_address(uri)
    if not address:
        return None
    with _quiet(), _one_sentence(address):
        client = _client(address)
        texts = {key: str(value)[:LONGEST_TAG] for key, value in tags.items()}
        if run_id and is_active(client, run_id):
            for key, text in {**texts, RUN_NAME: run_name}.items():
                client.set_tag(run_id, key, text)
        else:
            run_id = client.create_run(
                experiment_id(client, experiment, create=True), run_name=run_name, tags=texts
            ).info.run_id
        _end_left(client, experiment)
        try:
            _record(client, run_id, parameters, metrics)
            for path in artifacts:
                _store(client, run_id, Path(path))
            client.set_terminated(run_id, "FINISHED")
        except BaseException:
            with contextlib.suppress(Exception), short_patience():
                client.set_terminated(run_id, "FAILED")
            raise
        return run_id


def add_to_run(uri: str, run_id: str, metrics: Mapping[str, float], artifacts: Sequence[Path] = ()) -> None:
    """Add metrics and artefacts to a run that was recorded before, in place of those of the same name; nothing is done
    without an address or a run. Raises as `track_run` does."""
    address = tracking_address(uri)
    if address and run_id:
        with tracking_client(address) as client, short_patience():
            _record(client, run_id, {}, metrics)
            for path in artifacts:
                _store(client, run_id, path)


def run_page(uri: str, run_id: str) -> str:
    """The page of a run in MLflow's UI; "" where it has none (no server, no run), or the server does not answer now.

    Of the form that MLflow 3 opens on runs: its experiment page without `/runs` opens on traces, which there are none
    of.
    """
    address = tracking_address(uri)
    if not run_id or not address.startswith("http"):
        return ""
    try:
        with tracking_client(address) as client, short_patience():
            return f"{runs_page(address, client.get_run(run_id).info.experiment_id)}/{run_id}"
    except RunFailed:
        return ""


def runs_page(address: str, experiment: str) -> str:
    """The page of an experiment's runs, by its id."""
    return f"{shown_address(address).rstrip('/')}/#/experiments/{experiment}/runs"


@contextlib.contextmanager
def tracking_client(address: str) -> Iterator[MlflowClient]:
    """MLflow's client of an address, quiet; whatever goes wrong while it is used is one sentence."""
    with _quiet(), _one_sentence(address):
        yield _client(address)


class OpenRun:
    """A run that goes on: points of its curves are recorded as they come.

    A server that goes away must not end a night of training: points are kept and tried again with the next ones, and it
    is said once.
    """

    def __init__(self, client: MlflowClient, address: str, run_id: str) -> None:
        self.client, self.address, self.run_id = client, address, run_id
        self._waiting: list[Any] = []
        self._silent = False

    def log(self, point: Mapping[str, float]) -> None:
        """One point: its `step`, and every other value by its name under `train.`."""
        from mlflow.entities import Metric

        now, step = time.time_ns() // 1_000_000, int(point["step"])
        self._waiting += [
            Metric(f"train.{key}", value, now, step)
            for key, value in point.items()
            if key != "step" and math.isfinite(value)
        ]
        try:
            with _quiet(), short_patience(), _one_sentence(self.address):
                self.client.log_batch(self.run_id, metrics=self._waiting[:1000])
            self._waiting, self._silent = self._waiting[1000:], False
        except RunFailed as error:
            if not self._silent:
                log.warning(f"{error} Training goes on; its losses will be tracked when it answers again.")
            self._silent = True

    def fail(self) -> None:
        """Mark the run as failed. Raises RunFailed where the server does not answer."""
        with _quiet(), short_patience(), _one_sentence(self.address):
            self.client.set_terminated(self.run_id, "FAILED")


def open_run(
    uri: str, experiment: str, run_name: str, tags: Mapping[str, str] | None = None, training: str = ""
) -> OpenRun | None:
    """Begin a run that `track_run` will finish; None where no address is given. Raises as `track_run` does.

    `training` is the same for a training that starts again: what was left of it before is ended.
    """
    address = tracking_address(uri)
    if not address:
        return None
    with _quiet(), _one_sentence(address):
        client = _client(address)
        identity = experiment_id(client, experiment, create=True)
        if training:
            end_training(client, identity, training)
        held = {**(tags or {}), **({TRAINING: training} if training else {})}
        run = client.create_run(identity, run_name=run_name, tags=held)
        return OpenRun(client, address, run.info.run_id)


def _end_left(client: MlflowClient, experiment: str) -> None:
    """End what earlier runs left; a server that refuses keeps nobody from recording a run of one's own."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException), short_patience():
        end_silent(client, experiment_id(client, experiment))


def _store(client: MlflowClient, run_id: str, path: Path) -> None:
    """Copy a file or folder to the run's artefacts."""
    if path.is_dir():
        send(lambda: client.log_artifacts(run_id, str(path), path.name))
    else:
        send(lambda: client.log_artifact(run_id, str(path)))


def send(upload: Callable[[], None]) -> None:
    """Upload artefacts, several times where it must be.

    boto3 tries again what a store refuses, but not where a TLS connection broke. Where the answer to the call that ends
    an upload in parts was lost, its second call meets an upload that is done: the whole file is sent again.
    """
    for pause in (1.0, 3.0, 0.0):
        try:
            return upload()
        except Exception as error:
            broken = any(kind.__name__ == "HTTPClientError" for kind in type(error).__mro__)
            if not pause or not (broken or "(NoSuchUpload)" in str(error)):
                raise
            time.sleep(pause)


def is_active(client: MlflowClient, run_id: str) -> bool:
    """Whether a run that a step before this one began can be gone on with: it may be of another server, or deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False


def code_version() -> str:
    """The version of this package, with the commit where it is known: VQI_COMMIT (set in images), else the checkout the
    package lies in."""
    try:
        number = version("vqi")
    except PackageNotFoundError:
        number = "0"
    commit = os.environ.get(COMMIT, "").strip() or _checkout_commit()
    return f"{number}+{commit}" if commit else number


def _checkout_commit() -> str:
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        completed = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return completed.stdout.strip()


def _record(client: MlflowClient, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    numbers = [
        Metric(key, float(value), now, 0)
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]
    values = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in parameters.items()]
    # A server takes 1000 metrics and 100 parameters a call.
    for start in range(0, len(numbers), 1000):
        client.log_batch(run_id, metrics=numbers[start : start + 1000])
    for start in range(0, len(values), 100):
        client.log_batch(run_id, params=values[start : start + 100])


def _client(address: str) -> MlflowClient:
    # Inspection data is the user's own: nothing is reported to MLflow's makers unless the user asks for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # It names a page of the experiment that opens empty.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise BadInput(
            f"{address_name()} is set, but mlflow is not installed; install vqi[tracking]{leave_empty()}."
        ) from error
    if not address.startswith("sqlite"):
        return MlflowClient(tracking_uri=address)
    file = _sqlite_file(address)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise system_error(error) from error
    # MLflow makes the tables of a new database, and brings those of an old one up to date, without minding others who
    # do the same.
    with locked(file.with_name(f".{file.name}.lock"), LONGEST_CREATION, f"The MLflow database {file}"):
        client = MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)  # tables are made by the first call
    return client


def _sqlite_file(address: str) -> Path:
    return Path(address.split("///", 1)[-1].split("?", 1)[0]).absolute()


def experiment_id(client: MlflowClient, name: str, create: bool = False) -> str:
    """The id of the experiment, '' where it is not there and not to be created. The first contact with a server: it is
    given little time."""
    from mlflow.exceptions import MlflowException

    with short_patience():
        experiment = client.get_experiment_by_name(name)
    if experiment is None and create:
        address = client.tracking_uri
        # Beside the database, not in whatever folder the step happens to run.
        store = (_sqlite_file(address).parent / "mlruns").as_uri() if address.startswith("sqlite") else None
        try:
            return client.create_experiment(name, artifact_location=store)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another run was faster
    if experiment is None:
        return ""
    if experiment.lifecycle_stage != "active":
        raise BadInput(
            f"The MLflow experiment {name!r} was deleted; restore it, or set tracking.experiment to another name."
        )
    return experiment.experiment_id


@contextlib.contextmanager
def short_patience() -> Iterator[None]:
    """MLflow reads its limits from the environment at every request; what the user has set stands."""
    ours = {key: value for key, value in FIRST_CONTACT.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the migration notes of a new sqlite file and the retry warnings that would come before our own
    sentence."""
    with contextlib.suppress(ImportError):  # said where it is needed
        import mlflow  # noqa: F401  sets its loggers' levels when it is imported, over those of below

    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow", "urllib3")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _one_sentence(address: str) -> Iterator[None]:
    """Whatever MLflow, its HTTP client or its database raise becomes one sentence."""
    try:
        yield
    except (BadInput, RunFailed):
        raise
    except Exception as error:
        reason = _reason(error).replace(address, shown_address(address))
        if type(error).__module__.split(".")[0] in ("botocore", "boto3", "s3transfer"):
            raise RunFailed(
                f"The store of MLflow's artefacts cannot be written ({type(error).__name__}: {reason}); "
                "check MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_CA_BUNDLE."
            ) from error
        advice = f"see that the server runs and that {address_name()} is right"
        if address.startswith("sqlite"):
            advice = (
                f"see that its folder can be written and its disk has room, or name another file in {address_name()}"
            )
        raise RunFailed(
            f"Tracking at {shown_address(address)} does not work ({type(error).__name__}: {reason}); {advice}"
            f"{leave_empty()}."
        ) from error


def _reason(error: Exception) -> str:
    """What happened, in a few words: of the exceptions that HTTP clients write into each other the innermost, cut
    between words."""
    text = (str(error).strip().splitlines() or [""])[0]
    if refused := re.search(r"An error occurred \((\w+)\)[^:]*: (.*)", text):  # a store's answer, as boto3 tells it
        text = f"{refused[1]}: {refused[2]}"
    elif " (Caused by " in text:
        inner = text.rpartition(" (Caused by ")[2]
        inner = re.sub(r"""^(?:\w+(?:Error|Exception)\((?:\d+, )?["']?)+|["']\)*$""", "", inner)
        inner = re.sub(r"^<[^>]*>: |^\w+\([^)]*\): ", "", inner)
        text = re.sub(r"Failed to establish a new connection: |\[Errno -?\d+\] ", "", inner)
    return textwrap.shorten(text, LONGEST_REASON, placeholder=" ...")

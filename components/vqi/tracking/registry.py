"""MLflow's model registry: versions of a name, their aliases, tags and files. MLflow is imported only where it is
used."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.tracking.runs import (
    LONGEST_TAG,
    experiment_id,
    is_active,
    send,
    short_patience,
    tracking_address,
    tracking_client,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SCHEME = "models:/"
CANDIDATE, CHAMPION = "candidate", "champion"
# What tells the content of a version from every other: the SHA-256 of a bundle's sidecar.
DIGEST = "vqi.bundle"
# Of a registered model: the versions that were its champions, the newest last, as JSON.
CHAMPIONS = "vqi.champions"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
ALIAS = r"[A-Za-z][A-Za-z0-9_-]{0,99}"
# MLflow answers at most so many a call.
PAGE = 200
CREATION_SECONDS = 60
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class ModelAddress:
    """A version of a registered model: models:/NAME@ALIAS or models:/NAME/VERSION."""

    name: str
    alias: str = ""
    version: int = 0

    @staticmethod
    def parse(text: str, alias: str = "") -> ModelAddress:
        """From an address, or what follows `models:/` in one. `alias` is what a name alone means; without one it is
        refused. Raises BadInput."""
        rest = text.removeprefix(SCHEME)
        match = re.fullmatch(rf"({NAME})(?:@({ALIAS})|/([0-9]{{1,9}}))?", rest)
        if not match or not (match[2] or match[3] or alias):
            raise BadInput(
                f"{text!r} does not name a version of a registered model; write models:/NAME@champion or "
                "models:/NAME/3."
            )
        return ModelAddress(match[1], "" if match[3] else match[2] or alias, int(match[3] or 0))

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model; `created` is UTC."""

    name: str
    version: int
    created: datetime
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    description: str = ""

    @property
    def digest(self) -> str:
        return self.tags.get(DIGEST, "")

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def check_name(name: str) -> None:
    """Raise BadInput for what cannot be the name of a registered model here."""
    if not re.fullmatch(NAME, name):
        raise BadInput(
            f"The name {name!r} cannot be that of a registered model: letters, digits, '.', '_' and '-', at most 100, "
            "beginning with a letter or digit."
        )


@contextlib.contextmanager
def open_registry(uri: str = "") -> Iterator[ModelRegistry]:
    """The registry of the MLflow at `uri`, else at MLFLOW_TRACKING_URI. A question is given little time, files are
    given all they need. Raises BadInput where neither is set, and what `tracking_client` raises while it is used."""
    address = tracking_address(uri)
    if not address:
        raise BadInput(
            "A registry is part of an MLflow, and none is named; give its address with --tracking, or set "
            "MLFLOW_TRACKING_URI."
        )
    with tracking_client(address) as client:
        yield ModelRegistry(client, address)


class ModelRegistry:
    """What is registered at one MLflow, through its client. Raises BadInput where a name, a version or an alias is not
    there; whatever else MLflow raises passes (see `open_registry`)."""

    def __init__(self, client: MlflowClient, address: str) -> None:
        self._client, self.address = client, address

    def names(self) -> list[str]:
        """The names of the registered models, sorted."""
        with short_patience():
            return sorted(model.name for model in _all_pages(self._client.search_registered_models))

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a name, the newest first."""
        aliases = self._aliases(name)
        quote = '"' if "'" in name else "'"
        search = partial(self._client.search_model_versions, f"name={quote}{name}{quote}")
        with short_patience():
            rows = [
                _version(row, [alias for alias, number in aliases.items() if number == int(row.version)])
                for row in _all_pages(search)
            ]
        return sorted(rows, key=lambda row: -row.version)

    def resolve(self, address: ModelAddress) -> ModelVersion:
        """The version that an address means now."""
        from mlflow.exceptions import MlflowException

        try:
            with short_patience():
                if address.version:
                    row = self._client.get_model_version(address.name, str(address.version))
                else:
                    row = self._client.get_model_version_by_alias(address.name, address.alias)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            aliases = self._aliases(address.name)
            if address.version:
                raise BadInput(f"{address.name} has no version {address.version}.") from error
            held = ", ".join(f"{key} (version {number})" for key, number in sorted(aliases.items())) or "none"
            raise BadInput(
                f"No version of {address.name} has the alias {address.alias!r}; the aliases are: {held}."
            ) from error
        return _version(row, list(row.aliases))

    def version_of(self, name: str, alias: str) -> ModelVersion | None:
        """The version of an alias, None where it is not set."""
        number = self._aliases(name).get(alias)
        return None if number is None else self.resolve(ModelAddress(name, version=number))

    def find(self, name: str, digest: str) -> ModelVersion | None:
        """The version of a name that holds the content of a digest; None where the name or such a version is not
        there."""
        if name not in self.names():
            return None
        return next((version for version in self.versions(name) if version.digest == digest), None)

    def create(
        self,
        name: str,
        folders: Sequence[Path],
        tags: Mapping[str, str],
        description: str,
        experiment: str,
        run_id: str = "",
    ) -> ModelVersion:
        """A new version that holds what lies in `folders`, and gets the alias `candidate`.

        The files belong to a model of the experiment, and to the run `run_id` where that is there. The version appears
        when everything is stored.
        """
        client = self._client
        texts = {key: str(value)[:LONGEST_TAG] for key, value in tags.items()}
        run = run_id if run_id and is_active(client, run_id) else None
        model = client.create_logged_model(
            experiment_id(client, experiment, create=True), name=name, source_run_id=run, tags=texts
        )
        try:
            for folder in folders:
                send(functools.partial(client.log_model_artifacts, model.model_id, str(folder)))
            client.finalize_logged_model(model.model_id, "READY")
        except BaseException:
            with contextlib.suppress(Exception):
                client.finalize_logged_model(model.model_id, "FAILED")
            raise
        if name not in self.names():
            self._create_name(name)
        with _as_default(self.address):
            row = client.create_model_version(
                name,
                f"{SCHEME}{model.model_id}",
                run_id=run,
                tags=texts,
                description=description,
                model_id=model.model_id,
                await_creation_for=CREATION_SECONDS,
            )
        self.set_alias(name, CANDIDATE, int(row.version))
        return self.resolve(ModelAddress(name, version=int(row.version)))

    def download(self, version: ModelVersion, destination: Path) -> None:
        """Bring the files of a version to the folder `destination`, whole or not at all."""
        from mlflow.artifacts import download_artifacts

        location = self._client.get_model_version_download_uri(version.name, str(version.version))
        with (
            tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=_made(destination.parent)) as scratch,
            whole_folder(destination) as folder,
        ):
            brought = download_artifacts(artifact_uri=location, dst_path=scratch, tracking_uri=self.address)
            shutil.copytree(brought, folder, dirs_exist_ok=True, copy_function=shutil.move)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Let an alias mean a version."""
        self._client.set_registered_model_alias(name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away."""
        self._client.delete_registered_model_alias(name, alias)

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, str(version.version), key, str(value)[:LONGEST_TAG])

    def describe(self, version: ModelVersion, text: str) -> None:
        """Replace what the page of a version says, in Markdown."""
        self._client.update_model_version(version.name, str(version.version), description=text)

    def champions(self, name: str) -> list[int]:
        """The versions that were the champion of a name, in turn, the newest last."""
        value = self._model(name).tags.get(CHAMPIONS, "[]")
        try:
            return [int(number) for number in json.loads(value)]
        except (ValueError, TypeError) as error:
            raise BadInput(f"The tag {CHAMPIONS} of {name} is {value[:80]!r}, not a list of versions.") from error

    def keep_champions(self, name: str, versions: Sequence[int]) -> None:
        """Write that list."""
        self._client.set_registered_model_tag(name, CHAMPIONS, json.dumps(list(versions)))

    def _model(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            with short_patience():
                return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            names = self.names()
            known = f"there are {', '.join(names)}" if names else "nothing is registered yet"
            raise BadInput(f"{name!r} is not a registered model; {known}.") from error

    def _aliases(self, name: str) -> dict[str, int]:
        return {alias: int(version) for alias, version in self._model(name).aliases.items()}

    def _create_name(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:  # another process was faster
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """What a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(row: Any, aliases: Sequence[str]) -> ModelVersion:
    created = datetime.fromtimestamp(row.creation_timestamp / 1000, UTC)
    return ModelVersion(
        row.name, int(row.version), created, tuple(sorted(aliases)), dict(row.tags), row.description or ""
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _as_default(address: str) -> Iterator[None]:
    """MLflow's store of a database asks the process's own address for the model of a new version."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before

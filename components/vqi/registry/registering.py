"""A bundle becomes a version in the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from vqi.deployment.bundle import read_sidecar
from vqi.deployment.bundle_files import GOLDEN
from vqi.deployment.exports.mlflow import MlflowModel, write_mlflow_files
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi.registry.figures import bundle_digest, description_of, tags_of
from vqi.tracking.registry import ModelVersion, check_name, open_registry

log = logger(__name__)


class Registered(NamedTuple):
    """The version that holds a bundle; `new`: whether it was made now."""

    version: ModelVersion
    new: bool


def register_bundle(
    bundle: Path, name: str, uri: str = "", experiment: str = "vqi", run_id: str = "", dataset: str = ""
) -> Registered:
    """Make the bundle in a folder a version of `name` with the alias `candidate`, unless a version of it is there.

    MLflow can load the version itself: what makes a model of the folder is added where the bundle was exported without
    the format `mlflow`. `run_id` is the MLflow run that the bundle came from, `dataset` the address of its Dataset.
    Raises BadInput where the bundle or the name cannot be used or no registry is named, RunFailed where it does not
    answer.
    """
    check_name(name)
    sidecar = read_sidecar(bundle)
    wrapper = MlflowModel()
    if missing := wrapper.missing_to_write():
        raise BadInput(f"A bundle cannot be registered here, for lack of {', '.join(missing)}; install vqi[tracking].")
    with open_registry(uri) as registry, tempfile.TemporaryDirectory(prefix="vqi-register-") as scratch:
        if held := registry.find(name, bundle_digest(bundle)):
            return Registered(held, False)
        folders = [bundle]
        if wrapper.name not in sidecar.formats:
            write_mlflow_files(Path(scratch), sidecar, bundle / GOLDEN)
            folders.append(Path(scratch))
        tags = tags_of(bundle, sidecar, dataset)
        version = registry.create(name, folders, tags, description_of(sidecar), experiment, run_id)
        return Registered(version, True)

"""How a local run's steps run as containers: the images a cluster would run, with no more rights than a step needs.

A container sees the photographs, the weights and what else the method reads, which it cannot change, the run's own
folder, and the folder of the MLflow database. Its root file system is read-only and it has no capabilities; what it
writes belongs to the person who started the run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqi.category import Category
from vqi.platform.errors import BadInput, RunFailed
from vqi.steps.images import image

if TYPE_CHECKING:
    from docker import DockerClient
    from kfp.local import DockerRunner

# The variables by which a step knows S3 stores, MLflow, proxies and certificates.
PASSED_PREFIXES = ("AWS_", "MINIO_", "MLFLOW_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PASSED = ("SSL_CERT_FILE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", *PROXIES, *(name.lower() for name in PROXIES))
LOOPBACK = re.compile(r"https?://([^/]*@)?(localhost|127\.|\[::1\])")
RUN_LABEL = "vqi.run"


def check_engine(steps: tuple[str, ...]) -> None:
    """Raises BadInput where no Docker engine answers, or where it does not have the images of the steps."""
    with _engine() as client:
        from docker.errors import ImageNotFound

        for step in steps:
            try:
                client.images.get(image(step))
            except ImageNotFound as error:
                # Never pulled by itself: without a registry's name it would be asked for from a public one, where
                # anybody may have put it.
                raise BadInput(
                    f"The image {image(step)} is not on this machine; build it with `make images`, "
                    "or `docker pull` it and name where it came from with VQI_IMAGES and VQI_IMAGE_TAG."
                ) from error


def docker_runner(parameters: Mapping[str, Any], run_dir: Path, variables: Mapping[str, str]) -> DockerRunner:
    """The runner for one run. `variables` are added to the environment of its steps; folders and files keep their paths
    inside."""
    from docker.types import Mount
    from kfp.local import DockerRunner

    environment = {
        name: value for name, value in os.environ.items() if name.startswith(PASSED_PREFIXES) or name in PASSED
    }
    tracking_uri = str(parameters["tracking_uri"] or environment.get("MLFLOW_TRACKING_URI", ""))
    # The environment names credentials, tokens and certificates by their files.
    read = [
        str(parameters["data_source"]),
        str(parameters["backbone_weights"]),
        *Category.from_parameters(parameters).method_paths.values(),
        *environment.values(),
    ]
    caches = _caches()
    checkpoints = [Path(folder) for folder in [str(parameters["train_checkpoints"])] if os.path.isabs(folder)]
    for folder in checkpoints:
        folder.mkdir(parents=True, exist_ok=True)  # a Docker engine would make it as root
    written = [
        str(folder) for folder in (run_dir, *checkpoints, *_find_written_folders(tracking_uri), *caches.values())
    ]
    mounts = {
        path: Mount(path, path, "bind", read_only=True) for path in read if os.path.isabs(path) and Path(path).exists()
    }
    mounts |= {path: Mount(path, path, "bind") for path in written}
    return DockerRunner(
        environment={**environment, **{name: str(folder) for name, folder in caches.items()}, **variables},
        mounts=list(mounts.values()),
        user=f"{os.getuid()}:{os.getgid()}",
        group_add=[str(group) for group in os.getgroups()],
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        labels={RUN_LABEL: run_dir.name},
        # A server on this machine's loopback address is out of reach from a network of the container's own.
        **({"network_mode": "host"} if any(map(LOOPBACK.match, [tracking_uri, *environment.values()])) else {}),
    )


@contextmanager
def end_containers(run_dir: Path) -> Iterator[None]:
    """Whatever ends the body, Ctrl-C too, no container of the run goes on. Docker's own errors become RunFailed."""
    from docker.errors import DockerException

    try:
        yield
    except DockerException as error:
        raise RunFailed(f"Docker could not run a step: {error}.") from error
    finally:
        with _engine() as client:
            for container in client.containers.list(filters={"label": f"{RUN_LABEL}={run_dir.name}"}):
                with suppress(DockerException):  # it has just ended
                    container.kill()


@contextmanager
def _engine() -> Iterator[DockerClient]:
    try:
        import docker
    except ImportError as error:
        raise BadInput(
            "--runner docker needs the package docker; install vqi[pipelines], or run with --runner subprocess."
        ) from error
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise BadInput(
            "No Docker engine answers; start it, name it with DOCKER_HOST, or run with --runner subprocess."
        ) from error
    try:
        yield client
    finally:
        client.close()


def _find_written_folders(tracking_uri: str) -> list[Path]:
    """The folder of a sqlite database of MLflow: the database, its journal and the artefacts of the runs."""
    if not tracking_uri.startswith("sqlite:///"):
        return []
    folder = Path(tracking_uri.removeprefix("sqlite:///").split("?")[0]).parent
    folder.mkdir(parents=True, exist_ok=True)
    return [folder]


def _caches() -> dict[str, Path]:
    """The user's own caches of downloads, by the variable that names each to a step: a container's /tmp is memory, and
    gone after the step."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = {
        name: Path(os.environ.get(name) or home / default).absolute()
        for name, default in (("VQI_CACHE", "vqi"), ("TORCH_HOME", "torch"))
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return folders

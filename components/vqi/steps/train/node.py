"""One of several nodes that train together: `python3 -m vqi.steps.train.node WORK`, in a pod that Kubeflow Trainer
makes (train_job.py).

It fetches the Dataset from the store, trains with the other nodes as Trainer's variables (PET_*) say, and the first
stores the network for the step. What ends it is the last thing it says, and its pod's message.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.logs import logger
from vqi.platform.mounted_environment import read_mounted_environment
from vqi.platform.settings import Settings, read_settings
from vqi.steps.running import step
from vqi.steps.train.exchange import Exchange, fetch_folder
from vqi.steps.train.settings import StepSettings
from vqi.storage.object_store import Address

log = logger(__name__)

# Where the kubelet reads a pod's last words.
MESSAGE = Path("/dev/termination-log")


class Work(Settings):
    """What a node is handed. `dataset` and `exchange` are s3:// addresses, `settings` those of the step."""

    dataset: str
    exchange: str
    settings: dict[str, Any]
    kfp_run: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on this node; the exit code is that of the error where there is one."""
    read_mounted_environment()
    (text,) = sys.argv[1:] if arguments is None else arguments
    with step("train"), _last_words(MESSAGE):
        import json

        work = read_settings(Work, json.loads(text))
        with tempfile.TemporaryDirectory(prefix="vqi-node-") as folder:
            train_node(work, Path(folder))


def train_node(work: Work, folder: Path) -> None:
    """Train with the other nodes; `folder` takes the Dataset and the network. Raises BadInput where the step that
    waits for this has gone."""
    from vqi.steps.train.step import TrainingJob, learn
    from vqi.training.distributed import launch_node

    gone: list[bool] = []

    def forgotten() -> None:
        gone.append(True)
        os.kill(os.getpid(), signal.SIGTERM)

    exchange = Exchange(work.exchange)
    exchange.watch(forgotten)
    settings = read_settings(StepSettings, work.settings)
    dataset, network = folder / "dataset", folder / "network"
    fetch_folder(exchange.store, Address.parse(work.dataset), dataset)
    try:
        trained = launch_node(learn, TrainingJob.of(settings, dataset, network, work.kfp_run))
    except RunFailed as error:
        if gone:  # not 1, which is begun again
            raise BadInput("The step that made this training is gone, so it ends; its checkpoints stay.") from error
        raise
    if trained is not None:
        exchange.send_network(network)


@contextmanager
def _last_words(file: Path) -> Iterator[None]:
    try:
        yield
    except (VqiError, OSError) as error:
        with suppress(OSError):
            if file.exists():
                file.write_text(str(error)[:4000])
        raise


if __name__ == "__main__":
    main()

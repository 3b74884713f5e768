"""Every trained method: the same seed gives the same weights bit for bit, also where the run was killed (SIGKILL) at a
random step and resumed."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from every_method import BACKBONE, COMPUTE, GEOMETRY, TRAINED, budget, small, write_dataset

STEPS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("resuming"))


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that start with torch already imported, so that each costs no more than its training."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "FrEIA.modules", "vqi.steps.train.step", "every_method"])
    return context


def trained(connection: Connection, method: str, dataset: str, network: str, checkpoints: str) -> None:
    """In a process of its own: train, telling every checkpoint that was written, and at the end the hash of the
    network's tensors."""
    import torch

    from step_calls import train
    from vqi.detectors.storage import read_network
    from vqi.training import checkpoints as kept
    from vqi.training import loop

    torch.set_num_threads(1)
    written = kept.Checkpoints.save

    def save(self: kept.Checkpoints, checkpoint: kept.Checkpoint, best: bool) -> None:
        written(self, checkpoint, best)
        connection.send(checkpoint.step)

    kept.Checkpoints.save = save  # type: ignore[method-assign]
    original = loop.Loop.__init__

    def every_step(self: loop.Loop, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options | {"checkpoint_seconds": 0.0})

    loop.Loop.__init__ = every_step  # type: ignore[method-assign]
    train(
        dataset=Path(dataset),
        method=method,
        settings=small(method),
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=1,
        network=Path(network),
        budgets=budget(method, STEPS, checkpoints),
    )
    connection.send(read_network(Path(network)).tensors_sha256)


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_killed_and_resumed(method: str, dataset: Path, tmp_path: Path, processes: Any) -> None:
    def start(name: str) -> tuple[Any, Connection]:
        ours, theirs = processes.Pipe(duplex=False)
        process = processes.Process(
            target=trained, args=(theirs, method, str(dataset), str(tmp_path / f"network {name}"), str(tmp_path / name))
        )
        process.start()
        theirs.close()
        return process, ours

    def to_the_end(process: Any, ours: Connection) -> list[Any]:
        messages = []
        try:
            while True:
                messages.append(ours.recv())
        except EOFError:
            process.join(60)
        assert process.exitcode == 0
        return messages

    *saved, expected = to_the_end(*start("whole"))
    assert saved[-STEPS:] == list(range(1, STEPS + 1))  # before them, the steps of a pretraining

    killed_after = random.randrange(1, len(saved))
    process, ours = start("killed")
    assert [ours.recv() for _ in range(killed_after)] == saved[:killed_after]
    process.kill()
    process.join(60)
    assert process.exitcode == -9

    resumed = to_the_end(*start("killed"))
    assert len(resumed) - 1 <= len(saved) - killed_after
    assert resumed[-1] == expected, f"killed after checkpoint {killed_after}"

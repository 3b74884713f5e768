"""Every trained method: two processes learn what one learns, the batches split between them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shared_methods import learn_methods
from torch import Tensor

from every_method import TRAINED, write_dataset
from vqi.training.distributed import Group, launch
from vqi.training.record import read_network_notes

Run = tuple[dict[str, Tensor], Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The first gradients of every method, and the folder of their networks: of one process, and of two."""
    folder = tmp_path_factory.mktemp("processes")
    dataset = write_dataset(folder)
    threads = torch.get_num_threads()
    try:
        alone = learn_methods(Group(), TRAINED, dataset, folder / "one")
    finally:
        torch.set_num_threads(threads)
    return (alone, folder / "one"), (launch(2, learn_methods, TRAINED, dataset, folder / "two"), folder / "two")


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_two_processes_learn_what_one_learns(method: str, runs: tuple[Run, Run]) -> None:
    (gradient, one), (shared_gradient, two) = (({**run[0]}[method], run[1] / method) for run in runs)
    # Sums are taken in another order. Most gradients agree to 1e-4; a ReLU whose input rounds to the other side of 0
    # changes cutpaste's by 5e-3. Later steps amplify the difference (stfpm learns at a rate of .4, and Adam's first
    # steps follow the sign of gradients that are all but 0), so that weights are compared by what is learnt with them.
    assert float((gradient - shared_gradient).norm() / gradient.norm()) < 1e-2
    losses, shared_losses = ([point.loss for point in _training(network).points] for network in (one, two))
    assert shared_losses[0] == pytest.approx(losses[0], rel=1e-5)
    assert shared_losses == pytest.approx(losses, rel=5e-3)


@pytest.mark.slow
def test_what_is_counted_of_an_epoch_is_counted_over_all_processes(runs: tuple[Run, Run]) -> None:
    """vgg_cam ends by the share of the epoch's photographs that it classified rightly."""
    one, two = (load_file(run[1] / "vgg_cam" / "network.safetensors") for run in runs)
    assert int(one["seen"]) == int(two["seen"]) > 0
    assert int(one["right"]) == int(two["right"])


def _training(network: Path):  # type: ignore[no-untyped-def]
    training = read_network_notes(network).training
    assert training is not None
    return training

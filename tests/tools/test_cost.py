from __future__ import annotations

import pytest

from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute
from vqi.tools import cost as costing
from vqi.tools.cost import Cost, measure_cost


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costing, "SECONDS", 0.05)


def cost(method: str, **settings: object) -> Cost:
    return measure_cost(method, settings, BackboneSettings(weights="random"), (64, 64), Compute())


def test_a_memory_method_costs_its_index() -> None:
    estimate = cost("patchcore")
    assert estimate.trainings == ()
    assert estimate.layers == ("layer2", "layer3")
    assert estimate.latency_ms > 0
    assert estimate.index_seconds > 0
    assert estimate.hours == pytest.approx(estimate.index_seconds / 3600)


def test_a_trained_method_costs_its_default_budget() -> None:
    estimate = cost("stfpm")
    (training,) = estimate.trainings
    assert (training.batch_size, training.steps) == (
        32,
        700,
    )  # 100 epochs of 200 images: six whole batches and a rest of eight
    assert 2 <= training.measured_batch <= 32
    assert estimate.index_seconds == 0
    assert estimate.hours == pytest.approx(700 * training.milliseconds / 3_600_000)


@pytest.mark.slow
def test_what_is_learnt_first_and_what_is_supervised_are_counted() -> None:
    teacher, training = cost("efficient_ad", channels=8).trainings
    assert (teacher.name, teacher.steps) == ("teacher", 10_000)
    assert (training.batch_size, training.measured_batch, training.steps) == (1, 1, 70_000)
    assert cost("vgg_cam").trainings[0].milliseconds > 0


def test_mini_batches_are_counted_where_time_does_not_suffice_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    import torch
    from torch import nn

    class InFour(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.learnt = 0

        def views(self, images, labels, random):
            return {"images": images}

        def mini_batches(self, views):
            yield from ({"images": part} for part in views["images"].split(1))

        def loss(self, views):
            time.sleep(0.06)
            self.learnt += 1
            return {"loss": self.weight.sum()}

    learner = InFour()
    optimisation = costing.Optimisation(torch.optim.SGD(learner.parameters(), 0.1))
    seconds = costing._step(learner, optimisation, torch.rand(4, 3, 8, 8), None)  # type: ignore[arg-type]
    assert learner.learnt == 1
    assert seconds >= 4 * 0.06

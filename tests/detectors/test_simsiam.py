"""SimSiam: its loss against the paper's pseudocode, its optimisation, and where gradients go."""

import math

import pytest
import torch
from normals import Batches, smooth_images

from vqi.detectors.learner import Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.simsiam import Simsiam
from vqi.platform.errors import BadInput

RANDOM = BackboneSettings(weights="random", layers=("layer1.0",))


def made(**settings: object) -> Simsiam:
    detector = create("simsiam", {"projection": 64, "bottleneck": 16, **settings}, RANDOM, (64, 64), seed=1)
    assert isinstance(detector, Simsiam)
    detector.prepare(Batches(smooth_images(8)))
    detector.begin_epoch(0, Schedule(4, 2, 4))
    detector.train()
    return detector


def test_the_loss_is_the_papers_pseudocode():
    detector = made()
    views = detector.views(smooth_images(6), None, torch.Generator().manual_seed(0))
    losses = detector.loss(views)

    def negative_cosine(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return -((p / p.norm(dim=1, keepdim=True)) * (z / z.norm(dim=1, keepdim=True))).sum(dim=1).mean()

    z = [
        detector.projector(detector.backbone(views[name])["layer1.0"].mean(dim=(2, 3))) for name in ("first", "second")
    ]
    p = [detector.predictor(one) for one in z]
    expected = negative_cosine(p[0], z[1]) / 2 + negative_cosine(p[1], z[0]) / 2
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=1e-5)
    assert 0.3 < float(losses["spread"]) < 1.1


def test_gradients_stop_at_the_target_and_reach_everything_else():
    detector = made()
    views = detector.views(smooth_images(6), None, torch.Generator().manual_seed(0))
    loss = detector.loss(views)["loss"]
    loss.backward()
    assert all(
        parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()) for parameter in detector.parameters()
    )
    # With the predictor cut off nothing is left to learn from: both targets are constants.
    detector.zero_grad()
    detector.predictor.register_forward_hook(lambda module, inputs, output: output.detach())
    assert not detector.loss(views)["loss"].requires_grad


def test_the_two_views_differ_and_their_shapes_are_the_images():
    detector = made()
    images = smooth_images(3)
    views = detector.views(images, None, torch.Generator().manual_seed(0))
    assert set(views) == {"first", "second"}
    assert views["first"].shape == views["second"].shape == images.shape
    assert not torch.equal(views["first"], views["second"])


def test_the_encoders_rate_follows_a_cosine_and_the_predictors_stays():
    optimiser, factor, _ = made(backbone_rate=0.5).optimisation(Schedule(100, 10, 64))
    projector, backbone, predictor = optimiser.param_groups
    assert projector["lr"] == predictor["lr"] == 2 * backbone["lr"] == pytest.approx(0.05 * 64 / 256)
    assert all((group["weight_decay"], group["momentum"]) == (1e-4, 0.9) for group in optimiser.param_groups)
    assert predictor["fixed"]
    assert "fixed" not in projector
    assert "fixed" not in backbone
    assert [factor(step) for step in (0, 50, 99)] == pytest.approx([1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 0.99))])


def test_a_batch_of_one_is_refused():
    with pytest.raises(BadInput, match=r"train\.batch_size is 1, and simsiam"):
        made().optimisation(Schedule(4, 4, 1))


def test_the_loss_falls():
    detector, schedule = made(learning_rate=2.0), Schedule(16, 1, 8)
    optimiser, _, _ = detector.optimisation(schedule)
    views, losses = detector.views(smooth_images(8), None, torch.Generator().manual_seed(0)), []
    for _ in range(16):
        loss = detector.loss(views)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3

"""DRÆM: its losses and its score against the plain computation, and what every trained method promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images
from torch import Tensor

from vqi.deployment.graph_export import export_graphs
from vqi.detectors.compute import to_device
from vqi.detectors.draem import Draem, Sspcab, StructuralSimilarity, focal_loss, windowed_log_odds
from vqi.detectors.learner import Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_network, read_network, save_network
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput

# The category names a network and weights that are not there: DRÆM must not ask for them.
UNREAD = BackboneSettings(name="resnet18", weights="/nowhere/weights.pth")
SIDE = 32
# Narrow networks and coarse, plain anomalies, so that a minute's training takes seconds.
EASY = {"opacity": 0.9, "threshold": 0.2, "anomalous": 0.8, "finest": 2, "turned": 0.0}
SMALL = {"reconstructive_width": 8, "discriminative_width": 8, "learning_rate": 0.003} | EASY
SCHEDULE = Schedule(steps=1000, steps_per_epoch=4, batch_size=8)


def parts(count: int, seed: int = 0) -> Tensor:
    """Pictures of one product, all nearly alike: float32 [count, 3, SIDE, SIDE]."""
    return 0.9 * smooth_images(1, SIDE) + 0.1 * torch.rand(
        count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)
    )


def damaged(images: Tensor) -> Tensor:
    """The same with a square of magenta."""
    changed = images.clone()
    changed[:, :, 6:14, 6:14] = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    return changed


def detector(settings: dict | None = None, size: tuple[int, int] = (SIDE, SIDE), seed: int = 3) -> Draem:
    made = create("draem", SMALL | (settings or {}), UNREAD, size, seed)
    assert isinstance(made, Draem)
    return made


def trained(settings: dict | None = None, steps: int = 60) -> tuple[Draem, list[float]]:
    """A detector after some steps, and its losses."""
    learner, losses = detector(settings), []
    optimiser = learner.optimisation(SCHEDULE).optimiser
    learner.train()
    for step in range(steps):
        views = learner.views(parts(8, seed=step % 2), None, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss = learner.loss(views)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return learner.eval(), losses


@pytest.fixture(scope="module")
def training_run() -> tuple[Draem, list[float]]:
    return trained()


@pytest.fixture(scope="module")
def taught(training_run) -> Draem:
    return training_run[0].requires_grad_(False)


def test_no_backbone_is_read_and_the_artefact_says_so(tmp_path):
    made = detector()
    assert [*made.backbone.parameters()] == []
    save_network(made, tmp_path, {})
    record = read_network(tmp_path)
    assert record.weights.values() == {"kind": "none", "label": "trained from scratch", "sha256": ""}
    assert (record.backbone.name, record.backbone.layers) == ("no backbone", ())
    moved = to_device(made, Compute(device="cpu", precision="bfloat16"))
    assert moved.device == torch.device("cpu")


def test_a_defect_scores_higher_after_training_and_the_map_shows_where(taught):
    normal, defective = taught(parts(4, seed=9)), taught(damaged(parts(4, seed=9)))
    assert normal.map.shape == (4, SIDE, SIDE)
    assert normal.image.dtype == normal.map.dtype == torch.float32
    assert float(defective.image.min()) > float(normal.image.max()) + 0.5
    assert float(defective.map[:, 6:14, 6:14].mean()) > float(defective.map[:, 20:, 20:].mean()) + 1


def test_loss_falls_and_every_weight_learns(training_run):
    learner, losses = training_run
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    untrained = dict(detector().named_parameters())
    assert all(not torch.equal(value, untrained[name]) for name, value in learner.named_parameters())


def test_loss_is_equation_4():
    learner = detector({"sspcab": True, "sspcab_weight": 0.25}).train()
    views = learner.views(parts(4), None, torch.Generator().manual_seed(0))
    losses = learner.loss(views)
    expected = losses["l2"] + losses["ssim"] + losses["focal"] + 0.25 * losses["sspcab"]
    torch.testing.assert_close(losses["loss"], expected)
    assert set(detector().loss(views)) == {"loss", "l2", "ssim", "focal"}


def test_focal_loss_is_that_of_two_classes():
    logits = torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(0)) * 3
    mask = (torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    probability = torch.softmax(logits.double(), dim=1).gather(1, mask.long()[:, None])
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    torch.testing.assert_close(focal_loss(logits[:, 1] - logits[:, 0], mask).double(), expected)


def test_focal_loss_stays_finite_where_a_softmax_would_be_one():
    log_odds = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    loss = focal_loss(log_odds, torch.tensor([[[0.0, 1.0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(200.0)
    assert bool((log_odds.grad.abs() > 0.4).all())


def test_structural_similarity_is_equation_13_of_its_paper():
    first, second = smooth_images(2, side=24), smooth_images(2, side=24, seed=1)
    similarity = StructuralSimilarity()
    torch.testing.assert_close(similarity(first, first), torch.ones_like(first))
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    x, y = (image[1, 2, 4:15, 6:17].double().numpy() for image in (first, second))
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    variance_x, variance_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    covariance = (window * (x - mean_x) * (y - mean_y)).sum()
    a, b = 0.01**2, 0.03**2
    expected = (
        (2 * mean_x * mean_y + a) * (2 * covariance + b) / ((mean_x**2 + mean_y**2 + a) * (variance_x + variance_y + b))
    )
    assert float(similarity(first, second)[1, 2, 9, 11]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(40, 52), (16, 30)], ids=["larger", "smaller than the window"])
def test_the_papers_image_score_as_log_odds(size):
    log_odds = 4 * torch.randn(3, *size, generator=torch.Generator().manual_seed(0)) - 6
    log_odds[1, 3:9, -5:] = 9.0  # at the border, where zeros outside count
    window = min(21, *size) if min(size) < 21 else 21
    averaged = F.avg_pool2d(torch.sigmoid(log_odds.double())[:, None], (min(21, size[0]), min(21, size[1])), stride=1)
    highest = averaged.amax(dim=(1, 2, 3))
    torch.testing.assert_close(windowed_log_odds(log_odds, 21).double(), torch.logit(highest), rtol=1e-4, atol=1e-4)
    if window == 21:
        padded = F.avg_pool2d(torch.sigmoid(log_odds.double())[:, None], 21, stride=1, padding=10).amax(dim=(1, 2, 3))
        torch.testing.assert_close(padded, highest)


def test_certainty_does_not_make_scores_equal():
    sure, surer = torch.full((1, 32, 32), 60.0), torch.full((1, 32, 32), 90.0)
    assert float(torch.sigmoid(sure).max()) == float(torch.sigmoid(surer).max()) == 1.0
    assert float(windowed_log_odds(surer, 21)) == pytest.approx(float(windowed_log_odds(sure, 21)) + 30, rel=1e-4)


def test_the_image_score_is_the_configured_one(taught):
    images = damaged(parts(2))
    maps = taught(images).map
    for kind, expected in {
        "max": maps.amax(dim=(1, 2)),
        "top": maps.flatten(1).topk(5).values.mean(dim=1),
        "window": windowed_log_odds(maps, 21),
    }.items():
        other = detector({"image_score": kind})
        other.load_state_dict(taught.state_dict())
        torch.testing.assert_close(other(images).image, expected)


def test_sspcab_never_sees_the_position_it_predicts():
    block = Sspcab(8)
    block.squeeze.requires_grad_(False).weight.zero_()  # the channels' weights are of the whole map
    x = torch.rand(1, 8, 9, 9, requires_grad=True)
    block(x)[0, :, 4, 4].sum().backward()
    assert torch.nonzero(x.grad[0].abs().sum(dim=0)).tolist() == [[2, 2], [2, 6], [6, 2], [6, 6]]


def test_sspcab_learns():
    learner, losses = trained({"sspcab": True}, steps=12)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert isinstance(learner.reconstructive.bottleneck, Sspcab)


def test_scores_do_not_depend_on_the_batch(taught):
    images = damaged(parts(4, seed=9))
    together = taught(images)
    for number in range(4):
        alone = taught(images[number : number + 1])
        torch.testing.assert_close(alone.image[0], together.image[number], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            alone.map[0], together.map[number], rtol=1e-5, atol=1e-5 * float(together.map.abs().max())
        )


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    before = torch.random.get_rng_state()
    first, second = trained(steps=3)[0], trained(steps=3)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(next(detector(seed=4).parameters()), next(detector(seed=3).parameters()))


def test_saved_and_loaded_scores_are_the_same_bit_for_bit(taught, tmp_path):
    save_network(taught, tmp_path, {})
    loaded = load_network(tmp_path)
    images = damaged(parts(2))
    assert torch.equal(taught(images).map, loaded(images).map)
    assert torch.equal(taught(images).image, loaded(images).image)


@pytest.mark.parametrize("size", [(32, 32), (50, 77)], ids=["smallest", "odd"])
def test_any_size(size):
    made = detector(size=size)
    made.train()
    losses = made.loss(made.views(torch.rand(2, 3, *size), None, torch.Generator().manual_seed(0)))
    assert math.isfinite(losses["loss"].item())
    assert made.eval()(torch.rand(3, 3, *size)).map.shape == (3, *size)


def test_one_small_image_a_step_is_refused():
    with pytest.raises(BadInput, match=r"train\.batch_size"):
        detector(size=(32, 32)).optimisation(Schedule(steps=1, steps_per_epoch=1, batch_size=1))


def test_the_rate_falls_at_eight_and_nine_tenths():
    factor = detector().optimisation(Schedule(steps=100, steps_per_epoch=10, batch_size=4)).factor
    assert [round(factor(step), 6) for step in (0, 79, 80, 89, 90, 99)] == [1, 1, 0.2, 0.2, 0.04, 0.04]


def test_extra_textures_are_used():
    learner = detector({"anomalous": 1.0, "opacity": 1.0})
    images = parts(4)
    own = learner.views(images, None, torch.Generator().manual_seed(0))["simulated"]
    learner.extra = TensorImages(torch.zeros(1, 3, SIDE, SIDE))
    views = learner.views(images, None, torch.Generator().manual_seed(0))
    inside = views["mask"].expand_as(images) > 0
    assert not torch.equal(own, views["simulated"])
    # A picture of one value stays of few values a channel, whatever is done to it.
    assert len(views["simulated"][0][inside[0]].unique()) <= 9


@pytest.mark.slow
def test_the_exported_graphs_agree(taught, tmp_path):
    import onnxruntime
    import openvino

    made = detector({"image_score": "window"})
    made.load_state_dict(taught.state_dict())
    export_graphs(made, tmp_path)
    images = damaged(parts(3, seed=5))
    expected = made.requires_grad_(False)(images)
    outputs = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(
        ["score", "map"], {"images": images.numpy()}
    )
    compiled = openvino.Core().compile_model(
        tmp_path / "openvino/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )(images.numpy())
    for score, anomaly_map in (outputs, (compiled["score"], compiled["map"])):
        np.testing.assert_allclose(score, expected.image.numpy(), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(anomaly_map, expected.map.numpy(), rtol=1e-3, atol=1e-3)


def test_the_index_is_empty(taught):
    taught.build_index(Batches(parts(4)))
    assert taught.index == {}

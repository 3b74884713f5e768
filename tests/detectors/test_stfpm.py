"""STFPM: its equations, what it trains and what it leaves alone, and a student that comes back from disk as it went."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images, with_defect

from vqi.detectors.compute import to_device
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.stfpm import Stfpm
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings

RANDOM = BackboneSettings(weights="random")


def untrained(backbone: BackboneSettings = RANDOM, **settings: object) -> Stfpm:
    detector = create("stfpm", settings, backbone, (64, 64), seed=3)
    assert isinstance(detector, Stfpm)
    return detector


def trained(steps: int) -> tuple[Stfpm, list[dict[str, float]]]:
    detector, images = untrained(), smooth_images(8)
    loop = Loop(
        detector,
        TensorImages(images),
        name="stfpm",
        settings=TrainSettings(max_steps=steps, batch_size=4),
        budget=detector.settings.budget,
        compute=Compute(),
        seed=0,
    )
    return detector, loop.run(Batches(images)).points


@pytest.fixture(scope="module")
def learnt() -> tuple[Stfpm, list[dict[str, float]]]:
    return trained(16)


@torch.no_grad()
def test_the_map_is_the_product_of_the_scales_and_the_loss_their_sum():
    detector = untrained(image_score="max")
    images = smooth_images(3)
    teacher, student = detector.backbone(images), detector.student(images)
    product, total = torch.ones(3, 1, 64, 64), torch.zeros(3)
    for layer, wanted in teacher.items():
        cosine = F.cosine_similarity(wanted.double(), student[layer].double())
        # Half the squared distance of two unit vectors.
        difference = (1 - cosine).float()[:, None]
        product = product * F.interpolate(difference, size=(64, 64), mode="bilinear")
        total = total + difference.mean(dim=(1, 2, 3))
    scores = detector(images)
    torch.testing.assert_close(scores.map, product[:, 0], rtol=1e-4, atol=1e-6)
    assert torch.equal(scores.image, scores.map.amax(dim=(1, 2)))
    losses = detector.loss({"images": images})
    torch.testing.assert_close(losses["loss"], total.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["loss"], losses["layer1"] + losses["layer2"] + losses["layer3"])


def test_the_student_learns_and_nothing_else_changes(learnt):
    before = untrained().state_dict()
    detector, points = learnt
    assert points[-1]["loss"] < 0.8 * points[0]["loss"]
    changed = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"student"}
    weights = {f"student.{name}" for name, _ in detector.student.named_parameters()}
    assert weights <= changed
    # Its batch normalisation learns the statistics of normals.
    assert "student.body.bn1.running_mean" in changed


@torch.no_grad()
def test_a_trained_student_fails_where_a_defect_is(learnt):
    detector, _ = learnt
    good = smooth_images(4, seed=9)
    normal, defective = detector(good), detector(with_defect(good))
    assert (defective.image > normal.image).all()
    assert defective.map[:, 12:28, 12:28].mean() > 2 * defective.map[:, 44:, 44:].mean()


@torch.no_grad()
def test_a_random_teachers_student_does_not_begin_as_its_copy():
    detector = untrained()
    assert float(detector(smooth_images(2)).map.min()) > 1e-6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_they_survive_the_disk(tmp_path: Path):
    images = with_defect(smooth_images(2, seed=9))
    (first, _), (second, _) = trained(2), trained(2)
    save_network(first, tmp_path, {})
    loaded = load_network(tmp_path)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert torch.equal(first(images).map, loaded(images).map)


@torch.no_grad()
def test_scores_do_not_depend_on_the_batch(learnt):
    detector, _ = learnt
    images = with_defect(smooth_images(4, seed=9))
    together = detector(images)
    for number in range(4):
        alone = detector(images[number : number + 1])
        torch.testing.assert_close(alone.image[0], together.image[number], rtol=1e-5, atol=0)
        torch.testing.assert_close(alone.map[0], together.map[number], rtol=1e-5, atol=1e-5 * float(together.map.max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    [
        BackboneSettings(name="mobilenet_v2", weights="random", layers=("features.3", "features.6")),
        BackboneSettings(name="efficientnet_b0", weights="random", layers=("features.2", "features.3")),
        BackboneSettings(name="vgg11", weights="random", layers=("features.5", "features.10")),
    ],
    ids=lambda backbone: backbone.name,
)
def test_any_network_has_a_student(backbone: BackboneSettings):
    detector = untrained(backbone).train()
    detector.loss({"images": smooth_images(2)})["loss"].backward()
    assert all(parameter.grad is not None for parameter in detector.student.parameters())
    assert all(parameter.grad is None for parameter in detector.backbone.parameters())
    assert not detector.backbone.body.training


@torch.no_grad()
def test_the_student_runs_in_the_precision_of_the_teacher():
    detector = to_device(untrained(), Compute(precision="bfloat16"))
    images = smooth_images(2)
    exact = untrained()(images)
    reduced = detector(images)
    assert detector.student.precision == torch.bfloat16
    assert reduced.map.dtype == torch.float32
    torch.testing.assert_close(reduced.map, exact.map, rtol=0.1, atol=0.1 * float(exact.map.max()))


def test_a_backbone_without_weights_is_refused():
    with pytest.raises(BadInput, match="filterbank has nothing to train"):
        untrained(RANDOM.model_copy(update={"name": "filterbank"}))

"""EfficientAD: its networks, losses and maps against the plain computation, its teacher from a file or distilled, and
what each lesson trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images, with_defect
from safetensors.torch import save_file

from vqi.deployment.graph_export import export_graphs
from vqi.detectors.distillation import Distillation
from vqi.detectors.efficient_ad import EfficientAd, augmented, luminance
from vqi.detectors.learner import Learner, Schedule
from vqi.detectors.patch_description import PatchDescription, grid_size
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, Budget
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings

BANK = BackboneSettings(name="filterbank", weights="none")
CHANNELS = 8


def untrained(input_size: tuple[int, int] = (64, 64), **settings: object) -> EfficientAd:
    detector = create("efficient_ad", {"channels": CHANNELS, **settings}, BANK, input_size, seed=3)
    assert isinstance(detector, EfficientAd)
    return detector


def learn(learner: Learner, steps: int, images: torch.Tensor, batch_size: int = 2) -> list[dict[str, float]]:
    settings = TrainSettings(max_steps=steps, batch_size=batch_size)
    loop = Loop(
        learner,
        TensorImages(images),
        name="lesson",
        settings=settings,
        budget=Budget(1, steps=1),
        compute=Compute(),
        seed=0,
    )
    return loop.run(Batches(images)).points


def trained(teacher_steps: int, steps: int) -> EfficientAd:
    detector = untrained()
    pretraining = detector.pretraining()
    assert pretraining is not None
    learn(pretraining.learner, teacher_steps, smooth_images(6))
    learn(detector, steps, smooth_images(6))
    return detector


@pytest.fixture(scope="module")
def learnt() -> EfficientAd:
    return trained(6, 12)


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("side", [33, 64, 67])
def test_a_description_is_of_33_pixels_every_four(size: str, side: int):
    network = PatchDescription(size, 32)
    images = torch.rand(1, 3, side, 64, requires_grad=True)
    described = network(images)
    assert described.shape == (1, 32, *grid_size((side, 64)))
    described[0, :, 0, 2].sum().backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(dim=0).nonzero()
    assert seen.amin(dim=0).tolist() == [0, 8]
    assert seen.amax(dim=0).tolist() == [32, 8 + 32]


@torch.no_grad()
def test_a_part_of_the_channels_is_what_the_whole_has():
    network, images = PatchDescription("small", 6), torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(network(images, slice(4, None)), network(images)[:, 4:], rtol=1e-5, atol=1e-6)


def test_losses_are_those_of_the_paper():
    detector = untrained(hard_share=0.01).eval()
    detector.extra = TensorImages(smooth_images(3, seed=7))
    detector.prepare(Batches(smooth_images(4)))
    views = detector.views(smooth_images(1), None, torch.Generator().manual_seed(0))
    assert set(views) == {"images", "augmented", "penalty"}
    with torch.no_grad():
        losses = detector.loss(views)
        wanted = (detector.teacher(views["images"]) - detector.teacher_mean) / detector.teacher_std
        distances = (wanted - detector.student(views["images"])[:, :CHANNELS]).square()
        hard = distances[distances >= torch.quantile(distances, 0.99)].mean()
        penalty = detector.student(views["penalty"])[:, :CHANNELS].square().mean()
        wanted = (detector.teacher(views["augmented"]) - detector.teacher_mean) / detector.teacher_std
        reconstructed = detector.autoencoder(views["augmented"])
        autoencoder = F.mse_loss(wanted, reconstructed)
        both = F.mse_loss(detector.student(views["augmented"])[:, CHANNELS:], reconstructed)
    expected = {"student_teacher": hard, "penalty": penalty, "autoencoder": autoencoder, "student_autoencoder": both}
    assert set(losses) == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(losses["loss"], hard + penalty + autoencoder + both, rtol=1e-4, atol=0)


def test_a_batch_has_the_mean_of_its_images_losses():
    detector, images = untrained().eval(), smooth_images(3)
    detector.prepare(Batches(images))
    with torch.no_grad():
        alone = [detector.loss({"images": image[None], "augmented": image[None]})["loss"] for image in images]
        together = detector.loss({"images": images, "augmented": images})["loss"]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=0)


def test_teachers_outputs_are_normalised_over_the_normals():
    detector, images = untrained(), smooth_images(6)
    detector.prepare(Batches(images))
    outputs = detector.taught(images)
    torch.testing.assert_close(outputs.mean(dim=(0, 2, 3)), torch.zeros(CHANNELS), rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs.std(dim=(0, 2, 3), correction=0), torch.ones(CHANNELS), rtol=1e-4, atol=0)


@torch.no_grad()
def test_maps_of_normals_have_their_quantiles_at_0_and_a_tenth():
    detector, normals = untrained().eval(), smooth_images(5)
    detector.prepare(Batches(normals))
    detector.finish(Batches(normals, 2))
    for kind, values in enumerate(detector.maps(normals)):
        low, high = np.quantile(values.numpy(), (0.9, 0.995))
        np.testing.assert_allclose(detector.quantiles[kind].numpy(), (low, high), rtol=1e-4)
    local, logical = (
        0.1 * (values - q[0]) / (q[1] - q[0])
        for values, q in zip(detector.maps(normals), detector.quantiles, strict=True)
    )
    torch.testing.assert_close(detector(normals).map, (local + logical) / 2, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_maps_are_the_mean_squared_differences_brought_to_the_image():
    detector, images = untrained().eval(), smooth_images(2)
    detector.prepare(Batches(images))
    student = detector.student(images)
    grid = (detector.taught(images) - student[:, :CHANNELS]).square().mean(dim=1, keepdim=True)
    expected = F.interpolate(F.pad(grid, (4, 4, 4, 4)), size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(detector.maps(images)[0], expected, rtol=1e-4, atol=1e-5)


def test_each_training_job_trains_its_own_networks():
    detector, images = untrained(), smooth_images(4)
    pretraining = detector.pretraining()
    assert pretraining is not None
    names = ("teacher", "student", "autoencoder", "backbone")

    def changed(before: dict[str, torch.Tensor]) -> set[str]:
        state = detector.state_dict()
        return {name.split(".")[0] for name in before if not torch.equal(before[name], state[name])} & set(names)

    before = {name: value.clone() for name, value in detector.state_dict().items()}
    learn(pretraining.learner, 2, images)
    assert changed(before) == {"teacher"}
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    learn(detector, 2, images)
    assert changed(before) == {"student", "autoencoder"}


@pytest.mark.slow
def test_distillation_brings_the_teacher_closer_to_the_backbone():
    pretraining = untrained((40, 40)).pretraining()
    assert pretraining is not None
    learner, images = pretraining.learner, smooth_images(4, 40)
    learner.prepare(Batches(images))
    optimiser = learner.optimisation(Schedule(steps=10_000, steps_per_epoch=1, batch_size=4)).optimiser
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = learner.loss({"images": images})["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_the_target_of_a_position_is_the_backbones_feature():
    pretraining = untrained().pretraining()
    assert pretraining is not None
    assert isinstance(pretraining.learner, Distillation)
    plain, changed = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.5)
    # A description's 33 pixels from 4 * position on have their middle here.
    row, column = 4 * 2 + 16, 4 * 6 + 16
    changed[:, :, row - 2 : row + 3, column - 2 : column + 3] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    difference = (pretraining.learner.features(changed) - pretraining.learner.features(plain)).abs().sum(dim=1)[0]
    assert difference.shape == (8, 8)
    weights = difference / difference.sum()
    middle = ((weights.sum(dim=1) * torch.arange(8)).sum(), (weights.sum(dim=0) * torch.arange(8)).sum())
    assert abs(float(middle[0]) - 2) < 0.75
    assert abs(float(middle[1]) - 6) < 0.75


def test_distillation_takes_its_share_of_other_images():
    detector = untrained()
    detector.extra = TensorImages(smooth_images(3, seed=7))
    pretraining = detector.pretraining()
    assert pretraining is not None
    views = pretraining.learner.views(smooth_images(4), None, torch.Generator().manual_seed(0))
    assert views["others"].shape == views["images"].shape == (4, 3, 64, 64)
    others = {tuple(image.flatten()[:20].tolist()) for image in detector.extra.images}
    assert {tuple(image.flatten()[:20].tolist()) for image in views["others"]} <= others


def test_the_student_fails_where_a_defect_is(learnt: EfficientAd):
    good = smooth_images(4, seed=9)
    with torch.no_grad():
        normal, defective = learnt(good), learnt(with_defect(good))
    assert (defective.image > normal.image.max()).all()
    assert defective.map[:, 18:26, 18:26].mean() > defective.map[:, 44:48, 44:48].mean()


def test_scores_do_not_depend_on_the_batch(learnt: EfficientAd):
    images = with_defect(smooth_images(3, seed=9))
    with torch.no_grad():
        together = learnt(images)
        for number in range(3):
            alone = learnt(images[number : number + 1])
            torch.testing.assert_close(
                alone.image[0], together.image[number], rtol=1e-5, atol=1e-5 * float(together.image.max())
            )
            torch.testing.assert_close(
                alone.map[0], together.map[number], rtol=1e-5, atol=1e-5 * float(together.map.max())
            )


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_they_survive_the_disk(tmp_path: Path):
    first, second = trained(1, 2), trained(1, 2)
    save_network(first, tmp_path, {})
    loaded = load_network(tmp_path)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
        assert torch.equal(value, loaded.state_dict()[name]), name
    images = smooth_images(2, seed=9)
    with torch.no_grad():
        assert torch.equal(first(images).map, loaded(images).map)


@pytest.mark.slow
def test_the_exported_graph_scores_alike(learnt: EfficientAd, tmp_path: Path):
    import onnxruntime

    export_graphs(learnt, tmp_path)
    images = with_defect(smooth_images(3, seed=9))
    score, values = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = learnt(images)
    np.testing.assert_allclose(score, ours.image.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(values, ours.map.numpy(), rtol=1e-4, atol=1e-4 * float(ours.map.max()))


@pytest.mark.parametrize("names", ["own", "whole model", "numbered"])
def test_a_teacher_comes_from_a_file(tmp_path: Path, names: str):
    teacher = PatchDescription("small", CHANNELS)
    state = teacher.state_dict()
    if names == "whole model":
        student = PatchDescription("small", 2 * CHANNELS).state_dict()
        state = {f"model.teacher.{key}": value for key, value in state.items()} | {
            f"model.student.{key}": value for key, value in student.items()
        }
    elif names == "numbered":
        places = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8}
        state = {f"{places[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "teacher.safetensors")
    detector = untrained(teacher=str(tmp_path / "teacher.safetensors"))
    assert detector.pretraining() is None
    detector.prepare(Batches(smooth_images(2)))
    for key, value in teacher.state_dict().items():
        assert torch.equal(detector.teacher.state_dict()[key], value)


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path):
    file = tmp_path / "teacher.safetensors"
    normals = Batches(smooth_images(2))
    with pytest.raises(BadInput, match=r"method\.settings\.teacher is .* no such file; make one with vqi distill"):
        untrained(teacher=str(file)).prepare(normals)
    save_file(PatchDescription("small", CHANNELS).state_dict(), file)
    with pytest.raises(BadInput, match=r"as method\.settings\.teacher_sha256 says"):
        untrained(teacher=str(file), teacher_sha256="0" * 64).prepare(normals)
    with pytest.raises(BadInput, match=r"is method\.settings\.model_size that of the teacher"):
        untrained(teacher=str(file), model_size="medium").prepare(normals)
    save_file(PatchDescription("medium", CHANNELS).state_dict(), file)
    with pytest.raises(BadInput, match=r"model_size"):
        untrained(teacher=str(file)).prepare(normals)
    save_file({"encoder.weight": torch.zeros(1)}, file)
    with pytest.raises(BadInput, match=r"hold no conv1\.weight of a patch description network; they hold: encoder"):
        untrained(teacher=str(file)).prepare(normals)


def test_an_augmentation_is_brightness_contrast_or_saturation():
    images = smooth_images(1).expand(64, -1, -1, -1)
    changed = augmented(images, torch.Generator().manual_seed(0))
    grey = luminance(images)
    towards = {
        "brightness": torch.zeros_like(images),
        "contrast": grey.mean(dim=(1, 2, 3), keepdim=True).expand_as(images),
        "saturation": grey,
    }
    matches = set()
    for image, result in zip(images, changed, strict=True):
        for name, other in towards.items():
            shift, difference = result - image, other[0] - image
            inside = (result > 0) & (result < 1)
            factor = (shift * difference)[inside].sum() / difference[inside].square().sum()
            if torch.allclose(shift[inside], factor * difference[inside], atol=1e-5):
                matches.add(name)
                assert abs(float(factor)) <= 0.2 + 1e-5
                break
        else:
            raise AssertionError("an augmentation is none of the three")
    assert matches == set(towards)


@pytest.mark.parametrize("input_size", [(36, 100), (130, 66)])
@torch.no_grad()
def test_any_image_size(input_size: tuple[int, int]):
    scores = untrained(input_size)(torch.rand(2, 3, *input_size))
    assert scores.map.shape == (2, *input_size)


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(BadInput, match=r"see 33 x 33 pixels at once, the images have 32 x 64"):
        untrained((32, 64))

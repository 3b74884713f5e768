"""vgg_cam: the head and the map against plain computation, the lesson of its source, and what every detector must
do."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from normals import smooth_images, with_defect
from torch import Tensor, nn

from vqi.deployment.graph_export import export_graphs
from vqi.detectors.learner import Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, settings_class
from vqi.detectors.storage import load_network, save_network
from vqi.detectors.vgg_cam import DEFECT, GOOD, VggCam, thaw
from vqi.platform.devices import Compute
from vqi.training.checkpoints import Checkpoints
from vqi.training.loop import Loop, Training
from vqi.training.settings import TrainSettings

SIZE = (64, 64)
SCHEDULE = Schedule(20, 4, 5)


class Labelled:
    """Good images and the same with a defect, every third defective."""

    def __init__(self, count: int = 18) -> None:
        good = smooth_images(count)
        self.labels: Tensor | None = (torch.arange(count) % 3 == 0).long()
        self.images = torch.where(self.labels.view(-1, 1, 1, 1) == DEFECT, with_defect(good), good)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]


def detector(
    name: str = "resnet18",
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    layers: tuple[str, ...] | None = None,
    **settings: Any,
) -> VggCam:
    if layers is None:
        layers = ("layer1",) if name == "resnet18" else ()
    made = create("vgg_cam", settings, BackboneSettings(name=name, weights="random", layers=layers), size, seed)
    assert isinstance(made, VggCam)
    return made


@pytest.fixture(scope="module")
def vgg16() -> VggCam:
    return detector("vgg16")


def trained(learner: VggCam, epochs: int, checkpoints: Checkpoints | None = None) -> Training:
    images = Labelled()
    loop = Loop(
        learner,
        images,
        name="vgg_cam",
        settings=TrainSettings(max_epochs=epochs, batch_size=6),
        budget=settings_class("vgg_cam").budget,  # type: ignore[arg-type]
        compute=Compute(),
        seed=0,
        checkpoints=checkpoints,
        checkpoint_seconds=0,
    )
    return loop.run([])  # type: ignore[arg-type]


def test_the_score_is_the_margin_of_the_classifier_and_the_map_its_weighted_channels(vgg16: VggCam) -> None:
    made, images = vgg16, smooth_images(3)
    with torch.no_grad():
        features = made.backbone(images)["features.29"]
        pooled = F.max_pool2d(features, 2).mean(dim=(2, 3))
        logits = pooled @ made.head.weight.T + made.head.bias
        grid = sum(made.head.weight[DEFECT, channel] * features[:, channel] for channel in range(512))
        expected = F.interpolate(grid[:, None], size=SIZE, mode="bilinear", align_corners=False)[:, 0]  # type: ignore[index]
        scores = made(images)
    assert features.shape == (3, 512, 4, 4)
    torch.testing.assert_close(scores.image, logits[:, DEFECT] - logits[:, GOOD], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(scores.map, expected, rtol=1e-4, atol=1e-7)


def test_of_vgg16_the_first_23_layers_stay_as_they_came(vgg16: VggCam) -> None:
    learning = {name for name, parameter in vgg16.named_parameters() if parameter.requires_grad}
    trunk = {f"backbone.body.features.{layer}.{part}" for layer in (24, 26, 28) for part in ("weight", "bias")}
    assert learning == trunk | {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("frozen", "layers"),
    [(1.0, set()), (0.77, {"layer4"}), (0.0, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"})],
)
def test_how_much_learns_is_a_setting(frozen: float, layers: set[str]) -> None:
    trunk = detector(layers=("layer4",), frozen=frozen).backbone.body
    assert {name.split(".")[0] for name, parameter in trunk.named_parameters() if parameter.requires_grad} == layers


def test_what_comes_after_the_last_frozen_convolution_is_frozen_up_to_the_next() -> None:
    trunk = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).requires_grad_(
        False
    )
    thaw(trunk, 0.5)
    assert [layer.weight.requires_grad for layer in trunk] == [False, False, True, True]


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1", "filterbank"])
@pytest.mark.parametrize("size", [(32, 32), (72, 56)])
def test_any_trunk_and_any_size(name: str, size: tuple[int, int]) -> None:
    scores = detector(name, size=size)(torch.rand(2, 3, *size))
    assert scores.image.shape == (2,)
    assert scores.map.shape == (2, *size)


def test_the_loss_is_pytorch_s_weighted_cross_entropy_in_any_micro_batches() -> None:
    made, images = detector(defect_weight=3.0), Labelled(6)
    assert images.labels is not None
    views = made.views(images.images, images.labels, torch.Generator())
    with torch.no_grad():
        logits = made.logits(made.features(images.images))
        whole = made.loss(views)
        parts = [
            made.loss({name: value[span] for name, value in views.items()})["loss"]
            for span in (slice(0, 2), slice(2, 6))
        ]
    expected = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))(logits, images.labels)
    torch.testing.assert_close(whole["loss"], expected)
    torch.testing.assert_close(parts[0] * 2 / 6 + parts[1] * 4 / 6, expected)
    assert whole["accuracy"] == (logits.argmax(1) == images.labels).float().mean()


def test_images_without_labels_are_good_ones() -> None:
    views = detector().views(smooth_images(2), None, torch.Generator())
    assert views["labels"].tolist() == [GOOD, GOOD]
    assert views["weights"].tolist() == [1.0, 1.0]


def test_it_learns_until_it_has_learnt_enough_and_nothing_that_is_frozen_changes() -> None:
    made = detector(frozen=0.4, learning_rate=3e-3, enough=0.8)
    before = copy.deepcopy(made.state_dict())
    training = trained(made, epochs=20)
    assert training.points[-1]["loss"] < 0.8 * training.points[0]["loss"]
    assert training.stopped == "satisfied"
    assert training.steps % 3 == 0
    assert training.steps < 60
    assert int(made.seen) == 18
    assert int(made.right) > 0.8 * 18
    images = Labelled()
    assert images.labels is not None
    with torch.no_grad():
        scores = made(images.images).image
    assert scores[images.labels == DEFECT].mean() > scores[images.labels == GOOD].max()
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    learning = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert changed == learning | {"epoch", "seen", "right"}


def test_right_answers_are_counted_by_epoch_and_only_as_it_learns() -> None:
    made, images = detector(), Labelled(6)
    views = made.views(images.images, images.labels, torch.Generator())
    made.begin_epoch(0, SCHEDULE)
    assert not made.satisfied()
    made.train().loss(views)
    made.loss(views)
    made.eval().loss(views)
    assert int(made.seen) == 12
    made.begin_epoch(0, SCHEDULE)
    assert int(made.seen) == 12
    made.begin_epoch(1, SCHEDULE)
    assert (int(made.seen), int(made.right)) == (0, 0)


def test_the_same_seed_gives_the_same_weights_and_another_seed_another_head() -> None:
    first, second, other = detector(seed=1), detector(seed=1), detector(seed=2)
    assert not torch.equal(first.head.weight, other.head.weight)
    trained(first, epochs=1)
    trained(second, epochs=1)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_run_that_resumes_in_an_epoch_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, kept = detector(), Checkpoints(str(tmp_path), "run", keep=99)
    training = trained(whole, 2, kept)
    for later in sorted(tmp_path.glob("run/step-*"))[2:]:
        shutil.rmtree(later)
    resumed = detector()
    again = trained(resumed, 2, kept)
    assert (again.steps, again.stopped) == (training.steps, training.stopped)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_what_has_learnt_enough_learns_no_more_when_it_is_run_again(tmp_path: Path) -> None:
    made, again = (detector(frozen=0.4, learning_rate=3e-3, enough=0.8) for _ in range(2))
    first, second = (trained(learner, 20, Checkpoints(str(tmp_path), "run", keep=2)) for learner in (made, again))
    assert first.stopped == second.stopped == "satisfied"
    assert first.steps == second.steps < 60
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())


def test_a_score_does_not_depend_on_the_batch() -> None:
    made, images = detector("squeezenet1_1"), smooth_images(5)
    with torch.no_grad():
        batch = made(images)
        alone = [made(image[None]) for image in images]
    torch.testing.assert_close(torch.cat([one.image for one in alone]), batch.image, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([one.map for one in alone]), batch.map, rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_it_gives_the_same_scores_bit_for_bit(tmp_path: Path) -> None:
    made, images = detector(learning_rate=1e-3), smooth_images(3)
    trained(made, epochs=1)
    save_network(made, tmp_path, {})
    loaded = load_network(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images).image, made(images).image)
        assert torch.equal(loaded(images).map, made(images).map)


def test_the_exported_graph_gives_the_same_scores_for_any_batch(tmp_path: Path) -> None:
    made = detector()
    export_graphs(made, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        images = smooth_images(count)
        score, values = session.run(["score", "map"], {"images": images.numpy()})
        with torch.no_grad():
            expected = made(images)
        torch.testing.assert_close(torch.from_numpy(score), expected.image, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(values), expected.map, rtol=1e-4, atol=1e-5)

"""What SimSiam and CutPaste share: a backbone that is thawed and learns, and that is DFM's afterwards."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from normals import Batches, smooth_images, with_defect

from vqi.deployment.graph_export import export_graphs
from vqi.detectors.backbones import create_backbone
from vqi.detectors.dfm import Dfm
from vqi.detectors.fine_tuning import FineTunedDfm, adopt_statistics, deepest_node
from vqi.detectors.learner import Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.storage import load_detector, load_network, read_network, save_index, save_network
from vqi.platform.errors import BadInput

SMALL = {
    "simsiam": {"projection": 64, "bottleneck": 16},
    "cutpaste": {"head_layers": 1, "variant": "union", "freeze_epochs": 1, "learning_rate": 0.01},
}
RANDOM = BackboneSettings(weights="random", layers=("layer1.0",))
METHODS = pytest.mark.parametrize("method", list(SMALL))


def taught(method: str, steps: int = 4, seed: int = 3) -> FineTunedDfm:
    """A detector after so many steps, two an epoch."""
    detector = create(method, SMALL[method], RANDOM, (64, 64), seed)
    assert isinstance(detector, FineTunedDfm)
    images = smooth_images(8)
    detector.prepare(Batches(images))
    schedule = Schedule(steps, 2, 4)
    optimiser, factor, _ = detector.optimisation(schedule)
    for step in range(steps):
        if step % 2 == 0:
            detector.begin_epoch(step // 2, schedule)
            detector.train()
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * (1 if group.get("fixed") else factor(step))
        views = detector.views(images[4 * (step % 2) : 4 * (step % 2) + 4], None, torch.Generator().manual_seed(step))
        torch.manual_seed(step)
        loss = detector.loss(views)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    detector.eval()
    detector.finish(Batches(images))
    return detector


@METHODS
def test_the_backbone_learns_and_then_it_is_exactly_dfm_on_it(method):
    detector = taught(method)
    untouched = create(method, SMALL[method], RANDOM, (64, 64), 3)
    assert not any(parameter.requires_grad for parameter in detector.backbone.parameters())
    assert not detector.backbone.training
    for name, weight in detector.backbone.body.state_dict().items():
        if name.endswith("conv1.weight"):
            assert not torch.equal(weight, untouched.backbone.body.state_dict()[name])
    detector.build_index(Batches(smooth_images(8)))
    plain = Dfm(DfmSettings(), detector.backbone, (64, 64), 3)
    plain.build_index(Batches(smooth_images(8)))
    images = with_defect(smooth_images(3, seed=9))
    assert torch.equal(detector(images).image, plain(images).image)
    assert torch.equal(detector(images).map, plain(images).map)


@METHODS
def test_the_same_seed_gives_the_same_weights_bit_for_bit(method):
    first, second, other = (taught(method, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@METHODS
def test_scores_are_the_same_after_loading_and_the_heads_are_not_stored(method, tmp_path):
    detector = taught(method)
    detector.build_index(Batches(smooth_images(8)))
    for part in ("network", "index"):
        (tmp_path / part).mkdir()
    save_network(detector, tmp_path / "network", {})
    save_index(detector, tmp_path / "index", tmp_path / "network")
    loaded = load_detector(tmp_path / "network", tmp_path / "index")
    images = with_defect(smooth_images(3, seed=9))
    assert torch.equal(loaded(images).image, detector(images).image)
    assert torch.equal(loaded(images).map, detector(images).map)
    from safetensors import safe_open

    with safe_open(tmp_path / "network/network.safetensors", "pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"backbone"}  # noqa: SIM118
    assert (
        read_network(tmp_path / "network").weights.label
        == f"random weights (for tests only), fine-tuned by {method} on the normals"
    )


@METHODS
def test_a_network_file_that_lacks_a_layer_is_refused(method, tmp_path):
    from safetensors.torch import load_file, save_file

    from vqi.platform.files import sha256_of

    detector = taught(method, steps=2)
    save_network(detector, tmp_path, {})
    tensors = load_file(tmp_path / "network.safetensors")
    del tensors["backbone.body.conv1.weight"]
    save_file(tensors, tmp_path / "network.safetensors")
    notes = json.loads((tmp_path / "network.json").read_text())
    (tmp_path / "network.json").write_text(
        json.dumps(notes | {"tensors_sha256": sha256_of(tmp_path / "network.safetensors")})
    )
    with pytest.raises(BadInput, match="does not fit resnet18"):
        load_network(tmp_path)


@METHODS
def test_the_exported_graph_gives_the_same_scores_for_any_batch(method, tmp_path):
    detector = taught(method)
    detector.build_index(Batches(smooth_images(8)))
    graph = export_graphs(detector, tmp_path).graph
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    index = {tensor.name: detector.index[tensor.name].numpy() for tensor in graph.index}
    for count in (1, 3):
        images = with_defect(smooth_images(count, seed=9))
        score, anomaly_map = session.run(["score", "map"], {"images": images.numpy(), **index})
        expected = detector(images)
        np.testing.assert_allclose(score, expected.image.numpy(), rtol=1e-3)
        np.testing.assert_allclose(anomaly_map, expected.map.numpy(), rtol=1e-3, atol=1e-3 * float(expected.map.max()))


@METHODS
def test_a_budget_that_ends_before_the_backbones_turn_is_reported(method, capsys):
    detector = create(method, SMALL[method], RANDOM, (64, 64))
    assert isinstance(detector, FineTunedDfm)
    detector.finish(Batches(smooth_images(2)))
    assert "it is as it came" in capsys.readouterr().err
    assert detector.backbone.origin.label == "random weights (for tests only)"


@METHODS
def test_what_cannot_learn_is_one_clear_sentence(method):
    with pytest.raises(BadInput, match="filterbank, which has no weights to fine-tune"):
        create(method, {}, BackboneSettings(name="filterbank"), (64, 64))
    detector = create(method, SMALL[method], RANDOM, (64, 64))
    assert isinstance(detector, FineTunedDfm)
    with pytest.raises(BadInput, match="at least 2 normals"):
        detector.prepare(Batches(smooth_images(1)))


@pytest.mark.parametrize(
    ("name", "layers", "deepest"),
    [
        ("resnet18", ("layer2", "layer1"), "layer2"),
        ("mobilenet_v2", ("features.1", "features.3"), "features.3"),
        ("vgg11", ("features.5",), "features.5"),
    ],
)
def test_any_network_is_thawed_whole_up_to_the_deepest_node(name, layers, deepest):
    detector = create(
        "cutpaste", SMALL["cutpaste"], BackboneSettings(name=name, weights="random", layers=layers), (64, 64)
    )
    assert isinstance(detector, FineTunedDfm)
    assert deepest_node(detector.backbone) == deepest
    detector.prepare(Batches(smooth_images(4)))
    detector.begin_epoch(5, Schedule(12, 2, 2))
    detector.train()
    detector.loss(detector.views(smooth_images(4), None, torch.Generator()))["loss"].backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in detector.parameters()
    )


def folded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of ResNet's kind with their normalisation folded into the convolutions, as some published files have
    it."""
    folded_state = dict(state)
    for name in [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]:
        scale = state[f"{name}weight"] / (state[f"{name}running_var"] + 1e-5).sqrt()
        convolution = name.replace("bn", "conv").replace("downsample.1.", "downsample.0.") + "weight"
        folded_state[convolution] = state[convolution] * scale.view(-1, 1, 1, 1)
        folded_state[f"{name}bias"] = state[f"{name}bias"] - state[f"{name}running_mean"] * scale
        folded_state[f"{name}weight"], folded_state[f"{name}running_mean"] = (
            torch.ones_like(scale),
            torch.zeros_like(scale),
        )
        folded_state[f"{name}running_var"] = torch.full_like(scale, 1 - 1e-5)
    return folded_state


def test_statistics_of_the_normals_change_no_feature_and_start_training_mode():
    images = smooth_images(8)
    backbone = create_backbone(BackboneSettings(weights="random", layers=("layer2",)), {}, seed=1)
    with torch.no_grad():
        for part in backbone.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2)
    original = {name: tensor.clone() for name, tensor in backbone.body.state_dict().items()}
    for state in (original, folded(original)):
        backbone.body.load_state_dict(state)
        before = backbone.eval()(images)["layer2"]
        off = (backbone.train()(images)["layer2"] - before).abs().mean()
        backbone.body.load_state_dict(state)
        adopt_statistics(backbone, Batches(images, 3))
        torch.testing.assert_close(backbone.eval()(images)["layer2"], before, rtol=1e-4, atol=1e-4)
        # All normals at once are a batch with the very statistics.
        torch.testing.assert_close(backbone.train()(images)["layer2"], before, rtol=1e-3, atol=1e-3)
        assert off > 0.05


@METHODS
@pytest.mark.parametrize("normalisation", ["normals", "batch"])
def test_normalisation_keeps_the_statistics_of_the_normals_or_takes_each_batchs(method, normalisation):
    detector = create(method, SMALL[method] | {"normalisation": normalisation}, RANDOM, (64, 64))
    assert isinstance(detector, FineTunedDfm)
    detector.prepare(Batches(smooth_images(4)))
    detector.begin_epoch(5, Schedule(12, 2, 2))
    detector.train()
    before = {name: value.clone() for name, value in detector.backbone.named_buffers() if name.endswith("running_mean")}
    detector.loss(detector.views(smooth_images(4), None, torch.Generator()))
    after = dict(detector.backbone.named_buffers())
    assert {torch.equal(after[name], value) for name, value in before.items()} == {normalisation == "normals"}

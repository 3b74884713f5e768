import pytest
import torch
from normals import smooth_images

from vqi.detectors.backbones import create_backbone
from vqi.detectors.patchcore import Patchcore
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput

LAYERS = Patchcore.default_layers


def test_only_requested_nodes_are_kept():
    backbone = create_backbone(BackboneSettings(weights="random", layers=("layer1.0.relu", "layer2")), LAYERS)
    features = backbone(smooth_images(2))
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "layer1.0.relu": (2, 64, 16, 16),
        "layer2": (2, 128, 8, 8),
    }
    assert backbone.channels == {"layer1.0.relu": 64, "layer2": 128}
    assert not any("layer3" in name for name in backbone.state_dict())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_random_weights_are_seeded_and_labelled():
    settings = BackboneSettings(weights="random")
    first, second, other = (create_backbone(settings, LAYERS, seed)(smooth_images(1))["layer2"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert create_backbone(settings, LAYERS).origin.label == "random weights (for tests only)"


def test_other_networks_need_their_nodes_named():
    with pytest.raises(BadInput, match=r"mobilenet_v2 has no default; name its nodes.*features\.1"):
        create_backbone(BackboneSettings(name="mobilenet_v2", weights="random"), LAYERS)
    named = create_backbone(
        BackboneSettings(name="mobilenet_v2", weights="random", layers=("features.3", "features.6")), LAYERS
    )
    assert named.channels == {"features.3": 24, "features.6": 32}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (BackboneSettings(name="resnet81", weights="random"), "not a torchvision network. Did you mean 'resnet"),
        (BackboneSettings(weights="random", layers=("layr2",)), "not a node of resnet18. Did you mean 'layer2'"),
        (BackboneSettings(weights="random", layers=("layer2", "layer2")), "names a node twice"),
        (BackboneSettings(weights="random", layers=("flatten",)), "not a feature map"),
        (BackboneSettings(name="filterbank", layers=("octave9",)), "not a node of filterbank"),
    ],
)
def test_what_cannot_be_built_is_one_clear_sentence(settings, words):
    with pytest.raises(BadInput, match=words):
        create_backbone(settings, LAYERS)


def test_weights_up_to_the_last_node_are_enough(tmp_path):
    whole = create_backbone(BackboneSettings(weights="random", layers=("layer1", "layer3")), LAYERS, seed=5)
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in whole.body.state_dict().items()}},
        tmp_path / "w.pth",
    )
    loaded = create_backbone(BackboneSettings(weights=str(tmp_path / "w.pth")), LAYERS)
    assert torch.equal(loaded(smooth_images(1))["layer3"], whole(smooth_images(1))["layer3"])
    assert (loaded.origin.kind, loaded.origin.label) == ("file", "w.pth")
    with pytest.raises(
        BadInput, match=r"no layer4\.0\.conv1\.weight of what resnet18 reads up to layer4; they hold: bn1\.bias"
    ):
        create_backbone(BackboneSettings(weights=str(tmp_path / "w.pth"), layers=("layer4",)), LAYERS)
    with pytest.raises(BadInput, match="hold nothing of what vgg11 reads"):
        create_backbone(BackboneSettings(name="vgg11", weights=str(tmp_path / "w.pth"), layers=("features.5",)), LAYERS)
    with pytest.raises(BadInput, match="wide_resnet50_2"):
        create_backbone(BackboneSettings(name="wide_resnet50_2", weights=str(tmp_path / "w.pth")), LAYERS)


def test_a_published_simsiam_checkpoint_loads(tmp_path):
    whole = create_backbone(BackboneSettings(weights="random", layers=("layer1",)), LAYERS, seed=5)
    state = {f"module.encoder.{name}": tensor for name, tensor in whole.body.state_dict().items()}
    # Its projector lies where the classifier was, its predictor beside the encoder.
    state |= {"module.encoder.fc.0.weight": torch.zeros(4, 4), "module.predictor.0.weight": torch.zeros(4, 4)}
    torch.save(
        {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}},
        tmp_path / "checkpoint_0099.pth.tar",
    )
    loaded = create_backbone(
        BackboneSettings(weights=str(tmp_path / "checkpoint_0099.pth.tar"), layers=("layer1",)), LAYERS
    )
    assert torch.equal(loaded(smooth_images(1))["layer1"], whole(smooth_images(1))["layer1"])


def test_a_checkpoint_without_the_network_lists_what_it_holds(tmp_path):
    torch.save(
        {"state_dict": {"module.predictor.0.weight": torch.zeros(2), "module.teacher.conv1.weight": torch.zeros(2)}},
        tmp_path / "w.pth",
    )
    with pytest.raises(
        BadInput, match=r"hold nothing of what resnet18 reads up to layer3; they hold: predictor\.0, teacher\.conv1"
    ):
        create_backbone(BackboneSettings(weights=str(tmp_path / "w.pth")), LAYERS)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_reduced_precision_changes_the_network_and_not_the_type_of_the_features(precision: torch.dtype):
    backbone = create_backbone(BackboneSettings(weights="random"), LAYERS)
    exact = backbone(smooth_images(1))["layer2"]
    backbone.precision = precision
    rounded = backbone(smooth_images(1))["layer2"]
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1 * float(exact.max()))


def test_the_imagenet_file_without_layer4_loads(imagenet_resnet18):
    backbone = create_backbone(BackboneSettings(weights=str(imagenet_resnet18)), LAYERS)
    assert backbone.settings.layers == ("layer2", "layer3")
    assert len(backbone.origin.sha256) == 64

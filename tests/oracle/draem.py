"""draem: the same reconstructions, maps, scores and losses.

Normalisation layers have seen the images and are disturbed at random, so that no term is zero or one. Both are also
asked when the last layer is as sure of itself as a trained one: its probabilities then round to 1.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from comparison import Comparison, Oracle, compared
from torch import Tensor, nn

from vqi.dataset.geometry import Geometry
from vqi.detectors.draem import Draem, focal_loss
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings

# Small, as the networks are large; not square: no side stands for the other.
GEOMETRY = Geometry(size=(128, 160))
IMAGES = 4
# Log-odds have a standard deviation of 1, and of so many where the last layer is sure of itself.
SURE = 8.0


def layers(part: str, network: nn.Module) -> dict[str, Tensor]:
    """A network's state by the number of the layer: both sides have the same layers in the same order, under other
    names."""
    weighted = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    return {
        f"{part}.{number}.{name}": value
        for number, layer in enumerate(weighted)
        for name, value in layer.state_dict().items()
    }


def disturb(detector: Draem, images: Tensor) -> None:
    """Gains and shifts at random, statistics of the images, and a last layer whose log-odds of them have mean 0 and
    deviation 1."""
    generator = torch.Generator().manual_seed(1)
    for layer in detector.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight += 0.3 * torch.randn(layer.weight.shape, generator=generator)
            layer.bias += 0.1 * torch.randn(layer.bias.shape, generator=generator)
            layer.momentum = 0.9
    detector.train()
    detector._networks(images)
    detector.eval()
    log_odds = detector._networks(images)[1]
    head = detector.discriminative.head
    head.bias[1] -= log_odds.mean()
    for parameter in head.parameters():
        parameter /= log_odds.std()


def mirrored_similarity(detector: Draem, first: Tensor, second: Tensor) -> Tensor:
    """Our structural similarity of images that go on beyond their border as in a mirror, float64 as far as theirs
    is."""
    margin = len(detector.ssim.kernel) // 2
    mirrored = (F.pad(images.double(), [margin] * 4, mode="reflect") for images in (first, second))
    return copy.deepcopy(detector.ssim).double()(*mirrored)[..., margin:-margin, margin:-margin]


def draem(sspcab: bool, oracle: Oracle) -> list[Comparison]:
    """Ask both sides about the same images with the same state, and compare."""
    detector = create(
        "draem", {"sspcab": sspcab, "image_score": "max"}, BackboneSettings(), GEOMETRY.input_size, seed=0
    )
    assert isinstance(detector, Draem)
    images = oracle.photographs("test", IMAGES, GEOMETRY)
    disturb(detector, images)
    views = detector.views(images, None, torch.Generator().manual_seed(0))
    normal, simulated, mask = views["normal"], views["simulated"], views["mask"][:, 0]
    reconstruction, _, _ = detector._networks(normal)
    scores = detector(normal)
    tensors = layers("reconstructive", detector.reconstructive) | layers("discriminative", detector.discriminative)
    tensors |= {"images": normal, "simulated": simulated, "mask": views["mask"], "reconstruction": reconstruction}
    answer = oracle.ask(
        "anomalib_draem.py", "draem with SSPCAB" if sspcab else "draem", {"sspcab": sspcab, "sure": SURE}, tensors
    )

    losses = detector.train().loss(views)
    restored, log_odds, _ = detector._networks(simulated)
    # Its mean is over two classes, of which a pixel has one.
    of_anomalous = focal_loss(torch.where(mask > 0.5, log_odds, -float("inf")), mask) / 2
    similarity = mirrored_similarity(detector, reconstruction, normal)
    rounded = scores.map[answer["sure_map"] == 1].unique()
    probability = "it maps probabilities, which float32 rounds to 1; our log-odds still tell these pixels apart"
    weightless = "alpha = 1 gives what is normal the weight 0: its network never learns what is not an anomaly"
    border = "it mirrors the images at their border; ours has zeros there, as the authors' code"
    comparisons = [
        compared("reconstructions", reconstruction, answer["reconstruction"]),
        compared("anomaly maps, softmax of our log-odds", torch.sigmoid(scores.map), answer["map"]),
        compared("image scores, maxima, softmax of our log-odds", torch.sigmoid(scores.image), answer["score"]),
        compared("anomaly maps where the last layer is sure", torch.sigmoid(SURE * scores.map), answer["sure_map"]),
        Comparison("our values, less one, where its map is exactly 1", max(0, len(rounded) - 1), None, probability),
        compared("loss while training: l2", losses["l2"], answer["l2"]),
        compared("loss while training: focal, of anomalous pixels alone", of_anomalous, answer["focal"]),
        compared("loss while training: focal, as it makes it", losses["focal"], answer["focal"], None, weightless),
        compared("structural similarity, mirrored at the border", similarity, answer["similarity"]),
        compared(
            "loss while training: structural, mirrored",
            1 - mirrored_similarity(detector, restored, normal).mean(),
            answer["ssim"],
        ),
        compared("loss while training: structural, as it makes it", losses["ssim"], answer["ssim"], None, border),
    ]
    if sspcab:
        relu = "its block lacks the ReLU of its paper's; the comparisons above have put it in"
        comparisons.append(
            compared(
                "anomaly maps, as it makes them", torch.sigmoid(scores.map), answer["map_without_relu"], None, relu
            )
        )
    return comparisons

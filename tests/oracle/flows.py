"""fastflow, cflow and cs_flow: the same latents, likelihoods, losses, maps and scores.

The flows are disturbed at random instead of trained, so that no term of an equation is zero or one. cs_flow's
EfficientNet-B5 has random weights: what is compared does not depend on which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from comparison import Comparison, Oracle, compared, under
from torch import Tensor, nn

from vqi.dataset.geometry import Geometry
from vqi.detectors.backbones import Backbone
from vqi.detectors.cflow import Cflow
from vqi.detectors.cs_flow import CsFlow
from vqi.detectors.fastflow import Fastflow
from vqi.detectors.interface import Detector
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings

IMAGES = 4


def disturbed(detector: Detector) -> Detector:
    """With other numbers in every trained parameter: as they come, gains are zero, global scales one, and biases as
    good as zero."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad and not name.endswith("gain"):
            size = 0.3 if name.endswith(("bias", "global_offset")) else 0.02
            parameter += size * torch.randn(parameter.shape, generator=generator)
        elif parameter.requires_grad:
            parameter += 0.3
    return detector


def normalised(efficientnet: Backbone, images: Tensor, sizes: Sequence[tuple[int, int]]) -> None:
    """As a trained network passes images on: random weights let nothing of them through, or blow them up past 1e6,
    where anomalib cuts latents off.

    Normalisation layers get the statistics of the images in all sizes; those that close a residual block, gains of 0.2.
    """
    for name, layer in efficientnet.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.train().momentum = None
            if name.endswith("block.3.1") and not name.endswith(".0.block.3.1"):
                layer.weight *= 0.2
    for size in sizes:
        efficientnet(F.interpolate(images, size=size))
    efficientnet.eval()


def with_matrices(state: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Permutations as the matrices that FrEIA's block multiplies by: row i picks channel order[i]."""
    matrices = {}
    for name, value in state.items():
        permutes = name.endswith(("w_perm", "w_perm_inv"))
        matrices[name] = (
            torch.eye(len(value))[value].reshape(len(value), len(value), *[1] * rank) if permutes else value
        )
    return matrices


def fastflow(
    detector: Detector, images: Tensor
) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    """What anomalib is given, and what is compared with its answer."""
    assert isinstance(detector, Fastflow)
    tensors = under("norm", detector.norms) | with_matrices(under("flow", detector.flows), 2)

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        latents, scores, losses = detector.latents(images), detector(images), detector.loss({"images": images})
        layers = detector.backbone.settings.layers
        return [
            *(
                compared(f"latents of {layer}", z, answer[f"z{n}"])
                for n, (layer, (z, _)) in enumerate(zip(layers, latents, strict=True))
            ),
            compared("anomaly maps", scores.map, answer["map"]),
            compared("image scores, maxima", scores.image, answer["score"]),
            compared("loss", losses["loss"], answer["loss"]),
        ]

    return tensors, comparisons


def cflow(
    detector: Detector, images: Tensor
) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    assert isinstance(detector, Cflow)

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        likelihoods = [detector.likelihood(n, positions) for n, positions in enumerate(detector.positions(images))]
        # Its constants are the largest values of the batch it scores; ours are kept from normals.
        detector.likeliest.copy_(torch.stack([values.max() for values in likelihoods]))
        values = detector(images).map
        values = values - values.min()
        changed = (answer["score_alone"] - answer["score"]).abs().max() / answer["score"].abs().max()
        batch = (
            "it scales probabilities by the batch's own maximum, so a score depends on what is scored beside it; "
            "ours does not"
        )
        return [
            *(
                compared(f"log-likelihoods of {layer}", likelihoods[n], answer[f"likelihood{n}"])
                for n, layer in enumerate(("layer1", "layer2", "layer3"))
            ),
            compared("anomaly maps, with its constants", values, answer["map"]),
            compared("image scores, maxima, with its constants", values.amax(dim=(1, 2)), answer["score"]),
            Comparison("its score of an image, alone and in a batch", float(changed), None, batch),
        ]

    return with_matrices(under("flow", detector.flows), 0), comparisons


def cs_flow(
    detector: Detector, images: Tensor
) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    assert isinstance(detector, CsFlow)
    tensors: dict[str, Tensor] = {}
    for number in range(detector.settings.coupling_blocks):
        permute, block = detector.flow[2 * number], detector.flow[2 * number + 1]
        tensors[f"permutation.{number}"] = permute.perm
        for half, subnet in ((1, block.subnet1), (2, block.subnet2)):
            parts = {f"conv_scale{scale}_0": part for scale, part in enumerate(subnet.widen)}
            parts |= {f"conv_scale{scale}_1": part for scale, part in enumerate(subnet.narrow)}
            parts |= {"up_conv10": subnet.to_finer[0], "up_conv21": subnet.to_finer[1]}
            parts |= {"down_conv01": subnet.to_coarser[0], "down_conv12": subnet.to_coarser[1]}
            for name, part in parts.items():
                tensors |= under(f"flow.{number}.cross_convolution{half}.{name}", part)
            tensors |= {
                f"flow.{number}.cross_convolution{half}.gamma{scale}": gain.reshape(1)
                for scale, gain in enumerate(subnet.gain)
            }

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        (latents, determinants), scores = detector.latents(images), detector(images)
        squares = torch.cat([z.flatten(1) for z in latents], dim=1).square()
        summed = (0.5 * squares.sum(dim=1) - determinants.sum()).mean() / squares.shape[1]
        added = (
            "it adds up the log-determinants of all images of a batch and subtracts the sum from each image's "
            "likelihood"
        )
        return [
            *(compared(f"latents of scale {n}", z, answer[f"z{n}"]) for n, z in enumerate(latents)),
            compared("log-determinants, image by image", determinants, answer["determinants_alone"]),
            compared("anomaly maps, products of the scales", scores.map, answer["map"]),
            compared("image scores, means of the latents", scores.image, answer["score"]),
            compared("loss of a batch, its determinants added up", summed, answer["loss"]),
            compared(
                "loss of a batch, as it makes it",
                detector.loss({"images": images})["loss"],
                answer["loss"],
                None,
                added,
            ),
        ]

    return tensors, comparisons


@dataclass(frozen=True)
class Method:
    """One method as both sides are set up. `settings` are ours, `theirs` what anomalib's network is told instead of
    them."""

    compare: Callable[[Detector, Tensor], tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]]
    backbone: str
    layers: tuple[str, ...]
    settings: dict[str, Any]
    theirs: dict[str, Any]


STAGES = ("layer1", "layer2", "layer3")
METHODS = {
    "fastflow": Method(fastflow, "resnet18", STAGES, {"image_score": "max"}, {"flow_steps": 8}),
    "cflow": Method(cflow, "resnet18", STAGES, {}, {"coupling_blocks": 8}),
    # 1024 hidden channels would be a quarter of a billion parameters to carry over.
    "cs_flow": Method(
        cs_flow, "efficientnet_b5", ("features.6.8",), {"hidden_channels": 64}, {"cross_conv_hidden_channels": 64}
    ),
}


def flow(name: str, oracle: Oracle) -> list[Comparison]:
    """Ask both sides about the same images with the same state, and compare."""
    method, geometry = METHODS[name], Geometry(size=(256, 256))
    source = str(oracle.weights) if method.backbone == "resnet18" else "random"
    backbone = BackboneSettings(name=method.backbone, weights=source, layers=method.layers)
    detector = disturbed(create(name, method.settings, backbone, geometry.input_size, seed=0))
    images = oracle.photographs("test", IMAGES, geometry)
    if isinstance(detector, CsFlow):
        normalised(detector.backbone, images, detector.sizes)
    tensors, comparisons = method.compare(detector, images)
    tensors |= under("backbone", detector.backbone.body) | {
        "images": (images - detector.backbone.mean) / detector.backbone.std
    }
    return comparisons(
        oracle.ask("anomalib_flows.py", name, {"layers": method.layers, "settings": method.theirs}, tensors)
    )

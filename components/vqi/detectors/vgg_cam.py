"""vgg_cam: a supervised classifier with class activation maps.

Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150, with the trunk, the head and
the training of the Visual-Inspection system: VGG-16 up to its last convolution, max-pooling, global average pooling and
one linear layer to the classes good and defect. Because everything after the last feature map is linear but for the
pooling, the weights of the linear layer say how much each channel speaks for a class, and their sum over the channels
where it does (the paper's M_c, equation 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.interface import Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.settings.vgg_cam import VggCamSettings

GOOD, DEFECT = 0, 1


class VggCam(TrainedDetector):
    """How much more an image looks like the labelled defects than like good parts, and where."""

    method: ClassVar[str] = "vgg_cam"
    # The trunk's end learns, so checkpoints hold the trunk.
    unchanged: ClassVar[tuple[str, ...]] = ()
    # The last feature map of the convolutional trunk; of VGG before its last pooling.
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vgg11_bn": ("features.27",),
        "vgg11": ("features.19",),
        "vgg13_bn": ("features.33",),
        "vgg13": ("features.23",),
        "vgg16_bn": ("features.42",),
        "vgg16": ("features.29",),
        "vgg19_bn": ("features.51",),
        "vgg19": ("features.35",),
        "alexnet": ("features.11",),
        "resnet": ("layer4",),
        "resnext": ("layer4",),
        "densenet": ("relu",),
        "shufflenet": ("conv5",),
        "regnet": ("trunk_output",),
        "mnasnet": ("layers",),
        "mobilenet": ("features",),
        "efficientnet": ("features",),
        "squeezenet": ("features",),
        "convnext": ("features",),
    }

    counted: ClassVar[tuple[str, ...]] = ("seen", "right")

    settings: VggCamSettings
    backbone: Backbone
    epoch: Tensor
    seen: Tensor
    right: Tensor

    def __init__(
        self, settings: VggCamSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.common = CommonGrid(backbone.grids(input_size))
        thaw(backbone.body, settings.frozen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(sum(backbone.channels.values()), 2)
        self.upsample = MapUpsampling(self.common.grid, input_size, sigma=0.0)
        for name, start in (("epoch", -1), ("seen", 0), ("right", 0)):
            self.register_buffer(name, torch.tensor(start))

    def features(self, images: Tensor) -> Tensor:
        """The trunk's last maps: float32 [N, 3, H, W] -> float32 [N, C, h, w]."""
        return self.common.concatenated(self.backbone(images).values())

    def logits(self, features: Tensor) -> Tensor:
        """Max-pooling, global average pooling, linear layer: float32 [N, C, h, w] -> float32 [N, 2], good and
        defect."""
        # ceil_mode: a map of a single position can be pooled too, and the last row of an odd number counts.
        pooled = F.max_pool2d(features, 2, ceil_mode=True)
        return self.head(pooled.mean(dim=(2, 3)))

    def activation(self, features: Tensor) -> Tensor:
        """The class activation map of defect, sum_k w_k f_k(x, y): float32 [N, C, h, w] -> float32 [N, h, w]."""
        return F.conv2d(features, self.head.weight[DEFECT][None, :, None, None]).squeeze(1)

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """The logit of defect less that of good (above 0 the classifier itself says defect), and the activation map at
        the input's size."""
        features = self.features(embedding)
        logits = self.logits(features)
        return Scores(logits[:, DEFECT] - logits[:, GOOD], self.upsample(self.activation(features)))

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam at a constant rate over the thawed end of the trunk and the linear layer."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return Optimisation(torch.optim.Adam(learning, lr=self.settings.learning_rate, fused=True))

    def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
        """Count rightly classified photographs anew; a run that resumes in an epoch goes on counting."""
        if epoch != self.epoch:
            self.epoch.fill_(epoch)
            self.seen.zero_()
            self.right.zero_()

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """`images`, their `labels` int64 [n], and `weights` [n] that make a mean over the images the weighted mean of
        PyTorch's cross-entropy."""
        if labels is None:
            labels = torch.full((len(images),), GOOD)
        weights = torch.where(labels == DEFECT, self.settings.defect_weight, 1.0)
        return {"images": images, "labels": labels, "weights": weights / weights.mean()}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Weighted cross-entropy, and the share of the photographs that are classified rightly."""
        features = self.features(views["images"])
        with torch.autocast(features.device.type, enabled=False):
            logits = self.logits(features)
            cross_entropy = (views["weights"] * F.cross_entropy(logits, views["labels"], reduction="none")).mean()
        right = logits.argmax(dim=1) == views["labels"]
        if self.training:
            self.seen += len(right)
            self.right += right.sum()
        return {"loss": cross_entropy, "accuracy": right.float().mean()}

    def satisfied(self) -> bool:
        """Whether more than the share `enough` of the epoch's photographs were classified rightly as they were learnt
        from."""
        return bool(self.right > self.settings.enough * self.seen)


def thaw(trunk: nn.Module, frozen: float) -> None:
    """Let a trunk learn from the first convolution on that does not belong to the `frozen` share of its
    convolutions."""
    layers = list(trunk.modules())
    staying = round(frozen * sum(isinstance(layer, nn.Conv2d) for layer in layers))
    met = 0
    for layer in layers:
        met += isinstance(layer, nn.Conv2d)
        if met > staying:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(True)

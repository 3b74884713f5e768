"""Settings of vgg_cam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class VggCamSettings(MethodSettings):
    """A classifier with class activation maps, Zhou et al., arXiv 1512.04150."""

    method: ClassVar[str] = "vgg_cam"
    detector: ClassVar[str] = "vqi.detectors.vgg_cam:VggCam"
    summary: ClassVar[str] = "a classifier of good and defective parts that shows where it looked"
    paper: ClassVar[str] = 'Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150'
    budget: ClassVar[Budget | None] = Budget(batch_size=10, epochs=10)
    supervised: ClassVar[bool] = True

    frozen: float = setting(
        0.77,
        "share of the trunk's convolutions, from the image on, that stay as they came; of VGG-16's 13 the last 3 learn, of ResNet-18's layer4; "
        "1 = only the linear layer learns",
        low=0.0,
        high=1.0,
        source="Visual-Inspection: the first 23 layers of VGG-16 are frozen",
    )
    learning_rate: float = setting(1e-4, "of Adam", low=1e-8, high=1.0, source="Visual-Inspection")
    defect_weight: float = setting(
        3.0, "weight of a defective photograph in the cross-entropy; that of a good one is 1", low=0.01, high=1000.0, source="Visual-Inspection"
    )
    enough: float = setting(
        0.98,
        "training stops after an epoch in which a larger share of the photographs was classified rightly as they were learnt from; 1 = never",
        low=0.5,
        high=1.0,
        source="Visual-Inspection",
    )
    folds: int = setting(
        0,
        "folds of a stratified cross-validation on the training photographs, recorded beside the network; each trains one more network; 0 = none",
        low=0,
        high=20,
        source="Visual-Inspection offers 5",
    )
    box_fraction: float = setting(
        0.7,
        "of a photograph judged defective, one box for each connected region above this fraction of its map's maximum",
        low=0.01,
        high=0.99,
        source="Visual-Inspection",
    )

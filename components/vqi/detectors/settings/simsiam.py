"""Settings of simsiam: DFM's, and those of its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.settings.fields import Budget, setting


@dataclass(frozen=True)
class SimsiamSettings(DfmSettings):
    """SimSiam, Chen and He, arXiv 2011.10566, then deep-feature modelling."""

    method: ClassVar[str] = "simsiam"
    detector: ClassVar[str] = "vqi.detectors.simsiam:Simsiam"
    summary: ClassVar[str] = "a backbone fine-tuned to see two views of an image alike, then dfm"
    paper: ClassVar[str] = 'Chen and He, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566'
    budget: ClassVar[Budget] = Budget(batch_size=64, epochs=100)

    learning_rate: float = setting(0.05, "rate of a batch of 256 images, in proportion to the batch", low=0.0, high=10.0, source="paper, section 3")
    backbone_rate: float = setting(
        0.002,
        "the backbone's rate as a share of the heads': pretrained weights and few normals bear no more",
        low=0.0,
        high=10.0,
        source="ours: of .002, .02, .1 and 1 on rendered parts; paper: 1",
    )
    normalisation: str = setting(
        "normals",
        "statistics of the backbone's batch normalisation as it learns: those of the normals throughout, or each batch's",
        choices=("normals", "batch"),
        source="measured on rendered parts; paper: batch",
    )
    momentum: float = setting(0.9, "momentum of the gradient descent", low=0.0, high=0.999, source="paper, section 3")
    weight_decay: float = setting(1e-4, "decay of the weights", low=0.0, high=1.0, source="paper, section 3")
    projection: int = setting(2048, "width of the projector and of its output", low=8, high=8192, source="paper, section 3; Intel 1000")
    bottleneck: int = setting(512, "width inside the predictor", low=2, high=8192, source="paper, section 3; Intel 250")
    smallest_crop: float = setting(0.2, "smallest share of the image that a view shows", low=0.01, high=1.0, source="paper, section 3")
    jitter: float = setting(0.1, "brightness, contrast and saturation vary by this share", low=0.0, high=1.0, source="Intel; paper .4")
    hue: float = setting(0.1, "the hue varies by this share of the circle", low=0.0, high=0.5, source="paper, section 3")

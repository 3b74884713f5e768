"""Settings of cutpaste: DFM's, and those of its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.settings.fields import Budget, setting


@dataclass(frozen=True)
class CutpasteSettings(DfmSettings):
    """CutPaste, Li et al., arXiv 2104.04015, then deep-feature modelling."""

    method: ClassVar[str] = "cutpaste"
    detector: ClassVar[str] = "vqi.detectors.cutpaste:Cutpaste"
    summary: ClassVar[str] = "a backbone fine-tuned to notice pasted patches, then dfm"
    paper: ClassVar[str] = 'Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", arXiv 2104.04015'
    # The paper counts views: 32 images are 64, or 96 where there are three classes.
    budget: ClassVar[Budget] = Budget(batch_size=32, epochs=256)

    variant: str = setting(
        "3way",
        "what is pasted: a patch, a scar, either of them, or each as a class of its own",
        choices=("normal", "scar", "union", "3way"),
        source="paper, section 2",
    )
    freeze_epochs: int = setting(20, "epochs in which the head alone learns, at most half of the budget's", low=0, high=1_000_000, source="Intel")
    head_layers: int = setting(2, "layers of 512 in the head, before one of 128", low=0, high=16, source="Intel")
    learning_rate: float = setting(0.03, "rate of the gradient descent at its largest", low=0.0, high=10.0, source="paper, appendix A")
    backbone_rate: float = setting(
        0.02,
        "the backbone's rate as a share of the head's: pretrained weights and few normals bear no more",
        low=0.0,
        high=10.0,
        source="ours: of .02, .1 and 1 on rendered parts; paper: 1",
    )
    cycles: int = setting(1, "cosine cycles of the rate over the whole budget", low=1, high=1000, source="paper, appendix A")
    normalisation: str = setting(
        "batch",
        "statistics of the backbone's batch normalisation as it learns: those of the normals throughout, or each batch's",
        choices=("normals", "batch"),
        source="measured on rendered parts, and the paper's",
    )
    momentum: float = setting(0.9, "momentum of the gradient descent", low=0.0, high=0.999, source="paper, appendix A")
    weight_decay: float = setting(3e-5, "decay of the weights", low=0.0, high=1.0, source="paper, appendix A")
    jitter: float = setting(0.1, "colours of images and of patches vary by this share", low=0.0, high=0.5, source="paper, section 2.1")

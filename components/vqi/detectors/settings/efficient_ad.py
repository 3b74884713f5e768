"""Settings of efficient_ad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class EfficientAdSettings(MethodSettings):
    """EfficientAD, Batzner et al., arXiv 2303.14535."""

    method: ClassVar[str] = "efficient_ad"
    detector: ClassVar[str] = "vqi.detectors.efficient_ad:EfficientAd"
    summary: ClassVar[str] = "a small student of a small teacher, and an autoencoder for what is wrong as a whole"
    paper: ClassVar[str] = 'Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", arXiv 2303.14535'
    budget: ClassVar[Budget | None] = Budget(batch_size=1, steps=70_000)
    tunes_on_normals: ClassVar[bool] = True
    extra_images: ClassVar[str] = "penalty_images"

    model_size: str = setting("small", "the patch description networks: EfficientAD-S or -M", choices=("small", "medium"), source="paper, section 4")
    channels: int = setting(384, "numbers that the teacher describes a patch with", low=1, high=4096, source="paper, section 3.1")
    learning_rate: float = setting(
        1e-4, "learning rate of Adam; a tenth of it for the last 5 % of the steps", low=1e-9, high=10.0, source="paper, appendix A"
    )
    weight_decay: float = setting(1e-5, "weight decay of Adam", low=0.0, high=1.0, source="paper, appendix A")
    hard_share: float = setting(
        1e-3, "share of the largest differences that the student learns from", low=1e-6, high=1.0, source="paper, section 3.2"
    )
    penalty_images: str = setting(
        "",
        "folder, archive or s3:// of images of anything else, on which the student must not follow the teacher; '' = no such penalty",
        source="paper, section 3.2: ImageNet",
        path=True,
    )
    teacher: str = setting(
        "",
        "the teacher: a weights file or s3:// address, as `vqi distill` writes; '' = it is first distilled from the backbone",
        source="paper, section 3.1: distilled",
        path=True,
    )
    teacher_sha256: str = setting("", "sha256 of the teacher's file, checked where given", source="ours")
    distillation_steps: int = setting(
        10_000,
        "steps of distilling a teacher where none is given (60,000 on ImageNet in the paper), at most train.max_steps",
        low=1,
        high=10_000_000,
        source="ours: a sixth of the paper's",
    )
    image_score: str = setting(
        "top",
        "an image's score from its map: the mean of the top half percent of pixels, or the maximum (the paper)",
        choices=("top", "max"),
        source="ours: no single pixel decides",
    )

"""Settings of vgg_cam."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class VggCamSettings(MethodSettings):
    """A classifier with class activation maps, Zhou et al., arXiv 1512.04150."""

    method: ClassVar[str] = "vgg_cam"
    detector: ClassVar[str] = "vqi.detectors.vgg_cam:VggCam"
    summary: ClassVar[str] = "a classifier of good and defective parts that shows where it looked"
    paper: ClassVar[str] = 'Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150'
    budget: ClassVar[Budget | None] = Budget(batch_size=10, epochs=10)
    supervised: ClassVar[bool] = True

    frozen: float = Field(
        0.77,
        ge=0.0,
        le=1.0,
        description="share of the trunk's convolutions, from the image on, that stay as they came; of VGG-16's 13 the "
        "last 3 learn, of ResNet-18's layer4; "
        "1 = only the linear layer learns",
        json_schema_extra={"source": "Visual-Inspection: the first 23 layers of VGG-16 are frozen"},
    )
    learning_rate: float = Field(
        1e-4, ge=1e-8, le=1.0, description="of Adam", json_schema_extra={"source": "Visual-Inspection"}
    )
    defect_weight: float = Field(
        3.0,
        ge=0.01,
        le=1000.0,
        description="weight of a defective photograph in the cross-entropy; that of a good one is 1",
        json_schema_extra={"source": "Visual-Inspection"},
    )
    enough: float = Field(
        0.98,
        ge=0.5,
        le=1.0,
        description="training stops after an epoch in which a larger share of the photographs was classified rightly "
        "as they were learnt from; 1 = never",
        json_schema_extra={"source": "Visual-Inspection"},
    )
    folds: int = Field(
        0,
        ge=0,
        le=20,
        description="folds of a stratified cross-validation on the training photographs, recorded beside the network; "
        "each trains one more network; 0 = none",
        json_schema_extra={"source": "Visual-Inspection offers 5"},
    )
    box_fraction: float = Field(
        0.7,
        ge=0.01,
        le=0.99,
        description="of a photograph judged defective, one box for each connected region above this fraction of its "
        "map's maximum",
        json_schema_extra={"source": "Visual-Inspection"},
    )

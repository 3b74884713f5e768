"""What the bundle holds, and when it is refused."""

from __future__ import annotations

from pydantic import Field

from vqi.deployment.exports import DEFAULT_FORMATS
from vqi.platform.settings import Names, Settings


class ExportSettings(Settings):
    """The section `export`."""

    formats: Names = Field(
        DEFAULT_FORMATS,
        description="export formats the bundle holds: onnx, openvino, openvino-fp16, openvino-int8, torch-export, "
        "torchscript, mlflow (which runs one of the others), and those of installed packages",
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="largest relative deviation of exported scores that passes the parity gate, for formats that state "
        "none of their own",
    )
    int8_max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="by how much image AUROC, pixel AUROC, AUPRO and the share of right decisions of the test split "
        "may fall in openvino-int8; where one falls by more, the bundle goes without that format",
    )

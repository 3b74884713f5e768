"""What the bundle holds, and when it is refused."""

from __future__ import annotations

from pydantic import Field

from vqi.deployment.exports import DEFAULT_FORMATS
from vqi.platform.settings import Names, Settings


class ExportSettings(Settings):
    """The section `export`."""

    formats: Names = Field(
        DEFAULT_FORMATS, description="export formats the bundle holds: onnx, openvino, and those of installed packages"
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="largest relative deviation of exported scores that passes the parity gate, for formats that state "
        "none of their own",
    )

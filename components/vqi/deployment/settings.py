"""What the bundle holds, and when it is refused."""

from __future__ import annotations

from pydantic import Field

from vqi.platform.settings import Settings


class ExportSettings(Settings):
    """The section `export`."""

    tolerance: float = Field(
        1e-3, gt=0, le=1, description="largest relative deviation of exported scores that passes the parity gate"
    )

"""What the option --tracking of a command does besides being read."""

from __future__ import annotations

from vqi.tracking.address_name import OPTION, VARIABLE, name_address


def name_tracking(address: str) -> str:
    """Let sentences about MLflow's address name what it came from."""
    name_address(OPTION if address else VARIABLE)
    return address

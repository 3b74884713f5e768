"""What the option --tracking of a command does besides being read."""

from __future__ import annotations

import typer

from vqi.tracking.address_name import OPTION, SETTING, VARIABLE, name_address


def name_tracking(context: typer.Context, address: str) -> str:
    """Let sentences about MLflow's address name what it came from, until the command ends."""
    name_address(OPTION if address else VARIABLE)
    context.call_on_close(lambda: name_address(SETTING))
    return address

"""By what name whoever runs this process knows the address of MLflow: sentences about the address name what to change.

A name of the whole process, since threads that follow a registry speak of the same address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AddressName = Literal["tracking.uri", "--tracking", "MLFLOW_TRACKING_URI"]
SETTING: AddressName = "tracking.uri"
OPTION: AddressName = "--tracking"
VARIABLE: AddressName = "MLFLOW_TRACKING_URI"


@dataclass
class _Known:
    name: AddressName = SETTING


_known = _Known()


def name_address(name: AddressName) -> None:
    """From here on sentences call the address so."""
    _known.name = name


def address_name() -> AddressName:
    """What the address is called."""
    return _known.name


def leave_empty() -> str:
    """The end of a sentence: that whoever wants no record leaves the setting empty; nothing where the address is that
    of a command, which does nothing without one."""
    return f", or leave {SETTING} empty" if _known.name == SETTING else ""

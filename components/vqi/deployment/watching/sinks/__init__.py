"""Where decisions go. A sink is a file here, chosen by its address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vqi.deployment.watching.outbox import Pending
from vqi.deployment.watching.settings import WatchSettings
from vqi.platform.errors import BadInput


class SinkAway(Exception):
    """A sink does not take a decision now; it is tried again, `after` seconds later where the sink says so."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class SinkRefused(Exception):
    """A sink will never take this decision, and says why."""


class Sink(Protocol):
    """Something that takes decisions, one at a time and in order."""

    # As people read it and as the outbox knows it, without credentials.
    name: str

    def deliver(self, pending: Pending) -> None:
        """Return once the sink has it. Raises SinkAway or SinkRefused; OSError stands for the former."""
        ...

    def announce(self, state: Mapping[str, object]) -> None:
        """What decides from here on, for sinks that say so."""
        ...

    def close(self) -> None: ...


def open_sink(address: str, settings: WatchSettings, state: Mapping[str, object]) -> Sink:
    """The sink of an address: `-` (standard output), `http(s)://`, `mqtt(s)://`, or a folder. `state`: what runs here,
    for sinks that say so.

    Raises BadInput where the address cannot be used; that the sink is away is found later.
    """
    if address == "-":
        from vqi.deployment.watching.sinks.standard_output import StandardOutputSink

        return StandardOutputSink()
    scheme, separator, _ = address.partition("://")
    if not separator:
        from vqi.deployment.watching.sinks.folder import FolderSink

        return FolderSink(Path(os.path.abspath(address)), settings.rotate_mib << 20)
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"The sink {scheme}://... is not an address; it needs a host, and a port where it is not usual.")
    if parts.username is not None:
        raise BadInput(
            f"The sink {scheme}://{parts.hostname} holds a user or password; set them in the environment (docs: Watch)."
        )
    if scheme in ("http", "https"):
        from vqi.deployment.watching.sinks.webhook import WebhookSink

        return WebhookSink(address, settings.timeout_seconds)
    if scheme in ("mqtt", "mqtts"):
        from vqi.deployment.watching.sinks.mqtt import MqttSink

        return MqttSink(address, settings.timeout_seconds, state)
    raise BadInput(f"The sink {address} cannot be used; name -, a folder, or an address of http(s):// or mqtt(s)://.")

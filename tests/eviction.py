"""Stopping a training as Kubernetes stops an evicted pod, without a signal that would end the whole test run."""

from __future__ import annotations

import signal
import threading


def evict() -> None:
    """Call what handles SIGTERM in this process, as the system would."""
    handler = signal.getsignal(signal.SIGTERM)
    assert callable(handler), f"SIGTERM is handled by {handler} in {threading.current_thread()}"
    handler(signal.SIGTERM, None)

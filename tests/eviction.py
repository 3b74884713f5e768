"""Stopping a training as Kubernetes stops an evicted pod, without a signal that would end the whole test run."""

from __future__ import annotations

import signal
import threading

import pytest


def evict() -> None:
    """Call what handles SIGTERM in this process, as the system would."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("a process handles SIGTERM in its main thread alone, and this test runs in another")
    handler = signal.getsignal(signal.SIGTERM)
    assert callable(handler), f"SIGTERM is handled by {handler}"
    handler(signal.SIGTERM, None)

"""What Prometheus reads."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from line import appear, decisions, wait_until
from vqi.deployment.bundle import bundle_version
from vqi.platform.errors import RunFailed


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_decisions_and_sinks_are_counted(tmp_path: Path, toy_bundle: Path, watch_once) -> None:
    for name, defect in (("a.png", False), ("b.png", True)):
        appear(tmp_path / "in", name, defect=defect)
    port, stop, away = free_port(), threading.Event(), f"http://127.0.0.1:{free_port()}/x"
    settings = {"once": False, "metrics_port": port, "flush_seconds": 0}
    thread = threading.Thread(
        daemon=True, target=watch_once, args=(tmp_path / "in", [str(tmp_path / "out"), away], stop), kwargs=settings
    )
    thread.start()
    wait_until(lambda: len(decisions(tmp_path / "out")) == 2)

    def values() -> dict[tuple[str, ...], float]:
        text = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

    wait_until(lambda: values().get(("vqi_watch_sink_failures_total", away), 0) > 0)
    wait_until(lambda: values()["vqi_watch_waiting_decisions", str(tmp_path / "out")] == 0)
    read = values()
    stop.set()
    thread.join(30)
    assert read["vqi_watch_decisions_total", "good"] == read["vqi_watch_decisions_total", "defect"] == 1
    assert read["vqi_watch_waiting_decisions", away] == 2
    assert read["vqi_watch_decision_seconds_count",] == 2
    assert read["vqi_watch_info", "plates", bundle_version(toy_bundle)] == 1


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, watch_once) -> None:
    (tmp_path / "in").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunFailed, match="cannot be listened at"):
            watch_once(tmp_path / "in", ["-"], metrics_port=taken.getsockname()[1])

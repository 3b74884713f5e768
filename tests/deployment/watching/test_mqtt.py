"""The sink mqtt:// against a real broker (mosquitto), which is killed too."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from line import appear, wait_until, watching
from vqi.deployment.watching import delivery

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
pytestmark = pytest.mark.skipif(
    not Path(MOSQUITTO).exists(), reason="there is no MQTT broker here (apt-get install mosquitto)"
)


class Broker:
    """mosquitto at a port of its own; what is retained is gone when it is killed."""

    def __init__(self, folder: Path, rules: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n{rules}")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._settings)], stderr=subprocess.DEVNULL)
        wait_until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Subscriber:
    """Everything below `line1` as (topic, value, retained)."""

    def __init__(self, port: int) -> None:
        self.got: queue.Queue[tuple[str, dict, bool]] = queue.Queue()
        ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("line1/#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda client, data, message: self.got.put(
            (message.topic, json.loads(message.payload), message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(10)

    def next(self) -> tuple[str, dict, bool]:
        return self.got.get(timeout=20)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path)
    yield started
    started.kill()


def test_decisions_and_a_retained_state_reach_a_subscriber(tmp_path: Path, watch_once, broker: Broker) -> None:
    subscriber = Subscriber(broker.port)
    appear(tmp_path / "in", "a.png")
    assert watch_once(tmp_path / "in", [f"mqtt://127.0.0.1:{broker.port}/line1"]) == 1
    messages = [subscriber.next() for _ in range(3)]
    subscriber.stop()
    state = {"bundle": "plates", "version": "v1"}
    assert messages[0] == ("line1/state", {"online": True, **state}, False)
    assert (messages[1][0], messages[1][1]["image"], messages[1][1]["decision"]) == ("line1/decisions", "a.png", "good")
    assert messages[2] == ("line1/state", {"online": False, **state}, False)
    late = Subscriber(broker.port)
    assert late.next() == ("line1/state", {"online": False, **state}, True)
    assert late.got.empty()
    late.stop()


def test_the_last_will_says_that_a_killed_process_is_gone(toy_bundle: Path, tmp_path: Path, broker: Broker) -> None:
    subscriber = Subscriber(broker.port)
    (tmp_path / "in").mkdir()
    sink = f"mqtt://127.0.0.1:{broker.port}/line1"
    with watching(str(toy_bundle), "in", "--sink", sink, folder=tmp_path) as process:
        assert subscriber.next()[1]["online"] is True
        process.kill()
        assert subscriber.next()[1]["online"] is False
    subscriber.stop()


def test_a_broker_that_is_killed_gets_all_it_missed(
    tmp_path: Path, watch_once, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.05)
    stop = threading.Event()
    sinks = [f"mqtt://127.0.0.1:{broker.port}/line1"]
    appear(tmp_path / "in", "a.png")
    subscriber = Subscriber(broker.port)
    thread = threading.Thread(target=watch_once, args=(tmp_path / "in", sinks, stop), kwargs={"once": False})
    thread.start()
    assert [subscriber.next()[0] for _ in range(2)] == ["line1/state", "line1/decisions"]
    subscriber.stop()
    broker.kill()
    for name in ("b.png", "c.png"):
        appear(tmp_path / "in", name)
    broker.start()
    again = Subscriber(broker.port)
    messages = [again.next() for _ in range(3)]
    stop.set()
    thread.join(30)
    again.stop()
    assert not thread.is_alive()
    assert sorted(value.get("image", "") for _, value, _ in messages) == ["", "b.png", "c.png"]


def test_what_a_broker_may_not_take_is_put_aside(tmp_path: Path, watch_once) -> None:
    (tmp_path / "rules").write_text("topic read #\ntopic write line1/state\n")
    broker = Broker(tmp_path, f"acl_file {tmp_path / 'rules'}\n")
    appear(tmp_path / "in", "a.png")
    assert watch_once(tmp_path / "in", [f"mqtt://127.0.0.1:{broker.port}/line1"]) == 1
    broker.kill()
    rows = sqlite3.connect(tmp_path / "state" / "outbox.sqlite").execute("SELECT reason FROM refused").fetchall()
    assert rows == [("the broker says: Not authorized",)]

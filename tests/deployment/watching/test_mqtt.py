"""The sink mqtt:// against a real broker (mosquitto), which is killed too."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from line import appear, wait_until, watching
from vqi.deployment.bundle import bundle_version
from vqi.deployment.watching import delivery
from vqi.platform.errors import RunFailed

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
pytestmark = pytest.mark.skipif(
    not Path(MOSQUITTO).exists(), reason="there is no MQTT broker here (apt-get install mosquitto)"
)


class Broker:
    """mosquitto at a port of its own; what is retained is gone when it is killed."""

    def __init__(self, folder: Path, rules: str = "", anonymous: bool = True) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous {str(anonymous).lower()}\nuser root\n{rules}"
        )
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
def open_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    started: list[Broker] = []

    def start(rules: str = "", anonymous: bool = True) -> Broker:
        started.append(Broker(tmp_path, rules, anonymous))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def broker(open_broker: Callable[..., Broker]) -> Broker:
    return open_broker()


def test_decisions_and_a_retained_state_reach_a_subscriber(
    toy_bundle: Path, tmp_path: Path, watch_once, broker: Broker
) -> None:
    subscriber = Subscriber(broker.port)
    appear(tmp_path / "in", "a.png")
    assert watch_once(tmp_path / "in", [f"mqtt://127.0.0.1:{broker.port}/line1"]) == 1
    messages = [subscriber.next() for _ in range(3)]
    subscriber.stop()
    state = {"bundle": "plates", "version": bundle_version(toy_bundle)}
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
    thread = threading.Thread(
        daemon=True, target=watch_once, args=(tmp_path / "in", sinks, stop), kwargs={"once": False}
    )
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


def test_what_a_broker_may_not_take_is_put_aside(
    tmp_path: Path, watch_once, open_broker: Callable[..., Broker]
) -> None:
    (tmp_path / "rules").write_text("topic read #\ntopic write line1/state\n")
    broker = open_broker(f"acl_file {tmp_path / 'rules'}\n")
    appear(tmp_path / "in", "a.png")
    assert watch_once(tmp_path / "in", [f"mqtt://127.0.0.1:{broker.port}/line1"]) == 1
    rows = sqlite3.connect(tmp_path / "state" / "outbox.sqlite").execute("SELECT reason FROM refused").fetchall()
    assert rows == [("the broker says: Not authorized",)]


def test_a_broker_by_tls_and_password(
    tmp_path: Path,
    watch_once,
    authority: tuple[Path, object],
    monkeypatch: pytest.MonkeyPatch,
    open_broker: Callable[..., Broker],
    capsys,
) -> None:
    if not (tool := shutil.which("mosquitto_passwd")):
        pytest.skip("mosquitto_passwd is not here")
    subprocess.run([tool, "-b", "-c", tmp_path / "passwords", "line", "secret"], check=True, stderr=subprocess.DEVNULL)
    own, server = authority[0], authority[0].with_name("server.pem")
    broker = open_broker(
        f"certfile {server}\nkeyfile {server}\npassword_file {tmp_path / 'passwords'}\n",
        anonymous=False,
    )
    appear(tmp_path / "in", "a.png")
    sink = f"mqtts://localhost:{broker.port}/line1"
    monkeypatch.setenv("VQI_MQTT_CA", str(own))
    monkeypatch.setenv("VQI_MQTT_USER", "line")
    monkeypatch.setenv("VQI_MQTT_PASSWORD", "wrong")
    settings = {"timeout_seconds": 1, "flush_seconds": 1}
    with pytest.raises(RunFailed, match="has not yet 1"):
        watch_once(tmp_path / "in", [sink], **settings)
    assert f"{sink} takes no decisions (the broker says: Not authorized)" in capsys.readouterr().err
    monkeypatch.setenv("VQI_MQTT_PASSWORD", "secret")
    watch_once(tmp_path / "in", [sink])

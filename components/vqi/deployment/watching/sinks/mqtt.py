"""An MQTT broker: decisions by QoS 1, and a retained state that says whether anybody decides."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from vqi.deployment.watching.outbox import Pending
from vqi.deployment.watching.sinks import SinkAway, SinkRefused
from vqi.platform.errors import BadInput

USER, PASSWORD = "VQI_MQTT_USER", "VQI_MQTT_PASSWORD"
AUTHORITY = "VQI_MQTT_CA"
TOPIC = "vqi"
PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_SECONDS = 15
NO_CONNECTION = "no connection"
# A broker that is not reached is tried so often.
RECONNECT_SECONDS = (1, 30)


class MqttSink:
    """Publishes to `TOPIC/decisions` at the broker of `address` (mqtt://host:port/TOPIC), by MQTT 5: earlier versions
    do not say that a broker drops what may not be published.

    `TOPIC/state` is retained: `{"online": true}` and `state` while this runs, and the last will is that it does not.
    A decision that was handed to the client is not published anew when the connection ends before the broker has
    confirmed it: the client sends that very message again. Raises BadInput where paho-mqtt or the topic is missing.
    """

    def __init__(self, address: str, timeout: float, state: Mapping[str, object]) -> None:
        try:
            import paho.mqtt.client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise BadInput("The sink mqtt:// needs paho-mqtt; pip install 'vqi[watch]'.") from error
        parts = urlsplit(address)
        topic = "/".join(address.split("/")[3:]).strip("/") or TOPIC
        if any(sign in topic for sign in "+#?$"):
            raise BadInput(f"The topic {topic!r} cannot be published to; it may not hold +, #, ? or $.")
        port = parts.port or PORTS[parts.scheme]
        self.name = f"{parts.scheme}://{parts.hostname}:{port}/{topic}"
        self._topic, self._state_topic, self._timeout = f"{topic}/decisions", f"{topic}/state", timeout
        self._state = dict(state)
        self._confirmed = threading.Condition()
        # What the broker answered to messages by their numbers: "" where it has one, else why not.
        self._answers: dict[int, str] = {}
        self._handed: tuple[int, int] | None = None
        self._reason = NO_CONNECTION
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"vqi-{uuid.uuid4().hex[:16]}", protocol=mqtt.MQTTv5
        )
        if user := os.environ.get(USER, ""):
            client.username_pw_set(user, os.environ.get(PASSWORD) or None)
        if parts.scheme == "mqtts":
            client.tls_set(os.environ.get(AUTHORITY) or None)
        client.will_set(self._state_topic, self._state_text(False), qos=1, retain=True)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        client.on_connect, client.on_publish = self._connected, self._published
        client.on_disconnect = self._disconnected
        client.connect_async(parts.hostname or "", port, KEEPALIVE_SECONDS)
        client.loop_start()

    def deliver(self, pending: Pending) -> None:
        if self._handed is None or self._handed[0] != pending.number:
            self._await_connection()
            with self._confirmed:  # numbers come again, and what was confirmed under one is not what is sent now
                self._answers.clear()
            info = self._client.publish(self._topic, pending.line.encode(), qos=1)
            self._handed = (pending.number, info.mid)
        message = self._handed[1]
        with self._confirmed:
            if not self._confirmed.wait_for(lambda: message in self._answers, self._timeout):
                raise SinkAway(f"no confirmation within {self._timeout:.0f} s")
            refusal = self._answers.pop(message)
        self._handed = None
        if refusal:
            raise SinkRefused(refusal)

    def announce(self, state: Mapping[str, object]) -> None:
        self._state = dict(state)
        if self._client.is_connected():
            self._client.publish(self._state_topic, self._state_text(True), qos=1, retain=True)

    def close(self) -> None:
        if self._client.is_connected():
            info = self._client.publish(self._state_topic, self._state_text(False), qos=1, retain=True)
            with self._confirmed:
                self._confirmed.wait_for(lambda: info.mid in self._answers, min(self._timeout, 2.0))
        self._client.disconnect()
        self._client.loop_stop()

    def _await_connection(self) -> None:
        with self._confirmed:
            if not self._confirmed.wait_for(self._client.is_connected, self._timeout):
                raise SinkAway(self._reason)

    def _state_text(self, online: bool) -> str:
        return json.dumps({"online": online, **self._state})

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._reason = f"the broker says: {reason}"
            return
        self._reason = NO_CONNECTION
        client.publish(self._state_topic, self._state_text(True), qos=1, retain=True)
        with self._confirmed:
            self._confirmed.notify_all()

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        # After a refusal the connection ends too, and says less.
        if self._reason == NO_CONNECTION:
            self._reason = f"the connection ended ({reason})"

    def _published(self, client: Any, userdata: Any, message: int, reason: Any, properties: Any) -> None:
        with self._confirmed:
            self._answers[message] = f"the broker says: {reason}" if reason.is_failure else ""
            self._confirmed.notify_all()

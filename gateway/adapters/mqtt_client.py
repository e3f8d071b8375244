"""Everything over MQTT that is not ingest: messages to devices, and a look whether a broker takes us.

The only module of the gateway that knows aiomqtt, and paho beneath it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.adapters.mqtt import Broker, BrokerError

log = structlog.get_logger()

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
"""Seconds before a connection is tried again."""
PUBLISH_TIMEOUT_S = 10.0
LONGEST_EXPIRY_S = 2**32 - 1
"""MQTT 5, section 3.3.2.3.3: four bytes."""


class NotConnectedError(Exception):
    """There is no connection to the broker now; the delivery is tried again on its schedule."""


class MqttClient:
    """One connection, kept, to publish over."""

    def __init__(self, broker: Broker, *, random: Callable[[], float]) -> None:
        self._broker, self._random = broker, random
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether it can publish now."""
        return self._up.is_set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                async with make_client(self._broker) as client:
                    self._client, pause = client, SHORTEST_PAUSE
                    self._up.set()
                    async for _ in client.messages:
                        pass  # nothing is subscribed; the loop ends with the connection
            except (aiomqtt.MqttError, BrokerError) as error:
                if self._up.is_set() or pause == SHORTEST_PAUSE:
                    log.warning("downlink_lost", problem=str(error), todo="deliveries to displays wait")
            finally:
                self._client = None
                self._up.clear()
            await asyncio.sleep(pause * (0.5 + self._random() / 2))
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool, expires_s: int | None = None
    ) -> None:
        """Publish at QoS 1; returns when the broker has taken it, which lets go of it after `expires_s`
        seconds where it speaks MQTT 5. Raises NotConnectedError."""
        properties = _expiring(expires_s) if self._broker.mqtt5 else None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._up.wait()
                if self._client is None:
                    raise NotConnectedError("the connection has just ended")
                await self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        except TimeoutError as error:
            raise NotConnectedError(f"no answer of the broker within {PUBLISH_TIMEOUT_S:g} s") from error
        except aiomqtt.MqttError as error:
            raise NotConnectedError(str(error)) from error


def _expiring(seconds: int | None) -> Properties | None:
    if seconds is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = min(max(seconds, 1), LONGEST_EXPIRY_S)
    return properties


class _Client(aiomqtt.Client):
    """aiomqtt has the loop watch a descriptor one turn after paho asked for it. When the broker closes the
    connection within that turn, the descriptor is closed by then (a traceback on the way out), or it is
    another socket's. So this looks again before it watches."""

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def watch() -> None:
            if client.socket() is sock:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)


def make_client(broker: Broker) -> aiomqtt.Client:
    """A client that is not connected yet. Raises BrokerError for an address or files that cannot be used."""
    host, port = broker.endpoint()
    context: ssl.SSLContext | None = broker.tls()
    return _Client(
        host,
        port,
        username=broker.username,
        password=broker.password,
        identifier=broker.client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if broker.mqtt5 else aiomqtt.ProtocolVersion.V311,
        tls_context=context,
        timeout=PUBLISH_TIMEOUT_S,
    )


async def probe(broker: Broker) -> str:
    """Connect once and leave; gives what went well. Raises BrokerError with what to do."""
    host, port = broker.endpoint()
    try:
        async with make_client(broker):
            return f"{urlsplit(broker.url).scheme}://{host}:{port} takes the connection"
    except aiomqtt.MqttError as error:
        raise BrokerError(
            f"{host}:{port}: {error}. Is the broker running, and are mqtt.url, username and password right?"
        ) from error

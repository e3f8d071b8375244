"""The connection that everything but ingest uses: what happens when its broker leaves."""

import asyncio
import dataclasses
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import aiomqtt
import pytest
import uvloop
from real_parts import PATIENCE_S, Mosquitto

from gateway.adapters.mqtt import Broker
from gateway.adapters.mqtt_client import MqttClient, make_client

CONNACK = bytes((0x20, 3, 0, 0, 0))


class LeavingBroker:
    """Takes one connection, and closes it when told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._leave, self._thread = threading.Event(), threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(CONNACK)
            self._leave.wait(90)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join()

    def close(self) -> None:
        self.leave()
        self._listener.close()


@pytest.fixture
def broker() -> Iterator[LeavingBroker]:
    leaving = LeavingBroker()
    yield leaving
    leaving.close()


def test_a_broker_that_leaves_while_we_do_causes_no_trouble(broker: LeavingBroker) -> None:
    troubles: list[Any] = []

    async def leave_together() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        client = make_client(Broker(url=f"mqtt://127.0.0.1:{broker.port}", client_id="c"))
        try:
            async with client:
                broker.leave()
                # The end of the connection has arrived, and the loop has not seen it yet.
                select.select([client._client.socket()], [], [], 5)
        except aiomqtt.MqttError:
            pass  # that the broker left first may be told
        for _ in range(5):
            await asyncio.sleep(0)

    uvloop.run(leave_together())
    assert troubles == []


async def test_the_broker_lets_go_of_what_a_display_shows_when_the_matter_ends(mosquitto: Mosquitto) -> None:
    topic = "touchpoint/v1/car-9/touchpoint/t1"
    broker = Broker(url=mosquitto.url, client_id="down-9")
    down = MqttClient(broker, random=lambda: 0.0)
    task = asyncio.create_task(down.run())
    try:
        await down.publish(topic, b"{}", retain=True, expires_s=600)
        async with make_client(dataclasses.replace(broker, client_id="display-9")) as display:
            await display.subscribe(topic, qos=1)
            async with asyncio.timeout(PATIENCE_S):
                message = await anext(display.messages)
            assert (message.payload, message.retain) == (b"{}", True)
            left = getattr(message.properties, "MessageExpiryInterval", None)
            assert left is not None
            assert 540 < left <= 600
        await down.publish(topic, b"", retain=True)
        await down.publish(topic, b"{}", retain=False, expires_s=2**40)  # a span that no broker can count
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

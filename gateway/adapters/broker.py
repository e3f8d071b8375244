"""The broker for one machine: iotcore (rumqttd in a wheel), in a child process that ends with us.

Loopback only, a random password, gone with everything it holds when it stops. It knows no topic
rights: every client may publish and read everything. MQTT 5 (ingest) and MQTT 3.1.1 (devices) have
a port each and share their messages.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog
from iotcore import Broker as IotcoreBroker

log = structlog.get_logger()

USERNAME = "touchpoint"
HOST = "127.0.0.1"
LARGEST_PAYLOAD = 1_048_576
"""Bytes; iotcore's own limit of 20 kB makes it disconnect who sends more."""
START_S = 10.0

CONFIG = """
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 2000
max_segment_size = 104857600
max_segment_count = 10

[v4.1]
name = "devices"
listen = "{host}:{devices_port}"
next_connection_delay_ms = 1

[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = {payload}
max_inflight_count = 500
auth = {{ {username} = "{password}" }}
dynamic_filters = true

[v5.1]
name = "gateway"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {payload}
max_inflight_count = 1000
auth = {{ {username} = "{password}" }}
dynamic_filters = true
"""


class EmbeddedBrokerError(Exception):
    """The embedded broker did not start; the text says why and what to do."""


class EmbeddedBroker:
    """Starts and ends the broker. `random(n)` gives n hexadecimal characters."""

    def __init__(self, random: Callable[[int], str]) -> None:
        self.username = USERNAME
        self.password = random(32)
        self.port, self.devices_port = _free_ports()
        self._broker: IotcoreBroker | None = None

    @property
    def url(self) -> str:
        """For MQTT 5: ingest."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def devices_url(self) -> str:
        """For MQTT 3.1.1: devices, the simulator, displays."""
        return f"mqtt://{HOST}:{self.devices_port}"

    async def start(self) -> None:
        """Listening when this returns. Raises EmbeddedBrokerError."""
        await asyncio.to_thread(self._start)
        log.warning(
            "embedded_broker",
            address=self.url,
            note="loopback only, no topic rights, keeps nothing over a restart: not for production, set mqtt.url",
        )

    def _start(self) -> None:
        descriptor, name = tempfile.mkstemp(suffix=".toml")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(
                    CONFIG.format(
                        host=HOST,
                        port=self.port,
                        devices_port=self.devices_port,
                        payload=LARGEST_PAYLOAD,
                        username=self.username,
                        password=self.password,
                    )
                )
            self._broker = IotcoreBroker(config_path=name)
            self._broker.start(timeout=START_S)
        except (OSError, RuntimeError) as error:
            raise EmbeddedBrokerError(
                f"the embedded broker did not start ({error}): try again, or set mqtt.url to a broker of yours"
            ) from error
        finally:
            Path(name).unlink(missing_ok=True)  # read by now, and it holds the password

    async def stop(self) -> None:
        """End it; its ports are free when this returns."""
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)
            self._broker = None


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((HOST, 0))
        other.bind((HOST, 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])

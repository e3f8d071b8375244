"""`embedded:` – a broker for one command on a bare machine: iotcore (rumqttd in a wheel), loopback only.

rumqttd knows no way to stop, so it runs in a process of its own, which ends with ours: it watches a pipe
that closes when we stop it, when we end, and when we are killed. It speaks MQTT 5 on one port and 3.1.1 on
another, keeps sessions, queues and retained messages in memory, passes wills on, and knows one user with a
random password.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
USERNAME = "touchpoint"
LARGEST_PAYLOAD = 4 * 2**20
SEGMENT = 20 * 2**20
SEGMENTS = 10
"""Bytes it keeps for a subscriber that is away: what comes beyond drops the oldest."""
READY_WITHIN = 30.0
TRIES = 3
"""Ports are free when they are chosen; somebody may be faster."""

NOTE = (
    "for trying things out: this machine only, no access lists, ignores Receive Maximum, keeps sessions and "
    "queued messages in memory (a restart forgets them; beyond "
    f"{SEGMENT * SEGMENTS // 2**20} MiB waiting the oldest is dropped); set mqtt.url to a broker of yours"
)


class EmbeddedBrokerError(Exception):
    """The embedded broker did not start; the text says why and what to do."""


class EmbeddedBroker:
    """Starts and ends the broker; afterwards neither process nor port is left."""

    def __init__(self, random: Callable[[int], str], *, port: int = 0, devices_port: int = 0) -> None:
        """`random(n)` gives n hexadecimal characters. Fixed ports are for people who want to connect to it;
        0 takes free ones."""
        self.username = USERNAME
        self.password = random(32)
        self._wanted = (port, devices_port)
        self.port, self.devices_port = self._wanted
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For MQTT 5: ingest."""
        return f"mqtt://{LOOPBACK}:{self.port}"

    @property
    def devices_url(self) -> str:
        """For MQTT 3.1.1: devices, the simulator, displays."""
        return f"mqtt://{LOOPBACK}:{self.devices_port}"

    async def start(self) -> None:
        """Listening when this returns. Raises EmbeddedBrokerError."""
        for _ in range(TRIES):
            self.port, self.devices_port = (chosen or _free_port() for chosen in self._wanted)
            config = _write(_config(self.port, self.devices_port, self.password))
            try:
                self._process = _spawn(config)
                if await self._ready(self.port) and await self._ready(self.devices_port):
                    log.warning("embedded_broker", address=self.url, devices=self.devices_url, note=NOTE)
                    return
                await self.stop()
            except asyncio.CancelledError:
                await self.stop()  # before what it has to read is gone
                raise
            finally:
                config.unlink()  # read by now, and it holds the password
        raise EmbeddedBrokerError(
            "the embedded broker did not start: try again, or set mqtt.url to a broker of yours"
        )

    async def stop(self) -> None:
        """End it; its ports are free when this returns. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def __aenter__(self) -> EmbeddedBroker:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _ready(self, port: int) -> bool:
        try:
            async with asyncio.timeout(READY_WITHIN):
                while self._process is not None and self._process.poll() is None:
                    try:
                        _, writer = await asyncio.open_connection(LOOPBACK, port)
                    except OSError:
                        await asyncio.sleep(0.02)
                        continue
                    writer.close()
                    return self._process.poll() is None
        except TimeoutError:
            pass
        return False


def _config(port: int, port_311: int, password: str) -> str:
    """rumqttd's own configuration, in TOML."""
    listeners = "".join(
        f"""
[{version}.1]
name = "{version}"
listen = "{LOOPBACK}:{number}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {LARGEST_PAYLOAD}
max_inflight_count = 1000
dynamic_filters = true
[{version}.1.connections.auth]
{USERNAME} = "{password}"
"""
        for version, number in (("v5", port), ("v4", port_311))
    )
    return f"""id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 1000
max_segment_size = {SEGMENT}
max_segment_count = {SEGMENTS}
{listeners}"""


def _write(text: str) -> Path:
    """A file that only this user can read; it holds the password until the broker has read it."""
    handle, name = tempfile.mkstemp(prefix="touchpoint-broker-", suffix=".toml")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return Path(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _spawn(config: Path) -> subprocess.Popen[bytes]:
    """A session of its own, so that Ctrl-C reaches only us; we end it when we are done."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "gateway.adapters.broker", str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    """The pipe closes when the parent stops us, ends, or is killed."""
    try:
        sys.stdin.buffer.read()
    finally:
        os._exit(0)


def main() -> None:
    """The child: serve until the parent is gone."""
    from iotcore import IotCoreBroker

    # It logs every packet as an error; what goes wrong with it, its clients tell.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()

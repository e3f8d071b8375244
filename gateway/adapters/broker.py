"""`embedded:` – a broker for one command on a bare machine: iotcore (rumqttd in a wheel), loopback only.

rumqttd knows no way to stop, so it runs in a process of its own, which ends with ours: it watches a pipe
that closes when we stop it, when we end, and when we are killed. It speaks MQTT 5 on one port and 3.1.1 on
another, keeps sessions, queues and retained messages in memory, passes wills on, and knows one user with a
random password.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
USERNAME = "touchpoint"
LARGEST_PAYLOAD = 4 * 2**20
SEGMENT = 20 * 2**20
SEGMENTS = 10
"""Bytes it keeps for a subscriber that is away: what comes beyond drops the oldest."""
READY_WITHIN = 10.0
TRIES = 3
"""Ports are free when they are chosen; somebody may be faster."""

BANNER = (
    "The embedded broker is for trying things out: it listens on this machine only, keeps sessions and "
    "queued messages in memory (a restart forgets them), knows no access lists, ignores Receive Maximum, and "
    f"drops the oldest of what waits beyond {SEGMENT * SEGMENTS // 2**20} MiB. Use mosquitto for anything else."
)


class BrokerStartError(Exception):
    """The embedded broker did not start."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How to reach it."""

    url: str
    """MQTT 5: for the gateway"""
    url_311: str
    """MQTT 3.1.1: for devices and tools that do not speak 5"""
    username: str
    password: str


class EmbeddedBroker:
    """`async with EmbeddedBroker() as running: …`; afterwards neither process nor port is left."""

    def __init__(self, *, port: int = 0, port_311: int = 0) -> None:
        """Fixed ports are for people who want to connect to it; 0 takes free ones."""
        self._ports = (port, port_311)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Running:
        """Return when it takes connections. Raises BrokerStartError."""
        password = secrets.token_urlsafe(24)
        for _ in range(TRIES):
            port, port_311 = (chosen or _free_port() for chosen in self._ports)
            config = _write(_config(port, port_311, password))
            try:
                self._process = _spawn(config)
                if await self._ready(port) and await self._ready(port_311):
                    return Running(
                        url=f"mqtt://{LOOPBACK}:{port}",
                        url_311=f"mqtt://{LOOPBACK}:{port_311}",
                        username=USERNAME,
                        password=password,
                    )
                await self.stop()
            finally:
                config.unlink()
        raise BrokerStartError(
            f"the embedded broker did not start on {LOOPBACK}: is a port that it was given taken?"
        )

    async def stop(self) -> None:
        """End it; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def __aenter__(self) -> Running:
        return await self.start()

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
                    return True
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

    threading.Thread(target=_end_with_parent, daemon=True).start()
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()

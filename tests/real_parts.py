"""The real parts that tests run against: a broker, a line-protocol store, a browser, recorded data.

Every process has a free port and a folder of its own and is ended by its pid. What is not installed makes
the test skip with its reason; with ``CI=true`` it is an error, so that nothing is left out unseen (InfluxDB
excepted, which Debian does not package).
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 180
"""For what takes a second here and may take a minute where four such tests share two slow cores."""


def ports_of_ours() -> range:
    """Ports that the kernel gives to nobody who asks for any port, and no other process of this run chooses:
    what was chosen is still free when a program opens it seconds later. Empty where the kernel gives all."""
    try:
        given_away = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        given_away = 32_768
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    share = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST_PORT + int(worker), given_away, share)


FIRST_PORT = 20_000
_ahead: list[int] = []
"""Ports of ours that were not given yet; each comes once before any comes again."""


def free_port() -> int:
    """A port on loopback that nobody listens on, and that nobody else takes before we open it."""
    for _ in range(1_000):
        if not _ahead:
            _ahead.extend(random.SystemRandom().sample(ours := ports_of_ours(), len(ours)))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", _ahead.pop() if _ahead else 0))
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free on loopback")


def need(program: str, package: str) -> str:
    """Path of an installed program; without it the test is skipped, or fails in CI."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say(f"{program} is not installed (Debian: apt-get install {package})")
    return path


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S, *, every: float = 0.01
) -> None:
    """Polls a condition outside our process that nothing announces, such as a port being opened."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: "subprocess.Popen[bytes] | None", with_signal: int = signal.SIGTERM) -> None:
    """Ends one process of ours and waits for it."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(with_signal)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(kw_only=True)
class Mosquitto:
    """A real broker that holds back nothing: no limit on its queue, anonymous, loopback."""

    folder: Path
    port: int = field(default_factory=free_port)
    persistence: bool = False  # keeps sessions and queues over a restart by stop() and start()
    options: str = ""  # further lines of mosquitto.conf
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def config(self) -> str:
        store = (
            f"persistence true\npersistence_location {self.folder}/\n"
            if self.persistence
            else "persistence false\n"
        )
        return (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"max_inflight_messages 1000\nlog_type error\nlog_type warning\nuser root\n"
            f"{store}{self.options}\n"
        )

    def start(self) -> "Mosquitto":
        program = need("mosquitto", "mosquitto")
        config = self.folder / "mosquitto.conf"
        config.write_text(self.config())
        with open(self.folder / "mosquitto.log", "ab") as log:
            self.process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        wait_until(lambda: self.ended() or listens(self.port), "mosquitto opens its port")
        assert not self.ended(), self.log
        return self

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self) -> None:
        """SIGTERM: with persistence everything is written first."""
        end(self.process)

    def kill(self) -> None:
        """SIGKILL: what the broker had not written yet is gone."""
        end(self.process, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclass(frozen=True, kw_only=True)
class VictoriaMetrics:
    """A real store that takes InfluxDB's line protocol at ``/api/v2/write``."""

    url: str

    def export(self, match: str) -> str:
        """All points of the matching series, as JSON lines."""
        query = urllib.parse.urlencode({"match[]": match})
        urllib.request.urlopen(f"{self.url}/internal/force_flush").close()
        with urllib.request.urlopen(f"{self.url}/api/v1/export?{query}") as answer:
            return str(answer.read().decode())


@dataclass(frozen=True, kw_only=True)
class Influx:
    """A real InfluxDB 2.x that somebody else runs."""

    url: str
    token: str
    org: str

"""The whole gateway as a process of its own, driven from outside: command, settings, MQTT, HTTP, metrics."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_parts import PATIENCE_S, end, free_port, wait_until

TOUCHPOINT = Path(sys.executable).parent / "touchpoint"
WORKSHOP = {
    "id": "nord",
    "name": "Autohaus Nord",
    "bays": ["Bay 1"],
    "hours": {day: [["00:00", "23:30"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")},
    "services": [{"id": "brakes-front", "names": {"en": "Front brakes"}, "minutes": 60}],
}
"""Has times to offer at whatever hour tests run."""
PADS = """- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 80
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
"""
"""A rule file whose one rule asks for a visit at WORKSHOP."""


@dataclass(kw_only=True)
class GatewayProcess:
    """`touchpoint run` against a broker, in a data folder of its own."""

    folder: Path
    broker: str
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    token: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("TOUCHPOINT_")},
            "TOUCHPOINT_DATA_DIR": str(self.folder / "data"),
            "TOUCHPOINT_MQTT__URL": self.broker,
            "TOUCHPOINT_WEB__HOST": "127.0.0.1",
            "TOUCHPOINT_WEB__PORT": str(self.port),
            **self.settings,
        }

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text(errors="replace")

    def launch(self) -> None:
        """Begin, without waiting until it is ready."""
        with open(self.folder / "gateway.log", "ab") as log:
            self.process = subprocess.Popen(
                [TOUCHPOINT, "run"], env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )

    def start(self) -> None:
        self.launch()
        self.ready()

    def ready(self) -> None:
        wait_until(self._ready, f"the gateway is ready; its log: {self.folder / 'gateway.log'}")

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-2000:]
        with contextlib.suppress(OSError):
            return self._get("/health/ready").status == 200
        return False

    def kill(self) -> None:
        """SIGKILL."""
        end(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM."""
        end(self.process)

    def run(self, *arguments: str) -> str:
        """One command on the same settings; its standard output."""
        done = subprocess.run(
            [TOUCHPOINT, *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def total(self, name: str) -> float:
        """A metric, all its labels together; 0 while the gateway is away."""
        with contextlib.suppress(OSError):
            lines = self._get("/metrics").read().decode().splitlines()
            rows = [line.rsplit(" ", 1) for line in lines if line.partition("{")[0].partition(" ")[0] == name]
            return sum(float(value) for _, value in rows)
        return 0.0

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The answer as JSON, as operator; anything but 2xx is an error."""
        if not self.token:
            self.token = self.run("token", "create", "--role", "operator").split()[-1]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def _get(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def cpu(self) -> float:
        """CPU seconds of the process and all below it, ended ones included."""
        assert self.process is not None
        return cpu_of(self.process.pid)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all below it, ended ones included."""
    children: dict[int, list[tuple[int, int]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            ticks = sum(map(int, fields[11:15]))
            children.setdefault(int(fields[1]), []).append((int(stat.parent.name), ticks))
    total = sum(ticks for group in children.values() for child, ticks in group if child == pid)
    todo = [pid]
    while todo:
        for child, ticks in children.get(todo.pop(), []):
            total += ticks
            todo.append(child)
    return total / os.sysconf("SC_CLK_TCK")


def kept_waiting_s(*pids: int) -> float:
    """Seconds in which threads of these processes could have run, and the machine ran others (schedstat)."""
    waited = 0
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError):
                waited += int(stat.read_text().split()[1])
    return waited / 1e9


def wait_for(condition: Any, what: str, seconds: float = PATIENCE_S) -> None:
    """As wait_until, looking less often: it asks over HTTP."""
    wait_until(condition, what, seconds, every=0.1)

"""What tests ask of the whole gateway from outside: its commands, its HTTP, what it says when it cannot."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from gateway_lab import TOUCHPOINT, GatewayProcess
from real_parts import PATIENCE_S, end, wait_until

from gateway.cli import main

TRACEBACK = "Traceback (most recent call last)"
ONE_LINE = re.compile(r"\Atouchpoint [a-z]+: [^\n]+\n\Z")

Message = tuple[str, bytes]


def names(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as environment: {"mqtt.url": …} → {"TOUCHPOINT_MQTT__URL": …}."""
    return {f"TOUCHPOINT_{key.upper().replace('.', '__')}": value for key, value in settings.items()}


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without the settings of whoever runs the tests, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHPOINT_")}
    return kept | names(settings)


def touchpoint(
    *arguments: str | Path, settings: Mapping[str, str] | None = None, timeout: float = PATIENCE_S
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end, whatever its status; it never shows a traceback."""
    done = subprocess.run(
        [str(TOUCHPOINT), *map(str, arguments)],
        env=environment(settings or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert TRACEBACK not in done.stderr, done.stderr
    return done


def in_process(
    arguments: Sequence[str | Path], variables: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command that ends by itself, without starting a process for it: a fifth of the time."""
    out, err, before = io.StringIO(), io.StringIO(), dict(os.environ)
    hangup = signal.getsignal(signal.SIGHUP)
    os.environ.clear()
    os.environ.update(variables)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(argument) for argument in arguments])
    except SystemExit as ended:  # argparse
        status = int(ended.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(before)
        if signal.getsignal(signal.SIGHUP) is not hangup:  # what ignores it is inherited by all we start
            signal.signal(signal.SIGHUP, hangup)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def called(
    *arguments: str | Path, settings: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """As `touchpoint`, in this process."""
    return in_process(arguments, environment(settings or {}))


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """What a command said that cannot run: status 2, one line on standard error, nothing else."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert ONE_LINE.match(done.stderr), done.stderr
    return done.stderr.strip()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What HTTP answered."""

    status: int
    body: Any


def fetch(url: str, method: str = "GET", body: Any = None, token: str = "") -> Answer:
    """One request; an error's status is an answer, too. Raises OSError when nobody answers."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            status, text = refused.code, refused.read().decode()
    return Answer(status=status, body=json.loads(text) if text.startswith(("{", "[")) else text)


class RunningGateway(GatewayProcess):
    """`touchpoint run`, as an operator sees it."""

    @property
    def data(self) -> Path:
        return Path(self.environment["TOUCHPOINT_DATA_DIR"])

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return fetch(f"http://127.0.0.1:{self.port}/health/ready").status == 200
        return False

    def wrong(self) -> dict[str, str]:
        """{what: detail} of what keeps it from being ready; empty also while nobody answers."""
        with contextlib.suppress(OSError):
            answer = fetch(f"http://127.0.0.1:{self.port}/health/ready")
            assert answer.status == (503 if answer.body["wrong"] else 200)
            return {fault["what"]: fault["detail"] for fault in answer.body["wrong"]}
        return {}

    def until_wrong(self, what: str) -> str:
        """The detail, once health names this part."""
        wait_until(lambda: what in self.wrong(), f"health names the {what}", every=0.05)
        return self.wrong()[what]

    def until_total(self, metric: str, at_least: float) -> None:
        wait_until(lambda: self.total(metric) >= at_least, f"{metric} reaches {at_least:g}", every=0.05)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to an operator; anything but 2xx fails, and says what was wrong."""
        if not self.token:
            self.token = self.command("token", "create", "--role", "operator").stdout.strip()
        answer = fetch(f"http://127.0.0.1:{self.port}/api/v1/{path}", method, body, self.token)
        assert answer.status < 300, (method, path, answer)
        return answer.body

    def all(self, path: str) -> list[dict[str, Any]]:
        """Every item of a list, page after page."""
        return list(self._pages(path))

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self.api("GET", f"{path}{'&' if '?' in path else '?'}limit=5000{cursor}")
            yield from page["items"]
            if page["next"] is None:
                return
            cursor = f"&cursor={urllib.parse.quote(page['next'], safe='')}"

    def readings(self, device: str, signal: str) -> list[tuple[str, Any]]:
        """All (ts, value) of one signal."""
        return [(r["ts"], r["value"]) for r in self._pages(f"devices/{device}/readings?signal={signal}")]

    def owner(self, name: str, devices: Sequence[str]) -> None:
        """An owner who has agreed to maintenance contacts, and these cars."""
        owner = {"id": name, "name": name, "language": "de", "time_zone": "Europe/Berlin"}
        self.api("POST", "owners", owner)
        self.api("PUT", f"owners/{name}/consents/maintenance", {"granted": True})
        for device in devices:
            self.api("POST", "devices", {"id": device, "kind": "car", "model": "m1", "owner": name})

    def command(self, *arguments: str | Path, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run a command with the gateway's settings."""
        done = in_process(arguments, self.environment)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done


@contextlib.contextmanager
def running_gateway(folder: Path, broker: str, **settings: str) -> Iterator[RunningGateway]:
    """A gateway that ends with the block; settings as timeseries__kind="influxdb"."""
    folder.mkdir(parents=True, exist_ok=True)
    given = names({key.replace("__", "."): value for key, value in settings.items()})
    gateway = RunningGateway(folder=folder, broker=broker, settings=given)
    try:
        yield gateway
    finally:
        end(gateway.process)


# --- publishing -------------------------------------------------------------------------------


UNDER_WAY = 20_000
"""Messages; MQTT has 65,535 packet ids, and paho drops what finds none."""


class Publisher:
    """Publishes at QoS 1 over one connection, in order, and knows what the broker has taken."""

    def __init__(self, url: str) -> None:
        self._taken = self._sent = 0
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(500)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self._client.loop_start()

    def _on_publish(self, *_: Any) -> None:
        self._taken += 1

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand over; waits only while so much is under way that packet ids run short."""
        for start in range(0, len(messages), UNDER_WAY):
            part = messages[start : start + UNDER_WAY]
            wait_until(lambda: self._sent - self._taken <= UNDER_WAY, "the broker takes messages")
            self._sent += len(part)
            for topic, payload in part:
                assert self._client.publish(topic, payload, qos=1).rc == paho.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Return when the broker has taken everything."""
        try:
            wait_until(lambda: self._taken == self._sent, "the broker takes everything")
        finally:
            self._client.disconnect()
            self._client.loop_stop()


def publish(url: str, messages: Sequence[Message]) -> None:
    """Publish, each acknowledged by the broker."""
    publisher = Publisher(url)
    publisher.publish(messages)
    publisher.close()


def telemetry(device: str, ts: int, **signals: Any) -> Message:
    """One native message."""
    payload = json.dumps({"ts": ts, "signals": signals}, separators=(",", ":"))
    return f"touchpoint/v1/{device}/telemetry", payload.encode()


def now_ms() -> int:
    """The wall clock's milliseconds, which devices put on their readings."""
    return time.time_ns() // 1_000_000

"""What goes wrong around the gateway: each time one line says what and what to do, and nothing is lost.

What ends by itself is called in this process; that a process of its own ends the same way, one test shows.
"""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_parts import PATIENCE_S, Mosquitto, free_port, wait_until
from running_gateway import (
    TRACEBACK,
    called,
    now_ms,
    one_line,
    publish,
    running_gateway,
    telemetry,
    touchpoint,
)

Start = Callable[..., Mosquitto]
NOBODY = f"mqtt://127.0.0.1:{free_port()}"


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"data_dir": str(tmp_path / "data"), "web.port": "0", "mqtt.url": NOBODY} | {
        key.replace("__", "."): value for key, value in more.items()
    }


def speeds(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    return [telemetry("car-1", now_ms() - 60_000 + n, speed=n) for n in range(first, first + count)]


# --- settings -------------------------------------------------------------------------------------


def test_all_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[web]\nport = 99999\n[mqtt]\nurl = "amqp://broker"\n[jornal]\nmax_bytes = 1\n')
    done = touchpoint("run", "--config", config, settings={"moments.quiet_from": "25:00"})
    assert done.returncode == 2
    first, *faults = done.stderr.splitlines()
    assert first == "touchpoint run: 4 settings are wrong:"
    for key, value in (
        ("web.port", "99999"),
        ("mqtt.url", "amqp://broker"),
        ("jornal", "did you mean journal?"),
        ("moments.quiet_from", "25:00"),
    ):
        assert any(key in fault and value in fault for fault in faults), done.stderr


def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    done = called("run", "--config", tmp_path / "none.toml")
    assert (done.returncode, "none.toml" in done.stderr) == (2, True)


def test_an_unknown_role_says_which_there_are() -> None:
    done = called("run", "--role", "everything")
    assert done.returncode == 2
    assert re.search(r"'everything'.*all.*ingest.*deliver.*web", done.stderr.splitlines()[-1])


def test_broken_rules_name_file_and_line(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(
        "- id: hot\n  version: 1\n  kind: car\n  purpose: safety\n  severity: critical\n"
        "  when: coolant_temprature > 115\n"
        "  touchpoint: {kind: information, expires: 1d}\n"
    )
    done = called("run", settings=settings(tmp_path, rules__paths=json.dumps(["@default", str(rules)])))
    assert done.returncode == 2
    assert re.search(rf"{rules}:6.*coolant_temprature.*coolant_temperature", done.stderr)


def test_rules_that_are_not_there(tmp_path: Path) -> None:
    done = called("rules", "check", tmp_path / "none.yaml")
    assert "none.yaml" in one_line(done)


# --- the machine ----------------------------------------------------------------------------------


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with taken_port() as port:
        said = one_line(called("run", settings=settings(tmp_path, web__port=str(port))))
    assert f"127.0.0.1:{port} is taken" in said
    assert "web.port" in said


def test_the_demos_port_is_taken() -> None:
    with taken_port() as port:
        said = one_line(called("demo", "--port", str(port)))
    assert f"{port} is taken" in said
    assert "--port" in said


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    said = one_line(called("run", settings=settings(tmp_path, data_dir="/proc/touchpoint")))
    assert "/proc/touchpoint cannot be written" in said
    assert "data_dir" in said


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = called("run", settings=settings(tmp_path, data_dir=str(file)))
    assert (done.returncode, "data_dir" in done.stderr) == (2, True)


def test_a_data_file_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("journal.db", "domain.db"):
        file = tmp_path / "data" / name
        file.write_bytes(b"this is no database, whatever its name says" * 100)
        said = one_line(called("run", settings=settings(tmp_path)))
        assert name in said
        assert "backup" in said
        file.unlink()


def test_a_second_gateway_on_the_same_data(tmp_path: Path) -> None:
    with running_gateway(tmp_path, NOBODY) as gateway:
        gateway.launch()
        gateway.until_wrong("broker")
        said = one_line(called("run", settings=settings(tmp_path)))
        assert f"another gateway works on {gateway.data}" in said
        assert "data_dir" in said
        assert not gateway.ended()


# --- the broker -----------------------------------------------------------------------------------


def test_a_broker_that_refuses_the_password(start_mosquitto: Start, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(
        ["mosquitto_passwd", "-b", str(passwords), "gateway", "right"], check=True, capture_output=True
    )
    broker = start_mosquitto(options=f"password_file {passwords}\n").url
    with running_gateway(tmp_path / "gateway", broker, mqtt__username="gateway", mqtt__password="wrong") as g:
        g.launch()
        wait_until(lambda: "refuses us" in g.wrong().get("broker", ""), "health says it", every=0.05)
        assert "mqtt.username" in g.wrong()["broker"]
        assert TRACEBACK not in g.log
        assert g.log.count("broker_unavailable") == 1
        assert not g.ended()


def test_a_broker_that_comes_later(start_mosquitto: Start, tmp_path: Path) -> None:
    broker = Mosquitto(folder=tmp_path)
    with running_gateway(tmp_path / "gateway", broker.url) as gateway:
        gateway.launch()
        wait_until(lambda: "127.0.0.1" in gateway.wrong().get("broker", ""), "health says it", every=0.05)
        assert "mqtt.url" in gateway.wrong()["broker"]
        assert gateway.api("GET", "devices")["items"] == []  # the pages and the API are there meanwhile
        broker.start()
        try:
            gateway.ready()
            publish(broker.url, speeds(10))
            gateway.until_total("touchpoint_messages_recorded_total", 10)
            assert TRACEBACK not in gateway.log
        finally:
            broker.stop()


@pytest.mark.parametrize("first", ["broker", "gateway"])
def test_ending_says_nothing_but_that_it_ends(mosquitto: Mosquitto, tmp_path: Path, first: str) -> None:
    with running_gateway(tmp_path, mosquitto.url) as gateway:
        gateway.start()
        publish(mosquitto.url, speeds(10))
        gateway.until_total("touchpoint_messages_recorded_total", 10)
        if first == "broker":
            assert mosquitto.process is not None
            mosquitto.process.send_signal(signal.SIGTERM)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENCE_S) == 0
        assert TRACEBACK not in gateway.log
        assert "stopping" in gateway.log


# --- InfluxDB -------------------------------------------------------------------------------------


@contextmanager
def store_that_answers(status: int, text: str) -> Iterator[int]:
    """An InfluxDB of one answer. Gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps({"code": text, "message": text}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def waits_for_its_store(broker: str, folder: Path, port: int) -> str:
    """What health says of a store in trouble, while messages are acknowledged and assessed all the same."""
    influx = {
        "timeseries__kind": "influxdb",
        "timeseries__url": f"http://127.0.0.1:{port}",
        "timeseries__org": "org",
        "timeseries__token": "a-token",
    }
    with running_gateway(folder, broker, **influx) as gateway:
        gateway.launch()
        said = gateway.until_wrong("time series")
        wait_until(lambda: "broker" not in gateway.wrong(), "the broker is there", every=0.05)
        publish(broker, speeds(500))
        gateway.until_total("touchpoint_messages_assessed_total", 500)
        state = gateway.api("GET", "journal")
        assert state["readers"]["record"]["lag"] >= 500
        wait_until(lambda: "record_waits" in gateway.log, "it is said", every=0.05)
        assert gateway.log.count("record_waits") == 1
        assert "a-token" not in gateway.log
        assert TRACEBACK not in gateway.log
    return said


def test_influxdb_that_is_not_there(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    said = waits_for_its_store(mosquitto.url, tmp_path, port)
    assert f"127.0.0.1:{port}" in said
    assert "timeseries.url" in said


def test_influxdb_with_a_wrong_token(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with store_that_answers(401, "unauthorized") as port:
        said = waits_for_its_store(mosquitto.url, tmp_path, port)
    assert "timeseries.token" in said


# --- the disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    done = (
        subprocess.run(mount, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    )
    if done is None or done.returncode:
        pytest.skip(
            f"no small disk can be mounted here: {done.stderr.strip() if done else 'no mount command'}"
        )
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Leave so many bytes free; the gateway may take some of them meanwhile."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # no space left: full enough
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            file.write(bytes(min(65_536, free - leave)))
    return ballast


@pytest.mark.parametrize("left", [0, 300_000, 1_500_000])
def test_a_full_disk_holds_messages_back_and_loses_none(
    mosquitto: Mosquitto, tmp_path: Path, small_disk: Path, left: int
) -> None:
    good, bad = 6_000, 600
    story = [telemetry("car-1", 1_700_000_000_000 + n, speed=n % 200) for n in range(good)]
    for n in range(bad):
        story.insert(11 * n, ("touchpoint/v1/car-1/telemetry", b"?%d" % n))
    with running_gateway(tmp_path / "gateway", mosquitto.url, data_dir=str(small_disk)) as gateway:
        gateway.start()
        ballast = fill(small_disk, leave=left)
        publish(mosquitto.url, story)
        wait_until(lambda: "journal_not_written" in gateway.log, "it is said", every=0.05)
        assert gateway.total("touchpoint_messages_journaled_total") < good + bad
        assert not gateway.ended()
        ballast.unlink()
        gateway.until_total("touchpoint_messages_recorded_total", good)
        gateway.until_total("touchpoint_messages_assessed_total", good + bad)
        gateway.ready()
        assert "journal_recovered" in gateway.log
        assert gateway.log.count("journal_not_written") == 1
        assert TRACEBACK not in gateway.log
        assert len(gateway.readings("car-1", "speed")) == good
        assert len({row["payload"] for row in gateway.all("quarantine")}) == bad


def test_a_disk_that_is_full_at_the_start(mosquitto: Mosquitto, tmp_path: Path, small_disk: Path) -> None:
    fill(small_disk, leave=0)
    said = one_line(called("run", settings=settings(tmp_path, data_dir=str(small_disk))))
    assert "no room: free some" in said

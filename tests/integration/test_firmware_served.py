"""`touchpoint run` serves devices: by token with the pages, by certificate on a port of their own."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_lab import Works, certificate
from gateway_lab import TOUCHPOINT
from real_parts import end, free_port, listens, wait_until
from running_gateway import environment


@contextlib.contextmanager
def running(works: Works, **settings: str) -> Iterator[None]:
    """`touchpoint run --role web` until the end of the block."""
    given = {"data_dir": str(works.folder)} | {
        name.replace("__", "."): value for name, value in settings.items()
    }
    with open(works.folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(TOUCHPOINT), "run", "--role", "web"], env=environment(given), stdout=log, stderr=log
        )
    try:
        port = int(settings["web__port"])
        wait_until(lambda: process.poll() is not None or listens(port), "the pages are served")
        assert process.poll() is None, (works.folder / "log").read_text()
        yield
    finally:
        end(process)


def poll(url: str, token: str = "", secure: ssl.SSLContext | None = None) -> tuple[int, object]:
    request = urllib.request.Request(url, headers={"Authorization": f"TargetToken {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60, context=secure) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, None


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path, time.time_ns() // 1_000_000)


def test_devices_are_served_beside_the_pages_and_by_certificate(works: Works) -> None:
    token, port, secured = works.device("car-1"), free_port(), free_port()
    authority = certificate(works.folder, "authority")
    for name in ("server", "car-1"):
        certificate(works.folder, name, authority)
    settings = {
        "web__port": str(port),
        "firmware__tenant": "plant",
        "firmware__polling": "00:00:30",
        "firmware__tls_port": str(secured),
        "firmware__tls_cert_file": str(works.folder / "server.pem"),
        "firmware__tls_key_file": str(works.folder / "server.pem"),
        "firmware__tls_ca_file": str(works.folder / "authority.pem"),
    }
    with running(works, **settings):
        here = f"http://127.0.0.1:{port}"
        status, body = poll(f"{here}/plant/controller/v1/car-1", token)
        assert (status, body) == (
            200,
            {
                "config": {"polling": {"sleep": "00:00:30"}},
                "_links": {"configData": {"href": f"{here}/plant/controller/v1/car-1/configData"}},
            },
        )
        assert poll(f"{here}/plant/controller/v1/car-2", token)[0] == 401
        assert poll(f"{here}/default/controller/v1/car-1", token)[0] == 401, "another tenant"
        wait_until(lambda: listens(secured), "devices with certificates are served")
        secure = ssl.create_default_context(cafile=str(works.folder / "authority.pem"))
        secure.load_cert_chain(works.folder / "car-1.pem")
        assert poll(f"https://localhost:{secured}/plant/controller/v1/car-1", "", secure)[0] == 200
        stranger = ssl.create_default_context(cafile=str(works.folder / "authority.pem"))
        with pytest.raises((OSError, urllib.error.URLError)):
            poll(f"https://localhost:{secured}/plant/controller/v1/car-1", "", stranger)


def test_a_missing_certificate_is_said_before_anything_runs(works: Works) -> None:
    with (
        pytest.raises(AssertionError, match=r"firmware\.tls_port needs it"),
        running(works, web__port=str(free_port()), firmware__tls_port=str(free_port())),
    ):
        pass

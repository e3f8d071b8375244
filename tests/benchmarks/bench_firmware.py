"""Devices asking for updates, updating together, and downloading, against `touchpoint run --role web`.

2,000 devices with tokens of their own. First each polls every 10 s for a minute, a release is rolled out to
all of them in the middle of it, and each reports on it to the end; then as many polls as the server answers
on 16 connections; then a file of 512 MiB over one connection; then 2 GiB in and out, and in again over the
API in pieces, with the server's peak memory. `TOUCHPOINT_BENCH_SECONDS` sets how long the devices poll (60),
`TOUCHPOINT_BENCH_LARGE` the large file (MiB, 2048).
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop
from firmware_lab import Works
from gateway_lab import TOUCHPOINT
from real_parts import end, free_port, listens, wait_until
from running_gateway import environment as environment_of
from running_gateway import touchpoint

from firmware_api import rollouts, targets
from firmware_api.rollouts import plan_of
from firmware_api.targets import Target

DEVICES = 2_000
EVERY_S = 10.0
SECONDS = float(os.environ.get("TOUCHPOINT_BENCH_SECONDS", "60"))
LARGE = int(os.environ.get("TOUCHPOINT_BENCH_LARGE", "2048")) << 20
FILE = 512 << 20
PIECE = 8 << 20
"""As the operator's page sends."""
CONNECTIONS = 16


class Wire(asyncio.Protocol):
    """One connection that asks and reads answers, as little work as can be: the machine is the server's."""

    def __init__(self) -> None:
        self.buffer = b""
        self.waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        found = re.search(rb"[Cc]ontent-[Ll]ength: (\d+)", head)
        length = int(found[1]) if found else 0
        if len(body) >= length and self.waiting is not None:
            done, self.waiting, self.buffer = self.waiting, None, body[length:]
            done.set_result((int(head[9:12]), body[:length]))

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionResetError())

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)  # type: ignore[attr-defined]
        return await self.waiting


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: TargetToken {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Fleet:
    """All devices, and what they met."""

    def __init__(self, port: int, tokens: dict[str, str]) -> None:
        self.port = port
        self.tokens = tokens
        self.polls: list[float] = []
        self.errors: list[str] = []
        self.updated = 0

    async def run(self, seconds: float) -> None:
        stop = time.monotonic() + seconds
        await asyncio.gather(
            *(self.device(device, n * EVERY_S / DEVICES, stop) for n, device in enumerate(self.tokens))
        )

    async def device(self, device: str, after: float, stop: float) -> None:
        await asyncio.sleep(after)
        _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", self.port)
        path, token = f"/default/controller/v1/{device}", self.tokens[device]
        while time.monotonic() < stop:
            began = time.monotonic()
            status, body = await wire.ask(request("GET", path, token))
            self.polls.append(time.monotonic() - began)
            if status != 200:
                self.errors.append(f"poll {status}")
            elif b"deploymentBase" in body:
                await self.update(wire, path, token, json.loads(body)["_links"]["deploymentBase"]["href"])
            await asyncio.sleep(max(0.0, began + EVERY_S - time.monotonic()))
        wire.transport.close()

    async def update(self, wire: Wire, path: str, token: str, link: str) -> None:
        """What a client does: read, download, report on the way, close."""
        action = link.rpartition("/")[2].partition("?")[0]
        status, body = await wire.ask(request("GET", link.removeprefix("http://bench"), token))
        artifact = json.loads(body)["deployment"]["chunks"][0]["artifacts"][0]
        place = artifact["_links"]["download-http"]["href"].removeprefix("http://bench")
        got, content = await wire.ask(request("GET", place, token))
        if hashlib.sha1(content).hexdigest() != artifact["hashes"]["sha1"]:
            self.errors.append("download")
        said = [
            await self.say(wire, path, token, action, one) for one in ("proceeding", "downloaded", "closed")
        ]
        wrong = [one for one in (status, got, *said) if one != 200]
        self.errors += [f"update {one}" for one in wrong]
        self.updated += not wrong

    async def say(self, wire: Wire, path: str, token: str, action: str, execution: str) -> int:
        finished = "success" if execution == "closed" else "none"
        status = {"execution": execution, "result": {"finished": finished}, "details": [execution]}
        body = json.dumps({"id": action, "status": status}).encode()
        return (await wire.ask(request("POST", f"{path}/deploymentBase/{action}/feedback", token, body)))[0]


async def saturate(port: int, tokens: dict[str, str], seconds: float) -> float:
    """Polls a second that are answered on a few connections."""
    loop, stop, count = asyncio.get_running_loop(), time.monotonic() + seconds, 0
    asked = [request("GET", f"/default/controller/v1/{device}", token) for device, token in tokens.items()]

    async def one(number: int) -> int:
        _, wire = await loop.create_connection(Wire, "127.0.0.1", port)
        done = 0
        while time.monotonic() < stop:
            status, _ = await wire.ask(asked[(number + done * CONNECTIONS) % len(asked)])
            assert status == 200, status
            done += 1
        return done

    began = time.monotonic()
    count = sum(await asyncio.gather(*(one(number) for number in range(CONNECTIONS))))
    return count / (time.monotonic() - began)


def download(port: int, path: str, size: int) -> float:
    """Bytes a second, thrown away as they come."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        buffer, have, began = bytearray(1 << 20), 0, time.monotonic()
        while read := line.recv_into(buffer):
            have += read
        took = time.monotonic() - began
    assert have >= size, have
    return size / took


def uploaded(works: Works, port: int, path: Path) -> None:
    """As the operator's page does it: in pieces, from where the last one ended."""
    settings = {"data_dir": str(works.folder)}
    secret = touchpoint("token", "create", "--role", "operator", settings=settings).stdout.split()[-1]
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    with open(path, "rb") as file:
        wanted = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": LARGE}
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        wire.request("POST", "/api/v1/firmware/uploads", json.dumps(wanted), headers)
        found = json.loads(wire.getresponse().read())
        while found["offset"] < LARGE:
            file.seek(found["offset"])
            place = f"/api/v1/firmware/uploads/{found['id']}/content?offset={found['offset']}"
            wire.request(
                "PUT", place, file.read(PIECE), headers | {"Content-Type": "application/octet-stream"}
            )
            answer = wire.getresponse()
            found = json.loads(answer.read())
            assert answer.status == 200, found


def memory(pid: int, name: str) -> float:
    """MiB: VmRSS now, VmHWM at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def file_of(folder: Path, name: str, size: int) -> Path:
    path, block = folder / name, os.urandom(1 << 20)
    with open(path, "wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def released(works: Works, path: Path, version: str, sequence: int) -> str:
    from firmware_api import signing

    manifest, _ = signing.sign(
        [path],
        works.key,
        version=version,
        kind="bench",
        sequence=sequence,
        now=works.now,
        expires=works.now + 86_400_000,
    )
    return signing.upload(works.store, manifest, [path], works.now).manifest.files[0].sha256


UPLOADER = """
import re, sys, time
from pathlib import Path
from firmware_api import signing
from firmware_api.store import FirmwareStore
folder, manifest, artifact = map(Path, sys.argv[1:])
began = time.monotonic()
signing.upload(FirmwareStore(folder), manifest, [artifact], time.time_ns() // 1_000_000)
took = time.monotonic() - began
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(peak, artifact.stat().st_size / took / 1e6)
"""


def line(name: str, value: float, unit: str, how: str, **more: Any) -> None:
    print(json.dumps({"name": name, "value": round(value, 1), "unit": unit, **more, "how": how}), flush=True)


async def midway(works: Works) -> None:
    """Everybody is to update, in the middle of their polling."""
    await asyncio.sleep(SECONDS * 0.4)
    release, now = works.find("2.0.0", "bench"), time.time_ns() // 1_000_000
    assert release is not None

    def begin() -> None:
        plan = plan_of({"groups": [{"name": "all"}]})
        number = works.store.write(lambda c: rollouts.create(c, "all", release.id, plan, now, "bench"))
        works.store.write(lambda c: rollouts.steer(c, number, "start", now, "bench"))

    await asyncio.to_thread(begin)


async def polling(works: Works, port: int, tokens: dict[str, str]) -> None:
    fleet = Fleet(port, tokens)
    await asyncio.gather(fleet.run(SECONDS), midway(works))
    ordered = sorted(fleet.polls)
    how = f"{len(ordered)} polls of {DEVICES} devices every {EVERY_S:g} s, {fleet.updated} updated together"
    line("firmware poll p99", ordered[int(len(ordered) * 0.99)] * 1000, "ms", how, limit=50)
    line("firmware errors", len(fleet.errors), "", f"{how}; {sorted(set(fleet.errors))[:3]}", limit=0)
    line("firmware devices updated", fleet.updated, "", how, limit=DEVICES, sense="min")
    rate = await saturate(port, tokens, 10)
    line("firmware polls", rate, "1/s", f"{CONNECTIONS} connections, 10 s", limit=2_000, sense="min")


def main() -> None:
    uvloop.install()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        works = Works(folder, time.time_ns() // 1_000_000)
        devices = [Target(id=f"bench-{n}", kind="bench", version="1.0.0") for n in range(DEVICES)]
        works.register(devices)
        tokens = works.store.write(lambda c: {one.id: targets.issue_token(c, one.id) for one in devices})
        (folder / "app.swu").write_bytes(os.urandom(200_000))
        released(works, folder / "app.swu", "2.0.0", 2)
        environment = environment_of({"data_dir": str(folder), "web.port": str(port)})
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(
                [str(TOUCHPOINT), "run", "--role", "web"], env=environment, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: server.poll() is not None or listens(port), "the server listens", 60)
            assert server.poll() is None, (folder / "log").read_text()
            asyncio.run(polling(works, port, tokens))
            files(works, port, server.pid)
        finally:
            end(server)


def files(works: Works, port: int, server: int) -> None:
    path = file_of(works.folder, "half.bin", FILE)
    sha256 = released(works, path, "3.0.0", 3)
    rates = sorted(download(port, f"/firmware/artifacts/{sha256}", FILE) for _ in range(3))
    line(
        "firmware download",
        rates[1] / 1e6,
        "MB/s",
        "512 MiB, one connection, median of 3",
        limit=300,
        sense="min",
    )
    path.unlink()
    path = file_of(works.folder, "large.bin", LARGE)
    from firmware_api import signing

    manifest, _ = signing.sign(
        [path],
        works.key,
        version="4.0.0",
        kind="bench",
        sequence=4,
        now=works.now,
        expires=works.now + 86_400_000,
    )
    done = subprocess.run(
        [sys.executable, "-c", UPLOADER, str(works.store.folder), str(manifest), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, rate = map(float, done.stdout.split())
    line(
        "firmware upload memory",
        peak,
        "MiB",
        f"{LARGE >> 20} MiB taken in and verified, whole process",
        limit=64,
    )
    line("firmware upload", rate, "MB/s", "copied, hashed three ways, flushed")
    release = works.find("4.0.0", "bench")
    assert release is not None
    before = memory(server, "VmHWM")
    rate = download(port, f"/firmware/artifacts/{release.manifest.files[0].sha256}", LARGE)
    more = memory(server, "VmHWM") - before
    line("firmware download memory", more, "MiB", f"{LARGE >> 20} MiB sent, peak above before", limit=64)
    with open(path, "r+b") as file:  # other content: what is in store already is not taken in again
        file.write(os.urandom(64))
    before, began = memory(server, "VmHWM"), time.monotonic()
    uploaded(works, port, path)
    rate, more = LARGE / (time.monotonic() - began), memory(server, "VmHWM") - before
    line(
        "firmware API upload memory", more, "MiB", f"{LARGE >> 20} MiB in pieces, peak above before", limit=64
    )
    line("firmware API upload", rate / 1e6, "MB/s", f"in pieces of {PIECE >> 20} MiB, one connection")


if __name__ == "__main__":
    main()

"""200 owners at their pages, and 5,000 live pages, of one gateway on the machine that asks it, too.

Everything as in production: mosquitto, `touchpoint run`, cars that report what their rule waits for, so that
each owner has a matter that needs an answer. Then every owner asks for a page every second, in turn inbox,
touchpoint, product, visits and decisions, as browsers do (gzip, a connection kept open), at
times that are set beforehand: a late answer delays no other question, and its delay counts. Afterwards 5,000
event streams are opened, the gateway's memory is read, something changes for a twentieth of the owners while
200 pages a second go on, and the time is taken until each of them has heard of it.
`TOUCHPOINT_BENCH_SECONDS` says how long pages are asked for (20).
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway_lab import PADS, WORKSHOP, wait_for
from real_parts import Mosquitto
from running_gateway import RunningGateway, now_ms, publish, running_gateway, telemetry

OWNERS, STREAMS, READINGS, TOLD = 200, 5_000, 60, 10
SECONDS = int(os.environ.get("TOUCHPOINT_BENCH_SECONDS", "20"))
LIMIT_MS, LIMIT_MB = 100, 300
HOUR = 3_600_000


def tell(name: str, value: float, unit: str, limit: float | None = None, how: str = "") -> None:
    print(
        json.dumps({"name": name, "value": round(value, 1), "unit": unit, "limit": limit, "how": how}),
        flush=True,
    )


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


# --- whom it is asked for -----------------------------------------------------------------------------


def populate(gateway: RunningGateway) -> list[dict[str, str]]:
    """Owners with a car whose pads are worn; their cookies."""
    gateway.api("POST", "workshops", WORKSHOP | {"bays": ["Bay 1", "Bay 2"]})
    for number in range(OWNERS):
        name = f"owner-{number}"
        gateway.owner(name, [])
        gateway.api("PUT", f"owners/{name}/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
        car = {"id": f"car-{number}", "kind": "car", "model": "Arden 5", "owner": name, "workshop": "nord"}
        gateway.api("POST", "devices", car)
    owned_for_long(gateway)
    start = now_ms() - READINGS * HOUR
    publish(
        gateway.broker,
        [
            telemetry(f"car-{number}", start + step * HOUR, speed=0, pad_wear_front=20 + step)
            for step in range(READINGS)
            for number in range(OWNERS)
        ],
    )
    publish(
        gateway.broker, [telemetry(f"car-{n}", now_ms(), speed=0, pad_wear_front=81) for n in range(OWNERS)]
    )
    wait_for(lambda: len(gateway.all("touchpoints")) == OWNERS, "everybody has something to answer", 120)
    secrets = [
        gateway.command("token", "create", "--role", "owner", "--subject", f"owner-{n}").stdout.split()[-1]
        for n in range(OWNERS)
    ]
    return [{"Cookie": f"session-owner={secret}"} for secret in secrets]


def owned_for_long(gateway: RunningGateway) -> None:
    """Everybody has their car for longer than it reports: of what was before, pages show nothing, and nothing
    would be charted."""
    with contextlib.closing(sqlite3.connect(gateway.data / "domain.db", timeout=30)) as connection:
        connection.execute("UPDATE ownerships SET since = since - ?", ((READINGS + 1) * HOUR,))
        connection.commit()


def paths(gateway: RunningGateway) -> list[tuple[str, ...]]:
    """The pages of each owner."""
    touchpoints = {touchpoint["owner"]: touchpoint["id"] for touchpoint in gateway.all("touchpoints")}
    return [
        (
            "/me",
            f"/me/touchpoints/{touchpoints[f'owner-{n}']}",
            f"/me/products/car-{n}",
            "/me/visits",
            "/me/ledger",
        )
        for n in range(OWNERS)
    ]


# --- pages ----------------------------------------------------------------------------------------


async def ask_pages(address: str, cookies: list[dict[str, str]], pages: list[tuple[str, ...]]) -> list[float]:
    """Milliseconds from when each page was due to its last byte."""
    took: list[float] = []
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        began = time.perf_counter() + 1

        async def visit(number: int) -> None:
            headers = cookies[number] | {"Accept-Encoding": "gzip, deflate", "Accept": "text/html"}
            for second in range(SECONDS):
                due = began + second + number / OWNERS
                await asyncio.sleep(due - time.perf_counter())
                path = pages[number][(second + number) % len(pages[number])]
                async with session.get(address + path, headers=headers, allow_redirects=False) as answer:
                    await answer.read()
                    assert answer.status == 200, (path, answer.status)
                took.append((time.perf_counter() - due) * 1000)

        await asyncio.gather(*(visit(number) for number in range(OWNERS)))
    return took


# --- streams ----------------------------------------------------------------------------------------


class Stream(asyncio.Protocol):
    """One open page that listens; notes when it last heard of a change."""

    def __init__(self, cookie: str, opened: asyncio.Semaphore) -> None:
        self._cookie, self._opened = cookie, opened
        self.ready = self.heard = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            f"GET /events?as=owner HTTP/1.1\r\nHost: gateway\r\nCookie: {self._cookie}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if b"event: change" in data:
            self.heard = time.perf_counter()
        if not self.ready and b"retry:" in data:
            self.ready = time.perf_counter()
            self._opened.release()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


async def open_streams(port: int, cookies: list[dict[str, str]]) -> list[list[Stream]]:
    """STREAMS of them, evenly over the owners; as many at a time as a browser's crowd would."""
    loop, opened = asyncio.get_running_loop(), asyncio.Semaphore(200)
    streams: list[list[Stream]] = [[] for _ in cookies]
    for number in itertools.islice(itertools.cycle(range(len(cookies))), STREAMS):
        await opened.acquire()
        _, stream = await loop.create_connection(
            lambda number=number: Stream(cookies[number]["Cookie"], opened), "127.0.0.1", port
        )
        streams[number].append(stream)
    for _ in range(200):
        await asyncio.wait_for(opened.acquire(), 60)
    return streams


def memory_mb(gateway: RunningGateway, what: str = "VmRSS") -> float:
    """Of the gateway, 1 MB = 1,000,000 bytes."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


async def change(gateway: RunningGateway, streams: list[list[Stream]]) -> list[float]:
    """Milliseconds until every stream of some owners has heard that something changed; nobody else does."""
    took: list[float] = []
    for number in range(0, OWNERS, OWNERS // TOLD):
        began = time.perf_counter()
        path, wish = f"owners/owner-{number}/preferences", {"quiet_from": "01:00", "quiet_to": "01:00"}
        await asyncio.to_thread(gateway.api, "PUT", path, wish)
        while not all(stream.heard > began for stream in streams[number]):
            assert time.perf_counter() < began + 60, f"owner-{number} never heard of it"
            await asyncio.sleep(0.002)
        took += [(stream.heard - began) * 1000 for stream in streams[number]]
    return took


# --- the whole --------------------------------------------------------------------------------------


def tell_pages(name: str, took: list[float], limit: float | None) -> None:
    how = f"{OWNERS} owners, {len(took):,} pages, {OWNERS} a second, from when each was due"
    tell(f"{name}: p50", statistics.median(took), "ms", None, how)
    tell(f"{name}: p99", percentile(took, 0.99), "ms", limit, how)


async def measure(
    gateway: RunningGateway, cookies: list[dict[str, str]], pages: list[tuple[str, ...]]
) -> None:
    address = f"http://127.0.0.1:{gateway.port}"
    before, began = gateway.cpu(), time.perf_counter()
    tell_pages("pages", await ask_pages(address, cookies, pages), LIMIT_MS)
    tell("pages: of one core", (gateway.cpu() - before) / (time.perf_counter() - began) * 100, "%")
    without = memory_mb(gateway)
    began = time.perf_counter()
    streams = await open_streams(gateway.port, cookies)
    tell("streams: opened", STREAMS / (time.perf_counter() - began), "a second")
    tell("streams: memory before", without, "MB")
    asked, told = await asyncio.gather(
        ask_pages(address, cookies, pages), change(gateway, streams), return_exceptions=False
    )
    tell_pages("pages beside the streams", asked, None)
    tell("streams: heard of a change: p99", percentile(told, 0.99), "ms", None, "from the request on")
    tell("streams: memory", memory_mb(gateway), "MB", LIMIT_MB, f"{STREAMS:,} open, resident, all of it")
    tell("streams: most memory", memory_mb(gateway, "VmHWM"), "MB")
    lost = sum(stream.lost for owner in streams for stream in owner)
    tell("streams: lost", lost, "streams", 0)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "rules.yaml").write_text(PADS)
        (folder / "mosquitto").mkdir()
        broker = Mosquitto(folder=folder / "mosquitto").start()
        try:
            rules = json.dumps([str(folder / "rules.yaml")])
            with running_gateway(folder, broker.url, rules__paths=rules) as gateway:
                gateway.start()
                cookies = populate(gateway)
                asyncio.run(measure(gateway, cookies, paths(gateway)))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()

"""The gateway as three processes over the same files: what one part writes, the others take up."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import aiomqtt
import pytest
from gateway_lab import WORKSHOP
from mqtt_lab import publish
from real_parts import PATIENCE_S, Mosquitto, end, free_port, wait_until

from config import settings as configuration
from gateway.app import opened
from gateway.domain.errors import CannotStartError
from gateway.ports import DatabaseUnavailableError

MINUTE = 60_000
CAR = {"id": "car-1", "kind": "car", "name": "Arden 5", "owner": "jana", "workshop": "nord"}
OWNER = {"id": "jana", "name": "Jana Keller", "time_zone": "Europe/Berlin"}
PADS = """
- id: pads
  version: {version}
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= {limit}
  touchpoint: {{kind: appointment, service: brakes-front}}
"""
AT_ANY_HOUR = {"quiet_from": "00:00", "quiet_to": "00:00"}


@dataclass
class Parts:
    """Three processes of one gateway, and who talks to them."""

    broker: Mosquitto
    folder: Path
    ports: dict[str, int]
    api: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"http://127.0.0.1:{self.ports['web']}/api/v1/{path}"
        async with self.api.request(method, url, json=body) as response:
            answer = await response.json()
            assert response.status < 300, (method, path, answer)
            return answer

    async def reports(self, wear: float, ts: int | None = None) -> None:
        reading = {"ts": ts or time.time_ns() // 1_000_000, "signals": {"pad_wear_front": wear}}
        await publish(self.broker.url, [("touchpoint/v1/car-1/telemetry", json.dumps(reading).encode())])

    async def worn_for(self, minutes: int) -> None:
        now = time.time_ns() // 1_000_000
        await self.reports(93.0, now - minutes * MINUTE)
        await self.reports(93.1, now)


async def within(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `look` gives as soon as it gives something; another process brings it about."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await look()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S} s: {what}") from None


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli", *arguments]


@asynccontextmanager
async def three_parts(broker: Mosquitto, folder: Path, **settings: str) -> AsyncIterator[Parts]:
    env = os.environ | {
        **settings,
        "TOUCHPOINT_DATA_DIR": str(folder / "data"),
        "TOUCHPOINT_MQTT__URL": broker.url,
    }
    roles = ("ingest", "deliver", "web")
    ports = {role: free_port() for role in roles}
    processes = []
    try:
        for role in roles:
            with open(folder / f"{role}.log", "ab") as log:
                processes.append(
                    subprocess.Popen(
                        command("run", "--role", role),
                        env=env | {"TOUCHPOINT_WEB__PORT": str(ports[role])},
                        stdout=log,
                        stderr=log,
                    )
                )
        logs = {role: folder / f"{role}.log" for role in roles}
        for role in roles:
            await asyncio.to_thread(wait_until, lambda role=role: ready(ports[role]), f"{role} is ready", 120)
        made = subprocess.run(
            command("token", "create", "--role", "operator"),
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        token = made.stdout.split()[-1]
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
            )
            yield Parts(broker, folder / "data", ports, api)
        assert [process.poll() for process in processes] == [None] * 3, {
            role: log.read_text() for role, log in logs.items()
        }
    finally:
        for process in processes:
            end(process)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def test_a_touchpoint_goes_the_whole_way_through_three_processes(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with three_parts(mosquitto, tmp_path) as parts:
        await parts.call("POST", "owners", OWNER)
        await parts.call("PUT", "owners/jana/consents/maintenance", {"granted": True})
        await parts.call("PUT", "owners/jana/preferences", AT_ANY_HOUR)
        await parts.call("POST", "workshops", WORKSHOP)
        await parts.call("POST", "devices", CAR)
        await parts.worn_for(minutes=20)

        async def opened() -> Any:
            found = (await parts.call("GET", "touchpoints?device=car-1&state=open"))["items"]
            return found[0] if found else None

        touchpoint = await within(opened, "a touchpoint of the car")
        port = int(mosquitto.url.rsplit(":", 1)[1])
        async with aiomqtt.Client("127.0.0.1", port) as display:
            topic = f"touchpoint/v1/car-1/touchpoint/{touchpoint['id']}"
            await display.subscribe(topic, qos=1)
            messages = aiter(display.messages)
            async with asyncio.timeout(PATIENCE_S):
                shown = json.loads((await anext(messages)).payload)
            assert shown["id"] == touchpoint["id"]
            book = next(action["id"] for action in shown["actions"] if action["id"].startswith("book"))
            answer = {"touchpoint": touchpoint["id"], "action": book}
            await publish(mosquitto.url, [("touchpoint/v1/car-1/answer", json.dumps(answer).encode())])
            async with asyncio.timeout(PATIENCE_S):
                assert (await anext(messages)).payload == b""

        (appointment,) = (await parts.call("GET", "appointments?device=car-1"))["items"]
        assert appointment["touchpoint"] == touchpoint["id"]
        await parts.call("POST", f"appointments/{appointment['id']}/done", {})
        await parts.worn_for(minutes=1)

        async def assessed() -> Any:
            facts = await parts.call("GET", "devices/car-1")
            items = (await parts.call("GET", "devices/car-1/readings?signal=pad_wear_front"))["items"]
            return len(items) == 4 and facts

        await within(assessed, "the readings can be read in the web process")
        assert len((await parts.call("GET", "touchpoints?device=car-1"))["items"]) == 1


def embedded(folder: Path) -> configuration.Settings:
    return configuration.load(None, {"TOUCHPOINT_DATA_DIR": str(folder), "TOUCHPOINT_MQTT__URL": "embedded:"})


async def test_rules_that_the_pages_read_again_hold_in_all_processes(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(PADS.format(version=1, limit=95))
    paths = json.dumps([str(rules)])
    async with three_parts(mosquitto, tmp_path, TOUCHPOINT_RULES__PATHS=paths) as parts:
        await parts.call("POST", "owners", OWNER)
        await parts.call("PUT", "owners/jana/consents/maintenance", {"granted": True})
        await parts.call("PUT", "owners/jana/preferences", AT_ANY_HOUR)
        await parts.call("POST", "workshops", WORKSHOP)
        await parts.call("POST", "devices", CAR)
        await parts.reports(90.0)
        rules.write_text(PADS.format(version=2, limit=80))
        assert (await parts.call("POST", "rules/reload"))["changed"] is True

        async def followed() -> bool:
            shown = await parts.call("GET", "rules/pads")
            return bool(shown["version"] == 2)

        await within(followed, "the pages show version 2")
        await parts.reports(91.0)

        async def opened() -> Any:
            return (await parts.call("GET", "touchpoints?device=car-1&state=open"))["items"]

        (touchpoint,) = await within(opened, "a touchpoint of the car")
        assert (touchpoint["rule"], touchpoint["rule_version"]) == ("pads", 2)

        async def explained() -> bool:
            told = await parts.call("GET", "rules/pads/explain?device=car-1")
            return bool(told["holds"] and told["when"]["parts"][0]["value"] == 91)

        await within(explained, "the pages explain the newest reading")
        logs = {role: (tmp_path / f"{role}.log").read_text() for role in ("ingest", "deliver", "web")}
        assert "rules_activated" in logs["ingest"]
        assert "rules_followed" in logs["deliver"]
        assert "rules_followed" in logs["web"]


@pytest.mark.parametrize("role", ["ingest", "deliver"])
async def test_an_embedded_broker_is_refused_to_a_part_that_others_could_not_reach(
    role: Any, tmp_path: Path
) -> None:
    with pytest.raises(CannotStartError, match=r"set mqtt\.url to a broker"):
        async with opened(embedded(tmp_path), role=role):
            pass


async def test_pages_alone_start_no_broker(tmp_path: Path) -> None:
    async with opened(embedded(tmp_path), role="web") as gateway:
        assert gateway.broker.url == "embedded:"


async def test_a_full_disk_is_no_state_to_be_ready_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(embedded(tmp_path), role="web") as gateway:
        assert (await gateway.check_room())[1]
        full = SimpleNamespace(total=10**9, used=10**9 - 4096, free=4096)
        monkeypatch.setattr("shutil.disk_usage", lambda _: full)
        name, good, said = await gateway.check_room()
    assert (name, good) == ("data folder", False)
    assert said.endswith("has 4 kB left: make room")


async def test_a_part_that_runs_again_is_no_fault_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.RUNS_WELL_S", 0.05)
    tries = 0

    async def breaks_once() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("once")
        await asyncio.Event().wait()

    async with opened(embedded(tmp_path), role="web") as gateway:
        part = asyncio.create_task(gateway._keep("part", breaks_once))

        async def says(good: bool) -> bool:
            return (await gateway.check_workers())[1] is good

        await within(lambda: says(False), "the fault is shown")
        await within(lambda: says(True), "the fault is over")
        part.cancel()
        await asyncio.gather(part, return_exceptions=True)


async def test_a_part_that_breaks_while_it_is_stopped_is_not_begun_again(tmp_path: Path) -> None:
    starts = 0

    async def breaks_at_its_end() -> None:
        nonlocal starts
        starts += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise DatabaseUnavailableError("away") from None

    async with opened(embedded(tmp_path), role="web") as gateway:
        part = asyncio.create_task(gateway._keep("part", breaks_at_its_end))
        await asyncio.sleep(0)
        part.cancel()
        await asyncio.wait([part], timeout=30)
        assert (part.cancelled(), starts) == (True, 1)


async def test_a_journal_that_was_moved_away_loses_nothing_that_comes_afterwards(tmp_path: Path) -> None:
    async with opened(embedded(tmp_path), role="web") as gateway:
        await gateway.database.write(lambda records: records.set_position("assess", 500))
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    async with opened(embedded(tmp_path), role="web") as gateway:
        assert await gateway.journal.append([("touchpoint/v1/car-1/telemetry", b"{}")], 1) == 501

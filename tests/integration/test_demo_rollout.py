"""The demo's rollout: machines that poll, download, check and report, group after group."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from firmware_lab import NOW
from real_parts import PATIENCE_S

from device_sim.ddi import UpdatingDevice
from firmware_api import ddi, rollouts
from firmware_api.ddi import DdiSettings
from firmware_api.office import Office
from firmware_api.store import FirmwareStore
from gateway import demo_rollout

SETTINGS = DdiSettings(burst=1 << 30)


async def at_once(seconds: float) -> None:
    """No waiting, but others have their turn."""
    await asyncio.sleep(0)


async def test_every_machine_of_the_showroom_updates_and_one_fails(tmp_path: Path) -> None:
    store = FirmwareStore(tmp_path / "firmware")
    office, app = Office(store, lambda: NOW), web.Application()
    app.add_subapp(ddi.prefix(SETTINGS), ddi.application(office, SETTINGS))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    playing = asyncio.create_task(demo_rollout.shown(store.folder, url, NOW, random.Random(1), wait=at_once))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not playing.done():
                await office.step()
                await asyncio.sleep(0)
        await playing
        await office.step()
        one = store.read(lambda c: rollouts.get(c, 1))
        picture = store.read(lambda c: rollouts.picture(c, 1))
        assert [group.size for group in picture] == [4, 8, 12]
        assert sum(group.finished for group in picture) == demo_rollout.DEVICES - 1
        assert sum(group.failed for group in picture) == 1
        assert one.state == "finished"
        [failed] = store.read(lambda c: rollouts.troubled(c, 1, 10))
        assert (failed["target"], failed["message"]) == ("showroom-17", demo_rollout.SAYS)
        row = store.read(lambda c: c.execute("SELECT * FROM targets WHERE id = 'showroom-01'").fetchone())
        assert (row["version"], json.loads(row["attributes"])["hw_revision"]) == ("2.4.0", "b7")
    finally:
        playing.cancel()
        await runner.cleanup()
        await office.close()


@pytest.mark.parametrize("broken", ["size", "hash"])
async def test_a_device_does_not_install_what_is_not_what_was_announced(tmp_path: Path, broken: str) -> None:
    said: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("file"):
            return web.Response(body=b"1234" if broken == "size" else b"12345")
        if request.method == "POST":
            said.append((await request.json())["status"]["result"]["finished"])
            return web.Response()
        here = f"http://{request.host}"
        if request.path.endswith("deploymentBase/1"):
            sha256 = (
                "0" * 64
                if broken == "hash"
                else "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
            )
            artifact = {"filename": "a.swu", "size": 5, "hashes": {"sha256": sha256}}
            artifact["_links"] = {"download-http": {"href": f"{here}/file"}}
            chunks = [{"version": "2", "artifacts": [artifact]}]
            return web.json_response({"deployment": {"update": "forced", "chunks": chunks}})
        return web.json_response({"_links": {"deploymentBase": {"href": f"{here}/deploymentBase/1"}}})

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    device = UpdatingDevice(
        device="one",
        token="t",
        base=f"http://127.0.0.1:{runner.addresses[0][1]}",
        wait=at_once,
        dice=random.Random(1),
        version="1",
    )
    async with aiohttp.ClientSession() as session:
        await device.run(session)
    await runner.cleanup()
    assert (said[-1], device.version) == ("failure", "1")

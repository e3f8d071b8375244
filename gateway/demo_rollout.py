"""The rollout that a visitor of the demo finds on the operator's page: washing machines of a showroom, in
three groups, that really fetch what is offered to them over DDI, and one that fails."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from device_sim.ddi import UpdatingDevice
from firmware_api import releases, rollouts, signing, targets
from firmware_api.store import FirmwareStore
from firmware_api.targets import Target

Wait = Callable[[float], Awaitable[None]]

KIND, MODEL, TAG = "washing_machine", "WashMate 7", "showroom"
DEVICES = 24
BEFORE, AFTER = "2.3.0", "2.4.0"
SIZE = 200_000
"""Bytes of the update."""
NOTES = {
    BEFORE: {"en": "Says earlier that the filter is full", "de": "Sagt früher, dass das Sieb voll ist"},
    AFTER: {"en": "Uses less water with half a load", "de": "Braucht bei halber Beladung weniger Wasser"},
}
FAILS = 17
"""Number of the machine that fails, and what it says."""
SAYS = "the pump did not answer after the restart"
EVERY_S = 2.0
PLAN = {
    "groups": [
        {"name": "Showroom 1", "query": {"tags": [TAG]}, "percent": 15, "success": 100, "error": 50},
        {"name": "Showroom 2", "query": {"tags": [TAG]}, "percent": 40, "success": 75, "error": 40},
        {"name": "Showroom 3", "query": {"tags": [TAG]}, "success": 75, "error": 40},
    ],
    "silence_h": 4_000,
    "ask_owner": False,
}


def seed(folder: Path, now: int, dice: random.Random) -> dict[str, str]:
    """A signed release and a rollout that has begun; gives the machines' tokens."""
    store = FirmwareStore(folder)
    with tempfile.TemporaryDirectory() as name:
        desk = Path(name)
        signing.keygen(desk / "signing.key")
        signer, place = [desk / "signing.key"], desk / "trust.json"
        signing.save_trust(signing.init_trust(signer[0], store.index_key().public_key(), now), place, signer)
        signing.take_trust(store, place, now)
        for sequence, version in enumerate((BEFORE, AFTER), start=1):
            artifact = desk / f"washmate-{version}.swu"
            artifact.write_bytes(dice.randbytes(SIZE))
            manifest, _ = signing.sign(
                [artifact],
                signer[0],
                version=version,
                kind=KIND,
                models=[MODEL],
                sequence=sequence,
                now=now,
                expires=now + 365 * 86_400_000,
                minutes=4,
                notes=NOTES[version],
            )
            signing.upload(store, manifest, [artifact], now)
    names = [f"showroom-{number:02}" for number in range(1, DEVICES + 1)]
    known = [
        Target(id=name, kind=KIND, model=MODEL, version=BEFORE, country="DE", tags=(TAG,)) for name in names
    ]
    store.write(lambda c: targets.register(c, known, now))
    tokens = store.write(lambda c: {name: targets.issue_token(c, name) for name in names})
    found = store.read(lambda c: releases.find(c, KIND, AFTER))
    assert found is not None  # taken in above
    plan = rollouts.plan_of(PLAN)
    number = store.write(lambda c: rollouts.create(c, f"{MODEL} {AFTER}", found.id, plan, now, "demo"))
    store.write(lambda c: rollouts.steer(c, number, "start", now, "demo"))
    return tokens


async def shown(folder: Path, url: str, now: int, dice: random.Random, wait: Wait = asyncio.sleep) -> None:
    """Seed the rollout, and let its machines update until all of them have."""
    tokens = await asyncio.to_thread(seed, folder, now, dice)
    machines = [
        UpdatingDevice(
            device=device,
            token=token,
            base=f"{url}/default/controller/v1",
            wait=wait,
            dice=random.Random(dice.random()),
            version=BEFORE,
            every_s=EVERY_S,
            fails=SAYS if number == FAILS else "",
            attributes={"hw_revision": "b7"},
        )
        for number, (device, token) in enumerate(tokens.items(), start=1)
    ]
    connections = aiohttp.TCPConnector(limit=4)
    async with aiohttp.ClientSession(connector=connections) as session, asyncio.TaskGroup() as group:
        for machine in machines:
            group.create_task(machine.run(session), name=machine.device)

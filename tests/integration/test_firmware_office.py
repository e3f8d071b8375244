"""What looks after firmware by itself, two senders of one upload, the mail about a rollout that stopped."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from firmware_lab import Works
from garage import SIGNALS, TEXTS, open_world
from mail_lab import open_mailbox
from real_parts import PATIENCE_S

from firmware_api import uploads
from firmware_api.office import SCRUBBED_EVERY_MS, Office
from firmware_api.release import ConflictError
from gateway.channels.email import EmailChannel, Relay
from gateway.domain.counters import Counters
from gateway.domain.delivery import DeliveryState
from gateway.flow.deliver import Deliverer
from gateway.flow.operator_news import OperatorNews
from gateway.flow.outgoing import Renderer
from gateway.flow.updates import Ended


@pytest.fixture
async def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


@pytest.fixture
async def office(works: Works) -> AsyncIterator[Office]:
    office = Office(works.store, lambda: works.now)
    yield office
    await office.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0)


async def test_artifacts_are_read_back_every_week_while_rollouts_go_on(works: Works, office: Office) -> None:
    release = works.release(b"firmware", "1.0.0", sequence=1)
    works.store.artifact(release.manifest.files[0].sha256).write_bytes(b"firmwarf")
    await office.tidy()

    def damaged() -> list[str]:
        rows = works.store.read(lambda c: c.execute("SELECT damaged FROM artifacts").fetchall())
        return [row["damaged"] for row in rows if row["damaged"]]

    assert damaged() == [], "it was read when it came in"
    works.now += SCRUBBED_EVERY_MS + 1
    failed: list[Exception] = []
    keeping = asyncio.create_task(office.keep(failed.append))
    try:
        await until(damaged)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert (damaged(), failed) == (["its hash differs"], [])


async def test_who_goes_on_with_an_upload_takes_it_over_from_a_connection_that_hangs(office: Office) -> None:
    content = random.Random(8).randbytes(3 * uploads.FLUSH)
    first, rest = content[: uploads.FLUSH], content[uploads.FLUSH :]
    begun = await uploads.begin(office, hashlib.sha256(content).hexdigest(), len(content), "me")
    wakes, sent = asyncio.Event(), asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        yield first
        sent.set()
        await wakes.wait()
        yield b"x" * uploads.FLUSH

    async def goes_on() -> AsyncIterator[bytes]:
        yield rest

    hanging = asyncio.create_task(uploads.append(office, begun.id, 0, hangs()))
    await sent.wait()
    found = await uploads.find(office, begun.id)
    assert found.offset == len(first)
    done = await uploads.append(office, begun.id, found.offset, goes_on())
    assert done.offset == len(content)
    wakes.set()
    with pytest.raises(ConflictError):
        await hanging
    assert office.store.artifact(begun.sha256).read_bytes() == content, "nothing of the other one is in it"


async def test_what_was_killed_between_its_place_and_its_row_is_not_sent_again(office: Office) -> None:
    content = b"firmware"
    begun = await uploads.begin(office, hashlib.sha256(content).hexdigest(), len(content), "me")
    place = office.store.artifact(begun.sha256)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"firmwarf")
    assert (await uploads.find(office, begun.id)).offset == 0, "what is not whole does not count"
    place.write_bytes(content)
    assert (await uploads.find(office, begun.id)).offset == len(content)
    rows = office.store.read(lambda c: c.execute("SELECT sha256 FROM artifacts").fetchall())
    assert [row["sha256"] for row in rows] == [begun.sha256]


async def test_a_rollout_that_stopped_is_told_by_mail_once(tmp_path: Path) -> None:
    ended = Ended(
        rollout=7,
        name="Winter",
        release="car 2.0.0",
        state="stopped",
        reason="all: 1 of 2 devices failed",
        cause={"code": "failed", "group": "all", "failed": 1, "of": 2, "share": 50.0, "limit": 40.0},
        devices=2,
        finished=1,
        failed=1,
    )
    news = OperatorNews(texts=TEXTS, to=("updates@maker.example",), public_url="https://tp.example")
    async with open_world(tmp_path) as world, open_mailbox() as box:
        policy = replace(world.policy, channels=("email",))
        for _ in range(2):  # killed before it could say that it had been told
            await world.write(lambda records: news(records, ended, world.now))
        renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=policy, public_url="https://tp.example")
        channel = EmailChannel(
            Relay(host=box.address[0], port=box.address[1], starttls="never"),
            sender="Touchpoint <noreply@touchpoint.example>",
            now=lambda: world.now,
        )
        deliverer = Deliverer(world.database, world.clock, {"email": channel}, policy, renderer, Counters())
        await deliverer.now()
        rows = await world.read(lambda records: records.outbox.page())
    assert [row.state for row in rows] == [DeliveryState.SENT]
    [mail] = box.mails["updates@maker.example"]
    text = mail.get_body(("plain",)).get_content()
    assert mail["Subject"] == "The rollout Winter has stopped by itself"
    for said in (
        "1 of 2 devices failed",
        "1 von 2 Geräten",
        "https://tp.example/operator/firmware/rollouts/7",
    ):
        assert said in text

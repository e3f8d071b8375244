"""Links, attachments and owners' reports keep what they were given, in any store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import World, open_world

from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.links import Link
from gateway.domain.owner import Preferences
from gateway.domain.report import Attachment, Report
from gateway.domain.touchpoint import Answer
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.found()
        yield opened


LINK = Link(id="l1", hash="h1", owner="jana", purpose="answer", about="t1", created=1, expires_at=9)
PICTURE = Attachment(
    id="p1",
    owner="jana",
    device="car",
    kind="report",
    media_type="image/jpeg",
    body=bytes(range(256)) * 64,
    created=1,
)


async def test_a_link_is_found_by_its_hash_and_used_once(world: World) -> None:
    await world.write(lambda r: r.links.add(LINK))
    assert await world.read(lambda r: r.links.find("h1")) == LINK
    assert await world.read(lambda r: r.links.find("h2")) is None
    assert await world.write(lambda r: r.links.use("l1", 5))
    assert not await world.write(lambda r: r.links.use("l1", 6))
    used = await world.read(lambda r: r.links.find("h1"))
    assert used is not None
    assert used.used_at == 5


async def test_two_links_never_share_a_secret(world: World) -> None:
    await world.write(lambda r: r.links.add(LINK))
    with pytest.raises(ConflictError):
        await world.write(lambda r: r.links.add(LINK))


async def test_links_are_forgotten_by_when_they_expired(world: World) -> None:
    await world.write(lambda r: r.links.add(LINK))
    assert await world.write(lambda r: r.links.forget(9)) == 0
    assert await world.write(lambda r: r.links.forget(10)) == 1


async def test_a_picture_comes_back_byte_for_byte(world: World) -> None:
    await world.write(lambda r: r.attachments.add(PICTURE))
    assert await world.read(lambda r: r.attachments.get("p1")) == PICTURE
    assert "body" not in repr(PICTURE), "no log prints a picture"
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.attachments.get("p2"))


async def test_reports_are_paged_newest_first_by_owner_and_device(world: World) -> None:
    touchpoint = (await world.touchpoint()).id
    made = [
        Report(
            id=f"r{n}",
            owner="jana",
            device="car",
            text="It squeals.",
            photo="p1" if n == 2 else None,
            touchpoint=touchpoint,
            around={"readings": {"speed": [[1, 48.5]]}},
            created=n,
        )
        for n in (1, 2, 3)
    ]

    def store(records: Records) -> None:
        records.attachments.add(PICTURE)
        for report in made:
            records.reports.add(report)

    await world.write(store)
    assert await world.read(lambda r: r.reports.page(owner="jana", limit=2)) == [made[2], made[1]]
    assert await world.read(lambda r: r.reports.page(device="car", after="r2")) == [made[0]]
    assert await world.read(lambda r: r.reports.page(device="washer")) == []
    assert await world.read(lambda r: r.reports.with_photo("p1")) == made[1]
    assert await world.read(lambda r: r.reports.of_touchpoint("t9")) is None


async def test_an_answer_keeps_everything_that_was_said(world: World) -> None:
    said = Answer(
        action="already_done",
        channel="page",
        at=1,
        by="jana",
        comment="c",
        until=2,
        done_at=3,
        workshop="nord",
        place="p",
    )

    def store(records: Records) -> Answer | None:
        touchpoint = records.touchpoints.page()[0]
        records.touchpoints.save(replace(touchpoint, answer=said, workshop="nord"))
        return records.touchpoints.get(touchpoint.id).answer

    assert await world.write(store) == said
    assert (await world.touchpoint()).workshop == "nord"


async def test_what_is_muted_keeps_the_severity_it_had(world: World) -> None:
    wanted = Preferences().muting("a", "advice").muting("b", "warning")
    await world.write(lambda r: r.owners.prefer("jana", wanted))
    assert await world.read(lambda r: r.owners.preferences("jana")) == wanted

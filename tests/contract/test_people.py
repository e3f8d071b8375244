"""Records of households and of who looked: what is written comes back, and what must be once is once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from garage import DAY, JANA, World, open_world

from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.household import Invitation, Look, Part, Person
from gateway.domain.owner import Consent
from gateway.domain.touchpoint import LedgerLine
from gateway.ports import DatabaseUnavailableError, Records

TOM = Person(
    device="car", owner="tom", role=Part.DRIVER, asked=True, may_answer=True, sees=True, since=5, by="jana"
)
ASKED = Invitation(
    id="i1", device="car", by="jana", role=Part.MEMBER, asked=False, may_answer=True, sees=True,
    created=5, expires=50, name="Ann",
)  # fmt: skip
LOOK = Look(owner="jana", by="nord", what="diagnosis:a1", day=3, role="workshop", why="prepare_visit", at=7)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:

        def populate(records: Records) -> None:
            for name in ("tom", "ann"):
                records.owners.add(replace(JANA, id=name, name=name.title()))

        await opened.write(populate)
        yield opened


async def test_a_person_comes_back_as_given(world: World) -> None:
    await world.write(lambda r: r.people.join(TOM))
    assert await world.read(lambda r: r.people.of("car")) == [TOM]
    assert await world.read(lambda r: r.people.parts("tom")) == [TOM]
    assert await world.read(lambda r: r.people.of("washer")) == []


async def test_a_devices_people_begin_with_its_owner_and_one_is_asked(world: World) -> None:
    alone = await world.read(lambda r: r.devices.people("car"))
    assert [(p.owner, p.role, p.asked) for p in alone] == [("jana", Part.OWNER, True)]
    await world.write(lambda r: r.people.join(TOM))
    both = await world.read(lambda r: r.devices.people("car"))
    assert [(p.owner, p.asked) for p in both] == [("jana", False), ("tom", True)]
    assert await world.read(lambda r: r.devices.people("nobody's")) == []


async def test_nobody_joins_twice_but_may_come_back(world: World) -> None:
    await world.write(lambda r: r.people.join(TOM))
    with pytest.raises(ConflictError):
        await world.write(lambda r: r.people.join(TOM))
    await world.write(lambda r: r.people.leave("car", "tom", 9))
    await world.write(lambda r: r.people.join(replace(TOM, since=20)))
    history = await world.read(lambda r: r.people.history("car"))
    assert [(p.since, p.until) for p in history] == [(5, 9), (20, None)]


async def test_the_database_itself_lets_only_one_be_asked(world: World) -> None:
    """The second line behind flow/people.py."""
    await world.write(lambda r: r.people.join(TOM))
    with pytest.raises((DatabaseUnavailableError, sa.exc.IntegrityError, ConflictError)):
        await world.write(lambda r: r.people.join(replace(TOM, owner="ann")))
    assert len(await world.read(lambda r: r.people.of("car"))) == 1


async def test_rights_change_and_the_interval_stays(world: World) -> None:
    await world.write(lambda r: r.people.join(TOM))
    changed = replace(TOM, role=Part.MEMBER, asked=False, may_answer=False)
    await world.write(lambda r: r.people.change(changed))
    assert await world.read(lambda r: r.people.of("car")) == [changed]
    with pytest.raises(NotFoundError):
        await world.write(lambda r: r.people.change(replace(TOM, owner="ann")))


async def test_leaving_gives_how_many_left(world: World) -> None:
    await world.write(lambda r: r.people.join(TOM))
    await world.write(lambda r: r.people.join(replace(TOM, owner="ann", asked=False)))
    assert await world.write(lambda r: r.people.leave("car", "ann", 9)) == 1
    assert await world.write(lambda r: r.people.leave("car", "ann", 9)) == 0
    assert await world.write(lambda r: r.people.leave("car", None, 10)) == 1


async def test_spans_are_what_is_shared_now_and_what_one_owns_and_shared(world: World) -> None:
    assert await world.read(lambda r: r.people.spans("jana")) == []
    await world.write(lambda r: r.people.join(TOM))
    assert await world.read(lambda r: r.people.spans("tom")) == [("car", 5, None)]
    assert [span[0] for span in await world.read(lambda r: r.people.spans("jana"))] == ["car"]
    await world.write(lambda r: r.people.leave("car", "tom", 9))
    assert await world.read(lambda r: r.people.spans("tom")) == []


async def test_a_shared_ledger_is_ones_own_and_that_of_the_span_newest_first(world: World) -> None:
    def line(name: str, owner: str | None, device: str | None, at: int) -> LedgerLine:
        return LedgerLine(id=name, at=at, code="found", owner=owner, device=device)

    lines = [
        line("before", "jana", "car", 4),
        line("his", "tom", None, 5),
        line("during", "jana", "car", 6),
        line("other", "jana", "washer", 7),
        line("both", "tom", "car", 8),
        line("after", "jana", "car", 11),
    ]
    for one in lines:
        await world.write(lambda r, one=one: r.touchpoints.write_line(one))

    async def read(after: str | None = None, limit: int = 9) -> list[str]:
        found = await world.read(
            lambda r: r.touchpoints.ledger(owner="tom", shared=[("car", 5, 11)], after=after, limit=limit)
        )
        return [one.id for one in found]

    assert await read() == ["both", "during", "his"]
    assert await read(limit=2) == ["both", "during"]
    assert await read(after="during") == ["his"]


async def test_an_invitation_ends_once(world: World) -> None:
    await world.write(lambda r: r.people.invite(ASKED))
    assert await world.read(lambda r: r.people.invitation("i1")) == ASKED
    assert await world.read(lambda r: r.people.invitations("car")) == [ASKED]
    assert await world.write(lambda r: r.people.end_invitation("i1", 8, "tom"))
    assert not await world.write(lambda r: r.people.end_invitation("i1", 9, "ann"))
    ended = await world.read(lambda r: r.people.invitation("i1"))
    assert (ended.taken_by, ended.ended) == ("tom", 8)
    assert await world.read(lambda r: r.people.invitations("car")) == []
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.people.invitation("i2"))


@pytest.mark.parametrize(("now", "is_open"), [(49, True), (50, False)])
def test_an_invitation_is_open_until_it_expires(now: int, is_open: bool) -> None:
    assert ASKED.open(now) is is_open


async def test_a_look_is_noted_once_a_day_and_thing(world: World) -> None:
    assert await world.write(lambda r: r.people.looked(LOOK))
    assert not await world.write(lambda r: r.people.looked(replace(LOOK, at=9, why="other")))
    assert await world.write(lambda r: r.people.looked(replace(LOOK, day=4, at=DAY)))
    assert await world.write(lambda r: r.people.looked(replace(LOOK, what="visit:a1")))
    assert await world.write(lambda r: r.people.looked(replace(LOOK, by="south")))
    assert await world.read(lambda r: r.people.known([replace(LOOK, why="", at=0)])) == [LOOK]
    looks = await world.read(lambda r: r.people.looks("jana"))
    assert looks[0].day == 4
    assert len(looks) == 4
    assert len(await world.read(lambda r: r.people.looks("jana", limit=2))) == 2


async def test_a_consent_keeps_its_text_and_who(world: World) -> None:
    entry = Consent(
        owner="tom", purpose="usage", granted=True, at=5, source="owner", text="2026-11", by="tom"
    )
    await world.write(lambda r: r.owners.consent(entry))
    assert await world.read(lambda r: r.owners.consents("tom")) == [entry]


async def test_what_waits_for_an_owner_and_its_end(world: World) -> None:
    def row(name: str, owner: str | None, state: DeliveryState) -> Delivery:
        return Delivery(
            id=name, channel="email", target="x", key=name, payload={"about": "offer"}, owner=owner,
            state=state, due_at=5, created=5,
        )  # fmt: skip

    rows = [
        row("pending", "jana", DeliveryState.PENDING),
        row("leased", "jana", DeliveryState.LEASED),
        row("sent", "jana", DeliveryState.SENT),
        row("toms", "tom", DeliveryState.PENDING),
    ]
    for one in rows:
        await world.write(lambda r, one=one: r.outbox.add(one))
    waiting = await world.read(lambda r: r.outbox.waiting_for("jana"))
    assert [one.id for one in waiting] == ["pending", "leased"]
    await world.write(lambda r: r.outbox.drop(["pending", "leased"]))
    assert await world.read(lambda r: r.outbox.waiting_for("jana")) == []
    assert (await world.read(lambda r: r.outbox.get("toms"))).state is DeliveryState.PENDING
    await world.write(lambda r: r.outbox.drop([]))

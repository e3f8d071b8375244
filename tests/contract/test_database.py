"""What every Database promises. Real SQLite files; times are small numbers of milliseconds."""

import asyncio
import dataclasses
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.adapters.database import SqlDatabase, schema, tables
from gateway.adapters.database.changes import EVERYTHING, KEEP
from gateway.domain.access import Role, Token
from gateway.domain.appointment import Appointment, AppointmentState, Hold, Service, Workshop
from gateway.domain.delivery import Attempt, Delivery, DeliveryState
from gateway.domain.device import Device, Facts, Ownership
from gateway.domain.errors import ConflictError, NotFoundError, SlotTakenError
from gateway.domain.feedback import Feedback
from gateway.domain.messages import QuarantineRow
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.rule_sets import Activation, Sources
from gateway.domain.touchpoint import TRANSITIONS, Answer, Finding, LedgerLine, Slot, State, Touchpoint
from gateway.ports import ChangeFeed, Database, DatabaseUnavailableError, Records

HOUR = 3_600_000

Open = Callable[..., Awaitable[SqlDatabase]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/domain.db"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store just prepared, to be copied: the migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("prepared") / "domain.db"

    async def prepare() -> None:
        database = SqlDatabase(f"sqlite:///{path}", now=lambda: 0)
        await database.prepare()
        await database.close()

    asyncio.run(prepare())
    return path


@pytest.fixture
async def open_database(url: str, tmp_path: Path, prepared: Path) -> AsyncIterator[Open]:
    """Opens the same store once more, as another process would."""
    opened: list[SqlDatabase] = []
    shutil.copy(prepared, tmp_path / "domain.db")

    async def open_one(now: int = 1_000, **options: Any) -> SqlDatabase:
        database = SqlDatabase(url, now=lambda: now, **options)
        opened.append(database)
        await database.prepare()
        return database

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture
async def database(open_database: Open) -> SqlDatabase:
    return await open_database()


@pytest.fixture
async def town(database: SqlDatabase) -> SqlDatabase:
    """Jana and her van, Ben, and a workshop with one bay."""

    def settle(records: Records) -> None:
        records.owners.add(Owner(id="jana", name="Jana Keller", language="de"))
        records.owners.add(Owner(id="ben", name="Ben Öztürk"))
        records.devices.add(Device(id="van", kind="car", owner="jana", created=100))
        records.workshops.add(garage())

    await database.write(settle)
    return database


def garage(**more: Any) -> Workshop:
    hours = {"mon": (("08:00", "12:00"), ("13:00", "18:00"))}
    services = (Service(id="brakes-front", names={"de": "Bremsen vorn"}, minutes=90, price_from=200),)
    return Workshop(id="nord", name="Autohaus Nord", hours=hours, services=services, **more)


def finding(name: str = "f1", device: str = "van", **more: Any) -> Finding:
    about: dict[str, Any] = {"rule": "brake-pads", "version": 1, "severity": "warning", "position": 7}
    return Finding(id=name, device=device, **(about | {"began_ts": 900, "found_at": 950} | more))


def touchpoint(name: str = "t1", state: State = State.OPEN, **more: Any) -> Touchpoint:
    about: dict[str, Any] = {
        "finding": "f1",
        "device": "van",
        "owner": "jana",
        "rule": "brake-pads",
        "rule_version": 1,
        "kind": "appointment",
        "service": "brakes-front",
        "severity": "warning",
        "purpose": "maintenance",
        "created": 1_000,
    }
    return Touchpoint(id=name, state=state, **(about | more))


def delivery(name: str = "d1", **more: Any) -> Delivery:
    about: dict[str, Any] = {"channel": "web_push", "target": "phone", "key": name, "touchpoint": "t1"}
    return Delivery(id=name, **(about | more))


def attempt(name: str = "d1", number: int = 1, result: str = "sent") -> Attempt:
    return Attempt(delivery=name, number=number, at=1_000, result=result, detail="201")


def appointment(name: str, start: int, end: int | None = None, **more: Any) -> Appointment:
    about: dict[str, Any] = {
        "workshop": "nord",
        "service": "brakes-front",
        "bay": "Bay 1",
        "state": AppointmentState.CONFIRMED,
        "created": 1_000,
    }
    return Appointment(id=name, start=start, end=end or start + HOUR, **(about | more))


def found(records: Records, *touchpoints: Touchpoint) -> None:
    records.touchpoints.add_finding(finding())
    for each in touchpoints:
        records.touchpoints.add(each)


def kept(*touchpoints: Touchpoint) -> Callable[[Records], None]:
    return lambda records: found(records, *touchpoints)


def message(position: int, reason: str = "not_json") -> QuarantineRow:
    return QuarantineRow(
        position=position, received=1_000, topic="t", payload=b"\xff\x00", reason=reason, detail="Not JSON."
    )


# --- transactions -----------------------------------------------------------------------------


async def test_what_is_written_is_there_for_whoever_opens_the_store_next(town: SqlDatabase, url: str) -> None:
    await town.close()
    later = SqlDatabase(url, now=lambda: 0)
    await later.prepare()
    assert await later.read(lambda r: r.owners.get("jana").language) == "de"
    await later.close()


async def test_work_that_raises_leaves_nothing_behind(town: SqlDatabase) -> None:
    def half(records: Records) -> None:
        records.owners.add(Owner(id="cem", name="Cem"))
        raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        await town.write(half)
    with pytest.raises(NotFoundError):
        await town.read(lambda r: r.owners.get("cem"))


async def test_work_stands_in_a_thread_and_leaves_the_loop_free(database: SqlDatabase) -> None:
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(records: Records) -> bool:
        loop.call_soon_threadsafe(entered.set)
        return bool(leave.wait(60))

    reading = asyncio.create_task(database.read(slow))
    await entered.wait()
    leave.set()
    assert await reading


async def test_a_reader_sees_one_moment_however_long_it_reads(town: SqlDatabase) -> None:
    begun, written = threading.Event(), threading.Event()

    def twice(records: Records) -> tuple[int, int]:
        before = len(records.owners.page())
        begun.set()
        assert written.wait(60)
        return before, len(records.owners.page())

    reading = asyncio.create_task(town.read(twice))
    await asyncio.to_thread(begun.wait, 10)
    await town.write(lambda r: r.owners.add(Owner(id="cem", name="Cem")))
    written.set()
    assert await reading == (2, 2)
    assert len(await town.read(lambda r: r.owners.page())) == 3


async def test_reading_cannot_write(town: SqlDatabase) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await town.read(lambda r: r.owners.add(Owner(id="cem", name="Cem")))


async def test_positions_begin_at_zero_and_hold(database: SqlDatabase) -> None:
    assert await database.read(lambda r: r.position("assess")) == 0
    await database.write(lambda r: r.set_position("assess", 2**40))
    await database.write(lambda r: r.set_position("respond", 5))
    assert await database.read(lambda r: (r.position("assess"), r.position("respond"))) == (2**40, 5)


async def test_two_stores_write_at_once_and_nothing_is_lost(town: SqlDatabase, open_database: Open) -> None:
    def count(records: Records) -> None:
        records.set_position("assess", records.position("assess") + 1)

    stores = [town, await open_database(), await open_database()]
    await asyncio.gather(*(store.write(count) for _ in range(30) for store in stores))
    assert await town.read(lambda r: r.position("assess")) == 90


# --- owners -----------------------------------------------------------------------------------


async def test_an_owner_comes_back_as_given(database: SqlDatabase) -> None:
    jana = Owner(id="jana", name="Jana", email="j@example.org", wishes={"waits": True}, created=5)
    await database.write(lambda r: r.owners.add(jana))
    assert await database.read(lambda r: r.owners.get("jana")) == jana


async def test_what_is_held_on_an_owner_changes_but_for_id_and_beginning(town: SqlDatabase) -> None:
    def work(records: Records) -> tuple[Owner, list[Owner]]:
        jana = dataclasses.replace(records.owners.get("jana"), name="Jana Voss", time_zone="Asia/Tokyo")
        records.owners.update(dataclasses.replace(jana, created=77))
        with pytest.raises(NotFoundError):
            records.owners.update(dataclasses.replace(jana, id="nobody"))
        assert records.owners.get("jana") == jana
        return jana, records.owners.page(find="voss")

    jana, found = await town.write(work)
    assert found == [jana]


async def test_the_same_id_twice_is_a_conflict_that_says_what_holds(town: SqlDatabase) -> None:
    with pytest.raises(ConflictError) as refused:
        await town.write(lambda r: r.owners.add(Owner(id="jana", name="Somebody else")))
    assert refused.value.holds.name == "Jana Keller"


@pytest.mark.parametrize(
    ("find", "ids"),
    [
        ("KELLER", ["jana"]),
        ("özt", ["ben"]),
        ("ÖZT", ["ben"]),
        ("be", ["ben"]),
        ("%", []),
        ("", ["ben", "jana"]),
    ],
)
async def test_owners_are_found_by_part_of_name_or_id_in_any_case(
    town: SqlDatabase, find: str, ids: list[str]
) -> None:
    assert [o.id for o in await town.read(lambda r: r.owners.page(find=find))] == ids


async def test_pages_follow_one_another(town: SqlDatabase) -> None:
    first = await town.read(lambda r: r.owners.page(limit=1))
    second = await town.read(lambda r: r.owners.page(limit=1, after=first[-1].id))
    assert [o.id for o in first + second] == ["ben", "jana"]


async def test_consent_is_what_was_said_last_and_its_history_stays(town: SqlDatabase) -> None:
    def say(granted: bool, at: int) -> Consent:
        return Consent(owner="jana", purpose="maintenance", granted=granted, at=at, source="owner")

    assert not await town.read(lambda r: r.owners.granted("jana", "maintenance"))
    said = [say(True, 10), say(False, 20), say(True, 20)]
    for entry in said:
        await town.write(lambda r, entry=entry: r.owners.consent(entry))
    assert await town.read(lambda r: r.owners.granted("jana", "maintenance"))
    assert not await town.read(lambda r: r.owners.granted("jana", "marketing"))
    assert await town.read(lambda r: r.owners.consents("jana")) == said[::-1]


async def test_an_owner_who_set_nothing_has_the_default_preferences(town: SqlDatabase) -> None:
    assert await town.read(lambda r: r.owners.preferences("jana")) == Preferences()
    wanted = Preferences(quiet_from="20:00", channels=("display",), muted=("descaling",), weekly_budget=1)
    await town.write(lambda r: r.owners.prefer("jana", Preferences(weekly_budget=9)))
    await town.write(lambda r: r.owners.prefer("jana", wanted))
    assert await town.read(lambda r: r.owners.preferences("jana")) == wanted


def browser(name: str, owner: str = "jana", **more: Any) -> PushSubscription:
    about = {
        "endpoint": "https://push.example/1",
        "p256dh": "p",
        "auth": "a",
        "label": "Firefox",
        "created": 5,
    }
    return PushSubscription(id=name, owner=owner, **(about | more))


async def test_a_browser_that_subscribes_again_is_renewed_under_its_first_id(town: SqlDatabase) -> None:
    await town.write(lambda r: r.owners.subscribe(browser("s1")))
    await town.write(lambda r: r.owners.drop_subscription("s1", 9))
    assert await town.read(lambda r: r.owners.subscriptions("jana")) == []
    await town.write(lambda r: r.owners.subscribe(browser("s2", auth="new", created=7)))
    assert await town.read(lambda r: r.owners.subscriptions("jana")) == [browser("s1", auth="new")]


async def test_a_browser_that_changed_hands_no_longer_answers_to_its_old_id(town: SqlDatabase) -> None:
    await town.write(lambda r: r.owners.subscribe(browser("s1")))
    await town.write(lambda r: r.owners.subscribe(browser("s2", "ben")))
    assert await town.read(lambda r: r.owners.subscription("s1")) is None
    assert await town.read(lambda r: r.owners.subscriptions("jana")) == []
    assert await town.read(lambda r: r.owners.subscription("s2")) == browser("s2", "ben")


async def test_what_names_somebody_who_is_not_there_is_refused(town: SqlDatabase) -> None:
    with pytest.raises(NotFoundError):
        await town.write(lambda r: r.owners.subscribe(browser("s1", "nobody")))


# --- devices ----------------------------------------------------------------------------------


async def test_a_device_belongs_to_its_owner_from_its_registration_on(town: SqlDatabase) -> None:
    owners = await town.read(lambda r: [r.devices.owner_at("van", ts) for ts in (99, 100, 10**13)])
    assert owners == [None, "jana", "jana"]


async def test_a_transfer_ends_one_ownership_and_begins_the_next(town: SqlDatabase) -> None:
    await town.write(lambda r: r.devices.transfer("van", "ben", 500))
    await town.write(lambda r: r.devices.transfer("van", "ben", 600))
    await town.write(lambda r: r.devices.transfer("van", None, 900))
    assert await town.read(lambda r: r.devices.ownerships("van")) == [
        Ownership(device="van", owner="jana", since=100, until=500),
        Ownership(device="van", owner="ben", since=500, until=900),
    ]
    owners = await town.read(lambda r: [r.devices.owner_at("van", ts) for ts in (499, 500, 899, 900)])
    assert owners == ["jana", "ben", "ben", None]
    assert (await town.read(lambda r: r.devices.get("van"))).owner is None


async def test_a_device_is_updated_but_for_its_owner(town: SqlDatabase) -> None:
    changed = Device(id="van", kind="car", plate="HH-JK 482", owner="ben", workshop="nord", created=100)
    await town.write(lambda r: r.devices.update(changed))
    assert await town.read(lambda r: r.devices.get("van")) == dataclasses.replace(changed, owner="jana")
    assert [d.id for d in await town.read(lambda r: r.devices.page(find="hh-jk"))] == ["van"]


async def test_devices_are_listed_by_owner(town: SqlDatabase) -> None:
    await town.write(lambda r: r.devices.add(Device(id="washer", kind="washing_machine", owner="ben")))
    assert [d.id for d in await town.read(lambda r: r.devices.page(owner="ben"))] == ["washer"]


@pytest.mark.parametrize("miss", ["get", "update", "transfer"])
async def test_a_device_that_nobody_registered_is_not_found(town: SqlDatabase, miss: str) -> None:
    ghost = Device(id="ghost", kind="car")
    calls: dict[str, Callable[[Records], Any]] = {
        "get": lambda r: r.devices.get("ghost"),
        "update": lambda r: r.devices.update(ghost),
        "transfer": lambda r: r.devices.transfer("ghost", "jana", 5),
    }
    with pytest.raises(NotFoundError, match="ghost"):
        await town.write(calls[miss])


async def test_facts_are_the_newest_put_with_values_of_every_type(town: SqlDatabase) -> None:
    assert await town.read(lambda r: r.devices.facts("van")) == Facts(device="van")
    latest = {
        "speed": (5, 80.5),
        "odometer": (5, 40_000),
        "door": (6, True),
        "gear": (6, "D"),
        "dtc": (7, ("P0301", "P0420")),
        "gone": (7, None),
    }
    facts = Facts(
        device="van", last_seen=9, moving=True, moving_since=4, online=False, latest=latest, open=("f1",)
    )
    await town.write(lambda r: r.devices.put_facts([Facts(device="van", last_seen=1, kind="car")]))
    await town.write(lambda r: r.devices.put_facts([facts]))
    assert await town.read(lambda r: r.devices.facts("van")) == facts
    assert await town.read(lambda r: r.devices.all_facts()) == [facts]


async def test_a_device_that_reports_unregistered_is_unclaimed_until_it_is_registered(
    town: SqlDatabase,
) -> None:
    stranger = Facts(device="stranger", last_seen=900, kind="car")
    await town.write(lambda r: r.devices.put_facts([stranger, Facts(device="van", last_seen=500)]))
    assert await town.read(lambda r: r.devices.unclaimed()) == [stranger]
    assert await town.read(lambda r: r.devices.connected(since=900)) == (1, 2)
    await town.write(lambda r: r.devices.add(Device(id="stranger", kind="car")))
    assert await town.read(lambda r: r.devices.unclaimed()) == []
    assert await town.read(lambda r: r.devices.connected(since=500)) == (2, 2)


async def test_facts_of_an_unknown_format_are_refused(town: SqlDatabase) -> None:
    await town.write(lambda r: r.devices.put_facts([Facts(device="van")]))
    with sqlite3.connect(town.path) as raw:
        raw.execute("UPDATE facts SET format = 99")
    raw.close()
    with pytest.raises(DatabaseUnavailableError, match=r"format 99.*touchpoint setup"):
        await town.read(lambda r: r.devices.facts("van"))


# --- findings, touchpoints, ledger ------------------------------------------------------------


async def test_a_finding_is_inserted_once_and_stays_as_it_was_first(town: SqlDatabase) -> None:
    first = finding(evidence={"pad_wear_front": 81.0})
    assert await town.write(lambda r: r.touchpoints.add_finding(first))
    assert not await town.write(lambda r: r.touchpoints.add_finding(finding(evidence={})))
    assert await town.read(lambda r: r.touchpoints.finding("f1")) == first


async def test_an_episode_is_cleared_once(town: SqlDatabase) -> None:
    await town.write(lambda r: r.touchpoints.add_finding(finding()))
    for at in (2_000, 3_000):
        await town.write(lambda r, at=at: r.touchpoints.clear_finding("f1", at))
    cleared = await town.read(lambda r: r.touchpoints.finding("f1"))
    assert cleared is not None
    assert cleared.cleared_at == 2_000


async def test_findings_are_listed_newest_first_by_device(town: SqlDatabase) -> None:
    for at, device in enumerate(("van", "washer", "van")):
        await town.write(
            lambda r, at=at, device=device: r.touchpoints.add_finding(finding(f"f{at}", device, found_at=at))
        )
    assert [f.id for f in await town.read(lambda r: r.touchpoints.findings(device="van"))] == ["f2", "f0"]
    assert [f.id for f in await town.read(lambda r: r.touchpoints.findings(limit=2))] == ["f2", "f1"]


async def test_a_touchpoint_comes_back_as_given(town: SqlDatabase) -> None:
    whole = touchpoint(
        slots=(
            Slot(workshop="nord", start=5, end=9, bay="Bay 1", held_until=7),
            Slot(workshop="nord", start=9, end=12),
        ),
        answer=Answer(action="book", channel="page", at=4, by="jana", slot="nord@5"),
        evidence={"pad_wear_front": 81.0, "dtc": ["C1234"]},
        sent_at=3,
        expires_at=10**13,
    )
    await town.write(kept(whole))
    assert await town.read(lambda r: r.touchpoints.get("t1")) == whole


LEGAL = [(a, b) for a in State for b in sorted(TRANSITIONS[a])]
ILLEGAL = [(a, b) for a in State for b in State if a != b and b not in TRANSITIONS[a]]


@pytest.mark.parametrize(("before", "after"), LEGAL)
async def test_a_touchpoint_moves_as_the_table_allows(town: SqlDatabase, before: State, after: State) -> None:
    await town.write(kept(touchpoint(state=before)))
    await town.write(lambda r: r.touchpoints.save(touchpoint(state=after)))
    assert (await town.read(lambda r: r.touchpoints.get("t1"))).state == after


async def test_a_touchpoint_moves_in_no_other_way(town: SqlDatabase) -> None:
    await town.write(kept(*(touchpoint(f"t-{state}", state) for state in State)))
    for before, after in ILLEGAL:
        with pytest.raises(ConflictError) as refused:
            await town.write(lambda r, b=before, a=after: r.touchpoints.save(touchpoint(f"t-{b}", a)))
        assert refused.value.holds.state == before
    states = await town.read(lambda r: [r.touchpoints.get(f"t-{state}").state for state in State])
    assert states == list(State)


async def test_a_touchpoint_may_change_within_its_state(town: SqlDatabase) -> None:
    await town.write(kept(touchpoint(state=State.CLOSED)))
    await town.write(lambda r: r.touchpoints.save(touchpoint(state=State.CLOSED, closed_at=9)))
    assert (await town.read(lambda r: r.touchpoints.get("t1"))).closed_at == 9


async def test_touchpoints_are_listed_newest_first_by_what_is_asked(town: SqlDatabase) -> None:
    await town.write(
        kept(
            touchpoint("t1", State.CLOSED),
            touchpoint("t2", rule="overheating"),
            touchpoint("t3", device="washer", owner="ben"),
            touchpoint("t4", State.DEFERRED),
        )
    )

    async def ids(**asked: Any) -> list[str]:
        return [t.id for t in await town.read(lambda r: r.touchpoints.page(**asked))]

    assert await ids() == ["t4", "t3", "t2", "t1"]
    assert await ids(owner="jana") == ["t4", "t2", "t1"]
    assert await ids(device="washer") == ["t3"]
    assert await ids(rule="overheating", owner="jana") == ["t2"]
    assert await ids(states=[State.OPEN, State.DEFERRED]) == ["t4", "t3", "t2"]
    assert await ids(states=[State.OPEN, State.DEFERRED], after="t4", limit=1) == ["t3"]
    assert await ids(finding="f1", limit=2, after="t3") == ["t2", "t1"]
    assert await ids(finding="f2") == []


@pytest.mark.parametrize("state", State)
async def test_the_live_touchpoint_of_a_device_and_rule_is_the_one_that_needs_something(
    town: SqlDatabase, state: State
) -> None:
    await town.write(kept(touchpoint(state=state)))
    live = await town.read(lambda r: r.touchpoints.live_for("van", "brake-pads"))
    assert (live is not None) == touchpoint(state=state).live
    assert await town.read(lambda r: r.touchpoints.live_for("van", "overheating")) is None


async def test_deferred_touchpoints_wake_when_their_time_has_come(town: SqlDatabase) -> None:
    await town.write(
        kept(
            touchpoint("late", State.DEFERRED, wake_at=3_000),
            touchpoint("second", State.DEFERRED, wake_at=2_000),
            touchpoint("first", State.DEFERRED, wake_at=1_500, device="washer"),
            touchpoint("open", State.OPEN, wake_at=1_000),
        )
    )
    due = await town.read(lambda r: r.touchpoints.due(2_000))
    assert [t.id for t in due] == ["first", "second"]
    assert [t.id for t in await town.read(lambda r: r.touchpoints.due(9_000, limit=1))] == ["first"]
    assert {t.id for t in await town.read(lambda r: r.touchpoints.deferred_for_device("van"))} == {
        "late",
        "second",
    }


async def test_what_is_unanswered_expires_and_what_is_answered_does_not(town: SqlDatabase) -> None:
    await town.write(
        kept(
            touchpoint("open", State.OPEN, expires_at=2_000),
            touchpoint("deferred", State.DEFERRED, expires_at=1_000),
            touchpoint("booked", State.BOOKED, expires_at=500),
            touchpoint("never", State.OPEN),
        )
    )
    assert [t.id for t in await town.read(lambda r: r.touchpoints.expired(2_000))] == ["deferred", "open"]
    assert await town.read(lambda r: r.touchpoints.expired(999)) == []


async def test_the_next_wake_is_the_earliest_of_all_that_is_unanswered(town: SqlDatabase) -> None:
    async def next_wake() -> int | None:
        return await town.read(lambda r: r.touchpoints.next_wake())

    assert await next_wake() is None
    await town.write(kept(touchpoint("t0", State.BOOKED, expires_at=1), touchpoint("t1", expires_at=900)))
    assert await next_wake() == 900
    await town.write(kept(touchpoint("t2", State.DEFERRED, wake_at=800, expires_at=5_000)))
    assert await next_wake() == 800
    await town.write(kept(touchpoint("t3", State.DEFERRED, expires_at=700)))
    assert await next_wake() == 700


def line(name: str, **more: Any) -> LedgerLine:
    return LedgerLine(id=name, at=1_000, code="found", **more)


async def test_the_ledger_is_read_newest_first_in_the_order_it_was_written(town: SqlDatabase) -> None:
    names = ["zebra", "ant", "mole"]
    for name in names:
        await town.write(
            lambda r, name=name: r.touchpoints.write_line(line(name, owner="jana", params={"mm": 2.5}))
        )
    await town.write(lambda r: r.touchpoints.write_line(line("other", owner="ben")))
    lines = await town.read(lambda r: r.touchpoints.ledger(owner="jana"))
    assert lines == [line(name, owner="jana", params={"mm": 2.5}) for name in reversed(names)]
    older = await town.read(lambda r: r.touchpoints.ledger(owner="jana", after="mole", limit=1))
    assert [entry.id for entry in older] == ["ant"]


async def test_a_touchpoints_ledger_begins_with_its_finding(town: SqlDatabase) -> None:
    def story(records: Records) -> None:
        found(records, touchpoint("t1"), touchpoint("t2"))
        records.touchpoints.write_line(line("found", finding="f1", device="van"))
        records.touchpoints.write_line(line("sent", finding="f1", touchpoint="t1"))
        records.touchpoints.write_line(line("other", finding="f1", touchpoint="t2"))
        records.touchpoints.write_line(line("elsewhere", finding="f2"))

    await town.write(story)
    assert [e.id for e in await town.read(lambda r: r.touchpoints.ledger(touchpoint="t1"))] == [
        "sent",
        "found",
    ]
    by_finding = await town.read(lambda r: r.touchpoints.ledger(finding="f1"))
    assert [e.id for e in by_finding] == ["other", "sent", "found"]


async def test_touchpoints_are_counted_by_state(town: SqlDatabase) -> None:
    await town.write(kept(touchpoint("t1"), touchpoint("t2"), touchpoint("t3", State.EXPIRED)))
    counts = await town.read(lambda r: r.touchpoints.counts())
    assert counts == {state.value: 0 for state in State} | {"open": 2, "expired": 1}
    live = await town.read(lambda r: r.touchpoints.counts((State.OPEN, State.DEFERRED)))
    assert live == {"open": 2, "deferred": 0}


async def test_the_funnel_counts_every_step_per_rule(town: SqlDatabase) -> None:
    def answered(action: str) -> Answer:
        return Answer(action=action, channel="page", at=5, by="jana")

    def story(records: Records) -> None:
        found(
            records,
            touchpoint("t1", State.FULFILLED, sent_at=5, answer=answered("book")),
            touchpoint("t2", State.CLOSED, sent_at=5, answer=answered("not_now")),
            touchpoint("t3", State.EXPIRED, sent_at=5),
            touchpoint("t4", State.DEFERRED, rule="overheating"),
            touchpoint("old", State.EXPIRED, sent_at=5, created=1),
        )
        records.touchpoints.add_finding(finding("f2", rule="draining"))
        records.touchpoints.add_finding(finding("f3", rule="draining", shadow=True))
        records.workshops.book(appointment("a1", 0, touchpoint="t1"))

    await town.write(story)
    steps = await town.read(lambda r: r.touchpoints.funnel(900))
    nothing = {"sent": 0, "answered": 0, "booked": 0, "fulfilled": 0, "declined": 0, "silent": 0}
    assert steps == [
        {
            "rule": "brake-pads",
            "found": 1,
            "sent": 3,
            "answered": 2,
            "booked": 1,
            "fulfilled": 1,
            "declined": 1,
            "silent": 1,
        },
        {"rule": "draining", "found": 1} | nothing,
        {"rule": "overheating", "found": 0} | nothing,
    ]


# --- workshops --------------------------------------------------------------------------------


async def test_a_workshop_comes_back_as_given_and_is_replaced_by_put(town: SqlDatabase) -> None:
    assert await town.read(lambda r: r.workshops.get("nord")) == garage()
    await town.write(lambda r: r.workshops.put(garage(bays=("Bay 1", "Bay 2"))))
    assert (await town.read(lambda r: r.workshops.page()))[0].bays == ("Bay 1", "Bay 2")
    with pytest.raises(ConflictError):
        await town.write(lambda r: r.workshops.add(garage()))


async def test_a_booked_bay_is_taken_for_everything_that_overlaps(town: SqlDatabase) -> None:
    await town.write(lambda r: r.workshops.book(appointment("a1", 2 * HOUR, 3 * HOUR)))
    for start, end in ((2, 3), (1, 4), (2.5, 2.6), (1, 2.1), (2.9, 4)):
        with pytest.raises(SlotTakenError):
            await town.write(
                lambda r, s=start, e=end: r.workshops.book(appointment("a2", int(s * HOUR), int(e * HOUR)))
            )
    await town.write(lambda r: r.workshops.book(appointment("before", HOUR, 2 * HOUR)))
    await town.write(lambda r: r.workshops.book(appointment("after", 3 * HOUR, 4 * HOUR)))
    await town.write(lambda r: r.workshops.book(appointment("beside", 2 * HOUR, 3 * HOUR, bay="Bay 2")))


async def test_a_cancelled_appointment_frees_its_bay_and_cannot_come_back_into_a_taken_one(
    town: SqlDatabase,
) -> None:
    first = appointment("a1", HOUR)
    await town.write(lambda r: r.workshops.book(first))
    cancelled = dataclasses.replace(first, state=AppointmentState.CANCELLED)
    await town.write(lambda r: r.workshops.save_appointment(cancelled))
    await town.write(lambda r: r.workshops.book(appointment("a2", HOUR)))
    with pytest.raises(SlotTakenError):
        await town.write(lambda r: r.workshops.save_appointment(first))


async def test_an_appointment_cannot_be_moved_onto_another(town: SqlDatabase) -> None:
    await town.write(lambda r: r.workshops.book(appointment("a1", HOUR)))
    await town.write(lambda r: r.workshops.book(appointment("a2", 3 * HOUR)))
    with pytest.raises(SlotTakenError):
        await town.write(lambda r: r.workshops.save_appointment(appointment("a2", HOUR + 1)))
    await town.write(lambda r: r.workshops.save_appointment(appointment("a2", 3 * HOUR + 1)))


async def test_a_running_hold_keeps_a_slot_for_its_own_touchpoint_only(town: SqlDatabase) -> None:
    def keep(touchpoint_id: str, start: int, until: int) -> Hold:
        return Hold(
            touchpoint=touchpoint_id, workshop="nord", bay="Bay 1", start=start, end=start + HOUR, until=until
        )

    await town.write(kept(touchpoint("t1"), touchpoint("t2")))
    await town.write(lambda r: r.workshops.hold([keep("t1", HOUR, 1_001), keep("t1", 3 * HOUR, 1_001)]))
    with pytest.raises(SlotTakenError):
        await town.write(lambda r: r.workshops.book(appointment("a2", HOUR, touchpoint="t2")))
    with pytest.raises(SlotTakenError):
        await town.write(lambda r: r.workshops.book(appointment("own", HOUR)))
    await town.write(lambda r: r.workshops.book(appointment("a1", HOUR, touchpoint="t1")))
    await town.write(lambda r: r.workshops.release("t1"))
    await town.write(lambda r: r.workshops.book(appointment("a2", 3 * HOUR, touchpoint="t2")))


async def test_a_hold_that_ran_out_keeps_nothing(town: SqlDatabase) -> None:
    ran_out = Hold(touchpoint="t1", workshop="nord", bay="Bay 1", start=HOUR, end=2 * HOUR, until=1_000)
    await town.write(kept(touchpoint("t1")))
    await town.write(lambda r: r.workshops.hold([ran_out]))
    assert await town.read(lambda r: r.workshops.busy("nord", 0, 9 * HOUR, 1_000)) == []
    await town.write(lambda r: r.workshops.book(appointment("a1", HOUR)))


async def test_new_holds_of_a_touchpoint_replace_its_old_ones(town: SqlDatabase) -> None:
    def keep(start: int) -> Hold:
        return Hold(touchpoint="t1", workshop="nord", bay="Bay 1", start=start, end=start + HOUR, until=5_000)

    await town.write(kept(touchpoint("t1")))
    await town.write(lambda r: r.workshops.hold([keep(HOUR)]))
    await town.write(lambda r: r.workshops.hold([keep(3 * HOUR)]))
    assert await town.read(lambda r: r.workshops.holds("nord", 0, 9 * HOUR, 1_000)) == [keep(3 * HOUR)]


async def test_busy_is_what_overlaps_of_appointments_and_holds(town: SqlDatabase) -> None:
    def story(records: Records) -> None:
        found(records, touchpoint("t1"))
        records.workshops.book(appointment("done", HOUR, state=AppointmentState.DONE))
        records.workshops.book(appointment("gone", 3 * HOUR, state=AppointmentState.CANCELLED))
        records.workshops.book(appointment("far", 9 * HOUR))
        records.workshops.hold(
            [Hold(touchpoint="t1", workshop="nord", bay="Bay 1", start=2 * HOUR, end=3 * HOUR, until=2_000)]
        )

    await town.write(story)
    assert await town.read(lambda r: r.workshops.busy("nord", 0, 8 * HOUR, 1_000)) == [
        ("Bay 1", HOUR, 2 * HOUR, None),
        ("Bay 1", 2 * HOUR, 3 * HOUR, "t1"),
    ]
    assert await town.read(lambda r: r.workshops.busy("nord", 3 * HOUR, 9 * HOUR, 1_000)) == []


async def test_the_database_itself_refuses_an_overlap(town: SqlDatabase) -> None:
    """What `book` checks, a trigger and a unique index check again."""

    def straight(start: int) -> Callable[[Records], Any]:
        row = {f.name: getattr(appointment("a2", start), f.name) for f in dataclasses.fields(Appointment)}
        statement = sa.insert(tables.appointments).values(row)
        return lambda records: records.transaction.connection.execute(statement)  # type: ignore[attr-defined]

    await town.write(lambda r: r.workshops.book(appointment("a1", HOUR)))
    for start in (HOUR, HOUR + 1):
        with pytest.raises(SlotTakenError):
            await town.write(straight(start))
    await town.write(straight(2 * HOUR))


async def test_of_fifty_after_the_last_slot_exactly_one_gets_it(
    town: SqlDatabase, open_database: Open
) -> None:
    rivals = [await open_database() for _ in range(10)]
    wishes = [
        rival.write(lambda r, name=f"a{n}": r.workshops.book(appointment(name, HOUR)))
        for n, rival in enumerate(rivals * 5)
    ]
    outcomes = await asyncio.gather(*wishes, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, SlotTakenError) for outcome in outcomes) == 49
    assert len(await town.read(lambda r: r.workshops.appointments(workshop="nord"))) == 1


async def test_appointments_are_listed_by_start_by_what_is_asked(town: SqlDatabase) -> None:
    def story(records: Records) -> None:
        found(records, touchpoint("t1"))
        records.workshops.book(appointment("late", 5 * HOUR, owner="jana", device="van", touchpoint="t1"))
        records.workshops.book(appointment("early", HOUR, owner="ben", diagnosis={"codes": ["C1234"]}))
        records.workshops.book(appointment("own", 3 * HOUR, label="Inspection", state=AppointmentState.DONE))

    await town.write(story)

    async def ids(**asked: Any) -> list[str]:
        return [a.id for a in await town.read(lambda r: r.workshops.appointments(**asked))]

    assert await ids(workshop="nord") == ["early", "own", "late"]
    assert await ids(owner="jana") == await ids(device="van") == await ids(touchpoint="t1") == ["late"]
    assert await ids(start=2 * HOUR, end=5 * HOUR) == ["own"]
    assert await ids(states=[AppointmentState.CONFIRMED]) == ["early", "late"]
    assert await ids(after="early", limit=1) == ["own"]
    early = await town.read(lambda r: r.workshops.appointment("early"))
    assert early.diagnosis == {"codes": ["C1234"]}


# --- outbox -----------------------------------------------------------------------------------


def claim(now: int = 1_000, limit: int = 10, *channels: str) -> Callable[[Records], list[Delivery]]:
    return lambda r: r.outbox.claim(now, lease_ms=100, limit=limit, channels=channels or ["web_push"])


async def test_an_effect_is_queued_once_per_channel_target_and_key(town: SqlDatabase) -> None:
    def queue(**more: Any) -> Callable[[Records], bool]:
        return lambda r: r.outbox.add(delivery(**more))

    assert await town.write(queue(name="d1", key="open"))
    assert not await town.write(queue(name="d2", key="open"))
    assert await town.write(queue(name="d3", key="closed"))
    assert await town.write(queue(name="d4", key="open", target="tablet"))
    assert await town.write(queue(name="d5", key="open", channel="display"))
    assert await town.read(lambda r: r.outbox.counts()) == {
        "pending": 4,
        "leased": 0,
        "sent": 0,
        "dead": 0,
        "dropped": 0,
    }
    assert await town.read(lambda r: r.outbox.counts((DeliveryState.PENDING,))) == {"pending": 4}


async def test_what_is_due_is_claimed_oldest_first_and_by_one_only(
    town: SqlDatabase, open_database: Open
) -> None:
    for name, due in (("later", 900), ("first", 100), ("also-first", 100), ("not-yet", 1_001)):
        await town.write(lambda r, name=name, due=due: r.outbox.add(delivery(name, due_at=due)))
    await town.write(lambda r: r.outbox.add(delivery("elsewhere", channel="journal")))
    assert [d.id for d in await town.write(claim(1_000, 2))] == ["first", "also-first"]
    other = await open_database()
    claimed = await other.write(claim(1_000))
    assert claimed == [delivery("later", due_at=900, state=DeliveryState.LEASED, lease_until=1_100)]
    assert await town.read(lambda r: r.outbox.get("later")) == claimed[0]
    assert [d.id for d in await town.write(claim(1_000, 9, "display", "journal"))] == ["elsewhere"]


async def test_a_lease_that_ran_out_is_claimed_again(town: SqlDatabase) -> None:
    await town.write(lambda r: r.outbox.add(delivery()))
    assert len(await town.write(claim(1_000))) == 1
    assert await town.write(claim(1_099)) == []
    assert len(await town.write(claim(1_100))) == 1


async def test_the_next_due_is_the_earliest_start_or_end_of_a_lease(town: SqlDatabase) -> None:
    async def next_due() -> int | None:
        return await town.read(lambda r: r.outbox.next_due(["web_push", "display"]))

    assert await next_due() is None
    await town.write(lambda r: r.outbox.add(delivery("d0", channel="journal", due_at=1)))
    await town.write(lambda r: r.outbox.add(delivery("d1", due_at=500)))
    await town.write(lambda r: r.outbox.add(delivery("d2", channel="display", due_at=5_000)))
    assert await next_due() == 500
    await town.write(claim(1_000))
    assert await next_due() == 1_100


async def test_every_attempt_is_kept_with_the_state_it_led_to(town: SqlDatabase) -> None:
    await town.write(lambda r: r.outbox.add(delivery()))
    tried = dataclasses.replace(delivery(), attempts=1, due_at=6_000)
    sent = dataclasses.replace(tried, state=DeliveryState.SENT, attempts=2)
    await town.write(lambda r: r.outbox.finish(tried, attempt(result="retry")))
    await town.write(lambda r: r.outbox.finish(sent, attempt(number=2)))
    assert await town.read(lambda r: r.outbox.get("d1")) == sent
    tries = await town.read(lambda r: r.outbox.attempts("d1"))
    assert [(t.number, t.result) for t in tries] == [(1, "retry"), (2, "sent")]


async def test_what_is_not_needed_any_more_is_dropped_even_while_it_is_being_sent(town: SqlDatabase) -> None:
    await town.write(lambda r: r.outbox.add(delivery("d1")))
    await town.write(claim(1_000))
    await town.write(lambda r: r.outbox.add(delivery("d2", channel="display")))
    await town.write(lambda r: r.outbox.add(delivery("other", touchpoint="t2")))
    assert await town.write(lambda r: r.outbox.drop_pending("t1", channel="display")) == 1
    assert await town.write(lambda r: r.outbox.drop_pending("t1")) == 1
    assert await town.write(lambda r: r.outbox.drop_pending("t1")) == 0
    states = await town.read(lambda r: [r.outbox.get(name).state for name in ("d1", "d2", "other")])
    assert states == [DeliveryState.DROPPED, DeliveryState.DROPPED, DeliveryState.PENDING]


async def test_a_late_failure_does_not_bring_a_dropped_delivery_back_but_a_late_success_counts(
    town: SqlDatabase,
) -> None:
    for name in ("d1", "d2"):
        await town.write(lambda r, name=name: r.outbox.add(delivery(name)))
    await town.write(claim(1_000))
    await town.write(lambda r: r.outbox.drop_pending("t1"))
    await town.write(
        lambda r: r.outbox.finish(delivery("d1", attempts=1, due_at=2_000), attempt(result="retry"))
    )
    sent = delivery("d2", attempts=1, state=DeliveryState.SENT)
    await town.write(lambda r: r.outbox.finish(sent, attempt("d2")))
    states = await town.read(lambda r: [r.outbox.get(name).state for name in ("d1", "d2")])
    assert states == [DeliveryState.DROPPED, DeliveryState.SENT]
    assert len(await town.read(lambda r: r.outbox.attempts("d1"))) == 1


async def test_a_dead_letter_can_be_tried_again_and_nothing_else(town: SqlDatabase) -> None:
    await town.write(lambda r: r.outbox.add(delivery()))
    with pytest.raises(ConflictError):
        await town.write(lambda r: r.outbox.retry("d1", 1_000))
    dead = delivery(state=DeliveryState.DEAD, attempts=6)
    await town.write(lambda r: r.outbox.finish(dead, attempt(number=6, result="dead")))
    assert [d.id for d in await town.read(lambda r: r.outbox.page(states=[DeliveryState.DEAD]))] == ["d1"]
    await town.write(lambda r: r.outbox.retry("d1", 1_000))
    assert len(await town.write(claim(1_000))) == 1
    with pytest.raises(NotFoundError):
        await town.write(lambda r: r.outbox.retry("nowhere", 1_000))


async def test_the_outbox_is_listed_newest_first(town: SqlDatabase) -> None:
    for name in ("z", "a", "m"):
        await town.write(lambda r, name=name: r.outbox.add(delivery(name)))
    assert [d.id for d in await town.read(lambda r: r.outbox.page(touchpoint="t1"))] == ["m", "a", "z"]
    assert [d.id for d in await town.read(lambda r: r.outbox.page(after="m", limit=1))] == ["a"]


# --- feedback, quarantine, tokens -------------------------------------------------------------


async def test_a_question_is_answered_and_listed(town: SqlDatabase) -> None:
    asked = Feedback(id="q1", touchpoint="t1", owner="jana", question="csat", asked_at=5)
    answered = dataclasses.replace(asked, score=5, comment="Quick", answered_at=9)
    await town.write(kept(touchpoint("t1")))
    await town.write(lambda r: r.feedback.ask(asked))
    assert await town.read(lambda r: r.feedback.page(touchpoint="t1")) == [asked]
    await town.write(lambda r: r.feedback.answer(answered))
    assert await town.read(lambda r: r.feedback.page(owner="jana")) == [answered]
    assert await town.read(lambda r: r.feedback.page(owner="ben")) == []
    with pytest.raises(ConflictError):
        await town.write(lambda r: r.feedback.ask(asked))
    with pytest.raises(NotFoundError):
        await town.write(lambda r: r.feedback.answer(dataclasses.replace(answered, id="q2")))


async def test_quarantine_keeps_a_message_once_by_position(database: SqlDatabase) -> None:
    await database.write(lambda r: r.quarantine.add([message(1), message(2, "bad_ts"), message(3)]))
    await database.write(lambda r: r.quarantine.add([message(3, "other"), message(4)]))
    assert await database.read(lambda r: r.quarantine.get(3)) == message(3)
    assert await database.read(lambda r: r.quarantine.counts()) == {"not_json": 3, "bad_ts": 1}
    assert [row.position for row in await database.read(lambda r: r.quarantine.page(limit=2))] == [4, 3]
    older = await database.read(lambda r: r.quarantine.page(after=3, reason="not_json"))
    assert [row.position for row in older] == [1]


async def test_what_was_replayed_is_marked_and_no_longer_counted(database: SqlDatabase) -> None:
    await database.write(lambda r: r.quarantine.add([message(1), message(2)]))
    await database.write(lambda r: r.quarantine.replayed([1], 7))
    assert (await database.read(lambda r: r.quarantine.get(1))).replayed == 7
    assert await database.read(lambda r: r.quarantine.counts()) == {"not_json": 1}
    with pytest.raises(NotFoundError):
        await database.read(lambda r: r.quarantine.get(3))


async def test_a_token_is_found_by_its_hash_and_revoked_once(database: SqlDatabase) -> None:
    token = Token(id="k1", hash="ab" * 32, role=Role.OWNER, subject="jana", created=1, expires=10**13)
    await database.write(lambda r: r.tokens.add(token))
    assert await database.read(lambda r: r.tokens.by_hash("ab" * 32)) == token
    assert await database.read(lambda r: r.tokens.by_hash("cd" * 32)) is None
    assert await database.write(lambda r: r.tokens.revoke("k1", 5))
    assert not await database.write(lambda r: r.tokens.revoke("k1", 6))
    assert await database.read(lambda r: r.tokens.page()) == [dataclasses.replace(token, revoked=5)]
    with pytest.raises(ConflictError):
        await database.write(lambda r: r.tokens.add(dataclasses.replace(token, id="k2")))


async def test_a_remembered_post_keeps_its_first_answer_for_a_week(database: SqlDatabase) -> None:
    await database.write(lambda r: r.tokens.remember("key", "print", 201, "{}", 1_000))
    await database.write(lambda r: r.tokens.remember("key", "other", 409, "no", 2_000))
    assert await database.read(lambda r: r.tokens.remembered("key")) == ("print", 201, "{}")
    await database.write(lambda r: r.tokens.remember("new", "print", 201, "{}", 1_001 + 7 * 24 * HOUR))
    assert await database.read(lambda r: r.tokens.remembered("key")) is None


# --- changes ----------------------------------------------------------------------------------


async def told(feed: ChangeFeed) -> list[tuple[str, str]]:
    """What the feed tells next, waited for."""
    await asyncio.wait_for(feed.event().wait(), 10)
    return feed.take()


async def test_every_save_is_told(town: SqlDatabase) -> None:
    def story(records: Records) -> None:
        records.touchpoints.add_finding(finding())
        records.touchpoints.add(touchpoint("t1"))
        records.touchpoints.write_line(line("l1", owner="jana"))
        records.outbox.add(delivery("d1"))
        records.devices.update(Device(id="van", kind="car"))
        records.devices.put_facts([Facts(device="van")])
        records.devices.put_facts([Facts(device="van"), Facts(device="washer")])
        records.workshops.book(appointment("a1", HOUR))
        records.feedback.ask(Feedback(id="q1", touchpoint="t1", owner="jana", question="csat", asked_at=5))
        records.quarantine.add([message(8)])
        records.touchpoints.save(touchpoint("t1"))
        records.changed("touchpoint", "t2")

    feed = town.watch()
    await town.write(story)
    assert feed.event().is_set()
    assert feed.take() == [
        ("touchpoint", "t1"),
        ("ledger", "jana"),
        ("outbox", "d1"),
        ("device", "van"),
        ("facts", "van"),
        ("facts", ""),
        ("appointment", "a1"),
        ("feedback", "q1"),
        ("quarantine", "8"),
        ("touchpoint", "t2"),
    ]
    assert not feed.event().is_set()
    assert feed.take() == []


async def test_what_another_process_commits_is_told_too_and_in_order(
    town: SqlDatabase, open_database: Open
) -> None:
    other = await open_database()
    feed = town.watch()
    wanted = [("touchpoint", f"{n:03}") for n in range(100)]
    for n, change in enumerate(wanted):
        store = other if n % 3 else town
        await store.write(lambda r, change=change: r.changed(*change))
    heard: list[tuple[str, str]] = []
    while len(heard) < len(wanted):
        heard += await told(feed)
    assert heard == wanted


async def test_a_feed_tells_nothing_of_what_was_before_it_or_was_rolled_back(
    town: SqlDatabase, open_database: Open
) -> None:
    def stumble(records: Records) -> None:
        records.changed("touchpoint", "undone")
        raise RuntimeError

    other = await open_database()
    early = town.watch()
    await other.write(lambda r: r.changed("touchpoint", "before"))
    late = town.watch()
    with pytest.raises(RuntimeError):
        await town.write(stumble)
    await town.write(lambda r: r.changed("touchpoint", "after"))
    assert await told(late) == [("touchpoint", "after")]
    assert await told(early) == [("touchpoint", "before"), ("touchpoint", "after")]


async def test_a_slow_reader_hears_the_same_change_once(town: SqlDatabase) -> None:
    feed = town.watch()
    for key in ("t1", "t2", "t1"):
        await town.write(lambda r, key=key: r.changed("touchpoint", key))
    assert feed.take() == [("touchpoint", "t1"), ("touchpoint", "t2")]


async def test_a_closed_feed_hears_nothing(town: SqlDatabase) -> None:
    closed, running = town.watch(), town.watch()
    closed.close()
    closed.close()
    await town.write(lambda r: r.changed("touchpoint", "t1"))
    assert await told(running) == [("touchpoint", "t1")]
    assert closed.take() == []


async def test_the_changes_that_are_kept_are_bounded_and_who_missed_some_is_told_so(
    town: SqlDatabase, open_database: Open
) -> None:
    def many(records: Records) -> None:
        for n in range(KEEP // 2):
            records.changed("touchpoint", f"{records.position('round')}-{n}")
        records.set_position("round", records.position("round") + 1)

    asleep = town.watch()
    with stopped(town):
        other = await open_database()
        for _ in range(4):
            await other.write(many)
    count = await town.read(
        lambda r: r.transaction.connection.scalar(sa.text("SELECT count(*) FROM changes"))
    )  # type: ignore[attr-defined]
    assert count <= KEEP
    heard = await told(asleep)
    assert heard[0] == EVERYTHING
    assert heard[-1] == ("touchpoint", f"3-{KEEP // 2 - 1}")


@contextmanager
def stopped(database: SqlDatabase) -> Iterator[None]:
    """As if the process had been stopped: it does not look for changes meanwhile."""
    lock = database._changes._lock  # nothing else can stop the poller
    with lock:
        yield


# --- the file ---------------------------------------------------------------------------------


async def test_the_file_is_for_its_user_only(town: SqlDatabase) -> None:
    for path in (town.path, *town.path.parent.glob("domain.db-*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_preparing_again_changes_nothing(town: SqlDatabase) -> None:
    before = sqlite_schema(town.path)
    await town.prepare()
    assert sqlite_schema(town.path) == before
    assert len(await town.read(lambda r: r.owners.page())) == 2


def sqlite_schema(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    finally:
        connection.close()


_PREPARE = """
import asyncio, sys
from gateway.adapters.database import SqlDatabase

async def main():
    database = SqlDatabase(sys.argv[1], now=lambda: 0)
    sys.stdin.read(1)
    await database.prepare()
    await database.write(lambda r: r.set_position("round", r.position("round") + 1))
    await database.close()
    print("alembic" in sys.modules)

asyncio.run(main())
"""


def prepare_in_processes(url: str, how_many: int) -> list[str]:
    """Prepare and write in that many processes at once; whether each had to load Alembic."""
    command = [sys.executable, "-c", _PREPARE, url]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(how_many)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("!")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in running]
    assert [err for _, err in outputs] == [""] * how_many
    return [out.strip() for out, _ in outputs]


def test_processes_that_start_at_once_prepare_the_store_once(url: str, tmp_path: Path) -> None:
    loaded = prepare_in_processes(url, 3)
    assert "True" in loaded
    connection = sqlite3.connect(tmp_path / "domain.db")
    assert connection.execute("SELECT position FROM positions").fetchall() == [(3,)]
    connection.close()


async def test_a_store_that_is_ready_is_prepared_without_alembic(town: SqlDatabase, url: str) -> None:
    assert prepare_in_processes(url, 1) == ["False"]


async def test_findings_are_counted_by_rule_those_in_shadow_too(town: SqlDatabase) -> None:
    def work(records: Records) -> Any:
        at = records.touchpoints
        for name, more in (
            ("f1", {"found_at": 500}),
            ("f2", {"found_at": 2_000}),
            ("f3", {"found_at": 2_100, "device": "bus"}),
            ("f4", {"found_at": 2_200, "rule": "oil", "shadow": True}),
            ("f5", {"found_at": 2_300, "rule": "oil", "shadow": True}),
        ):
            at.add_finding(finding(name, **more))
        for line, found, code, owner in (
            ("l1", "f2", "sent", "jana"),
            ("l2", "f4", "suppressed_shadow", "jana"),
            ("l3", "f5", "suppressed_no_consent", "jana"),
        ):
            at.write_line(LedgerLine(id=line, at=2_000, code=code, owner=owner, finding=found))
        return at.found_by_rule(1_000), at.tried_out(1_000), [f.id for f in at.findings(rule="oil")]

    assert await town.write(work) == (
        {"brake-pads": (2, 2), "oil": (2, 1)},
        {"oil": (1, 1)},
        ["f5", "f4"],
    )


# --- rule sets --------------------------------------------------------------------------------


OLD = Sources(signals=(("car.yaml", "a: 1"),), rules=(("pads.yaml", "- id: pads"),))
NEW = Sources(signals=OLD.signals, rules=(("pads.yaml", "- id: pads # ä"),))


def asked(name: str, sources: Sources, **more: Any) -> Activation:
    return Activation(id=name, rule_set=sources.id, at=1_000, by="signal", rules=1, **more)


async def test_a_rule_set_is_its_texts_and_is_kept_once(town: SqlDatabase) -> None:
    moved = Sources(signals=(("b/car.yaml", "a: 1"),), rules=OLD.rules)
    assert OLD.id == moved.id != NEW.id

    def work(records: Records) -> list[Sources | None]:
        for sources in (OLD, moved, NEW):
            records.rule_sets.keep(sources)
        return [records.rule_sets.sources(name) for name in (OLD.id, NEW.id, "0" * 32)]

    assert await town.write(work) == [OLD, NEW, None]


async def test_a_rule_set_holds_from_its_position_on(town: SqlDatabase) -> None:
    def work(records: Records) -> list[str | None]:
        sets = records.rule_sets
        assert sets.at() is None
        assert sets.asked() is None
        sets.ask(asked("a1", OLD, position=0))
        sets.ask(asked("a2", NEW))
        before = sets.at()
        sets.holds("a2", 40)
        sets.holds("a2", 40)
        found = [sets.at(position) for position in (0, 39, 40, 10**12)]
        return [each.id if each else None for each in (before, *found, sets.at(), sets.asked())]

    assert await town.write(work) == ["a1", "a1", "a1", "a2", "a2", "a2", "a2"]


async def test_a_refused_rule_set_is_told_and_never_holds(town: SqlDatabase) -> None:
    def work(records: Records) -> tuple[list[tuple[str, bool]], list[str | None]]:
        sets = records.rule_sets
        sets.ask(asked("a1", OLD, position=0))
        sets.ask(asked("a2", NEW, faults=("pads.yaml:1:1: no rule",)))
        sets.ask(asked("a3", NEW))
        sets.refuse("a3", ("pads.yaml:2:1: no rule here",))
        last, now = sets.asked(), sets.at()
        told = [(each.id, each.refused) for each in sets.history()]
        return told, [last.id if last else None, now.id if now else None]

    told, holding = await town.write(work)
    assert told == [("a3", True), ("a2", True), ("a1", False)]
    assert holding == ["a1", "a1"]


async def test_how_often_rules_broke_is_added_up(town: SqlDatabase) -> None:
    def work(records: Records) -> Mapping[str, tuple[int, int]]:
        records.rule_sets.broke({"pads": 2, "oil": 1}, 900)
        records.rule_sets.broke({"pads": 3}, 1_000)
        return records.rule_sets.errors()

    assert await town.write(work) == {"pads": (5, 1_000), "oil": (1, 900)}


# --- the schema -------------------------------------------------------------------------------


async def test_the_migrations_lead_to_the_tables_that_the_code_names(town: SqlDatabase) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = sa.create_engine(f"sqlite:///{town.path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(town: SqlDatabase, url: str) -> None:
    await town.write(set_revision("9999"))
    newer = SqlDatabase(url, now=lambda: 0)
    with pytest.raises(DatabaseUnavailableError, match="revision 9999"):
        await newer.prepare()
    await newer.close()
    assert len(await town.read(lambda r: r.owners.page())) == 2


def set_revision(name: str) -> Callable[[Records], Any]:
    statement = f"UPDATE alembic_version SET version_num = '{name}'"
    return lambda r: r.transaction.connection.exec_driver_sql(statement)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost/touchpoint", "postgresql, which is not supported yet"),
        ("sqlite://", "names no file"),
        ("domain.db", "no URL"),
    ],
)
def test_a_url_that_cannot_be_served_is_refused_with_what_can(url: str, said: str) -> None:
    with pytest.raises(DatabaseUnavailableError, match=said):
        SqlDatabase(url, now=lambda: 0)


async def test_a_full_disk_costs_the_transaction_and_nothing_else(town: SqlDatabase) -> None:
    def fill(records: Records) -> None:
        connection = records.transaction.connection  # type: ignore[attr-defined]
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for n in range(1_000):
            records.owners.add(Owner(id=f"o{n}", name="x" * 500))

    with pytest.raises(DatabaseUnavailableError, match="no room"):
        await town.write(fill)
    assert len(await town.read(lambda r: r.owners.page())) == 2
    await town.write(lambda r: r.owners.add(Owner(id="cem", name="Cem")))


async def test_a_store_that_another_process_keeps_locked_is_said_so_and_tried_again(
    town: SqlDatabase, open_database: Open
) -> None:
    hasty = await open_database(patience=0.05)
    other = sqlite3.connect(town.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailableError, match="another process"):
        await hasty.write(lambda r: r.set_position("assess", 1))
    assert await hasty.read(lambda r: r.position("assess")) == 0
    other.close()
    await hasty.write(lambda r: r.set_position("assess", 1))


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_a_file_that_is_no_store_is_said_so(url: str, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "domain.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    database = SqlDatabase(url, now=lambda: 0)
    with pytest.raises(DatabaseUnavailableError, match=str(path)):
        await database.prepare()
    await database.close()


async def test_a_store_that_was_never_prepared_says_which_command_does(url: str) -> None:
    database = SqlDatabase(url, now=lambda: 0)
    with pytest.raises(DatabaseUnavailableError, match="touchpoint setup"):
        await database.read(lambda r: r.owners.page())
    await database.close()


async def test_the_store_is_a_database(database: SqlDatabase) -> None:
    as_port: Database = database
    assert as_port is database


# --- speed ------------------------------------------------------------------------------------

LOOKUPS: dict[str, tuple[str, Callable[[Records], Any]]] = {
    # what is looked up: (the indexes that serve it, the call)
    "due": ("wake", lambda r: r.touchpoints.due(5)),
    "expired": ("expires, sorted", lambda r: r.touchpoints.expired(5)),
    "next wake": ("wake expires", lambda r: r.touchpoints.next_wake()),
    "the live one": ("device", lambda r: r.touchpoints.live_for("van", "brake-pads")),
    "deferred for a device": ("device, sorted", lambda r: r.touchpoints.deferred_for_device("van")),
    "deferred for an owner": ("owner_state", lambda r: r.touchpoints.deferred_for_owner("jana")),
    "who took a finding in": ("findings_finding, sorted", lambda r: r.touchpoints.holding("f1")),
    "contacts": ("owner", lambda r: r.contacts.times("jana", ["service", "survey"], 5)),
    "answers to a rule": ("answered", lambda r: r.paces.answers("brake-pads", 5, 30)),
    "sent of a rule": ("rule_sent", lambda r: r.paces.sent("brake-pads", 5)),
    "the last place of a rule": ("places_rule", lambda r: r.paces.last_place("brake-pads")),
    "recalls to be raised": ("devices_finding", lambda r: r.recalls.waiting(100)),
    "recalls of a device": ("devices_device, sorted", lambda r: r.recalls.of_device("van")),
    "an owner's": ("owner", lambda r: r.touchpoints.page(owner="jana", after="z")),
    "an owner's open ones": ("owner", lambda r: r.touchpoints.page(owner="jana", states=[State.OPEN])),
    "a device's open ones": (
        "device, sorted",
        lambda r: r.touchpoints.page(device="van", states=[State.OPEN]),
    ),
    "an owner's of a rule": ("owner", lambda r: r.touchpoints.page(owner="jana", rule="brake-pads")),
    "by state": ("state", lambda r: r.touchpoints.page(states=[State.OPEN], after="z")),
    "by states": ("state", lambda r: r.touchpoints.page(states=[State.OPEN, State.DEFERRED])),
    "how many of a state": ("wake", lambda r: r.touchpoints.counts((State.OPEN,))),
    "by rule": ("rule", lambda r: r.touchpoints.page(rule="brake-pads")),
    "of a finding": ("finding, sorted", lambda r: r.touchpoints.page(finding="f1")),
    "an owner's ledger": ("owner", lambda r: r.touchpoints.ledger(owner="jana", after="l1")),
    "a touchpoint's ledger": ("touchpoint finding, sorted", lambda r: r.touchpoints.ledger(touchpoint="t1")),
    "a finding's ledger": ("finding", lambda r: r.touchpoints.ledger(finding="f1")),
    "a device's findings": ("device", lambda r: r.touchpoints.findings(device="van")),
    "newest findings": ("found", lambda r: r.touchpoints.findings()),
    "how many wait": ("state", lambda r: r.outbox.counts((DeliveryState.PENDING,))),
    "claim": ("due", lambda r: r.outbox.claim(5, lease_ms=1, limit=9, channels=["web_push", "display"])),
    "next due": ("due", lambda r: r.outbox.next_due(["web_push", "display"])),
    "drop pending": ("touchpoint", lambda r: r.outbox.drop_pending("t1")),
    "a touchpoint's deliveries": ("touchpoint", lambda r: r.outbox.page(touchpoint="t1")),
    "dead letters": ("state", lambda r: r.outbox.page(states=[DeliveryState.DEAD])),
    "attempts": ("delivery", lambda r: r.outbox.attempts("d1")),
    "busy": ("end times_end workshop, sorted", lambda r: r.workshops.busy("nord", 5, 9, 1)),
    "appointments to settle": ("answer remind", lambda r: r.workshops.due_appointments(5)),
    "next appointment to settle": ("answer remind work_answer", lambda r: r.workshops.next_appointment_due()),
    "a workshop's requests": ("pending, sorted", lambda r: r.workshops.pending("nord")),
    "replacement cars": ("end", lambda r: r.workshops.cars_given("nord", 5, 9)),
    "extra work of a visit": ("work_appointment, sorted", lambda r: r.workshops.extras(appointment="a1")),
    "extra work to answer": ("work_owner, sorted", lambda r: r.workshops.extras(owner="jana")),
    "extra work without a word": ("work_answer", lambda r: r.workshops.due_extras(5)),
    "a day's appointments": (
        "end, sorted",
        lambda r: r.workshops.appointments(workshop="nord", start=5, end=9),
    ),
    "an owner's appointments": ("owner", lambda r: r.workshops.appointments(owner="jana")),
    "a device's appointments": ("device", lambda r: r.workshops.appointments(device="van")),
    "a touchpoint's appointments": (
        "touchpoint, sorted",
        lambda r: r.workshops.appointments(touchpoint="t1"),
    ),
    "owner at": ("device", lambda r: r.devices.owner_at("van", 5)),
    "an owner's devices": ("owner", lambda r: r.devices.page(owner="jana")),
    "granted": ("owner", lambda r: r.owners.granted("jana", "maintenance")),
    "quarantine by reason": ("reason", lambda r: r.quarantine.page(reason="not_json")),
    "token": ("hash", lambda r: r.tokens.by_hash("x")),
    "what returns": ("wake", lambda r: r.touchpoints.returning(5)),
    "a link": ("hash", lambda r: r.links.find("x")),
    "links that ended": ("expires", lambda r: r.links.forget(5)),
    "a matter's report": ("reports_touchpoint", lambda r: r.reports.of_touchpoint("t1")),
    "a photo's report": ("reports_photo", lambda r: r.reports.with_photo("p1")),
    "an owner's reports": ("reports_owner", lambda r: r.reports.page(owner="jana", after="z")),
    "a device's reports": ("reports_device", lambda r: r.reports.page(device="van")),
    "who shares a device": ("people_device, sorted", lambda r: r.people.of("van")),
    "what somebody shares": ("people_owner, sorted", lambda r: r.people.parts("jana")),
    "invitations": ("device, sorted", lambda r: r.people.invitations("van")),
    "who looked": ("log_owner", lambda r: r.people.looks("jana")),
    "a shared ledger": (
        "owner device",
        lambda r: r.touchpoints.ledger(owner="jana", shared=[("van", 1, None)]),
    ),
    "what waits for an owner": ("owner, sorted", lambda r: r.outbox.waiting_for("jana")),
}


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_the_right_index_serves_a_lookup_so_that_a_million_rows_do_not_matter(
    town: SqlDatabase, lookup: str
) -> None:
    served, work = LOOKUPS[lookup]
    indexes, _, may_sort = served.partition(", ")
    plan = "\n".join(await town.write(lambda r: query_plan(r, work)))
    # An index on ids only turns the id that a page begins after into its place.
    used = set(re.findall(r"INDEX (?!sqlite_)[a-z]+_([a-z_]+)", plan)) - {"id"}
    assert used == set(indexes.split()), plan
    assert may_sort or "TEMP B-TREE" not in plan, plan
    assert not re.search(r"SCAN \w+$", plan, re.MULTILINE), plan


def query_plan(records: Records, work: Callable[[Records], Any]) -> list[str]:
    """How SQLite goes about every statement of `work`, whoever hands it over."""
    said: list[str] = []
    connection = records.transaction.connection  # type: ignore[attr-defined]
    driver = connection.connection.driver_connection
    driver.set_trace_callback(said.append)
    try:
        work(records)
    finally:
        driver.set_trace_callback(None)
    plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all() for text in said]
    return [row.detail for plan in plans for row in plan]

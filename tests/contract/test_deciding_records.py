"""What deciding keeps, and what a transaction reads once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import JANA, NORD, World, open_world

from gateway.domain.device import Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.household import Part, Person
from gateway.domain.owner import Preferences
from gateway.domain.pace import Pace
from gateway.domain.touchpoint import Finding, services
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def finding(name: str, rule: str) -> Finding:
    return Finding(
        id=name, device="car", rule=rule, version=2, severity="advice", position=1, began_ts=1, found_at=1,
        evidence={"a": 1},
    )  # fmt: skip


async def test_a_touchpoint_is_about_its_own_finding_first_then_about_what_was_taken_in(world: World) -> None:
    await world.found()
    own = await world.touchpoint()

    def work(records: Records) -> None:
        for at, (name, rule, service) in enumerate(
            (("z", "rear", "brakes-rear"), ("a", "front", "brakes-front"), ("z", "rear", "brakes-rear"))
        ):
            one = finding(name, rule)
            records.touchpoints.add_finding(one)
            records.touchpoints.take_in(own.id, one, service, "maintenance", at)

    await world.write(work)
    matters = await world.read(lambda r: r.touchpoints.matters(own.id))
    assert [(m.finding, m.version, m.added_at) for m in matters] == [
        (own.finding, 3, own.created),
        ("z", 2, 0),
        ("a", 2, 1),
    ]
    assert matters[1].evidence == {"a": 1}
    assert services(matters) == ["brakes-front", "brakes-rear"]
    assert [t.id for t in await world.read(lambda r: r.touchpoints.holding("a"))] == [own.id]
    await world.write(lambda r: r.touchpoints.take_out(own.id, "z"))
    assert [m.finding for m in await world.read(lambda r: r.touchpoints.matters(own.id))] == [
        own.finding,
        "a",
    ]
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.touchpoints.matters("nobody"))


async def test_contacts_are_told_apart_by_purse_and_time(world: World) -> None:
    def work(records: Records) -> None:
        for at, purse in ((10, "service"), (30, "survey"), (20, "marketing"), (25, "service")):
            records.contacts.add("jana", purse, at, "t")

    await world.write(work)
    asked: list[tuple[list[str], int]] = [
        (["service", "survey"], 9),
        (["service", "survey"], 10),
        (["marketing"], 0),
    ]
    assert [await world.read(lambda r, p=p, s=s: r.contacts.times("jana", p, s)) for p, s in asked] == [
        [10, 25, 30],
        [25, 30],
        [20],
    ]


async def test_a_pace_is_put_in_place_of_the_one_before(world: World) -> None:
    first = Pace(rule="r", per_day=4, since=1, declined=9, answered=10)
    await world.write(lambda r: r.paces.put(first))
    await world.write(lambda r: r.paces.put(replace(first, per_day=2)))
    assert await world.read(lambda r: r.paces.all()) == [replace(first, per_day=2)]
    await world.write(lambda r: r.paces.remove("r", 5))
    assert await world.read(lambda r: r.paces.get("r")) is None


# --- what a transaction reads once ------------------------------------------------------------


def writes(records: Records) -> dict[str, Any]:
    """{what: (how it is read, how it is written)}, all of jana and her car."""
    everybody = records.owners, records.devices, records.workshops
    owners, devices, workshops = everybody
    tom = Person(device="car", owner="tom", role=Part.MEMBER, asked=True, may_answer=True, sees=True, since=0)
    return {
        "owner": (lambda: owners.get("jana"), lambda: owners.update(replace(JANA, name="J."))),
        "preferences": (
            lambda: owners.preferences("jana"),
            lambda: owners.prefer("jana", Preferences(weekly_budget=7)),
        ),
        "device": (
            lambda: devices.find("car"),
            lambda: devices.update(replace(devices.get("car"), name="Other")),
        ),
        "owner of the device": (lambda: devices.people("car"), lambda: devices.transfer("car", None, 5)),
        "people": (lambda: devices.people("car"), lambda: records.people.join(tom)),
        "facts": (
            lambda: devices.facts("car"),
            lambda: devices.put_facts([Facts(device="car", last_seen=5, moving=True)]),
        ),
        "workshop": (lambda: workshops.get("nord"), lambda: workshops.put(replace(NORD, name="Other"))),
        "contacts": (
            lambda: records.contacts.times("jana", ["service"], 0),
            lambda: records.contacts.add("jana", "service", 5, "t"),
        ),
        "pace": (
            lambda: records.paces.get("r"),
            lambda: records.paces.put(Pace(rule="r", per_day=1, since=1, declined=1, answered=1)),
        ),
    }


KEPT = (
    "owner", "preferences", "device", "owner of the device", "people", "facts", "workshop", "contacts",
    "pace",
)  # fmt: skip


class Back(Exception):
    """Taken back."""


@pytest.mark.parametrize("what", KEPT)
async def test_what_was_read_is_read_again_after_it_was_written_and_after_that_was_taken_back(
    world: World, what: str
) -> None:
    await world.write(lambda r: r.owners.add(replace(JANA, id="tom")))

    def work(records: Records) -> None:
        read, write = writes(records)[what]
        before = read()
        try:
            with records.savepoint():
                write()
                assert read() != before
                raise Back
        except Back:
            pass
        assert read() == before
        write()
        assert read() != before

    await world.write(work)

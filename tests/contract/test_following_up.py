"""What the records of following up promise; and that a million past touchpoints do not matter to them."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, MONDAY_MORNING, World, open_world

from gateway.domain.case import Case, CaseKind, CaseState, Note
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.feedback import AskState, Feedback
from gateway.domain.measures import Tally
from gateway.domain.result import Result
from gateway.ports import Records

NOW = MONDAY_MORNING
TODAY = NOW // DAY


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        yield opened


def case(name: str, **more: Any) -> Case:
    about: dict[str, Any] = {"kind": CaseKind.COMPLAINT, "owner": "jana", "responsible": "after-sales"}
    return Case(id=name, **(about | {"opened_at": NOW, "due_at": NOW + DAY} | more))


def question(name: str, **more: Any) -> Feedback:
    about: dict[str, Any] = {"touchpoint": None, "owner": "jana", "question": "nps", "asked_at": NOW}
    return Feedback(id=name, **(about | more))


async def result(world: World, **more: Any) -> Result:
    touchpoint = await world.touchpoint()
    about: dict[str, Any] = {
        "touchpoint": touchpoint.id, "appointment": "a", "workshop": "nord", "owner": "jana", "device": "car",
        "kind": "car", "rules": ("brake-pads-front-worn",), "services": ("brakes-front",),
        "done_at": NOW, "look_at": NOW + 14 * DAY,
    }  # fmt: skip
    return Result(**(about | more))


# --- cases ------------------------------------------------------------------------------------


async def test_a_case_comes_back_as_it_was_put(world: World) -> None:
    whole = case(
        "c1",
        text="It squeals.",
        data={"score": 2, "job": {"parts": ["a"]}},
        device="car",
        workshop="nord",
        history=(Note(at=NOW, by="system", what="opened"),),
    )
    await world.write(lambda r: r.cases.add(whole))
    assert await world.read(lambda r: r.cases.get("c1")) == whole
    with pytest.raises(ConflictError):
        await world.write(lambda r: r.cases.add(whole))
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.cases.get("none"))


async def test_a_closed_case_does_not_open_again(world: World) -> None:
    await world.write(lambda r: r.cases.add(case("c1", state=CaseState.CLOSED)))
    with pytest.raises(ConflictError):
        await world.write(lambda r: r.cases.save(case("c1", state=CaseState.OPEN)))


async def test_pages_of_cases_follow_one_another(world: World) -> None:
    await world.write(lambda r: [r.cases.add(case(f"c{n}")) for n in range(5)])
    first = await world.read(lambda r: r.cases.page(owner="jana", limit=2))
    rest = await world.read(lambda r: r.cases.page(owner="jana", after=first[-1].id))
    assert [c.id for c in (*first, *rest)] == ["c4", "c3", "c2", "c1", "c0"]


# --- questions --------------------------------------------------------------------------------


async def test_waiting_questions_are_due_in_their_order_and_no_other_ones(world: World) -> None:
    def work(records: Records) -> None:
        records.feedback.ask(question("later", state=AskState.WAITING, asked_at=NOW + 2))
        records.feedback.ask(question("soon", state=AskState.WAITING, asked_at=NOW + 1))
        records.feedback.ask(question("asked"))
        records.feedback.ask(question("dropped", state=AskState.DROPPED))

    await world.write(work)
    assert [f.id for f in await world.read(lambda r: r.feedback.due(NOW + 1))] == ["soon"]
    assert [f.id for f in await world.read(lambda r: r.feedback.due(NOW + 9))] == ["soon", "later"]
    assert await world.read(lambda r: r.feedback.next_due()) == NOW + 1


async def test_nps_is_planned_once_an_owner(world: World) -> None:
    assert await world.write(lambda r: r.feedback.plan_nps("jana", "car", NOW + 5))
    assert not await world.write(lambda r: r.feedback.plan_nps("jana", "washer", NOW + 1))
    assert await world.read(lambda r: r.feedback.nps("jana")) == ("car", NOW + 5)
    assert await world.read(lambda r: r.feedback.due_nps(NOW + 4)) == []
    assert await world.read(lambda r: r.feedback.due_nps(NOW + 5)) == [("jana", "car")]
    await world.write(lambda r: r.feedback.move_nps("jana", None))
    assert await world.read(lambda r: r.feedback.nps("jana")) is None


# --- results ----------------------------------------------------------------------------------


async def test_a_result_is_kept_once_and_looked_at_when_its_time_comes(world: World) -> None:
    one = await result(world)
    await world.write(lambda r: r.results.add(one))
    await world.write(lambda r: r.results.add(replace(one, workshop="other")))
    assert await world.read(lambda r: r.results.get(one.touchpoint)) == one
    assert await world.read(lambda r: r.results.due(one.look_at - 1)) == []
    assert await world.read(lambda r: r.results.due(one.look_at)) == [one]
    known = replace(one, helped=False, messages=3, contacts=2)
    await world.write(lambda r: r.results.save(known))
    assert await world.read(lambda r: r.results.due(one.look_at)) == []
    assert await world.read(lambda r: r.results.of_device("car", NOW)) == [known]
    assert await world.read(lambda r: r.results.of_device("car", NOW + 1)) == []
    assert await world.read(lambda r: r.results.efforts(NOW, NOW + 1)) == (1, 3, 2)
    kept = await world.read(lambda r: r.results.promises(NOW, NOW + 1))
    assert kept["fixed"] == (0, 1)
    assert await world.read(lambda r: r.results.promises_by_workshop(NOW, NOW + 1)) == [
        (one.workshop, 1, kept)
    ]
    assert await world.read(lambda r: r.results.promises_by_workshop(NOW + 1, NOW + 2)) == []


# --- measured days ----------------------------------------------------------------------------


async def test_what_was_measured_of_a_day_takes_the_place_of_what_was_there(world: World) -> None:
    old, new = Tally(counts={"found": 1}), Tally(counts={"found": 2}, times={"sent": {"3": 2}})

    def work(records: Records) -> None:
        records.analytics.keep(TODAY, 0, {("rule", "a"): old, ("all", ""): old}, None)
        records.analytics.keep(TODAY, 0, {("rule", "b"): new}, None)

    await world.write(work)
    assert await world.read(lambda r: list(r.analytics.measured("rule", TODAY, TODAY))) == [
        (TODAY, "b", {"found": 2}, {"sent": {"3": 2}})
    ]
    assert await world.read(lambda r: list(r.analytics.measured("all", TODAY, TODAY))) == []


async def test_a_leased_day_is_due_again_when_its_lease_ends_or_something_changes(world: World) -> None:
    stale = lambda at: world.read(lambda r: r.analytics.stale(at))  # noqa: E731
    assert await stale(NOW) == [(TODAY, NOW)]
    await world.write(lambda r: r.analytics.lease(TODAY, NOW + 100))
    assert await stale(NOW + 99) == []
    assert await stale(NOW + 100) == [(TODAY, NOW + 100)]
    await world.found("descale-due", device="washer")
    assert await stale(NOW + 1) == [(TODAY, NOW + 1)]
    await world.write(lambda r: r.analytics.keep(TODAY, NOW + 100, {}, None))
    assert await stale(NOW + 1) == [(TODAY, NOW + 1)]


# --- indexes ----------------------------------------------------------------------------------

LOOKUPS: dict[str, tuple[str, Callable[[Records], Any]]] = {
    "pending cases": ("due", lambda r: r.cases.pending()),
    "a workshop's pending cases": ("workshop", lambda r: r.cases.pending(workshop="nord")),
    "a matter's case": ("touchpoint", lambda r: r.cases.page(touchpoint="t", kind=CaseKind.COMPLAINT)),
    "an owner's cases": ("owner", lambda r: r.cases.page(owner="jana")),
    "due questions": ("due", lambda r: r.feedback.due(5)),
    "the next question": ("due at", lambda r: r.feedback.next_due()),
    "due nps": ("at", lambda r: r.feedback.due_nps(5)),
    "results to look at": ("look", lambda r: r.results.due(5)),
    "promises": ("done", lambda r: r.results.promises(1, 5)),
    "promises by workshop": ("done", lambda r: r.results.promises_by_workshop(1, 5)),
    "contacts": ("about", lambda r: r.results.contacts(["t", "q"])),
    "messages": ("touchpoint", lambda r: r.results.messages("t")),
    "scores": ("scores", lambda r: r.analytics.scores(1, 5)),
}


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_an_index_serves_every_lookup(world: World, lookup: str) -> None:
    served, work = LOOKUPS[lookup]
    plan = "\n".join(await world.write(lambda r: query_plan(r, work)))
    used = set(re.findall(r"INDEX (?!sqlite_)[a-z]+(?:_due)?_([a-z_]+)", plan)) - {"id"}
    assert used == set(served.split()), plan
    assert not re.search(r"SCAN \w+$", plan, re.MULTILINE), plan


async def test_one_days_findings_are_looked_up_and_nothing_is_scanned(world: World) -> None:
    def work(records: Records) -> None:
        list(records.analytics.day(TODAY))
        records.analytics.worse(TODAY, 60 * DAY)
        list(records.analytics.measured("rule", TODAY, TODAY))

    plan = "\n".join(await world.write(lambda r: query_plan(r, work)))
    assert "SCAN" not in plan, plan
    assert "findings_found" in plan


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

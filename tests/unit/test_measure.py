"""What became of findings: the funnel, the times between, the hold-out, promises."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, HOUR, MINUTE, MONDAY_MORNING, RULES, World, at, open_world, rule

from gateway.domain.measures import Tally, difference, quantile, wilson
from gateway.domain.touchpoint import Finding
from gateway.flow import follow_up, measure, outgoing
from gateway.flow.afterwards import Afterwards
from gateway.flow.measure import FunnelLine, Measures
from gateway.ports import Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")
YEAR = 366 * DAY


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        yield opened


async def funnel(world: World, by: str = "rule") -> dict[str, FunnelLine]:
    lines = await world.read(
        lambda r: measure.funnel(r, by, MONDAY_MORNING - YEAR, world.now + DAY, world.now, world.policy)
    )
    return {line.key: line for line in lines}


async def whole_life(world: World) -> None:
    """Found at 9:00, answered an hour later, booked for Tuesday, done there."""
    await world.found()
    world.go_to(world.now + HOUR)
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    world.go_to(TUESDAY_8 + HOUR)
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(follow_up.done, appointment.id, {"price": 200}, world.now, world.policy)


async def loop_once(world: World) -> None:
    """What the loop does when its time comes."""
    afterwards = Afterwards(world.database, world.clock, world.policy)
    while await afterwards.step():
        pass


# --- the funnel -------------------------------------------------------------------------------


async def test_a_finding_is_counted_at_every_step_that_it_reached(world: World) -> None:
    await whole_life(world)
    line = (await funnel(world))["brake-pads-front-worn"]
    assert [line.counts.get(step, 0) for step in ("found", "sent", "seen", "answered", "booked", "done")] == [
        1
    ] * 6
    assert "helped" not in line.counts
    world.go_to(world.now + 14 * DAY)
    await loop_once(world)
    assert (await funnel(world))["brake-pads-front-worn"].counts["helped"] == 1


async def test_times_between_are_true_to_a_fortieth(world: World) -> None:
    await whole_life(world)
    times = (await funnel(world))["brake-pads-front-worn"].times
    assert times["answered"].since == "sent"
    assert times["answered"].median_ms == pytest.approx(HOUR, rel=0.025)
    assert times["done"].median_ms == pytest.approx(TUESDAY_8 - MONDAY_MORNING, rel=0.025)


async def test_it_belongs_to_the_day_it_was_found_on_however_late_it_is_done(world: World) -> None:
    await whole_life(world)
    days = await world.read(
        lambda r: measure.funnel(r, "rule", MONDAY_MORNING, MONDAY_MORNING + 1, world.now, world.policy)
    )
    assert days[0].counts["done"] == 1
    later = await world.read(
        lambda r: measure.funnel(r, "rule", world.now, world.now + DAY, world.now, world.policy)
    )
    assert later == []


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("rule", "brake-pads-front-worn"),
        ("kind", "car"),
        ("model", ""),
        ("firmware", "12.4.0"),
        ("week", "2026-W48"),
    ],
)
async def test_it_can_be_seen_by_rule_product_and_week(world: World, by: str, key: str) -> None:
    await world.found()
    lines = await funnel(world, by)
    assert lines[key].counts == {"found": 1, "sent": 1, "silent": 1}


async def test_what_the_owner_did_is_told_apart(world: World) -> None:
    await world.found()
    await world.answers("not_now")
    await world.found("descale-due", device="washer")
    world.go_to(world.now + HOUR)
    await world.answers("already_done")
    await world.found("tried-out", shadow=True)
    lines = await funnel(world)
    assert lines["brake-pads-front-worn"].counts["declined"] == 1
    assert lines["descale-due"].counts["done"] == 1
    assert "tried-out" not in lines


async def test_a_bundled_finding_has_the_story_of_its_visit(world: World) -> None:
    await world.found()
    touchpoint = await world.touchpoint()
    second = Finding(
        id="second", device="car", rule="brake-pads-rear-worn", version=3, severity="advice",
        position=9, began_ts=world.now, found_at=world.now,
    )  # fmt: skip

    def join(records: Records) -> None:
        records.touchpoints.add_finding(second)
        records.touchpoints.take_in(touchpoint.id, second, "brakes-rear", "maintenance", world.now)

    await world.write(join)
    world.go_to(world.now + HOUR)
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    assert (await funnel(world))["brake-pads-rear-worn"].counts["booked"] == 1


# --- days that are kept -----------------------------------------------------------------------


async def test_what_the_loop_kept_is_what_looking_again_gives(world: World) -> None:
    await whole_life(world)
    live = await funnel(world)
    await loop_once(world)
    assert await world.read(lambda r: r.analytics.stale(world.now)) == []
    kept = await world.read(lambda r: list(r.analytics.measured("rule", 0, 10**6)))
    assert [(key, counts["done"]) for _, key, counts, _ in kept] == [("brake-pads-front-worn", 1)]
    assert await funnel(world) == live


async def test_a_day_is_out_of_date_as_soon_as_something_on_it_changes(world: World) -> None:
    await world.found()
    await loop_once(world)
    world.go_to(world.now + 3 * DAY)
    await world.answers("not_now")
    stale = await world.read(lambda r: r.analytics.stale(world.now))
    assert [day for day, _ in stale] == [MONDAY_MORNING // DAY]


async def test_a_change_while_a_day_is_measured_is_not_lost(world: World) -> None:
    await world.found()
    days = await world.write(lambda r: measure.lease(r, world.now))
    measured = [await world.read(lambda r: measure.measure_day(r, days[0], world.now, world.policy))]
    world.go_to(world.now + MINUTE)
    await world.answers("not_now")
    await world.write(lambda r: measure.keep(r, measured, world.now - MINUTE))
    assert await world.read(lambda r: r.analytics.stale(world.now)) != []
    await loop_once(world)
    assert (await funnel(world))["brake-pads-front-worn"].counts["declined"] == 1


# --- the hold-out -----------------------------------------------------------------------------


async def measures(world: World) -> Measures:
    return await world.read(
        lambda r: measure.measures(r, MONDAY_MORNING - YEAR, world.now + DAY, world.now, world.policy)
    )


def finding(name: str, rule_id: str, at: int, **more: object) -> Finding:
    plain = {
        "id": name, "device": f"car-{name}", "rule": rule_id, "version": 3, "severity": "advice",
        "position": 1, "began_ts": at, "found_at": at,
    }  # fmt: skip
    return Finding(**(plain | more))  # type: ignore[arg-type]


async def test_held_out_findings_are_compared_with_those_sent_when_both_were_watched(world: World) -> None:
    """One was sent and repaired; of two held out one broke down (a worse finding on the same signal), and one
    ended by itself."""
    failing = rule("brake-failure", severity="critical", service=None)
    world.policy = replace(world.policy, rules={**RULES, "brake-failure": failing})
    await whole_life(world)

    def hold_out(records: Records) -> None:
        for name in ("broke", "ended"):
            records.touchpoints.add_finding(finding(name, "brake-pads-front-worn", MONDAY_MORNING))
            outgoing.write_line(records, "held_out", MONDAY_MORNING, owner="jana", finding=name)
        worse = {"device": "car-broke", "severity": "critical"}
        records.touchpoints.add_finding(finding("x", "brake-failure", MONDAY_MORNING + 9 * DAY, **worse))
        records.touchpoints.clear_finding("ended", MONDAY_MORNING + 20 * DAY)

    await world.write(hold_out)
    assert (await measures(world)).effects == ()
    world.go_to(MONDAY_MORNING + 62 * DAY)
    together, brakes = (await measures(world)).effects
    assert (together.rule, brakes.rule) == ("", "brake-pads-front-worn")
    assert (brakes.told.good, brakes.told.of, brakes.told_failed) == (1, 1, 0)
    assert (brakes.held.good, brakes.held.of, brakes.held_failed) == (1, 2, 1)
    assert brakes.difference is not None
    assert brakes.difference[0] < 0.5 < brakes.difference[1]


@pytest.mark.parametrize(("severity", "purpose"), [("warning", "maintenance"), ("advice", "safety")])
async def test_warnings_and_safety_are_never_compared(world: World, severity: str, purpose: str) -> None:
    world.policy = replace(world.policy, rules={"r": rule("r", severity=severity, purpose=purpose)})

    def found(records: Records) -> None:
        records.touchpoints.add_finding(finding("f", "r", MONDAY_MORNING, severity=severity))
        outgoing.write_line(records, "held_out", MONDAY_MORNING, owner="jana", finding="f")

    await world.write(found)
    world.go_to(MONDAY_MORNING + 62 * DAY)
    assert (await measures(world)).effects == ()


# --- promises and effort ----------------------------------------------------------------------


async def test_promises_and_messages_are_counted_of_jobs(world: World) -> None:
    await whole_life(world)
    world.go_to(world.now + 15 * DAY)
    await loop_once(world)
    found = await measures(world)
    assert {name: (s.good, s.of) for name, s in found.promises.items()} == {
        "time": (1, 1),
        "price": (1, 1),
        "fixed": (1, 1),
    }
    (nord,) = found.workshops
    assert (nord.workshop, nord.name, nord.jobs) == ("nord", "Autohaus Nord", 1)
    assert nord.promises == found.promises
    assert (found.matters, found.contacts) == (1, 2)  # the offer, and one question


# --- arithmetic -------------------------------------------------------------------------------


def test_quantiles_of_a_sketch_are_true_to_a_fortieth() -> None:
    tally = Tally()
    for seconds in range(1, 1001):
        tally.time("sent", seconds * 1000)
    assert quantile(tally.times["sent"], 0.5) == pytest.approx(500_000, rel=0.025)
    assert quantile(tally.times["sent"], 0.9) == pytest.approx(900_000, rel=0.025)
    assert quantile({}, 0.5) is None


def test_sketches_of_parts_add_up_to_that_of_the_whole() -> None:
    parts, whole = (Tally(), Tally()), Tally()
    for ms in (5, 1_000, 90_000, 86_400_000):
        parts[ms % 2].time("sent", ms)
        whole.time("sent", ms)
    parts[0].add(parts[1].counts, parts[1].times)
    assert parts[0] == whole


@pytest.mark.parametrize(
    ("good", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_wilsons(good: int, of: int, low: float, high: float) -> None:
    """Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3."""
    interval = wilson(good, of)
    assert interval is not None
    assert interval == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """Newcombe (1998), Interval estimation for the difference, table II, method 10: 56/70 − 48/80."""
    interval = difference(56, 70, 48, 80)
    assert interval is not None
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference(0, 0, 1, 2) is None
    assert wilson(0, 0) is None
    assert math.isclose(wilson(10, 10)[1], 1.0)  # type: ignore[index]

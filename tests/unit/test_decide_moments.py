"""What was measured long ago, what rules do that are mostly declined, and what is told to nobody by lot."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import (
    DAY,
    HOUR,
    MINUTE,
    MONDAY_MORNING,
    RULES,
    SIGNALS,
    SUNDAY_NIGHT,
    TEXTS,
    World,
    at,
    open_world,
    rule,
)

from gateway.domain.device import Device, Facts
from gateway.domain.owner import Consent, Owner
from gateway.domain.pace import Pace
from gateway.domain.policy import RuleInfo
from gateway.domain.touchpoint import Answer, Finding, State
from gateway.flow import decide, pace, respond
from gateway.ports import Records
from rules import RuleErrors, load

FRONT = "brake-pads-front-worn"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, SUNDAY_NIGHT) as opened:
        yield opened


# --- what was measured long ago ---------------------------------------------------------------


async def late(world: World, days: float, **changes: Any) -> str:
    """A finding by a reading so many days old."""
    measured = world.now - int(days * DAY)
    return await world.found(began_ts=measured, evidence={"pad_wear_front": 95, "ts": measured}, **changes)


async def reads(world: World, ts: int) -> None:
    """The newest reading of the pads is of then."""
    facts = Facts(device="car", last_seen=world.now, latest={"pad_wear_front": (ts, 95.5)})
    await world.write(lambda records: records.devices.put_facts([facts]))


async def test_what_an_old_reading_says_is_told_when_the_newest_one_says_the_same(world: World) -> None:
    await reads(world, world.now - MINUTE)
    assert await late(world, 20) == "send"


async def test_a_newer_reading_is_waited_for_and_decides(world: World) -> None:
    await reads(world, world.now - 20 * DAY)
    assert await late(world, 20) == "defer"
    assert "what was measured is from Tuesday, 3 November" in (await world.story())[-1]
    world.go_to(world.now + 10 * MINUTE)
    await reads(world, world.now)
    world.go_to(world.now + 5 * MINUTE)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN


async def test_without_a_newer_reading_it_stands_in_the_ledger_only(world: World) -> None:
    await world.subscribes()
    assert await late(world, 20) == "defer"
    world.go_to(world.now + 15 * MINUTE)
    await world.timers()
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert await world.codes() == ["found", "not_sent_old", "withdrawn_too_old"]
    assert await world.queued("web_push") == []


async def test_what_the_newer_reading_refutes_is_withdrawn(world: World) -> None:
    await late(world, 20)
    await world.cleared()
    assert (await world.codes())[-1] == "withdrawn_untrue"


async def test_a_rule_says_how_old_its_readings_may_be(world: World) -> None:
    world.policy = replace(world.policy, rules=RULES | {FRONT: rule(max_age_ms=HOUR)})
    assert await late(world, 0.5) == "defer"
    world.policy = replace(world.policy, rules=RULES | {FRONT: rule(max_age_ms=30 * DAY)})
    assert await late(world, 20, device="car", owner="jana") == "merge"


async def test_a_car_that_has_stood_for_weeks_since_it_was_found_is_told_of(world: World) -> None:
    """What counts is how old a reading was when it reached us."""
    await world.wishes(weekly_budget=1)
    await world.found("oil-low")
    assert await world.found() == "defer"
    world.go_to(world.now + 7 * DAY + HOUR)
    world.policy = replace(world.policy, max_age_ms=DAY)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN


# --- done meanwhile ---------------------------------------------------------------------------


async def test_what_was_measured_before_the_owner_had_it_done_is_not_told(world: World) -> None:
    await world.found()
    await world.answers("already_done")
    world.go_to(world.now + HOUR)
    measured = world.now - 2 * HOUR
    assert await world.found(began_ts=measured, evidence={"pad_wear_front": 95, "ts": measured}) == "suppress"
    assert (await world.codes())[-1] == "suppressed_already_done"


# --- danger -----------------------------------------------------------------------------------


async def test_danger_goes_everywhere_at_once_whatever_channels_are_wanted(night: World) -> None:
    await night.subscribes()
    await night.wishes(channels=(), weekly_budget=0)
    assert await night.found("water-in-base", "washer") == "send"
    assert len(await night.queued("web_push")) == 1
    assert len(await night.queued("display")) == 1


async def test_danger_in_use_is_on_the_cars_display_whatever_channels_are_wanted(night: World) -> None:
    await night.subscribes()
    await night.wishes(channels=())
    await night.drives()
    assert await night.found("coolant-too-hot") == "send"
    assert len(await night.queued("display")) == 1
    assert await night.queued("web_push") == []


async def test_a_rule_may_say_that_it_is_shown_at_the_wheel_and_then_no_phone_rings(world: World) -> None:
    border = rule("border", touchpoint_kind="hint", service=None, while_driving=True, resets=())
    world.policy = replace(world.policy, rules=RULES | {"border": border})
    await world.subscribes()
    await world.drives()
    assert await world.found("border") == "send"
    assert len(await world.queued("display")) == 1
    assert await world.queued("web_push") == []
    assert (await world.story())[-1].startswith(
        "Shown at 9:00 on the Arden 5’s display, for you were driving. Your phone stays silent."
    )


async def test_not_even_the_display_at_night(night: World) -> None:
    border = rule("border", touchpoint_kind="hint", service=None, while_driving=True, resets=())
    night.policy = replace(night.policy, rules=RULES | {"border": border})
    await night.drives()
    assert await night.found("border") == "defer"
    assert (await night.touchpoint()).waits_for == "not_sent_quiet_hours"


# --- by lot -----------------------------------------------------------------------------------


async def test_by_lot_some_products_are_told_nothing_and_their_owner_can_read_why(world: World) -> None:
    world.policy = replace(world.policy, hold_out_percent=100.0)
    assert await world.found() == "suppress"
    assert await world.codes() == ["found", "held_out"]
    assert "left out by lot" in (await world.story())[-1]


async def test_never_where_safety_is_at_stake(world: World) -> None:
    world.policy = replace(
        world.policy, hold_out_percent=100.0, rules=RULES | {"light": rule("light", severity="warning")}
    )
    assert await world.found("light") == "send"
    assert await world.found("water-in-base", "washer") == "send"


async def test_the_lot_falls_on_about_so_many_and_always_on_the_same(world: World) -> None:
    world.policy = replace(world.policy, hold_out_percent=20.0)
    names = [f"van-{n}" for n in range(150)]

    def many(records: Records) -> None:
        for name in names:
            records.owners.add(Owner(id=name, name=name))
            entry = Consent(owner=name, purpose="maintenance", granted=True, at=0, source="owner")
            records.owners.consent(entry)
            records.devices.add(Device(id=name, kind="car", owner=name))

    await world.write(many)
    out = [name for name in names if await world.found(device=name, owner=name) == "suppress"]
    assert 15 <= len(out) <= 45
    assert [n for n in names if await world.found("oil-low", device=n, owner=n) == "suppress"] != out


# --- the pace of a rule -----------------------------------------------------------------------


async def fleet(world: World, count: int) -> None:
    def many(records: Records) -> None:
        for n in range(count):
            records.owners.add(Owner(id=f"o-{n}", name=f"Owner {n}", language="en"))
            entry = Consent(owner=f"o-{n}", purpose="maintenance", granted=True, at=0, source="owner")
            records.owners.consent(entry)
            records.devices.add(Device(id=f"van-{n}", kind="car", owner=f"o-{n}"))

    await world.write(many)


async def found(world: World, *numbers: int) -> list[str]:
    """The rule becomes true for these vans; gives the outcomes."""

    def work(records: Records) -> list[str]:
        outcomes = []
        for n in numbers:
            finding = Finding(
                id=f"{world.now}-{n}", device=f"van-{n}", rule="oil-low", version=1, severity="advice",
                position=n, began_ts=world.now, found_at=world.now,
            )  # fmt: skip
            records.touchpoints.add_finding(finding)
            outcomes.append(decide.decide(records, finding, f"o-{n}", world.now, world.policy))
        return outcomes

    return await world.write(work)


async def answered(world: World, numbers: range, action: str) -> None:
    """So many vans' owners answer."""

    def work(records: Records) -> None:
        for n in numbers:
            (asked,) = records.touchpoints.page(device=f"van-{n}", states=(State.OPEN,))
            given = Answer(action=action, channel="page", at=world.now, by=asked.owner)
            respond.answer(records, asked.id, given, world.now, world.policy)

    await world.write(work)


async def slow(world: World, rule_id: str = "oil-low") -> Pace | None:
    return await world.read(lambda r: r.paces.get(rule_id))


@pytest.fixture
async def disliked(world: World) -> World:
    """A rule whose last 10 answers were mostly "not now": 84 were sent in four weeks."""
    world.policy = replace(world.policy, pace_answers=10)
    await fleet(world, 130)
    await found(world, *range(84))
    await answered(world, range(4), "noted")
    await answered(world, range(4, 9), "not_now")
    assert await slow(world) is None
    await answered(world, range(9, 10), "never")
    world.go_to(world.now + MINUTE)
    return world


async def may_send(world: World, per_day: int) -> None:
    await world.write(lambda r: r.paces.put(replace(must(r.paces.get("oil-low")), per_day=per_day)))


async def test_a_rule_that_is_mostly_declined_sends_half_as_many_a_day(disliked: World) -> None:
    world, slowed = disliked, must(await slow(disliked))
    assert (slowed.per_day, slowed.declined, slowed.answered) == (1, 6, 10)  # 84 in 28 days are 3 a day
    assert await found(world, 90, 91, 92, 93) == ["send", "defer", "defer", "defer"]
    waiting = sorted(t.wake_at or 0 for t in await world.touchpoints() if t.waits_for == pace.CODE)
    midnight = at("2026-11-24T00:00+00:00")
    assert waiting == [midnight, midnight + DAY, midnight + 2 * DAY]
    assert (await world.story())[-1].startswith("Not sent at 9:01: most people decline this message")
    world.go_to(midnight + 8 * HOUR)
    await world.timers()
    states = {t.device: t.state for t in await world.touchpoints()}
    assert [states[f"van-{n}"] for n in (91, 92, 93)] == [State.OPEN, State.DEFERRED, State.DEFERRED]


async def test_warnings_danger_and_recalls_are_never_slowed(disliked: World) -> None:
    world = disliked
    graver = rule("oil-low", severity="warning", touchpoint_kind="hint", service=None)
    world.policy = replace(world.policy, rules=RULES | {"oil-low": graver})
    for n in (90, 91, 92):
        assert await world.found("oil-low", device=f"van-{n}", owner=f"o-{n}") == "send"
    assert not pace.applies(rule(severity="advice", purpose="recall"), "advice")
    assert not pace.applies(rule(), "critical")


async def test_it_recovers_when_fewer_decline_and_what_waited_is_decided_at_once(disliked: World) -> None:
    world = disliked
    await may_send(world, 10)
    assert set(await found(world, *range(90, 100))) == {"send"}
    assert await found(world, 100) == ["defer"]
    (waiting,) = (t.id for t in await world.touchpoints() if t.device == "van-100")
    await answered(world, range(90, 100), "noted")
    assert await slow(world) is None
    await world.timers()
    assert (await world.read(lambda r: r.touchpoints.get(waiting))).state is State.OPEN


async def test_it_is_given_another_chance_after_four_weeks_though_nobody_answered(disliked: World) -> None:
    world = disliked
    world.go_to(must(await slow(world)).ends)
    assert await found(world, 90, 91) == ["send", "send"]
    await world.timers()
    assert await slow(world) is None


async def test_it_slows_down_again_while_it_is_still_declined(disliked: World) -> None:
    world = disliked
    await may_send(world, 40)
    await found(world, *range(90, 100))
    await answered(world, range(90, 100), "not_now")
    assert must(await slow(world)).per_day == 20


def must(found: Pace | None) -> Pace:
    assert found is not None
    return found


# --- the owner first --------------------------------------------------------------------------


async def test_every_finding_that_can_be_read_stands_in_its_owners_ledger_shadow_ones_included(
    world: World,
) -> None:
    await world.agrees("maintenance", granted=False)
    for rule_id in ("tried-out", "gone", FRONT):
        await world.found(rule_id)
    await world.found("water-in-base", "washer")

    def look(records: Records) -> list[tuple[str, str | None]]:
        """What any page or endpoint reads of findings, each with the owner of its first ledger line."""
        found = records.touchpoints.findings()
        return [(f.rule, records.touchpoints.ledger(finding=f.id)[-1].owner) for f in found]

    assert await world.read(look) == [(r, "jana") for r in ("water-in-base", FRONT, "gone", "tried-out")]


async def test_a_finding_whose_line_cannot_be_written_is_not_there_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(decide, "_found", broken)
    with pytest.raises(OSError, match="disk full"):
        await world.found()
    assert await world.read(lambda r: r.touchpoints.findings()) == []


async def test_what_was_decided_for_monday_survives_a_restart(night: World) -> None:
    await night.found()
    again = type(night.database)(f"sqlite:///{night.database.path}", now=night.clock.now)
    due = await again.read(lambda r: r.touchpoints.next_wake())
    await again.close()
    assert due == at("2026-11-23T07:00+01:00")
    assert due < MONDAY_MORNING


# --- words ------------------------------------------------------------------------------------


def test_every_reason_has_its_sentence() -> None:
    """In every language, for test_config_messages.py holds them together."""
    text = Path(decide.__file__).read_text(encoding="utf-8") + Path(pace.__file__).read_text(encoding="utf-8")
    reasons = set(re.findall(r'Suppress\("(\w+)"', text)) | {"no_marketing", decide.REPAIRED_LATELY}
    reasons.discard("held_out")
    codes = {f"{how}_{reason}" for reason in reasons for how in ("suppressed", "withdrawn")}
    codes |= set(
        re.findall(r'"(not_sent_\w+|moved_\w+|sent\w*|shown\w*|bundled\w*|gave_way|went_first)"', text)
    )
    codes |= {"held_out", "merged", "already_booked", "withdrawn_bundled"}
    codes |= {f"partly_{why}" for why in ("untrue", *decide.WITHDRAWN_AS.values())}
    missing = [code for code in sorted(codes) if not TEXTS.has(f"ledger.{code}")]
    assert missing == []


def test_a_rule_file_says_how_old_its_readings_may_be() -> None:
    text = """
- id: r
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 80
  max_age: {age}
  touchpoint: {{kind: hint}}
"""
    read = load([("r.yaml", text.format(age="90m"))], SIGNALS)
    assert RuleInfo.of(read.rules["r"]).max_age_ms == 90 * MINUTE
    with pytest.raises(RuleErrors, match="soon"):
        load([("r.yaml", text.format(age="soon"))], SIGNALS)

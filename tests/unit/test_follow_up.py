"""After the job: counters are set back, the finding is over, and the owner is asked one question."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import CAR, DAY, HOUR, JANA, MINUTE, RULES, SIGNALS, TEXTS, World, at, open_world, rule

from gateway.domain.appointment import AppointmentState
from gateway.domain.case import CaseKind, CaseState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.feedback import Asking, AskState, Feedback
from gateway.domain.policy import Policy
from gateway.domain.result import Result
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.flow import book, budget, follow_up
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")
RENDERER = Renderer(
    texts=TEXTS, signals=SIGNALS, policy=Policy(rules=RULES), public_url="https://after-sales.example"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        await opened.answers("book", slot=f"nord@{TUESDAY_8}")
        opened.go_to(TUESDAY_8 + HOUR)
        yield opened


async def finish(world: World, **said: object) -> AppointmentState:
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    work = {"note": "pads front", "parts": ["34 11 6 794 300"], **said}
    return (await world.write(follow_up.done, appointment.id, work, world.now, world.policy)).state


async def passes(world: World, until: str | int) -> None:
    """Time passes, and what follows up is done."""
    world.go_to(until)
    await world.write(follow_up.step, world.now, world.policy)


async def question(world: World) -> Feedback:
    (asked,) = await world.read(lambda r: r.feedback.page())
    return asked


async def test_a_finished_job_fulfils_the_matter_and_sets_the_counter_back(world: World) -> None:
    assert await finish(world) is AppointmentState.DONE
    touchpoint = await world.touchpoint()
    assert (touchpoint.state, touchpoint.closed_at) == (State.FULFILLED, world.now)
    finding = await world.read(lambda r: r.touchpoints.finding(touchpoint.finding))
    assert finding is not None
    assert finding.cleared_at == world.now
    (reset,) = await world.queued("journal")
    assert reset.payload["signals"] == ["pad_wear_front"]
    assert (await world.codes())[-1] == "done"


async def test_saying_it_twice_does_it_once(world: World) -> None:
    await finish(world)
    await finish(world)
    assert len(await world.queued("journal")) == 1
    assert (await world.codes()).count("done") == 1
    await question(world)


async def test_a_cancelled_visit_cannot_be_done(world: World) -> None:
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(book.cancel, appointment.id, world.now, world.policy)
    with pytest.raises(ConflictError):
        await finish(world)


async def test_the_question_comes_the_next_morning_and_not_at_night(world: World) -> None:
    await finish(world)  # Tuesday 9:00, so 18 hours later it is 3:00
    asked = await question(world)
    assert asked.question == "csat"
    assert asked.asked_at == at("2026-11-25T07:00+01:00")
    assert asked.state is AskState.WAITING
    assert await world.queued("web_push") == []
    await passes(world, asked.asked_at)
    (push,) = await world.queued("web_push")
    assert push.due_at == asked.asked_at
    assert push.payload["feedback"] == asked.id
    assert (await question(world)).state is AskState.ASKED
    assert (await world.story())[-1] == "At 7:00 we asked you one question about it."


async def test_an_answer_is_kept_and_the_push_is_not_needed_any_more(world: World) -> None:
    await finish(world)
    await passes(world, (await question(world)).asked_at)
    asked = await question(world)
    rated = await world.write(follow_up.rate, asked.id, 5, "  quick  ", world.now)
    assert (rated.score, rated.comment, rated.answered_at) == (5, "quick", world.now)
    assert await question(world) == rated
    (push,) = await world.queued("web_push")
    assert await world.read(lambda r: RENDERER.render(r, push, world.now)) is None
    assert (await world.story())[-1] == "You answered our question at 7:00: 5 of 5."
    assert await world.write(follow_up.rate, asked.id, 5, "again", world.now + MINUTE) == rated
    with pytest.raises(ConflictError):
        await world.write(follow_up.rate, asked.id, 1, None, world.now)


@pytest.mark.parametrize("score", [0, 6, -1, True, 4.5])
async def test_a_score_off_the_scale_is_refused(world: World, score: int) -> None:
    await finish(world)
    asked = await question(world)
    with pytest.raises(InvalidError):
        await world.write(follow_up.rate, asked.id, score, None, world.now)


async def test_the_workshops_own_entries_are_done_without_anybody_being_asked(world: World) -> None:
    await world.takes("2026-11-27T10:00+01:00")
    own = (await world.read(lambda r: r.workshops.appointments()))[-1]
    done = await world.write(follow_up.done, own.id, {}, world.now, world.policy)
    assert done.state is AppointmentState.DONE
    assert await world.read(lambda r: r.feedback.page()) == []


# --- what one job settles ---------------------------------------------------------------------


async def test_what_the_job_settled_too_is_closed_and_anything_else_stays(world: World) -> None:
    """Another rule for the same service, and one whose counter was set back; not the rear brakes."""
    more = {
        "pads-front-squeal": rule("pads-front-squeal", resets=(), signals=()),
        "pads-front-soon": rule("pads-front-soon", service=None, touchpoint_kind="reminder"),
    }
    world.policy = replace(world.policy, rules={**RULES, **more}, weekly_budget=10)
    for found in ("pads-front-squeal", "pads-front-soon", "brake-pads-rear-worn"):
        await world.found(found)
    before = {t.rule: t.state for t in await world.touchpoints()}
    await finish(world)
    after = {t.rule: t for t in await world.touchpoints()}
    closed = {name for name, t in after.items() if t.state is State.CLOSED}
    assert closed == {"pads-front-squeal", "pads-front-soon"} & {n for n, s in before.items() if s}
    assert after["brake-pads-rear-worn"].state is before["brake-pads-rear-worn"]
    for name in closed:
        lines = await world.lines(after[name].id)
        assert "settled_with_visit" in [line.code for line in lines]
        finding = await world.read(lambda r, n=name: r.touchpoints.finding(after[n].finding))
        assert finding is not None
        assert finding.cleared_at == world.now


async def test_all_matters_of_a_bundle_are_cleared_and_their_counters_set_back(world: World) -> None:
    touchpoint = await world.touchpoint()
    await bundle(world, touchpoint, "brake-pads-rear-worn")
    await the_visit_takes(world, "brakes-front", "brakes-rear")
    await finish(world)
    findings = await world.read(lambda r: r.touchpoints.findings(device="car"))
    assert [f.cleared_at for f in findings] == [world.now, world.now]
    (reset,) = await world.queued("journal")
    assert reset.payload["signals"] == ["pad_wear_front", "pad_wear_rear"]
    result = await kept(world)
    assert result.rules == ("brake-pads-front-worn", "brake-pads-rear-worn")
    assert result.services == ("brakes-front", "brakes-rear")


@pytest.mark.parametrize("fixed", [True, False])
async def test_what_the_visit_was_not_for_goes_on_by_itself(world: World, fixed: bool) -> None:
    booked = await world.touchpoint()
    await bundle(world, booked, "brake-pads-rear-worn")
    await finish(world, fixed=fixed)
    rear = await world.read(lambda r: r.touchpoints.finding("found-brake-pads-rear-worn"))
    assert rear is not None
    assert rear.cleared_at is None
    resets = [row.payload["signals"] for row in await world.queued("journal")]
    assert resets == ([["pad_wear_front"]] if fixed else [])
    assert (await kept(world)).services == ("brakes-front",)
    (left,) = await world.read(lambda r: r.touchpoints.page(device="car", states=(State.DEFERRED,)))
    assert (left.rule, left.service, left.finding) == ("brake-pads-rear-worn", "brakes-rear", rear.id)
    assert "left_over" in await world.codes()
    await world.timers()
    offered = await world.read(lambda r: r.touchpoints.get(left.id))
    assert offered.state is State.OPEN
    assert offered.slots


async def the_visit_takes(world: World, *services: str) -> None:
    """The workshop does all of these in the one visit."""

    def work(records: Records) -> None:
        (visit,) = records.workshops.appointments(owner="jana")
        records.workshops.save_appointment(replace(visit, services=services))

    await world.write(work)


async def bundle(world: World, touchpoint: Touchpoint, rule_id: str) -> None:
    """A second finding joined the visit."""
    finding = Finding(
        id=f"found-{rule_id}",
        device="car",
        rule=rule_id,
        version=3,
        severity="advice",
        position=99,
        began_ts=world.now,
        found_at=world.now,
    )

    def work(records: Records) -> None:
        records.touchpoints.add_finding(finding)
        records.touchpoints.take_in(
            touchpoint.id, finding, RULES[rule_id].service, RULES[rule_id].purpose, world.now
        )

    await world.write(work)


async def kept(world: World) -> Result:
    touchpoint = await world.read(lambda r: r.touchpoints.page(states=(State.FULFILLED,))[0])
    result = await world.read(lambda r: r.results.get(touchpoint.id))
    assert result is not None
    return result


# --- promises ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "paid", "in_time", "in_price"),
    [(60, 220, True, True), (80, 221, False, False), (74, None, True, None)],
)
async def test_what_was_promised_is_compared_with_what_was_done(
    world: World, minutes: int, paid: int | None, in_time: bool, in_price: bool | None
) -> None:
    """An hour, with a quarter of an hour's grace, for 180 to 220 euros."""
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    world.go_to(TUESDAY_8 + minutes * MINUTE)
    work = {"note": "pads front"} | ({"price": paid} if paid else {})
    await world.write(follow_up.done, appointment.id, work, world.now, world.policy)
    result = await kept(world)
    assert (result.in_time, result.in_price) == (in_time, in_price)


# --- questions and the budget -----------------------------------------------------------------


async def test_a_question_waits_for_room_and_the_ledger_says_until_when(world: World) -> None:
    await finish(world)
    asked = await question(world)
    spent_at = asked.asked_at - HOUR
    await world.write(spend, spent_at, 2)
    await passes(world, asked.asked_at)
    waiting = await question(world)
    assert waiting.state is AskState.WAITING
    assert waiting.asked_at >= at("2026-11-30T09:00+01:00")  # a week after Monday's offer
    assert (await world.codes())[-1] == "question_deferred"
    assert await world.queued("web_push") == []
    await passes(world, waiting.asked_at)
    while (later := await question(world)).state is AskState.WAITING:
        await passes(world, later.asked_at)
    assert later.asked_at > spent_at + 7 * DAY - 1
    assert len(await world.queued("web_push")) == 1


def spend(records: Records, when: int, times: int) -> None:
    for n in range(times):
        budget.spend(records, "jana", budget.SERVICE, when, f"other-{n}")


async def test_a_question_costs_room_that_service_messages_need(world: World) -> None:
    await finish(world)
    asked = await question(world)
    before = await world.read(lambda r: budget.spent(r, "jana", budget.SERVICE, asked.asked_at))
    await passes(world, asked.asked_at)
    after = await world.read(lambda r: budget.spent(r, "jana", budget.SERVICE, world.now))
    assert after == before + 1


async def test_a_question_without_room_for_a_fortnight_is_dropped_and_never_shown(world: World) -> None:
    await finish(world)
    await world.wishes(weekly_budget=0)
    asked = await question(world)
    await passes(world, asked.asked_at)
    dropped = await question(world)
    assert dropped.state is AskState.DROPPED
    assert not dropped.open_at(world.now + 30 * DAY)
    assert (await world.codes())[-1] == "question_dropped"
    assert await world.queued("web_push") == []


async def test_two_questions_keep_their_distance(world: World) -> None:
    world.policy = replace(world.policy, weekly_budget=10, asking=Asking(apart_ms=5 * DAY))
    await finish(world)
    first = await question(world)
    await passes(world, first.asked_at)
    await world.write(follow_up.plan_nps, world.now, world.policy)
    await world.write(lambda r: r.feedback.move_nps("jana", world.now))
    await passes(world, world.now + HOUR)
    nps = (await world.read(lambda r: r.feedback.page()))[0]
    assert (nps.question, nps.state) == ("nps", AskState.WAITING)
    assert nps.asked_at >= first.asked_at + 5 * DAY


async def test_csat_and_ces_take_turns_for_an_owner(world: World) -> None:
    await finish(world)
    which = await world.read(lambda r: follow_up._which(r, "jana", world.policy))
    assert which == "ces"
    fixed = replace(world.policy, asking=Asking(question="csat"))
    assert await world.read(lambda r: follow_up._which(r, "jana", fixed)) == "csat"


async def test_who_claimed_long_ago_is_not_asked_at_once_but_in_a_later_year(world: World) -> None:
    claimed = (await world.read(lambda r: r.devices.ownerships("car")))[0].since
    await passes(world, world.now)
    planned = await world.read(lambda r: r.feedback.nps("jana"))
    assert planned is not None
    assert world.now <= planned[1] < world.now + 365 * DAY
    assert (planned[1] - claimed - 30 * DAY) % (365 * DAY) == 0


async def test_nps_comes_thirty_days_after_the_first_product_and_then_yearly(world: World) -> None:
    claimed = world.now

    def settle(records: Records) -> None:
        records.owners.add(replace(JANA, id="ben", name="Ben Öztürk"))
        records.devices.add(replace(CAR, id="van", owner="ben", created=claimed))

    await world.write(settle)
    await passes(world, world.now)
    planned = await world.read(lambda r: r.feedback.nps("ben"))
    assert planned == ("van", claimed + 30 * DAY)
    await passes(world, claimed + 30 * DAY)
    (nps,) = await world.read(lambda r: r.feedback.page(owner="ben"))
    assert (nps.question, nps.state, nps.touchpoint, nps.device) == ("nps", AskState.ASKED, None, "van")
    again = await world.read(lambda r: r.feedback.nps("ben"))
    assert again == ("van", world.now + 365 * DAY)


async def test_a_question_on_the_way_reads_as_one_about_the_product(world: World) -> None:
    await passes(world, world.now)
    await world.write(lambda r: r.feedback.move_nps("jana", world.now + DAY))
    await passes(world, world.now + DAY)
    (nps,) = await world.read(lambda r: [f for f in r.feedback.page() if f.question == "nps"])
    (push,) = [row for row in await world.queued("web_push") if row.payload.get("feedback") == nps.id]
    rendered = await world.read(lambda r: RENDERER.render(r, push, world.now))
    assert rendered is not None
    assert rendered.payload["message"]["title"].startswith("Would you recommend your")


async def test_the_third_fulfilled_matter_brings_nps_forward(world: World) -> None:
    world.policy = replace(world.policy, asking=Asking(nps_after=1))
    await passes(world, world.now)
    await finish(world)
    planned = await world.read(lambda r: r.feedback.nps("jana"))
    assert planned is not None
    assert planned[1] <= world.now + 7 * DAY


async def test_nps_is_not_brought_forward_into_the_year_of_the_last_one(world: World) -> None:
    world.policy = replace(world.policy, asking=Asking(nps_after=1))
    await passes(world, world.now)
    await world.write(lambda r: r.feedback.move_nps("jana", world.now))
    await passes(world, world.now + MINUTE)
    (asked,) = await world.read(lambda r: [f for f in r.feedback.page() if f.question == "nps"])
    await finish(world)
    planned = await world.read(lambda r: r.feedback.nps("jana"))
    assert planned is not None
    assert planned[1] >= asked.asked_at + 365 * DAY


# --- answers ----------------------------------------------------------------------------------


async def test_a_low_score_opens_a_case_and_the_owner_hears_that_somebody_looks(world: World) -> None:
    await finish(world)
    asked = await question(world)
    await passes(world, asked.asked_at)
    await world.write(follow_up.rate, asked.id, 2, "It squeals.", world.now, world.policy)
    (case,) = await world.read(lambda r: r.cases.pending())
    assert (case.kind, case.workshop, case.text) == (CaseKind.LOW_SCORE, None, "It squeals.")
    assert case.data["score"] == 2
    assert case.state is CaseState.OPEN
    assert (await world.codes())[-2:] == ["rated", "case_low_score"]


@pytest.mark.parametrize(("which", "score", "low"), [("csat", 3, False), ("ces", 2, True), ("nps", 6, True)])
async def test_what_is_low_depends_on_the_question(world: World, which: str, score: int, low: bool) -> None:
    put = Feedback(id="q", touchpoint=None, owner="jana", device="car", question=which, asked_at=world.now)
    await world.write(lambda r: r.feedback.ask(put))
    await world.write(follow_up.rate, "q", score, None, world.now, world.policy)
    assert bool(await world.read(lambda r: r.cases.pending())) is low


async def test_better_or_worse_than_expected_is_a_second_tap(world: World) -> None:
    await finish(world)
    asked = await question(world)
    with pytest.raises(ConflictError):
        await world.write(follow_up.compare, asked.id, "better", world.now)
    await world.write(follow_up.rate, asked.id, 5, None, world.now, world.policy)
    with pytest.raises(InvalidError):
        await world.write(follow_up.compare, asked.id, "fine", world.now)
    assert (await world.write(follow_up.compare, asked.id, "worse", world.now)).expected == "worse"
    assert (await question(world)).expected == "worse"


# --- did it help? -----------------------------------------------------------------------------


async def test_a_job_helped_when_the_same_stays_away(world: World) -> None:
    await finish(world)
    done_at = world.now
    await passes(world, done_at + 14 * DAY - MINUTE)
    assert (await kept(world)).helped is None
    await passes(world, done_at + 14 * DAY)
    result = await kept(world)
    assert result.helped is True
    assert result.contacts == 2  # the offer and the question


async def test_a_repair_that_did_not_help_is_a_complaint_and_no_new_offer(world: World) -> None:
    await finish(world)
    before = len(await world.touchpoints())
    world.go_to(world.now + 3 * DAY)
    assert await world.found() == "suppress"
    assert len(await world.touchpoints()) == before
    (case,) = await world.read(lambda r: r.cases.pending(workshop="nord"))
    assert case.kind is CaseKind.COMPLAINT
    assert case.data["job"]["work"]["parts"] == ["34 11 6 794 300"]
    assert case.data["again"]["evidence"]["pad_wear_front"] == 95
    assert case.due_at == world.policy.working_time.after(world.now, 8)
    told = [row for row in await world.queued("web_push") if row.payload["about"] == "case_opened"]
    rendered = await world.read(lambda r: RENDERER.render(r, told[0], world.now))
    assert rendered is not None
    assert rendered.payload["message"]["title"] == "Your Arden 5: the repair is looked into"
    codes = await world.codes()
    assert {"suppressed_repaired_lately", "case_complaint"} <= set(codes)
    world.go_to(world.now + DAY)
    await world.cleared()
    assert await world.found() == "suppress"
    assert len(await world.read(lambda r: r.cases.pending())) == 1
    await passes(world, world.now + 14 * DAY)
    assert (await kept(world)).helped is False


async def test_another_rule_for_the_same_service_is_the_same_matter(world: World) -> None:
    world.policy = replace(world.policy, rules={**RULES, "squeal": rule("squeal", resets=())})
    await finish(world)
    world.go_to(world.now + 3 * DAY)
    assert await world.found("squeal") == "suppress"
    assert await world.found("brake-pads-rear-worn") != "suppress"


async def test_after_a_fortnight_it_is_a_new_matter(world: World) -> None:
    await finish(world)
    await passes(world, world.now + 15 * DAY)
    assert await world.found() == "send"
    assert await world.read(lambda r: r.cases.pending()) == []


async def test_what_is_dangerous_is_said_although_it_was_repaired_lately(world: World) -> None:
    world.policy = replace(
        world.policy, rules={**RULES, "brake-failure": rule("brake-failure", severity="critical")}
    )
    await finish(world)
    world.go_to(world.now + DAY)
    assert await world.found("brake-failure") == "send"
    (case,) = await world.read(lambda r: r.cases.pending())
    assert case.kind is CaseKind.COMPLAINT


async def test_what_a_workshop_could_not_mend_stays_found_and_somebody_gets_back_to_the_owner(
    world: World,
) -> None:
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    work = {"note": "The caliper has to be ordered.", "fixed": False}
    await world.write(follow_up.done, appointment.id, work, world.now, world.policy)
    (finding,) = await world.read(lambda r: r.touchpoints.findings(device="car"))
    assert finding.cleared_at is None
    assert await world.queued("journal") == []
    (case,) = await world.read(lambda r: r.cases.pending(workshop="nord"))
    assert (case.kind, case.text) == (CaseKind.COMPLAINT, "The caliper has to be ordered.")
    await passes(world, world.now + 14 * DAY)
    assert (await kept(world)).helped is False

"""After the job: counters are set back, the finding is over, and the owner is asked one question."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from garage import HOUR, MINUTE, World, at, open_world

from gateway.domain.appointment import AppointmentState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.feedback import Feedback
from gateway.domain.touchpoint import State
from gateway.flow import book, follow_up

TUESDAY_8 = at("2026-11-24T08:00+01:00")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        await opened.answers("book", slot=f"nord@{TUESDAY_8}")
        opened.go_to(TUESDAY_8 + HOUR)
        yield opened


async def finish(world: World) -> AppointmentState:
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    work = {"note": "pads front", "parts": ["34 11 6 794 300"]}
    return (await world.write(follow_up.done, appointment.id, work, world.now, world.policy)).state


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
    (push,) = await world.queued("web_push")
    assert push.due_at == asked.asked_at
    assert push.payload["feedback"] == asked.id


async def test_an_answer_is_kept_and_the_push_is_not_needed_any_more(world: World) -> None:
    await finish(world)
    asked = await question(world)
    rated = await world.write(follow_up.rate, asked.id, 5, "  quick  ", world.now)
    assert (rated.score, rated.comment, rated.answered_at) == (5, "quick", world.now)
    assert await question(world) == rated
    assert await world.queued("web_push") == []
    assert (await world.story())[-1] == "You answered our question at 9:00: 5 of 5."
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

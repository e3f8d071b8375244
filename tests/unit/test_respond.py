"""The first answer holds, on whichever channel it comes, and closes the matter on all the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from garage import HOUR, MINUTE, World, at, open_world

from gateway.adapters.journal import SqliteJournal
from gateway.domain.delivery import DeliveryState
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.messages import Batch, Decoded, DisplayAnswer
from gateway.domain.touchpoint import Answer, State
from gateway.flow import respond

TUESDAY_8 = at("2026-11-24T08:00+01:00")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        yield opened


async def test_the_same_choice_again_gives_the_first_one_back(world: World) -> None:
    first = await world.answers("book", slot=f"nord@{TUESDAY_8}")
    world.clock.advance(world.now + MINUTE)
    second = await world.answers(f"book:nord@{TUESDAY_8}", channel="display")
    assert second == first
    assert second.answer is not None
    assert second.answer.channel == "page"
    assert len(await world.read(lambda r: r.workshops.appointments())) == 1


async def test_another_choice_is_told_what_holds(world: World) -> None:
    first = await world.answers("book", slot=f"nord@{TUESDAY_8}")
    with pytest.raises(ConflictError) as refused:
        await world.answers("not_now")
    assert refused.value.holds == first
    with pytest.raises(ConflictError):
        await world.answers("book", slot=f"nord@{TUESDAY_8 + 60 * MINUTE}")


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("not_now", State.CLOSED),
        ("never", State.CLOSED),
        ("snooze", State.DEFERRED),
        ("already_done", State.CLOSED),
        ("noted", State.CLOSED),
        ("call_me", State.ANSWERED),
    ],
)
async def test_every_answer_has_its_end(world: World, action: str, state: State) -> None:
    touchpoint = await world.answers(action)
    assert touchpoint.state is state
    assert (touchpoint.closed_at is not None) == (state is State.CLOSED)
    assert (await world.codes())[-1] == f"answered_{action}"


@pytest.mark.parametrize(
    "action",
    [
        *("", "yes", "book", "book:", "BOOK", "other_workshop", "approve", "decline"),
        *("snooze:someday", "snooze:2026-11-22", "snooze:2028-01-01", "not_now:2020-01-01T00:00:00Z"),
        *("already_done:2026-11-24", "already_done:last week", "already_done:2001-01-01"),
    ],
)
async def test_what_cannot_be_chosen_is_refused(world: World, action: str) -> None:
    with pytest.raises(InvalidError):
        await world.answers(action)


async def test_there_is_nothing_to_book_for_a_reminder(world: World) -> None:
    await world.found("descale-due", "washer")
    with pytest.raises(InvalidError):
        await world.answers("book", slot=f"nord@{TUESDAY_8}")


async def test_an_answer_closes_the_other_channels(world: World) -> None:
    touchpoint = await world.answers("not_now")
    assert await world.queued("web_push") == []
    assert len(await world.queued("web_push", DeliveryState.DROPPED)) == 1
    assert [row.touchpoint for row in await world.queued("display")] == [touchpoint.id]


async def test_an_answer_on_the_display_replaces_the_notification_on_the_phone(world: World) -> None:
    await world.answers(f"book:nord@{TUESDAY_8}", channel="display")
    assert [row.payload["about"] for row in await world.queued("web_push")] == ["answered"]
    assert [row.expires_at for row in await world.queued("web_push")] == [world.now + 24 * HOUR], (
        "then it is old news"
    )
    assert "Answered at 9:00 on the display; closed everywhere else." in await world.story()


async def test_already_done_sets_the_counters_back_through_the_journal(world: World) -> None:
    await world.answers("already_done")
    (row,) = await world.queued("journal")
    assert row.payload["type"] == "reset"
    assert row.payload["device"] == "car"
    assert row.payload["signals"] == ["pad_wear_front"]


async def test_an_ended_matter_takes_no_answer(world: World) -> None:
    await world.cleared()
    with pytest.raises(ConflictError):
        await world.answers("not_now")


async def test_a_matter_that_waits_for_its_moment_can_be_answered_on_the_page(world: World) -> None:
    await world.answers("noted")
    await world.drives()
    await world.found("brake-pads-rear-worn")
    assert (await world.touchpoint()).state is State.DEFERRED
    assert (await world.answers("not_now")).state is State.CLOSED
    world.clock.advance(world.now + 15 * MINUTE)
    assert await world.timers() == 0


async def test_an_unknown_touchpoint_is_not_found(world: World) -> None:
    answer = Answer(action="not_now", channel="page", at=world.now, by="jana")
    with pytest.raises(NotFoundError):
        await world.write(respond.answer, "nothing", answer, world.now, world.policy)


# --- displays ---------------------------------------------------------------------------------


def decoded(batch: Batch) -> Decoded:
    """Payloads of answers are `touchpoint action`, as far as this test is concerned."""
    answers = []
    for offset, (topic, payload) in enumerate(batch.messages):
        if topic.endswith("/answer"):
            touchpoint, action = payload.decode().split(" ")
            device = topic.split("/")[2]
            answers.append(
                DisplayAnswer(
                    position=batch.first + offset, device=device, touchpoint=touchpoint, action=action, ts=0
                )
            )
    return Decoded(answers=answers)


@contextlib.asynccontextmanager
async def reading(world: World, folder: Path) -> AsyncIterator[tuple[SqliteJournal, respond.Responder]]:
    journal = SqliteJournal(folder / "journal.db", readers=("respond",), max_bytes=1 << 24, decoder=decoded)
    async with journal:
        yield journal, respond.Responder(journal, world.database, world.clock, world.policy)


def tapped(touchpoint: str, action: str, device: str = "car") -> tuple[str, bytes]:
    return f"touchpoint/v1/{device}/answer", f"{touchpoint} {action}".encode()


TELEMETRY = ("touchpoint/v1/car/telemetry", b"{}")


async def test_an_answer_tapped_in_the_car_is_taken_once(world: World, tmp_path: Path) -> None:
    touchpoint = (await world.touchpoint()).id
    async with reading(world, tmp_path) as (journal, responder):
        tap = tapped(touchpoint, f"book:nord@{TUESDAY_8}")
        await journal.append([TELEMETRY, tap, tap, TELEMETRY], world.now)
        assert await responder.step()
        assert not await responder.step()
    answered = await world.touchpoint()
    assert answered.state is State.BOOKED
    assert answered.answer is not None
    assert (answered.answer.channel, answered.answer.by) == ("display", "jana")
    assert await world.read(lambda r: r.position("respond")) == 4


async def test_a_restarted_reader_does_not_take_it_again(world: World, tmp_path: Path) -> None:
    touchpoint = (await world.touchpoint()).id
    async with reading(world, tmp_path) as (journal, responder):
        await journal.append([tapped(touchpoint, "not_now")], world.now)
        await responder.step()
        again = respond.Responder(journal, world.database, world.clock, world.policy)
        task = asyncio.create_task(again.run())
        world.clock.register(task)
        await journal.append([TELEMETRY], world.now)
        while again.position < 2:
            await asyncio.sleep(0)
        await world.clock.settled()
        task.cancel()
    assert (await world.codes()).count("answered_not_now") == 1


async def test_a_restarted_reader_looks_through_nothing_again(world: World, tmp_path: Path) -> None:
    async with reading(world, tmp_path) as (journal, responder):
        await journal.append([TELEMETRY] * 3, world.now)
        await responder.step()
        read: list[Batch] = []
        again = respond.Responder(
            journal, world.database, world.clock, world.policy, answers_in=lambda b: bool(read.append(b))
        )
        task = asyncio.create_task(again.run())
        world.clock.register(task)
        await world.clock.settled()
        task.cancel()
        assert await world.read(lambda r: r.position("respond")) == 0
        assert read == []


async def test_what_cannot_be_taken_never_stalls_the_reader(world: World, tmp_path: Path) -> None:
    touchpoint = (await world.touchpoint()).id
    async with reading(world, tmp_path) as (journal, responder):
        bad = [
            tapped("nothing", "not_now"),
            tapped(touchpoint, "explode"),
            tapped(touchpoint, "not_now", device="washer"),
            tapped(touchpoint, "book:nord@7"),
            tapped(touchpoint, "noted"),
            tapped(touchpoint, "not_now"),
        ]
        await journal.append(bad, world.now)
        await responder.step()
    answered = (await world.touchpoint()).answer
    assert answered is not None
    assert answered.action == "noted"


async def test_a_display_can_ask_for_other_times_and_put_off(world: World, tmp_path: Path) -> None:
    touchpoint = await world.touchpoint()
    async with reading(world, tmp_path) as (journal, responder):
        await journal.append([tapped(touchpoint.id, "other_time")], world.now)
        await responder.step()
        shown = await world.touchpoint()
        assert shown.state is State.OPEN
        assert not {s.id for s in shown.slots} & {s.id for s in touchpoint.slots}
        await journal.append([tapped(touchpoint.id, "snooze:weekend")], world.now)
        await responder.step()
    asleep = await world.touchpoint()
    assert (asleep.state, asleep.wake_at) == (State.DEFERRED, at("2026-11-28T09:00+01:00"))


async def test_a_display_that_shows_a_taken_time_gets_the_next_ones(world: World, tmp_path: Path) -> None:
    await world.takes("2026-11-24T08:00+01:00")
    async with reading(world, tmp_path) as (journal, responder):
        await journal.append([tapped((await world.touchpoint()).id, f"book:nord@{TUESDAY_8}")], world.now)
        await responder.step()
    touchpoint = await world.touchpoint()
    assert touchpoint.state is State.OPEN
    assert touchpoint.slots[0].start == TUESDAY_8 + 60 * MINUTE
    assert len(await world.queued("display")) == 1

"""Until it is done: the reminder, the steps of the day, extra work, and who comes from the street."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, HOUR, MINUTE, NORD, World, at, open_world

from gateway.domain.appointment import Appointment, AppointmentState, ExtraState, ExtraWork
from gateway.domain.errors import ConflictError, InvalidError
from gateway.flow import book, follow_up, links, visit, visit_mail
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

THURSDAY_8 = at("2026-11-26T08:00+01:00")
S = AppointmentState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        await opened.answers("book", slot=f"nord@{THURSDAY_8}")
        yield opened


async def the_visit(world: World) -> Appointment:
    return (await world.read(lambda r: r.workshops.appointments(owner="jana")))[-1]


async def settled(world: World) -> list[str]:
    return await world.write(visit.settle_due, world.now, world.policy)


async def pushed(world: World) -> list[tuple[str, str]]:
    """(about, title) of what phones are sent now."""
    from garage import SIGNALS, TEXTS

    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://tp.example")
    rows = [row for row in await world.queued("web_push") if row.due_at <= world.now]
    told = [await world.read(lambda r, row=row: renderer.render(r, row, world.now)) for row in rows]  # type: ignore[misc]
    return [
        (row.payload["about"], each.payload["message"]["title"].replace("\u00a0", " "))
        for row, each in zip(rows, told, strict=True)
        if each is not None
    ]


# --- reminder ---------------------------------------------------------------------------------


async def test_the_reminder_comes_the_day_before(world: World) -> None:
    assert (await the_visit(world)).remind_at == THURSDAY_8 - DAY
    assert await world.read(lambda r: r.workshops.next_appointment_due()) == THURSDAY_8 - DAY
    world.go_to(THURSDAY_8 - DAY - 1)
    assert await settled(world) == []
    world.go_to(THURSDAY_8 - DAY)
    assert await settled(world) == ["reminded"]
    assert await pushed(world) == [("reminder", "Tomorrow: Thursday, 26 November, 8:00")]
    assert (await world.codes())[-1] == "reminded"
    assert await settled(world) == []


async def test_the_reminder_leaves_quiet_hours_alone_also_those_set_later(world: World) -> None:
    await world.wishes(quiet_from="20:00", quiet_to="09:30")
    world.go_to(THURSDAY_8 - DAY)
    assert await settled(world) == ["reminder_moved"]
    assert (await the_visit(world)).remind_at == at("2026-11-25T09:30+01:00")
    world.go_to("2026-11-25T09:30+01:00")
    assert await settled(world) == ["reminded"]


@pytest.mark.parametrize("how", ["cancelled", "moved"])
async def test_a_reminder_of_what_is_no_more_is_not_sent(world: World, how: str) -> None:
    made = await the_visit(world)
    world.go_to(THURSDAY_8 - DAY)
    await settled(world)
    if how == "cancelled":
        await world.write(book.cancel, made.id, world.now, world.policy)
    else:
        await world.write(book.reschedule, made.id, f"nord@{THURSDAY_8 + HOUR}", world.now, world.policy)
    assert "reminder" not in [about for about, _ in await pushed(world)]


async def test_moving_a_visit_moves_its_reminder(world: World) -> None:
    made = await the_visit(world)
    moved = await world.write(book.reschedule, made.id, f"nord@{THURSDAY_8 + DAY}", world.now, world.policy)
    assert moved.remind_at == THURSDAY_8
    cancelled = await world.write(book.cancel, made.id, world.now, world.policy)
    assert cancelled.remind_at is None


async def test_who_books_for_tomorrow_is_not_reminded_of_it(world: World) -> None:
    world.go_to(THURSDAY_8 - HOUR * 20)
    made = await the_visit(world)
    soon = replace(made, start=world.now + HOUR)
    assert await world.read(lambda r: book.reminder_at(r, soon, world.now, world.policy)) is None


# --- the day ----------------------------------------------------------------------------------


async def test_the_owner_follows_the_job(world: World) -> None:
    made = await the_visit(world)
    world.go_to(THURSDAY_8)
    for to in ("checked_in", "in_work", "ready"):
        stepped = await world.write(visit.step, made.id, to, world.now, world.policy)
        assert str(stepped.state) == to
        assert (await pushed(world))[-1][0] == "visit"
        world.go_to(world.now + 20 * MINUTE)
    assert stepped.progress == {
        "checked_in": THURSDAY_8,
        "in_work": THURSDAY_8 + 20 * MINUTE,
        "ready": THURSDAY_8 + 40 * MINUTE,
    }
    assert (await world.codes())[-3:] == ["checked_in", "in_work", "ready"]
    assert (await pushed(world))[-1] == ("visit", "Arden 5: ready")  # the older ones are not true any more
    assert len(await pushed(world)) == 1
    done = await world.write(follow_up.done, made.id, {}, world.now, world.policy)
    assert done.state is S.DONE


async def test_a_step_is_said_once_in_its_order_and_not_days_ahead(world: World) -> None:
    made = await the_visit(world)
    with pytest.raises(ConflictError):
        await world.write(visit.step, made.id, "checked_in", world.now, world.policy)
    with pytest.raises(InvalidError):
        await world.write(visit.step, made.id, "washed", world.now, world.policy)
    world.go_to(THURSDAY_8)
    await world.write(visit.step, made.id, "in_work", world.now, world.policy)
    told = len(await world.codes())
    await world.write(visit.step, made.id, "in_work", world.now, world.policy)
    assert len(await world.codes()) == told
    with pytest.raises(ConflictError):
        await world.write(visit.step, made.id, "checked_in", world.now, world.policy)
    with pytest.raises(ConflictError):
        await world.write(book.no_show, made.id, world.now, world.policy)


# --- extra work -------------------------------------------------------------------------------


async def asked(world: World, **more: object) -> ExtraWork:
    made = await the_visit(world)
    world.go_to(max(world.now, THURSDAY_8))
    await world.write(visit.step, made.id, "in_work", world.now, world.policy)
    return await world.write(
        visit.ask_extra, made.id, "The discs are worn, too.", 240, world.now, world.policy, **more
    )


async def word(world: World, extra: ExtraWork, approve: bool) -> ExtraWork:
    return await world.write(
        visit.answer_extra, extra.id, approve, world.now, world.policy, by="jana", channel="page"
    )


async def test_extra_work_is_done_only_when_the_owner_says_so(world: World) -> None:
    extra = await asked(world, minutes=30)
    assert extra.answer_by == THURSDAY_8 + 2 * HOUR
    assert (await pushed(world))[-1] == ("extra_work", "Autohaus Nord asks: 240 € more?")
    approved = await word(world, extra, True)
    assert (approved.state, approved.by, approved.channel) == (ExtraState.APPROVED, "jana", "page")
    assert (await the_visit(world)).end == THURSDAY_8 + 90 * MINUTE
    event = await world.read(lambda r: r.calendars.event(extra.appointment))
    assert event is not None
    assert event.end == THURSDAY_8 + 90 * MINUTE  # calendars have it, too
    assert await word(world, extra, True) == approved
    with pytest.raises(ConflictError) as told:
        await word(world, extra, False)
    assert told.value.holds == approved
    assert ("extra_work", "Autohaus Nord asks: 240 € more?") not in await pushed(world)
    assert (await world.story())[-1] == (
        "You agreed at 8:00 to extra work, Autohaus Nord: The discs are worn, too. (240 €)."
    )


async def test_who_comes_next_is_not_moved_for_extra_work(world: World) -> None:
    await world.takes("2026-11-26T09:00+01:00")
    extra = await asked(world, minutes=30)
    assert (await word(world, extra, True)).state is ExtraState.APPROVED
    assert (await the_visit(world)).end == THURSDAY_8 + HOUR


async def test_silence_is_no_yes(world: World) -> None:
    extra = await asked(world)
    world.go_to(extra.answer_by)
    with pytest.raises(ConflictError):
        await word(world, extra, True)
    assert await settled(world) == ["extra_work_lapsed"]
    assert (await world.read(lambda r: r.workshops.extra(extra.id))).state is ExtraState.LAPSED
    assert (await world.codes())[-1] == "extra_lapsed"


async def test_extra_work_is_asked_with_reason_and_price_while_the_car_is_there(world: World) -> None:
    made = await the_visit(world)
    with pytest.raises(ConflictError):
        await world.write(visit.ask_extra, made.id, "Discs", 240, world.now, world.policy)
    world.go_to(THURSDAY_8)
    for reason, price in (("  ", 240), ("Discs", -1)):
        with pytest.raises(InvalidError):
            await world.write(visit.ask_extra, made.id, reason, price, world.now, world.policy)
    with pytest.raises(InvalidError, match="photo"):
        await world.write(visit.ask_extra, made.id, "Discs", 240, world.now, world.policy, photo="none")


async def test_a_question_ends_with_the_job(world: World) -> None:
    extra = await asked(world)
    await world.write(visit.close_questions, extra.appointment, world.now, world.policy)
    assert (await world.read(lambda r: r.workshops.extra(extra.id))).state is ExtraState.LAPSED


# --- from the street --------------------------------------------------------------------------


async def test_a_walk_in_is_taken_now_or_next(world: World) -> None:
    now = await world.write(visit.walk_in, "nord", "brakes-front", world.now, world.policy, label="Mr X")
    assert (now.state, now.start, now.bay) == (S.CHECKED_IN, world.now, "Bay 1")
    later = await world.write(visit.walk_in, "nord", "brakes-front", world.now, world.policy)
    assert (later.state, later.start) == (S.CONFIRMED, at("2026-11-23T10:00+01:00"))
    with pytest.raises(InvalidError):
        await world.write(visit.walk_in, "nord", "painting", world.now, world.policy)
    await world.write(lambda r: r.workshops.put(replace(NORD, hours={})))
    with pytest.raises(ConflictError):
        await world.write(visit.walk_in, "nord", "brakes-front", world.now, world.policy)


# --- without a browser ------------------------------------------------------------------------


async def mailed(world: World) -> list[Mapping[str, object]]:
    """What is written to owners now."""
    from garage import SIGNALS, TEXTS

    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://tp.example")
    rows = [r for r in await world.queued("email") if r.payload.get("about") in visit_mail.ABOUT]
    told = [await world.write(lambda r, row=row: renderer.render(r, row, world.now)) for row in rows]
    return [each.payload for each in told if each is not None]


async def test_who_has_no_browser_is_written_to(world: World) -> None:
    world.policy = replace(world.policy, channels=("web_push", "display", "email"))

    def moves(records: Records) -> None:
        records.owners.drop_subscription("phone", world.now)
        records.owners.update(replace(records.owners.get("jana"), email="jana@example.org"))

    await world.write(moves)
    world.go_to(THURSDAY_8 - DAY)
    await settled(world)
    [reminder] = await mailed(world)
    assert (reminder["to"], str(reminder["subject"]).replace("\u00a0", " ")) == (
        "jana@example.org",
        "Tomorrow: Thursday, 26 November, 8:00",
    )
    extra = await asked(world)
    question = (await mailed(world))[-1]
    secret = str(question["text"]).rpartition("https://tp.example/a/")[2].split()[0]
    link = await world.read(lambda r: links.peek(r, secret, world.now))
    assert (link.purpose, link.about) == ("extra_work", extra.id)
    await word(world, extra, False)
    assert len(await mailed(world)) < 3  # the question that was answered is not asked again


async def test_who_has_a_browser_is_not_written_to_as_well(world: World) -> None:
    world.policy = replace(world.policy, channels=("web_push", "display", "email"))
    world.go_to(THURSDAY_8 - DAY)
    await settled(world)
    assert await mailed(world) == []

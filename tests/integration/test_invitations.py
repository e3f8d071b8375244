"""Invitations go out by real SMTP and are accepted, countered and cancelled by an independent calendar."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import aiosmtplib
import pytest
from garage import DAY, MINUTE, NORD, World, at, open_world
from mail_lab import OWNER_MAIL, REPLIES, WORKSHOP_MAIL, Lab, open_lab, reply

from gateway.adapters.codecs import make_decoder
from gateway.domain.appointment import Appointment, AppointmentState, HomeVisits
from gateway.domain.calendars import CalendarSettings, Reach
from gateway.domain.mail import return_path
from gateway.domain.messages import Batch
from gateway.domain.touchpoint import State
from gateway.flow import book
from gateway.ports import Records

TUESDAY_8, WEDNESDAY_16 = at("2026-11-24T08:00+01:00"), at("2026-11-25T16:00+01:00")
BERLIN = ZoneInfo("Europe/Berlin")
S = AppointmentState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.drives()
        await opened.parks()
        opened.clock.advance(opened.now + 10 * MINUTE)
        await opened.found()
        yield opened


@pytest.fixture
async def lab(world: World) -> AsyncIterator[Lab]:
    async with open_lab(world) as opened:
        yield opened


async def appointment(lab: Lab) -> Appointment:
    def newest(records: Records) -> Appointment:
        return records.workshops.appointments(owner="jana")[-1]

    return await lab.world.read(newest)


async def asked(lab: Lab, start: int = TUESDAY_8) -> Appointment:
    """Jana takes a time; the workshop has to say yes."""
    await lab.world.answers("book", slot=f"nord@{start}")
    return await appointment(lab)


async def test_a_request_reaches_workshop_and_owner_as_an_invitation(lab: Lab) -> None:
    made = await asked(lab)
    workshop, owner = await lab.newest(WORKSHOP_MAIL), await lab.newest(OWNER_MAIL)
    assert (workshop.method, workshop.method_of_part, workshop.status) == ("REQUEST", "REQUEST", "TENTATIVE")
    assert workshop.uid == owner.uid == f"{made.id}@touchpoint.example"
    assert workshop.sequence == 0
    assert workshop.start == datetime(2026, 11, 24, 8, 0, tzinfo=BERLIN)
    assert (workshop.partstat, workshop.event.attendee.params["RSVP"]) == ("NEEDS-ACTION", ["TRUE"])
    assert workshop.organizer.startswith("replies+")
    assert workshop.organizer != owner.organizer  # each of them is known by an address of their own
    assert (owner.partstat, owner.status) == ("ACCEPTED", "TENTATIVE")
    assert owner.event.valarm.trigger.value == timedelta(hours=-2)


async def test_the_workshop_reads_the_diagnosis_in_its_language(lab: Lab) -> None:
    await asked(lab)
    told = (await lab.newest(WORKSHOP_MAIL)).event.description.value
    for part in ("Befund:", "Jana Keller", "HH-JK 482", "48.210 km", "C0040 (", "180–220 €", "Bremsen vorn"):
        assert part in told
    owners = (await lab.newest(OWNER_MAIL)).event.description.value
    assert "Front brakes" in owners
    assert "C0040" not in owners


async def test_what_an_owner_does_not_share_is_not_in_the_invitation(lab: Lab) -> None:
    await lab.world.agrees("sharing_workshop", granted=False)
    await asked(lab)
    told = (await lab.newest(WORKSHOP_MAIL)).event.description.value
    assert "Bremsen vorn" in told
    assert "180–220 €" in told
    for part in ("Befund:", "C0040", "48.210"):
        assert part not in told


async def test_who_pays_stands_in_the_invitation_as_everywhere_else(lab: Lab) -> None:
    covered = replace(NORD, books="on_request", services=(replace(NORD.services[0], warranty=True),))

    def under_warranty(records: Records) -> None:
        records.workshops.put(covered)
        records.devices.update(replace(records.devices.get("car"), warranty_until="2027-06-30"))

    await lab.world.write(under_warranty)
    await asked(lab)
    for address, free in ((WORKSHOP_MAIL, "Kostenlos"), (OWNER_MAIL, "Free of charge")):
        told = (await lab.newest(address)).event.description.value
        assert free.casefold() in told.casefold()
        assert "180" not in told


async def test_a_plain_mail_carries_the_codes_the_earlier_visits_and_all_that_was_found(lab: Lab) -> None:
    world = lab.world
    before = await asked(lab)

    def once_before(records: Records) -> None:
        visit = records.workshops.appointment(before.id)
        matters = ({"rule": "brake-pads-front-worn"}, {"rule": "brake-pads-rear-worn"})
        earlier = {"at": at("2025-12-03T09:00+01:00"), "services": ["brakes-rear"], "note": "pads\nrear"}
        told = {**visit.diagnosis, "matters": matters, "earlier": [earlier], "codes": ["C0040", "P1234"]}
        records.workshops.save_appointment(replace(visit, diagnosis=told))

    await world.write(once_before)
    told = (await lab.newest(WORKSHOP_MAIL)).event.description.value.replace("\u00a0", " ")
    assert "C0040 (Drehzahlsensor" in told or "C0040 (Radsensor" in told
    assert "P1234 (" in told
    assert "Außerdem gefunden: Bremsbeläge hinten" in told
    assert "Frühere Besuche hier: 3. Dezember 2025: Bremsen vorn (pads rear)" in told


async def test_a_plain_mail_has_the_course_of_what_was_found_week_by_week(lab: Lab) -> None:
    """What was measured while it was another's is not told, and what comes after the booking neither."""
    now = lab.world.now
    await lab.world.write(lambda r: r.devices.transfer("car", None, now - 90 * DAY))
    await lab.world.write(lambda r: r.devices.transfer("car", "jana", now - 40 * DAY))
    worn = [(now - days * DAY, 80.0 - days / 5) for days in (60, 39, 30, 20, 10, 1)] + [(now + DAY, 99.0)]
    payload = json.dumps([{"ts": ts, "signals": {"pad_wear_front": value}} for ts, value in worn])
    message = ("touchpoint/v1/car/telemetry", payload.encode())
    batch = Batch(first=1, received=now + DAY, messages=[message], decoder=make_decoder({}))
    gathering = lab.series.gather(lambda _: ("car", ""))
    gathering.add(batch)
    await gathering.write(1)
    await asked(lab)
    mail = await lab.newest(WORKSHOP_MAIL)
    text = mail.mail.get_body(("plain",)).get_content().replace("\u00a0", " ")
    table = text[text.index("Woche für Woche") :].splitlines()
    assert len(table) == 7, table  # five weeks with readings, and the limit
    assert table[1].endswith(": 4,8 mm")
    assert table[5].endswith(": 4,0 mm")
    assert table[6].strip() == "Grenze: 3,0 mm"
    assert "Woche für Woche" not in (await lab.newest(OWNER_MAIL)).mail.as_string()


async def test_at_home_the_calendar_keeps_the_whole_window_free(lab: Lab) -> None:
    at_home = replace(NORD.services[0], at_home=True)
    home = replace(NORD, home=HomeVisits(window_minutes=120), services=(at_home,), books="on_request")

    def lives_there(records: Records) -> None:
        records.workshops.put(home)
        jana = records.owners.get("jana")
        records.owners.update(replace(jana, address="Am Deich 4, 20457 Hamburg"))

    await lab.world.write(lives_there)
    await asked(lab)
    owner, workshop = await lab.newest(OWNER_MAIL), await lab.newest(WORKSHOP_MAIL)
    assert "8:00–10:00" in owner.event.description.value.replace("\u202f", " ")
    assert owner.event.dtend.value == datetime(2026, 11, 24, 11, 0, tzinfo=BERLIN)
    assert workshop.event.dtend.value == datetime(2026, 11, 24, 9, 0, tzinfo=BERLIN)
    assert owner.event.location.value == "Am Deich 4, 20457 Hamburg"


async def test_accepting_in_the_workshops_calendar_confirms(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED")
    assert (await appointment(lab)).state is S.CONFIRMED
    assert await lab.outcomes() == [("confirmed", "accepted")]
    for address in (WORKSHOP_MAIL, OWNER_MAIL):
        told = await lab.newest(address)
        assert (told.method, told.sequence, told.status) == ("REQUEST", 1, "CONFIRMED")
        assert told.partstat == "ACCEPTED"


async def test_a_confirmation_is_one_mail(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED")
    await lab.deliver()
    subjects = [str(mail["Subject"]) for mail in lab.box.mails[OWNER_MAIL]]
    assert [subject.partition(":")[0] for subject in subjects] == ["Requested", "Your visit"]


async def test_declining_gives_the_matter_back_to_its_owner(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="DECLINED")
    assert (await appointment(lab)).state in (S.DECLINED, S.CANCELLED)
    assert (await lab.world.touchpoint()).state is State.OPEN
    assert (await lab.world.touchpoint()).slots
    assert (await lab.newest(OWNER_MAIL)).method == "CANCEL"


async def test_tentative_decides_nothing(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="TENTATIVE")
    assert (await appointment(lab)).state is S.REQUESTED
    assert await lab.outcomes() == [("noted", "undecided")]


async def test_the_workshop_counters_and_the_owner_is_offered_that_time(lab: Lab) -> None:
    await asked(lab)
    start = datetime.fromtimestamp(WEDNESDAY_16 / 1000, BERLIN)
    invited = await lab.newest(WORKSHOP_MAIL)
    await lab.replies(invited, "COUNTER", start=start, end=start + timedelta(hours=1), partstat="TENTATIVE")
    assert await lab.outcomes() == [("countered", "counter_workshop")]
    touchpoint = await lab.world.touchpoint()
    assert [slot.start for slot in touchpoint.slots] == [WEDNESDAY_16]


async def test_a_counter_that_cannot_be_is_declined_with_the_reason(lab: Lab) -> None:
    await asked(lab)
    await lab.world.takes("2026-11-28T10:00+01:00")
    saturday = datetime(2026, 11, 28, 10, 0, tzinfo=BERLIN)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), "COUNTER", start=saturday, end=saturday)
    told = await lab.newest(WORKSHOP_MAIL)
    assert told.method == "DECLINECOUNTER"
    assert "Samstag, 28. November, 10:00 lässt sich nicht buchen" in told.event.comment.value.replace(
        "\u00a0", " "
    )
    assert (await appointment(lab)).state is S.REQUESTED
    assert (await lab.outcomes())[-1][0] == "refused"


async def test_the_workshop_offers_any_time_and_the_owners_calendar_takes_it(lab: Lab) -> None:
    """Ten past ten on a Saturday, which is no slot of ours: a workshop knows best when it works."""
    await asked(lab)
    start = datetime(2026, 11, 28, 10, 10, tzinfo=BERLIN)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), "COUNTER", start=start, end=start + timedelta(hours=1))
    assert await lab.outcomes() == [("countered", "counter_workshop")]
    await lab.replies(await lab.newest(OWNER_MAIL), "COUNTER", start=start, end=start + timedelta(hours=1))
    assert (await lab.outcomes())[-1] == ("confirmed", "accepted")
    stands = await appointment(lab)
    assert (stands.state, stands.start) == (S.CONFIRMED, int(start.timestamp() * 1000))
    assert (await lab.newest(WORKSHOP_MAIL)).start == start


async def test_the_owner_moves_and_cancels_from_their_own_calendar(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED")
    await lab.world.write(lambda r: r.workshops.put(NORD))  # which books at once from now on
    start = datetime.fromtimestamp(WEDNESDAY_16 / 1000, BERLIN)
    await lab.replies(await lab.newest(OWNER_MAIL), "COUNTER", start=start, end=start + timedelta(hours=1))
    moved = await appointment(lab)
    assert moved.start == WEDNESDAY_16
    told = await lab.newest(WORKSHOP_MAIL)
    assert (told.method, told.sequence, told.start) == ("REQUEST", 2, start)
    await lab.replies(await lab.newest(OWNER_MAIL), partstat="DECLINED")
    assert (await appointment(lab)).state is S.CANCELLED
    cancelled = await lab.newest(WORKSHOP_MAIL)
    assert (cancelled.method, cancelled.status, cancelled.uid) == ("CANCEL", "CANCELLED", told.uid)
    assert cancelled.sequence == 3


async def test_a_time_that_is_not_free_is_the_owners_wish_and_the_workshop_takes_it(lab: Lab) -> None:
    """Jana asks for seven in the morning; the workshop proposes just that."""
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED")
    early = datetime(2026, 11, 25, 7, 0, tzinfo=BERLIN)
    await lab.replies(await lab.newest(OWNER_MAIL), "COUNTER", start=early, end=early + timedelta(hours=1))
    standing = await appointment(lab)
    assert (standing.state, standing.start) == (S.CONFIRMED, TUESDAY_8)
    wish = await lab.newest(WORKSHOP_MAIL)
    assert "Mittwoch, 25. November, 7:00" in wish.event.description.value.replace("\u00a0", " ")
    assert (wish.start, wish.partstat) == (datetime(2026, 11, 24, 8, 0, tzinfo=BERLIN), "NEEDS-ACTION")
    await lab.replies(wish, "COUNTER", start=early, end=early + timedelta(hours=1))
    moved = await appointment(lab)
    assert (moved.state, moved.start) == (S.CONFIRMED, int(early.timestamp() * 1000))
    assert (await lab.newest(OWNER_MAIL)).start == early


async def test_declining_a_wish_leaves_the_visit_and_puts_it_back(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED")
    early = datetime(2026, 11, 25, 7, 0, tzinfo=BERLIN)
    await lab.replies(await lab.newest(OWNER_MAIL), "COUNTER", start=early, end=early + timedelta(hours=1))
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="DECLINED")
    standing = await appointment(lab)
    assert (standing.state, standing.start, standing.wished) == (S.CONFIRMED, TUESDAY_8, ())
    told = await lab.newest(WORKSHOP_MAIL)
    assert (told.method, told.status) == ("REQUEST", "CONFIRMED")


async def test_of_several_workshops_the_first_to_accept_has_it(lab: Lab) -> None:
    """Both are asked by mail; the other one's invitation is cancelled, and its answer is too late."""

    def second(records: Records) -> None:
        records.workshops.add(replace(NORD, id="sued", name="Süd", books="on_request"))
        settings = CalendarSettings(workshop="sued", email="sued@sued.example", reach=Reach.MAIL)
        records.calendars.put_settings(settings)

    await lab.world.write(second)
    await lab.world.answers("book", slot=f"nord@{TUESDAY_8},sued@{WEDNESDAY_16}")
    north, south = await lab.newest(WORKSHOP_MAIL), await lab.newest("sued@sued.example")
    assert north.uid != south.uid
    await lab.replies(south, partstat="ACCEPTED")
    assert (await lab.newest("sued@sued.example")).status == "CONFIRMED"
    assert (await lab.newest(WORKSHOP_MAIL)).method == "CANCEL"
    await lab.replies(north, partstat="ACCEPTED")  # sent before the cancellation was read
    states = await lab.world.read(
        lambda records: {a.workshop: a.state for a in records.workshops.appointments(owner="jana")}
    )
    assert states == {"nord": S.RELEASED, "sued": S.CONFIRMED}
    assert (await lab.outcomes())[-1][0] == "ignored"


async def test_what_attendees_call_a_cancellation_is_one(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), "CANCEL")
    assert (await appointment(lab)).state in (S.DECLINED, S.CANCELLED)


async def test_a_calendar_that_fell_behind_asks_and_gets_the_event_once_an_hour(lab: Lab) -> None:
    await asked(lab)
    first = await lab.newest(WORKSHOP_MAIL)
    await lab.replies(first, "REFRESH")
    await lab.replies(first, "REFRESH")
    got = await lab.got(WORKSHOP_MAIL)
    assert [(i.method, i.sequence) for i in got] == [("REQUEST", 0), ("REQUEST", 0)]


async def test_the_same_reply_again_changes_nothing(lab: Lab) -> None:
    """Replayed as it was, and under another Message-ID; also when something newer was said meanwhile."""
    await asked(lab)
    invited = await lab.newest(WORKSHOP_MAIL)
    accepted = await lab.replies(invited, partstat="ACCEPTED")
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="DECLINED")
    ended = await appointment(lab)
    await lab.mails_to_us(accepted, invited.organizer)
    other_id = accepted.replace(b"Message-ID: <", b"Message-ID: <again.")
    await lab.mails_to_us(other_id, invited.organizer)
    assert await appointment(lab) == ended
    assert (await lab.outcomes())[-1][0] == "ignored"
    assert len(await lab.outcomes()) == 3  # the very same mail left no row


async def test_an_answer_that_does_not_say_when_it_was_written_is_kept(lab: Lab) -> None:
    """Else its copy under another Message-ID would be a new answer."""
    await asked(lab)
    invited = await lab.newest(WORKSHOP_MAIL)
    raw = reply(invited, number=1, stamp=lab.world.now)
    await lab.mails_to_us(re.sub(rb"DTSTAMP:[^\r\n]*\r\n", b"", raw), invited.organizer)
    assert await lab.outcomes() == [("kept", "no_stamp")]
    assert (await appointment(lab)).state is S.REQUESTED


async def test_a_calendar_whose_clock_is_wrong_may_change_its_mind(lab: Lab) -> None:
    """An hour ahead, it says yes and a minute later no."""
    await asked(lab)
    ahead = lab.world.now + 60 * MINUTE
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="TENTATIVE", stamp=ahead)
    lab.world.clock.advance(lab.world.now + MINUTE)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), partstat="ACCEPTED", stamp=ahead + MINUTE)
    assert (await appointment(lab)).state is S.CONFIRMED


async def test_an_answer_to_an_earlier_time_is_answered_with_the_present_one(lab: Lab) -> None:
    await asked(lab)
    old = await lab.newest(WORKSHOP_MAIL)
    await lab.world.write(
        book.reschedule, (await appointment(lab)).id, f"nord@{WEDNESDAY_16}", lab.world.now, lab.world.policy
    )
    await lab.deliver()
    await lab.replies(old, partstat="ACCEPTED")
    assert (await appointment(lab)).state is S.REQUESTED
    assert await lab.outcomes() == [("ignored", "outdated")]
    newest = await lab.newest(WORKSHOP_MAIL)
    assert (newest.sequence, newest.start) == (1, datetime.fromtimestamp(WEDNESDAY_16 / 1000, BERLIN))


async def test_from_proves_nothing(lab: Lab) -> None:
    """Who knows the workshop's address, the event's UID and ours has nothing without the token."""
    await asked(lab)
    invited = await lab.newest(WORKSHOP_MAIL)
    forged = reply(invited, number=1, stamp=lab.world.now, sender=WORKSHOP_MAIL)
    owners = (await lab.newest(OWNER_MAIL)).organizer
    for recipient in (REPLIES, "replies+guessed@touchpoint.example", owners):
        await lab.mails_to_us(forged, recipient, sender=WORKSHOP_MAIL)
    assert (await appointment(lab)).state is S.REQUESTED  # and the owner's token accepts for the owner alone
    outcomes = await lab.outcomes()
    assert outcomes[:2] == [("kept", "no_token"), ("kept", "unknown_token")]
    assert outcomes[2] == ("noted", "accepted")


async def test_the_token_holds_whatever_from_says(lab: Lab) -> None:
    """A workshop may answer from another mailbox of its own."""
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), sender="boss@elsewhere.example")
    assert (await appointment(lab)).state is S.CONFIRMED


async def test_an_event_of_somebody_elses_is_kept(lab: Lab) -> None:
    await asked(lab)
    await lab.replies(await lab.newest(WORKSHOP_MAIL), uid="other@elsewhere")
    assert await lab.outcomes() == [("kept", "other_event")]


async def test_mail_for_others_is_not_taken(lab: Lab) -> None:
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await lab.mails_to_us(b"Subject: relay\r\n\r\nhello", "somebody@elsewhere.example")


async def test_only_the_newest_state_is_sent(lab: Lab) -> None:
    """What was overtaken before it left the house is not sent."""
    await asked(lab)
    await lab.world.write(book.confirm, (await appointment(lab)).id, lab.world.now, lab.world.policy)
    got = await lab.got(WORKSHOP_MAIL)
    assert [(i.method, i.sequence, i.status) for i in got] == [("REQUEST", 1, "CONFIRMED")]


async def test_times_are_right_over_the_end_of_summer_time(tmp_path: Path) -> None:
    """Booked in summer time for the week after it ended: 8:00 stays 8:00 on the workshop's clock."""
    async with open_world(tmp_path, start=at("2026-10-20T09:00+02:00")) as world:
        await world.found()
        async with open_lab(world) as lab:
            start = at("2026-10-27T08:00+01:00")
            await lab.world.answers("book", slot=f"nord@{start}")
            invited = await lab.newest(WORKSHOP_MAIL)
            assert invited.start == datetime(2026, 10, 27, 8, 0, tzinfo=BERLIN)
            assert invited.start.utcoffset() == timedelta(hours=1)
            other = datetime(2026, 10, 23, 10, 0, tzinfo=BERLIN)  # before the change
            await lab.replies(invited, "COUNTER", start=other, end=other + timedelta(hours=1))
            assert [s.start for s in (await world.touchpoint()).slots] == [at("2026-10-23T10:00+02:00")]


@pytest.mark.parametrize("reach", [Reach.PAGE, Reach.API])
async def test_a_workshop_that_chose_another_way_gets_no_mail(world: World, reach: Reach) -> None:
    async with open_lab(world, reach=reach) as lab:
        await asked(lab)
        assert await lab.got(WORKSHOP_MAIL) == []
        assert len(await lab.got(OWNER_MAIL)) == 1


async def test_an_owner_who_wants_no_mail_gets_none(world: World) -> None:
    async with open_lab(world) as lab:
        await world.wishes(channels=("web_push", "display"))
        await asked(lab)
        assert await lab.got(OWNER_MAIL) == []


async def test_a_broken_mail_never_stops_a_good_one(lab: Lab) -> None:
    await asked(lab)
    invited = await lab.newest(WORKSHOP_MAIL)
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(500)
    )
    bomb = invited.calendar.serialize().replace(
        "BEGIN:VEVENT", "BEGIN:VEVENT\r\nRRULE:FREQ=SECONDLY" + "\r\nBEGIN:VEVENT" * 50
    )
    hostile = [
        b"",
        b"\x00\xff\xfe" * 300,
        deep,
        b"Subject: =?x-unknown?B?////?=\r\nContent-Type: text/calendar; charset=nonsense\r\n\r\nBEGIN:",
        b"Content-Type: text/calendar\r\n\r\n" + bomb.encode(),
        b"Content-Type: text/calendar; method=REPLY\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"From: " + b"(" * 3_00 + b"\r\n\r\nno",
        b"Content-Type: application/zip\r\n\r\nPK\x03\x04",
    ]
    for raw in hostile:
        await lab.mails_to_us(raw, invited.organizer)
    assert {outcome for outcome, _ in await lab.outcomes()} == {"kept"}
    assert len(await lab.outcomes()) == len(hostile)
    await lab.replies(invited)
    assert (await appointment(lab)).state is S.CONFIRMED
    rows = await lab.world.read(lambda records: records.calendars.mails(waiting=True))
    assert all(row.raw is not None for row in rows)


async def test_an_invitation_to_a_dead_address_marks_it(lab: Lab) -> None:
    """The report comes back to the address that the mail was sent from."""
    await asked(lab)
    await lab.deliver()
    rows = await lab.world.read(lambda records: records.outbox.page())
    delivery = next(row for row in rows if row.target == WORKSHOP_MAIL)
    report = (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; there\r\n\r\n"
        b"Final-Recipient: rfc822; service@nord.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    )
    key = lab.world.policy.calendar_key
    await lab.mails_to_us(report, return_path(delivery.id, "touchpoint.example", key), sender="")
    assert await lab.outcomes() == [("bounced", "bounced")]
    assert await lab.world.read(lambda r: r.mail_addresses.undeliverable(WORKSHOP_MAIL))


async def test_ages_after_a_visit_nothing_is_sent(lab: Lab) -> None:
    """A mail server that was away for weeks does not send what is over."""
    await asked(lab)
    lab.world.clock.advance(lab.world.now + 20 * DAY)
    assert await lab.got(WORKSHOP_MAIL) == []

"""Events read right in other programs, and hostile ones cost nothing."""

from __future__ import annotations

import contextlib
import io
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import icalendar
import pytest
import vobject
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.calendars import (
    Party,
    calendar_address,
    plus_address,
    plus_token,
    reply_token,
    token_hash,
)
from gateway.domain.ical import ItipError, Person, Visit, calendar, read_itip, tame, vtimezone
from gateway.domain.mails import MailError, read_mail

HOUR = 3_600_000
VISIT = Visit(
    uid="a@touchpoint",
    sequence=3,
    stamp=1_795_420_800_000,
    start=1_796_315_400_000,
    end=1_796_319_000_000,
    zone="Europe/Berlin",
    status="CONFIRMED",
    summary="Bremsen, vorn; Prüfung \\ Rückruf",
    description="Zeile eins\nZeile zwei: 180\u2013220\u00a0€",
    organizer=Person(mail="replies+x@tp.example", name='Kfz "Nord"; Team\r\nBCC: x'),
    attendee=Person(mail="jana@keller.example", name="Jana", partstat="NEEDS-ACTION", rsvp=True),
)


def test_texts_come_through_whole() -> None:
    event = vobject.readOne(calendar([VISIT], method="REQUEST").decode()).vevent
    assert event.summary.value == VISIT.summary
    assert event.description.value == "Zeile eins\nZeile zwei: 180\u2013220 €"
    assert event.organizer.params["CN"] == ["Kfz  Nord ; Team  BCC: x"]


def test_no_text_of_theirs_begins_a_line_of_ours() -> None:
    """Neither by the ends of lines that calendars know nor by those that only some readers take for one."""
    trick = "Jana\r\nATTENDEE:x\u2028METHOD:CANCEL\x85\u2029\x0bEND:VEVENT"
    person = Person(mail="jana@example.com", name=trick, partstat="ACCEPTED")
    made = replace(VISIT, summary=trick, description=trick, location=trick, attendee=person)
    written = calendar([made])
    lines = written.decode().splitlines()
    assert not [line for line in lines if line.startswith(("METHOD", "ATTENDEE:x"))]
    assert len(lines) == written.count(b"\r\n")


def test_lines_are_folded_by_octets() -> None:
    text = calendar([replace(VISIT, summary="Größe " * 40)])
    assert all(len(line) <= 75 for line in text.split(b"\r\n"))


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Sydney",
        "Africa/Casablanca",
        "Asia/Kolkata",
        "America/Sao_Paulo",
    ],
)
def test_others_read_every_hour_of_a_year_as_it_is(zone: str) -> None:
    """dateutil knows nothing but the VTIMEZONE that stands in the file."""
    text = b"BEGIN:VCALENDAR\r\n" + vtimezone(zone, 2026, 2027).to_ical() + b"END:VCALENDAR\r\n"
    theirs = tz.tzical(io.StringIO(text.decode().replace("\r\n", "\n"))).get(zone)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at.year < 2028:
        ours = at.astimezone(ZoneInfo(zone))
        # Wall times that stand twice at the end of summer time mean the second one to some readers.
        if ours.replace(fold=0).utcoffset() == ours.replace(fold=1).utcoffset():
            wall = ours.replace(tzinfo=None)
            assert wall.replace(tzinfo=theirs).utcoffset() == ours.utcoffset(), ours
        at += timedelta(hours=5)


def test_summer_time_is_written_as_a_rule() -> None:
    text = vtimezone("Europe/Berlin", 2026, 2026).to_ical().decode()
    assert "DTSTART:20250330T020000" in text
    assert re.search(r"RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3", text)


def test_a_feed_says_how_often_to_look() -> None:
    found = icalendar.Calendar.from_ical(calendar([VISIT], name="Nord", refresh_minutes=15))
    assert found["refresh-interval"].to_ical() == b"PT15M"
    assert found["refresh-interval"].params["VALUE"] == "DURATION"


# --- reading ----------------------------------------------------------------------------------


def said(*lines: str, method: str = "COUNTER") -> str:
    body = "\r\n".join(("UID:a@b", "DTSTAMP:20261123T080000Z", *lines))
    return f"BEGIN:VCALENDAR\r\nMETHOD:{method}\r\nBEGIN:VEVENT\r\n{body}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "DTSTART:20261203T163000Z",
        "DTSTART;TZID=Europe/Berlin:20261203T173000",
        "DTSTART:20261203T173000",
        "DTSTART;TZID=W. Europe Standard Time:20261203T173000",
    ],
)
def test_times_are_read_in_every_writing(line: str) -> None:
    """In UTC, in a zone, on the workshop's clock, and as Outlook names zones."""
    assert read_itip(said(line), "Europe/Berlin").start == 1_796_315_400_000


def test_a_whole_day_is_no_time_that_could_be_offered() -> None:
    found = read_itip(said("DTSTART;VALUE=DATE:20261127", "DTEND;VALUE=DATE:20261128"), "Europe/Berlin")
    assert (found.start, found.end) == (None, None)


def test_what_an_answer_leaves_out_is_taken_as_the_standard_says() -> None:
    found = read_itip(said(method="REPLY"), "UTC")
    assert (found.sequence, found.partstat, found.start) == (0, "", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unreadable"),
        ("BEGIN:VCALENDAR\r\nEND:VCALENDAR", "no_event"),
        ("x" * 300_000, "too_long"),
        ("BEGIN:VEVENT\r\n" * 100, "too_complex"),
        (said("SEQUENCE:many"), "unreadable"),
    ],
)
def test_what_says_nothing_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ItipError) as refused:
        read_itip(text, "UTC")
    assert refused.value.reason in (reason, "no_event", "unreadable")


def test_a_zone_that_changes_every_second_costs_nothing() -> None:
    zone = (
        "BEGIN:VTIMEZONE\r\nTZID:Bomb\r\nBEGIN:STANDARD\r\nDTSTART:16010101T000000\r\n"
        "RRULE:FREQ=SECONDLY\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n"
    )
    text = said("DTSTART;TZID=Bomb:20261203T173000").replace("BEGIN:VEVENT", f"{zone}BEGIN:VEVENT", 1)
    began = time.thread_time()
    read_itip(text, "Europe/Berlin")
    assert time.thread_time() - began < 5
    assert "SECONDLY" not in tame(text)


@given(st.text(max_size=400), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(noise: str, place: int) -> None:
    whole = said("DTSTART:20261203T163000Z", "SEQUENCE:1")
    at = place * len(whole) // 30
    with contextlib.suppress(ItipError):
        read_itip(whole[:at] + noise + whole[at:], "Europe/Berlin")


@given(st.binary(max_size=600))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_mail_or_refused(raw: bytes) -> None:
    try:
        mail = read_mail(raw)
    except MailError:
        return
    assert mail.message_id
    mail.subject.encode()


def test_a_mail_nested_beyond_use_costs_nothing() -> None:
    raw = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(5_000)
    )
    began = time.thread_time()
    with pytest.raises(MailError):
        read_mail(raw)
    assert time.thread_time() - began < 1


# --- addresses --------------------------------------------------------------------------------


def test_an_address_comes_back_in_any_case() -> None:
    token = reply_token(b"k" * 32, "visit", Party.WORKSHOP, "Service@Nord.example")
    address = plus_address("replies@tp.example", token)
    assert plus_token(address.upper(), "replies@tp.example") == token
    assert token_hash(token.upper()) == token_hash(token)
    assert token == reply_token(b"k" * 32, "visit", Party.WORKSHOP, "service@nord.example")


def test_every_party_appointment_and_key_has_its_own_secret() -> None:
    tokens = {
        reply_token(key, visit, party, "x@y.example")
        for key in (b"a" * 32, b"b" * 32)
        for visit in ("1", "2")
        for party in Party
    }
    assert len(tokens) == 8
    assert all(len(token) == 32 for token in tokens)


@pytest.mark.parametrize("address", ["other@tp.example", "replies+x@elsewhere.example", "", "+", "replies"])
def test_other_addresses_are_none_of_ours(address: str) -> None:
    assert plus_token(address, "replies@tp.example") is None
    assert plus_token(address, "") is None


def test_webcal_is_https() -> None:
    assert calendar_address(" webcal://a.example/x.ics ") == "https://a.example/x.ics"
    for bad in ("", "a.example/x", "https://", "https://u:p@a.example/", "javascript:alert(1)"):
        with pytest.raises(ValueError, match="an address"):
            calendar_address(bad)

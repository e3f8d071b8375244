"""Calendar feeds to subscribe to: a workshop's visits, or an owner's, at an address that is a secret.

A feed says when, what and where. What was found stands in the booking alone: a feed's address is copied
into other programs and kept by their makers.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain import ical
from gateway.domain.appointment import ENDED, Appointment
from gateway.domain.calendars import Feed, Party, feed_token, token_hash
from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.flow import invitations
from gateway.flow.invitations import Speech
from gateway.ports import Records

PAST_MS = 30 * DAY_MS
"""Visits that ended longer ago are left out."""

EVENTS_MOST = 2_000
REFRESH_MINUTES = 15


def address(policy: Policy, public_url: str, feed: Feed | None) -> str | None:
    """Where it is subscribed to; None where there is none, or one that was made with a key that is lost."""
    if feed is None:
        return None
    token = feed_token(policy.calendar_key, feed.party, feed.subject, feed.turn)
    if token_hash(token) != feed.token_hash:
        return None
    return f"{public_url}/calendar/{token}.ics"


def rotate(records: Records, party: Party, subject: str, now: int, policy: Policy) -> Feed:
    """A new address; the one before opens nothing from now on."""
    before = records.calendars.feed(party, subject)
    turn = before.turn + 1 if before else 0
    token = feed_token(policy.calendar_key, party, subject, turn)
    feed = Feed(party=party, subject=subject, turn=turn, token_hash=token_hash(token), created=now)
    records.calendars.put_feed(feed)
    return feed


def end(records: Records, party: Party, subject: str) -> None:
    """The address opens nothing any more, and none takes its place until somebody asks for one."""
    before = records.calendars.feed(party, subject)
    if before is not None:
        records.calendars.put_feed(
            Feed(
                party=party,
                subject=subject,
                turn=before.turn,
                token_hash=f"ended:{party}:{subject}",
                created=0,
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a feed holds; writing it out takes longer than reading it, and needs no store."""

    name: str
    visits: tuple[ical.Visit, ...]

    def write(self) -> bytes:
        """The calendar."""
        return ical.calendar(self.visits, name=self.name, refresh_minutes=REFRESH_MINUTES)


def read(records: Records, token: str, now: int, speech: Speech) -> Content:
    """The calendar behind an address. Raises NotFoundError."""
    feed = records.calendars.feed_by_token(token_hash(token))
    if feed is None:
        raise NotFoundError("There is no calendar at this address.")
    return content(records, feed.party, feed.subject, now, speech)


def content(records: Records, party: Party, subject: str, now: int, speech: Speech) -> Content:
    """All visits that are to come, or ended within thirty days."""
    found, look = _appointments(records, party, subject, now), invitations.Look(records)
    events = records.calendars.events([appointment.id for appointment in found])
    visits = [
        invitations.event(invitations.outline(look, appointment, party, speech, events.get(appointment.id)))
        for appointment in found
    ]
    return Content(name=_name(records, party, subject, speech), visits=tuple(visits))


def _appointments(records: Records, party: Party, subject: str, now: int) -> list[Appointment]:
    found = records.workshops.appointments(
        workshop=subject if party is Party.WORKSHOP else None,
        owner=subject if party is Party.OWNER else None,
        start=now - PAST_MS,
        limit=EVENTS_MOST,
    )
    return [appointment for appointment in found if appointment.state not in ENDED]


def _name(records: Records, party: Party, subject: str, speech: Speech) -> str:
    if party is Party.WORKSHOP:
        name = records.workshops.get(subject).name
        language = records.calendars.settings(subject).language
        return speech.texts.say(language, "calendars.feed.workshop", name=name)
    return speech.texts.say(records.owners.get(subject).language, "calendars.feed.owner")

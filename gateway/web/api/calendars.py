"""Calendars: how workshops are reached, feeds to subscribe to, and mail that comes in."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints

from gateway.domain.access import Role
from gateway.domain.calendars import CalendarSettings, Feed, InboundMail, Party, Reach, calendar_address
from gateway.domain.errors import InvalidError
from gateway.flow import busy_feeds, calendar_feeds
from gateway.flow.mail import MailboxFullError, receive_mail
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import BODY_MOST, Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import In, Moment, Out
from gateway.web.problems import Problem

MAIL_MOST = 1_048_576
"""Bytes of a mail that is handed in."""

Address = Annotated[
    str, StringConstraints(pattern=r"^[^@\s<>\"(),:;\\]{1,64}@[A-Za-z0-9.-]{1,253}$", max_length=254)
]

endpoints = Endpoints("Calendars")


# --- workshops ----------------------------------------------------------------------------------


class CalendarIn(In):
    """How a workshop wants to hear of bookings, and where its own calendar is."""

    reach: Reach = Reach.PAGE
    email: Address | None = None
    language: Literal["en", "de"] = "en"
    busy_url: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        None, description="ICS feed of its own calendar, https:// or webcal://; its times are not offered."
    )


class CalendarOut(Out):
    """The same, with how reading its own calendar goes."""

    workshop: str
    reach: Reach
    email: str | None
    language: str
    feed: str | None = Field(description="Address to subscribe to; whoever knows it reads it.")
    busy_url: str | None
    busy_taken_at: Moment | None = Field(description="When it could last be read.")
    busy_count: int
    busy_problem: str | None = Field(description="Why it cannot be read; null while it can.")
    busy_detail: str | None

    @classmethod
    def of_settings(cls, settings: CalendarSettings, feed: str | None) -> Self:
        """From the settings and the feed's address."""
        return cls(
            workshop=settings.workshop,
            reach=settings.reach,
            email=settings.email,
            language=settings.language,
            feed=feed,
            busy_url=settings.busy_url,
            busy_taken_at=settings.busy_taken_at,
            busy_count=settings.busy_count,
            busy_problem=settings.busy_problem,
            busy_detail=settings.busy_detail,
        )


class FeedOut(Out):
    """A feed's address."""

    url: str | None = Field(description="Whoever knows it reads it; null where there is none.")


def _url(call: Call, found: Feed | None) -> str | None:
    return calendar_feeds.address(call.context.policy, call.context.public_url, found)


def _shown(records: Records, call: Call, workshop_id: str) -> CalendarOut:
    feed = records.calendars.feed(Party.WORKSHOP, workshop_id)
    return CalendarOut.of_settings(records.calendars.settings(workshop_id), _url(call, feed))


@endpoints.get("/workshops/{workshop_id}/calendar", Role.WORKSHOP, *STAFF)
async def get_calendar(call: Call, workshop_id: str) -> CalendarOut:
    """Show how a workshop is reached and how reading its own calendar goes."""

    def work(records: Records) -> CalendarOut:
        rights.workshop(records, call.who, workshop_id)
        return _shown(records, call, workshop_id)

    return await call.read(work)


@endpoints.put("/workshops/{workshop_id}/calendar", Role.WORKSHOP, *STAFF)
async def put_calendar(call: Call, workshop_id: str, body: CalendarIn) -> CalendarOut:
    """Choose how a workshop hears of bookings, and which calendar of its own is read."""
    try:
        url = calendar_address(body.busy_url) if body.busy_url else None
    except ValueError as error:
        raise InvalidError(f"busy_url: {error}.") from error

    def work(records: Records) -> CalendarOut:
        workshop = rights.workshop(records, call.who, workshop_id)
        if body.reach is Reach.MAIL and not (body.email or workshop.email):
            raise InvalidError("email: an address is needed to be reached by mail.")
        before = busy_feeds.choose(records, workshop_id, url, call.now)
        records.calendars.put_settings(
            replace(before, reach=body.reach, email=body.email, language=body.language)
        )
        return _shown(records, call, workshop_id)

    return await call.write(work)


@endpoints.post("/workshops/{workshop_id}/calendar/feed", Role.WORKSHOP, *STAFF)
async def rotate_workshop_feed(call: Call, workshop_id: str) -> FeedOut:
    """Make a new feed address; the one before opens nothing from now on."""

    def work(records: Records) -> FeedOut:
        rights.workshop(records, call.who, workshop_id)
        made = calendar_feeds.rotate(records, Party.WORKSHOP, workshop_id, call.now, call.context.policy)
        return FeedOut(url=_url(call, made))

    return await call.write(work)


@endpoints.delete("/workshops/{workshop_id}/calendar/feed", Role.WORKSHOP, *STAFF)
async def end_workshop_feed(call: Call, workshop_id: str) -> None:
    """End the feed: its address opens nothing any more."""

    def work(records: Records) -> None:
        rights.workshop(records, call.who, workshop_id)
        calendar_feeds.end(records, Party.WORKSHOP, workshop_id)

    await call.write(work)


# --- owners -------------------------------------------------------------------------------------


@endpoints.get("/owners/{owner_id}/calendar/feed", Role.OWNER)
async def get_owner_feed(call: Call, owner_id: str) -> FeedOut:
    """Show the address of an owner's own calendar feed."""

    def work(records: Records) -> FeedOut:
        rights.owner(records, call.who, owner_id)
        return FeedOut(url=_url(call, records.calendars.feed(Party.OWNER, owner_id)))

    return await call.read(work)


@endpoints.post("/owners/{owner_id}/calendar/feed", Role.OWNER)
async def rotate_owner_feed(call: Call, owner_id: str) -> FeedOut:
    """Make a new feed address; the one before opens nothing from now on."""

    def work(records: Records) -> FeedOut:
        rights.owner(records, call.who, owner_id)
        made = calendar_feeds.rotate(records, Party.OWNER, owner_id, call.now, call.context.policy)
        return FeedOut(url=_url(call, made))

    return await call.write(work)


@endpoints.delete("/owners/{owner_id}/calendar/feed", Role.OWNER)
async def end_owner_feed(call: Call, owner_id: str) -> None:
    """End the feed: its address opens nothing any more."""

    def work(records: Records) -> None:
        rights.owner(records, call.who, owner_id)
        calendar_feeds.end(records, Party.OWNER, owner_id)

    await call.write(work)


# --- mail ---------------------------------------------------------------------------------------


class MailIn(In):
    """A mail as it came in."""

    message: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The whole message (RFC 5322) in base64, up to 1 MB."
    )
    recipients: list[Address] = Field(
        default_factory=list,
        max_length=100,
        description="Of the envelope; without any, those in the message's headers stand for them.",
    )


class ResultOut(Out):
    """What became of it for one recipient."""

    outcome: str = Field(
        description="confirmed, cancelled, countered, answered, refused, noted, ignored, bounced, kept."
    )
    reason: str
    appointment: str | None


class ResultsOut(Out):
    """What became of it."""

    items: list[ResultOut]


class MailOut(Out):
    """A mail that came in."""

    id: str
    at: Moment
    sender: str = Field(description="As its From says, which proves nothing.")
    recipient: str
    subject: str
    outcome: str
    reason: str
    appointment: str | None
    seen_at: Moment | None
    message: str | None = Field(None, description="In base64, of those that wait, when one is asked for.")


class MailQuery(ListQuery):
    """Which mail."""

    waiting: bool = Field(False, description="Only what waits for somebody.")


def _mail(row: InboundMail) -> MailOut:
    return MailOut(
        id=row.id,
        at=row.at,
        sender=row.sender,
        recipient=row.recipient,
        subject=row.subject,
        outcome=row.outcome,
        reason=row.reason,
        appointment=row.appointment,
        seen_at=row.seen_at,
    )


@endpoints.post("/mail", *STAFF, most=MAIL_MOST * 4 // 3 + BODY_MOST)
async def take_mail(call: Call, body: MailIn) -> ResultsOut:
    """Hand in a mail that came to the reply or bounce address.

    The recipient's address proves who answers an invitation; what cannot be placed is kept for the
    operator with its reason. The same mail again changes nothing.
    """
    try:
        raw = b64decode(body.message, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("message: base64 is expected.") from error
    context = call.context
    try:
        results = await receive_mail(context.database, context.clock, context.policy, raw, body.recipients)
    except MailboxFullError as error:
        raise Problem(503, str(error), kind="mailbox-full") from error
    return ResultsOut(
        items=[ResultOut(outcome=r.outcome, reason=r.reason, appointment=r.appointment) for r in results]
    )


@endpoints.get("/mail", *STAFF)
async def list_mail(call: Call, query: MailQuery) -> Page[MailOut]:
    """List mail that came in, newest first."""
    rows = await call.read(
        lambda r: r.calendars.mails(waiting=query.waiting, after=query.after(), limit=query.limit + 1)
    )
    for row in rows:
        call.who.saw(row.owner, f"mail:{row.id}", "list")
    return page(rows, query.limit, _mail, lambda row: row.id)


@endpoints.get("/mail/{mail_id}", *STAFF)
async def get_mail(call: Call, mail_id: str) -> MailOut:
    """Show one mail, with the message itself while it waits for somebody."""
    row = await call.read(lambda records: records.calendars.mail(mail_id))
    call.who.saw(row.owner, f"mail:{row.id}", "check_matter")
    message = b64encode(row.raw).decode() if row.raw is not None else None
    return _mail(row).model_copy(update={"message": message})


@endpoints.post("/mail/{mail_id}/seen", *STAFF)
async def see_mail(call: Call, mail_id: str) -> MailOut:
    """Say that a mail was dealt with; the message itself is kept no longer."""

    def work(records: Records) -> MailOut:
        records.calendars.see_mail(mail_id, call.now)
        return _mail(records.calendars.mail(mail_id))

    return await call.write(work)

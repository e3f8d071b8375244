"""Calendars on pages: feeds to subscribe to, how a workshop is reached, and mail that waits for somebody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.calendars import CalendarSettings, Feed, InboundMail, Party, Reach, calendar_address
from gateway.domain.delivery import MailAddress
from gateway.domain.errors import NotFoundError
from gateway.flow import busy_feeds, calendar_feeds
from gateway.flow.invitations import Speech
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import LANGUAGES, allow, public, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

routes = web.RouteTableDef()
workshop_only, owner_only, operator_only = allow(Role.WORKSHOP), allow(Role.OWNER), allow(Role.OPERATOR)

MAIL = re.compile(r"[^@\s<>\"(),:;\\]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
ROWS = 50
RAW_SHOWN = 20_000
"""characters of a message that are shown"""


def speech_of(context: Context) -> Speech:
    """With what events are worded."""
    return Speech(
        texts=context.texts, signals=context.signals, policy=context.policy, public_url=context.public_url
    )


# --- the feed itself --------------------------------------------------------------------------


@routes.get("/calendar/{token:[a-z2-7]{32}}.ics")
@public
async def feed(request: web.Request) -> web.Response:
    """A calendar to subscribe to; who knows the address reads it."""
    context, token = request.app[CONTEXT], request.match_info["token"]
    now = context.clock.now()
    try:
        found = await context.database.read(
            lambda records: calendar_feeds.read(records, token, now, speech_of(context))
        )
    except NotFoundError:
        return web.Response(status=404, text="There is no calendar at this address.\n")
    body = await asyncio.to_thread(found.write)
    tag = blake2b(body, digest_size=12).hexdigest()
    known = request.if_none_match or ()
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, max-age=300",
        "X-Robots-Tag": "noindex",
        "Referrer-Policy": "no-referrer",
    }
    if any(one.value in (tag, "*") for one in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="text/calendar", charset="utf-8", headers=headers)


def feed_view(context: Context, found: Feed | None) -> Shown | None:
    """The address, to be copied or opened."""
    url = calendar_feeds.address(context.policy, context.public_url, found)
    return Shown(url=url, webcal="webcal://" + url.partition("://")[2]) if url else None


# --- the workshop -----------------------------------------------------------------------------


@routes.get("/workshop/calendars")
@workshop_only
async def workshop_calendars(request: web.Request) -> web.Response:
    """How bookings reach the workshop, its feed, and its own calendar."""
    context, words = request.app[CONTEXT], await words_for(request)
    identity = who(request)

    def work(records: Records) -> Shown:
        workshop = rights.workshop(records, identity, identity.subject or "")
        settings = records.calendars.settings(workshop.id)
        found = records.calendars.feed(Party.WORKSHOP, workshop.id)
        return Shown(
            shop=workshop.name,
            reach=str(settings.reach),
            email=settings.email or workshop.email or "",
            language=settings.language,
            feed=feed_view(context, found),
            busy_url=settings.busy_url or "",
            busy=busy_words(settings, words, context.clock.now()),
            broken=settings.busy_problem is not None,
            comes_back=bool(settings.email and records.mail_addresses.undeliverable(settings.email)),
        )

    view = await context.database.read(work)
    return _answer(request, words, "workshop_calendars.html", "calendars", view, "workshop")


def busy_words(settings: CalendarSettings, words: Words, now: int) -> str:
    """How its own calendar stands, and since when."""
    if settings.busy_url is None:
        return ""
    taken = settings.busy_taken_at
    moment = f"{words.when(taken, 'medium')}, {words.when(taken, 'time')}" if taken else ""
    if settings.busy_problem is not None:
        problem = words.texts.say(words.language, f"calendars.busy.problem.{settings.busy_problem}")
        return words(f"calendars.busy_{'stale' if taken else 'never'}", problem=problem, moment=moment)
    if not taken:
        return words("calendars.busy_waiting")
    return words("calendars.busy_good", moment=moment, count=settings.busy_count)


@routes.post("/workshop/calendars")
@workshop_only
async def workshop_reach(request: web.Request) -> web.Response:
    """Choose how to be reached."""
    context, workshop, form = request.app[CONTEXT], who(request).subject or "", await request.post()
    reach, email = str(form.get("reach", "")), str(form.get("email", "")).strip()
    language, now = str(form.get("language", "")), context.clock.now()
    if email and not MAIL.fullmatch(email):
        return see("/workshop/calendars", "no_mail")
    if reach not in set(Reach) or (reach == Reach.MAIL and not email):
        return see("/workshop/calendars", "no_mail")

    def work(records: Records) -> None:
        records.workshops.get(workshop)
        before = records.calendars.settings(workshop)
        spoken = language if language in LANGUAGES else before.language
        records.calendars.put_settings(
            replace(before, reach=Reach(reach), email=email or None, language=spoken)
        )
        if email and records.mail_addresses.undeliverable(email):  # somebody has looked after it
            good = MailAddress(address=email.lower(), state="good", reason="said by the workshop", at=now)
            records.mail_addresses.mark(good)

    await context.database.write(work)
    return see("/workshop/calendars", "calendar_saved")


@routes.post("/workshop/calendars/busy")
@workshop_only
async def workshop_busy(request: web.Request) -> web.Response:
    """Read the workshop's own calendar, or stop reading it."""
    context, workshop, form = request.app[CONTEXT], who(request).subject or "", await request.post()
    given = "" if form.get("stop") else str(form.get("url", "")).strip()
    try:
        url = calendar_address(given) if given else None
    except ValueError:
        return see("/workshop/calendars", "no_calendar")
    now = context.clock.now()
    await context.database.write(lambda records: busy_feeds.choose(records, workshop, url, now))
    return see("/workshop/calendars", "busy_taken" if url else "busy_stopped")


@routes.post("/workshop/calendars/feed")
@workshop_only
async def workshop_feed(request: web.Request) -> web.Response:
    """A new address of its feed."""
    return await _rotate(request, Party.WORKSHOP, "/workshop/calendars")


async def _rotate(request: web.Request, party: Party, back: str) -> web.Response:
    context, subject = request.app[CONTEXT], who(request).subject or ""
    now, policy = context.clock.now(), context.policy
    await context.database.write(lambda r: calendar_feeds.rotate(r, party, subject, now, policy))
    return see(back, "feed_made")


# --- the owner --------------------------------------------------------------------------------


@routes.get("/me/calendar")
@owner_only
async def owner_calendar(request: web.Request) -> web.Response:
    """The owner's visits, to subscribe to."""
    context, words = request.app[CONTEXT], await words_for(request)
    owner = who(request).subject or ""
    found = await context.database.read(lambda records: records.calendars.feed(Party.OWNER, owner))
    view = Shown(feed=feed_view(context, found))
    return _answer(request, words, "owner_calendar.html", "visits", view, "")


@routes.post("/me/calendar")
@owner_only
async def owner_feed(request: web.Request) -> web.Response:
    """A new address of the feed."""
    return await _rotate(request, Party.OWNER, "/me/calendar")


# --- the operator -----------------------------------------------------------------------------


@routes.get("/operator/mail")
@operator_only
async def mails(request: web.Request) -> web.Response:
    """Mail that waits for somebody, or all of it; and workshops' calendars that cannot be read."""
    context, words = request.app[CONTEXT], await words_for(request)
    every, after, now = "all" in request.query, request.query.get("after"), context.clock.now()

    def work(records: Records) -> tuple[list[InboundMail], list[Shown]]:
        rows = records.calendars.mails(waiting=not every, after=after, limit=ROWS + 1)
        return rows, _in_trouble(records, words, now)

    rows, trouble = await context.database.read(work)
    for row in rows:
        who(request).saw(row.owner, f"mail:{row.id}", "list")
    more = f"/operator/mail?{'all=1&' if every else ''}after={rows[ROWS - 1].id}" if len(rows) > ROWS else ""
    view = Shown(
        every=every,
        rows=[mail_row(row, words, now) for row in rows[:ROWS]],
        more=more,
        broken=trouble,
    )
    return _answer(request, words, "operator_mail.html", "mail", view, "operator")


def _in_trouble(records: Records, words: Words, now: int) -> list[Shown]:
    """Workshops whose mail comes back, or whose own calendar cannot be read."""
    rows = [
        (one.workshop, words("calendars.comes_back", email=one.email, reason=reason))
        for one, reason in records.calendars.unreached()
    ]
    rows += [(one.workshop, busy_words(one, words, now)) for one in records.calendars.broken_feeds()]
    return [Shown(name=records.workshops.get(workshop).name, text=text) for workshop, text in rows]


def mail_row(row: InboundMail, words: Words, now: int) -> Shown:
    """A mail in a list."""
    say = words.texts.say
    return Shown(
        href=f"/operator/mail/{row.id}",
        at=words.moment(row.at, now),
        sender=row.sender or "–",
        subject=row.subject or "–",
        outcome=say(words.language, f"calendars.mail.outcome.{row.outcome}"),
        reason=say(words.language, f"calendars.mail.reason.{row.reason}"),
        waits=row.outcome == "kept" and row.seen_at is None,
        seen=f"/operator/mail/{row.id}/seen",
    )


@routes.get("/operator/mail/{id}")
@operator_only
async def mail(request: web.Request) -> web.Response:
    """One mail as text; nothing in it is opened."""
    context, words = request.app[CONTEXT], await words_for(request)
    wanted = request.match_info["id"]
    row = await context.database.read(lambda records: records.calendars.mail(wanted))
    who(request).saw(row.owner, f"mail:{row.id}", "check_matter")
    view = mail_row(row, words, context.clock.now())
    view.raw = (row.raw or b"").decode("utf-8", "replace").replace("\x00", "")[:RAW_SHOWN]
    return _answer(request, words, "operator_mail_one.html", "mail", view, "operator")


@routes.post("/operator/mail/{id}/seen")
@operator_only
async def mail_seen(request: web.Request) -> web.Response:
    """It was dealt with."""
    context, wanted = request.app[CONTEXT], request.match_info["id"]
    now = context.clock.now()
    await context.database.write(lambda records: records.calendars.see_mail(wanted, now))
    return see("/operator/mail", "mail_seen")


def _answer(
    request: web.Request, words: Words, template: str, tab: str, view: Shown, role: str
) -> web.Response:
    said = request.query.get("said", "")
    texts: Mapping[str, str] = {key: words(key) for key in (f"toast.{role}_{said}", f"toast.{said}")}
    text = next((text for key, text in texts.items() if words.has(key)), None) if said else None
    toast = Shown(text=text, undo_url=None) if text else None
    return page(request, template, words, tab=tab, view=view, toast=toast)

"""Pages that a link in a message opens, without signing in: each shows one matter and nothing else.

GET renders and changes nothing, for mail scanners open every address they find; POST commits. A link is
used up by an answer. One that is used shows what holds; one that has expired shows nothing of the matter.
Unsubscribing takes one POST (RFC 8058) and can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace as Shown
from typing import Any, TypeVar

from aiohttp import web

from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.feedback import SCALES
from gateway.domain.links import Link, Purpose
from gateway.domain.owner import Owner
from gateway.domain.purposes import BASES, Basis
from gateway.domain.touchpoint import REQUESTS, State, Touchpoint
from gateway.flow import agree, book, follow_up, links, respond, visit
from gateway.ports import Records
from gateway.web import answering, views
from gateway.web.access import by_secret
from gateway.web.context import CONTEXT, Context
from gateway.web.render import message, page, see
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()

CHANNEL = "email"
ONE_CLICK = ("List-Unsubscribe", "One-Click")
SETTLED = (State.BOOKED, State.FULFILLED, State.CLOSED, State.ANSWERED, State.WITHDRAWN, State.EXPIRED)


class _At:
    """One request that came by a link: whose it is, and in which words."""

    def __init__(self, request: web.Request, link: Link, owner: Owner) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.link = link
        self.owner = owner
        self.words = Words(self.context.texts, self.context.texts.language(owner.language), owner.time_zone)
        self.now = self.context.clock.now()
        self.token = request.match_info["token"]
        self.url = f"/a/{self.token}"

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        result = await self.context.database.write(work)
        if self.context.announce:
            await self.context.announce()
        return result

    def show(self, template: str, view: Shown, **more: Any) -> web.Response:
        return unlisted(page(self.request, template, self.words, view=view, **more))

    def tell(self, key: str, *, status: int = 200) -> web.Response:
        title, text = self.words(f"link.{key}_title"), self.words(f"link.{key}")
        return unlisted(message(self.request, self.words, title, text, status=status, back="/me"))

    @property
    def until(self) -> str:
        moment = f"{self.words.when(self.link.expires_at)}, {self.words.when(self.link.expires_at, 'time')}"
        return self.words("link.until", until=moment)


def unlisted(response: web.Response) -> web.Response:
    """The address is a secret: no page that is opened from here learns it, and no search engine keeps it."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


async def _open(request: web.Request) -> tuple[_At, bool]:
    """The link of a request, and whether it is still good. Raises NotFoundError for an unknown one."""
    context, token = request.app[CONTEXT], request.match_info["token"]
    now = context.clock.now()

    def work(records: Records) -> tuple[Link, Owner, bool]:
        try:
            link, good = links.peek(records, token, now), True
        except GoneError as error:
            link, good = error.what, False
        return link, records.owners.get(link.owner), good

    link, owner, good = await context.database.read(work)
    return _At(request, link, owner), good


def _stranger(request: web.Request) -> web.Response:
    words = Words(request.app[CONTEXT].texts, answering.spoken(request))
    title, text = words("link.unknown_title"), words("link.unknown")
    return unlisted(message(request, words, title, text, status=404, back="/sign-in"))


# --- answers ----------------------------------------------------------------------------------------


@routes.get("/a/{token}")
@by_secret
async def look(request: web.Request) -> web.Response:
    """One matter, and what can be chosen; `?action=` is what was tapped in the mail."""
    try:
        at, good = await _open(request)
    except NotFoundError:
        return _stranger(request)
    if not good and at.link.used_at is None:
        return at.tell("expired", status=410)
    return await _show(at, good=good)


async def _show(at: _At, *, good: bool) -> web.Response:
    try:
        match at.link.purpose:
            case Purpose.ANSWER:
                return await _matter(at, good=good)
            case Purpose.QUESTION:
                return await _question(at, good=good)
            case Purpose.EXTRA_WORK:
                return await _extra(at)
            case Purpose.UNSUBSCRIBE:
                return see(f"/u/{at.token}")
    except NotFoundError:
        return at.tell("expired", status=410)
    return _stranger(at.request)


async def _matter(at: _At, *, good: bool) -> web.Response:
    found, places = await at.read(lambda records: _load(records, at))
    one = await views.matter_series(at.context, found, at.now)
    shown = views.matter(found, at.context, at.words, at.now, one)
    over = found.touchpoint.state in SETTLED or found.touchpoint.answer is not None
    if not good and not over:
        return at.tell("used", status=410)
    wanted = at.request.query.get("action", "")
    said = at.request.query.get("said", "")
    view = Shown(
        matter=shown,
        url=at.url,
        more=shown.href,
        status=answering.status(found, at.words) if over else None,
        first=None if over else _first(found, wanted, shown, at),
        slots_label=at.words("slot.offers", workshop=shown.workshop, count=len(shown.slots)),
        actions=answering.actions(found, shown, at.words),
        resets=shown.resets or shown.bookable,
        places=places,
        until=at.until,
        **answering.days(at.now, at.words),
    )
    note = Shown(text=at.words(f"toast.{said}"), undo_url=None) if at.words.has(f"toast.{said}") else None
    return at.show("link_answer.html", view, toast=note)


def _load(records: Records, at: _At) -> tuple[views.Matter, list[Any]]:
    touchpoint = records.touchpoints.get(at.link.about)
    return views.load_matter(records, touchpoint, at.context), answering.places(records, touchpoint)


def _first(found: views.Matter, wanted: str, shown: Shown, at: _At) -> Shown | None:
    """What was tapped in the mail, to be confirmed with one tap."""
    said = views.spoken(found, at.context, at.words, at.now)
    label = dict(said.actions).get(wanted)
    action, _, parameter = wanted.partition(":")
    if label is None or (action == "book" and parameter not in [slot.id for slot in shown.slots]):
        return None
    return Shown(label=label, fields={"action": wanted})


@routes.post("/a/{token}")
@by_secret
async def commit(request: web.Request) -> web.Response:
    """The answer. Of two at the same instant one holds, and the other is shown which."""
    try:
        at, good = await _open(request)
    except NotFoundError:
        return _stranger(request)
    if not good and at.link.used_at is None:
        return at.tell("expired", status=410)
    form = {name: str(value) for name, value in (await request.post()).items()}
    try:
        match at.link.purpose:
            case Purpose.ANSWER:
                return await _answer(at, form)
            case Purpose.QUESTION:
                return await _rate(at, form)
            case Purpose.EXTRA_WORK:
                return await _decide_extra(at, form)
    except (ConflictError, GoneError):
        return see(at.url, "conflict")
    except InvalidError:
        return see(at.url, "not_possible")
    return _stranger(request)


async def _answer(at: _At, form: Mapping[str, str]) -> web.Response:
    chosen = answering.chosen(form, channel=CHANNEL, at=at.now, by=at.owner.id)
    asks = chosen.action.partition(":")[0] in REQUESTS
    policy = at.context.policy

    def work(records: Records) -> Touchpoint:
        link = (links.peek if asks else links.use)(records, at.token, at.now)
        answering.check_person(records, link)
        return respond.answer(records, link.about, chosen, at.now, policy)

    try:
        after = await at.write(work)
    except SlotTakenError:
        await at.write(lambda records: book.refresh(records, at.link.about, at.now, policy))
        return see(at.url, "taken")
    return see(at.url, answering.said(after, asks=asks))


# --- the one question -------------------------------------------------------------------------------


async def _question(at: _At, *, good: bool) -> web.Response:
    asked = await at.read(lambda records: records.feedback.get(at.link.about))
    if asked.answered_at is not None or not good:
        title, text = at.words("link.over_title"), at.words("link.question_done")
        return unlisted(message(at.request, at.words, title, text, status=200, back="/me"))
    place = await at.read(lambda records: answering.workshop_name(records, asked.touchpoint))
    low, high = SCALES[asked.question]
    key = f"feedback.{asked.question}"
    view = Shown(
        title=at.words(f"{key}.title", workshop=place),
        lead="",
        url=at.url,
        scale=list(range(low, high + 1)),
        low=at.words(f"{key}.low"),
        high=at.words(f"{key}.high"),
        first=at.request.query.get("score", ""),
        until=at.until,
    )
    return at.show("link_question.html", view)


async def _rate(at: _At, form: Mapping[str, str]) -> web.Response:
    score, policy = form.get("score", ""), at.context.policy
    if not score.isascii() or not score.isdigit() or len(score) > 2:
        raise InvalidError("score: choose one of the numbers.")

    def work(records: Records) -> None:
        link = links.use(records, at.token, at.now)
        follow_up.rate(records, link.about, int(score), form.get("comment") or None, at.now, policy)

    await at.write(work)
    return see(at.url)


# --- extra work -------------------------------------------------------------------------------------


async def _extra(at: _At) -> web.Response:
    extra, place, product = await at.read(lambda records: _load_extra(records, at))
    words = at.words
    key = {"approved": "approve", "declined": "decline"}.get(str(extra.state))
    over = str(extra.state) != "asked" or extra.answer_by <= at.now
    price = words.texts.price(words.language, extra.price, extra.price, extra.currency) or ""
    view = Shown(
        title=words("link.extra_title", workshop=place),
        product=product,
        reason=extra.reason,
        price=words("link.extra_price", price=price),
        photo=f"{at.url}/photo" if extra.photo else None,
        status=words(f"link.extra_done_{key}") if key else words("link.over_title") if over else None,
        url=at.url,
        until=at.until,
    )
    return at.show("link_extra.html", view)


def _load_extra(records: Records, at: _At) -> tuple[Any, str, str]:
    extra = records.workshops.extra(at.link.about)
    appointment = records.workshops.appointment(extra.appointment)
    device = records.devices.find(appointment.device) if appointment.device else None
    return extra, records.workshops.get(appointment.workshop).name, device.title if device else ""


async def _decide_extra(at: _At, form: Mapping[str, str]) -> web.Response:
    action, policy = form.get("action", ""), at.context.policy
    if action not in ("approve", "decline"):
        raise InvalidError("action: approve or decline.")

    def work(records: Records) -> None:
        link = links.use(records, at.token, at.now)
        visit.answer_extra(
            records, link.about, action == "approve", at.now, policy, by=at.owner.id, channel=CHANNEL
        )

    await at.write(work)
    return see(at.url)


@routes.get("/a/{token}/photo")
@by_secret
async def photo(request: web.Request) -> web.Response:
    """The photo of the extra work that this link asks about."""
    at, good = await _open(request)
    if at.link.purpose != Purpose.EXTRA_WORK or (not good and at.link.used_at is None):
        raise NotFoundError("There is no photo at this address.")
    extra = await at.read(lambda records: records.workshops.extra(at.link.about))
    kept = await at.read(lambda records: records.attachments.get(extra.photo or ""))
    return unlisted(answering.picture(kept))


# --- unsubscribing ----------------------------------------------------------------------------------


@routes.get("/u/{token}")
@by_secret
async def unsubscribe_page(request: web.Request) -> web.Response:
    """What would end, and a button."""
    try:
        at, _ = await _open(request)
    except NotFoundError:
        return _stranger(request)
    if at.link.purpose != Purpose.UNSUBSCRIBE:
        return _stranger(request)
    if at.link.expires_at <= at.now:
        return at.tell("expired", status=410)
    return at.show("link_unsubscribe.html", _ending(at, done=False))


@routes.post("/u/{token}")
@by_secret
async def unsubscribe(request: web.Request) -> web.Response:
    """One-click unsubscribe (RFC 8058 section 3.2): no cookie, no redirect, and as often as anybody likes."""
    try:
        at, _ = await _open(request)
    except NotFoundError:
        return _stranger(request)
    if at.link.purpose != Purpose.UNSUBSCRIBE:
        return _stranger(request)
    if at.link.expires_at <= at.now:
        return at.tell("expired", status=410)
    form, (name, value) = await request.post(), ONE_CLICK
    if form.get(name) != value:
        raise InvalidError(f"{name}: the body of a one-click request is {name}={value} (RFC 8058).")
    by = agree.By(name=at.owner.id, source="link")
    purpose, policy = at.link.about, at.context.policy
    if BASES.get(purpose) is not Basis.DUTY:
        await at.write(lambda r: agree.agree(r, at.owner.id, purpose, False, by, at.now, policy))
    return at.show("link_unsubscribe.html", _ending(at, done=True))


def _ending(at: _At, *, done: bool) -> Shown:
    key = f"consent.{at.link.about}.label"
    label = at.words(key) if at.words.has(key) else at.link.about
    return Shown(purpose=label, url=f"/u/{at.token}", done=done)

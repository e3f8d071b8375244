"""The owner's first page: what needs a decision, how the products are, what comes next; and the one question.

Everything can be done without a script: forms post, and are answered by going on to a page.
"""

from __future__ import annotations

from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.owner import Owner
from gateway.domain.touchpoint import State
from gateway.flow import begun, follow_up, people
from gateway.ports import Records
from gateway.web import answering, asked, rights, views
from gateway.web.access import allow, local_path
from gateway.web.owner_page import (
    COMING,
    NOTIFY_COOKIE,
    OwnerPage,
    device_title,
    load_page,
    notify,
    open_page,
)
from gateway.web.render import see

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

NOT_ASKED_S = 90 * 86_400
"""For so long somebody who said no to notifications is not asked again."""


@routes.get("/inbox")
@owner_only
async def inbox_elsewhere(request: web.Request) -> web.Response:
    """The same by another name."""
    return see("/me")


@routes.get("/me")
@owner_only
async def inbox(request: web.Request) -> web.Response:
    """What needs a decision, how the products are, what comes next."""
    at, loaded = await load_page(request, _load_inbox)
    products, courses = await views.with_all_series(at.context, loaded.products, loaded.matters, at.now)
    matters = []
    for found, one in zip(loaded.matters, courses, strict=True):
        shown = views.matter(found, at.context, at.words, at.now, one)
        shown.begun = answering.begun(loaded.begun.get(shown.id), at.words, at.now, shown.href)
        matters.append(shown)
    questions = [asked.card(question, at.context, at.words, at.now) for question in loaded.questions]
    view = Shown(
        greeting=greeting(loaded.owner, at),
        matters=matters,
        matters_label=at.words("inbox.matters", count=len(matters)) if matters else at.words("inbox.nothing"),
        questions=questions,
        products=[views.product(product, at.context, at.words, at.now) for product in products],
        soon=_soon(loaded, at),
        notify=_notify(loaded, at) if loaded.products else None,
    )
    return at.answer("owner_inbox.html", "now", view)


def _load_inbox(records: Records, at: OwnerPage) -> Shown:
    states = (State.OPEN, State.ANSWERED)
    touchpoints = people.matters(records, at.owner_id, states, limit=20)
    visits = people.visits(records, at.owner_id, COMING, at.now)
    return Shown(
        owner=records.owners.get(at.owner_id),
        matters=[views.load_matter(records, t, at.context) for t in touchpoints],
        products=views.load_products(records, at.owner_id),
        questions=asked.waiting(records, at.owner_id, at.context, at.now),
        visits=[(a, views.find_workshop(records, a.workshop), device_title(records, a)) for a in visits],
        begun={t.id: stopped for t in touchpoints if (stopped := begun.begun(records, t, at.now))},
        subscribed=bool(records.owners.subscriptions(at.owner_id)),
    )


def greeting(owner: Owner, at: OwnerPage) -> str:
    """Good morning, by the owner's clock."""
    hour = at.words.local(at.now).hour
    key = "morning" if 4 <= hour < 11 else "evening" if hour >= 18 or hour < 4 else "day"
    salutation = owner.wishes.get("salutation")
    name = (
        f"{salutation} {owner.name.split()[-1]}" if salutation and at.words.language == "de" else owner.name
    )
    return at.words(f"greeting.{key}", name=name)


def _soon(loaded: Shown, at: OwnerPage) -> list[Shown]:
    items = []
    for appointment, workshop, title in loaded.visits:
        when = f"{at.words.when(appointment.start, 'long')}, {at.words.when(appointment.start, 'time')}"
        service = views.service_name(appointment, workshop, at.words)
        text = " · ".join(part for part in (service, title, workshop.name if workshop else "") if part)
        items.append(Shown(icon="calendar", when=when, text=text, href=f"/me/visits/{appointment.id}"))
    return items


def _notify(loaded: Shown, at: OwnerPage) -> Shown | None:
    """Asked when there is something to wait for, or nothing to do; never beside a decision."""
    if any(found.touchpoint.state is State.OPEN for found in loaded.matters):
        return None
    reason = "visit" if loaded.visits else "calm"
    return notify(at, reason, subscribed=loaded.subscribed)


@routes.post("/me/notify/later")
@owner_only
async def no_notifications(request: web.Request) -> web.Response:
    """Not now: what needs them stands on the page, and goes by their other channels."""
    form = await request.post()
    response = see(local_path(str(form.get("next", "")), "/me"))
    response.set_cookie(NOTIFY_COOKIE, "later", max_age=NOT_ASKED_S, samesite="Lax")
    return response


# --- the one question ------------------------------------------------------------------------


@routes.get("/me/feedback/{id}")
@owner_only
async def feedback(request: web.Request) -> web.Response:
    """One question, answered with one tap."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> asked.Asked:
        return asked.load(records, rights.feedback(records, at.who, wanted), at.context)

    return at.answer("owner_feedback.html", "now", asked.page_view(await at.read(work), at.words))


@routes.post("/me/feedback/{id}")
@owner_only
async def rate(request: web.Request) -> web.Response:
    """The answer to it."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()
    score, comment = str(form.get("score", "")), str(form.get("comment", "")) or None
    expected, policy = str(form.get("expected", "")), at.context.policy

    def work(records: Records) -> None:
        rights.feedback(records, at.who, wanted)
        if expected:
            follow_up.compare(records, wanted, expected, at.now)
            return
        if not score.isascii() or not score.isdigit():
            raise InvalidError("score: choose one of the numbers.")
        follow_up.rate(records, wanted, int(score), comment, at.now, policy)

    try:
        await at.write(work)
    except (ConflictError, InvalidError):
        return see(f"/me/feedback/{wanted}", "conflict")
    return see(f"/me/feedback/{wanted}")

"""How things arrive: what a browser says of a push, a mail address that works again, webhook endpoints."""

from __future__ import annotations

import secrets
from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.delivery import Delivery, Reached
from gateway.domain.errors import InvalidError, NotFoundError, TouchpointError
from gateway.domain.webhooks import MANUFACTURER, Webhook
from gateway.flow import outgoing, webhooks
from gateway.ports import Records
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)
owner_only = allow(Role.OWNER)

SHOWN = 100
LAST = 5
"""Deliveries that an endpoint is shown with."""


# --- what a browser says ------------------------------------------------------------------------


@routes.post("/me/deliveries/{id}/{outcome}")
@owner_only
async def arrived(request: web.Request) -> web.Response:
    """The service worker says that a push was shown (delivered) or opened (seen). Repeating it changes
    nothing; of another owner's delivery it says nothing at all."""
    outcome = {"delivered": Reached.DELIVERED, "seen": Reached.SEEN}.get(request.match_info["outcome"])
    if outcome is None:
        raise web.HTTPNotFound
    context, owner, reached = request.app[CONTEXT], who(request).subject, outcome

    def work(records: Records) -> None:
        delivery = records.outbox.get(request.match_info["id"])
        if delivery.owner != owner:
            raise NotFoundError(f"There is no delivery {delivery.id}.")
        records.outbox.reached(delivery.id, reached, context.clock.now())

    await context.database.write(work)
    return web.Response(status=204)


@routes.post("/me/email/again")
@owner_only
async def email_again(request: web.Request) -> web.Response:
    """The owner says that the address works: it is written to again."""
    context, owner_id = request.app[CONTEXT], who(request).subject or ""

    def work(records: Records) -> None:
        address = records.owners.get(owner_id).email
        if address:
            outgoing.deliverable_again(records, address, context.clock.now())

    await context.database.write(work)
    return see("/me/you", "mail_again")


# --- webhooks -----------------------------------------------------------------------------------


@routes.get("/operator/webhooks")
@operator_only
async def endpoints(request: web.Request) -> web.Response:
    """All endpoints with what was sent to them last, and a form for another one."""
    return await _shown(request)


@routes.post("/operator/webhooks")
@operator_only
async def add(request: web.Request) -> web.Response:
    """Add an endpoint; its secret is shown on the page that answers."""
    context, form = request.app[CONTEXT], await request.post()
    given = {name: str(form.get(name, "")).strip() for name in ("url", "audience", "types")}
    problem = context.check_webhook(given["url"]) if context.check_webhook else None
    if problem:
        return await _shown(request, problem=problem, form=given)

    def work(records: Records) -> Webhook:
        return webhooks.register(
            records,
            audience=given["audience"] or MANUFACTURER,
            url=given["url"],
            types=tuple(name.strip() for name in given["types"].split(",") if name.strip()),
            now=context.clock.now(),
            random=secrets.token_bytes,
        )

    try:
        made = await context.database.write(work)
    except TouchpointError as error:
        return await _shown(request, problem=str(error), form=given)
    return await _shown(request, secret=made.secrets[0].text)


@routes.post("/operator/webhooks/{id}/{action}")
@operator_only
async def act(request: web.Request) -> web.Response:
    """Turn one: a new secret, a test event, on again, away."""
    context, webhook_id = request.app[CONTEXT], request.match_info["id"]
    now, action = context.clock.now(), request.match_info["action"]

    def work(records: Records) -> str:
        match action:
            case "rotate":
                return webhooks.rotate(records, webhook_id, now, secrets.token_bytes).secrets[0].text
            case "test":
                webhooks.test(records, webhook_id, now)
            case "enable":
                webhooks.enable(records, webhook_id)
            case "remove":
                webhooks.remove(records, webhook_id)
            case _:
                raise InvalidError(f"action: {action!r} is none of rotate, test, enable, remove.")
        return ""

    secret = await context.database.write(work)
    if secret:
        return await _shown(request, secret=secret)
    done = {"test": "webhook_tested", "enable": "webhook_enabled", "remove": "webhook_removed"}[action]
    return see("/operator/webhooks", done)


async def _shown(
    request: web.Request, *, problem: str = "", secret: str = "", form: dict[str, str] | None = None
) -> web.Response:
    context, words = request.app[CONTEXT], await words_for(request)
    now = context.clock.now()

    def work(records: Records) -> tuple[list[Shown], list[tuple[str, str]]]:
        rows = [_row(records, w, words, now) for w in records.webhooks.page(limit=SHOWN)]
        return rows, [(w.id, w.name) for w in records.workshops.page(limit=SHOWN)]

    rows, workshops = await context.database.read(work)
    view = Shown(
        lead=words("webhooks.lead", count=len(rows)),
        rows=rows,
        audiences=[
            (MANUFACTURER, words("webhooks.manufacturer")),
            *((f"workshop:{key}", name) for key, name in workshops),
        ],
        problem=problem,
        secret=secret,
        form=form or {},
    )
    said = f"toast.{request.query.get('said', '')}"
    toast = Shown(text=words(said), undo_url=None) if words.has(said) else None
    response = page(request, "operator_webhooks.html", words, tab="webhooks", view=view, toast=toast)
    response.set_status(422 if problem else 200)
    return response


def _row(records: Records, endpoint: Webhook, words: Words, now: int) -> Shown:
    kind, _, workshop = endpoint.audience.partition(":")
    name = words("webhooks.manufacturer")
    if kind == "workshop":
        try:
            name = records.workshops.get(workshop).name
        except NotFoundError:
            name = workshop
    last = records.outbox.to_target(outgoing.WEBHOOK, endpoint.id, LAST)
    state = words(f"webhooks.state_{endpoint.state}")
    return Shown(
        id=endpoint.id,
        url=endpoint.url,
        audience=name,
        types=", ".join(endpoint.types) or words("webhooks.all_types"),
        active=endpoint.disabled_at is None,
        state=f"{state}: {endpoint.reason}" if endpoint.reason else state,
        signing=words("webhooks.signing", count=len(endpoint.signing(now))),
        last=[_last(records, delivery, words, now) for delivery in last],
    )


def _last(records: Records, delivery: Delivery, words: Words, now: int) -> Shown:
    event = delivery.payload.get("event") or {}
    tries = records.outbox.attempts(delivery.id)[-1:]
    said = f"{words.moment(tries[0].at, now)}: {tries[0].detail or tries[0].result}" if tries else "–"
    return Shown(
        type=str(event.get("type", delivery.key)), state=words(f"outbox.state_{delivery.state}"), said=said
    )

"""Webhooks: endpoints of the manufacturer's and the workshops' own systems (Standard Webhooks)."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.domain.access import Role
from gateway.domain.errors import InvalidError
from gateway.domain.webhooks import MANUFACTURER, Webhook, workshop_audience
from gateway.flow import webhooks
from gateway.ports import Records
from gateway.web.access import STAFF, Identity
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, fault_at, page
from gateway.web.api.operating import detail
from gateway.web.api.shapes import DeliveryDetail, In, Moment, Out
from gateway.web.problems import forbidden

WITH_WORKSHOPS = (Role.WORKSHOP, *STAFF)
LAST = 10
"""Deliveries that an endpoint is shown with."""

Address = Annotated[str, StringConstraints(strip_whitespace=True, min_length=9, max_length=2_000)]
EventType = Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.([a-z_]+|\*)$")]
Audience = Annotated[
    str, StringConstraints(pattern=r"^(manufacturer|workshop:[A-Za-z0-9][A-Za-z0-9._-]{0,63})$")
]

endpoints = Endpoints("Webhooks")


class WebhookIn(In):
    """An endpoint."""

    url: Address = Field(description="Https, and not to a private address.")
    audience: Audience | None = Field(
        None, description="manufacturer, or workshop:<id>; left out: of who is asking."
    )
    types: list[EventType] = Field(
        default_factory=list,
        max_length=50,
        description="Such as touchpoint.answered, or appointment.* for all of a kind; empty: all.",
    )
    format: Literal["standard", "cloudevents"] = Field(
        "standard",
        description="The body: type, timestamp and data as Standard Webhooks has them, or a CloudEvent 1.0 "
        "in structured mode. Both are signed the same way.",
    )


class WebhookOut(Out):
    """An endpoint as it stands."""

    id: str
    url: str
    audience: str
    types: tuple[str, ...]
    format: str
    state: str = Field(description="active, or disabled: it answered 410, or somebody turned it off.")
    reason: str | None
    created: Moment
    disabled_at: Moment | None
    signing: int = Field(description="How many secrets sign now: two for a day after a new one was made.")


class WebhookCreated(WebhookOut):
    """With its newest secret."""

    secret: str = Field(description="whsec_…, shown this once: with it the receiver checks signatures.")


class WebhookDetail(WebhookOut):
    """With what was sent to it last."""

    deliveries: list[DeliveryDetail]


def _shown(webhook: Webhook, now: int) -> dict[str, object]:
    names = ("id", "url", "audience", "types", "format", "reason", "created", "disabled_at")
    return {name: getattr(webhook, name) for name in names} | {
        "state": str(webhook.state),
        "signing": len(webhook.signing(now)),
    }


def endpoint_out(webhook: Webhook, now: int) -> WebhookOut:
    """An endpoint as the API shows it; its secrets stay where they are."""
    return WebhookOut.model_validate(_shown(webhook, now))


def _created(webhook: Webhook, now: int) -> WebhookCreated:
    return WebhookCreated.model_validate({**_shown(webhook, now), "secret": webhook.secrets[0].text})


def _own(identity: Identity) -> str | None:
    """The one audience that somebody may see; None for all."""
    return None if identity.staff else workshop_audience(identity.subject or "")


def _allowed(records: Records, webhook_id: str, identity: Identity) -> Webhook:
    """Raises NotFoundError, also for endpoints of others."""
    endpoint = records.webhooks.get(webhook_id)
    own = _own(identity)
    return endpoint if own is None or endpoint.audience == own else records.webhooks.get("")


@endpoints.get("/webhooks", *WITH_WORKSHOPS)
async def list_webhooks(call: Call, query: ListQuery) -> Page[WebhookOut]:
    """List endpoints, newest first; a workshop its own."""
    own, after = _own(call.who), query.after()
    found = await call.read(lambda r: r.webhooks.page(audience=own, after=after, limit=query.limit + 1))
    return page(found, query.limit, lambda w: endpoint_out(w, call.now), lambda w: w.id)


@endpoints.post("/webhooks", *WITH_WORKSHOPS)
async def add_webhook(call: Call, body: WebhookIn) -> WebhookCreated:
    """Add an endpoint.

    From now on it gets a signed POST for every event of its audience. Its secret is shown in this answer
    and never again.
    """
    own = _own(call.who)
    audience = body.audience or own or MANUFACTURER
    if own is not None and audience != own:
        raise forbidden(f"A workshop adds webhooks for itself: leave audience out, or make it {own}.")
    if call.context.check_webhook is not None and (problem := call.context.check_webhook(body.url)):
        raise fault_at("url", f"{problem[0].upper()}{problem[1:]}.")

    def work(records: Records) -> WebhookCreated:
        try:
            made = webhooks.register(
                records,
                audience=audience,
                url=body.url,
                types=tuple(body.types),
                format=body.format,
                now=call.now,
                random=secrets.token_bytes,
            )
        except InvalidError as error:
            raise fault_at("types", str(error)) from error
        return _created(made, call.now)

    return await call.write(work)


@endpoints.get("/webhooks/{webhook_id}", *WITH_WORKSHOPS)
async def get_webhook(call: Call, webhook_id: str) -> WebhookDetail:
    """Show an endpoint with what was sent to it last."""

    def work(records: Records) -> WebhookDetail:
        endpoint = _allowed(records, webhook_id, call.who)
        last = [detail(records, d.id) for d in records.outbox.to_target("webhook", endpoint.id, LAST)]
        return WebhookDetail.model_construct(**dict(endpoint_out(endpoint, call.now)), deliveries=last)

    return await call.read(work)


@endpoints.delete("/webhooks/{webhook_id}", *WITH_WORKSHOPS)
async def delete_webhook(call: Call, webhook_id: str) -> None:
    """Delete an endpoint; what waits for it is not sent."""

    def work(records: Records) -> None:
        webhooks.remove(records, _allowed(records, webhook_id, call.who).id)

    await call.write(work)


@endpoints.post("/webhooks/{webhook_id}/rotate", *WITH_WORKSHOPS)
async def rotate_secret(call: Call, webhook_id: str) -> WebhookCreated:
    """Make a new secret.

    It is shown in this answer and never again. For a day both sign every event, so that the receiver can
    change over without losing any.
    """

    def work(records: Records) -> WebhookCreated:
        endpoint = _allowed(records, webhook_id, call.who)
        return _created(webhooks.rotate(records, endpoint.id, call.now, secrets.token_bytes), call.now)

    return await call.write(work)


@endpoints.post("/webhooks/{webhook_id}/enable", *WITH_WORKSHOPS)
async def enable_webhook(call: Call, webhook_id: str) -> WebhookOut:
    """Send to a disabled endpoint again, from the next event on."""

    def work(records: Records) -> WebhookOut:
        return endpoint_out(webhooks.enable(records, _allowed(records, webhook_id, call.who).id), call.now)

    return await call.write(work)


@endpoints.post("/webhooks/{webhook_id}/test", *WITH_WORKSHOPS)
async def test_webhook(call: Call, webhook_id: str) -> DeliveryDetail:
    """Send a signed webhook.test event; what became of it stands in the delivery."""

    def work(records: Records) -> DeliveryDetail:
        sent = webhooks.test(records, _allowed(records, webhook_id, call.who).id, call.now)
        return detail(records, sent.id)

    return await call.write(work)

"""Endpoints of other systems: made, given new secrets, tried, and turned off when they want no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.ids import new_id
from gateway.domain.times import rfc3339
from gateway.domain.webhooks import MANUFACTURER, STANDARD, TEST, TYPES, EndpointState, Webhook, new_secret
from gateway.flow.outgoing import WEBHOOK
from gateway.ports import Records

MOST = 50
"""Endpoints of one audience: each event is queued for every one of them."""

KINDS = tuple(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in TYPES))


def register(
    records: Records,
    *,
    audience: str,
    url: str,
    types: tuple[str, ...],
    now: int,
    random: Callable[[int], bytes],
    format: str = STANDARD,
) -> Webhook:
    """A new endpoint with its first secret. Raises InvalidError, NotFoundError for a workshop that is not,
    ConflictError when the audience has too many."""
    kind, _, workshop = audience.partition(":")
    if kind == "workshop" and workshop:
        records.workshops.get(workshop)
    elif audience != MANUFACTURER:
        raise InvalidError(f"audience: {audience!r} is neither manufacturer nor workshop:<id>.")
    for name in types:
        if name not in TYPES and name not in KINDS:
            raise InvalidError(f"types: {name!r} is none of {', '.join((*KINDS, *TYPES))}.")
        if kind == "workshop" and not name.startswith("appointment."):
            raise InvalidError(f"types: a workshop hears appointment.*, not {name}.")
    if len(records.webhooks.page(audience=audience, limit=MOST)) >= MOST:
        raise ConflictError(f"There are {MOST} webhooks for {audience} already; delete one first.")
    made = Webhook(
        id=new_id(now),
        audience=audience,
        url=url,
        types=types,
        format=format,
        secrets=(new_secret(random),),
        created=now,
    )
    records.webhooks.put(made)
    return made


def rotate(records: Records, webhook_id: str, now: int, random: Callable[[int], bytes]) -> Webhook:
    """A new secret; the one before signs along for a day."""
    turned = records.webhooks.get(webhook_id).rotated(now, random)
    records.webhooks.put(turned)
    return turned


def enable(records: Records, webhook_id: str) -> Webhook:
    """It is sent to again, from the next event on."""
    endpoint = records.webhooks.get(webhook_id)
    turned = replace(endpoint, state=EndpointState.ACTIVE, disabled_at=None, reason=None)
    records.webhooks.put(turned)
    return turned


def disable(records: Records, webhook_id: str, reason: str, now: int) -> None:
    """Nothing is sent to it any more, what waits for it included."""
    endpoint = records.webhooks.find(webhook_id)
    if endpoint is None or endpoint.state is EndpointState.DISABLED:
        return
    records.webhooks.put(
        replace(endpoint, state=EndpointState.DISABLED, disabled_at=now, reason=reason[:200])
    )
    records.outbox.drop_target(WEBHOOK, webhook_id)


def remove(records: Records, webhook_id: str) -> None:
    """Gone, with what waits for it. Raises NotFoundError."""
    records.webhooks.get(webhook_id)
    records.outbox.drop_target(WEBHOOK, webhook_id)
    records.webhooks.remove(webhook_id)


def test(records: Records, webhook_id: str, now: int) -> Delivery:
    """Queue a signed `webhook.test` event for it alone. Raises NotFoundError, ConflictError when it is
    disabled."""
    endpoint = records.webhooks.get(webhook_id)
    if endpoint.state is not EndpointState.ACTIVE:
        raise ConflictError("This webhook is disabled; enable it first.", None)
    delivery_id = new_id(now)
    event = {"type": TEST, "timestamp": rfc3339(now), "data": {"webhook": endpoint.id}}
    delivery = Delivery(
        id=delivery_id,
        channel=WEBHOOK,
        target=endpoint.id,
        key=f"{TEST}:{delivery_id}",
        payload={"about": "event", "event": event},
        state=DeliveryState.PENDING,
        due_at=now,
        created=now,
    )
    records.outbox.add(delivery)
    return delivery

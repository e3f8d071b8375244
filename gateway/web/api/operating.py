"""What the operator looks at: quarantine, outbox, journal."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from pydantic import Field

from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.errors import NotFoundError
from gateway.domain.messages import QuarantineRow
from gateway.flow import quarantine as quarantine_flow
from gateway.ports import Records
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, bad_cursor, page
from gateway.web.api.shapes import (
    AttemptOut,
    DeliveryDetail,
    DeliveryOut,
    Id,
    JournalOut,
    OutcomeOut,
    Position,
    QuarantineOut,
    ReplayIn,
    ReplayOut,
    Word,
)

endpoints = Endpoints("Operating")


# --- quarantine ---------------------------------------------------------------------------------


class QuarantineQuery(ListQuery):
    """Which messages."""

    reason: Word | None = None


def quarantined(row: QuarantineRow) -> QuarantineOut:
    """A message in quarantine, readable where it can be."""
    try:
        text: str | None = row.payload.decode()
    except UnicodeDecodeError:
        text = None
    return QuarantineOut(
        position=row.position,
        received=row.received,
        topic=row.topic,
        reason=row.reason,
        detail=row.detail,
        replayed=row.replayed,
        size=len(row.payload),
        payload=b64encode(row.payload).decode(),
        text=text,
    )


@endpoints.get("/quarantine", *STAFF)
async def list_quarantine(call: Call, query: QuarantineQuery) -> Page[QuarantineOut]:
    """List messages that could not be decoded, newest first."""
    after, reason = query.after_number(), query.reason
    rows = await call.read(lambda r: r.quarantine.page(after=after, limit=query.limit + 1, reason=reason))
    return page(rows, query.limit, quarantined, lambda row: row.position)


@endpoints.get("/quarantine/{position}", *STAFF)
async def get_quarantined(call: Call, position: Position) -> QuarantineOut:
    """Show one message as it came."""
    return quarantined(await call.read(lambda r: r.quarantine.get(position)))


@endpoints.post("/quarantine/replay", *STAFF)
async def replay_quarantine(call: Call, body: ReplayIn) -> ReplayOut:
    """Put messages into the journal again, after what refused them was mended.

    What still cannot be decoded comes back under a new position.
    """
    count = await quarantine_flow.replay(
        call.context.database,
        call.context.journal,
        positions=body.positions,
        reason=body.reason,
        now=call.now,
    )
    return ReplayOut(replayed=count)


# --- outbox -------------------------------------------------------------------------------------


class OutboxQuery(ListQuery):
    """Which deliveries."""

    state: list[DeliveryState] = Field(default_factory=list, description="Separated by commas.")
    touchpoint: Id | None = None


@endpoints.get("/outbox", *STAFF)
async def list_outbox(call: Call, query: OutboxQuery) -> Page[DeliveryOut]:
    """List what is to be sent, was sent, or could not be sent, newest first."""

    def work(records: Records) -> Sequence[Delivery]:
        after = query.after()
        if after is not None and not known(records, after):
            raise bad_cursor()
        return records.outbox.page(
            states=query.state, touchpoint=query.touchpoint, after=after, limit=query.limit + 1
        )

    rows = await call.read(work)
    for delivery in rows[: query.limit]:
        call.who.saw(delivery.owner, "deliveries", "list")
    return page(rows, query.limit, DeliveryOut.of, lambda delivery: delivery.id)


def known(records: Records, delivery_id: str) -> bool:
    """Whether there is such a delivery."""
    try:
        records.outbox.get(delivery_id)
    except NotFoundError:
        return False
    return True


def detail(records: Records, delivery_id: str) -> DeliveryDetail:
    """A delivery with its attempts."""
    shown = DeliveryOut.of(records.outbox.get(delivery_id))
    tries = [AttemptOut.of(attempt) for attempt in records.outbox.attempts(delivery_id)]
    known = records.outbox.outcomes([delivery_id]).get(delivery_id, [])
    outcomes = [OutcomeOut(outcome=one.outcome, at=one.at) for one in known]
    return DeliveryDetail.model_construct(**dict(shown), tries=tries, outcomes=outcomes)


@endpoints.get("/outbox/{delivery_id}", *STAFF)
async def get_delivery(call: Call, delivery_id: str) -> DeliveryDetail:
    """Show a delivery with every attempt."""

    def work(records: Records) -> DeliveryDetail:
        call.who.saw(records.outbox.get(delivery_id).owner, f"delivery:{delivery_id}", "check_delivery")
        return detail(records, delivery_id)

    return await call.read(work)


@endpoints.post("/outbox/{delivery_id}/retry", *STAFF)
async def retry_delivery(call: Call, delivery_id: str) -> DeliveryDetail:
    """Send a dead letter again."""

    def work(records: Records) -> DeliveryDetail:
        records.outbox.retry(delivery_id, call.now)
        call.who.saw(records.outbox.get(delivery_id).owner, f"delivery:{delivery_id}", "check_delivery")
        return detail(records, delivery_id)

    return await call.write(work)


# --- journal ------------------------------------------------------------------------------------


@endpoints.get("/journal", *STAFF)
async def show_journal(call: Call) -> JournalOut:
    """Show the journal: its size, its readers, and how far behind they are."""
    return JournalOut.model_validate(call.context.journal.status())

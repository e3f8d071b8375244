"""Owners: who they are, what they agreed to, when they may be reached, and what was decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from aiohttp import web
from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.domain.ids import derived_id, new_id
from gateway.domain.owner import Owner, Preferences, PushSubscription
from gateway.domain.touchpoint import LedgerLine
from gateway.domain.wording import ledger_words
from gateway.flow import agree, consents, erase, outgoing, people
from gateway.ports import Records
from gateway.web import export, rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, fault_at, page
from gateway.web.api.shapes import (
    ConsentEntry,
    ConsentIn,
    ConsentOut,
    LedgerLineOut,
    Line,
    OwnerIn,
    OwnerOut,
    OwnerPut,
    PreferencesIn,
    PreferencesOut,
    SubscriptionIn,
    SubscriptionOut,
    Word,
)

endpoints = Endpoints("Owners")


class OwnersQuery(ListQuery):
    """Which owners."""

    find: Line | None = Field(None, description="Part of a name or an id.")


@endpoints.get("/owners", *STAFF)
async def list_owners(call: Call, query: OwnersQuery) -> Page[OwnerOut]:
    """List owners by id."""
    rows = await call.read(
        lambda r: r.owners.page(after=query.after(), limit=query.limit + 1, find=query.find)
    )
    for owner in rows[: query.limit]:
        call.who.saw(owner.id, f"owner:{owner.id}", "list")
    return page(rows, query.limit, OwnerOut.of, lambda owner: owner.id)


@endpoints.post("/owners", *STAFF)
async def register_owner(call: Call, body: OwnerIn) -> OwnerOut:
    """Register an owner.

    Without consents: each is recorded on its own, by purpose.
    """
    values = body.model_dump() | {"id": body.id or new_id(call.now), "created": call.now}
    owner = Owner(**values)

    def work(records: Records) -> OwnerOut:
        records.owners.add(owner)
        return OwnerOut.of(owner)

    return await call.write(work)


@endpoints.get("/owners/{owner_id}", Role.OWNER, *STAFF)
async def get_owner(call: Call, owner_id: str) -> OwnerOut:
    """Show an owner."""
    return OwnerOut.of(await call.read(lambda r: rights.owner(r, call.who, owner_id)))


@endpoints.put("/owners/{owner_id}", *STAFF)
async def put_owner(call: Call, owner_id: str, body: OwnerPut) -> OwnerOut:
    """Replace what is held on an owner.

    With another time zone, quiet hours and the rules of the owner's devices go by the new clock from the
    answer on.
    """

    def work(records: Records) -> tuple[Owner, bool]:
        before = records.owners.get(owner_id)
        after = replace(before, **body.model_dump())
        records.owners.update(after)
        moved = after.time_zone != before.time_zone
        if moved:
            outgoing.owner_moved(records, owner_id, call.now)
        return after, moved

    after, moved = await call.write(work)
    if moved:
        await call.announce()
    return OwnerOut.of(after)


@endpoints.delete("/owners/{owner_id}", Role.OWNER, *STAFF)
async def erase_owner(call: Call, owner_id: str) -> None:
    """Erase an owner everywhere, for good.

    Visits that are to come are cancelled, what is open ends on every channel, their products are nobody's.
    Then everything that is held on them goes: rows, photos, readings of the time in which a product was
    theirs (also in the journal and in quarantine), sessions. What stays names nobody: that a visit took
    place, and what a product is recalled for. Who was told of them hears `owner.erased`.
    """

    def work(records: Records) -> None:
        rights.owner(records, call.who, owner_id)
        erase.erase(records, owner_id, call.now, call.context.policy)
        call.who.seen.clear()

    await call.write(work)
    await call.announce()


@endpoints.get("/owners/{owner_id}/export", Role.OWNER, *STAFF, media="application/zip")
async def export_owner(call: Call, owner_id: str) -> web.StreamResponse:
    """Send everything that is held on an owner, as one archive.

    JSON by table, the readings of their products as CSV, photos as files. Readings are those of the time in
    which a product was theirs.
    """
    return await export.answer(call.request, call.context, call.who, owner_id, call.now)


# --- consents -----------------------------------------------------------------------------------


def consent_of(records: Records, owner_id: str, purpose: str) -> ConsentOut:
    """A consent with its history."""
    entries = [entry for entry in records.owners.consents(owner_id) if entry.purpose == purpose]
    return ConsentOut(
        owner=owner_id,
        purpose=purpose,
        granted=consents.allowed(records, owner_id, purpose),
        history=[ConsentEntry.of(entry) for entry in entries],
    )


@endpoints.get("/owners/{owner_id}/consents", Role.OWNER, *STAFF)
async def list_consents(call: Call, owner_id: str, query: ListQuery) -> Page[ConsentOut]:
    """List everything an owner is asked to agree to, as it stands, each with its history."""

    def work(records: Records) -> list[ConsentOut]:
        rights.owner(records, call.who, owner_id)
        asked = consents.purposes(records, owner_id, call.context.policy)
        return [consent_of(records, owner_id, purpose) for purpose in asked]

    rows = await call.read(work)
    after = query.after()
    place = next((n + 1 for n, row in enumerate(rows) if row.purpose == after), 0)
    return page(rows[place:], query.limit, lambda row: row, lambda row: row.purpose)


@endpoints.get("/owners/{owner_id}/consents/{purpose}", Role.OWNER, *STAFF)
async def get_consent(call: Call, owner_id: str, purpose: Word) -> ConsentOut:
    """Show what an owner agreed to for a purpose, with its history.

    A purpose that was never asked about is not granted and has no history.
    """

    def work(records: Records) -> ConsentOut:
        rights.owner(records, call.who, owner_id)
        return consent_of(records, owner_id, purpose)

    return await call.read(work)


@endpoints.put("/owners/{owner_id}/consents/{purpose}", Role.OWNER, *STAFF)
async def put_consent(call: Call, owner_id: str, purpose: Word, body: ConsentIn) -> ConsentOut:
    """Record that an owner agrees, or withdraws.

    Withdrawing takes effect at once: what of this purpose waits or is unanswered is withdrawn with it, on
    every channel, and nothing of it is handed to a workshop any more. Saying the same again adds nothing to
    the history. A purpose that rests on a legal duty (recall) is refused.
    """

    by = agree.By(name=call.who.name, source=str(call.who.role), text=body.text)

    def work(records: Records) -> ConsentOut:
        rights.owner(records, call.who, owner_id)
        agree.agree(records, owner_id, purpose, body.granted, by, call.now, call.context.policy)
        return consent_of(records, owner_id, purpose)

    return await call.write(work)


# --- preferences --------------------------------------------------------------------------------


@endpoints.get("/owners/{owner_id}/preferences", Role.OWNER, *STAFF)
async def get_preferences(call: Call, owner_id: str) -> PreferencesOut:
    """Show when and how an owner wants to be reached."""

    def work(records: Records) -> PreferencesOut:
        rights.owner(records, call.who, owner_id)
        return _wishes_out(outgoing.wishes(records, owner_id, call.context.policy), call)

    return await call.read(work)


@endpoints.put("/owners/{owner_id}/preferences", Role.OWNER, *STAFF)
async def put_preferences(call: Call, owner_id: str, body: PreferencesIn) -> PreferencesOut:
    """Set when and how an owner wants to be reached.

    Quiet hours are local times of the owner's zone; equal ends mean none. It holds for what waits, too: on a
    channel that is switched off nothing is sent any more, and what waited for the end of quiet hours or for
    room is decided again. What is muted stays so until it becomes graver than it was when it was muted.
    """
    by = agree.By(name=call.who.name, source=str(call.who.role))

    def work(records: Records) -> PreferencesOut:
        rights.owner(records, call.who, owner_id)
        wanted, policy = Preferences(**body.model_dump()), call.context.policy
        return _wishes_out(agree.prefer(records, owner_id, wanted, by, call.now, policy), call)

    return await call.write(work)


def _wishes_out(wanted: Preferences, call: Call) -> PreferencesOut:
    """Preferences as they hold, the operator's number of offers in place of none."""
    offers = call.context.policy.marketing_budget
    return PreferencesOut.of(
        wanted if wanted.marketing_budget is not None else replace(wanted, marketing_budget=offers)
    )


# --- ledger -------------------------------------------------------------------------------------


@endpoints.get("/owners/{owner_id}/ledger", Role.OWNER, *STAFF)
async def list_ledger(call: Call, owner_id: str, query: ListQuery) -> Page[LedgerLineOut]:
    """List every finding on an owner's products with its decision and reasons, newest first.

    What was not sent stands here too, and only here. `text` is in the owner's language.
    """

    def work(records: Records) -> tuple[Owner, Sequence[LedgerLine]]:
        owner = rights.owner(records, call.who, owner_id)
        return owner, people.ledger(records, owner_id, after=query.after(), limit=query.limit + 1)

    owner, lines = await call.read(work)
    return page(lines, query.limit, lambda line: worded(call, owner, line), lambda line: line.id)


def worded(call: Call, owner: Owner, line: LedgerLine) -> LedgerLineOut:
    """A line of the ledger in its owner's words."""
    context = call.context
    text = ledger_words(line, context.texts, owner.language, owner.time_zone, context.signals)
    values = {name: value for name, value in asdict(line).items() if name != "owner"}
    return LedgerLineOut(**values, text=text)


# --- web push -----------------------------------------------------------------------------------


@endpoints.get("/owners/{owner_id}/subscriptions", Role.OWNER, *STAFF)
async def list_subscriptions(call: Call, owner_id: str, query: ListQuery) -> Page[SubscriptionOut]:
    """List the browsers that may show an owner messages."""

    def work(records: Records) -> list[PushSubscription]:
        rights.owner(records, call.who, owner_id)
        return records.owners.subscriptions(owner_id)

    rows = await call.read(work)
    after = query.after()
    place = next((n + 1 for n, row in enumerate(rows) if row.id == after), 0)
    return page(rows[place:], query.limit, SubscriptionOut.of, lambda row: row.id)


@endpoints.post("/owners/{owner_id}/subscriptions", Role.OWNER, *STAFF)
async def subscribe(call: Call, owner_id: str, body: SubscriptionIn) -> SubscriptionOut:
    """Let a browser show an owner messages (RFC 8030).

    Takes what the browser's PushSubscription gives. The same browser again is renewed, not doubled.
    """
    if not body.endpoint.startswith("https://") and call.context.demo is None:
        raise fault_at("endpoint", "endpoint: push services are reached by https.")
    subscription = PushSubscription(
        id=derived_id("subscription", owner_id, body.endpoint),
        owner=owner_id,
        endpoint=body.endpoint,
        p256dh=body.keys.p256dh,
        auth=body.keys.auth,
        label=body.label,
        created=call.now,
    )

    def work(records: Records) -> SubscriptionOut:
        rights.owner(records, call.who, owner_id)
        records.owners.subscribe(subscription)
        return SubscriptionOut.of(subscription)

    return await call.write(work)


@endpoints.delete("/owners/{owner_id}/subscriptions/{subscription_id}", Role.OWNER, *STAFF)
async def unsubscribe(call: Call, owner_id: str, subscription_id: str) -> None:
    """Take a browser out."""

    def work(records: Records) -> None:
        rights.owner(records, call.who, owner_id)
        found = records.owners.subscription(subscription_id)
        if found is None or found.owner != owner_id:
            raise NotFoundError(f"There is no subscription {subscription_id}.")
        records.owners.drop_subscription(subscription_id, call.now)

    await call.write(work)

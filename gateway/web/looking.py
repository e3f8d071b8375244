"""Whoever looks at an owner's data stands in that owner's ledger before the page is answered.

`rights.py` and the lists note on the Identity what they hand out (`Identity.saw`); the middleware here
writes it down when the answer is ready and before it leaves. If it cannot be written, nothing is answered.
What was written is remembered for the day, so that a page that is asked for again costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from aiohttp import web

from gateway.domain.household import Look
from gateway.domain.moments import DAY_MS
from gateway.flow import access_log
from gateway.ports import Records
from gateway.web.access import WHO, Handler, Identity, Sight
from gateway.web.context import CONTEXT, Context

REASON = "Access-Reason"
"""Header by which a system says why it asks; pages have a field."""
REASON_MOST = 200
REMEMBERED_MOST = 100_000
MOST_AT_ONCE = 500

Key = tuple[str, str, str, int]


@web.middleware
async def looking(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write down what the answer shows of owners, then let it go."""
    response = await handler(request)
    identity = request.get(WHO)
    if identity is not None and identity.seen and response.status < 400:
        await note(request.app[CONTEXT], identity, said(request))
    return response


def said(request: web.Request) -> str:
    """Why it is asked, as a system says."""
    return request.headers.get(REASON, "").strip()[:REASON_MOST]


async def note(context: Context, identity: Identity, why: str = "") -> None:
    """Write down what `identity` saw, and that it said `why`."""
    now = context.clock.now()
    remembered: set[Key] = context.extras.setdefault("looks", set())
    fresh = {_key(identity, sight, now): sight for sight in identity.seen}
    fresh = {key: sight for key, sight in fresh.items() if key not in remembered}
    keys = list(fresh)
    for start in range(0, len(keys), MOST_AT_ONCE):
        some = [fresh[key] for key in keys[start : start + MOST_AT_ONCE]]
        await context.database.write(partial(write_down, identity, some, why, now))
    if len(remembered) + len(keys) > REMEMBERED_MOST:
        remembered.clear()
    remembered.update(keys)


def _key(identity: Identity, sight: Sight, now: int) -> Key:
    return (sight.owner, identity.name, sight.what, now // DAY_MS)


def write_down(identity: Identity, sights: Iterable[Sight], why: str, now: int, records: Records) -> None:
    """The same in somebody else's transaction; what was written that day is not written again."""
    for sight in sights:
        access_log.looked(
            records,
            sight.owner,
            by=identity.name,
            role=str(identity.role),
            what=sight.what,
            why=why or reason(records, identity, sight.owner, now) or sight.why,
            now=now,
            device=sight.device,
            **sight.params,
        )


# --- why -----------------------------------------------------------------------------------------


def reason(records: Records, identity: Identity, owner: str, now: int) -> str | None:
    """Why somebody looks at an owner's data today, as they said once in their session."""
    asked = _reason_look(identity, owner, "", now)
    return next((look.why for look in records.people.known([asked])), None)


def give_reason(records: Records, identity: Identity, owner: str, why: str, now: int) -> bool:
    """Keep it, and tell the owner; False when a reason was given in this session already."""
    if not records.people.looked(_reason_look(identity, owner, why, now)):
        return False
    access_log.reason_given(records, owner, by=identity.name, role=str(identity.role), why=why, now=now)
    return True


def _reason_look(identity: Identity, owner: str, why: str, now: int) -> Look:
    return access_log.look_of(
        owner,
        by=identity.name,
        role=str(identity.role),
        what=f"reason:{identity.token}",
        why=why,
        now=now,
    )

"""access_log: an owner's ledger says who looked at or received their data, when and why.

Written once per owner, person, thing and day, in the transaction that reads the data or before it is
answered, so that nobody sees anything of an owner that the owner's ledger does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.errors import NotFoundError
from gateway.domain.household import Look
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.touchpoint import LedgerLine
from gateway.ports import Records

RECEIVED = "received"


def looked(
    records: Records,
    owner: str | None,
    *,
    by: str,
    role: str,
    what: str,
    why: str,
    now: int,
    **params: Any,
) -> bool:
    """Somebody looks at something of an owner's: `what` is "product:car-1", "diagnosis:<appointment>",
    "matter:<touchpoint>", "owner:<id>", …; `why` a word of `ledger.why` in config/messages, or a sentence.

    Call it before the data is answered. Gives whether a line was written: the same again on the same day
    writes none. Without an owner there is nobody to tell.
    """
    if owner is None:
        return False
    return _note(records, "looked", owner, by=by, role=role, what=what, why=why, now=now, **params)


def received(
    records: Records,
    owner: str | None,
    *,
    by: str,
    role: str,
    what: str,
    why: str,
    now: int,
    **params: Any,
) -> bool:
    """Something of an owner's is sent to somebody (webhook, mail, calendar); as `looked`. Call it where it
    is queued, with `start` for the time of a visit."""
    if owner is None:
        return False
    what = f"{RECEIVED}:{what}"
    return _note(records, RECEIVED, owner, by=by, role=role, what=what, why=why, now=now, **params)


def reason_given(records: Records, owner: str, *, by: str, role: str, why: str, now: int) -> None:
    """Who looked says why, after the fact."""
    name = _name(records, role, by)
    told = {"by": by, "role": role, "name": name, "why": why}
    _line(records, "look_reason", owner, None, told, now)


def look_of(owner: str, *, by: str, role: str, what: str, why: str, now: int) -> Look:
    """The look as it is kept: what was received counts once for good."""
    day = 0 if what.startswith(f"{RECEIVED}:") else now // DAY_MS
    return Look(owner=owner, by=by, what=what, day=day, role=role, why=why, at=now)


def _note(
    records: Records,
    code: str,
    owner: str,
    *,
    by: str,
    role: str,
    what: str,
    why: str,
    now: int,
    device: str | None = None,
    **params: Any,
) -> bool:
    if not records.people.looked(look_of(owner, by=by, role=role, what=what, why=why, now=now)):
        return False
    thing, _, about = what.removeprefix(f"{RECEIVED}:").partition(":")
    found = records.devices.find(device) if device else None
    told: dict[str, Any] = {
        "by": by,
        "role": role,
        "name": _name(records, role, by),
        "thing": thing,
        "about": about,
        "why": why,
    }
    if found is not None:
        told["product"] = found.title
    _line(records, code, owner, device, told | params, now)
    return True


def _line(
    records: Records, code: str, owner: str, device: str | None, params: Mapping[str, Any], now: int
) -> None:
    records.touchpoints.write_line(
        LedgerLine(id=new_id(now), at=now, code=code, params=params, owner=owner, device=device)
    )


def _name(records: Records, role: str, by: str) -> str:
    if role != "workshop":
        return by.partition(":")[2] or by  # integration:crm is called crm
    try:
        return records.workshops.get(by).name
    except NotFoundError:
        return by

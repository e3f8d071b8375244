"""claiming: a product goes to its new owner, by the code that its own display shows.

Whoever stands before the product sees the code; that is the proof. Until somebody types it the product
stays with whoever has it, and its owner may call the code back. What was theirs stays theirs: readings of
their own time, visits that stand. What they have not answered ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.domain.access import secret_hash
from gateway.domain.accounts import Proof, ProofKind, display_code, plain_code
from gateway.domain.delivery import Delivery
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.policy import Policy
from gateway.flow import agree, consents, decide, outgoing, recalls
from gateway.flow.claim_words import ABOUT
from gateway.ports import Records

CODE_MS = 30 * DAY_MS
"""For so long a code can be typed."""
TRIES, TRIES_MS = 10, HOUR_MS
"""So often somebody may type a wrong code in so long: 20^8 codes take for ever that way."""
PLATE_MOST = 16

Random = Callable[[int], bytes]


def waiting(records: Records, device_id: str, now: int) -> Proof | None:
    """The code that stands for a product: `data["code"]`, until `expires`."""
    found = records.accounts.standing(ProofKind.CLAIM, device_id)
    return found if found is not None and found.expires > now else None


def offer(
    records: Records, device_id: str, now: int, *, by: str, random: Random = secrets.token_bytes
) -> Proof:
    """A new code for a product, in place of any before; its display shows it. Raises NotFoundError."""
    device, code = records.devices.get(device_id), display_code(random)
    records.accounts.drop_proofs(ProofKind.CLAIM, device_id)
    proof = Proof(
        id=new_id(now),
        hash=secret_hash(f"{ABOUT}:{code}"),
        kind=ProofKind.CLAIM,
        about=device_id,
        data={"code": code, "by": by},
        created=now,
        expires=now + CODE_MS,
    )
    records.accounts.add_proof(proof)
    _display(records, device_id, now, {"code": code, "until": proof.expires})
    _tell(records, "offered", device, now, by=by, until=proof.expires)
    return proof


def call_back(records: Records, device_id: str, now: int, *, by: str) -> None:
    """The code holds no more, and the display forgets it. Without one nothing happens."""
    if records.accounts.standing(ProofKind.CLAIM, device_id) is not None:
        _end(records, device_id, now)
        _tell(records, "offer_ended", records.devices.get(device_id), now, by=by)


def let_go(
    records: Records,
    device_id: str,
    now: int,
    policy: Policy,
    *,
    by: str,
    random: Random = secrets.token_bytes,
) -> None:
    """Its owner does not have it any more: from now on it is nobody's, and its display asks whose it is."""
    device = records.devices.get(device_id)
    _tell(records, "let_go", device, now, by=by)
    give(records, device_id, None, now, policy)
    records.devices.update(replace(records.devices.get(device_id), plate=None))
    offer(records, device_id, now, by=by, random=random)


def give(records: Records, device_id: str, owner: str | None, now: int, policy: Policy) -> Device:
    """A product is another one's, or nobody's, from now on; whoever had it is asked nothing more of it."""
    if records.devices.get(device_id).owner != owner:
        records.devices.transfer(device_id, owner, now)
        decide.changed_hands(records, device_id, now, policy)
        recalls.taken_over(records, device_id, now, policy)
        outgoing.queue_device(records, records.devices.get(device_id), now)
    return records.devices.get(device_id)


# --- taking it ------------------------------------------------------------------------------------


def count_try(records: Records, who: str, now: int) -> bool:
    """Count that somebody typed a code; False when it was too often. In a transaction of its own, for a
    wrong code ends the other one."""
    return records.accounts.count_try(f"{ABOUT}:{who}", TRIES_MS, now) <= TRIES


def behind(records: Records, code: str, now: int) -> Device:
    """The product whose display shows this code. Raises NotFoundError, GoneError."""
    plain = plain_code(code)
    proof = records.accounts.proof(secret_hash(f"{ABOUT}:{plain}"))
    if proof is None or proof.kind is not ProofKind.CLAIM:
        raise NotFoundError("No product shows this code.")
    if proof.used is not None or proof.expires <= now:
        raise GoneError("This code does not hold any more.", proof)
    return records.devices.get(proof.about)


def inherited(records: Records, device: Device, owner_id: str | None) -> str | None:
    """The workshop that a product begins with: that of its new owner's other product of the kind, else the
    one it has."""
    theirs = records.devices.page(owner=owner_id) if owner_id else []
    same = [d.workshop for d in theirs if d.kind == device.kind and d.id != device.id and d.workshop]
    return same[-1] if same else device.workshop


def undecided(records: Records, owner_id: str | None, policy: Policy) -> list[str]:
    """The purposes that somebody was never asked about: they are asked once, not for every product."""
    asked = [p for p in consents.purposes(records, owner_id or "", policy) if p not in agree.IMPLIED]
    return [p for p in asked if owner_id is None or consents.newest_of(records, owner_id, p) is None]


def claim(
    records: Records,
    code: str,
    owner_id: str,
    now: int,
    policy: Policy,
    *,
    workshop: str | None = None,
    plate: str | None = None,
) -> Device:
    """A product is theirs from now on, with their workshop; consents, quiet hours and channels are the
    owner's own and hold for it at once. Raises NotFoundError, GoneError, ConflictError, InvalidError."""
    device = behind(records, code, now)
    if device.owner == owner_id:
        raise ConflictError(f"{device.id} is yours already.", device)
    if workshop is not None and not outgoing.is_workshop(records, workshop):
        raise InvalidError(f"workshop: there is no workshop {workshop!r}.")
    chosen, former = workshop or inherited(records, device, owner_id), device.owner
    _end(records, device.id, now)
    records.devices.update(replace(device, workshop=chosen, plate=(plate or "").strip()[:PLATE_MOST] or None))
    taken = give(records, device.id, owner_id, now, policy)
    if former is not None:
        outgoing.write_line(records, "moved_on", now, owner=former, device=device.id, product=device.title)
    outgoing.write_line(records, "claimed", now, owner=owner_id, device=device.id, product=device.title)
    return taken


def _end(records: Records, device_id: str, now: int) -> None:
    records.accounts.drop_proofs(ProofKind.CLAIM, device_id)
    _display(records, device_id, now, {"code": None})


def _display(records: Records, device_id: str, now: int, payload: dict[str, object]) -> None:
    row_id = new_id(now)
    row = Delivery(
        id=row_id,
        channel=outgoing.DISPLAY,
        target=device_id,
        key=f"{ABOUT}/{device_id}/{row_id}",
        payload={"about": ABOUT, **payload},
        due_at=now,
        created=now,
    )
    records.outbox.add(row)


def _tell(records: Records, code: str, device: Device, now: int, *, by: str, **params: Any) -> None:
    if device.owner is not None:
        outgoing.write_line(
            records, code, now, owner=device.owner, device=device.id, product=device.title, by=by, **params
        )

"""How far messages came, in words: "Push sent 7:02, seen 7:05"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Shown

from gateway.domain.delivery import Delivery, DeliveryOutcome, DeliveryState, MailAddress
from gateway.domain.owner import Owner
from gateway.flow import outgoing
from gateway.ports import Records
from gateway.web.words import Words

IN_WRITING = ("email", "letter", "webhook")
"""Channels of an owner besides the push and the display."""


def said(outcomes: Sequence[DeliveryOutcome], words: Words, now: int) -> list[str]:
    """Each outcome with its time."""
    return [words(f"delivered.{one.outcome}", when=words.moment(one.at, now)) for one in outcomes]


def lines(records: Records, touchpoint_id: str, words: Words, now: int) -> list[str]:
    """How each channel fared with a matter, the first one first: "Push sent 7:02, seen 7:05"."""
    rows = [row for row in records.outbox.page(touchpoint=touchpoint_id, limit=50) if _told(row)]
    outcomes = records.outbox.outcomes([row.id for row in rows])
    told = [_line(row, outcomes.get(row.id, []), words, now) for row in reversed(rows)]
    return [line for line in told if line]


def _told(row: Delivery) -> bool:
    about = row.payload.get("about")
    return outgoing.is_offer(row) or (about == "event" and row.key.endswith(":touchpoint.sent"))


def _line(row: Delivery, outcomes: Sequence[DeliveryOutcome], words: Words, now: int) -> str:
    known = said(outcomes, words, now)
    if not known and row.state is DeliveryState.PENDING and row.due_at > now:
        known = [words("delivered.planned", when=words.moment(row.due_at, now))]
    if not known:
        return ""
    channel = words(f"delivered.{row.channel}")
    return words("delivered.line", channel=channel, outcomes=", ".join(known))


def addresses(records: Records, owner: Owner) -> Mapping[str, tuple[str | None, MailAddress | None]]:
    """{channel: (where it goes, what is known of it)}."""
    known = records.mail_addresses.find(owner.email) if owner.email else None
    return {"email": (owner.email, known), "letter": (owner.address, None)}


def channel_text(
    key: str, places: Mapping[str, tuple[str | None, MailAddress | None]], words: Words
) -> Shown | None:
    """What an owner reads below a channel that goes to an address: text, and where to say that it works."""
    if key not in places:
        return None
    place, known = places[key]
    if not place:
        return Shown(text=words(f"channel.{key}.none"), again=None)
    if known is not None and known.state == "undeliverable":
        text = words(f"channel.{key}.failing", address=place, reason=known.reason)
        return Shown(text=text, again=("/me/email/again", words(f"channel.{key}.again")))
    where = words(f"channel.{key}.to", names=" ".join(place.split()))
    return Shown(text=f"{words(f'channel.{key}.text')} {where}", again=None)

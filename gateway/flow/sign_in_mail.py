"""The mail with a link to sign in: its secret is made when it is sent, so that the outbox keeps none."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from gateway.domain import mail
from gateway.domain.accounts import Account, ProofKind
from gateway.domain.delivery import Delivery
from gateway.domain.errors import NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.owner import Owner
from gateway.domain.texts import Texts
from gateway.flow import accounts
from gateway.ports import Records

LINK, INVITATION = "sign_in_link", "sign_in_invitation"
ABOUT = (LINK, INVITATION)
"""What this module words; `payload["about"]` of their deliveries."""
EMAIL = "email"


def queue_link(records: Records, owner: Owner, wanted: str, now: int) -> None:
    """A link to sign in with, to an owner's address; `wanted` is the page to go on to."""
    _queue(records, LINK, owner.email or "", now, owner=owner.id, account=None, wanted=wanted)


def queue_invitation(records: Records, account: Account, language: str, now: int) -> None:
    """The first link of an account, to the address it signs in with."""
    _queue(records, INVITATION, account.name, now, owner=None, account=account.id, language=language)


def _queue(
    records: Records, about: str, address: str, now: int, *, owner: str | None, **payload: str | None
) -> None:
    if not address or records.mail_addresses.undeliverable(address):
        return
    delivery_id = new_id(now)
    kind = ProofKind.LINK if about == LINK else ProofKind.INVITATION
    records.outbox.add(
        Delivery(
            id=delivery_id,
            channel=EMAIL,
            target=address.lower(),
            key=f"{about}:{delivery_id}",
            payload={"about": about, **payload},
            owner=owner,
            due_at=now,
            created=now,
            expires_at=now + accounts.LASTS[kind],
        )
    )


def render(records: Records, delivery: Delivery, now: int, texts: Texts, public_url: str) -> Delivery | None:
    """The row with its mail; None when its account or address is gone."""
    try:
        if delivery.payload["about"] == LINK:
            return _link(records, delivery, now, texts, public_url)
        return _invitation(records, delivery, now, texts, public_url)
    except NotFoundError:
        return None


def _link(records: Records, delivery: Delivery, now: int, texts: Texts, public_url: str) -> Delivery | None:
    owner = records.owners.get(delivery.owner or "")
    if (owner.email or "").lower() != delivery.target:
        return None
    secret = accounts.hand_out(records, ProofKind.LINK, owner.id, now)
    wanted = quote(str(delivery.payload.get("wanted") or ""), safe="")
    url = f"{public_url}/sign-in/mail/{secret}" + (f"?next={wanted}" if wanted else "")
    return _mail(delivery, texts, texts.language(owner.language), "link", url, name=owner.name)


def _invitation(
    records: Records, delivery: Delivery, now: int, texts: Texts, public_url: str
) -> Delivery | None:
    account = records.accounts.get(str(delivery.payload["account"]))
    if account.ended is not None or account.name != delivery.target:
        return None
    secret = accounts.hand_out(records, ProofKind.INVITATION, account.id, now)
    place = records.workshops.get(account.subject).name if account.subject else accounts.ISSUER
    url = f"{public_url}/sign-in/invitation/{secret}"
    language = texts.language(str(delivery.payload.get("language") or ""))
    return _mail(delivery, texts, language, "invitation", url, name=account.called, place=place)


def _mail(delivery: Delivery, texts: Texts, language: str, kind: str, url: str, **params: str) -> Delivery:
    say = {
        part: texts.say(language, f"signing_in.{kind}.{part}", **params)
        for part in ("subject", "greeting", "text", "button", "small")
    }
    lines = [say["greeting"], say["text"], url, say["small"]]
    page = mail.page(
        language=language,
        title=say["subject"],
        paragraphs=[say["greeting"], say["text"]],
        buttons=[(say["button"], url)],
        small=[say["small"]],
        links=[],
    )
    payload = {
        "to": delivery.target,
        "subject": say["subject"],
        "text": "\n\n".join(lines) + "\n",
        "html": page,
        "headers": {"Auto-Submitted": "auto-generated", "Content-Language": language},
        "language": language,
    }
    return replace(delivery, payload=payload)

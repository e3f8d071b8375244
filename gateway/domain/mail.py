"""Mail without a mail server: the page that a mail is laid out as, return paths, and what bounces say."""

from __future__ import annotations

import email
import email.policy
import hmac
import re
from base64 import b32encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from html import escape

_BOUNCE = re.compile(r"^bounce\+([0-9a-z-]{8,40})\.([a-z2-7]{16})@", re.IGNORECASE)


def return_path(delivery_id: str, bounce_domain: str, key: bytes) -> str:
    """An envelope sender of its own for every delivery (VERP), so that a bounce names what bounced. The id of
    a delivery stands in its Message-ID, where everybody reads it; the mark shows that the mail was sent."""
    return f"bounce+{delivery_id}.{_mark(delivery_id, key)}@{bounce_domain}"


def bounced_delivery(address: str, key: bytes) -> str | None:
    """The delivery whose return path this is; None for any other address, and for one that we never made."""
    found = _BOUNCE.match(address.strip().strip("<>"))
    if found is None:
        return None
    delivery_id, mark = found[1].lower(), found[2].lower()
    return delivery_id if hmac.compare_digest(mark, _mark(delivery_id, key)) else None


def _mark(delivery_id: str, key: bytes) -> str:
    """80 bits in letters and digits that survive a mail server which lowers them."""
    digest = hmac.digest(key, b"bounce\x1f" + delivery_id.encode(), "sha256")
    return b32encode(digest[:10]).decode().lower()


# --- the page ---------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; supported-color-schemes: light dark; }
body { margin: 0; padding: 0; background: #F6F4F0; color: #211F1C; }
.sheet { max-width: 560px; margin: 0 auto; padding: 24px 16px; }
.card { background: #FFFFFF; border: 1px solid #E0DBD2; border-radius: 10px; padding: 24px; }
.button { background: #0B5E63; color: #FFFFFF; border: 1px solid #0B5E63; }
.plain { background: transparent; color: #0B5E63; border: 1px solid #8A8378; }
.muted, .muted a { color: #5E5952; }
@media (prefers-color-scheme: dark) {
  body { background: #171614 !important; color: #F1EEE9 !important; }
  .card { background: #211F1D !important; border-color: #393530 !important; color: #F1EEE9 !important; }
  .button { background: #62C6C3 !important; border-color: #62C6C3 !important; color: #06292B !important; }
  .plain { color: #62C6C3 !important; border-color: #857E74 !important; }
  .muted, .muted a { color: #B3ACA2 !important; }
}
"""

_FONT = (
    "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:24px"
)
_BUTTON = (
    "display:inline-block;padding:12px 18px;border-radius:10px;text-decoration:none;"
    "font-weight:600;margin:0 8px 8px 0"
)


def page(
    *,
    language: str,
    title: str,
    paragraphs: Sequence[str],
    buttons: Sequence[tuple[str, str]] = (),
    small: Sequence[str] = (),
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """A mail as HTML: a title, paragraphs, buttons (label, address), and the small print with its links.

    One column that fits a phone; light and dark by the reader's setting; nothing is fetched from anywhere,
    so nobody learns whether or when it was read."""
    body = [f'<h1 style="font-size:22px;line-height:28px;margin:0 0 16px">{escape(title)}</h1>']
    body += [f'<p style="margin:0 0 16px">{_lines(text)}</p>' for text in paragraphs]
    if buttons:
        marks = [
            f'<a class="{"plain" if place else "button"}" style="{_BUTTON}" '
            f'href="{escape(address, quote=True)}">{escape(label)}</a>'
            for place, (label, address) in enumerate(buttons)
        ]
        body.append(f'<p style="margin:8px 0 0">{"".join(marks)}</p>')
    feet = [_lines(text) for text in small]
    feet += [f'<a href="{escape(address, quote=True)}">{escape(label)}</a>' for label, address in links]
    foot = "".join(f'<p style="margin:0 0 8px">{text}</p>' for text in feet)
    return (
        f'<!doctype html>\n<html lang="{escape(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body style="{_FONT}"><div class="sheet"><div class="card">{"".join(body)}</div>'
        f'<div class="muted" style="font-size:14px;line-height:20px;padding:16px 8px">{foot}</div>'
        "</div></body></html>\n"
    )


def plain_page(subject: str, text: str, language: str = "en") -> str:
    """The page of a mail of which only the text is given."""
    return page(language=language, title=subject, paragraphs=[part for part in text.split("\n\n") if part])


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.strip().splitlines())


# --- bounces ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounce:
    """What a delivery status notification (RFC 3464) says of one recipient."""

    recipient: str
    action: str
    """failed, delayed, delivered, relayed, expanded"""
    status: str
    """enhanced status code (RFC 3463): 5.1.1"""
    reason: str
    """one line, for people"""

    @property
    def final(self) -> bool:
        """It will not arrive."""
        return self.action == "failed" or (not self.action and self.status.startswith("5"))

    @property
    def address_gone(self) -> bool:
        """It is the address that is no good, and not this message or our server."""
        return self.final and blames_address(self.status)


def blames_address(status: str) -> bool:
    """Whether an enhanced status code speaks against the address: bad or disabled mailbox. A full mailbox
    (x.2.2), a refused content (5.6, 5.7) or a lost route are no reason never to write again."""
    subject = status.split(".")[1] if status.count(".") == 2 else ""
    return status.startswith("5") and subject in ("0", "1", "2") and status != "5.2.2" and status != "5.2.3"


def read_bounce(raw: bytes) -> Bounce | None:
    """The first recipient's fate in a delivery status notification; None for any other mail."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    for part in message.walk():
        if part.get_content_type() == "message/delivery-status":
            return next(_recipients(part), None)
    return None


def _recipients(part: Message) -> Iterator[Bounce]:
    blocks = part.get_payload()
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, Message) or "Final-Recipient" not in block:
            continue
        diagnostic = _bare(block.get("Diagnostic-Code"))
        status = str(block.get("Status", "")).split()[0:1]
        yield Bounce(
            recipient=_bare(block.get("Final-Recipient")),
            action=str(block.get("Action", "")).strip().lower(),
            status=status[0] if status else "",
            reason=" ".join(f"{status[0] if status else ''} {diagnostic}".split())[:200],
        )


def _bare(value: object) -> str:
    """A field without its type: "rfc822; a@b" is a@b."""
    kind, sign, rest = str(value or "").partition(";")
    return " ".join((rest if sign else kind).split())


__all__ = [
    "Bounce",
    "blames_address",
    "bounced_delivery",
    "page",
    "plain_page",
    "read_bounce",
    "return_path",
]

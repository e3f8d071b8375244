"""What is queued for the channels, and how it reads when its time has come.

An outbox row says what it is about ("offer", "answered", "question", or a display to be brought up to
date), never how it reads: it is rendered when it is sent, from the records as they are then. So a
push that had to wait shows the slots that are free now, a display never shows a matter that has been
answered, and what nobody needs any more is not sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.appointment import AppointmentState, Workshop
from gateway.domain.delivery import Delivery, DeliveryState, MailAddress, Reached
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.mail import read_bounce
from gateway.domain.moments import DAY_MS, QuietHours, is_clock
from gateway.domain.owner import Preferences
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.times import rfc3339
from gateway.domain.touchpoint import Finding, LedgerLine, State, Touchpoint
from gateway.domain.visit_words import visit_words
from gateway.domain.webhooks import CLOUD_EVENT, CLOUDEVENTS, MANUFACTURER, EndpointState, cloud_event
from gateway.domain.wording import Told, Words, touchpoint_words
from gateway.flow import (
    access_log,
    afterwords,
    claim_words,
    consents,
    invitations,
    sign_in_mail,
    visit_mail,
    written,
)
from gateway.ports import Records
from rules import Catalogue, RuleSet

WEB_PUSH, DISPLAY, JOURNAL = "web_push", "display", "journal"
EMAIL, LETTER, WEBHOOK = "email", "letter", "webhook"

IN_PERSON = (WEB_PUSH, EMAIL, LETTER)
"""Channels that reach the owner wherever they are, and stand in for one another."""

URGENCY = {"advice": "normal", "warning": "normal", "critical": "high"}
"""RFC 8030 section 5.3 by severity."""


STALE_AFTER_MS = {"answered": DAY_MS, "visit": DAY_MS, "reminder": DAY_MS, "extra_work": DAY_MS}
"""What is not delivered by then is not news any more."""

VISIT = visit_mail.ABOUT
"""News of a visit that was booked: owed to who booked it, whatever else they agree to."""

INVITED = ("confirmed", "rescheduled")
"""Changes of a visit of which an owner gets an invitation for their calendar."""

LONGEST_TTL_S = 28 * 86_400
"""Push services keep nothing longer."""


# --- the owner's wishes -----------------------------------------------------------------------


def wishes(records: Records, owner_id: str, policy: Policy) -> Preferences:
    """What the owner set, else the operator's defaults; also in place of quiet hours that are no times,
    for a finding must never stall on them."""
    wanted = records.owners.preferences(owner_id)
    if wanted == Preferences():
        wanted = replace(wanted, weekly_budget=policy.weekly_budget)
    elif is_clock(wanted.quiet_from) and is_clock(wanted.quiet_to):
        return wanted
    return replace(wanted, quiet_from=policy.quiet_from, quiet_to=policy.quiet_to)


def quiet_hours(wanted: Preferences, zone: str) -> QuietHours:
    """The owner's quiet hours, on the owner's clock."""
    return QuietHours(begin=wanted.quiet_from, end=wanted.quiet_to, zone=zone)


# --- queueing ---------------------------------------------------------------------------------


def write_line(
    records: Records,
    code: str,
    now: int,
    *,
    owner: str | None = None,
    device: str | None = None,
    finding: str | None = None,
    touchpoint: Touchpoint | None = None,
    **params: Any,
) -> None:
    """One line of the ledger; what a touchpoint is about is taken from it."""
    if touchpoint is not None:
        owner, device, finding = touchpoint.owner, touchpoint.device, finding or touchpoint.finding
    records.touchpoints.write_line(
        LedgerLine(
            id=new_id(now),
            at=now,
            code=code,
            params=params,
            owner=owner,
            device=device,
            finding=finding,
            touchpoint=touchpoint.id if touchpoint else None,
        )
    )


def queue_display(
    records: Records,
    touchpoint: Touchpoint,
    now: int,
    *,
    found_at: int | None = None,
    due_at: int | None = None,
) -> None:
    """The device's display is to be brought up to date with the touchpoint."""
    records.outbox.drop_pending(touchpoint.id, channel=DISPLAY)
    payload = {"found_at": found_at} if found_at is not None else {}
    row = _delivery(touchpoint, DISPLAY, touchpoint.device, "display", now, payload)
    records.outbox.add(replace(row, due_at=due_at or now))


def offer_row(
    touchpoint: Touchpoint, channel: str, target: str, now: int, payload: Mapping[str, Any]
) -> Delivery:
    """The matter itself for a channel; how it reads is made when it is sent."""
    return _delivery(touchpoint, channel, target, "offer", now, {"about": "offer", **payload})


def queue_push(
    records: Records,
    touchpoint: Touchpoint,
    about: str,
    now: int,
    *,
    due_at: int | None = None,
    **payload: Any,
) -> int:
    """A push to every browser of the owner; gives to how many. The offer itself goes as decided, everything
    else only while the owner wants pushes at all."""
    if about != "offer" and WEB_PUSH not in records.owners.preferences(touchpoint.owner).channels:
        return 0
    subscriptions = records.owners.subscriptions(touchpoint.owner)
    for subscription in subscriptions:
        body = {"about": about, **payload}
        delivery = _delivery(touchpoint, WEB_PUSH, subscription.id, about, now, body)
        begins = due_at or now
        stale = STALE_AFTER_MS.get(about)
        expires = touchpoint.expires_at if stale is None else begins + stale
        records.outbox.add(replace(delivery, due_at=begins, expires_at=expires))
    return len(subscriptions)


def queue_news(
    records: Records, touchpoint: Touchpoint, about: str, now: int, policy: Policy, **payload: Any
) -> None:
    """News of a visit: a push, or a mail to an owner whom no browser reaches. Both are replies that cost no
    budget."""
    if queue_push(records, touchpoint, about, now, **payload) or EMAIL not in policy.channels:
        return
    address = records.owners.get(touchpoint.owner).email
    if not address or records.mail_addresses.undeliverable(address):
        return
    if payload.get("change") in INVITED and EMAIL in wishes(records, touchpoint.owner, policy).channels:
        return  # the invitation says so (itip.py), and one mail is enough
    row = _delivery(touchpoint, EMAIL, address.lower(), about, now, {"about": about, **payload})
    records.outbox.add(replace(row, expires_at=now + STALE_AFTER_MS[about]))


def queue_mail(
    records: Records,
    *,
    to: str,
    about: str,
    subject: str,
    text: str,
    now: int,
    html: str | None = None,
    calendar: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    owner: str | None = None,
    touchpoint: str | None = None,
    key: str | None = None,
    due_at: int | None = None,
    expires_at: int | None = None,
) -> str | None:
    """A mail as it stands, to anybody: invitations, replies, reminders. Gives the delivery's id; None when
    nothing is queued, for the address is known to be undeliverable, or `key` was queued to it before.

    `calendar` is {"method": "REQUEST", "ics": …}; without `html` the text is laid out as a plain page.
    It ends by itself, not with its touchpoint: what was promised is said even when the matter is closed."""
    address = to.strip()
    if not address or records.mail_addresses.undeliverable(address):
        return None
    delivery_id = new_id(now)
    mail = {"subject": subject, "text": text, "html": html, "headers": dict(headers or {})}
    delivery = Delivery(
        id=delivery_id,
        channel=EMAIL,
        target=address.lower(),
        key=key or f"{about}:{delivery_id}",
        payload={"about": about, "mail": {**mail, "to": address, "calendar": dict(calendar or {}) or None}},
        touchpoint=touchpoint,
        owner=owner,
        due_at=now if due_at is None else due_at,
        created=now,
        expires_at=expires_at,
    )
    return delivery_id if records.outbox.add(delivery) else None


def queue_event(
    records: Records,
    audience: str,
    event_type: str,
    data: Mapping[str, Any],
    now: int,
    *,
    key: str | None = None,
    touchpoint: str | None = None,
    owner: str | None = None,
    due_at: int | None = None,
) -> int:
    """A thin event (ids and states; who wants more asks the API) for every endpoint of the audience
    (`manufacturer` or `workshop:<id>`) that wants this type; gives for how many. With `key` once only."""
    endpoints = records.webhooks.hearing(audience, event_type)
    if endpoints and audience == MANUFACTURER and owner is not None:
        about = touchpoint or data.get("finding") or ""
        access_log.received(
            records,
            owner,
            by=MANUFACTURER,
            role=MANUFACTURER,
            what=f"matter:{about}",
            why="told_app",
            now=now,
            device=data.get("device"),
        )
    for endpoint in endpoints:
        delivery_id = new_id(now)
        body = {"type": event_type, "timestamp": rfc3339(now), "data": dict(data)}
        records.outbox.add(
            Delivery(
                id=delivery_id,
                channel=WEBHOOK,
                target=endpoint.id,
                key=key or f"{event_type}:{delivery_id}",
                payload={"about": "event", "event": body},
                touchpoint=touchpoint,
                owner=owner,
                due_at=now if due_at is None else due_at,
                created=now,
            )
        )
    return len(endpoints)


def queue_reset(
    records: Records,
    touchpoint: Touchpoint,
    signals: tuple[str, ...],
    now: int,
    *,
    since: int | None = None,
) -> None:
    """A control entry for the journal that sets counters back: the rules and everybody who replays see it.
    `since`: when the job was done (ms), if that lies back; what was reported from then on still counts."""
    if not signals:
        return
    delivery = _delivery(touchpoint, JOURNAL, JOURNAL, "reset", now, {})
    entry = {
        "type": "reset",
        "id": delivery.id,
        "device": touchpoint.device,
        "signals": list(signals),
        "ts": now,
    }
    if since is not None:
        entry["since"] = since
    records.outbox.add(replace(delivery, payload=entry))


def queue_device(records: Records, device: Device, now: int) -> None:
    """A control entry that tells the rules what a device is, and where its owner lives."""
    entry_id = new_id(now)
    zone = None
    if device.owner is not None:
        with contextlib.suppress(NotFoundError):
            zone = records.owners.get(device.owner).time_zone
    entry = {"type": "device", "device": device.id, "kind": device.kind, "model": device.model}
    records.outbox.add(
        Delivery(
            id=entry_id,
            channel=JOURNAL,
            target=JOURNAL,
            key=f"device/{device.id}/{entry_id}",
            payload=entry | {"time_zone": zone},
            due_at=now,
            created=now,
        )
    )


def owner_moved(records: Records, owner_id: str, now: int) -> None:
    """An owner lives by another clock: the rules are told for each of their devices."""
    after = None
    while page := records.devices.page(owner=owner_id, after=after, limit=1_000):
        after = page[-1].id
        for device in page:
            queue_device(records, device, now)


def tell_found(records: Records, finding: Finding, owner_id: str | None, now: int) -> None:
    """The manufacturer's own systems hear of a finding; its line in the owner's ledger stands before it."""
    names = {"finding": finding.id, "device": finding.device, "rule": finding.rule}
    data = {**names, "version": finding.version, "severity": finding.severity, "shadow": finding.shadow}
    queue_event(records, MANUFACTURER, "finding.found", data, now, key=finding.id, owner=owner_id)


def bounced(records: Records, delivery_id: str, now: int, raw: bytes | None = None) -> str | None:
    """A mail came back to its return path (mail.py reads which): its delivery failed, the address it went to
    is marked where it is to blame, and the next step of the ladder is taken. Gives the delivery's id; None
    for one that is no mail of ours, and for a notification (`raw`, RFC 3464) that says "delayed" or worse
    news of nobody."""
    report = read_bounce(raw) if raw is not None else None
    if report is not None and not report.final:
        return None
    try:
        delivery = records.outbox.get(delivery_id)
    except NotFoundError:
        return None
    if delivery.channel != EMAIL:
        return None
    reason = report.reason if report is not None else "it came back"
    if not records.outbox.reached(delivery.id, Reached.FAILED, now):
        return delivery.id  # told before
    if report is None or report.address_gone:
        undeliverable(records, delivery, reason, now)
    step_failed(records, delivery, now)
    return delivery.id


def step_failed(records: Records, delivery: Delivery, now: int) -> None:
    """A step will not arrive: unless another row of it may, the next one in person takes its place now."""
    if delivery.touchpoint is None or delivery.channel not in IN_PERSON:
        return
    if delivery.payload.get("about") != "offer":
        return
    rows = [row for row in records.outbox.page(touchpoint=delivery.touchpoint, limit=200) if _is_step(row)]
    same = [row for row in rows if row.channel == delivery.channel and row.id != delivery.id]
    if any(row.state in (DeliveryState.PENDING, DeliveryState.LEASED, DeliveryState.SENT) for row in same):
        return
    later = [row for row in rows if row.channel != delivery.channel and row.state is DeliveryState.PENDING]
    if later:
        following = min(later, key=lambda row: (row.due_at, row.id))
        if following.due_at > now:
            records.outbox.move(following.id, now)


def _is_step(row: Delivery) -> bool:
    return row.channel in IN_PERSON and row.payload.get("about") == "offer"


def undeliverable(records: Records, delivery: Delivery, reason: str, now: int) -> None:
    """The address that a mail went to is no good: nothing more is sent there, and its owner is told."""
    if records.mail_addresses.undeliverable(delivery.target):
        return
    entry = MailAddress(address=delivery.target, state="undeliverable", reason=reason[:200], at=now)
    records.mail_addresses.mark(entry)
    if delivery.owner is None:
        return
    about = None
    if delivery.touchpoint is not None:
        with contextlib.suppress(NotFoundError):
            about = records.touchpoints.get(delivery.touchpoint)
    write_line(records, "mail_undeliverable", now, owner=delivery.owner, touchpoint=about)


def deliverable_again(records: Records, address: str, now: int) -> None:
    """Somebody says that an address works: it is written to again."""
    if records.mail_addresses.undeliverable(address):
        records.mail_addresses.mark(MailAddress(address=address, state="good", reason="", at=now))


def close_channels(records: Records, touchpoint: Touchpoint, now: int) -> None:
    """The matter is settled: nothing more is sent for it, the steps of the ladder that were to come are taken
    back, other systems hear of it, and the display is cleared."""
    records.outbox.drop_pending(touchpoint.id, channel=WEB_PUSH)
    for channel in (EMAIL, LETTER):
        records.outbox.drop_pending(touchpoint.id, channel=channel, about="offer")
    _tell_settled(records, touchpoint, now)
    if touchpoint.sent_at is not None:
        queue_display(records, touchpoint, now)


def _tell_settled(records: Records, touchpoint: Touchpoint, now: int) -> None:
    """Once for each state: that it was answered, that it is closed; and through which delivery."""
    if touchpoint.sent_at is None:
        return
    named = {"touchpoint": touchpoint.id, "device": touchpoint.device, "rule": touchpoint.rule}
    what = {**named, "state": str(touchpoint.state)}
    if touchpoint.answer is not None:
        what["action"] = touchpoint.answer.action
        what["channel"] = touchpoint.answer.channel
        _answered_through(records, touchpoint, touchpoint.answer.channel, now)
    kind = "touchpoint.answered" if touchpoint.answer is not None else "touchpoint.closed"
    at = touchpoint.answer.at if touchpoint.answer is not None else now
    key = f"{touchpoint.id}:{at}:{kind}:{touchpoint.state}"
    owner, about = touchpoint.owner, touchpoint.id
    queue_event(records, MANUFACTURER, kind, what, now, key=key, touchpoint=about, owner=owner)


def _answered_through(records: Records, touchpoint: Touchpoint, channel: str, now: int) -> None:
    """The newest delivery of the channel that the answer came through was answered."""
    rows = records.outbox.page(touchpoint=touchpoint.id, states=(DeliveryState.SENT,), limit=50)
    through = next((row for row in rows if row.channel == channel and is_offer(row)), None)
    if through is not None:
        records.outbox.reached(through.id, Reached.ANSWERED, now)


def is_offer(delivery: Delivery) -> bool:
    """Whether a row carries the matter itself, and not an appointment, a question or an event."""
    return delivery.touchpoint is not None and (
        delivery.channel == DISPLAY or delivery.payload.get("about") == "offer"
    )


def _delivery(
    touchpoint: Touchpoint, channel: str, target: str, about: str, now: int, payload: Mapping[str, Any]
) -> Delivery:
    delivery_id = new_id(now)
    return Delivery(
        id=delivery_id,
        channel=channel,
        target=target,
        key=f"{touchpoint.id}:{about}:{delivery_id}",
        payload=payload,
        touchpoint=touchpoint.id,
        owner=touchpoint.owner,
        due_at=now,
        created=now,
    )


# --- rendering --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Matter:
    """A touchpoint with everything that its words need."""

    touchpoint: Touchpoint
    device: Device
    workshop: Workshop | None
    rule: RuleInfo | None
    language: str
    zone: str
    told: Sequence[Told] = ()
    """of a bundle: everything that it is about"""


def told_of(records: Records, touchpoint: Touchpoint, policy: Policy) -> tuple[Told, ...]:
    """Everything that a touchpoint is about and that is still so, its own finding first."""
    matters = records.touchpoints.matters(touchpoint.id)
    return tuple(
        Told(matter, policy.rules.get(matter.rule))
        for matter in matters
        if matter.finding == touchpoint.finding or matter.cleared_at is None
    )


def matter(records: Records, touchpoint_id: str, policy: Policy) -> Matter:
    """Read it together. Raises NotFoundError."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    owner = records.owners.get(touchpoint.owner)
    device = records.devices.get(touchpoint.device)
    return Matter(
        touchpoint=touchpoint,
        device=device,
        workshop=workshop_of(records, device, touchpoint),
        rule=policy.rules.get(touchpoint.rule),
        language=owner.language,
        zone=owner.time_zone,
        told=told_of(records, touchpoint, policy),
    )


def workshop_of(records: Records, device: Device, touchpoint: Touchpoint | None = None) -> Workshop | None:
    """The workshop whose slots are proposed, else the one its owner chose for the matter or the device."""
    slots = touchpoint.slots if touchpoint else ()
    workshop = slots[0].workshop if slots else (touchpoint and touchpoint.workshop) or device.workshop
    try:
        return records.workshops.get(workshop) if workshop else None
    except NotFoundError:
        return None


def is_workshop(records: Records, workshop_id: str) -> bool:
    """Whether there is one."""
    try:
        return bool(records.workshops.get(workshop_id))
    except NotFoundError:
        return False


class Renderer:
    """Turns an outbox row into what its channel sends."""

    def __init__(self, *, texts: Texts, signals: Catalogue, policy: Policy, public_url: str) -> None:
        self._texts = texts
        self._signals = signals
        self._policy = policy
        self._public_url = public_url.rstrip("/")

    @property
    def texts(self) -> Texts:
        """The words."""
        return self._texts

    @property
    def signals(self) -> Catalogue:
        """Those of the rules in force."""
        return self._signals

    def take(self, rules: RuleSet) -> None:
        """Values are worded by the signals of the rules in force."""
        self._signals = rules.catalogue

    def render(self, records: Records, delivery: Delivery, now: int) -> Delivery | None:
        """The row with its payload complete; None when nobody needs it any more."""
        if "mail" in delivery.payload:  # it stands as it was queued
            return replace(delivery, payload=delivery.payload["mail"])
        if delivery.channel == EMAIL and delivery.payload.get("about") in visit_mail.ABOUT:
            return visit_mail.render(records, delivery, now, self._texts, self._public_url)
        if delivery.payload.get("about") in sign_in_mail.ABOUT:
            return sign_in_mail.render(records, delivery, now, self._texts, self._public_url)
        if delivery.payload.get("about") in invitations.ABOUT:
            speech = invitations.Speech(
                texts=self._texts, signals=self._signals, policy=self._policy, public_url=self._public_url
            )
            return invitations.render(records, delivery, now, speech)
        if delivery.payload.get("about") in afterwords.ABOUT:
            told = afterwords.render(records, delivery, now, self._texts, self._public_url)
            return told and self._not_at_night(records, told, now)
        if delivery.payload.get("about") == claim_words.ABOUT:
            return claim_words.render(records, delivery, self._texts, self._public_url)
        if delivery.channel == WEBHOOK:
            return self._event(records, delivery, now)
        if delivery.channel == JOURNAL or delivery.touchpoint is None:
            return delivery
        try:
            found = matter(records, delivery.touchpoint, self._policy)
        except NotFoundError:
            return None
        match delivery.channel:
            case "display":
                payload: Mapping[str, Any] | None = self._display(records, found, now)
            case "email" | "letter":
                payload = self._in_writing(records, found, delivery, now)
            case _:
                payload = self._push(records, found, delivery, now)
        return None if payload is None else replace(delivery, payload=payload)

    def _not_at_night(self, records: Records, told: Delivery, now: int) -> Delivery:
        """A push service keeps it for a phone that is off until the next quiet hours begin at the latest."""
        if told.channel != WEB_PUSH or told.owner is None:
            return told
        zone = records.owners.get(told.owner).time_zone
        begin = quiet_hours(wishes(records, told.owner, self._policy), zone).next_begin(now)
        if begin is None:
            return told
        ttl_s = max(0, min(told.payload["ttl_s"], (begin - now) // 1000))
        return replace(told, payload={**told.payload, "ttl_s": ttl_s})

    def _event(self, records: Records, delivery: Delivery, now: int) -> Delivery | None:
        """The event with where it goes and what it is signed with, as these are now."""
        endpoint = records.webhooks.find(delivery.target)
        if endpoint is None or endpoint.state is not EndpointState.ACTIVE:
            return None
        event = delivery.payload["event"]
        if event["type"] == "touchpoint.sent" and not self._still_offered(records, delivery):
            return None
        payload = {"url": endpoint.url, "secrets": list(endpoint.signing(now)), "event": event}
        if endpoint.format == CLOUDEVENTS:
            payload |= {"event": cloud_event(delivery.id, event, self._public_url), "media": CLOUD_EVENT}
        return replace(delivery, payload=payload)

    def _still_offered(self, records: Records, delivery: Delivery) -> bool:
        """Whether the matter that another system is to show is still open and agreed to."""
        try:
            touchpoint = records.touchpoints.get(delivery.touchpoint or "")
        except NotFoundError:
            return False
        open_yet = touchpoint.state is State.OPEN and touchpoint.owner == delivery.owner
        return open_yet and consents.allowed(records, touchpoint.owner, touchpoint.purpose)

    def _in_writing(
        self, records: Records, found: Matter, delivery: Delivery, now: int
    ) -> Mapping[str, Any] | None:
        """The mail or the letter of a matter that is still open, agreed to, and wanted this way."""
        touchpoint = found.touchpoint
        owner = records.owners.get(touchpoint.owner)
        wanted = wishes(records, owner.id, self._policy)
        if touchpoint.state is not State.OPEN or delivery.channel not in wanted.channels:
            return None
        if not consents.allowed(records, owner.id, touchpoint.purpose):
            return None
        head = written.Letterhead(texts=self._texts, public_url=self._public_url)
        words = self.words(found, now)
        if delivery.channel == LETTER:
            return written.letter(head, owner, touchpoint, words) if owner.address else None
        if not owner.email or records.mail_addresses.undeliverable(owner.email):
            return None
        return written.offer_mail(records, head, owner, touchpoint, words, now)

    def words(self, found: Matter, now: int) -> Words:
        """How the matter reads now."""
        return touchpoint_words(
            found.touchpoint,
            found.device,
            found.workshop,
            found.rule,
            self._signals,
            self._texts,
            found.language,
            found.zone,
            now=now,
            matters=found.told,
        )

    def _display(self, records: Records, found: Matter, now: int) -> Mapping[str, Any]:
        """What the display shows: the matter while it is open and agreed to, nothing afterwards."""
        touchpoint = found.touchpoint
        agreed = consents.allowed(records, touchpoint.owner, touchpoint.purpose)
        if touchpoint.state is not State.OPEN or not agreed:
            return {"touchpoint": touchpoint.id, "show": None}
        words = self.words(found, now)
        show = {
            "id": touchpoint.id,
            "title": words.title,
            "body": words.short,
            "severity": touchpoint.severity,
            "actions": [{"id": action, "label": label} for action, label in words.actions],
            "expires": rfc3339(touchpoint.expires_at) if touchpoint.expires_at else None,
        }
        ttl_s = max(1, (touchpoint.expires_at - now) // 1000) if touchpoint.expires_at else None
        return {"touchpoint": touchpoint.id, "show": show, "ttl_s": ttl_s}

    def _push(
        self, records: Records, found: Matter, delivery: Delivery, now: int
    ) -> Mapping[str, Any] | None:
        touchpoint = found.touchpoint
        subscription = records.owners.subscription(delivery.target)
        message = self._message(records, found, delivery, now)
        if subscription is None or subscription.dropped is not None or message is None:
            return None
        if subscription.owner != touchpoint.owner:
            return None  # the browser has changed hands since it was queued
        return {
            "endpoint": subscription.endpoint,
            "p256dh": subscription.p256dh,
            "auth": subscription.auth,
            "topic": touchpoint.id.replace("-", "")[:32],
            "urgency": URGENCY.get(touchpoint.severity, "normal"),
            "ttl_s": self._ttl(records, found, delivery, now),
            "message": message,
        }

    def _ttl(self, records: Records, found: Matter, delivery: Delivery, now: int) -> int:
        """Seconds for which a push service keeps it for a phone that is off: not into the quiet hours, for
        then it would ring when the phone comes back at night. What is dangerous at once waits as long as it
        holds."""
        ends = [delivery.expires_at or now + DAY_MS]
        critical = found.touchpoint.severity == "critical" and is_offer(delivery)
        if not critical or found.device.kind in self._policy.in_use_kinds:
            wanted = wishes(records, found.touchpoint.owner, self._policy)
            begin = quiet_hours(wanted, found.zone).next_begin(now)
            ends += [begin] if begin is not None else []
        return max(0, min((min(ends) - now) // 1000, LONGEST_TTL_S))

    def _message(
        self, records: Records, found: Matter, delivery: Delivery, now: int
    ) -> Mapping[str, Any] | None:
        touchpoint = found.touchpoint
        if delivery.payload.get("about") in VISIT:
            return self._visit(records, found, delivery, now)
        if not consents.allowed(records, touchpoint.owner, touchpoint.purpose):
            return None
        match delivery.payload.get("about"):
            case "offer" if touchpoint.state is State.OPEN:
                return self._offer(found, delivery, now)
            case "answered" if touchpoint.answer is not None:
                return self._answered(records, found, delivery)
            case _:
                return None

    def _visit(
        self, records: Records, found: Matter, delivery: Delivery, now: int
    ) -> Mapping[str, Any] | None:
        """What the owner hears of a visit that was booked, while it is still so."""
        payload = delivery.payload
        extra = records.workshops.extra(payload["extra"]) if "extra" in payload else None
        appointment = records.workshops.appointment(extra.appointment if extra else payload["appointment"])
        workshop = records.workshops.get(appointment.workshop)
        said = visit_words(
            self._texts, found.language, found.zone, payload, appointment, extra, workshop, found.device, now
        )
        if said is None:
            return None
        envelope = self._envelope(found, delivery, said.title, said.body)
        path = f"/me/extra-work/{extra.id}" if extra else f"/me/visits/{appointment.id}"
        actions = [{"action": action, "title": label} for action, label in said.actions]
        return {**envelope, "url": self._public_url + path, "actions": actions, **said.more}

    def _offer(self, found: Matter, delivery: Delivery, now: int) -> Mapping[str, Any]:
        words = self.words(found, now)
        actions = [{"action": action, "title": label} for action, label in words.actions]
        # What an open matter has been joined by is shown without ringing again.
        quiet = {"silent": True} if delivery.payload.get("silent") else {}
        return self._envelope(found, delivery, words.title, words.body) | {"actions": actions} | quiet

    def _answered(self, records: Records, found: Matter, delivery: Delivery) -> Mapping[str, Any]:
        """Replaces the notification where it still stands, after an answer on another channel."""
        touchpoint, say = found.touchpoint, self._texts.say
        standing = records.workshops.appointments(
            touchpoint=touchpoint.id, states=(AppointmentState.REQUESTED, AppointmentState.CONFIRMED)
        )
        action = touchpoint.answer.action if touchpoint.answer else ""
        params: dict[str, Any] = {"product": found.device.title}
        if standing:
            moment = self._texts.moment(found.language, standing[0].start, found.zone)
            workshop = records.workshops.get(standing[0].workshop).name
            params |= {"moment": moment, "workshop": workshop}
            action = str(standing[0].state)
            if standing[0].answer_by is not None and action == "requested":
                action = "requested_until"
                params["until"] = self._texts.moment(found.language, standing[0].answer_by, found.zone)
        title = say(found.language, f"actions.answered.{action}.title", **params)
        body = say(found.language, f"actions.answered.{action}.body", **params)
        return self._envelope(found, delivery, title, body) | {"silent": True}

    def _envelope(self, found: Matter, delivery: Delivery, title: str, body: str) -> dict[str, Any]:
        return {
            "id": delivery.id,
            "touchpoint": found.touchpoint.id,
            "about": delivery.payload.get("about"),
            "title": title,
            "body": body,
            "severity": found.touchpoint.severity,
            "actions": [],
            "url": f"{self._public_url}/me/touchpoints/{found.touchpoint.id}",
        }

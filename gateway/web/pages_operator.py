"""After-sales: each owner’s and product’s story, what could not be read, and what could not be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace as Shown
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.messages import QuarantineRow
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.flow import quarantine as quarantine_flow
from gateway.ports import Records
from gateway.web import reached, rights, views
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.pages_people import reasons
from gateway.web.pages_product import product_view
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)

RECENT = 500
"""How many dead letters are sent again at once."""
MOST_ROWS = 8
LIST_ROWS = 50
STORY_LINES = 80


class Desk:
    """One request of after-sales."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.now = self.context.clock.now()
        self.who = who(request)

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.write(work)

    def answer(self, template: str, tab: str, view: Shown, **more: Any) -> web.Response:
        said = f"toast.operator_{self.request.query.get('said', '')}"
        key = said if self.words.has(said) else f"toast.{self.request.query.get('said', '')}"
        toast = Shown(text=self.words(key, product=""), undo_url=None) if self.words.has(key) else None
        return page(self.request, template, self.words, tab=tab, view=view, toast=toast, **more)


async def open_desk(request: web.Request) -> Desk:
    """A request of after-sales, in its words."""
    return Desk(request, await words_for(request))


# --- owners ----------------------------------------------------------------------------------


def _cell(text: Any, *, href: str | None = None, small: str = "", num: bool = False) -> Shown:
    return Shown(text=text, href=href, small=small, num=num)


def _heads(words: Words, *names: str) -> list[Shown]:
    return [Shown(text=words(f"operator.col_{name}"), num=name in ("products", "since")) for name in names]


@routes.get("/operator/owners")
@operator_only
async def owners(request: web.Request) -> web.Response:
    """All owners, or those that match."""
    at = await open_desk(request)
    find, after = request.query.get("q") or None, request.query.get("after")

    def work(records: Records) -> list[tuple[Any, int]]:
        found = records.owners.page(after=after, limit=LIST_ROWS + 1, find=find)
        return [(o, len(records.devices.page(owner=o.id))) for o in found]

    found = await at.read(work)
    for o, _ in found[:LIST_ROWS]:
        at.who.saw(o.id, f"owner:{o.id}", "list")
    rows = [
        [
            _cell(o.name, href=f"/operator/owners/{quote(o.id)}", small=o.id),
            _cell(o.language),
            _cell(o.time_zone),
            _cell(n, num=True),
        ]
        for o, n in found[:LIST_ROWS]
    ]
    view = _list(
        at,
        "owners",
        rows,
        _heads(at.words, "owner", "language", "zone", "products"),
        found,
        lambda o: str(o[0].id),
    )
    return at.answer("operator_list.html", "owners", view, query=find)


def _list(at: Desk, name: str, rows: Any, heads: Any, found: Sequence[T], key: Callable[[T], str]) -> Shown:
    older = f"/operator/{name}?after={quote(key(found[LIST_ROWS - 1]))}" if len(found) > LIST_ROWS else None
    words = at.words
    empty = Shown(icon="search", title=words("operator.none_title"), text=words("operator.none"))
    lead = words(f"operator.{name}_lead")
    return Shown(
        title=words(f"operator.nav_{name}"), lead=lead, rows=rows, heads=heads, older=older, empty=empty
    )


@routes.get("/operator/find")
@operator_only
async def find(request: web.Request) -> web.Response:
    """An owner, device or touchpoint by id or part of a name: straight to it when there is one."""
    at, wanted = await open_desk(request), request.query.get("q", "").strip()
    if not wanted:
        return see("/operator")
    return see(await at.read(lambda records: _found_at(records, wanted)))


def _found_at(records: Records, wanted: str) -> str:
    try:
        return f"/operator/owners/{quote(records.touchpoints.get(wanted).owner)}"
    except NotFoundError:
        pass
    devices = records.devices.page(find=wanted, limit=2)
    people = records.owners.page(find=wanted, limit=2)
    if len(devices) == 1 and not people:
        return f"/operator/devices/{quote(devices[0].id)}"
    if len(people) == 1:
        return f"/operator/owners/{quote(people[0].id)}"
    return f"/operator/{'devices' if devices and not people else 'owners'}?q={quote(wanted)}"


@routes.get("/operator/owners/{id}")
@operator_only
async def owner(request: web.Request) -> web.Response:
    """An owner's story in time, newest first, with an answer box for the call centre."""
    at, wanted = await open_desk(request), request.match_info["id"]
    after = request.query.get("after")
    loaded = await at.read(lambda records: _load_owner(records, at, wanted, after))
    words = Words(at.context.texts, at.words.language, loaded.owner.time_zone)
    matters = []
    for found in loaded.open:
        one = await views.matter_series(at.context, found, at.now)
        shown = views.matter(found, at.context, words, at.now, one)
        shown.answer_url = f"/operator/touchpoints/{shown.id}/talk/answer?from=matter"
        shown.verified = shown.id in loaded.verified
        matters.append(shown)
    o = loaded.owner
    line = " · ".join(
        p for p in (o.email, o.phone, o.time_zone, {"de": "Deutsch", "en": "English"}.get(o.language)) if p
    )
    last = loaded.lines[STORY_LINES - 1].id if len(loaded.lines) > STORY_LINES else None
    view = Shown(
        name=o.name,
        line=line,
        story=views.ledger(loaded.lines[:STORY_LINES], at.context, words, newest_first=True),
        older=f"/operator/owners/{quote(o.id)}?after={quote(last)}" if last else None,
        open=matters,
        products=[
            views.product(p, at.context, words, at.now, base="/operator/devices") for p in loaded.products
        ],
        agreed=_agreed(loaded.consents, words),
        reasons=loaded.reasons,
    )
    return at.answer("operator_owner.html", "owners", view)


def _load_owner(records: Records, at: Desk, wanted: str, after: str | None) -> Shown:
    found = rights.owner(records, at.who, wanted)
    live = records.touchpoints.page(owner=wanted, states=(State.OPEN,), limit=MOST_ROWS)
    talks = {t.id: records.conversations.find(t.id) for t in live}
    return Shown(
        verified={key for key, talk in talks.items() if talk is not None and talk.verified(at.now)},
        owner=found,
        lines=records.touchpoints.ledger(owner=wanted, after=after, limit=STORY_LINES + 1),
        open=[views.load_matter(records, t, at.context) for t in live],
        products=views.load_products(records, wanted),
        consents=records.owners.consents(wanted),
        reasons=reasons(records, at.who, wanted, at.now, at.words),
    )


def _agreed(history: Sequence[Any], words: Words) -> list[tuple[str, list[str]]]:
    newest: dict[str, Any] = {}
    for entry in history:
        newest.setdefault(entry.purpose, entry)
    rows = []
    for purpose, entry in sorted(newest.items()):
        key = f"consent.{purpose}.label"
        said = words("consent.yes" if entry.granted else "consent.no", date=words.when(entry.at, "short"))
        rows.append((words(key) if words.has(key) else purpose, [said]))
    return rows or [(words("consent.none"), [""])]


# --- devices ---------------------------------------------------------------------------------


@routes.get("/operator/devices")
@operator_only
async def devices(request: web.Request) -> web.Response:
    """All products, and below them those that nobody registered."""
    at = await open_desk(request)
    wanted, after = request.query.get("q") or None, request.query.get("after")

    def work(records: Records) -> tuple[list[tuple[Any, int]], list[Any]]:
        found = records.devices.page(after=after, limit=LIST_ROWS + 1, find=wanted)
        unclaimed = [] if wanted or after else records.devices.unclaimed(limit=LIST_ROWS)
        return [(d, records.devices.facts(d.id).last_seen) for d in found], unclaimed

    found, unclaimed = await at.read(work)
    for d, _ in found[:LIST_ROWS]:
        at.who.saw(d.owner, "products", "list")
    rows = [_device_row(d, seen, at) for d, seen in found[:LIST_ROWS]]
    rows += [
        [
            _cell(
                f.device, href=f"/operator/devices/{quote(f.device)}", small=at.words("operator.unclaimed")
            ),
            _cell(f.kind or "–"),
            _cell("–"),
            _cell(at.words.moment(f.last_seen, at.now), num=True),
        ]
        for f in unclaimed
    ]
    view = _list(
        at,
        "devices",
        rows,
        _heads(at.words, "product", "kind", "owner", "since"),
        found,
        lambda d: str(d[0].id),
    )
    return at.answer("operator_list.html", "devices", view, query=wanted)


def _device_row(device: Device, seen: int, at: Desk) -> list[Shown]:
    owner_url = f"/operator/owners/{quote(device.owner)}" if device.owner else None
    return [
        _cell(device.title, href=f"/operator/devices/{quote(device.id)}", small=device.id),
        _cell(device.kind.replace("_", " "), small=device.firmware or ""),
        _cell(device.owner or "–", href=owner_url),
        _cell(at.words.moment(seen, at.now) if seen else "–", num=True),
    ]


@routes.get("/operator/devices/{id}")
@operator_only
async def device(request: web.Request) -> web.Response:
    """A product: charts, findings, what it last said."""
    at, wanted = await open_desk(request), request.match_info["id"]

    def work(records: Records) -> tuple[views.Product, str | None, list[Finding]]:
        facts = records.devices.facts(wanted)
        found = records.devices.find(wanted)
        if found is None:
            if not facts.last_seen:
                raise NotFoundError(f"There is no device {wanted}.")
            found = Device(id=wanted, kind=facts.kind or at.context.kind_of(wanted) or "unknown")
        at.who.saw(found.owner, f"product:{wanted}", "check_product", device=wanted)
        workshop = views.find_workshop(records, found.workshop)
        return (
            views.Product(device=found, facts=facts),
            workshop.name if workshop else None,
            records.touchpoints.findings(device=wanted, limit=20),
        )

    found, workshop, findings = await at.read(work)
    view = await product_view(found, at, workshop, "/operator/devices")
    view.findings = [_finding_row(f, found.device, at) for f in findings]
    return at.answer("operator_device.html", "devices", view)


def _finding_row(one: Finding, device: Device, at: Desk) -> Shown:
    values = []
    for name, value in one.evidence.items():
        if name != "ts":
            values.append(
                f"{name} {views.value_words(at.context.signals.signal(device.kind, name), value, at.words)}"
            )
    return Shown(
        title=views.rule_name(one.rule, at.words),
        href=f"/operator/rules/{quote(one.rule)}?device={quote(one.device)}#why",
        evidence=", ".join(values),
        found=at.words.moment(one.found_at, at.now),
        cleared=at.words.moment(one.cleared_at, at.now)
        if one.cleared_at
        else at.words("operator.not_cleared"),
    )


# --- quarantine ------------------------------------------------------------------------------


@routes.get("/operator/quarantine")
@operator_only
async def quarantine(request: web.Request) -> web.Response:
    """What could not be decoded: why, and again."""
    at = await open_desk(request)
    reason = request.query.get("reason") or None
    after = next(iter(_positions(request.query.get("after", ""))), None)

    def work(records: Records) -> tuple[list[QuarantineRow], Mapping[str, int]]:
        return records.quarantine.page(
            after=after, limit=LIST_ROWS + 1, reason=reason
        ), records.quarantine.counts()

    found, counts = await at.read(work)
    words, waiting = at.words, sum(counts.values())
    reasons = [
        Shown(
            href=f"/operator/quarantine?reason={quote(name)}",
            name=name,
            count=words.number(n),
            current=name == reason,
        )
        for name, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
    view = Shown(
        lead=words("quarantine.lead", count=waiting),
        reason=reason or "",
        reasons=reasons,
        rows=[_quarantine_row(row, words, at.now) for row in found[:LIST_ROWS]],
        older=f"/operator/quarantine?after={found[LIST_ROWS - 1].position}"
        if len(found) > LIST_ROWS
        else None,
    )
    return at.answer("operator_quarantine.html", "quarantine", view)


def _positions(text: str) -> list[int]:
    """The position that is meant, if it can be one."""
    return [int(text)] if text.isdecimal() and len(text) <= 18 else []


def _quarantine_row(row: QuarantineRow, words: Words, now: int) -> Shown:
    text = row.payload[:400].decode("utf-8", "backslashreplace")
    return Shown(
        position=row.position,
        when=words.moment(row.received, now),
        topic=row.topic,
        reason=row.reason,
        detail=row.detail,
        payload=text + ("…" if len(row.payload) > 400 else "") or words("quarantine.nothing"),
        replayed=words("quarantine.replayed", when=words.moment(row.replayed, now)) if row.replayed else "",
    )


@routes.post("/operator/quarantine/replay")
@operator_only
async def replay(request: web.Request) -> web.Response:
    """Put one message, those of a reason, or all, through decoding again."""
    at, form = await open_desk(request), await request.post()
    positions, reason = _positions(str(form.get("position", ""))), str(form.get("reason", "")) or None
    await quarantine_flow.replay(
        at.context.database, at.context.journal, positions=positions, reason=reason, now=at.now
    )
    return see("/operator/quarantine", "replayed")


# --- outbox ----------------------------------------------------------------------------------


@routes.get("/operator/outbox")
@operator_only
async def outbox(request: web.Request) -> web.Response:
    """What could not be sent, and what is on its way."""
    at = await open_desk(request)

    def work(records: Records) -> list[tuple[Delivery, Any, str, Any]]:
        dead = records.outbox.page(states=(DeliveryState.DEAD,), limit=LIST_ROWS)
        rest = records.outbox.page(
            states=(DeliveryState.PENDING, DeliveryState.LEASED, DeliveryState.SENT), limit=LIST_ROWS
        )
        known = records.outbox.outcomes([d.id for d in rest])
        return [
            (d, records.outbox.attempts(d.id)[-1:], _what(records, d, at), known.get(d.id, []))
            for d in [*dead, *rest]
        ]

    found = await at.read(work)
    for d, *_ in found:
        at.who.saw(d.owner, "deliveries", "list")
    dead = sum(d.state is DeliveryState.DEAD for d, _, _, _ in found)
    words = at.words
    view = Shown(
        headline=words("outbox.head_dead", count=dead) if dead else words("outbox.head_calm"),
        lead=words("outbox.lead"),
        dead=dead,
        rows=[_delivery_row(d, tries, what, how_far, words, at.now) for d, tries, what, how_far in found],
    )
    return at.answer("operator_outbox.html", "outbox", view)


def _what(records: Records, delivery: Delivery, at: Desk) -> str:
    if delivery.touchpoint is None:
        event = delivery.payload.get("event") or delivery.payload
        return str(event.get("type", delivery.payload.get("about", delivery.key)))
    try:
        touchpoint: Touchpoint = records.touchpoints.get(delivery.touchpoint)
    except NotFoundError:
        return delivery.key
    return views.rule_name(touchpoint.rule, at.words)


def _delivery_row(
    delivery: Delivery, tries: Sequence[Any], what: str, how_far: Sequence[Any], words: Words, now: int
) -> Shown:
    last = tries[-1] if tries else None
    return Shown(
        id=delivery.id,
        what=what,
        channel=words(f"outbox.channel_{delivery.channel}"),
        to=delivery.owner or delivery.target,
        dead=delivery.state is DeliveryState.DEAD,
        state=words(f"outbox.state_{delivery.state}"),
        attempts=", ".join(reached.said(how_far, words, now))
        or words("outbox.attempts", count=delivery.attempts),
        last=f"{words.moment(last.at, now)}: {last.detail or last.result}" if last else "–",
    )


@routes.post("/operator/outbox/retry")
@operator_only
async def retry(request: web.Request) -> web.Response:
    """Send a dead letter again, or all of them."""
    at, form = await open_desk(request), await request.post()
    wanted = str(form.get("id", ""))

    def work(records: Records) -> None:
        dead = (
            [records.outbox.get(wanted)]
            if wanted
            else records.outbox.page(states=(DeliveryState.DEAD,), limit=RECENT)
        )
        for delivery in dead:
            records.outbox.retry(delivery.id, at.now)

    await at.write(work)
    return see("/operator/outbox", "retried")

"""After-sales: does the path run, who must act, and each owner's and product's story."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import SimpleNamespace as Shown
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.appointment import AppointmentState
from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.messages import QuarantineRow
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.texts import NBSP
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.flow import quarantine as quarantine_flow
from gateway.ports import Records
from gateway.web import charts, reached, rights, views
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.pages_owner import product_view
from gateway.web.pages_people import reasons
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)

STEPS = ("receive", "record", "assess", "decide", "deliver", "answered", "booked", "done")
MONTH_MS, FORTNIGHT_MS = 30 * DAY_MS, 14 * DAY_MS
RECENT = 500
"""How many touchpoints and findings the overview looks through."""
MOST_ROWS = 8
LIST_ROWS = 50
STORY_LINES = 80
SAMPLE_LEAST_MS = 1_000


class _Page:
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


async def _open(request: web.Request) -> _Page:
    return _Page(request, await words_for(request))


# --- the path --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """How much went through each step, and what stands still."""

    now: int
    received: float
    """messages a second, over the last samples"""
    recorded: float
    assessed: float
    decided: int
    """in the last 24 hours, like those that follow"""
    delivered: int
    answered: int
    booked: int
    done: int
    lag: Mapping[str, int]
    """messages behind, by reader"""
    quarantined: int
    rule_errors: int
    deferred: int
    dead: int
    pending: int
    answer_ms: float | None
    """median from sending to answer"""
    counters: int
    no_shows: int
    feedback: float | None


class Rates:
    """Messages a second, from what the counters said on earlier looks (of the played clock in the demo)."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int, int, int]] = []

    def look(self, context: Context) -> tuple[float, float, float]:
        """(received, recorded, assessed) a second since about an hour ago, or since the first look."""
        counted = context.counters
        now = context.clock.now()
        sample = (now, counted.received, counted.recorded, counted.assessed)
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_LEAST_MS:
            self._samples.append(sample)
        self._samples = [s for s in self._samples if now - s[0] <= HOUR_MS][-600:] or self._samples[-1:]
        first = self._samples[0]
        seconds = (now - first[0]) / 1000
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return tuple((b - a) / seconds for a, b in zip(first[1:], sample[1:], strict=True))  # type: ignore[return-value]


def rates(context: Context) -> Rates:
    """The meter of this process."""
    found: Rates = context.extras.setdefault("rates", Rates())
    return found


async def pulse(context: Context) -> Pulse:
    """The path as it is now."""
    now = context.clock.now()
    received, recorded, assessed = rates(context).look(context)
    readers = context.journal.status().get("readers", {})
    found = await context.database.read(lambda records: _counts(records, now))
    return Pulse(
        now=now,
        received=received,
        recorded=recorded,
        assessed=assessed,
        lag={name: int(reader.get("lag", 0)) for name, reader in readers.items()},
        rule_errors=sum(context.counters.rule_errors.values()),
        **found,
    )


def _counts(records: Records, now: int) -> dict[str, Any]:
    since = now - DAY_MS
    recent = records.touchpoints.page(limit=RECENT)
    visits = [a for a in records.workshops.appointments(start=since - MONTH_MS, limit=RECENT) if a.touchpoint]
    answered = [t for t in recent if t.answer and t.answer.at > since]
    waits = [t.answer.at - t.sent_at for t in recent if t.answer and t.sent_at]
    outbox = records.outbox.counts((DeliveryState.PENDING, DeliveryState.LEASED, DeliveryState.DEAD))
    asked = records.feedback.page(limit=RECENT)
    return {
        "decided": sum(f.found_at > since for f in records.touchpoints.findings(limit=RECENT)),
        "delivered": sum(t.sent_at is not None and t.sent_at > since for t in recent),
        "answered": len(answered),
        "booked": sum(a.created > since and a.state is not AppointmentState.CANCELLED for a in visits),
        "done": sum(a.done_at is not None and a.done_at > since for a in visits),
        "quarantined": sum(records.quarantine.counts().values()),
        "deferred": records.touchpoints.counts((State.DEFERRED,))[State.DEFERRED],
        "dead": outbox.get("dead", 0),
        "pending": outbox.get("pending", 0) + outbox.get("leased", 0),
        "answer_ms": median(waits) if waits else None,
        "counters": sum(a.state is AppointmentState.REQUESTED for a in visits),
        "no_shows": sum(a.state is AppointmentState.NO_SHOW for a in visits),
        "feedback": _mean([f.score for f in asked if f.score is not None and f.question == "csat"]),
    }


def _mean(scores: Sequence[int]) -> float | None:
    return fmean(scores) if scores else None


def steps(p: Pulse, words: Words) -> list[Shown]:
    """The path's eight steps with rate, lag and trouble."""
    behind = {
        name: words("operator.behind", count=p.lag.get(name, 0)) for name in ("record", "assess", "respond")
    }
    answer = words("operator.median", time=words.span(p.answer_ms)) if p.answer_ms is not None else ""
    below = {
        "receive": [words("operator.in_quarantine", count=p.quarantined)],
        "record": [behind["record"]],
        "assess": [behind["assess"], words("operator.rules_broken", count=p.rule_errors)],
        "decide": [words("operator.deferred", count=p.deferred)],
        "deliver": [words("operator.pending", count=p.pending)],
        "answered": [answer] if answer else [behind["respond"]],
        "booked": [words("operator.requests", count=p.counters)],
        "done": [words("operator.no_shows", count=p.no_shows)],
    }
    if p.feedback is not None:
        below["done"].append(words("operator.csat", score=words.number(p.feedback, 1)))
    bad = {"deliver": words("operator.dead", count=p.dead)} if p.dead else {}
    rows = []
    for name in STEPS:
        rate, unit = _rate(p, name, words)
        rows.append(
            Shown(
                key=name,
                name=words(f"operator.step_{name}"),
                rate=rate,
                unit=unit,
                below=below[name],
                bad=bad.get(name, ""),
                bad_url="/operator/outbox",
                per_second=per_second(p, name),
            )
        )
    return rows


def per_second(p: Pulse, name: str) -> float:
    """A step's rate, for the ribbon's thickness."""
    if name in ("receive", "record", "assess"):
        return {"receive": p.received, "record": p.recorded, "assess": p.assessed}[name]
    key = {"decide": p.decided, "deliver": p.delivered}.get(name)
    return (key if key is not None else int(getattr(p, name))) / 86_400


def _rate(p: Pulse, name: str, words: Words) -> tuple[str, str]:
    rate = per_second(p, name)
    if name not in ("receive", "record", "assess"):
        return words.number(round(rate * 86_400)), words("operator.per_day")
    if rate >= 1:
        return words.number(rate, 0 if rate >= 10 else 1), words("operator.per_s")
    if rate * 60 >= 1:
        return words.number(rate * 60, 0), words("operator.per_min")
    return words.number(rate * 3600, 0), words("operator.per_h")


# --- the overview ----------------------------------------------------------------------------


@routes.get("/operator")
@operator_only
async def overview(request: web.Request) -> web.Response:
    """Who must act, the path, what is open, what is found, what came of it."""
    at = await _open(request)
    p = await pulse(at.context)
    loaded = await at.read(lambda records: _load_overview(records, at))
    shown = steps(p, at.words)
    view = Shown(
        headline=_headline(p, at.words),
        connected=connected(loaded.connected, at.words),
        steps=shown,
        ribbon=charts.ribbon([step.per_second for step in shown]),
        open=[_open_row(found, name, at) for found, name in loaded.open],
        open_note=at.words("operator.open_note", count=len(loaded.open)) if loaded.open else "",
        clusters=_clusters(loaded.findings, loaded.devices, at),
        rules=_rules(loaded.funnel, at),
        feedback=_feedback(loaded.feedback, at.words),
    )
    return at.answer("operator_overview.html", "overview", view)


def _load_overview(records: Records, at: _Page) -> Shown:
    open_states = (State.OPEN, State.DEFERRED, State.ANSWERED, State.BOOKED)
    live = records.touchpoints.page(states=open_states, limit=MOST_ROWS)
    for touchpoint in live:
        at.who.saw(touchpoint.owner, "matters", "overview")
    found = [f for f in records.touchpoints.findings(limit=RECENT) if f.found_at > at.now - FORTNIGHT_MS]
    asked = records.feedback.page(limit=RECENT)
    return Shown(
        connected=records.devices.connected(at.now - DAY_MS),
        open=[(views.load_matter(records, t, at.context), _owner_name(records, t.owner)) for t in live],
        findings=found,
        devices={f.device: records.devices.find(f.device) for f in found},
        funnel=records.touchpoints.funnel(at.now - MONTH_MS),
        feedback=[f for f in asked if f.score is not None and f.question == "csat"],
    )


def _owner_name(records: Records, owner_id: str) -> str:
    try:
        return records.owners.get(owner_id).name
    except NotFoundError:
        return owner_id


def connected(counts: tuple[int, int], words: Words) -> str:
    """How many products are connected."""
    return words("operator.connected", now=counts[0], of=counts[1])


def _headline(p: Pulse, words: Words) -> Shown:
    """What needs somebody, or that nothing does."""
    if p.dead:
        return Shown(
            text=words("operator.head_dead", count=p.dead),
            href="/operator/outbox",
            link=words("operator.see_dead", count=p.dead),
        )
    if p.rule_errors:
        return Shown(text=words("operator.head_rules", count=p.rule_errors), href=None, link=None)
    late = [name for name, lag in p.lag.items() if lag > 100_000]
    if late:
        return Shown(text=words("operator.head_lag", reader=late[0]), href=None, link=None)
    if p.quarantined:
        text = words("operator.head_quarantine", count=p.quarantined)
        return Shown(text=text, href="/operator/quarantine", link=words("operator.see_quarantine"))
    return Shown(text=words("operator.head_calm"), href=None, link=None)


def _open_row(found: views.Matter, owner: str, at: _Page) -> Shown:
    t, words = found.touchpoint, at.words
    note = ""
    if t.state is State.DEFERRED and t.wake_at:
        note = words(
            "operator.until",
            when=words.moment(t.wake_at, at.now) if t.wake_at <= at.now else _soon(t.wake_at, at),
        )
    elif found.appointment is not None:
        note = (
            f"{words.when(found.appointment.start, 'short')}, {words.when(found.appointment.start, 'time')}"
        )
    said = views.spoken(found, at.context, words, at.now)
    return Shown(
        title=said.name,
        severity=views.severity(words, t.severity),
        owner=owner,
        owner_url=f"/operator/owners/{quote(t.owner)}",
        product=said.product,
        state=words(f"state.{t.state}"),
        note=note,
        since=words.moment(t.sent_at or t.created, at.now),
    )


def _soon(ms: int, at: _Page) -> str:
    words = at.words
    same = words.day(ms) == words.day(at.now)
    return words.when(ms, "time") if same else f"{words.when(ms, 'wd')} {words.when(ms, 'time')}"


def _clusters(found: Sequence[Finding], devices: Mapping[str, Device | None], at: _Page) -> list[Shown]:
    """Findings by rule, model and firmware, the most first; what to expect needs a fleet's history."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in found:
        device = devices.get(one.device)
        model, firmware = (device.model or device.kind, device.firmware or "–") if device else ("–", "–")
        groups.setdefault((one.rule, model, firmware), []).append(one)
    rows = []
    for (rule, model, firmware), findings in sorted(groups.items(), key=lambda pair: -len(pair[1]))[
        :MOST_ROWS
    ]:
        rows.append(
            Shown(
                title=views.rule_name(rule, at.words),
                severity=views.severity(at.words, findings[0].severity),
                model=model,
                firmware=firmware,
                observed=len(findings),
                products=len({f.device for f in findings}),
                first=at.words.when(min(f.found_at for f in findings), "short"),
            )
        )
    return rows


def _rules(funnel: Sequence[Mapping[str, Any]], at: _Page) -> list[Shown]:
    rows = []
    for row in sorted(funnel, key=lambda r: -int(r["found"])):
        rule = at.context.policy.rules.get(str(row["rule"]))
        bar = charts.funnel_bar(
            int(row["fulfilled"]), int(row["answered"]), int(row["sent"]), int(row["found"])
        )
        rows.append(
            Shown(
                name=views.rule_name(str(row["rule"]), at.words),
                href=f"/operator/rules/{quote(str(row['rule']))}",
                version=rule.version if rule else "–",
                bar=bar,
                found=at.words.number(int(row["found"])),
                fulfilled=at.words.number(int(row["fulfilled"])),
                declined=_declined(row, rule is not None and rule.shadow, at.words),
            )
        )
    return rows[:MOST_ROWS]


def _declined(row: Mapping[str, Any], shadow: bool, words: Words) -> str:
    """How many of those asked said no; a rule in shadow asks nobody."""
    sent = int(row["sent"])
    if shadow:
        return words("operator.shadow")
    return f"{round(100 * int(row['declined']) / sent)}{NBSP}%" if sent else "–"


def _feedback(answered: Sequence[Any], words: Words) -> Shown:
    rated = [f for f in answered if f.question == "csat"]
    if not rated:
        return Shown(rows=[], note="", text="")
    counts = {score: sum(f.score == score for f in rated) for score in range(5, 0, -1)}
    rows = [
        Shown(
            label=words("feedback.stars", count=score),
            bar=charts.health_bar(n / len(rated)),
            count=words.number(n),
        )
        for score, n in counts.items()
    ]
    mean = words.number(fmean(f.score for f in rated), 1)
    key = "operator.feedback_few" if len(rated) < 30 else "operator.feedback_text"
    return Shown(rows=rows, note=words("operator.answers", count=len(rated)), text=words(key, mean=mean))


# --- owners ----------------------------------------------------------------------------------


def _cell(text: Any, *, href: str | None = None, small: str = "", num: bool = False) -> Shown:
    return Shown(text=text, href=href, small=small, num=num)


def _heads(words: Words, *names: str) -> list[Shown]:
    return [Shown(text=words(f"operator.col_{name}"), num=name in ("products", "since")) for name in names]


@routes.get("/operator/owners")
@operator_only
async def owners(request: web.Request) -> web.Response:
    """All owners, or those that match."""
    at = await _open(request)
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


def _list(at: _Page, name: str, rows: Any, heads: Any, found: Sequence[T], key: Callable[[T], str]) -> Shown:
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
    at, wanted = await _open(request), request.query.get("q", "").strip()
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
    at, wanted = await _open(request), request.match_info["id"]
    after = request.query.get("after")
    loaded = await at.read(lambda records: _load_owner(records, at, wanted, after))
    words = Words(at.context.texts, at.words.language, loaded.owner.time_zone)
    matters = []
    for found in loaded.open:
        one = await views.matter_series(at.context, found, at.now)
        matters.append(views.matter(found, at.context, words, at.now, one))
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


def _load_owner(records: Records, at: _Page, wanted: str, after: str | None) -> Shown:
    found = rights.owner(records, at.who, wanted)
    live = records.touchpoints.page(owner=wanted, states=(State.OPEN,), limit=MOST_ROWS)
    return Shown(
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
    at = await _open(request)
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


def _device_row(device: Device, seen: int, at: _Page) -> list[Shown]:
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
    at, wanted = await _open(request), request.match_info["id"]

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


def _finding_row(one: Finding, device: Device, at: _Page) -> Shown:
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
    at = await _open(request)
    reason = request.query.get("reason") or None
    after = int(request.query["after"]) if request.query.get("after", "").isdigit() else None

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
    at, form = await _open(request), await request.post()
    position, reason = str(form.get("position", "")), str(form.get("reason", "")) or None
    positions = [int(position)] if position.isdigit() else []
    await quarantine_flow.replay(
        at.context.database, at.context.journal, positions=positions, reason=reason, now=at.now
    )
    return see("/operator/quarantine", "replayed")


# --- outbox ----------------------------------------------------------------------------------


@routes.get("/operator/outbox")
@operator_only
async def outbox(request: web.Request) -> web.Response:
    """What could not be sent, and what is on its way."""
    at = await _open(request)

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


def _what(records: Records, delivery: Delivery, at: _Page) -> str:
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
    at, form = await _open(request), await request.post()
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

"""From records to what a page shows: matters, slots, products, charts, the ledger.

Nothing here asks a store but the two `load_` functions and those for series; the rest turns domain
values into `Shown` data that templates print. Words for matters and ledger lines come from
domain/wording.py; what stands here is how they are laid out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from types import SimpleNamespace as Shown
from typing import Any

from gateway.domain import wording
from gateway.domain.appointment import ENDED, Appointment, AppointmentState, Workshop
from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.domain.plotting import number
from gateway.domain.policy import RuleInfo
from gateway.domain.texts import measured
from gateway.domain.touchpoint import LedgerLine, Slot, State, Touchpoint
from gateway.domain.visit_words import code_words, terms_of_visit
from gateway.flow import people
from gateway.flow.outgoing import told_of, workshop_of
from gateway.ports import Records
from gateway.web import charts, icons, rights
from gateway.web.context import Context
from gateway.web.rights import Interval
from gateway.web.words import Words
from rules import Signal, Value

DUE_SHARE = 0.8
"""From this share of its life on a part's row takes the accent."""
HISTORY_MS = 100 * DAY_MS
"""How far back charts look."""
MOST_TABLE_ROWS = 24


# --- what belongs together -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Matter:
    """A touchpoint with all that it takes to show it."""

    touchpoint: Touchpoint
    device: Device
    facts: Facts
    workshop: Workshop | None
    rule: RuleInfo | None
    appointment: Appointment | None = None
    told: Sequence[wording.Told] = ()
    """of a bundle: everything that it is about"""
    spans: Sequence[Interval] = ((None, None),)
    """the times in which the device was its owner's: nothing else is shown, to whomever"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A signal of a device over time, as people read it."""

    signal: Signal
    points: Sequence[charts.Point] = ()
    limit: float | None = None
    forecast: charts.Forecast | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A device with what is known of it."""

    device: Device
    facts: Facts
    series: Mapping[str, Series] = field(default_factory=dict)
    spans: Sequence[Interval] = ((None, None),)
    """the times whose readings may be shown"""


def load_matter(records: Records, touchpoint: Touchpoint, context: Context) -> Matter:
    """The touchpoint with its device, workshop, rule and standing appointment."""
    device = records.devices.get(touchpoint.device)
    standing = records.workshops.appointments(touchpoint=touchpoint.id)
    live = [a for a in standing if a.state not in ENDED]
    spans = rights.owned(records, touchpoint.owner, device.id)
    return Matter(
        touchpoint=touchpoint,
        device=device,
        spans=spans,
        facts=rights.cut(records.devices.facts(device.id), spans),
        workshop=workshop_of(records, device, touchpoint),
        rule=context.policy.rules.get(touchpoint.rule),
        told=told_of(records, touchpoint, context.policy),
        appointment=live[-1] if live else None,
    )


def load_products(records: Records, owner_id: str) -> list[Product]:
    """All products of an owner and those they share, with what is known from their own time."""
    theirs = [*records.devices.page(owner=owner_id), *(d for d, _ in people.shared(records, owner_id))]
    return [owners_product(records, owner_id, d) for d in theirs]


def owners_product(records: Records, owner_id: str, device: Device) -> Product:
    """A product as its owner may see it."""
    spans = rights.owned(records, owner_id, device.id)
    return Product(device=device, facts=rights.cut(records.devices.facts(device.id), spans), spans=spans)


# --- readings over time ----------------------------------------------------------------------


Measured = Matter | Product
"""what has a device, its facts, and times whose readings may be shown"""


async def _courses(
    context: Context, wanted: Sequence[tuple[Measured, Iterable[str]]], now: int
) -> list[dict[str, Series]]:
    """{signal: its course} of each, in the unit people read, with its forecast; all read at once. Signals
    that are no numbers are left out."""
    known = [(one, _numbers(context, one.device, names)) for one, names in wanted]
    asked = [(one.device.id, tuple(signals), one.spans) for one, signals in known if signals]
    read = iter(await context.timeseries.plotted(asked, back=HISTORY_MS, now=now) if asked else ())
    found = []
    for one, signals in known:
        courses = next(read) if signals else {}
        found.append(
            {n: _course(signal, courses.get(n, ()), one.facts, now) for n, signal in signals.items()}
        )
    return found


def _numbers(context: Context, device: Device, names: Iterable[str]) -> dict[str, Signal]:
    found = (context.signals.signal(device.kind, name) for name in names)
    return {signal.name: signal for signal in found if signal is not None and signal.type == "number"}


def _course(signal: Signal, raw: Sequence[charts.Point], facts: Facts, now: int) -> Series:
    latest = facts.latest.get(signal.name)
    raw = [point for point in raw if number(point[1])]  # a store may take the mean of anything
    if latest and number(latest[1]) and latest[0] <= now:
        raw = [*(point for point in raw if point[0] < latest[0]), (latest[0], float(latest[1]))]
    limit = signal.wear.limit if signal.wear else None
    points = tuple((ts, shown(signal, value)) for ts, value in raw)
    shown_limit = shown(signal, limit) if limit is not None else None
    ahead = charts.forecast(points, shown_limit) if shown_limit is not None else None
    return Series(signal=signal, points=points, limit=shown_limit, forecast=ahead)


def shown(signal: Signal, value: float) -> float:
    """A value in the unit that people read."""
    return signal.display.shown(value) if signal.display else value


def unit_of(signal: Signal) -> str | None:
    """The unit that people read."""
    return signal.display.unit if signal.display else signal.unit


async def with_series(context: Context, product: Product, now: int) -> Product:
    """The product with the course of everything that wears."""
    return (await with_all_series(context, [product], [], now))[0][0]


async def with_all_series(
    context: Context, products: Sequence[Product], matters: Sequence[Matter], now: int
) -> tuple[list[Product], list[Series | None]]:
    """Products with the course of everything that wears, and the courses of what matters are about."""
    asked: dict[Any, tuple[Measured, dict[str, None]]] = {}
    wearing = [_wearing(context, product) for product in products]
    about = [charted(found) for found in matters]
    wishes: list[tuple[Measured, Sequence[str | None]]] = [*zip(products, wearing, strict=True)]
    wishes += zip(matters, ([name] for name in about), strict=True)
    for one, names in wishes:
        of = asked.setdefault(_whose(one), (one, {}))[1]
        of.update(dict.fromkeys(name for name in names if name is not None))
    found = dict(zip(asked, await _courses(context, list(asked.values()), now), strict=True))
    shown_products = [
        replace(product, series={n: course for n, course in found[_whose(product)].items() if n in names})
        for product, names in zip(products, wearing, strict=True)
    ]
    of_matters = [
        _of_matter(context, one, name, found[_whose(one)]) for one, name in zip(matters, about, strict=True)
    ]
    return shown_products, of_matters


def _wearing(context: Context, product: Product) -> list[str]:
    kind = context.signals.kinds.get(product.device.kind)
    return [signal.name for signal in kind.signals.values() if signal.wear] if kind else []


def _whose(one: Measured) -> tuple[str, tuple[Interval, ...]]:
    return one.device.id, tuple(one.spans)


def _of_matter(
    context: Context, found: Matter, name: str | None, courses: Mapping[str, Series]
) -> Series | None:
    """What the matter is about; its limit is the rule's where nothing wears."""
    signal = context.signals.signal(found.device.kind, name) if name else None
    one = courses.get(signal.name) if signal is not None else None
    if one is None or one.limit is not None or found.rule is None or found.rule.limit is None:
        return one
    return Series(signal=one.signal, points=one.points, limit=shown(one.signal, found.rule.limit))


# --- charts and bars -------------------------------------------------------------------------


def chart(one: Series | None, words: Words, now: int, key: str) -> Shown | None:
    """A signal chart in a narrow and a wide drawing, with its table; None without a course to draw."""
    if one is None or len(one.points) < 2:
        return None
    unit = unit_of(one.signal)
    name = words.label(one.signal.label, one.signal.name)
    there, factor, offset = measured(words.tag, unit)
    local = _in_units(one, factor, offset)
    drawn = charts.SignalChart(
        points=local.points,
        unit=words.texts.unit(words.language, there) if there else None,
        limit=local.limit,
        limit_words=words("chart.limit", value=words.quantity(one.limit, unit))
        if one.limit is not None
        else "",
        last_words=_last_words(one.points[-1], unit, words, now),
        name=name,
        forecast=local.forecast,
        until=now,
    )
    return Shown(
        key=key,
        name=name,
        narrow=charts.signal_chart(drawn, words, width=324, height=216),
        wide=charts.signal_chart(drawn, words, width=560, height=260),
        caption=". ".join(part for part in (name, drawn.limit_words) if part),
        rows=_table(one, words),
        note=words("chart.dashed") if one.forecast else "",
    )


def _in_units(one: Series, factor: float, offset: float) -> Series:
    """The same course in another unit."""
    if factor == 1.0:
        return one
    ahead = one.forecast
    if ahead is not None:
        last = (ahead.last[0], ahead.last[1] * factor + offset)
        ahead = replace(ahead, last=last, per_day=ahead.per_day * factor, spread=ahead.spread * factor)
    points = [(ts, value * factor + offset) for ts, value in one.points]
    limit = one.limit * factor + offset if one.limit is not None else None
    return replace(one, points=points, limit=limit, forecast=ahead)


def _last_words(last: charts.Point, unit: str | None, words: Words, now: int) -> str:
    value = words.quantity(last[1], unit)
    if words.day(last[0]) == words.day(now):
        return words("chart.today", value=value)
    return words("chart.on_day", value=value, day=words.when(last[0], "short"))


_TABLES: charts.Kept[list[tuple[str, str]]] = charts.Kept()


def _table(one: Series, words: Words) -> list[tuple[str, str]]:
    """What stands beside the drawing for those who cannot see it; of an equal course it is made once."""
    key = (charts.fingerprint(one.points), one.limit, one.forecast, unit_of(one.signal), words)
    return list(_TABLES.get(key, lambda: _table_of(one, words)))


def _table_of(one: Series, words: Words) -> list[tuple[str, str]]:
    unit, rows = unit_of(one.signal), charts.thin(one.points, MOST_TABLE_ROWS)
    told = [(ts, words.when(ts, "short"), words.quantity(value, unit)) for ts, value in rows]
    told += [
        (a[0] + 1, charts.dates(words, a[0], b[0]), words("chart.no_data"))
        for a, b in charts.gaps(one.points)
    ]
    table = [(day, value) for _, day, value in sorted(told, reverse=True)]
    if one.forecast and one.limit is not None:
        when = charts.dates(words, one.forecast.early, one.forecast.late)
        table.insert(0, (when, words("chart.reaches", value=words.quantity(one.limit, unit))))
    return table


def health(product: Product, words: Words, now: int) -> list[Shown]:
    """A row for everything that wears, what is due first."""
    rows = []
    for name, one in product.series.items():
        latest = product.facts.latest.get(name)
        wear = one.signal.wear
        if latest is None or wear is None or not isinstance(latest[1], int | float):
            continue
        share = float(latest[1]) / wear.limit if wear.limit else 0.0
        due = share >= DUE_SHARE
        words_when = _health_words(one, share, float(latest[1]), words, now)
        label, bar = words.label(one.signal.label, name), charts.health_bar(share, due=due)
        at = one.forecast.at if one.forecast and share < 1 else None
        rows.append((share, Shown(label=label, bar=bar, when=words_when, due=due, at=at)))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _health_words(one: Series, share: float, value: float, words: Words, now: int) -> str:
    wear = one.signal.wear
    if share >= 1:
        return words("health.reached")
    if one.signal.counter and wear is not None:
        return words("health.left", count=round(wear.limit - value), unit=_counted(one.signal, words))
    if share < 0.2:
        return words("health.new")
    if one.forecast:
        return words.coming(one.forecast.at, now)
    return words("health.good")


def _counted(signal: Signal, words: Words) -> str:
    unit = signal.unit or ""
    return words(f"health.units.{unit}") if words.has(f"health.units.{unit}") else unit


# --- severity and states ---------------------------------------------------------------------


def severity(words: Words, name: str) -> Shown:
    """Icon and word first, colour second."""
    icon = name if name in icons.ICONS else "advice"
    return Shown(tone=name, icon=icon, word=words.texts.say(words.language, f"touchpoints.severity.{name}"))


APPOINTMENT_TONES = {
    AppointmentState.REQUESTED: ("calm", "clock"),
    AppointmentState.WISHED: ("calm", "clock"),
    AppointmentState.COUNTERED: ("calm", "clock"),
    AppointmentState.CONFIRMED: ("done", "done"),
    AppointmentState.CHECKED_IN: ("done", "wrench"),
    AppointmentState.IN_WORK: ("done", "wrench"),
    AppointmentState.READY: ("done", "done"),
    AppointmentState.DONE: ("done", "done"),
    AppointmentState.CANCELLED: ("calm", "close"),
    AppointmentState.DECLINED: ("calm", "close"),
    AppointmentState.LAPSED: ("calm", "close"),
    AppointmentState.RELEASED: ("calm", "close"),
    AppointmentState.NO_SHOW: ("warning", "warning"),
}


def appointment_state(words: Words, state: AppointmentState) -> Shown:
    """Booked, requested, done, …"""
    tone, icon = APPOINTMENT_TONES[state]
    return Shown(tone=tone, icon=icon, word=words(f"appointment.{state}"))


# --- slots -----------------------------------------------------------------------------------


def slot(one: Slot, words: Words, place: str, now: int) -> Shown:
    """A slot as a button shows it."""
    held = one.held_until if one.held_until and one.held_until > now else None
    note = words("slot.held", time=words.when(held, "time")) if held else place
    day, time = words.when(one.start, "short"), words.when(one.start, "time")
    moment = f"{words.when(one.start, 'long')}, {time}"
    return Shown(
        id=one.id,
        weekday=words.when(one.start, "weekday"),
        when=f"{day}, {time}",
        time=time,
        note=note,
        label=words("slot.book", moment=moment, place=place),
    )


def by_day(slots: Sequence[Slot], words: Words, place: str, now: int) -> list[Shown]:
    """Slots under their days."""
    days: dict[str, list[Shown]] = {}
    for one in slots:
        days.setdefault(words.when(one.start, "long"), []).append(slot(one, words, place, now))
    return [Shown(label=label, slots=found) for label, found in days.items()]


# --- matters ---------------------------------------------------------------------------------


def spoken(found: Matter, context: Context, words: Words, now: int) -> wording.Words:
    """The matter in words."""
    return wording.touchpoint_words(
        found.touchpoint,
        found.device,
        found.workshop,
        found.rule,
        context.signals,
        context.texts,
        words.language,
        words.zone,
        now=now,
        matters=found.told,
    )


def matter(found: Matter, context: Context, words: Words, now: int, one: Series | None = None) -> Shown:
    """A matter as cards, pages and displays show it."""
    touchpoint, said = found.touchpoint, spoken(found, context, words, now)
    place = found.workshop.name if found.workshop else ""
    coming = [s for s in touchpoint.slots if s.start > now] if touchpoint.state is State.OPEN else []
    bookable = touchpoint.kind == "appointment" and found.workshop is not None
    outlook = forecast_words(one, found.device, words)
    return Shown(
        id=touchpoint.id,
        rule=touchpoint.rule,
        href=f"/me/touchpoints/{touchpoint.id}",
        answer_url=f"/me/touchpoints/{touchpoint.id}/answer",
        kind_icon=kind_icon(found.device.kind),
        name=said.name,
        product=said.product,
        product_long=" · ".join(
            part for part in (said.product, stand(found.facts, found.device, context, words)) if part
        ),
        severity=severity(words, touchpoint.severity),
        title=said.title,
        evidence=[part for part in (said.evidence, outlook, said.promise) if part],
        parts=said.parts,
        measured=said.evidence,
        outlook=outlook,
        promise=said.promise,
        slots=[slot(s, words, place, now) for s in coming],
        bookable=bookable,
        other_times=bookable and not coming,
        resets=bool(found.rule and found.rule.resets),
        answered=_answered(found, words),
        begun=None,
        device=found.device.id,
        why=said.why,
        workshop=place,
    )


def forecast_words(one: Series | None, device: Device, words: Words) -> str | None:
    """At your driving that lasts until about 14 December."""
    if one is None or one.forecast is None or one.limit is None:
        return None
    key = f"forecast.{device.kind}" if words.has(f"forecast.{device.kind}") else "forecast.any"
    return words(key, date=words.when(one.forecast.at, "date"))


def _answered(found: Matter, words: Words) -> str | None:
    answer = found.touchpoint.answer
    if found.touchpoint.state is not State.ANSWERED or answer is None:
        return None
    return words(f"answered.{answer.action}") if words.has(f"answered.{answer.action}") else answer.action


def charted(found: Matter) -> str | None:
    """The signal that the matter is about."""
    if found.rule and found.rule.signals:
        return found.rule.signals[0]
    return next((name for name in found.touchpoint.evidence if name != "ts"), None)


async def matter_series(context: Context, found: Matter, now: int) -> Series | None:
    """The course of what the matter is about."""
    return (await with_all_series(context, [], [found], now))[1][0]


# --- products --------------------------------------------------------------------------------


def kind_icon(kind: str) -> str:
    """The icon of a device kind."""
    return kind if kind in icons.ICONS else "device"


def stand(facts: Facts, device: Device, context: Context, words: Words) -> str:
    """What is said of a product in a word: its odometer."""
    odometer = facts.latest.get("odometer")
    if odometer is None or not isinstance(odometer[1], int | float):
        return ""
    signal = context.signals.signal(device.kind, "odometer")
    return words.quantity(float(odometer[1]), signal.unit if signal else "km", 0)


def last_seen(facts: Facts, words: Words, now: int) -> str:
    """When it last reported."""
    return (
        words("products.last_seen", when=words.moment(facts.last_seen, now))
        if facts.last_seen
        else words("products.never")
    )


def kind_words(kind: str, context: Context, words: Words) -> str:
    """What a kind of products is called."""
    known = context.signals.kinds.get(kind)
    return words.label(known.label, kind) if known else kind.replace("_", " ")


def product(one: Product, context: Context, words: Words, now: int, *, base: str = "/me/products") -> Shown:
    """A product with its health rows."""
    device = one.device
    kind_name = kind_words(device.kind, context, words)
    parts = (
        kind_name if kind_name != device.title else None,
        device.plate,
        stand(one.facts, device, context, words),
    )
    return Shown(
        id=device.id,
        href=f"{base}/{device.id}",
        kind_icon=kind_icon(device.kind),
        title=device.title,
        stand=stand(one.facts, device, context, words) or last_seen(one.facts, words, now),
        product_long=" · ".join(part for part in parts if part),
        health=health(one, words, now),
    )


def latest_rows(device: Device, facts: Facts, context: Context, words: Words, now: int) -> list[Shown]:
    """Everything a product last said."""
    rows = []
    for name, (ts, value) in sorted(facts.latest.items()):
        signal = context.signals.signal(device.kind, name)
        label = words.label(signal.label, name) if signal else name
        rows.append(Shown(label=label, value=value_words(signal, value, words), at=words.moment(ts, now)))
    return sorted(rows, key=lambda row: str(row.label).casefold())


def value_words(signal: Signal | None, value: Value | Any, words: Words) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return words("value.yes" if value else "value.no")
    if isinstance(value, int | float):
        if signal is None:
            return words.loose(value, 2)
        if words.texts.has(f"units.of.{signal.unit}"):
            return words.texts.say(words.language, f"units.of.{signal.unit}", count=round(value, 1))
        return words.quantity(shown(signal, value), unit_of(signal), 1 if abs(value) < 1000 else 0)
    if isinstance(value, str):
        key = f"signals.values.{value}"
        return words.texts.say(words.language, key) if words.texts.has(key) else value
    return ", ".join(str(code) for code in value or ()) or words("value.none")


def about(
    device: Device, facts: Facts, words: Words, now: int, workshop: str | None = None
) -> list[tuple[str, list[str]]]:
    """What a product is."""
    rows = (
        ("model", device.model),
        ("plate", device.plate),
        ("serial", device.serial),
        ("firmware", device.firmware),
        ("purchased", device.purchased),
        ("warranty", device.warranty_until),
        ("workshop", workshop),
        ("seen", last_seen(facts, words, now)),
    )
    return [(words(f"about.{name}"), [day_words(value, words)]) for name, value in rows if value]


def day_words(value: str, words: Words) -> str:
    """A date as people write it; anything else as it is."""
    try:
        noon = datetime.fromisoformat(f"{date.fromisoformat(value)}T12:00:00+00:00")
        return words.when(noon.timestamp() * 1000, "dated")
    except ValueError:
        return value


# --- the ledger ------------------------------------------------------------------------------

LINE_ICONS = {
    "found": "search",
    "merged": "search",
    "not_sent_quiet_hours": "moon",
    "not_sent_driving": "wheel",
    "not_sent_just_parked": "wheel",
    "not_sent_budget": "sliders",
    "not_sent_put_off": "clock",
    "parked": "parking",
    "sent": "send",
    "sent_display_first": "send",
    "shown": "send",
    "answered": "check",
    "booked": "calendar",
    "requested": "calendar",
    "moved": "calendar",
    "cancelled": "close",
    "done": "wrench",
    "asked": "speech",
    "rated": "speech",
    "closed_elsewhere": "check",
    "suppressed_muted": "muted",
}
LINE_ORDER = ("found", "parked", "merged", "not_sent", "suppressed", "sent", "shown", "answered", "cancelled")
LINE_BEGINNINGS = (
    ("sent", "send"),
    ("booked", "calendar"),
    ("answered", "check"),
    ("not_sent", "clock"),
    ("suppressed", "muted"),
    ("withdrawn", "close"),
    ("cancelled", "close"),
)
LINE_WHYS = {
    # code: (text, where it leads)
    "not_sent_quiet_hours": ("why.quiet_hours", "/me/you#quiet"),
    "not_sent_driving": ("why.driving", "/me/touchpoints/{touchpoint}#why"),
    "not_sent_just_parked": ("why.driving", "/me/touchpoints/{touchpoint}#why"),
    "not_sent_budget": ("why.budget", "/me/you#budget"),
    "suppressed_no_consent": ("why.consent", "/me/you#consents"),
    "suppressed_muted": ("why.muted", "/me/you"),
}
QUIET = ("not_sent", "suppressed", "merged", "parked")


def _rank(code: str) -> int:
    """What comes first of what happened in the same millisecond: the finding before what was made of it."""
    return next((n for n, start in enumerate(LINE_ORDER) if code.startswith(start)), len(LINE_ORDER))


def line_icon(code: str) -> str:
    """The icon of a ledger line: by its code, else by how the code begins."""
    if code in LINE_ICONS:
        return LINE_ICONS[code]
    return next((icon for start, icon in LINE_BEGINNINGS if code.startswith(start)), "document")


def ledger(
    lines: Sequence[LedgerLine], context: Context, words: Words, *, newest_first: bool = False
) -> list[Shown]:
    """Lines as a timeline: each with its day where that changes, and the reason as a link."""
    ordered = sorted(lines, key=lambda line: (line.at, _rank(line.code), line.id))
    told = wording.ledger_story(ordered, context.texts, words.language, words.zone, context.signals)
    if newest_first:
        told.reverse()
    shown_lines, day = [], ""
    for line, sentence in told:
        today = words.when(line.at, "long")
        shown_lines.append(_line(line, sentence, today if today != day else "", words))
        day = today
    return shown_lines


def _line(line: LedgerLine, sentence: str, day: str, words: Words) -> Shown:
    why, where = _why(line, words)
    quiet = line.code.startswith(QUIET)
    return Shown(
        day=day,
        time=words.when(line.at, "time"),
        sentence=sentence,
        icon=line_icon(line.code),
        tone="quiet" if quiet else "sent" if line.code.startswith(("sent", "shown")) else "",
        why=why,
        why_url=where,
        code=line.code,
    )


def _why(line: LedgerLine, words: Words) -> tuple[str, str]:
    if line.code == "found" and line.params.get("rule"):
        page = f"/me/touchpoints/{line.touchpoint}#why" if line.touchpoint else "/me/ledger"
        return words(
            "why.rule", rule=rule_name(str(line.params["rule"]), words), version=line.params.get("version", 1)
        ), page
    if line.code.startswith(("sent", "shown")) and isinstance(line.params.get("budget"), int):
        return words("why.budget"), "/me/you#budget"
    key, where = LINE_WHYS.get(line.code, ("", ""))
    return (words(key), where.format(touchpoint=line.touchpoint or "")) if key else ("", "")


def group_name(key: str, by: str, context: Context, words: Words) -> str:
    """What a group of a table is called that is grouped by rule, kind, model, firmware or week."""
    if not key:
        return words("following.unknown")
    if by == "rule":
        return rule_name(key, words)
    return kind_words(key, context, words) if by == "kind" else key


def rule_name(rule: str, words: Words) -> str:
    """What people call a rule."""
    key = f"touchpoints.{rule}.name"
    return words.texts.say(words.language, key) if words.texts.has(key) else rule.replace("-", " ")


# --- visits ----------------------------------------------------------------------------------


def service_name(appointment: Appointment, workshop: Workshop | None, words: Words) -> str:
    """What is to be done."""
    service = workshop.service(appointment.service) if workshop else None
    return appointment.label or (words.label(service.names, service.id) if service else appointment.service)


def services_name(appointment: Appointment, workshop: Workshop | None, words: Words) -> str:
    """Everything that is to be done in one visit."""
    known = [workshop.service(job) for job in appointment.jobs] if workshop else []
    names = [words.label(service.names, service.id) for service in known if service is not None]
    return " + ".join(names) if len(names) > 1 else service_name(appointment, workshop, words)


def promised(appointment: Appointment, words: Words) -> str:
    """How long it takes and what it costs, as it was said."""
    promise = appointment.diagnosis.get("promised") or {}
    parts = []
    if promise.get("minutes"):
        parts.append(words("visit.takes", time=words.minutes(int(promise["minutes"]))))
    paid = terms_of_visit(words.texts, words.language, appointment.terms)
    return ", ".join([*parts, *([paid] if paid else [])])


def codes(appointment: Appointment, words: Words) -> list[Shown]:
    """Trouble codes, their meaning first."""
    found = []
    for code in appointment.diagnosis.get("codes") or ():
        text = code_words(words.texts, words.language, str(code))
        found.append(Shown(code=code, text=text, note=words("codes.stored")))
    return found


def told(
    appointment: Appointment, found: Matter | None, one: Series | None, context: Context, words: Words
) -> list[str]:
    """What the workshop was told, in the owner's words."""
    diagnosis = appointment.diagnosis
    sentences = [_measured(found, one, context, words)] if found else []
    stand_parts = [words("told.chart")] if one and len(one.points) > 1 else []
    if isinstance(diagnosis.get("odometer"), int | float):
        stand_parts.append(words.quantity(float(diagnosis["odometer"]), "km", 0))
    if diagnosis.get("firmware"):
        stand_parts.append(words("told.software", version=diagnosis["firmware"]))
    sentences.append(", ".join(stand_parts))
    many = diagnosis.get("codes") or ()
    sentences.append(
        words("told.codes", count=len(many), codes=", ".join(map(str, many)))
        if many
        else words("told.no_codes")
    )
    sentences.append(words("told.more_work"))
    return [sentence[:1].upper() + sentence[1:] for sentence in sentences if sentence]


def _measured(found: Matter, one: Series | None, context: Context, words: Words) -> str:
    name = wording_name(found, words)
    if one is None or not one.points:
        return name
    latest = found.touchpoint.evidence.get(one.signal.name)
    value = shown(one.signal, float(latest)) if isinstance(latest, int | float) else one.points[-1][1]
    said = f"{name} {words.quantity(value, unit_of(one.signal))}"
    return (
        words("told.forecast", said=said, date=words.when(one.forecast.at, "date")) if one.forecast else said
    )


def wording_name(found: Matter, words: Words) -> str:
    """What the matter is about."""
    return rule_name(found.touchpoint.rule, words)


def exactly(
    appointment: Appointment, device: Device | None, context: Context, words: Words
) -> list[tuple[str, list[str]]]:
    """Every value that was sent, as it was sent."""
    diagnosis, rows = appointment.diagnosis, []
    for name, value in (diagnosis.get("evidence") or {}).items():
        if name == "ts":
            continue
        signal = context.signals.signal(device.kind, name) if device else None
        rows.append(
            (words.label(signal.label, name) if signal else name, [value_words(signal, value, words)])
        )
    for key in ("odometer", "firmware"):
        if diagnosis.get(key) is not None:
            value = diagnosis[key]
            rows.append(
                (
                    words(f"about.{key}"),
                    [words.quantity(float(value), "km", 0) if key == "odometer" else str(value)],
                )
            )
    if diagnosis.get("codes"):
        rows.append((words("about.codes"), [str(code) for code in diagnosis["codes"]]))
    if promised(appointment, words):
        rows.append((words("workshop.promised"), [promised(appointment, words)]))
    return rows


def find_workshop(records: Records, workshop_id: str | None) -> Workshop | None:
    """The workshop, None where it is not known any more."""
    try:
        return records.workshops.get(workshop_id) if workshop_id else None
    except NotFoundError:
        return None

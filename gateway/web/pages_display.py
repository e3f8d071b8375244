"""The product's own display: the same matter and answers, large. While a car moves nothing but critical.

A car's screen is 1280 × 480, an appliance's panel 480 × 320. The page is the owner's (a display that
is driven over MQTT gets the same from channels/display.py).
"""

from __future__ import annotations

from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.accounts import Proof
from gateway.domain.appointment import STANDING, AppointmentState
from gateway.domain.errors import NotFoundError
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import claiming, people
from gateway.flow.claim_words import address, spaced
from gateway.ports import Records
from gateway.web import answering, charts, rights, talking, views
from gateway.web.access import allow, local_path
from gateway.web.context import Context
from gateway.web.owner_page import open_page
from gateway.web.pages_touchpoint import take_answer
from gateway.web.render import page, see
from gateway.web.words import Words

routes = web.RouteTableDef()
mine = allow(Role.OWNER, Role.OPERATOR)

SETTLED_SHOWN_MS = 12 * 3_600_000
"""For so long after an answer the display says what came of it."""
SEVERITIES = ("critical", "warning", "advice")


@routes.get("/display/{device}")
@mine
async def display(request: web.Request) -> web.Response:
    """To the page that fits the product."""
    at, wanted = await open_page(request), request.match_info["device"]
    device = await at.read(lambda records: rights.device(records, at.who, wanted))
    return see(f"/{'car' if device.kind == 'car' else 'panel'}/{wanted}")


@routes.get("/car/{device}")
@mine
async def car(request: web.Request) -> web.Response:
    """A ten-inch screen in a car."""
    return await _screen(request, panel=False)


@routes.get("/panel/{device}")
@mine
async def panel(request: web.Request) -> web.Response:
    """An appliance's panel."""
    return await _screen(request, panel=True)


async def _screen(request: web.Request, *, panel: bool) -> web.Response:
    at, wanted = await open_page(request), request.match_info["device"]
    loaded = await at.read(lambda records: load(records, at, wanted))
    view = await screen(at.context, loaded, at.words, at.now, panel=panel)
    view.may_sign_in = at.who.role is Role.OWNER and at.context.demo is None
    found = loaded.matter.touchpoint if view.matter is not None else None
    view.talk = found is not None and await at.read(
        lambda records: talking.asks(records, found, at.now, at.context.policy)
    )
    handed_on = await at.read(lambda records: claiming.waiting(records, wanted, at.now))
    if handed_on is not None and not _urgent(loaded, at):
        view.matter, view.settled = None, _code(handed_on, at.words, at.context.public_url)
    return page(request, "car.html", at.words, view=view)


def _urgent(loaded: Shown, at: Any) -> bool:
    """While it moves, or something critical is open, a code can wait."""
    if loaded.facts.moving and at.now - loaded.facts.last_seen < at.context.policy.moving_stale_ms:
        return True
    found = loaded.matter
    return (
        found is not None and found.touchpoint.state is State.OPEN and found.touchpoint.severity == "critical"
    )


def _code(handed_on: Proof, words: Words, public_url: str) -> Shown:
    """What whoever takes it over types, in large."""
    code = spaced(str(handed_on.data["code"]))
    text = words("claim.display_body", url=address(public_url), code=code)
    return Shown(tone="calm", icon="swap", word=words("claim.display_title"), title=code, text=text)


@routes.post("/display/{device}/answer")
@allow(Role.OWNER)  # after-sales look at a display, and answer by what they verified
async def answer(request: web.Request) -> web.Response:
    """What was tapped on the display."""
    at, form, wanted = await open_page(request), await request.post(), request.match_info["device"]
    found = await at.read(lambda records: _shown_there(records, at, wanted, str(form.get("touchpoint", ""))))
    chosen = answering.chosen(form, channel="display", at=at.now, by=found.owner)
    await take_answer(at, found.id, chosen)
    return see(local_path(str(form.get("next", "")), f"/display/{wanted}"))


def _shown_there(records: Records, at: Any, device: str, touchpoint: str) -> Touchpoint:
    rights.device(records, at.who, device)
    found = rights.touchpoint(records, at.who, touchpoint)
    if found.device != device:
        raise NotFoundError(f"There is no touchpoint {touchpoint} on this display.")
    return found


# --- what it shows ---------------------------------------------------------------------------


def load(records: Records, at: Any, wanted: str) -> Shown:
    """The product and its newest matter, the gravest first."""
    device = rights.device(records, at.who, wanted)
    return load_device(records, device, at.context)


def load_device(records: Records, device: Any, context: Context) -> Shown:
    """The same without asking who it is."""
    asked = people.asked(records, device) or device.owner
    recent = records.touchpoints.page(device=device.id, owner=asked, limit=6)
    waiting = sorted((t for t in recent if t.state is State.OPEN), key=lambda t: SEVERITIES.index(t.severity))
    newest = waiting[:1] or [t for t in recent if t.state is not State.DEFERRED][:1]
    return Shown(
        device=device,
        facts=records.devices.facts(device.id),
        matter=views.load_matter(records, newest[0], context) if newest else None,
    )


async def screen(
    context: Context, loaded: Shown, words: Words, now: int, *, panel: bool, next_page: str = ""
) -> Shown:
    """What the display shows now."""
    device, found = loaded.device, loaded.matter
    moving = loaded.facts.moving and now - loaded.facts.last_seen < context.policy.moving_stale_ms
    base = Shown(
        product=device.title,
        name=words("display.name_panel" if panel else "display.name_car", product=device.title),
        panel=panel,
        note=words("display.moving" if moving else "display.parked") if not panel else "",
        note_icon="wheel" if moving else "parking",
        outside=_outside(loaded.facts, words),
        answer_url=f"/display/{device.id}/answer",
        may_sign_in=False,
        talk=False,
        next=next_page or f"/{'panel' if panel else 'car'}/{device.id}",
        href=f"/{'panel' if panel else 'car'}/{device.id}",
        matter=None,
        settled=None,
        evidence=[],
        actions=[],
        bar=None,
        slots_label="",
        foot="",
        washes=None,
    )
    if (
        found is not None
        and found.touchpoint.state is State.OPEN
        and (not moving or found.touchpoint.severity == "critical")
    ):
        return await _open(base, found, context, words, now)
    base.settled = _settled(found, words, now, moving=moving, product=device.title, panel=panel)
    return base


async def _open(base: Shown, found: views.Matter, context: Context, words: Words, now: int) -> Shown:
    one = await views.matter_series(context, found, now)
    base.matter = views.matter(found, context, words, now, one)
    m = base.matter
    said = m.outlook if m.outlook and not base.panel else m.measured
    base.evidence = [said, *([m.promise] if m.promise else [])]
    base.slots_label = (
        words("slot.offers", workshop=m.workshop, count=len(m.slots)) if m.slots and not base.panel else ""
    )
    base.foot = "" if base.panel else words("display.one_answer")
    base.bar, base.washes = _bar(found, one, words), _washes(found, one)
    if base.bar and base.washes is not None and base.panel:
        base.bar = Shown(svg=base.washes, now="", low=False, new="", limit="")
    base.actions = _actions(m, words, panel=base.panel)
    return base


def _actions(m: Shown, words: Words, *, panel: bool) -> list[Shown]:
    not_now = Shown(action="not_now", label=words("act.not_now"), primary=False)
    if m.bookable:
        other = [Shown(action="other_time", label=words("act.other_time"), primary=False)] if m.slots else []
        call = [Shown(action="call_me", label=words("act.call_me"), primary=not m.slots)]
        if panel and m.slots:  # two rows of big targets are all that a small panel has room for
            call = []
        return [*other, not_now, *call] if m.slots else [*call, not_now]
    if m.resets:
        return [Shown(action="already_done", label=words("act.already_done"), primary=True), not_now]
    return [Shown(action="noted", label=words("act.noted"), primary=True), not_now]


def _outside(facts: Any, words: Words) -> str:
    known = facts.latest.get("outside_temperature")
    return words.quantity(float(known[1]), "°C", 0) if known and isinstance(known[1], int | float) else ""


def _share(found: views.Matter, one: views.Series | None) -> tuple[float, float] | None:
    """(value, limit) of what wears, in the signal's own unit."""
    if one is None or one.signal.wear is None:
        return None
    latest = found.facts.latest.get(one.signal.name, (0, found.touchpoint.evidence.get(one.signal.name)))[1]
    return (float(latest), one.signal.wear.limit) if isinstance(latest, int | float) else None


def _bar(found: views.Matter, one: views.Series | None, words: Words) -> Shown | None:
    worn = _share(found, one)
    if worn is None or one is None or one.limit is None:
        return None
    unit = views.unit_of(one.signal)
    value, limit = worn
    return Shown(
        svg=charts.wear_bar(value / limit),
        now=words("display.now", value=words.quantity(views.shown(one.signal, value), unit)),
        low=value / limit < 0.4,
        new=words("display.new", value=words.quantity(views.shown(one.signal, 0), unit)),
        limit=words("chart.limit", value=words.quantity(one.limit, unit)),
    )


def _washes(found: views.Matter, one: views.Series | None) -> Any:
    worn = _share(found, one)
    if worn is None or one is None or not one.signal.counter:
        return None
    return charts.wash_bar(round(worn[0]), round(worn[1]))


def _settled(
    found: views.Matter | None, words: Words, now: int, *, moving: bool, product: str, panel: bool
) -> Shown:
    calm = words("display.calm_panel" if panel else "display.calm")
    quiet = Shown(
        tone="",
        icon="done",
        word="",
        title=words("display.calm_title", product=product),
        text=calm,
    )
    if moving:
        return Shown(
            tone="",
            icon="wheel",
            word="",
            title=words("display.driving_title"),
            text=words("display.driving"),
        )
    if (
        found is None
        or found.touchpoint.answer is None
        or now - found.touchpoint.answer.at > SETTLED_SHOWN_MS
    ):
        return quiet
    given, appointment = found.touchpoint.answer, found.appointment
    where = words(f"display.answered_{'here' if given.channel == 'display' else 'phone'}")
    if appointment is not None and appointment.state in STANDING:
        state = views.appointment_state(words, appointment.state)
        moment = f"{words.when(appointment.start, 'long')}, {words.when(appointment.start, 'time')}"
        place = found.workshop.name if found.workshop else ""
        text = " · ".join(p for p in (place, views.promised(appointment, words)) if p)
        return Shown(tone=state.tone, icon=state.icon, word=state.word, title=moment, text=f"{text}. {where}")
    if appointment is not None and appointment.state is AppointmentState.DONE:
        return quiet
    key = f"status.{given.action}"
    said = words(key) if words.has(key) else ""
    return Shown(
        tone="calm", icon="check", word=words(f"state.{found.touchpoint.state}"), title=said, text=where
    )

"""The first page: who one may be; in the demo the four faces side by side, the story and its clock."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import date
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain import moments, slots
from gateway.domain.access import issue_token
from gateway.domain.appointment import Workshop
from gateway.domain.device import Device
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.ports import Records
from gateway.web import charts, pages_display, pages_workshop, path, views
from gateway.web.access import (
    LANGUAGE_COOKIE,
    LANGUAGES,
    PAGE_ROLES,
    asked_language,
    local_path,
    public,
    set_session,
)
from gateway.web.context import CONTEXT, Context
from gateway.web.render import THEME_COOKIE, THEMES, YEAR_S, ZONE, page, see, spoken
from gateway.web.sign_in import DEMO_SESSION_MS, KEEPER, cast_of
from gateway.web.words import Words

routes = web.RouteTableDef()

PACES = (
    ("pause", "pause", None),
    ("1", None, "1×"),
    ("60", None, "60×"),
    ("600", None, "600×"),
    ("story", "play", None),
)
CALENDAR_HOURS = 5
CALENDAR_HOURS_ALONE = 9
BAYS_SHOWN = 3
DAYS_BACK = 14
"""So long a booking that is over stays on the page."""
STORY_LINES = 5
ACT_ICONS = {
    "wear_pads": "car",
    "break_pump": "washing_machine",
    "cross_border": "pin",
    "lose_network": "muted",
}
HAPPENED_SHOWN_MS = 2 * HOUR_MS
"""For so long the page says what the visitor made happen."""
ROLES = (("owner", "user", "/me"), ("workshop", "wrench", "/workshop"), ("operator", "grid", "/operator"))


@routes.get("/")
@public
async def start(request: web.Request) -> web.Response:
    """Who you may be; in the demo everybody at once."""
    context = request.app[CONTEXT]
    words = Words(context.texts, spoken(request), ZONE)
    if context.demo is None:
        return page(request, "start.html", words, view=_roles(words))
    response = page(request, "start.html", words, view=await _demo(context, words))
    if len(await request.app[KEEPER].sessions(request)) < len(PAGE_ROLES):
        await _enter(request, response, context)
    return response


def _roles(words: Words) -> Shown:
    roles = [
        Shown(
            icon=icon,
            name=words(f"start.{name}"),
            text=words(f"start.{name}_text"),
            href=href,
            link=words(f"start.{name}_link"),
        )
        for name, icon, href in ROLES
    ]
    return Shown(demo=False, roles=roles)


async def _enter(request: web.Request, response: web.Response, context: Context) -> None:
    """The demo opens all doors: a session for each of the cast, and the visitor's language for all faces."""
    now, https = context.clock.now(), request.app[KEEPER].https

    def work(records: Records) -> list[tuple[Any, str]]:
        opened = []
        for role, subject in cast_of(context, "all"):
            token, secret = issue_token(
                role, subject, ttl_ms=DEMO_SESSION_MS, now=now, random=secrets.token_bytes
            )
            records.tokens.add(token)
            opened.append((token, secret))
        return opened

    for token, secret in await context.database.write(work):
        set_session(response, token, secret, https=https, now=now)
    if request.cookies.get(LANGUAGE_COOKIE) not in LANGUAGES:
        wanted = asked_language(request.headers.get("Accept-Language", ""))
        response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, samesite="Lax")


@routes.post("/looks")
@public
async def looks(request: web.Request) -> web.Response:
    """Language and theme, kept by the browser."""
    form = await request.post()
    response = see(local_path(str(form.get("next", ""))))
    if form.get("language") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, str(form["language"]), max_age=YEAR_S, samesite="Lax")
    if "theme" in form:
        wanted = str(form["theme"])
        if wanted in THEMES:
            response.set_cookie(THEME_COOKIE, wanted, max_age=YEAR_S, samesite="Lax")
        else:
            response.del_cookie(THEME_COOKIE)
    return response


# --- the demo's clock ------------------------------------------------------------------------


@routes.post("/demo/pace")
@public
async def pace(request: web.Request) -> web.Response:
    """How fast the story goes."""
    demo = request.app[CONTEXT].demo
    if demo is None:
        raise web.HTTPNotFound
    demo.set_pace(str((await request.post()).get("pace", "")))
    return see("/")


@routes.post("/demo/act")
@public
async def act(request: web.Request) -> web.Response:
    """What a visitor makes happen."""
    demo = request.app[CONTEXT].demo
    if demo is None:
        raise web.HTTPNotFound
    await demo.act(str((await request.post()).get("action", "")))
    return see("/")


# --- four faces at one moment ----------------------------------------------------------------


async def _demo(context: Context, words: Words) -> Shown:
    assert context.demo is not None
    state, now = context.demo.state(), context.clock.now()
    cast = state["cast"]
    loaded = await context.database.read(lambda records: _load(records, context, cast, now))
    workshop = await _workshop(context, loaded, words, now)
    return Shown(
        demo=True,
        cast=Shown(owner=loaded.owner.name if loaded.owner else ""),
        pace_words=_pace_words(state, words),
        paces=[_pace(key, icon, text, state, words) for key, icon, text in PACES],
        prompt=_prompt(state, words),
        guided=state["guided"],
        acts=[(act, words(f"start.act_{act}"), ACT_ICONS.get(act, "play")) for act in state["acts"]],
        happened=_happened(state, words, now),
        car=await _product(context, loaded.car, words, now, panel=False),
        appliance=await _product(context, loaded.appliance, words, now, panel=True),
        workshop=workshop,
        job_due=bool(workshop.booking and workshop.booking.begun),
        operator=await _operator(context, loaded, state, words, now),
        steps=_steps(state, loaded, words, now),
        push_note=words("start.push_note") if context.push_hosts_note else "",
    )


def _load(records: Records, context: Context, cast: Mapping[str, Any], now: int) -> Shown:
    car, appliance = (records.devices.find(str(cast.get(name, ""))) for name in ("car", "appliance"))
    workshop = views.find_workshop(records, cast.get("workshop"))
    chosen = pages_workshop.newest_booking(records, workshop, now, DAYS_BACK) if workshop else None
    owners = [
        o for o in records.owners.page(find=str(cast.get("owner", "")), limit=5) if o.id == cast.get("owner")
    ]
    day = chosen.start if chosen else now
    shown_day = moments.local(day, workshop.time_zone).date() if workshop else None
    if workshop and chosen is None:
        shown_day = pages_workshop.open_days(workshop, now, None)[0]
    return Shown(
        owner=owners[0] if owners else None,
        car=pages_display.load_device(records, car, context) if car else None,
        appliance=pages_display.load_device(records, appliance, context) if appliance else None,
        workshop=workshop,
        booking=pages_workshop.load_booking(records, chosen, context) if chosen else None,
        day=pages_workshop.load_day(records, workshop, shown_day, now) if workshop and shown_day else None,
        connected=records.devices.connected(now - DAY_MS),
        lines=records.touchpoints.ledger(owner=str(cast.get("owner", "")), limit=STORY_LINES + 4),
    )


async def _product(
    context: Context, loaded: Shown | None, words: Words, now: int, *, panel: bool
) -> Shown | None:
    if loaded is None:
        return None
    view = await pages_display.screen(context, loaded, words, now, panel=panel, next_page="/")
    device: Device = loaded.device
    view.health = []
    if view.matter is None:
        one = await views.with_series(context, views.Product(device=device, facts=loaded.facts), now)
        view.health = views.health(one, words, now)[:3]
    return view


async def _workshop(context: Context, loaded: Shown, words: Words, now: int) -> Shown:
    if loaded.workshop is None or loaded.day is None:
        return Shown(href="/workshop", day=Shown(short="", count="", hours=[], bays=[]), booking=None)
    chosen = loaded.booking.appointment if loaded.booking else None
    if chosen:
        last = min(chosen.start + 2 * HOUR_MS, _closing(loaded.workshop, loaded.day.day, chosen.end))
        window = (last - CALENDAR_HOURS * HOUR_MS, last)
    else:
        first = loaded.day.start + 8 * HOUR_MS
        window = (first, first + CALENDAR_HOURS_ALONE * HOUR_MS)
    day = pages_workshop.calendar(loaded.day, words, now, chosen.id if chosen else None, hours=window)
    day.bays = _some_bays(day.bays, chosen.bay if chosen else None)
    booking = (
        await pages_workshop.booking(context, loaded.booking, loaded.workshop, words, now)
        if loaded.booking
        else None
    )
    href = f"/workshop?booking={chosen.id}" if chosen else "/workshop"
    return Shown(href=href, day=day, booking=booking)


def _closing(workshop: Workshop, day: date, least: int) -> int:
    """When the workshop closes on a day, not before `least`."""
    return max([least, *(end for _, _, end in slots.openings(workshop, day))])


def _some_bays(bays: list[Shown], wanted: str | None) -> list[Shown]:
    """As many as there is room for, the chosen one among them."""
    rest = [bay for bay in bays if bay.name != wanted][: BAYS_SHOWN - (wanted is not None)]
    return [bay for bay in bays if bay in rest or bay.name == wanted]


async def _operator(
    context: Context, loaded: Shown, state: Mapping[str, Any], words: Words, now: int
) -> Shown:
    p = await path.pulse(context)
    current = {
        "reading": "receive",
        "finding": "assess",
        "moment": "deliver",
        "answer": "answered",
        "booked": "booked",
        "done": "done",
    }
    step_now = next((current.get(s["key"]) for s in state["steps"] if s["now"]), None)
    most = max(path.per_second(p, "receive") * 86_400, 1.0)
    rows = [step for step in path.steps(p, words) if step.key != "record"]
    for row in rows:
        row.bar = charts.share_bar(charts.log_share(row.per_second * 86_400, most))
        row.current = row.key == step_now
    lines = views.ledger(loaded.lines, context, words, newest_first=True)[:STORY_LINES]
    name = loaded.owner.name if loaded.owner else ""
    return Shown(
        connected=path.connected(loaded.connected, words),
        steps=rows,
        story=lines,
        story_label=words("start.story", name=name),
    )


def _pace_words(state: Mapping[str, Any], words: Words) -> str:
    speed = float(state["speed"])
    if state["mode"] == "paused" or speed == 0:
        return words("start.paused")
    return words("start.speed", speed=words.number(speed)) if speed != 1 else words("start.real_time")


def _pace(key: str, icon: str | None, text: str | None, state: Mapping[str, Any], words: Words) -> Shown:
    chosen = str(state.get("pace", {"paused": "pause", "story": "story"}.get(str(state["mode"]), "")))
    current = chosen == key or (
        chosen not in ("pause", "story", "") and key not in ("pause", "story") and float(chosen) == float(key)
    )
    label = words(f"start.pace_{key}") if words.has(f"start.pace_{key}") else ""
    return Shown(key=key, icon=icon, text=text, label=label, current=current)


def _prompt(state: Mapping[str, Any], words: Words) -> Shown:
    """What the story waits for: the visitor's tap; else how it goes on."""
    waiting = state.get("waiting")
    key = f"start.wait_{waiting}"
    if waiting and words.has(key):
        return Shown(text=words(key), action="next", button=words("start.next"))
    if state["mode"] != "story" or not state["guided"]:
        runs = state["mode"] if state["guided"] else "free"
        return Shown(text=words(f"start.runs_{runs}"), action=None, button="")
    step = next((s["key"] for s in state["steps"] if s["now"]), "begin")
    return Shown(text=words(f"start.told_{step}"), action=None, button="")


def _happened(state: Mapping[str, Any], words: Words, now: int) -> str:
    """What the visitor made happen, and what comes of it."""
    last = state["happened"]
    if last is None or now - last["at"] > HAPPENED_SHOWN_MS:
        return ""
    return words(f"start.did_{last['what']}", time=words.when(last["at"], "time"))


def _steps(state: Mapping[str, Any], loaded: Shown, words: Words, now: int) -> list[Shown]:
    product = loaded.car.device.title if loaded.car else ""
    name = loaded.owner.name.split()[0] if loaded.owner else ""
    rows = []
    for step in state["steps"]:
        tone = "at" if step["now"] else "past" if step["done"] else ""
        at = words.moment(step["at"], now) if step["at"] else ""
        text = words(f"start.step_{step['key']}_text", product=product, name=name)
        rows.append(Shown(name=words(f"start.step_{step['key']}"), at=at, text=text, tone=tone))
    return rows

"""Pages made ready ahead: what owners open first is compiled before anybody asks, once there is time for it.

Just after a start a gateway catches up with what the broker has held for it, and compiling takes the event
loop's turns from it. So it waits until the process has time left; but not when people come already, and not
for ever, for where there is never time the first owner would wait longest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp_jinja2
from aiohttp import web

from gateway.ports import Clock
from gateway.web.access import LANGUAGES
from gateway.web.context import CONTEXT
from gateway.web.render import OPENED, ZONE
from gateway.web.words import Words

LOOK_MS, LATEST_MS = 1_000, 180_000
"""After the start a look each second; after three minutes, anyway."""
SPARE = 0.5
"""Of one core, what the process may have used since the last look: a fleet's ordinary messages cost less."""
BEHIND = 500
"""Messages that the rules may have before them: they get so many at a time when they have caught up."""
CALM = 3
"""Looks in a row that find time to spare: a broker that gives back what it has held draws breath between."""

FIRST = (
    "base.html",
    "_macros.html",
    "_answering.html",
    "_visit_parts.html",
    "owner_base.html",
    "owner_inbox.html",
    "owner_touchpoint.html",
    "owner_product.html",
    "owner_products.html",
    "owner_visits.html",
    "owner_visit.html",
    "owner_times.html",
    "owner_you.html",
    "owner_ledger.html",
)
"""What owners open first, often many of them at once, and what it is made of."""


async def warm_in_time(
    app: web.Application, clock: Clock, *, used: Callable[[], float], behind: Callable[[], int]
) -> None:
    """Make pages ready when there is time for it. `used` is what the process has used of a processor since it
    began (s), `behind` how many messages the rules of this process have still to assess."""
    await _time_for_it(clock, app[OPENED], used, behind)
    await warm(app)


async def _time_for_it(
    clock: Clock, opened: asyncio.Event, used: Callable[[], float], behind: Callable[[], int]
) -> None:
    began = at = clock.now()
    before, calm = used(), 0
    while calm < CALM and not opened.is_set() and at < began + LATEST_MS:
        await clock.wait(opened, at + LOOK_MS)
        busy = 1000 * (used() - before) >= SPARE * (clock.now() - at) or behind() > BEHIND
        calm = 0 if busy else calm + 1
        before, at = used(), clock.now()


async def warm(app: web.Application) -> None:
    """Compile what owners open first, and load how their languages write numbers and days: 0.15 s of a
    processor that whoever comes first after a start would wait for otherwise, and everybody behind them."""
    environment, texts = aiohttp_jinja2.get_env(app), app[CONTEXT].texts
    for name in FIRST:
        await asyncio.to_thread(environment.get_template, name)
    for spoken in LANGUAGES:
        await asyncio.to_thread(_write_all, Words(texts, spoken, ZONE), app[CONTEXT].clock.now())


def _write_all(words: Words, now: int) -> None:
    words.when(now, "full")
    words.quantity(1.5, "km")
    words.texts.when(words.language, now, words.zone)

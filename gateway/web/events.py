"""What has changed, as server-sent events: (subject, key) filtered by what somebody may see.

A page asks for itself again when something that it may show has changed; the events carry ids only.
In the demo everybody hears everything, and the played clock besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.ports import ChangeFeed, DatabaseUnavailableError, Records
from gateway.web.access import Identity, guest, public
from gateway.web.context import CONTEXT, Context, Demo

routes = web.RouteTableDef()

BEAT_S = 20.0
"""An empty line so often, so that both ends notice a dead connection."""
GATHER_S = 0.15
"""Changes within so long are told together."""

Change = tuple[str, str]
Hearer = tuple[Role, str]
"""an owner or a workshop"""

ANYTHING: Change = ("*", "")
"""Told instead of what can no longer be told (adapters/database/changes.py): everybody looks again."""

log = structlog.get_logger()


@routes.get("/events")
@public
async def events(request: web.Request) -> web.StreamResponse:
    """The stream of changes; 401 without a session, unless it is the demo."""
    context, identity = request.app[CONTEXT], guest(request)
    if identity is None and context.demo is None:
        raise web.HTTPUnauthorized
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    listener = Listener(everything=context.demo is not None or (identity is not None and identity.staff))
    if identity is not None:
        listener.hearer = (identity.role, identity.subject or "")
    hub: Hub = context.extras.setdefault("hub", Hub(context))
    hub.add(listener)
    try:
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"retry: 1500\n\n")
            await _tell(response, context, listener)
    finally:
        hub.remove(listener)
    return response


async def _tell(response: web.StreamResponse, context: Context, listener: Listener) -> None:
    ticks = asyncio.create_task(_clock(response, context.demo)) if context.demo else None
    try:
        while True:
            await response.write(await listener.next() or b": beat\n\n")
    finally:
        if ticks is not None:
            ticks.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
                await ticks


@dataclass(eq=False, slots=True)
class Listener:
    """One open stream. What waits for a slow one is kept once, however often it changed meanwhile."""

    everything: bool
    """after-sales hears everything, and in the demo everybody does"""
    hearer: Hearer | None = None
    waiting: dict[Change, None] = field(default_factory=dict)
    woken: asyncio.Future[None] | None = None

    def put(self, changes: Iterable[Change]) -> None:
        self.waiting.update(dict.fromkeys(changes))
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)

    async def next(self) -> bytes:
        """What has changed, as an event; empty when it is time to show that we are still there."""
        if not self.waiting:
            self.woken = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self.woken
            self.woken = None
        told, self.waiting = self.waiting, {}
        return _event("change", [list(change) for change in told]) if told else b""


class Hub:
    """Hears of what was committed once for all streams, and finds out once whom each change concerns: with
    thousands of streams, one look for each of them would keep the database busy with nothing else."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._everything: set[Listener] = set()
        self._by_hearer: dict[Hearer, set[Listener]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Listener) -> None:
        """It hears of what is committed from now on."""
        if listener.everything:
            self._everything.add(listener)
        elif listener.hearer is not None:
            self._by_hearer.setdefault(listener.hearer, set()).add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(self._context.database.watch()), name="events")

    def remove(self, listener: Listener) -> None:
        self._everything.discard(listener)
        same = self._by_hearer.get(listener.hearer) if listener.hearer else None
        if same is not None:
            same.discard(listener)
            if not same and listener.hearer:
                del self._by_hearer[listener.hearer]
        if not self._everything and not self._by_hearer and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, feed: ChangeFeed) -> None:
        try:
            while True:
                await feed.event().wait()
                await asyncio.sleep(GATHER_S)
                try:
                    await self._pass_on(list(dict.fromkeys(feed.take())))
                except DatabaseUnavailableError as error:
                    log.warning("events_not_told", error=str(error))
        finally:
            feed.close()

    async def _pass_on(self, changes: list[Change]) -> None:
        for listener in self._everything:
            listener.put(changes)
        if not self._by_hearer:
            return
        heard: dict[Hearer, list[Change]] = {}
        audiences = await self._context.database.read(lambda r: [audience(r, change) for change in changes])
        for change, hearers in zip(changes, audiences, strict=True):
            for hearer in self._by_hearer if change == ANYTHING else hearers:
                heard.setdefault(hearer, []).append(change)
        for hearer, theirs in heard.items():
            for listener in self._by_hearer.get(hearer, ()):
                listener.put(theirs)


async def _clock(response: web.StreamResponse, demo: Demo) -> None:
    """The played clock; and a change when the story says something that the records do not."""
    before: tuple[object, ...] = ()
    while True:
        state = demo.state()
        await response.write(_event("clock", {"now": state["now"], "speed": state["speed"]}))
        told = (
            state["mode"],
            state.get("pace"),
            state["waiting"],
            len(state["pushes"]),
            state["now"] // 600_000,
        )
        if told != before:
            before = told
            await response.write(_event("change", [["demo", ""]]))
        await demo.wait_changed()


def _event(kind: str, data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


# --- who may hear what -----------------------------------------------------------------------


def concerns(records: Records, change: Change, identity: Identity) -> bool:
    """Whether a change is about something of this owner or workshop; what is not known is not told."""
    return (identity.role, identity.subject) in audience(records, change)


def audience(records: Records, change: Change) -> set[Hearer]:
    """The owners and workshops that a change is about, those included who share the product; nobody where it
    is not known."""
    subject, key = change
    hearers: set[Hearer] = set()
    for role in (Role.OWNER, Role.WORKSHOP):
        look = LOOKS.get((role, subject))
        with contextlib.suppress(NotFoundError):
            if look is not None and (whose := look(records, key)):
                hearers.add((role, whose))
    device = DEVICES.get(subject)
    with contextlib.suppress(NotFoundError):
        if device is not None and (about := device(records, key)):
            hearers.update((Role.OWNER, p.owner) for p in records.devices.people(about) if p.owner and p.sees)
    return hearers


def _holding_workshop(records: Records, key: str) -> str | None:
    slots = records.touchpoints.get(key).slots
    return slots[0].workshop if slots else None


HEARD_BY_ALL = ("present",)
"""Subjects that are about nobody: whether somebody of after-sales is there."""

LOOKS: dict[tuple[Role, str], Callable[[Records, str], str | None]] = {
    (Role.OWNER, "touchpoint"): lambda records, key: records.touchpoints.get(key).owner,
    (Role.OWNER, "conversation"): lambda records, key: records.touchpoints.get(key).owner,
    (Role.OWNER, "appointment"): lambda records, key: records.workshops.appointment(key).owner,
    (Role.OWNER, "feedback"): lambda records, key: records.feedback.get(key).owner,
    (Role.OWNER, "device"): lambda records, key: records.devices.get(key).owner,
    (Role.OWNER, "facts"): lambda records, key: records.devices.get(key).owner,
    (Role.OWNER, "ledger"): lambda records, key: key,
    (Role.OWNER, "owner"): lambda records, key: key,
    (Role.WORKSHOP, "appointment"): lambda records, key: records.workshops.appointment(key).workshop,
    (Role.WORKSHOP, "touchpoint"): _holding_workshop,
    (Role.WORKSHOP, "workshop"): lambda records, key: key,
}
"""(role, subject of the change) → whose it is."""

DEVICES: dict[str, Callable[[Records, str], str | None]] = {
    "touchpoint": lambda records, key: records.touchpoints.get(key).device,
    "conversation": lambda records, key: records.touchpoints.get(key).device,
    "appointment": lambda records, key: records.workshops.appointment(key).device,
    "device": lambda _, key: key,
    "facts": lambda _, key: key,
}
"""subject of the change → which device it is about"""

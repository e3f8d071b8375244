"""One request of an owner: who asks, in which words, and what stands above every page of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace as Shown
from typing import Any, TypeVar

from aiohttp import web

from gateway.domain import moments
from gateway.domain.appointment import STANDING, Appointment, AppointmentState
from gateway.domain.ids import derived_id
from gateway.domain.touchpoint import State
from gateway.ports import Records
from gateway.web.access import local_path, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, words_for, words_in
from gateway.web.words import Words

T = TypeVar("T")

COMING = (*STANDING, AppointmentState.WISHED)
"""States of a visit that is still to come."""
PUSH_SHOWN_MS = 6 * moments.HOUR_MS
"""A loopback push stays on the page for so long of the played time, unless it is put away."""


class OwnerPage:
    """One request of an owner: who asks, in which words, and when."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.now = self.context.clock.now()
        self.who = who(request)
        self.owner_id = self.who.subject or ""
        self.pushes: list[Shown] = []

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        result = await self.context.database.write(work)
        if self.context.announce:
            await self.context.announce()
        return result

    def answer(self, template: str, tab: str, view: Shown, **more: Any) -> web.Response:
        return page(
            self.request,
            template,
            self.words,
            tab=tab,
            view=view,
            pushes=self.pushes,
            **{"toast": toast(self), **more},
        )


async def open_page(request: web.Request) -> OwnerPage:
    """The request of an owner."""
    at = OwnerPage(request, await words_for(request))
    if request.method == "GET":
        at.pushes = await pushes(at)
    return at


async def load_page(request: web.Request, load: Callable[[Records, OwnerPage], T]) -> tuple[OwnerPage, T]:
    """The request of an owner, and what the page shows, as of one moment: read in one transaction."""

    def work(records: Records) -> tuple[OwnerPage, T]:
        at = OwnerPage(request, words_in(records, request))
        return at, load(records, at)

    at, loaded = await request.app[CONTEXT].database.read(work)
    at.pushes = await pushes(at)
    return at, loaded


def toast(at: OwnerPage, undo_url: str | None = None, product: str = "") -> Shown | None:
    """What the last POST did, from `?said=`."""
    said = at.request.query.get("said", "")
    key = f"toast.{said}"
    if not at.words.has(key):
        return None
    return Shown(text=at.words(key, product=product), undo_url=undo_url)


NOTIFY_COOKIE = "notify"
"""Who said "not now" to notifications is not asked again while the browser keeps it."""


def notify(at: OwnerPage, reason: str, *, subscribed: bool) -> Shown | None:
    """The offer to be notified, with its reason and what happens without; None when it was taken or put off.
    The script shows it only where the browser was not asked yet."""
    key = at.context.vapid_public_key
    if subscribed or key is None or NOTIFY_COOKIE in at.request.cookies:
        return None
    return Shown(
        key=key, why=at.words(f"notify.{reason}"), without=at.words("notify.without"), back=at.request.path
    )


async def pushes(at: OwnerPage) -> list[Shown]:
    """In the demo: the newest push, as the phone shows it, labelled as what it is, until it is answered."""
    demo = at.context.demo
    if demo is None:
        return []
    sent = [
        p for p in demo.state()["pushes"] if p["owner"] == at.owner_id and at.now - p["at"] < PUSH_SHOWN_MS
    ]
    newest = [p for p in sent[-1:] if at.request.path != _push_page(p)]
    stands = await at.read(lambda records: [_stands(records, p) for p in newest])
    return [_push(p, at) for p, open_yet in zip(newest, stands, strict=True) if open_yet]


def _stands(records: Records, push: Mapping[str, Any]) -> bool:
    """Whether the push still asks for something: an offer that is open, a question without an answer."""
    touchpoint = records.touchpoints.get(str(push["touchpoint"]))
    questions = records.feedback.page(touchpoint=touchpoint.id)
    return touchpoint.state is State.OPEN or any(f.answered_at is None for f in questions)


def _push_page(push: Mapping[str, Any]) -> str:
    url = str(push.get("url") or "")
    path = "/" + url.split("://", 1)[-1].partition("/")[2] if url else ""
    return local_path(path, "") or (
        f"/me/touchpoints/{push['touchpoint']}" if push.get("touchpoint") else "/me"
    )


def _push(push: Mapping[str, Any], at: OwnerPage) -> Shown:
    return Shown(
        key=derived_id(push["at"], push.get("touchpoint"), push["title"])[:12],
        source=at.words("push.loopback"),
        time=at.words.when(push["at"], "time"),
        title=push["title"],
        body=push["body"],
        href=_push_page(push),
    )


def device_title(records: Records, appointment: Appointment) -> str:
    """What people call the product of a visit."""
    device = records.devices.find(appointment.device) if appointment.device else None
    return device.title if device else ""

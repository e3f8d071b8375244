"""What the pages and the API stand on; made by app.py, read by every handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from firmware_api.office import Office
from gateway.domain.accounts import Claimed
from gateway.domain.counters import Counters
from gateway.domain.guides import Guide
from gateway.domain.policy import Policy
from gateway.domain.texts import Texts
from gateway.domain.topics import Topics
from gateway.flow.rule_sets import Reloader, RulesInForce
from gateway.ports import Clock, Database, Journal, RuleState, TimeSeries
from rules import Catalogue
from rules.places import Geography


class Demo(Protocol):
    """The played story, when the gateway runs as a demo."""

    def state(self) -> Mapping[str, Any]:
        """{"now": ms, "speed": float, "mode": "story"|"fixed"|"paused", "pace": str, "waiting": str | None,
        "steps": [{"key", "at": ms|None, "done": bool, "now": bool}], "cast": {"owner": id, "car": id,
        "appliance": id, "workshop": id}, "pushes": [{"at", "owner", "title", "body", "touchpoint"}],
        "guided": bool, "acts": [str], "happened": {"what": one of acts, "at": ms} | None}.
        Step keys: reading, finding, moment, answer, booked, done, feedback."""
        ...

    def set_pace(self, pace: str) -> None:
        """ "pause", "story" (fast, and slow while a matter waits for the visitor), or a number as text."""
        ...

    async def act(self, action: str) -> None:
        """What a visitor makes happen: "next" goes on without waiting for them, "skip" leaves the story,
        "guide" comes back to it; else one of `acts` happens to the hero's product. Raises InvalidError."""
        ...

    async def wait_changed(self) -> None:
        """Returns when state() says something new (also about every second while time runs)."""
        ...


class Provider(Protocol):
    """An OpenID Connect provider (sso.py)."""

    @property
    def label(self) -> str:
        """What stands on the button."""
        ...

    async def begin(self, redirect: str, *, state: str, nonce: str, verifier: str) -> str:
        """The address at which somebody signs in. Raises SsoError."""
        ...

    async def finish(self, code: str, redirect: str, *, nonce: str, verifier: str) -> Mapping[str, Any]:
        """The claims about whoever did, verified. Raises SsoError."""
        ...

    def person(self, claims: Mapping[str, Any]) -> Claimed:
        """Who that is here. Raises SsoError for somebody who may not come in."""
        ...

    async def close(self) -> None: ...


@dataclass(kw_only=True)
class Context:
    """Everything a handler may use."""

    clock: Clock
    database: Database
    timeseries: TimeSeries
    journal: Journal
    texts: Texts
    policy: Policy
    signals: Catalogue
    counters: Counters
    public_url: str
    kind_of: Callable[[str], str | None]
    """device id → kind, by registration pattern"""
    checks: Sequence[Callable[[], Awaitable[tuple[str, bool, str]]]] = ()
    """readiness: (what, good, what is wrong and what to do)"""
    vapid_public_key: str | None = None
    """what a browser needs to subscribe to Web Push"""
    push_hosts_note: str | None = None
    """says which push is shown where it is not the browser's own"""
    announce: Callable[[], Awaitable[None]] | None = None
    """carries queued control entries into the journal before the caller goes on"""
    reloader: Reloader | None = None
    """reads the rules' files again"""
    in_force: RulesInForce | None = None
    """the rules themselves, where more is asked of them than the policy knows"""
    state: RuleState | None = None
    """what the rules remember, to be looked at"""
    geography: Geography | None = None
    """countries and wall clocks, as the rules ask for them"""
    guides: Sequence[Guide] = ()
    """documents and videos by kind, model and feature"""
    check_webhook: Callable[[str], str | None] | None = None
    """why an endpoint's address may not be sent to; None where it may"""
    topics: Topics = field(default_factory=Topics)
    """what customers speak of, and who looks after it"""
    requests_per_minute: int = 0
    """what one token may ask of the API; 0: as much as it wants"""
    firmware: web.Application | None = None
    ddi: tuple[str, web.Application] | None = None
    """what devices poll for updates, and where it is mounted"""
    office: Office | None = None
    """releases, rollouts, and what devices report"""
    trusted_proxies: Sequence[str] = ()
    """addresses and networks of proxies that say truly where a request comes from"""
    sso: Provider | None = None
    """where people sign in who have an account with their company"""
    demo: Demo | None = None
    extras: dict[str, Any] = field(default_factory=dict)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)

"""assess: read the journal, run the rules, and commit what follows together with the position.

The engine is pure and synchronous; its only clock is the journal's. Findings, facts, quarantine,
decisions, touchpoints, outbox rows and the position commit in one transaction. The rules' state is
saved with the position it stands for, which may lie behind: after a crash the same entries are
read again, give the same findings by the same ids, and change nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from gateway.domain.counters import Counters
from gateway.domain.device import Facts
from gateway.domain.messages import Batch, QuarantineRow
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.flow.facts import FactBook
from gateway.ports import Clock, Database, Journal, Records, RuleState
from rules import Cleared, Engine, Found

READER = "assess"
READ_LIMIT = 5_000
"""entries taken from the journal at a time: some tens of milliseconds of work"""
FACTS_EVERY_MS = 3_000
"""How old the facts in the database may be, where nothing urgent has changed."""
STATE_EVERY_S = 5.0
TICK_EVERY_MS = 1_000

log = structlog.get_logger()


class Assessor:
    """Drives the rules along the journal."""

    def __init__(
        self,
        *,
        journal: Journal,
        database: Database,
        state: RuleState,
        engine: Engine,
        clock: Clock,
        counters: Counters,
        policy: Policy,
        kind_of: Callable[[str], str | None],
        facts_every_ms: int = FACTS_EVERY_MS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._database = database
        self._state = state
        self._engine = engine
        self._clock = clock
        self._counters = counters
        self._policy = policy
        self._facts = FactBook(kind_of)
        self._facts_every = facts_every_ms
        self._monotonic = monotonic
        self._position = 0
        self._committed = 0
        self._saved = 0
        self._saved_when = 0.0
        self._flushed_at = 0
        self._ticked_at = 0
        self._quarantine: list[QuarantineRow] = []
        self._events: list[Found | Cleared] = []

    @property
    def position(self) -> int:
        """The last entry fully assessed and committed."""
        return self._committed

    @property
    def idle(self) -> bool:
        """Whether everything in the journal has been assessed and everything found is committed."""
        return self._position >= self._journal.head() and not self._pending()

    def _pending(self) -> bool:
        return bool(self._events or self._quarantine or self._facts.dirty)

    async def restore(self) -> None:
        """Take up the rules' state and the facts where they were left."""
        self._position, states = await self._state.load()
        for device, blob in states:
            self._engine.restore(device, blob)
        self._facts.restore(await self._database.read(all_facts))
        self._committed = await self._database.read(lambda r: r.position(READER))
        self._saved = self._position
        self._saved_when = self._monotonic()
        self._flushed_at = self._clock.now()
        log.info("assess_restored", position=self._position, effects=self._committed, devices=len(states))

    async def run(self) -> None:
        """Until cancelled; what is found is committed before the end."""
        await self.restore()
        appended = self._journal.appended()
        try:
            while True:
                appended.clear()
                if not await self.step():
                    await self._clock.wait(appended, self._wake_at())
                    await self._due()
        finally:
            await asyncio.shield(self._save_state())

    async def step(self) -> bool:
        """Assess what is there; False when there was nothing."""
        batches = await self._journal.read(self._position, limit=READ_LIMIT)
        for batch in batches:
            self._take(batch)
            if self._events or self._facts.urgent or self._quarantine:
                await self._commit(urgent_only=True)
            elif batch.kind == "messages":
                await asyncio.sleep(0)
        if batches and self._clock.now() - self._flushed_at >= self._facts_every:
            await self._commit()
        if batches and self._monotonic() - self._saved_when >= STATE_EVERY_S:
            await self._save_state()
        return bool(batches)

    def _take(self, batch: Batch) -> None:
        """One batch through the rules; only what follows the position is new."""
        after = self._position
        if batch.kind == "control":
            for offset, entry in enumerate(batch.controls):
                if batch.first + offset > after:
                    self._control(batch.first + offset, batch.received, entry)
        else:
            self._messages(batch, after)
        self._position = max(after, batch.last)
        self._counters.assessed += batch.last - max(after, batch.first - 1) if batch.kind == "messages" else 0
        self._events += self._engine.take()

    def _messages(self, batch: Batch, after: int) -> None:
        decoded, received = batch.decoded, batch.received
        facts, engine = self._facts.readings, self._engine.readings
        for position, device, items in decoded.telemetry:
            if position > after:
                kind = facts(device, received, items)
                if kind is not None:
                    engine(position, received, device, kind, items)
        for event in decoded.events:
            if event.position > after:
                self._facts.event(received, event)
        for status in decoded.statuses:
            if status.position > after:
                self._facts.status(received, status)
        self._quarantine += [
            QuarantineRow(
                position=bad.position,
                received=received,
                topic=bad.topic,
                payload=bad.payload,
                reason=bad.reason,
                detail=bad.detail,
            )
            for bad in decoded.undecodable
            if bad.position > after
        ]

    def _control(self, position: int, received: int, entry: Mapping[str, Any]) -> None:
        match entry.get("type"):
            case "tick":
                self._engine.tick(position, received)
            case "reset":
                self._engine.reset(position, received, entry["device"], entry["signals"])
            case "device":
                self._facts.register(entry["device"], entry.get("kind"))
                self._engine.register(
                    position, received, entry["device"], entry.get("kind"), entry.get("model")
                )
            case other:
                log.warning("control_entry_unknown", type=other, position=position)

    async def _commit(self, *, urgent_only: bool = False) -> None:
        """Everything that was found since the last commit, in one transaction; with the facts of all devices,
        or only of those that deciding asks about."""
        for event in self._events:
            self._facts.episode(
                event.device,
                event.finding if isinstance(event, Cleared) else event.id,
                is_open=isinstance(event, Found),
            )
        events, self._events = self._events, []
        quarantine, self._quarantine = self._quarantine, []
        facts, parked = self._facts.take(urgent_only=urgent_only)
        position, now = self._position, self._clock.now()

        def work(records: Records) -> list[str | None]:
            records.devices.put_facts(facts)
            if quarantine:
                records.quarantine.add(quarantine)
            outcomes = [apply_event(records, event, now, self._policy) for event in events]
            for device in parked:
                decide.device_parked(records, device, now, self._policy)
            records.set_position(READER, max(position, self._committed))
            return outcomes

        self._count(events, quarantine, await self._database.write(work))
        self._committed = max(position, self._committed)
        if not urgent_only:
            self._flushed_at = now

    def _count(
        self,
        events: Sequence[Found | Cleared],
        quarantine: Sequence[QuarantineRow],
        outcomes: Sequence[str | None],
    ) -> None:
        for event in events:
            if isinstance(event, Found):
                self._counters.findings[event.rule] = self._counters.findings.get(event.rule, 0) + 1
        for row in quarantine:
            self._counters.quarantined[row.reason] = self._counters.quarantined.get(row.reason, 0) + 1
        for outcome in outcomes:
            if outcome is not None:
                self._counters.decide(outcome)
        self._counters.rule_errors = dict(self._engine.errors)
        self._counters.late_readings = self._engine.late

    async def _save_state(self) -> None:
        """The rules' state with its position; then the journal may be trimmed up to there."""
        if self._pending():
            await self._commit()
        self._saved_when = self._monotonic()
        if self._position == self._saved:
            return
        position = self._position
        await self._state.save(position, list(self._engine.dirty()))
        self._saved = position
        await self._journal.commit(READER, min(position, self._committed))

    def _wake_at(self) -> int | None:
        """When something falls due without any message: unsaved facts, a pending `for`."""
        due = self._engine.next_due()
        ticks = None if due is None else max(due, self._ticked_at + TICK_EVERY_MS)
        flush = self._flushed_at + self._facts_every if self._facts.dirty else None
        return min((t for t in (ticks, flush) if t is not None), default=None)

    async def _due(self) -> None:
        now = self._clock.now()
        if self._facts.dirty and now >= self._flushed_at + self._facts_every:
            await self._commit()
        due = self._engine.next_due()
        if due is not None and now >= max(due, self._ticked_at + TICK_EVERY_MS):
            self._ticked_at = now
            await self._journal.append_controls([{"type": "tick"}], now)


def all_facts(records: Records) -> list[Facts]:
    """Every device's facts."""
    return records.devices.all_facts()


def apply_event(records: Records, event: Found | Cleared, now: int, policy: Policy) -> str | None:
    """One finding or one cleared episode, into the records; a finding that is there is not decided again.

    Gives the outcome of what was decided, None when nothing was.
    """
    if isinstance(event, Cleared):
        records.touchpoints.clear_finding(event.finding, event.received)
        decide.cleared(records, event.finding, now, policy)
        return None
    rule = policy.rules.get(event.rule)
    finding = Finding(
        id=event.id,
        device=event.device,
        rule=event.rule,
        version=event.version,
        severity=event.severity,
        position=event.position,
        began_ts=event.began_ts,
        found_at=event.received,
        shadow=rule.shadow if rule else False,
        evidence=dict(event.evidence),
    )
    if records.touchpoints.add_finding(finding):
        owner = owner_when(records, event.device, min(event.found_ts, now))
        return decide.decide(records, finding, owner, now, policy)
    return None


def owner_when(records: Records, device: str, ts: int) -> str | None:
    """Whose device it was at `ts`. What was measured before anybody was registered for it, and arrives
    afterwards, is its first owner's: a new car reports late readings minutes after its registration."""
    owner = records.devices.owner_at(device, ts)
    if owner is None:
        ownerships = records.devices.ownerships(device)
        if ownerships and ts < ownerships[0].since:
            return ownerships[0].owner
    return owner

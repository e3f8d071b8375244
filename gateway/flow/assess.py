"""assess: read the journal, run the rules, and commit what follows together with the position.

The engine is pure and synchronous; its only clock is the journal's. Findings, facts, quarantine,
decisions, touchpoints, outbox rows and the position commit in one transaction. The rules' state is
saved with the position it stands for, which may lie behind: after a crash the same entries are
read again, give the same findings by the same ids, and change nothing. While a store cannot be written,
what follows is kept and tried again; the state is never saved ahead of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from gateway.domain.counters import Counters
from gateway.domain.device import Facts
from gateway.domain.messages import Batch, ContextReading, Decoded, QuarantineRow, Telemetry
from gateway.domain.policy import Policy
from gateway.domain.rule_sets import folded
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.flow.facts import FactBook
from gateway.flow.outgoing import write_line
from gateway.flow.rule_sets import RulesInForce, stored
from gateway.flow.warm import recorded, warm
from gateway.ports import (
    Clock,
    Database,
    DatabaseUnavailableError,
    Journal,
    JournalWriteError,
    Records,
    RuleState,
    StoreUnavailableError,
    TimeSeries,
)
from rules import Cleared, Engine, Found, TextErrors

READER = "assess"
READ_LIMIT = 5_000
"""entries taken from the journal at a time: some tens of milliseconds of work"""
FACTS_EVERY_MS = 3_000
"""How old the facts in the database may be, where nothing urgent has changed."""
STATE_EVERY_MS = 15_000
"""How far the rules' saved state may lie behind: so much is read again after a crash."""
TICK_EVERY_MS = 1_000
FACTS_AT_ONCE, STATES_AT_ONCE = 200, 50
"""Devices whose facts are written, and whose state is gathered, between two looks at the journal: some
milliseconds, so that what is found meanwhile does not wait for a hundred thousand others."""
EVENTS_AT_ONCE = 200
"""Findings that are decided in one transaction: some tenths of a second, so that others can write, too."""
AFTER_TROUBLE_MS = 1_000
"""How long to wait when a store could not be used."""

APPLIED = "/applied"
"""Name, no device's, under which the state keeps the ids of control entries that were applied."""
APPLIED_KEPT = 1_000
DECODER = "/decoder/"
"""How the names begin, no device's, under which the state keeps what the decoder has to remember."""

T = TypeVar("T")

log = structlog.get_logger()


class Memory(Protocol):
    """What the decoder remembers of earlier messages. It is restored before anybody reads."""

    def saved(self, upto: int) -> Mapping[str, bytes]:
        """What has changed since this was last asked, by names that begin with DECODER. What was replaced at
        or before position `upto`, which every reader has passed, may be forgotten."""
        ...

    def again(self) -> None:
        """Everything is to be saved: what was given out may not have been."""
        ...


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
        in_force: RulesInForce | None = None,
        timeseries: TimeSeries | None = None,
        memory: Memory | None = None,
        want_births: Callable[[Sequence[str]], None] | None = None,
        facts_every_ms: int = FACTS_EVERY_MS,
        state_every_ms: int = STATE_EVERY_MS,
    ) -> None:
        """`in_force` is told of every rule set that comes to hold; `timeseries` warms its windows. `memory`
        is saved with the rules' state; `want_births` asks edge nodes whose messages cannot be named."""
        self._journal = journal
        self._database = database
        self._state = state
        self._engine = engine
        self._in_force = in_force
        self._timeseries = timeseries
        self._memory, self._want_births = memory, want_births
        self._clock = clock
        self._counters = counters
        self._policy = policy
        self._facts = FactBook(kind_of)
        self._facts_every = facts_every_ms
        self._state_every = state_every_ms
        self._position = 0
        self._committed = 0
        self._saved = 0
        self._saving: int | None = None
        """the position whose state is being gathered"""
        self._saved_at = 0
        self._flushed_at = 0
        self._ticked_at = 0
        self._quarantine: list[QuarantineRow] = []
        self._events: list[Found | Cleared] = []
        self._errors: dict[str, int] = {}
        """how often rules broke, as far as the database knows"""
        self._applied: OrderedDict[str, None] = OrderedDict()
        self._applied_more = False
        """than what is saved, or about to be"""
        self._unsaved: dict[str, bytes] = {}
        """states that the engine has given out and that are not on disk yet"""

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
            if device == APPLIED:
                self._applied = OrderedDict.fromkeys(json.loads(blob))
            elif not device.startswith(DECODER):
                self._engine.restore(device, blob)
        if self._memory is not None:
            self._memory.again()
        cold = len(self._engine.cold_devices())
        self._facts.restore(await self._database.read(all_facts))
        self._committed = await self._database.read(lambda r: r.position(READER))
        self._saved = self._position
        self._saved_at = self._flushed_at = self._clock.now()
        log.info(
            "assess_restored",
            position=self._position,
            effects=self._committed,
            devices=len(states),
            cold=cold,
        )

    async def run(self) -> None:
        """Until cancelled; what is found is committed before the end. What breaks otherwise saves nothing:
        whoever begins again reads on from what is saved."""
        await self.restore()
        if self._timeseries is not None:
            await warm(self._engine, self._timeseries, self._facts.newest, again=True)
        appended = self._journal.appended()
        try:
            while True:
                appended.clear()
                try:
                    if not await self.step():
                        await self._clock.wait(appended, self._wake_at())
                    await self._due()
                except (DatabaseUnavailableError, JournalWriteError) as error:
                    log.warning("assess_waits", problem=str(error), effect="the journal keeps what follows")
                    await self._clock.wait(asyncio.Event(), self._clock.now() + AFTER_TROUBLE_MS)
        except asyncio.CancelledError:
            await self._save_undisturbed()
            raise

    async def step(self) -> bool:
        """Assess what is there, and commit what cannot wait; False when there was nothing.

        Raises DatabaseUnavailableError, JournalWriteError; nothing is lost then, and it goes on with the
        next call."""
        if self._urgent():
            await self._commit(0)
        batches = await self._journal.read(self._position, limit=READ_LIMIT)
        for batch in batches:
            if batch.kind == "control":
                await self._controls(batch)
            else:
                self._take(batch)
            self._counters.assessed_upto = self._position
            if self._urgent():
                await self._commit(0)
            elif batch.kind == "messages":
                await asyncio.sleep(0)
        return bool(batches)

    def _urgent(self) -> bool:
        return bool(self._events or self._facts.urgent or self._quarantine)

    def _take(self, batch: Batch) -> None:
        """A batch of messages through the rules; only what follows the position is new."""
        after = self._position
        self._messages(batch, after)
        self._position = max(after, batch.last)
        self._counters.assessed += batch.last - max(after, batch.first - 1)
        self._events += self._engine.take()

    def _messages(self, batch: Batch, after: int) -> None:
        decoded, received = batch.decoded, batch.received
        if decoded.contexts:
            self._mixed(decoded, received, after)
        else:
            self._facts.pass_on(decoded.telemetry, received, after, self._engine)
        for event in decoded.events:
            if event.position > after:
                self._facts.event(received, event)
        for status in decoded.statuses:
            if status.position > after:
                self._facts.status(received, status)
        if decoded.unborn and self._want_births is not None:
            self._want_births(decoded.unborn)
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

    def _mixed(self, decoded: Decoded, received: int, after: int) -> None:
        """Shared signals are known to the messages that follow them, and to no earlier ones."""
        for message in in_order(decoded):
            if isinstance(message, ContextReading):
                if message.position > after:
                    self._engine.context(
                        message.position, received, message.name, message.area, message.ts, message.signals
                    )
            else:
                self._facts.pass_on((message,), received, after, self._engine)

    async def _controls(self, batch: Batch) -> None:
        """A batch of control entries, one by one. Who appends one may do so twice, with a crash in between;
        its id tells."""
        await self._gather_rest()
        for position, entry in enumerate(batch.controls, batch.first):
            if position <= self._position:
                continue
            if entry.get("id") not in self._applied:
                if entry.get("type") == "rules":
                    await self._activate(position, batch.received, entry)
                elif entry.get("type") == "erase":
                    await self._erase(position, batch.received, entry)
                else:
                    then = await self._stood(entry)
                    self._control(position, batch.received, entry, then)
                self._note_applied(entry.get("id"))
            self._position = position
            self._events += self._engine.take()
            if entry.get("type") == "rules":
                await self._warm(position - 1)

    async def _erase(self, position: int, received: int, entry: Mapping[str, Any]) -> None:
        """Nothing of what devices sent at some times may be kept: of those that are still the same person's
        not what the rules made of it either. The journal's entries up to here are overwritten."""
        devices = {device: [(since, until) for since, until in of] for device, of in entry["devices"].items()}
        for device, spans in devices.items():
            self._facts.forget(device, spans)
        for device in entry["left"]:
            self._engine.forget(position, received, device)
        number = await self._journal.erase(devices, position)
        log.info("journal_erased", entries=number, devices=len(devices), position=position)

    def _note_applied(self, entry_id: str | None) -> None:
        if entry_id is None:
            return
        self._applied[entry_id] = None
        if len(self._applied) > APPLIED_KEPT:
            self._applied.popitem(last=False)
        self._applied_more = True

    async def _stood(self, entry: Mapping[str, Any]) -> dict[str, float]:
        """What the counters that a job has set back stood at when it was done, if that was a while ago: their
        first reading from then on. Where the store is away or holds none, they count from now."""
        since = entry.get("since") if entry.get("type") == "reset" else None
        if not isinstance(since, int) or self._timeseries is None:
            return {}
        stood: dict[str, float] = {}
        try:
            for name in entry["signals"]:
                rows = await self._timeseries.readings(
                    entry["device"], name, start=since, end=None, after=None, limit=1
                )
                if rows and isinstance(rows[0][1], int | float):
                    stood[name] = float(rows[0][1])
        except StoreUnavailableError as error:
            log.warning("reset_counts_from_now", device=entry["device"], problem=str(error))
        return stood

    def _control(
        self, position: int, received: int, entry: Mapping[str, Any], then: Mapping[str, float] | None = None
    ) -> None:
        match entry.get("type"):
            case "tick":
                self._engine.tick(position, received)
            case "reset":
                self._engine.reset(position, received, entry["device"], entry["signals"], then)
            case "device":
                self._facts.register(entry["device"], entry.get("kind"))
                self._engine.register(
                    position,
                    received,
                    entry["device"],
                    entry.get("kind"),
                    entry.get("model"),
                    entry.get("time_zone"),
                )
            case other:
                log.warning("control_entry_unknown", type=other, position=position)

    async def _activate(self, position: int, received: int, entry: Mapping[str, Any]) -> None:
        """A rule set holds from here on; what was found before is decided by the set before. One that
        cannot be used here changes nothing, and its faults are kept.

        Whatever of it is interrupted is done again: the position stands before it until all is stored."""
        activation, rule_set = entry["id"], entry["set"]
        if self._pending():
            await self._commit(0)
        try:
            rules = await stored(self._database, rule_set)
        except TextErrors as error:
            lines = folded(error.faults)
            log.error("rules_not_activated", rule_set=rule_set, position=position, faults=lines)
            await self._database.write(lambda records: records.rule_sets.refuse(activation, lines))
            return
        # In a thread: every device's state is carried over, and nobody but us uses the engine.
        await asyncio.to_thread(self._engine.activate, position, received, rules)
        await self._database.write(lambda records: records.rule_sets.holds(activation, position))
        if self._in_force is not None and position > self._committed:
            self._in_force.take(rule_set, rules)
        log.info("rules_activated", rule_set=rule_set, position=position, rules=len(rules.rules))

    async def _warm(self, position: int) -> None:
        """The windows that a new rule set brought, from history; saved at once, so that nobody who begins
        again finds anything that lies before it."""
        if self._timeseries is not None and self._engine.cold_devices():
            await recorded(self._journal, self._clock, position)
            await warm(self._engine, self._timeseries, self._facts.newest)
        await asyncio.to_thread(self._gather_state)
        await self._save_state()

    async def _commit(self, facts: int | None = None) -> None:
        """Everything that was found since the last commit, in one transaction unless it is very much; with
        the facts of all devices, or only of those that deciding asks about and so many more.

        Findings that are there already are not decided again, so a part of them may stand before the
        position does."""
        for event in self._events:
            self._facts.episode(
                event.device,
                event.finding if isinstance(event, Cleared) else event.id,
                is_open=isinstance(event, Found),
            )
        while len(self._events) > EVENTS_AT_ONCE:
            await self._write(self._committed, 0)
        began = self._clock.now()
        await self._write(max(self._position, self._committed), facts)
        if facts is None:
            self._flushed_at = began

    async def _write(self, position: int, most: int | None) -> None:
        """One transaction; what it could not store is there again afterwards."""
        events, quarantine, now = self._events[:EVENTS_AT_ONCE], self._quarantine, self._clock.now()
        facts, parked = self._facts.take(most)
        errors = dict(self._engine.errors)
        more = {rule: n - self._errors.get(rule, 0) for rule, n in errors.items()}
        broke = {rule: n for rule, n in more.items() if n}

        def work(records: Records) -> list[str | None]:
            records.devices.put_facts(facts)
            if quarantine:
                records.quarantine.add(quarantine)
            outcomes = [apply_event(records, event, now, self._policy) for event in events]
            for device in parked:
                decide.device_parked(records, device, now, self._policy)
            if broke:
                records.rule_sets.broke(broke, now)
            records.set_position(READER, position)
            return outcomes

        try:
            outcomes = await self._database.write(work)
        except BaseException:
            self._facts.give_back(facts, parked)
            raise
        del self._events[: len(events)]
        self._quarantine = []
        self._errors = errors
        self._committed = position
        self._count(events, quarantine, outcomes)

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
        self._counters.too_late_readings = self._engine.too_late
        self._counters.duplicate_readings = self._engine.duplicates
        self._counters.implausible_readings = self._engine.implausible

    def _gather_state(self) -> None:
        """What the engine gives out, to be saved; of all devices it takes seconds."""
        self._unsaved.update(self._engine.dirty())
        self._gather_applied()

    def _gather_applied(self) -> None:
        if self._applied_more:
            self._unsaved[APPLIED] = json.dumps([*self._applied]).encode()
            self._applied_more = False
        if self._memory is not None:
            readers = self._journal.status()["readers"].values()
            passed = min((reader["position"] for reader in readers), default=0)
            self._unsaved.update(self._memory.saved(passed))

    def _gather_part(self) -> bool:
        """Some devices' state, as it stood when saving began; whether there were any."""
        part = self._engine.frozen(STATES_AT_ONCE) if self._saving is not None else {}
        self._unsaved.update(part)
        return bool(part)

    async def _gather_rest(self) -> None:
        """What is left of it, for something may change any device."""
        more = True
        while more:
            more = self._gather_part()
            await asyncio.sleep(0)

    async def _save_undisturbed(self) -> None:
        """The last save, however often it is cancelled meanwhile: many devices take more than a moment."""
        saving = asyncio.create_task(self._save_state(), name="last-save")
        while not saving.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(saving)
        saving.result()

    async def _save_state(self) -> None:
        """The rules' state with its position, at once; then the journal may be trimmed up to there."""
        if self._pending() or self._committed < self._position:
            await self._commit()
        self._saved_at, self._saving = self._clock.now(), None
        if self._position != self._saved:
            self._gather_state()
            await self._store_state(self._position)

    async def _store_state(self, position: int) -> None:
        await self._state.save(position, [*self._unsaved.items()])
        self._unsaved.clear()
        self._saved, self._saving = position, None
        await self._journal.commit(READER, position)

    def _begin_saving(self) -> None:
        """The state as it stands now, and the facts that belong to it, will be stored part by part."""
        self._saving = self._position
        self._saved_at = self._flushed_at = self._clock.now()
        self._engine.freeze()
        self._gather_applied()
        self._facts.begin()

    async def _save_on(self) -> None:
        """The next part; the position when everything that it stands for is stored."""
        if self._gather_part() or self._facts.begun or self._urgent() or self._saving is None:
            return
        if self._committed < self._saving:
            await self._commit(0)
        await self._store_state(self._saving)

    async def _flush(self) -> None:
        """The next part of the facts."""
        if not self._facts.begun:
            self._flushed_at = self._clock.now()
            self._facts.begin()
        await self._commit(FACTS_AT_ONCE)

    def _wake_at(self) -> int | None:
        """When something falls due without any message: unsaved facts or state, a pending `for`."""
        if self._facts.begun or self._saving is not None:
            return self._clock.now()
        due = self._engine.next_due()
        times = (
            None if due is None else max(due, self._ticked_at + TICK_EVERY_MS),
            self._flushed_at + self._facts_every if self._facts.dirty else None,
            self._saved_at + self._state_every if self._position != self._saved else None,
        )
        return min((t for t in times if t is not None), default=None)

    async def _due(self) -> None:
        """What time alone brings, also while there are always more messages."""
        now = self._clock.now()
        if self._facts.begun or (self._facts.dirty and _over(self._flushed_at, self._facts_every, now)):
            await self._flush()
        if self._saving is not None:
            await self._save_on()
        elif self._position != self._saved and _over(self._saved_at, self._state_every, now):
            self._begin_saving()
        if self._engine.is_due(now) and _over(self._ticked_at, TICK_EVERY_MS, now):
            await self._journal.append_controls([{"type": "tick"}], now)
            self._ticked_at = now


def in_order(decoded: Decoded) -> list[Telemetry | ContextReading]:
    """Telemetry and shared signals by position."""
    mixed: list[Telemetry | ContextReading] = [*decoded.telemetry, *decoded.contexts]
    return sorted(mixed, key=lambda entry: entry.position if isinstance(entry, ContextReading) else entry[0])


def _over(since: int, every: int, now: int) -> bool:
    """Whether so much time has passed; also when the clock was put back behind `since`."""
    return not 0 <= now - since < every


def all_facts(records: Records) -> list[Facts]:
    """Every device's facts."""
    return records.devices.all_facts()


def apply_event(records: Records, event: Found | Cleared, now: int, policy: Policy) -> str | None:
    """One finding or one cleared episode, into the records; a finding that is there is not decided again.

    Gives the outcome of what was decided, None when nothing was. What breaks over one event costs that
    event its decision, is said in the ledger and counted as "failed", and keeps nothing else waiting.
    """
    if isinstance(event, Cleared):
        _contained(records, event, lambda: _clear(records, event, now, policy))
        return None
    finding = finding_of(event, policy)
    if not records.touchpoints.add_finding(finding):
        return None
    outcome = _contained(records, event, lambda: _decide(records, event, finding, now, policy))
    if outcome is None:
        whose = _contained(records, event, lambda: _known_owner(records, event, now))
        write_line(records, "not_decided", now, owner=whose, device=event.device, finding=finding.id)
    return outcome or "failed"


def _clear(records: Records, event: Cleared, now: int, policy: Policy) -> None:
    records.touchpoints.clear_finding(event.finding, event.received)
    decide.cleared(records, event.finding, now, policy, event.reason)


def _decide(records: Records, event: Found, finding: Finding, now: int, policy: Policy) -> str:
    owner = owner_when(records, event.device, min(event.found_ts, now))
    return decide.decide(records, finding, owner, now, policy)


def _known_owner(records: Records, event: Found, now: int) -> str | None:
    """Who is to read that a finding could not be decided."""
    owner = owner_when(records, event.device, min(event.found_ts, now))
    return records.owners.get(owner).id if owner is not None else None


def _contained(records: Records, event: Found | Cleared, work: Callable[[], T]) -> T | None:
    """What `work` gives. A fault of ours in it is taken back and said, and gives None; a database that is
    away is for the caller."""
    try:
        with records.savepoint():
            return work()
    except DatabaseUnavailableError:
        raise
    except Exception:
        log.exception("event_not_applied", device=event.device, rule=event.rule, position=event.position)
        return None


def finding_of(event: Found, policy: Policy) -> Finding:
    """What the rules found, as the records keep it."""
    rule = policy.rules.get(event.rule)
    return Finding(
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


def owner_when(records: Records, device: str, ts: int) -> str | None:
    """Whose device it was at `ts`. What was measured before anybody was registered for it, and arrives
    afterwards, is its first owner's: a new car reports late readings minutes after its registration."""
    owner = records.devices.owner_at(device, ts)
    if owner is None:
        ownerships = records.devices.ownerships(device)
        if ownerships and ts < ownerships[0].since:
            return ownerships[0].owner
    return owner

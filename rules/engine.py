"""The engine: readings in, findings and cleared episodes out.

Whatever changes it is an entry of the journal, given with its position and receive time; it has no
other clock. So the same log gives the same findings, in batches of any size, and after any restart.

A device's own time is the `ts` of its newest plausible reading plus the receive time that has passed
since. A rule is evaluated when one of its signals arrives, when its `for` falls due, and when what it says
about passing time (silent, held, age, since, local_hour) can change; windows end at the device's newest
reading, or at that moment.

Readings that come late go into the windows that still cover them. What they refute is withdrawn: a finding
whose windows no longer say so, or whose signal was elsewhere while it should have been held.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Literal, Protocol, TypeAlias, cast

from rules.catalogue import RuleSet
from rules.cells import Peer, PeerGroup, Usage
from rules.explain import RuleExplanation, explain
from rules.places import Geography
from rules.program import Layout, Program, RunningRule
from rules.readings import LARGEST, Known, Telemetry, Value, plain
from rules.state import AT_ONCE, EMPTY, IDLE, WARMED, DeviceState, carry, restore, save
from rules.windows import FIRST, NEVER, Series, Window
from rules.world import PREFIX, World

ClearReason: TypeAlias = Literal["condition", "reset", "kind", "refuted", "rule"]
"""Why an episode ended: its `clear` became true; a job reset its counter; the device is of another kind;
late readings show that it never began; the rule is gone."""

CLOCK_AHEAD_MS = 600_000
CLOCK_RIGHT_MS = 60_000
"""A device whose newest reading was further ahead of its reception has a clock that is wrong. A reading that
lies this close to its reception is by a clock that has been set right, and counts as the newest."""

RETIRED = "\0"
"""The kind of a state in whose place another one stands: that of no device."""

EARLY = 8
"""A timer is looked at an eighth of its time too early."""

MOST_WAKES = 1_000
"""Moments looked at one by one after a silence; of a longer one only the end counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A finding: a rule has been true for a device as long as it asks for."""

    id: str  # hex; the same for the same log: made of device, rule and where the episode began
    device: str
    rule: str  # rule id
    version: int  # of the rule
    severity: str  # advice, warning or critical
    position: int  # journal position at which it was found
    began_ts: int  # device time, ms: when the condition became true
    found_ts: int  # device time, ms: when `for` was fulfilled
    received: int  # receive time, ms, of the entry at which it was found
    evidence: Mapping[
        str, Known | None
    ]  # last values of the signals in `when`, and `ts`, the newest reading's


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """An episode is over."""

    device: str
    rule: str  # rule id
    finding: str  # id of the finding that opened it
    position: int  # journal position at which it ended
    ts: int  # device time, ms
    received: int  # receive time, ms
    reason: ClearReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """An open episode of a device."""

    rule: str  # rule id
    finding: str  # id of the finding that opened it
    position: int  # journal position at which its condition became true
    began_ts: int  # device time, ms


class Subject(Protocol):
    """A device, as who passes on its messages knows it."""

    kind: str | None
    """what its name suggests; without one no rule applies"""
    state: DeviceState | None
    """what the engine keeps of it, once it has: a message is looked up once for both"""


class Engine:
    """Runs a set of rules over what devices report. Not thread-safe; synchronous; without I/O.

    `future_tolerance_ms`: a reading further ahead of its receive time than this is not plausible; it
    is ignored and counted. `lateness_ms`: how much older than its device's newest reading one may be;
    what is older is ignored and counted. `geography` knows countries and time zones.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        future_tolerance_ms: int = 86_400_000,
        lateness_ms: int = 7 * 86_400_000,
        geography: Geography | None = None,
    ) -> None:
        self.errors: dict[str, int] = {}  # by rule: how often its condition broke at run time
        self.implausible = 0  # readings from the future
        self.late = 0  # values older than the newest reading of their device
        self.too_late = 0  # of these, values older than is allowed, or that no window covered any more
        self.duplicates = 0  # values that had come before
        self._tolerance = future_tolerance_ms
        self._lateness = lateness_ms
        self._geography = geography
        self._groups: dict[tuple[str | None, str | None, str], PeerGroup] = {}
        self._calls = {
            "other": self._other, "settle": self._settle, "again": self._again, "timers": self._timers,
            "fit": self._fit, "odd": self._odd, "moved": self._moved, "sooner": self._sooner,
        }  # fmt: skip
        self._world = World({}, geography)
        self._equip(rules)
        self._states: dict[str, DeviceState] = {}
        self._state_of = self._states.get
        self._dirty: list[DeviceState] = []
        self._ungiven: dict[str, DeviceState] = {}
        self._given: dict[str, bytes] = {}
        self._timer_heap: list[tuple[int, str]] = []
        self._events: list[Found | Cleared] = []

    def _equip(self, rules: RuleSet) -> None:
        """Make a set of rules ready to run."""
        self.rules = rules
        self._world.zones = rules.catalogue.zones
        self._programs: dict[str | None, Program] = {
            kind: self._made(kind, rules) for kind in rules.catalogue.kinds
        }
        self._none = self._made(None, rules)
        for program in (*self._programs.values(), self._none):
            program.no_plan = self._other

    def _made(self, kind: str | None, rules: RuleSet) -> Program:
        of_kind = rules.of_kind(kind) if kind is not None else ()
        return Program(kind, of_kind, rules.catalogue, self._failed, self._world, self._groups)

    def _failed(self, rule: str) -> Callable[[], None]:
        """What a rule's functions call when they break."""

        def failed() -> None:
            self.errors[rule] = self.errors.get(rule, 0) + 1

        return failed

    def restore(self, device: str, state: bytes) -> None:
        """Continue a device, or what devices share, from what `dirty` gave. Raises StateVersionError for an
        unknown format."""
        if device.startswith(PREFIX):
            self._world.restore(device, state)
            return
        restored = restore(device, state, self._programs, self._none)
        if (before := self._states.get(device)) is not None:
            _retire(before)
        self._states[device] = restored
        wake = restored.wake
        self._schedule(restored)
        if wake < restored.wake:  # it was to be looked at sooner than it has to be: so it is now
            self._expect(restored, min(restored.waits[0], wake), wake)

    def activate(self, position: int, received: int, rules: RuleSet) -> None:
        """Run another set of rules from here on.

        What means the same in both goes on: windows, open episodes, conditions that have been true for a
        while. Episodes of rules that are gone are over. A rule that is new or has changed is looked at with
        the next reading of one of its signals, or now if it is one that passing time makes true; see
        `missing_windows` for the past that it needs.
        """
        self._keep_ungiven()
        self.tick(position, received)  # what fell due before is by the rules before
        for state in self._states.values():
            for slot in list(state.open):
                rule = state.program.rules[slot]
                kept = rules.rules.get(rule.id)
                if kept is None or kept.kind != state.kind:
                    self._close(state, rule, state.device_time(received), position, received, "rule")
        self._equip(rules)
        self._dirty = []
        for device, state in self._states.items():
            carried = self._states[device] = carry(state, self._programs, self._none)
            self._changed(carried)
            self._begin(carried, state.program, position, received)
            self._schedule(carried)
            _retire(state)

    def _begin(self, state: DeviceState, before: Program, position: int, received: int) -> None:
        """Look at the rules that are new and wait for time to pass; what they waited for before is past."""
        if state.newest == FIRST:
            return
        now = max(state.passed, state.device_time(received))
        state.seen, state.looked = now, state.newest
        same = {(rule.id, rule.fingerprint) for rule in before.rules}
        new = [
            rule.slot
            for rule in state.program.clocked
            if (rule.id, rule.fingerprint) not in same and not set(rule.cells) & set(state.cold)
        ]
        self._step(state, new, now, position, received)

    def missing_windows(self, device: str) -> list[tuple[str, int]]:
        """(signal, span in ms) of what the rules need of the device's past and nobody kept."""
        state = self._states.get(device)
        if state is None:
            return []
        return list(dict.fromkeys(state.program.cells[slot][1:] for slot in state.cold))

    def cold_devices(self) -> list[str]:
        """The devices of which something is missing."""
        return [device for device, state in self._states.items() if state.cold]

    def warm(self, device: str, signal: str, readings: Sequence[tuple[int, Value]]) -> None:
        """Fill what is missing of a signal's past from a store's (ts, value), in the order of time.

        Nothing is found by it. What has come since the rules were activated is in the store, too: a window
        is filled from the store alone up to the device's newest reading.
        """
        state = self._states.get(device)
        if state is None or not state.cold:
            return
        self._keep_ungiven()
        state.flush()
        program, slot = state.program, state.program.slots[signal]
        cells = [cell for cell in state.cold if program.cells[cell][1] == program.names[slot]]
        for cell in cells:
            kept = state.own(cell)
            kept.clear(FIRST)
            for ts, raw in readings:
                value = program.usable[slot](raw)
                if value is not None and ts <= state.newest:
                    kept.add(ts, cast(float, value) if program.numbers[slot] else 0.0, ts)
        series = state.series[slot]
        if series is not None:
            series.closed()
        state.cold = tuple(cell for cell in state.cold if cell not in cells)
        state.guards = list(program.first_guards)
        state.view, state.plan = None, self._other
        self._reschedule(state)
        self._changed(state)

    def _reschedule(self, state: DeviceState) -> None:
        """What is waited for may come sooner, by something else than a reading."""
        if state.newest != FIRST:
            state.unpack()
            self._schedule(state)

    def context(
        self, position: int, received: int, name: str, area: str, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """A shared reading, such as the weather of an area; rules see it with their device's next reading."""
        if ts <= received + self._tolerance:
            self._world.take(name, area, ts, signals)

    def forget(self, position: int, received: int, device: str) -> None:
        """A control entry says that nothing of what a device has reported may be kept: its episodes are over,
        its windows empty."""
        self._keep_ungiven()
        state = self._states.get(device)
        if state is not None and state.kind is not None:
            self._changed(state)
            self._change_kind(state, state.kind, position, received)

    def explain(self, device: str, rule_id: str, received: int) -> RuleExplanation | None:
        """Why a rule is or is not true for a device now; None if one is unknown, or they do not fit."""
        state = self._states.get(device)
        rule = state.program.by_id.get(rule_id) if state is not None else None
        if state is None or rule is None:
            return None
        state.unpack()
        state.flush()
        return explain(state, rule, max(state.newest, state.device_time(received)))

    def register(
        self,
        position: int,
        received: int,
        device: str,
        kind: str | None,
        model: str | None,
        time_zone: str | None = None,
    ) -> None:
        """A control entry says what a device is; its kind counts from now on, whatever its name suggests."""
        self._keep_ungiven()
        state = self._states.get(device)
        if state is None:
            state = self._states[device] = DeviceState(device, self._program(kind), model)
            state.kind = kind
        elif kind is not None and kind != state.kind:
            state.model = model
            self._change_kind(state, kind, position, received)
        state.registered = kind is not None
        self._change_model(state, model)
        if time_zone != state.zone:
            self._change_zone(state, time_zone, position, received)
        self._changed(state)

    def _change_zone(self, state: DeviceState, zone: str | None, position: int, received: int) -> None:
        """What fell due before is by the wall clock before; from now on it is by another one."""
        if state.newest == FIRST:
            state.zone = zone
            return
        now = self._pass_to(state, position, received)
        state.zone = zone
        self._moment(state, now, position, received)

    def _change_model(self, state: DeviceState, model: str | None) -> None:
        """Compare it with others from now on."""
        state.model = model
        for slot in state.program.peers:
            peer = cast(Peer, state.cells[slot])
            group = state.program.group(model, state.program.cells[slot][1])
            if group is not peer.group:
                peer.group.swap(peer.value, None)
                group.swap(None, peer.value)
                peer.group = group

    def readings(
        self,
        position: int,
        received: int,
        device: str,
        kind: str | None,
        items: Sequence[tuple[int, Mapping[str, Value]]],
        state: DeviceState | None = None,
    ) -> DeviceState | None:
        """One message of a device: readings by their time, (ts, {signal: value}).

        `kind` is what the device's name suggests; a registered kind goes before it. Without a kind no
        rule applies and nothing is kept. Gives the device's state: who hands it back as `state` with the
        next message of the same device spares looking it up by name.
        """
        if state is None or (kind != state.kind and not state.registered):
            state = self._state_of(device)  # one that was handed back may be of rules that are gone
            if state is None or (kind != state.kind and not state.registered):
                state = self._admit(state, device, kind, position, received)
            if state is None:
                return None
        if not state.dirty:
            self._changed(state)
        limit = received + self._tolerance
        for ts, signals in items:
            if ts > limit:
                self.implausible += len(signals)
            else:
                state.plan(state, position, received, ts, signals)
        return state

    def messages(self, received: int, messages: Sequence[Telemetry], subjects: Sequence[Subject]) -> None:
        """Readings in their order, and who sent each: what `readings` does one by one."""
        limit = received + self._tolerance
        for subject, (position, device, ts, signals, _, _) in zip(subjects, messages, strict=True):
            state, kind = subject.state, subject.kind
            if kind is None:
                continue
            if state is not None and state.dirty and (kind == state.kind or state.registered) and ts <= limit:
                state.plan(state, position, received, ts, signals)
            else:
                subject.state = self.readings(position, received, device, kind, ((ts, signals),), state)

    def reset(
        self,
        position: int,
        received: int,
        device: str,
        signals: Sequence[str],
        then: Mapping[str, float] | None = None,
    ) -> None:
        """A finished job has set these signals' counters back. `then`: what they stood at when it was done,
        if that was a while ago; what they have counted since still counts.

        Episodes of rules that name one of them in `resets` are over; these rules are looked at again
        when one of their signals arrives next. What the reset signals reported up to now, in device
        time, is forgotten, also where it arrives later.
        """
        self._keep_ungiven()
        state = self._states.get(device)
        if state is None or state.newest == FIRST:
            return
        now = self._pass_to(state, position, received)
        state.flush()
        program = state.program
        slots = {program.slots[name] for name in signals if name in program.slots}
        for slot in slots:
            state.values[slot], state.times[slot] = None, now
            program.cross(state, slot, None)
            stood = (then or {}).get(program.names[slot])
            for cell in program.cells_of[slot]:
                kept = state.own(cell)
                kept.clear(now)
                if stood is not None and isinstance(kept, Usage):
                    kept.count_from(stood)
            series = state.series[slot]
            if series is not None:
                series.closed()
        state.bounds = None
        state.view, state.plan = None, self._other  # a signal that is set back counts as one that came
        touched = {rule for slot in slots for rule in program.guarded_of[slot] + program.general_of[slot]}
        program.turn(state, now, slots, touched)
        for rule in program.rules:
            if any(program.slots[name] in slots for name in rule.rule.resets):
                self._end_by_reset(state, rule, now, position, received)
                touched.discard(rule.slot)
        self._step(state, touched, now, position, received)
        self._schedule(state)
        self._changed(state)

    def _end_by_reset(
        self, state: DeviceState, rule: RunningRule, now: int, position: int, received: int
    ) -> None:
        """The rule begins anew with the next reading of any of its signals, whatever that changes."""
        state.pending.pop(rule.slot, None)
        if rule.slot in state.open:
            self._close(state, rule, now, position, received, "reset")
        for slot in rule.signals:
            state.guards[slot] = state.program.first_guards[slot]

    def tick(self, position: int, received: int) -> None:
        """Time has passed: what has been true for long enough is found, message or not."""
        self._keep_ungiven()
        ready = []
        while (due := self.next_due()) is not None and due <= received:
            state = self._states[heapq.heappop(self._timer_heap)[1]]
            state.heaped = None
            ready.append(state)
        for state in ready:
            self._pass(state, state.device_time(received), position, received)
            self._changed(state)

    def take(self) -> list[Found | Cleared]:
        """What was found and cleared since the last call, in order."""
        events, self._events = self._events, []
        return events

    def is_due(self, received: int) -> bool:
        """Whether something falls due until a receive time; often asked, it leaves alone what comes later."""
        heap = self._timer_heap
        return (
            bool(heap) and heap[0][0] <= received and (due := self.next_due()) is not None and due <= received
        )

    def next_due(self) -> int | None:
        """The receive time, ms, at which the earliest `for` falls due; None if nothing is pending."""
        heap = self._timer_heap
        while heap:
            at, device = heap[0]
            state = self._states.get(device)
            if state is not None and state.heaped == at:
                if state.wake != NEVER and state.wake + state.offset <= at:
                    return at
                state.heaped = None
                heapq.heappop(heap)
                self._expect(state, state.waits[0], state.wake, early=0)
            else:
                heapq.heappop(heap)
        return None

    def dirty(self) -> Iterator[tuple[str, bytes]]:
        """The devices that have changed since the last call, with their state; and what devices share."""
        self.freeze()
        while self._ungiven or self._given:
            yield from self.frozen(1).items()

    def freeze(self) -> None:
        """Let `frozen` give, part by part, what `dirty` would give now, whatever changes meanwhile."""
        self._keep_ungiven()
        changed, self._dirty = self._dirty, []
        for state in changed:
            state.dirty = False
        self._ungiven.update((state.device, state) for state in changed)
        self._given.update(self._world.dirty())

    def frozen(self, most: int) -> dict[str, bytes]:
        """Some of what was to be saved at `freeze`: so many devices, and those that were looked at because
        they changed. Empty when all of it has been given."""
        for device in list(islice(self._ungiven, most)):
            self._given[device] = save(self._ungiven.pop(device))
        given, self._given = self._given, {}
        return given

    def _keep_ungiven(self) -> None:
        """Before something that may change any device: what `frozen` has not given yet, as it is."""
        while self._ungiven:
            device, state = self._ungiven.popitem()
            self._given[device] = save(state)

    def _changed(self, state: DeviceState) -> None:
        """It has to be saved. Called before a reading changes it: `frozen` gives it as it was."""
        if not state.dirty:
            state.dirty = True
            self._dirty.append(state)
            if self._ungiven and self._ungiven.pop(state.device, None) is not None:
                self._given[state.device] = save(state)

    def open_episodes(self, device: str) -> tuple[Episode, ...]:
        """The device's open episodes, the oldest first."""
        state = self._states.get(device)
        if state is None:
            return ()
        return tuple(
            Episode(
                rule=state.program.rules[slot].id,
                finding=finding_id(device, state.program.rules[slot].id, position, began),
                position=position,
                began_ts=began,
            )
            for slot, (began, position) in state.open.items()
        )

    def _program(self, kind: str | None) -> Program:
        return self._programs.get(kind, self._none)

    def _admit(
        self, state: DeviceState | None, device: str, kind: str | None, position: int, received: int
    ) -> DeviceState | None:
        """The state of a device that is new, or whose name suggests another kind than before."""
        if kind is None:
            return state
        if state is None:
            state = self._states[device] = DeviceState(device, self._program(kind))
            state.kind = kind
        else:
            self._changed(state)
            self._change_kind(state, kind, position, received)
        return state

    def _change_kind(self, state: DeviceState, kind: str, position: int, received: int) -> None:
        """All rules of the former kind are over for it."""
        now = state.device_time(received)
        for slot in list(state.open):
            self._close(state, state.program.rules[slot], now, position, received, "kind")
        for slot in state.program.peers:
            state.cells[slot].clear(FIRST)
        state.unpack()
        state.kind = kind
        state.equip(self._program(kind))

    def _other(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """Another set of signals than the device's last message had."""
        program = state.program
        view, mask = program.view(state), program.mask_of(signals)
        plan = None if mask & ~state.known else program.plan(view, tuple(signals), self._calls)
        if plan is None or ts <= state.newest:
            self._settle(state, position, received, ts, signals)
        else:
            state.unpack()
            state.flush()
            state.saw(mask)
            state.plan, state.layout = plan
            state.bounds = None
            state.plan(state, position, received, ts, signals)

    def _settle(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """Take readings that are late, or that change more than a value."""
        state.unpack()
        state.flush()
        if received + CLOCK_AHEAD_MS < state.newest and abs(ts - received) <= CLOCK_RIGHT_MS:
            self._set_back(state, ts)
        if ts <= state.newest:
            signals = self._unknown(state, ts, signals)
            if not signals:
                return
        late = ts < state.newest
        if late:
            self.late += len(signals)
            if ts < state.newest - self._lateness:
                self.too_late += len(signals)
                return
        else:
            state.reach(ts, received)
        state.saw(state.program.mask_of(signals))
        state.note(ts)
        state.plan = self._other
        self._take(state, position, received, ts, signals, late=late)

    def _unknown(self, state: DeviceState, ts: int, signals: Mapping[str, Value]) -> Mapping[str, Value]:
        """Those that have not come with this timestamp before."""
        brought = state.brought(ts)
        if not brought:
            return signals
        slots = state.program.slots
        new = {name: raw for name, raw in signals.items() if not brought >> slots.get(name, len(slots)) & 1}
        self.duplicates += len(signals) - len(new)
        return new

    def _set_back(self, state: DeviceState, ts: int) -> None:
        """The device's clock was ahead and is right again: nothing it said counts as later than this."""
        state.turn_back(ts)
        state.times = [min(time, ts) for time in state.times]
        state.pending = {slot: (min(began, ts), at) for slot, (began, at) in state.pending.items()}
        for cell, blank in zip(state.cells, state.program.blank, strict=True):
            if cell is not blank:
                cell.set_back(ts)
        for series in state.series:
            if series is not None:
                series.closed()
        self._schedule(state)

    def _take(
        self,
        state: DeviceState,
        position: int,
        received: int,
        ts: int,
        signals: Mapping[str, Value],
        *,
        late: bool,
    ) -> None:
        """Readings into their places; then the rules that they can have changed."""
        program, touched, slots = state.program, set[int](), set[int]()
        state.bounds = None
        before = self._true(state) if late else ()
        for name, raw in signals.items():
            slot = program.slots.get(name)
            if slot is not None:
                slots.add(slot)
                touched.update(program.general_of[slot])
                self._put(state, slot, ts, raw, touched)
        for slot in slots:
            touched.update(program.guarded_of[slot] if program.levelled else ())
        touched.update(rule.slot for rule in program.clocked if not slots.isdisjoint(rule.signals))
        if late:
            program.turn_late(state, ts, signals, touched)
            touched.update(self._refute(state, before, position, received, ts, signals))
        else:
            program.turn(state, ts, slots, touched)
        self._step_and_time(state, touched, position, received)

    def _put(self, state: DeviceState, slot: int, ts: int, raw: Value, touched: set[int]) -> None:
        """One value into what is kept of the past, and in its place if it is the signal's newest.

        Adds the guarded rules whose truth can have changed to `touched`; of a signal that comes for the first
        time all.
        """
        program = state.program
        value = program.usable[slot](raw)
        if value is not None:
            number = cast(float, value) if program.numbers[slot] else 0.0
            taken = [state.own(cell).add(ts, number, state.newest) for cell in program.takers[slot]]
            if program.shared[slot]:
                series = state.own_series(slot)
                covered = [window.add(ts, number, state.newest) for window in series.windows]
                taken.append(any(covered))
                if program.steady(state, slot, series.windows):
                    touched.update(program.level_rules[slot])
            if not all(taken):
                kinds = [program.cells[cell][0] in WARMED for cell in program.takers[slot]] + [True]
                self.too_late += not any(a and b for a, b in zip(taken, kinds, strict=False))
        if ts < state.times[slot]:
            return
        if state.times[slot] == FIRST:
            touched.update(program.general_of[slot])
            state.view = None  # more rules can become true
        self._cross(state, slot, value, touched)
        state.values[slot], state.times[slot] = value, ts

    def _cross(self, state: DeviceState, slot: int, value: Known | None, touched: set[int]) -> None:
        """A last value has become another: the rules whose comparisons that can have changed."""
        program = state.program
        touched.update(program.cross(state, slot, value))
        if state.open:
            touched.update(rule for rule in state.open if slot in program.rules[rule].clear_cuts)

    def _fit(self, state: DeviceState, ts: int, out: Sequence[tuple[int, Value]]) -> bool:
        """Whether rules see these values as they came, and none was measured before a job was done."""
        program = state.program
        for slot, raw in out:
            if ts < state.times[slot]:
                return False
            if raw.__class__ is float and program.numbers[slot] and -LARGEST < raw < LARGEST:
                continue
            value = program.usable[slot](raw)
            as_it_came = program.numbers[slot] or value is raw or raw.__class__ is list
            if value is None or not as_it_came:
                return False
        return True

    def _odd(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """A message with the signals expected, and values that are not."""
        state.unpack()
        state.flush()
        state.reach(ts, received)
        state.note(ts)
        self._take(state, position, received, ts, signals, late=False)

    def _moved(
        self, state: DeviceState, position: int, ts: int, out: Sequence[tuple[int, Value]]
    ) -> set[int]:
        """A message that waits for the windows by now: the rules that it can have changed, since these
        signals are beyond their bounds, or windows have lost something."""
        layout: Layout = state.layout  # type: ignore[assignment]  # of the plan that calls
        touched: set[int] = set()
        program = state.program
        for slot, raw in out:
            guard = state.guards[slot]
            if program.numbers[slot]:
                number: float = raw  # type: ignore[assignment]  # it has passed `_fit`
                if not guard[0] <= number < guard[1]:
                    self._crossed(state, slot, number, position, ts, touched)
            elif guard != raw:
                value = program.usable[slot](raw)
                self._cross(state, slot, value, touched)
                state.values[slot] = value
        if layout.looks:
            state.unpack()
            self._look(state, ts, layout, {slot for slot, _ in out}, touched)
            state.tighten()
        else:
            state.rebound(out)
        if len(state.rows) >= state.limit:
            state.flush()
        return touched

    def _crossed(
        self, state: DeviceState, slot: int, number: float, position: int, ts: int, touched: set[int]
    ) -> None:
        """A number has left its guard. Rules that are this one comparison, and have to wait for their `for`,
        begin or cease to wait at once."""
        known, first = state.values[slot], state.guards[slot] is EMPTY
        crossed = state.program.cross(state, slot, number)
        state.values[slot] = number
        if first or state.open:
            touched.update(crossed)
            touched.update(r for r in state.open if slot in state.program.rules[r].clear_cuts)
            return
        rules, pending, wait = state.program.rules, state.pending, NEVER
        rising, start = number > known, (ts, position)  # type: ignore[operator]  # known, behind a guard
        for each in crossed:
            rule = rules[each]
            if rule.above is None:
                touched.add(each)
            elif rule.above is not rising:
                pending.pop(each, None)
            elif each not in pending:
                pending[each] = start
                if rule.for_ms < wait:
                    wait = rule.for_ms
        if ts + wait < state.wake:
            self._expect(state, min(ts + wait, state.waits[0]), ts + wait)

    def _look(
        self, state: DeviceState, ts: int, layout: Layout, out: Collection[int], touched: set[int]
    ) -> None:
        """What these signals, or the time that has passed, may have changed in windows."""
        program, rolled = state.program, ts >= state.rolls
        values = {
            slot: cast(float, state.values[slot]) if number else 0.0
            for slot, number, windowed in layout.bounds
            if windowed and (rolled or slot in out)
        }
        if values:
            state.flush()
        for slot, value in values.items():
            series = cast(Series, state.series[slot])
            if not series.passes(ts, value) and program.steady(state, slot, series.moved(value)):
                touched.update(program.level_rules[slot])
        for cell in layout.others:
            if ts >= cast(Window, state.cells[cell]).expiry:
                self._expired(state, cell, ts, touched, layout.mentioning)

    def _expired(
        self, state: DeviceState, cell: int, ts: int, touched: set[int], mentioning: frozenset[int]
    ) -> None:
        """A window, whose signal is not among those that came, may have lost its oldest bucket. Rules that
        mention none of these wait for their own signals."""
        window = cast(Window, state.cells[cell])
        program = state.program
        slot = program.slots[program.cells[cell][1]]
        series = state.series[slot]
        if series is None or window not in series.windows:
            window.expire(ts)
            touched.update(mentioning.intersection(program.rules_of[cell]))
            return
        window.expire(ts)
        if program.steady(state, slot, [window]):
            rules = program.level_rules[slot]
            touched.update(mentioning.intersection(rules))
            if not mentioning.issuperset(rules):
                series.closed()

    def _true(self, state: DeviceState) -> set[int]:
        """Of the rules that something is noted of, those that are true now."""
        rules = state.program.rules
        noted = [*state.open, *state.pending]
        return {slot for slot in noted if rules[slot].when(state, state.newest)}

    def _refute(
        self,
        state: DeviceState,
        before: Collection[int],
        position: int,
        received: int,
        ts: int,
        signals: Mapping[str, Value],
    ) -> Iterator[int]:
        """What late readings say was not so: by what they changed in windows, or because a signal was
        elsewhere while it should have been held. Gives the open rules that something later has made false."""
        for slot in sorted(before):
            rule, program = state.program.rules[slot], state.program
            began = (state.pending.get(slot) or state.open[slot])[0]
            if not rule.when(state, state.newest):
                if slot in state.open and ts > began + rule.for_ms:
                    yield slot  # it was rightly found
                    continue
                state.pending.pop(slot, None)
                if slot in state.open:
                    self._close(state, rule, state.newest, position, received, "refuted")
                self._schedule(state)
            elif (
                rule.for_ms
                and not rule.clocked
                and began < ts <= began + rule.for_ms
                and program.as_if(state, rule.untrue, ts, signals)
            ):
                self._interrupt(state, rule, ts, position, received)

    def _interrupt(
        self, state: DeviceState, rule: RunningRule, ts: int, position: int, received: int
    ) -> None:
        """The condition was broken at a time past: it has been true since then only."""
        if rule.slot in state.open:
            if ts + rule.for_ms <= state.newest:
                return  # long enough all the same
            self._close(state, rule, state.newest, position, received, "refuted")
        state.pending[rule.slot] = (ts, position)
        self._schedule(state)

    def _again(self, state: DeviceState, position: int, received: int, rules: Collection[int]) -> None:
        """The truth of one of these rules has changed; the message is taken already."""
        state.unpack()
        self._step_and_time(state, rules, position, received)

    def _step_and_time(
        self, state: DeviceState, touched: Collection[int], position: int, received: int
    ) -> None:
        """Evaluate rules; then see whether the reading has brought something to its end, or has come sooner
        after its ts than those before it."""
        at = state.passed  # a late reading does not turn time back
        ripe = state.newest >= state.waits[0]
        if touched:
            self._step(state, touched, at, position, received)
        if ripe or state.newest >= state.waits[0]:
            state.unpack()
            self._fall_due(state, at, position, received, asked=at)
            clocked = [rule.slot for rule in state.program.view(state).clocked]
            self._step(state, clocked, at, position, received, wait=False)
            self._schedule(state)
        elif state.offset < state.waits[1]:
            self._expect(state, state.waits[0], state.wake)

    def _step(
        self,
        state: DeviceState,
        touched: Collection[int],
        at: int,
        position: int,
        received: int,
        *,
        wait: bool = True,
    ) -> None:
        """Bring what is noted of these rules in line with their conditions at a device time; and note what is
        waited for, if the caller does not."""
        rules, pending, opened = state.program.rules, state.pending, state.open
        start, wake, anew = (at, position), state.wake, False
        for slot in sorted(touched):
            rule = rules[slot]
            if wait and rule.clocked and slot in state.program.view(state).rules:
                wake = min(wake, rule.wake(state, max(at, state.passed)))
            if slot in opened:
                if rule.over(state, at):
                    self._close(state, rule, at, position, received, "condition")
                    anew |= rule.clocked
            elif not rule.when(state, at):
                anew |= pending.pop(slot, None) is not None
            elif not rule.for_ms:
                self._find(state, rule, at, position, at, position, received)
                anew |= rule.clocked
            elif slot not in pending:
                pending[slot] = start
                wake = min(wake, at + rule.for_ms)
                anew |= rule.clocked
        if anew and wait:
            self._schedule(state)
        elif wait and wake < state.wake:
            self._expect(state, min(wake, state.waits[0]), wake)

    def _timers(self, state: DeviceState, position: int, received: int) -> None:
        """A reading has come at or after `due`, or sooner after its ts than those before it."""
        self._step_and_time(state, (), position, received)

    def _sooner(self, state: DeviceState, waiting: Sequence[int] | None) -> None:
        """A reading may have made these rules, or any, change by time sooner than what is waited for."""
        state.unpack()
        rules, wake, at = state.program.rules, state.wake, state.newest
        if waiting is None or any(rules[slot].wake(state, at) < wake for slot in waiting):
            self._schedule(state)

    def _pass(self, state: DeviceState, now: int, position: int, received: int) -> None:
        """Time alone has brought a device to `now`: look at each moment at which something can change."""
        state.unpack()
        self._schedule(state)  # readings may have put off what was waited for
        for _ in range(MOST_WAKES):
            if state.wake > now:
                break
            self._moment(state, state.wake, position, received)
        else:
            self._moment(state, now, position, received)

    def _pass_to(self, state: DeviceState, position: int, received: int) -> int:
        """Look at everything that falls due until an entry that is no reading; gives its device time."""
        self._pass(state, state.device_time(received), position, received)
        now = max(state.passed, state.device_time(received))
        state.seen, state.looked = now, state.newest
        return now

    def _moment(self, state: DeviceState, at: int, position: int, received: int) -> None:
        """What falls due at a device time, and what may have changed by then."""
        self._fall_due(state, at, position, received, asked=None)
        state.seen, state.looked = at, state.newest
        clocked = [rule.slot for rule in state.program.view(state).clocked]
        self._step(state, clocked, at, position, received, wait=False)
        self._schedule(state)

    def _fall_due(
        self, state: DeviceState, now: int, position: int, received: int, *, asked: int | None
    ) -> None:
        """Find what has been true for long enough at the device time `now`; whether it still is, is asked
        for the time `asked`, or for that at which each fell due."""
        rules = state.program.rules
        due = sorted((began + rules[slot].for_ms, slot) for slot, (began, _) in state.pending.items())
        for at, slot in due:
            if at > now:
                break
            began, began_position = state.pending.pop(slot)
            rule = rules[slot]
            if not rule.timed or rule.when(state, at if asked is None else asked):
                self._find(state, rule, began, began_position, at, position, received)

    def _schedule(self, state: DeviceState) -> None:
        """Note when the next thing falls due. The heap's time for a device is never too late."""
        clocked = state.program.view(state).clocked
        if state.newest == FIRST or not (state.pending or clocked):
            state.waits, state.wake = AT_ONCE if state.newest == FIRST else IDLE, NEVER
            return
        rules, wake, at = state.program.rules, NEVER, state.passed
        for slot, (began, _) in state.pending.items():
            wake = min(wake, began + rules[slot].for_ms)
        for rule in clocked:
            wake = min(wake, rule.wake(state, at))
        early = bool(clocked) and at > state.newest  # the next reading may end a silence, or turn time back
        early = early or any(
            r.ends_silence and (r.slot in state.open or r.slot in state.pending) for r in clocked
        )
        self._expect(state, FIRST if early else wake, wake)

    def _expect(self, state: DeviceState, due: int, wake: int, early: int = EARLY) -> None:
        """Something happens with a reading at the device time `due` or later, or at the time `wake`.

        The heap's entry is `early`, by a part of the time until then: devices whose readings come sooner and
        sooner after their ts would otherwise get a new one with each.
        """
        state.wake = wake
        if wake == NEVER:
            state.waits = IDLE if due == NEVER else (due, FIRST)
            return
        at = wake + state.offset
        if state.heaped is None or at < state.heaped:
            state.heaped = at = at - (max(0, wake - state.newest) // early if early else 0)
            heapq.heappush(self._timer_heap, (at, state.device))
            if len(self._timer_heap) > 2 * len(self._states) + 64:
                self._tidy_heap()
        state.waits = due, state.heaped - wake

    def _tidy_heap(self) -> None:
        """Drop entries that a sooner one has replaced."""
        waiting = (state for state in self._states.values() if state.heaped is not None)
        self._timer_heap = [(cast(int, state.heaped), state.device) for state in waiting]
        heapq.heapify(self._timer_heap)

    def _find(
        self,
        state: DeviceState,
        rule: RunningRule,
        began: int,
        began_position: int,
        found: int,
        position: int,
        received: int,
    ) -> None:
        state.open[rule.slot] = (began, began_position)
        for slot in rule.clear_cuts:
            state.program.narrow(state, slot)
        self._events.append(
            Found(
                id=finding_id(state.device, rule.id, began_position, began),
                device=state.device,
                rule=rule.id,
                version=rule.rule.version,
                severity=rule.rule.severity,
                position=position,
                began_ts=began,
                found_ts=found,
                received=received,
                evidence={name: plain(state.values[slot]) for name, slot in rule.evidence}
                | {"ts": state.newest},
            )
        )

    def _close(
        self,
        state: DeviceState,
        rule: RunningRule,
        ts: int,
        position: int,
        received: int,
        reason: ClearReason,
    ) -> None:
        began, began_position = state.open.pop(rule.slot)
        for slot in rule.clear_cuts:
            state.program.narrow(state, slot)
        self._events.append(
            Cleared(
                device=state.device,
                rule=rule.id,
                finding=finding_id(state.device, rule.id, began_position, began),
                position=position,
                ts=ts,
                received=received,
                reason=reason,
            )
        )


def _retire(state: DeviceState) -> None:
    """Whoever hands it back gets the one in its place."""
    state.kind, state.registered = RETIRED, False


def finding_id(device: str, rule: str, position: int, began_ts: int) -> str:
    """The id of the finding of an episode that began at a journal position; `began_ts` tells apart two
    episodes that began within one message. 32 hex digits."""
    return blake2b(f"{device}\0{rule}\0{position}\0{began_ts}".encode(), digest_size=16).hexdigest()

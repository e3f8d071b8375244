"""The engine: readings in, findings and cleared episodes out.

Whatever changes it is an entry of the journal, given with its position and receive time; it has no
other clock. So the same log gives the same findings, in batches of any size, and after any restart.

A device's own time is the `ts` of its newest plausible reading plus the receive time that has passed
since. A rule is evaluated when one of its signals arrives, and when its `for` falls due; windows end
at the device's newest reading, or at the moment it falls due.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, cast

from rules.catalogue import RuleSet
from rules.program import Program, RunningRule
from rules.readings import Known, Value
from rules.state import DeviceState, restore, save
from rules.windows import NEVER

ClearReason: TypeAlias = Literal["condition", "reset", "kind"]
"""Why an episode ended: its `clear` became true; a job reset its counter; the device is of another kind."""


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


class Engine:
    """Runs a set of rules over what devices report. Not thread-safe; synchronous; without I/O.

    `future_tolerance_ms`: a reading further ahead of its receive time than this is not plausible; it
    is ignored and counted.
    """

    def __init__(self, rules: RuleSet, *, future_tolerance_ms: int = 86_400_000) -> None:
        self.rules = rules
        self.errors: dict[str, int] = {}  # by rule: how often its condition broke at run time
        self.implausible = 0  # readings from the future
        self.late = 0  # values older than the newest reading of their device
        self.too_late = 0  # of these, values that no window covered any more
        self._tolerance = future_tolerance_ms
        self._programs: dict[str | None, Program] = {
            kind: Program(kind, rules.of_kind(kind), rules.catalogue, self._failed)
            for kind in rules.catalogue.kinds
        }
        self._none = Program(None, (), rules.catalogue, self._failed)
        self._calls = {
            "other": self._other, "settle": self._settle, "again": self._again, "timers": self._timers,
            "moved": self._moved, "step": self._step_and_time,
        }  # fmt: skip
        for program in (*self._programs.values(), self._none):
            program.no_plan = self._other
        self._states: dict[str, DeviceState] = {}
        self._state_of = self._states.get
        self._dirty: dict[str, DeviceState] = {}
        self._timer_heap: list[tuple[int, str]] = []
        self._events: list[Found | Cleared] = []

    def _failed(self, rule: str) -> Callable[[], None]:
        """What a rule's functions call when they break."""

        def failed() -> None:
            self.errors[rule] = self.errors.get(rule, 0) + 1

        return failed

    def restore(self, device: str, state: bytes) -> None:
        """Continue a device from what `dirty` gave. Raises StateVersionError for an unknown format."""
        restored = restore(device, state, self._programs, self._none)
        self._states[device] = restored
        self._schedule(restored)

    def register(
        self, position: int, received: int, device: str, kind: str | None, model: str | None
    ) -> None:
        """A control entry says what a device is; its kind counts from now on, whatever its name suggests."""
        state = self._states.get(device)
        if state is None:
            state = self._states[device] = DeviceState(device, self._program(kind))
            state.kind = kind
        elif kind is not None and kind != state.kind:
            self._change_kind(state, kind, position, received)
        state.registered = kind is not None
        state.model = model
        self._dirty[device] = state

    def readings(
        self,
        position: int,
        received: int,
        device: str,
        kind: str | None,
        items: Sequence[tuple[int, Mapping[str, Value]]],
    ) -> None:
        """One message of a device: readings by their time, (ts, {signal: value}).

        `kind` is what the device's name suggests; a registered kind goes before it. Without a kind no
        rule applies and nothing is kept.
        """
        state = self._state_of(device)
        if state is None or (kind != state.kind and not state.registered):
            state = self._admit(state, device, kind, position, received)
            if state is None:
                return
        self._dirty[device] = state
        limit = received + self._tolerance
        for ts, signals in items:
            if ts > limit:
                self.implausible += len(signals)
            else:
                state.plan(state, position, received, ts, signals)

    def reset(self, position: int, received: int, device: str, signals: Sequence[str]) -> None:
        """A finished job has set these signals' counters back.

        Episodes of rules that name one of them in `resets` are over; these rules are looked at again
        when one of their signals arrives next. What the reset signals reported up to now, in device
        time, is forgotten, also where it arrives later.
        """
        state = self._states.get(device)
        if state is None or state.newest == -NEVER:
            return
        state.unpack()
        program, now = state.program, state.device_time(received)
        slots = {program.slots[name] for name in signals if name in program.slots}
        for slot in slots:
            state.values[slot], state.times[slot] = None, now
            program.cross(state, slot, None)
            for window in program.windows_of[slot]:
                state.windows[window].clear(now)
        touched = {rule for slot in slots for rule in program.guarded_of[slot] + program.general_of[slot]}
        for rule in program.rules:
            if any(program.slots[name] in slots for name in rule.rule.resets):
                self._end_by_reset(state, rule, now, position, received)
                touched.discard(rule.slot)
        self._step(state, touched, position, received)
        self._schedule(state)
        self._dirty[device] = state

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
        ready = []
        while (due := self.next_due()) is not None and due <= received:
            state = self._states[heapq.heappop(self._timer_heap)[1]]
            state.heaped = None
            ready.append(state)
        for state in ready:
            self._fall_due(state, state.device_time(received), position, received, by_tick=True)
            self._dirty[state.device] = state

    def take(self) -> list[Found | Cleared]:
        """What was found and cleared since the last call, in order."""
        events, self._events = self._events, []
        return events

    def next_due(self) -> int | None:
        """The receive time, ms, at which the earliest `for` falls due; None if nothing is pending."""
        heap = self._timer_heap
        while heap:
            at, device = heap[0]
            state = self._states.get(device)
            if state is not None and state.heaped == at:
                if state.pending and state.due + state.offset <= at:
                    return at
                state.heaped = None
                heapq.heappop(heap)
                self._schedule(state)
            else:
                heapq.heappop(heap)
        return None

    def dirty(self) -> Iterator[tuple[str, bytes]]:
        """The devices whose state has changed since the last call, with their state."""
        changed, self._dirty = self._dirty, {}
        for device, state in changed.items():
            yield device, save(state)

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
            self._change_kind(state, kind, position, received)
        return state

    def _change_kind(self, state: DeviceState, kind: str, position: int, received: int) -> None:
        """All rules of the former kind are over for it."""
        now = state.device_time(received)
        for slot in list(state.open):
            self._close(state, state.program.rules[slot], now, position, received, "kind")
        state.kind = kind
        state.equip(self._program(kind))

    def _other(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """Another set of signals than the device's last message had."""
        plan = state.program.plan(tuple(signals), self._calls)
        if plan is None:
            self._settle(state, position, received, ts, signals)
        else:
            state.unpack()
            state.plan = plan
            plan(state, position, received, ts, signals)

    def _settle(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        """Take readings that are late, or that change more than a value."""
        state.unpack()
        if ts >= state.newest:
            state.newest, state.offset = ts, received - ts
        else:
            self.late += len(signals)
        touched: set[int] = set()
        slots = state.program.slots
        for name, raw in signals.items():
            slot = slots.get(name)
            if slot is not None:
                touched.update(state.program.general_of[slot])
                self._moved(state, slot, ts, raw, touched)
        self._step_and_time(state, touched, position, received)

    def _moved(self, state: DeviceState, slot: int, ts: int, raw: Value, touched: set[int]) -> None:
        """One value into the windows, and in its place if it is the signal's newest.

        Adds the guarded rules whose truth can have changed to `touched`.
        """
        program = state.program
        value = program.usable[slot](raw)
        if value is not None:
            number = cast(float, value) if program.numbers[slot] else 0.0
            for window in program.windows_of[slot]:
                self.too_late += not state.windows[window].add(ts, number, state.newest)
        if ts < state.times[slot]:
            return
        touched.update(program.cross(state, slot, value))
        if state.open:
            touched.update(rule for rule in state.open if slot in program.rules[rule].clear_cuts)
        state.values[slot], state.times[slot] = value, ts

    def _again(self, state: DeviceState, position: int, received: int, rules: Sequence[int]) -> None:
        """The truth of one of these rules has changed; the message is taken already."""
        state.unpack()
        self._step_and_time(state, rules, position, received)

    def _step_and_time(
        self, state: DeviceState, touched: Collection[int], position: int, received: int
    ) -> None:
        """Evaluate rules; then see whether the reading has brought something pending to its end."""
        if touched:
            self._step(state, touched, position, received)
        if state.newest >= state.due or state.offset < state.low:
            self._timers(state, position, received)

    def _step(self, state: DeviceState, touched: Collection[int], position: int, received: int) -> None:
        """Bring what is noted of these rules in line with their conditions."""
        values, times, windows, at = state.values, state.times, state.windows, state.newest
        rules, pending, opened = state.program.rules, state.pending, state.open
        start, due, ended = (at, position), state.due, False
        for slot in sorted(touched):
            rule = rules[slot]
            if slot in opened:
                if rule.over(values, times, windows, at):
                    self._close(state, rule, at, position, received, "condition")
            elif not rule.when(values, times, windows, at):
                ended |= pending.pop(slot, None) is not None
            elif not rule.for_ms:
                self._find(state, rule, at, position, at, position, received)
            elif slot not in pending:
                pending[slot] = start
                due = min(due, at + rule.for_ms)
        if ended:
            self._schedule(state)
        elif due < state.due:
            self._expect(state, due)

    def _timers(self, state: DeviceState, position: int, received: int) -> None:
        """A reading has come at or after `due`, or sooner after its ts than those before it."""
        if state.newest >= state.due:
            self._fall_due(state, state.newest, position, received, by_tick=False)
        else:
            self._schedule(state)

    def _fall_due(self, state: DeviceState, now: int, position: int, received: int, *, by_tick: bool) -> None:
        """Find what has been true for long enough at the device time `now`."""
        state.unpack()
        rules = state.program.rules
        due = sorted((began + rules[slot].for_ms, slot) for slot, (began, _) in state.pending.items())
        for at, slot in due:
            if at > now:
                break
            began, began_position = state.pending.pop(slot)
            if self._still(state, rules[slot], at if by_tick else now, copied=by_tick):
                self._find(state, rules[slot], began, began_position, at, position, received)
        self._schedule(state)

    def _still(self, state: DeviceState, rule: RunningRule, at: int, *, copied: bool) -> bool:
        """Whether a pending rule is still true at a time, which may lie after the newest reading."""
        if not rule.timed:
            return True
        windows: Any = state.windows
        if copied:
            windows = {slot: state.windows[slot].copy() for slot in rule.windows}
        return rule.when(state.values, state.times, windows, at)

    def _schedule(self, state: DeviceState) -> None:
        """Note when the first pending rule falls due. The heap's time for a device is never too late."""
        if not state.pending:
            state.due, state.low = NEVER, -NEVER
            return
        rules, due = state.program.rules, NEVER
        for slot, (began, _) in state.pending.items():
            due = min(due, began + rules[slot].for_ms)
        self._expect(state, due)

    def _expect(self, state: DeviceState, due: int) -> None:
        """The first pending rule falls due at this device time."""
        state.due = due
        at = due + state.offset
        if state.heaped is None or at < state.heaped:
            state.heaped = at
            heapq.heappush(self._timer_heap, (at, state.device))
            if len(self._timer_heap) > 2 * len(self._states) + 64:
                self._tidy_heap()
        state.low = state.heaped - due

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
                evidence={name: state.values[slot] for name, slot in rule.evidence} | {"ts": state.newest},
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


def finding_id(device: str, rule: str, position: int, began_ts: int) -> str:
    """The id of the finding of an episode that began at a journal position; `began_ts` tells apart two
    episodes that began within one message. 32 hex digits."""
    return blake2b(f"{device}\0{rule}\0{position}\0{began_ts}".encode(), digest_size=16).hexdigest()

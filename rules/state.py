"""What the engine remembers of one device, and how it is saved.

Format 1: the byte 1, then MessagePack of
`[kind, model, registered, newest, offset, {signal: [ts, value]}, [[rule, print, began, position]],
[[rule, began, position]], [[signal, span, …]]]`; the lists of rules are those whose condition is true
but not for long enough, and those with an open episode. Times are ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rules.readings import Known, Value
from rules.texts import StateVersionError
from rules.windows import NEVER, Window

if TYPE_CHECKING:
    from rules.program import Plan, Program

VERSION = 1

EMPTY = (1.0, 0.0)
"""The guard that no number passes."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class _Never:
    """Equal to nothing: the guard that no value but a number passes."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # equal to nothing, so it has no hash

    def __eq__(self, other: object) -> bool:
        return False


NOTHING = _Never()


class DeviceState:
    """One device. Lists are by slot: a signal's, a window's or a rule's number in its kind's program.

    `guards` say which values change nothing: for a number the interval it may lie in, for others the
    value itself. A message that passes all guards is kept whole in `signals`, and only unpacked into
    `values` and `times` when these are needed.
    """

    __slots__ = (
        "device", "due", "guards", "heaped", "kind", "low", "model", "newest", "offset", "open",
        "pending", "plan", "program", "registered", "signals", "times", "values", "windows",
    )  # fmt: skip

    def __init__(self, device: str, program: Program) -> None:
        self.device = device
        self.kind: str | None = program.kind
        self.model: str | None = None
        self.registered = False  # whether a control entry named the kind
        self.newest = -NEVER  # ts of the newest plausible reading
        self.offset = 0  # receive time of that reading less its ts
        self.signals: Mapping[str, Value] | None = None  # of `newest`, not unpacked yet
        self.pending: dict[int, tuple[int, int]] = {}  # rule → began, position: true, not for long enough
        self.open: dict[int, tuple[int, int]] = {}  # rule → began, position: an episode
        self.due = NEVER  # device time at which the first pending rule has been true for long enough
        self.low = -NEVER  # an offset below this makes that earlier than `heaped`
        self.heaped: int | None = None  # receive time of this device's entry among the engine's timers
        self.equip(program)

    def equip(self, program: Program) -> None:
        """Begin anew with a kind's signals, windows and rules."""
        self.program = program
        self.plan: Plan = program.no_plan
        self.values: list[Known | None] = [None] * len(program.names)
        self.times = [-NEVER] * len(program.names)
        self.guards: list[Any] = list(program.first_guards)
        self.windows = [Window(span) for _, span in program.windows]
        self.signals = None
        self.pending, self.open = {}, {}
        self.due, self.low = NEVER, -NEVER

    def unpack(self) -> None:
        """Bring `values` and `times` up to the newest message. What passed the guards is usable."""
        signals, self.signals = self.signals, None
        if signals is None:
            return
        slots, numbers = self.program.slots, self.program.numbers
        for name, value in signals.items():
            slot = slots.get(name)
            if slot is not None:
                if numbers[slot]:
                    self.values[slot] = cast(Known, value)
                self.times[slot] = self.newest

    def device_time(self, received: int) -> int:
        """The device's own time, ms, at a receive time: its newest reading's plus what has passed since."""
        return received - self.offset


def save(state: DeviceState) -> bytes:
    """The state as bytes that `restore` takes."""
    state.unpack()
    program = state.program
    body = (
        state.kind,
        state.model,
        state.registered,
        state.newest,
        state.offset,
        {
            name: (ts, value)
            for name, ts, value in zip(program.names, state.times, state.values, strict=True)
            if ts != -NEVER
        },
        [
            (program.rules[rule].id, program.rules[rule].fingerprint, began, position)
            for rule, (began, position) in state.pending.items()
        ],
        [(program.rules[rule].id, began, position) for rule, (began, position) in state.open.items()],
        [
            (name, span, *window.save())
            for (name, span), window in zip(program.windows, state.windows, strict=True)
            if window.n or window.starts or window.since != -NEVER
        ],
    )
    return bytes((VERSION,)) + _encoder.encode(body)


def restore(device: str, saved: bytes, programs: Mapping[str | None, Program], none: Program) -> DeviceState:
    """The state that `save` gave, for the rules of today.

    An open episode stays with its rule's id, whatever its condition is now, so that an owner is not
    told twice; a condition that was true without being found is only continued if it is the same. What
    belongs to rules and signals that are gone is dropped. No guard is set, so that each signal's next
    value is looked at by all its rules, new ones among them. Raises StateVersionError.
    """
    if not saved or saved[0] != VERSION:
        found = saved[0] if saved else "none"
        raise StateVersionError(
            f"the rule state of {device} has format {found}, this program reads format {VERSION}: "
            "start the version that wrote it"
        )
    kind, model, registered, newest, offset, values, pending, opened, windows = _decoder.decode(saved[1:])
    program = programs.get(kind, none)
    state = DeviceState(device, program)
    state.kind, state.model, state.registered = kind, model, registered
    state.newest, state.offset = newest, offset
    for name, (ts, value) in values.items():
        slot = program.slots.get(name)
        if slot is not None:
            state.times[slot] = ts
            state.values[slot] = program.usable[slot](value)
    for rule_id, print_, began, position in pending:
        rule = program.by_id.get(rule_id)
        if rule is not None and rule.fingerprint == print_ and rule.for_ms:
            state.pending[rule.slot] = (began, position)
    for rule_id, began, position in opened:
        if rule_id in program.by_id:
            state.open[program.by_id[rule_id].slot] = (began, position)
    slots = {key: slot for slot, key in enumerate(program.windows)}
    for name, span, *columns in windows:
        if (name, span) in slots:
            state.windows[slots[name, span]].restore(columns)
    return state

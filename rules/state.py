"""What the engine remembers of one device, and how it is saved.

Format 2: the byte 2, then MessagePack of `[kind, model, time zone, registered, newest, seen, offset,
{signal: [ts, value]}, [[rule, print, began, position]], [[rule, began, position]], [[what, of, span, …]],
recent, wake]`; the lists of rules are those whose condition is true but not for long enough, and those with
an open episode; then what is kept of the past, the newest timestamps, and the time at which the device is to
be looked at without a reading. Times are ms. Format 1, which had no time zone, no timestamps and windows
alone, is read, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import sub
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import msgspec

from rules.cells import Kept, Peer, Previous
from rules.expressions import Cell
from rules.readings import Known
from rules.texts import StateVersionError
from rules.windows import FIRST, NEVER, Apart, Series, apart, bucket_width

if TYPE_CHECKING:
    from rules.program import Layout, Plan, Program, View

    _Numbers = array[int]
else:
    _Numbers = array

VERSION = 2

EMPTY = (1.0, 0.0)
"""The guard that no number passes."""

TIMESTAMPS = 64
"""How many of a device's newest timestamps are known, to tell repetitions."""
MOST_RECENT = 96
"""Timestamps and marks kept before those beyond the newest are dropped; more where messages differ."""
_BITS = 56
QUEUE = 64
"""Messages that wait at most until windows take them."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class _Never:
    """Equal to nothing: the guard that no value but a number passes."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # equal to nothing, so it has no hash

    def __eq__(self, other: object) -> bool:
        return False


NOTHING = _Never()

IDLE = (NEVER, FIRST)
"""Nothing is waited for."""
AT_ONCE = (FIRST, FIRST)
"""The next reading is looked at."""
NONE: dict[int, int] = {}
"""Shared, and never written to."""


SPARE = ("_spare0", "_spare1", "_spare2", "_spare3")
"""Never set. With these, and what the garbage collector puts before each, states are a multiple of 64 bytes
apart: so what every message touches lies in two cache lines, and in three where windows wait for it."""


class _Hot(_Numbers):
    """What every message touches, next to one another in memory: with many devices that is what it costs.

    The numbers are the newest timestamps, with marks that say which signals came with them, up to `at`.
    Behind its timestamp lies what the newest message brought, while it is `packed`: when it was received, and
    one number for each known signal, as a Layout says. The next one is written over that.
    """

    __slots__ = ("at", "bounds", "dirty", "kind", "most", "packed", "plan", "waits")


class _Warm(_Hot):
    """Behind that, what a message touches whose numbers windows take."""

    __slots__ = ("_newest", "_received", "cells", "limit", "open", "pending", "rolls", "rows")


class DeviceState(_Warm):
    """One device. Lists are by slot: a signal's, a cell's or a rule's number in its kind's program.

    `guards` say which values change no last value's comparison: for a number the interval it may lie in,
    for others the value itself; `bounds` say the same of the signals that come together, one after the
    other, narrowed to what changes no window either. A message that passes is only packed, or put into
    `rows` where windows take its numbers, and unpacked into `values` and `times` when these are needed.
    """

    __slots__ = (
        *SPARE, "ahead", "cold", "device", "guards", "heaped", "known", "layout", "looked", "model",
        "program", "registered", "seen", "series", "times", "values", "view", "wake", "zone",
    )  # fmt: skip

    def __new__(cls, device: str, program: Program, model: str | None = None) -> Self:
        return cast("Self", super().__new__(cls, "q", program.no_timestamps))

    def __init__(self, device: str, program: Program, model: str | None = None) -> None:
        self.device = device
        self.kind: str | None = program.kind
        self.model = model
        self.zone: str | None = None  # the owner's time zone
        self.registered = False  # whether a control entry named the kind
        self.dirty = False  # whether it has changed since it was last saved
        self.seen = FIRST  # device time up to which what time alone brings was looked at
        self.looked = FIRST  # with this newest reading; one that has come since may have turned time back
        self._newest = self._received = FIRST  # see `newest`, as of when it was unpacked last
        self.heaped: int | None = None  # receive time of this device's entry among the engine's timers
        self.equip(program)

    def equip(self, program: Program) -> None:
        """Begin anew with a kind's signals, cells and rules."""
        self.program = program
        self.at = 0  # how many timestamps and marks there are
        self._fit()
        self.plan: Plan = program.no_plan
        self.view: View | None = None  # see Program.view
        self.known = 0  # the signals it has sent, as bits by slot, as of then
        self.values: list[Known | None] = [None] * len(program.names)
        self.times = [FIRST] * len(program.names)
        self.guards: list[Any] = list(program.first_guards)
        self.cells: list[Kept] = list(program.blank)  # its own from the first reading on
        self.series: list[Series | None] = list(program.blank_series)
        for peer in program.peers:
            self.own(peer)
        self.packed = False  # whether the newest message is not unpacked yet
        self.layout: Layout | None = None  # of the messages that `plan` takes
        self.rows = array("d")  # time and numbers of messages that windows have not taken yet
        self.ahead = NONE  # window → of these, messages that it has taken because it was asked
        self.bounds: tuple[Any, ...] | None = None  # None: the next message is looked at
        self.rolls = NEVER  # so is one of this device time or later
        self.limit = 0  # and this many numbers in `rows` are the most
        self.pending: dict[int, tuple[int, int]] = {}  # rule → began, position: true, not for long enough
        self.open: dict[int, tuple[int, int]] = {}  # rule → began, position: an episode
        self.cold: tuple[int, ...] = ()  # cells that know less of the past than they could
        self.wake = NEVER  # at this device time something comes to its end
        self.waits = AT_ONCE  # so it does with a reading of this device time or later; and an offset below
        # this makes `wake` earlier than `heaped`

    def own(self, cell: int) -> Any:
        """What is kept of the past, to be written to; until the first reading devices share empty ones."""
        program = self.program
        if self.cells[cell] is program.blank[cell]:
            if program.series_of[cell] is None:
                self.cells[cell] = program.makers[cell](self)
            else:
                self.own_series(cast(int, program.series_of[cell]))
        return self.cells[cell]

    def own_series(self, slot: int) -> Series:
        """The same for all windows of a signal that get their readings together."""
        program = self.program
        if self.series[slot] is program.blank_series[slot]:
            for cell in program.shared[slot]:
                self.cells[cell] = program.makers[cell](self)
            self.series[slot] = Series([cast(Any, self.cells[cell]) for cell in program.shared[slot]])
        return cast(Series, self.series[slot])

    def unpack(self) -> None:
        """Bring `values` and `times` up to the newest message. What passed the guards is usable."""
        if not self.packed:
            return
        numbers, layout = self.program.numbers, cast("Layout", self.layout)
        if self.rows:
            latest = self.rows[-len(layout.slots) :].tolist()
        else:
            self._newest, self._received, *latest = layout.row.unpack_from(self, 8 * (self.at - 1))
        newest = self._newest
        for slot, number in zip(layout.slots, latest, strict=True):
            if numbers[slot]:
                self.values[slot] = number
            self.times[slot] = newest
        self.packed = False

    def flush(self) -> None:
        """Bring the windows up to the newest message."""
        rows, layout = self.rows, self.layout
        if not rows or layout is None:
            return
        self.unpack()
        self.rows = array("d")
        if len(rows) == layout.width:
            self._flush_one(rows, layout)
            return
        program, most = self.program, QUEUE
        times = rows[:: layout.width].tolist()
        self.note(*map(int, times))
        ahead, self.ahead = self.ahead, NONE
        spread = Apart(times)
        for column, slot in layout.windows:
            values = rows[column :: layout.width].tolist()
            for cell in program.queued[slot]:
                taken = ahead.get(cell)
                if taken is None:
                    self.own(cell).extend(times, values, spread)
                elif taken < len(times):
                    self.own(cell).extend(times[taken:], values[taken:])
            series = self.series[slot]
            if series is not None:
                series.most -= len(times)
                most = min(most, series.most)
        self.limit = most * layout.width
        if most <= 0:
            self.bounds = None

    def _flush_one(self, row: array[float], layout: Layout) -> None:
        """The same with one message, as it is where messages differ."""
        ts, most, ahead, queued = int(row[0]), QUEUE, self.ahead, self.program.queued
        self.note(ts)
        self.ahead = NONE
        for column, slot in layout.windows:
            value = row[column]
            for cell in queued[slot]:
                if cell not in ahead:
                    self.own(cell).add(ts, value, ts)
            series = self.series[slot]
            if series is not None:
                series.most -= 1
                most = min(most, series.most)
        self.limit = most * layout.width
        if most <= 0:
            self.bounds = None

    def bring(self, cell: int) -> None:
        """Bring one window up to the newest message; the others need not be asked."""
        rows, layout = self.rows, cast("Layout", self.layout)
        column = layout.columns.get(cell)
        if column is None:
            return
        width = layout.width
        count, taken = len(rows) // width, self.ahead.get(cell, 0)
        if taken == count:
            return
        if taken == count - 1:
            ts = int(rows[-width])
            self.own(cell).add(ts, rows[column - width], ts)
        else:
            fresh = rows[taken * width :]
            self.own(cell).extend(fresh[::width].tolist(), fresh[column::width].tolist())
        if self.ahead is NONE:
            self.ahead = {}
        self.ahead[cell] = count

    def tighten(self) -> tuple[Any, ...]:
        """Work out the bounds of the messages to come."""
        layout, guards = cast("Layout", self.layout), self.guards
        bounds: list[Any] = []
        if layout.plain:
            plain = tuple([end for slot in layout.slots for end in guards[slot]])
            self.bounds, self.rolls = self.program.shared_bounds(plain), NEVER
            return self.bounds
        most, rolls = QUEUE, NEVER
        for slot, number, windowed in layout.bounds:
            guard = guards[slot]
            if windowed:
                series = cast(Series, self.series[slot])
                rolls = min(rolls, series.end)
                if series.most > 0:
                    most = min(most, series.most)
                guard = _narrowed(guard, series, number)
            bounds += guard if number else (guard,)
        self.rolls = min([rolls, *(cast(Any, self.cells[cell]).expiry for cell in layout.others)])
        ends = tuple(bounds)
        self.bounds = self.program.shared_bounds(ends) if layout.shares else ends
        self.limit = most * layout.width
        return self.bounds

    def rebound(self, moved: Sequence[tuple[int, object]]) -> None:
        """The same where only the guards of these (signal, value) have moved, and no window has levels."""
        if self.bounds is None:
            self.tighten()
            return
        layout: Layout = self.layout  # type: ignore[assignment]  # bounds come with one
        numbers, bounds = self.program.numbers, [*self.bounds]
        for slot, _ in moved:
            at = layout.places[slot]
            if numbers[slot]:
                bounds[at], bounds[at + 1] = self.guards[slot]
            else:
                bounds[at] = self.guards[slot]
        ends = tuple(bounds)
        self.bounds = self.program.shared_bounds(ends) if layout.shares else ends

    @property
    def newest(self) -> int:
        """ts of the newest plausible reading."""
        return self[self.at - 1] if self.packed and not self.rows else self._newest

    @property
    def offset(self) -> int:
        """Receive time of the newest reading less its ts."""
        if self.packed and not self.rows:
            return self[self.at] - self[self.at - 1]
        return self._received - self._newest

    def reach(self, ts: int, received: int) -> None:
        """Its newest reading, of what is not packed."""
        self._newest, self.looked, self._received = ts, FIRST, received

    def turn_back(self, ts: int) -> None:
        """Its clock was ahead: begin with a reading of this time, as long before its reception."""
        self.unpack()
        self._newest, self._received, self.at = ts, ts + self.offset, 0

    @property
    def passed(self) -> int:
        """Device time up to which there is nothing left to look at."""
        return self.seen if self.looked == self.newest else self.newest

    def device_time(self, received: int) -> int:
        """The device's own time, ms, at a receive time: its newest reading's plus what has passed since."""
        return received - self.offset

    # --- timestamps that were seen, with the signals that came with each

    def note(self, *entries: int) -> None:
        """Add timestamps, or marks."""
        self.unpack()
        end = self.at + len(entries)
        self[self.at : end] = array("q", entries)
        self.at = end
        if end > self.most:
            self.forget()

    def saw(self, mask: int) -> None:
        """What comes from now on brings these signals, as bits by slot."""
        self.unpack()
        while self.at and self[self.at - 1] < 0:  # with those before, nothing came
            self.at -= 1
        self.note(*_marks(mask))

    def _seen(self) -> Iterator[tuple[int, int]]:
        """(ts, mask) of all that is known, the oldest first."""
        mask, before = 0, 0
        for entry in self[: self.at]:
            if entry < 0:
                part, bits = divmod(-1 - entry, 1 << _BITS)
                mask = (mask if before < 0 else 0) | bits << (part * _BITS)
            else:
                yield entry, mask
            before = entry

    def brought(self, ts: int) -> int:
        """The signals that have come with a timestamp already, as bits by slot. Of those before the newest
        ones nothing is told, for after a restart they would not be known."""
        found, at = 0, self._first() - 1
        while True:
            try:
                at = self.index(ts, at + 1, self.at)
            except ValueError:
                return found
            found |= self._mask_at(at)

    def _mask_at(self, at: int) -> int:
        """The signals that came with the timestamp at this place."""
        mask = 0
        while self[at] >= 0:
            at -= 1
        while at >= 0 and self[at] < 0:
            part, bits = divmod(-1 - self[at], 1 << _BITS)
            mask |= bits << (part * _BITS)
            at -= 1
        return mask

    @property
    def _alike(self) -> bool:
        """Whether all timestamps came with the same signals."""
        return self.at > 1 and self[0] < 0 <= min(self[1 : self.at])

    def _first(self) -> int:
        """Where the oldest of the newest timestamps stands; 0 if there are no others."""
        if self.at <= TIMESTAMPS:
            return 0
        if self._alike:
            return max(1, self.at - TIMESTAMPS)
        times = [at for at, entry in enumerate(self[: self.at]) if entry >= 0]
        return times[-TIMESTAMPS] if len(times) > TIMESTAMPS else 0

    def forget(self) -> None:
        """Keep the newest timestamps only, and what is packed behind them."""
        first = self._first()
        if first:
            marks = array("q", _marks(self._mask_at(first)))
            kept = marks + self[first:]
            self[: len(kept)] = kept
            self.at += len(marks) - first
        self._fit()

    def _fit(self) -> None:
        """Make room for more timestamps, and for a message."""
        self.most = max(MOST_RECENT, self.at + MOST_RECENT - TIMESTAMPS)
        lacks = self.most + self.program.room - len(self)
        if lacks > 0:
            self.frombytes(bytes(8 * lacks))
        elif lacks < 0:
            del self[lacks:]

    def remember(self, seen: list[tuple[int, int]]) -> None:
        """Begin with these."""
        self.unpack()
        self.at, last, entries = 0, None, list[int]()
        for ts, mask in seen:
            if mask != last:
                entries += _marks(mask)
                last = mask
            entries.append(ts)
        self.note(*entries)

    def timestamps(self) -> list[tuple[int, list[int]]]:
        """By mask of signals, in order: what `remember` takes, for saving."""
        if self._alike:
            return [(self._mask_at(1), self[max(1, self.at - TIMESTAMPS) : self.at].tolist())]
        groups: list[tuple[int, list[int]]] = []
        for ts, mask in list(self._seen())[-TIMESTAMPS:]:
            if not groups or groups[-1][0] != mask:
                groups.append((mask, []))
            groups[-1][1].append(ts)
        return groups


def _marks(mask: int) -> list[int]:
    """Signals as numbers that no timestamp is."""
    parts = range(0, mask.bit_length(), _BITS) or (0,)
    return [-1 - ((part // _BITS) << _BITS | (mask >> part) & ((1 << _BITS) - 1)) for part in parts]


def _narrowed(guard: Any, series: Series, number: bool) -> Any:
    """The guard of a signal's last value, narrowed to what leaves what rules make of its windows as it is."""
    if not number:
        return guard if series.most > 0 and series.floor <= 0.0 < series.ceiling else NOTHING
    return (max(guard[0], series.floor), min(guard[1], series.ceiling)) if series.most > 0 else EMPTY


def save(state: DeviceState) -> bytes:
    """The state as bytes that `restore` takes."""
    state.unpack()
    state.flush()
    program = state.program
    body = (
        state.kind,
        state.model,
        state.zone,
        state.registered,
        state.newest,
        state.passed,
        state.offset,
        {
            name: (ts, value)
            for name, ts, value in zip(program.names, state.times, state.values, strict=True)
            if ts != FIRST
        },
        [
            (program.rules[rule].id, program.rules[rule].fingerprint, began, position)
            for rule, (began, position) in state.pending.items()
        ],
        [(program.rules[rule].id, began, position) for rule, (began, position) in state.open.items()],
        [
            key if cell.empty else (*key, *cell.save())
            for slot, (key, cell) in enumerate(zip(program.cells, state.cells, strict=True))
            if not cell.empty or (key[0] in WARMED and slot not in state.cold)
        ],
        [(program.names_of(mask), _differences(seen)) for mask, seen in state.timestamps()],
        state.wake,
        [program.cells[slot] for slot in state.cold if not state.cells[slot].empty],
    )
    return bytes((VERSION,)) + _encoder.encode(body)


def _differences(seen: list[int]) -> list[int]:
    """The first, and how far each lies after the one before: small numbers take few bytes."""
    return [seen[0], *map(sub, seen[1:], seen)]


def _sums(differences: list[int]) -> Iterator[int]:
    at = 0
    for difference in differences:
        at += difference
        yield at


Upgrade: TypeAlias = Callable[[list[Any]], list[Any]]


def _from_1(body: list[Any]) -> list[Any]:
    kind, model, registered, newest, offset, values, pending, opened, windows = body
    cells = [
        ["window", name, span, *summary, apart(starts, bucket_width(span)), counts, totals, lows, highs]
        for name, span, *summary, starts, counts, totals, lows, highs in windows
    ]
    return [
        kind,
        model,
        None,
        registered,
        newest,
        newest,
        offset,
        values,
        pending,
        opened,
        cells,
        [],
        NEVER,
        [],
    ]


def _from_2(body: list[Any]) -> list[Any]:
    return [*body, *([NEVER, []][len(body) - 12 :])]


UPGRADES: Mapping[int, Upgrade] = {1: _from_1, VERSION: _from_2}
"""By format: how its body becomes one of today's."""


def restore(device: str, saved: bytes, programs: Mapping[str | None, Program], none: Program) -> DeviceState:
    """The state that `save` gave, for the rules of today.

    An open episode stays with its rule's id, whatever its condition is now, so that an owner is not
    told twice; a condition that was true without being found is only continued if it is the same. What
    belongs to rules and signals that are gone is dropped; what a rule of today needs of the past and was not
    kept is `cold`. No guard is set, so that each signal's next value is looked at by all its rules, new ones
    among them. Raises StateVersionError.
    """
    if not saved or saved[0] not in UPGRADES:
        found = saved[0] if saved else "none"
        raise StateVersionError(
            f"the rule state of {device} has format {found}, this program reads format {VERSION}: "
            "start the version that wrote it"
        )
    kind, model, zone, registered, newest, seen, offset, values, pending, opened, kept, recent, wake, cold = (
        UPGRADES[saved[0]](_decoder.decode(saved[1:]))
    )
    program = programs.get(kind, none)
    state = DeviceState(device, program, model)
    state.kind, state.zone, state.registered = kind, zone, registered
    state.reach(newest, newest + offset)
    state.seen, state.looked, state.wake = seen, newest, wake
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
    by_key: dict[Cell, list[Any]] = {(what, of, span): saved for what, of, span, *saved in kept}
    for slot, key in enumerate(program.cells):
        if by_key.get(key):
            state.own(slot).restore(by_key[key])
    if newest != FIRST:
        known = by_key.keys() - {tuple(key) for key in cold}
        state.cold = tuple(
            slot for slot, key in enumerate(program.cells) if key[0] in WARMED and key not in known
        )
    state.remember([(ts, program.mask_of(names)) for names, part in recent for ts in _sums(part)])
    return state


def carry(state: DeviceState, programs: Mapping[str | None, Program], none: Program) -> DeviceState:
    """The state for another set of rules. What of the past these need and nobody kept is `cold`."""
    _forget_changed(state, programs.get(state.kind, none))
    saved, known = save(state), set(state.program.cells)
    for cell in state.cells:
        if isinstance(cell, Peer):
            cell.clear(FIRST)
    carried = restore(state.device, saved, programs, none)
    carried.heaped = state.heaped
    for slot, (cell, key) in enumerate(zip(carried.cells, carried.program.cells, strict=True)):
        if isinstance(cell, Previous) and key not in known:
            _begin(carried, slot)
    return carried


def _forget_changed(state: DeviceState, program: Program) -> None:
    """Let go of what was measured of signals that mean something else in another set of rules."""
    state.unpack()
    state.flush()
    signals = {signal.name: signal for signal in program.signals}
    for slot, before in enumerate(state.program.signals):
        now = signals.get(before.name, before)
        other = (now.type, now.unit) != (before.type, before.unit)
        if other:
            state.values[slot], state.times[slot] = None, FIRST
            for rule in state.program.rules:
                if slot in rule.signals:
                    state.pending.pop(rule.slot, None)
            for phase in state.program.phases:
                if slot in phase.signals:
                    state.cells[phase.cell] = state.program.makers[phase.cell](state)
        for cell in state.program.cells_of[slot]:
            if other or (now.range != before.range and state.program.cells[cell][0] == "histogram"):
                state.own(cell).clear(FIRST)
                state.cells[cell] = state.program.makers[cell](state)


def _begin(state: DeviceState, cell: int) -> None:
    """What a signal's newest value tells already."""
    slot = state.program.slots[state.program.cells[cell][1]]
    value = state.values[slot]
    if value is not None:
        number = cast(float, value) if state.program.numbers[slot] else 0.0
        state.own(cell).add(state.times[slot], number, 0)


WARMED = ("window", "trend", "histogram")
"""What can be filled from what a store has recorded."""

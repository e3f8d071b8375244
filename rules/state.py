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
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from rules.cells import Kept, Peer, Previous
from rules.expressions import Cell
from rules.readings import Known
from rules.texts import StateVersionError
from rules.windows import FIRST, NEVER, Apart, Series, apart, bucket_width

if TYPE_CHECKING:
    from rules.program import Layout, Plan, Program, View

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
NONE: dict[int, int] = {}
"""Shared, and never written to."""


class _Hot:
    """What every message touches, next to one another in memory: with many devices that is what it costs."""

    __slots__ = (
        "bounds", "dirty", "due", "kind", "latest", "limit", "low", "most", "newest", "offset", "packed",
        "plan", "recent", "registered", "rolls", "rows",
    )  # fmt: skip


class DeviceState(_Hot):
    """One device. Lists are by slot: a signal's, a cell's or a rule's number in its kind's program.

    `guards` say which values change no last value's comparison: for a number the interval it may lie in,
    for others the value itself; `bounds` say the same of the signals that come together, one after the
    other, narrowed to what changes no window either. The numbers of a message that passes are put into
    `latest`, or into `rows` where windows take them, and only unpacked into `values` and `times` when these
    are needed.
    """

    __slots__ = (
        "ahead", "cells", "cold", "device", "guards", "heaped", "known", "layout", "looked",
        "model", "open", "pending", "program", "seen",
        "series", "times", "values", "view", "wake", "zone",
    )  # fmt: skip

    def __init__(self, device: str, program: Program, model: str | None = None) -> None:
        self.device = device
        self.kind: str | None = program.kind
        self.model = model
        self.zone: str | None = None  # the owner's time zone
        self.registered = False  # whether a control entry named the kind
        self.dirty = False  # whether it has changed since it was last saved
        self.newest = FIRST  # ts of the newest plausible reading
        self.seen = FIRST  # device time up to which what time alone brings was looked at
        self.looked = FIRST  # with this newest reading; one that has come since may have turned time back
        self.offset = 0  # receive time of the newest reading less its ts
        self.heaped: int | None = None  # receive time of this device's entry among the engine's timers
        self.equip(program)

    def equip(self, program: Program) -> None:
        """Begin anew with a kind's signals, cells and rules."""
        self.program = program
        self.recent = array("q")
        self.most = MOST_RECENT
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
        self.latest = array("d", bytes(8 * len(program.names)))
        self.packed: tuple[int, ...] = ()  # signals of `newest` that are not unpacked yet
        self.layout: Layout | None = None  # of the messages that `plan` takes
        self.rows = array("d")  # time and numbers of messages that windows have not taken yet
        self.ahead = NONE  # window → of these, messages that it has taken because it was asked
        self.bounds: tuple[Any, ...] | None = None  # None: the next message is looked at
        self.rolls = NEVER  # so is one of this device time or later
        self.limit = 0  # and this many numbers in `rows` are the most
        self.pending: dict[int, tuple[int, int]] = {}  # rule → began, position: true, not for long enough
        self.open: dict[int, tuple[int, int]] = {}  # rule → began, position: an episode
        self.cold: tuple[int, ...] = ()  # cells that know less of the past than they could
        self.due = FIRST  # a reading of this device time or later brings something to its end
        self.wake = NEVER  # so does this device time alone
        self.low = FIRST  # an offset below this makes that earlier than `heaped`

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
        numbers, packed, newest, rows = self.program.numbers, self.packed, self.newest, self.rows
        latest = rows[-len(packed) :] if rows else [self.latest[slot] for slot in packed]
        for slot, number in zip(packed, latest, strict=True):
            if numbers[slot]:
                self.values[slot] = number
            self.times[slot] = newest
        self.packed = ()

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
        self.recent.fromlist([*map(int, times)])
        if len(self.recent) > self.most:
            self.forget()
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
        self.recent.append(ts)
        if len(self.recent) > self.most:
            self.forget()
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
        layout, guards, bounds = cast("Layout", self.layout), self.guards, list[Any]()
        if layout.plain:
            ends = tuple([end for slot in layout.slots for end in guards[slot]])
            self.bounds, self.rolls = self.program.shared_bounds(ends), NEVER
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
        self.bounds = tuple(bounds)
        self.limit = most * layout.width
        return self.bounds

    def rebound(self, moved: Sequence[int]) -> None:
        """The same where only these signals' guards have moved, and no window is compared with a level."""
        if self.bounds is None:
            self.tighten()
            return
        layout, numbers = cast("Layout", self.layout), self.program.numbers
        bounds: list[Any] = [*self.bounds]
        for slot in moved:
            at = layout.places[slot]
            if numbers[slot]:
                bounds[at], bounds[at + 1] = self.guards[slot]
            else:
                bounds[at] = self.guards[slot]
        ends = tuple(bounds)
        self.bounds = self.program.shared_bounds(ends) if layout.plain else ends

    @property
    def passed(self) -> int:
        """Device time up to which there is nothing left to look at."""
        return self.seen if self.looked == self.newest else self.newest

    def device_time(self, received: int) -> int:
        """The device's own time, ms, at a receive time: its newest reading's plus what has passed since."""
        return received - self.offset

    # --- timestamps that were seen, with the signals that came with each

    def saw(self, mask: int) -> None:
        """What comes from now on brings these signals, as bits by slot."""
        while self.recent and self.recent[-1] < 0:  # with those before, nothing came
            self.recent.pop()
        if mask == 0:
            self.recent.append(-1)
        for part in range(0, mask.bit_length(), _BITS):
            self.recent.append(-1 - ((part // _BITS) << _BITS | (mask >> part) & ((1 << _BITS) - 1)))

    def _seen(self) -> Iterator[tuple[int, int]]:
        """(ts, mask) of all that is known, the oldest first."""
        mask, before = 0, 0
        for entry in self.recent:
            if entry < 0:
                part, bits = divmod(-1 - entry, 1 << _BITS)
                mask = (mask if before < 0 else 0) | bits << (part * _BITS)
            else:
                yield entry, mask
            before = entry

    def brought(self, ts: int) -> int:
        """The signals that have come with a timestamp already, as bits by slot."""
        recent, found, at = self.recent, 0, -1
        while True:
            try:
                at = recent.index(ts, at + 1)
            except ValueError:
                return found
            found |= self._mask_at(at)

    def _mask_at(self, at: int) -> int:
        """The signals that came with the timestamp at this place."""
        recent, mask = self.recent, 0
        while recent[at] >= 0:
            at -= 1
        while at >= 0 and recent[at] < 0:
            part, bits = divmod(-1 - recent[at], 1 << _BITS)
            mask |= bits << (part * _BITS)
            at -= 1
        return mask

    def forget(self) -> None:
        """Keep the newest timestamps only."""
        recent = self.recent
        if recent[0] < 0 <= min(recent[1:]):  # all of them with the same signals
            del recent[1:-TIMESTAMPS]
        else:
            times = [at for at, entry in enumerate(recent) if entry >= 0]
            if len(times) > TIMESTAMPS:
                oldest = times[-TIMESTAMPS]
                mask = self._mask_at(oldest)
                del recent[:oldest]
                newer, self.recent = recent, array("q")
                self.saw(mask)
                self.recent += newer
        self.most = max(MOST_RECENT, len(self.recent) + MOST_RECENT - TIMESTAMPS)

    def remember(self, seen: list[tuple[int, int]]) -> None:
        """Begin with these."""
        self.recent, self.most, last = array("q"), MOST_RECENT, None
        for ts, mask in seen:
            if mask != last:
                self.saw(mask)
                last = mask
            self.recent.append(ts)

    def timestamps(self) -> list[tuple[int, list[int]]]:
        """By mask of signals, in order: what `remember` takes, for saving."""
        recent = self.recent
        if len(recent) > 1 and recent[0] < 0 <= min(recent[1:]):  # all of them with the same signals
            return [(self._mask_at(1), recent[1:][-TIMESTAMPS:].tolist())]
        groups: list[tuple[int, list[int]]] = []
        for ts, mask in list(self._seen())[-TIMESTAMPS:]:
            if not groups or groups[-1][0] != mask:
                groups.append((mask, []))
            groups[-1][1].append(ts)
        return groups


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
    state.newest, state.seen, state.looked, state.offset, state.wake = newest, seen, newest, offset, wake
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

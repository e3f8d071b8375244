"""The rules of one kind of device, made ready to run.

Most readings change nothing: 61 km/h after 60 leaves every threshold where it was. So each signal of a
device has a guard, the interval between the two nearest thresholds, and for each set of signals that
devices send together a function is generated that asks one question a signal: does the value lie in its
interval? Only where it does not are rules evaluated, and of these only the ones whose threshold was
crossed. The cost of a message does not depend on the number of threshold rules.

The same goes for means, extremes and counts over windows that are compared with a number: a mean below 90
stays there while what comes is below 90. Their signals' readings are counted once, for all windows together,
until a bucket ends or a reading leaves the interval in which it cannot change an answer.

All other rules are evaluated whenever one of their signals arrives, in the same generated function.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from rules.catalogue import Rule
from rules.cells import Kept, Peer, PeerGroup, Phase, Previous, Usage
from rules.expressions import Call, Cell, Expression, Term, leaves, side
from rules.generate import Generator, Test, Wake, asks_itself
from rules.reach import reachable
from rules.readings import LARGEST, USABLE, Known, Value
from rules.signals import Catalogue, Signal
from rules.state import EMPTY, MOST_RECENT, NOTHING
from rules.windows import FIRST, NEVER, Histogram, Series, Trend, Window
from rules.world import World

if TYPE_CHECKING:
    from rules.state import DeviceState

Plan: TypeAlias = "Callable[[DeviceState, int, int, int, Mapping[str, Value]], None]"
"""(state, position, received, ts, signals): takes one message's readings of one time."""

Failed: TypeAlias = Callable[[str], Callable[[], None]]

MOST_PLANS = 256
"""Generated functions a kind keeps, one for each set of signals that came often."""

MOST_SEEN = 4_096
"""Sets of signals that are counted."""

MOST_VIEWS = 64
"""Sets of rules a kind tells apart by what its devices have sent; all others run all rules."""

MOST_BOUNDS = 1_024
"""Different bounds of messages that devices share."""

TOGETHER = 128
"""Readings that are counted before windows get them: a mean's room to move is shared among so many."""

_NAMES = {"s": "state", "V": "state.values", "T": "state.times", "C": "state.cells", "at": "ts"}
"""What generated conditions call the device's state, and parts of it."""
_HERE = "    # names"
"""Where a plan gives those names that what follows uses."""
_TOUCH = "touched = touched or set(); touched"
_AGE = re.compile(r"C\[\d+\]\.age\(at\)")

_ROUNDING = 1e-9
"""Relative error that a sum of many readings may have, with room to spare."""


@dataclass(slots=True)
class RunningRule:
    """A rule with its functions and its places in its kind's program."""

    rule: Rule
    slot: int
    id: str
    for_ms: int
    fingerprint: int  # of what the condition means
    when: Test
    untrue: Test  # whether `when` is surely false, not only unknown
    over: Test  # whether an open episode ends: never while `when` is true
    wake: Wake  # when time alone can change that
    timed: bool  # its truth can change by time alone
    clocked: bool  # and that is waited for
    ends_silence: bool  # any message can change it
    loose: set[int]  # its signals, if it is evaluated with each of their readings; else guards tell when
    signals: tuple[int, ...]  # slots of all it mentions
    above: bool | None  # waits for its `for` while one value is at a threshold or above; or below; None: more
    evidence: tuple[tuple[str, int], ...]  # name and slot of the signals of `when`
    cells: tuple[int, ...]  # slots of what it needs of the past
    clear_cuts: Mapping[int, tuple[float, ...]]  # by signal slot, of `clear`

    @property
    def names(self) -> frozenset[str]:
        """The signals it mentions."""
        return frozenset(name for e in self.expressions for name in e.signals)

    @property
    def expressions(self) -> list[Expression]:
        """`when`, and `clear` if it has one."""
        return expressions_of(self.rule)


@dataclass(frozen=True, slots=True)
class PhaseTest:
    """The condition of a `held`, `times` or `since`."""

    cell: int
    term: Term
    signals: frozenset[int]
    rules: frozenset[int]
    test: Test
    untrue: Test


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """How the messages of one plan wait: one packed; or where windows take them, their time, then one number
    for each known signal."""

    slots: tuple[int, ...]
    plain: bool  # only numbers that are compared with thresholds
    width: int
    row: struct.Struct  # a packed message: ts, receive time, one number for each known signal
    windows: tuple[tuple[int, int], ...]  # (column, slot) of the signals that windows take from there
    columns: Mapping[int, int]  # by cell: the column of such a window's signal
    bounds: tuple[
        tuple[int, bool, bool], ...
    ]  # of each signal: slot, whether a number, whether it has a Series
    places: Mapping[int, int]  # by signal: where its bounds stand
    looks: bool  # windows have to be looked at besides
    shares: bool  # bounds are but thresholds, so that many devices have the same
    others: tuple[int, ...]  # windows of other signals, which lose something by time
    mentioning: frozenset[int]  # rules that mention one of the signals


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """The rules that can become true for devices that have sent certain signals; and what they need."""

    rules: frozenset[int]
    phases: tuple[PhaseTest, ...]
    clocked: tuple[RunningRule, ...]


def expressions_of(rule: Rule) -> list[Expression]:
    """`when`, and `clear` if the rule has one."""
    return [e for e in (rule.when, rule.clear) if e is not None]


class Program:
    """All rules of a kind. `names`, `cells` and `rules` are numbered; the numbers are called slots."""

    def __init__(
        self,
        kind: str | None,
        rules: Iterable[Rule],
        catalogue: Catalogue,
        failed: Failed,
        world: World,
        groups: dict[tuple[str | None, str | None, str], PeerGroup],
    ) -> None:
        self.kind = kind
        self.world = world
        self._groups = groups
        rules = tuple(rules)
        expressions = [e for rule in rules for e in expressions_of(rule)]
        mentioned = [name for e in expressions for name in e.signals] + [n for r in rules for n in r.resets]
        self.names: list[str] = list(dict.fromkeys(mentioned))
        self.signals = [cast(Signal, catalogue.signal(kind or "", name)) for name in self.names]
        self.slots: dict[str, int] = {
            alias: slot for slot, signal in enumerate(self.signals) for alias in (signal.name, *signal.vss)
        }
        self.numbers = [signal.type == "number" for signal in self.signals]
        self.usable: list[Callable[[object], Known | None]] = [USABLE[s.type] for s in self.signals]
        self._number_cells(expressions)
        self.first_guards: list[Any] = [EMPTY if number else NOTHING for number in self.numbers]
        self.no_plan: Plan = _no_plan
        self.room = 2 + len(self.names)  # what a message takes at most, beside timestamps
        self.no_timestamps = array("q", bytes(8 * (MOST_RECENT + self.room)))
        self._bounds: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.plans: dict[tuple[View, tuple[str, ...]], tuple[Plan, Layout]] = {}
        self._seen: dict[tuple[View, tuple[str, ...]], int] = {}  # how often
        self.rules = self._compile(rules, failed)
        self.by_id = {rule.id: rule for rule in self.rules}
        self.phases = self._phases(failed)
        self._share()
        self._cross_reference()
        self.clocked = tuple(rule for rule in self.rules if rule.clocked)
        self.whole = self._view(range(len(self.rules)), {phase.cell for phase in self.phases})
        self._views: dict[tuple[frozenset[int], frozenset[int]], View] = {}
        self._view_of: dict[int, View] = {}
        self.peers = tuple(slot for slot, cell in enumerate(self.cells) if cell[0] == "peer")

    # --- what is kept of the past

    def _number_cells(self, expressions: list[Expression]) -> None:
        """A trend of a span serves as its window, too."""
        wanted = dict.fromkeys(cell for e in expressions for cell in e.cells)
        self.cells: list[Cell] = [
            cell for cell in wanted if cell[0] != "window" or ("trend", *cell[1:]) not in wanted
        ]
        self.cell_slots: dict[Cell, int] = {cell: slot for slot, cell in enumerate(self.cells)}
        for cell in wanted:
            if cell not in self.cell_slots:
                self.cell_slots[cell] = self.cell_slots["trend", cell[1], cell[2]]
        self.makers = [self._maker(cell) for cell in self.cells]
        self.cells_of: list[list[int]] = [
            [slot for slot, cell in enumerate(self.cells) if cell[0] != "state" and cell[1] == name]
            for name in self.names
        ]

    def _maker(self, cell: Cell) -> Callable[[Any], Kept]:
        what, of, span = cell
        match what:
            case "window":
                return lambda state: Window(span)
            case "trend":
                return lambda state: Trend(span)
            case "histogram":
                low, high = self.signals[self.slots[of]].range or (0.0, 1.0)
                return lambda state: Histogram(span, low, high)
            case "previous":
                return lambda state: Previous()
            case "usage":
                return lambda state: Usage()
            case "peer":
                return lambda state: Peer(self.group(state.model, of))
        return lambda state: Phase(span)

    def group(self, model: str | None, signal: str) -> PeerGroup:
        """The devices of this kind and of a model, for one signal."""
        return self._groups.setdefault((self.kind, model, signal), PeerGroup())

    def _share(self) -> None:
        """By signal: the windows that get their readings together, if no comparison needs each of them, and
        no rule can mostly be told without them. What is compared with a level otherwise is so with every
        reading."""
        single = {
            rule.slot
            for rule in self.rules
            if rule.clocked or any(e.loose or (e.levels and e.cheap) for e in rule.expressions)
        }
        trends = {cell[1:] for cell in self.cells if cell[0] == "trend"}
        direct = {self.slots[of] for what, of, _ in self.cells if what == "trend"}
        direct |= {slot for phase in self.phases for slot in phase.signals}
        growing = True
        while growing:
            growing = False
            for rule in self.rules:
                windows = {
                    self.slots[self.cells[cell][1]] for cell in rule.cells if self.cells[cell][0] == "window"
                }
                if (
                    rule.slot in single
                    or windows & direct
                    or any(self.cells[c][1:] in trends for c in rule.cells)
                ):
                    rule.loose = set(rule.signals)
                    growing = growing or not windows <= direct
                    direct |= windows
        self.shared: list[tuple[int, ...]] = [
            ()
            if slot in direct
            else tuple(cell for cell in self.cells_of[slot] if self.cells[cell][0] == "window")
            for slot in range(len(self.names))
        ]
        self.series_of: list[int | None] = [None] * len(self.cells)
        for slot, cells in enumerate(self.shared):
            for cell in cells:
                self.series_of[cell] = slot
        self.blank: list[Any] = [
            make(None) if cell[0] != "peer" else None
            for make, cell in zip(self.makers, self.cells, strict=True)
        ]
        self.blank_series = [
            Series([self.blank[cell] for cell in cells]) if cells else None for cells in self.shared
        ]
        self.windows_of = [
            [cell for cell in cells if self.cells[cell][0] in ("window", "trend", "histogram")]
            for cells in self.cells_of
        ]
        self._window_bits = [
            (cell, 1 << slot) for slot, cells in enumerate(self.windows_of) for cell in cells
        ]
        self.takers: list[tuple[int, ...]] = [
            tuple(cell for cell in cells if cell not in self.shared[slot])
            for slot, cells in enumerate(self.cells_of)
        ]
        self.queued = [
            [cell for cell in cells if self.cells[cell][0] in ("window", "trend")] for cells in self.cells_of
        ]
        self.prompt = [
            [cell for cell in cells if cell not in queued]
            for cells, queued in zip(self.cells_of, self.queued, strict=True)
        ]

    # --- functions

    def _compile(self, rules: tuple[Rule, ...], failed: Failed) -> list[RunningRule]:
        generator = Generator(self.slots, self.cell_slots, self.world)
        names: dict[str, Any] = {}
        for slot, rule in enumerate(rules):
            names[f"failed{slot}"] = failed(rule.id)
            generator.add(f"over{slot}", over_code(generator, rule), f"failed{slot}")
            generator.add(f"when{slot}", generator.true(rule.when), f"failed{slot}")
            generator.add(f"untrue{slot}", generator.false(rule.when), f"failed{slot}")
            generator.add(f"wake{slot}", wake_code(generator, rule, slot), f"failed{slot}", "1 << 62")
        functions = generator.functions(names)
        return [self._running(rule, slot, functions) for slot, rule in enumerate(rules)]

    def _running(self, rule: Rule, slot: int, functions: Mapping[str, Any]) -> RunningRule:
        both = expressions_of(rule)
        mentioned = dict.fromkeys(self.slots[name] for e in both for name in e.signals)
        cuts = rule.clear.cuts if rule.clear is not None else {}
        clocked = any(e.clocked for e in both)
        silences = (leaf for e in both for leaf in leaves(e.term) if isinstance(leaf, Call))
        return RunningRule(
            rule=rule,
            slot=slot,
            id=rule.id,
            for_ms=rule.for_ms,
            fingerprint=_fingerprint(rule),
            when=functions[f"when{slot}"],
            untrue=functions[f"untrue{slot}"],
            over=functions[f"over{slot}"],
            wake=functions[f"wake{slot}"],
            timed=any(e.timed for e in both),
            clocked=clocked,
            ends_silence=any(leaf.function == "silent" for leaf in silences),
            loose=set(),
            signals=tuple(mentioned),
            above=None if clocked or not rule.for_ms else side(rule.when),
            evidence=tuple((name, self.slots[name]) for name in rule.when.signals),
            cells=tuple(dict.fromkeys(self.cell_slots[cell] for e in both for cell in e.cells)),
            clear_cuts={self.slots[name]: values for name, values in cuts.items()},
        )

    def _phases(self, failed: Failed) -> list[PhaseTest]:
        generator = Generator(self.slots, self.cell_slots, self.world)
        found: dict[int, tuple[Call, set[int]]] = {}
        for rule in self.rules:
            for leaf in (leaf for e in rule.expressions for leaf in leaves(e.term)):
                if isinstance(leaf, Call) and leaf.condition is not None:
                    span = leaf.span or 0 if leaf.function == "times" else 0
                    found.setdefault(self.cell_slots["state", leaf.text, span], (leaf, set()))[1].add(
                        rule.slot
                    )
        names: dict[str, Any] = {}
        for cell, (leaf, rules) in found.items():
            names[f"failed{cell}"] = failed(self.rules[min(rules)].id)
            condition = cast(Term, leaf.condition)
            generator.add(f"phase{cell}", generator.truth(condition), f"failed{cell}")
            generator.add(f"untrue{cell}", generator.untruth(condition), f"failed{cell}")
        functions = generator.functions(names)
        return [
            PhaseTest(
                cell,
                cast(Term, leaf.condition),
                frozenset(self.slots[signal.name] for signal in leaf.signals),
                frozenset(rules),
                functions[f"phase{cell}"],
                functions[f"untrue{cell}"],
            )
            for cell, (leaf, rules) in found.items()
        ]

    def _cross_reference(self) -> None:
        """By signal: where its guarded rules' thresholds lie, and which rules it can change."""
        count = len(self.names)
        cuts: list[list[tuple[float, int]]] = [[] for _ in range(count)]
        self.guarded_of: list[list[int]] = [[] for _ in range(count)]
        self.general_of: list[list[int]] = [[] for _ in range(count)]
        self.level_rules: list[list[int]] = [[] for _ in range(count)]
        levels: list[dict[int, dict[str, set[float]]]] = [{} for _ in range(count)]
        self.rules_of: list[list[int]] = [[] for _ in self.cells]
        for rule in self.rules:
            for cell in rule.cells:
                self.rules_of[cell].append(rule.slot)
            for slot in rule.signals:
                (self.general_of if slot in rule.loose else self.guarded_of)[slot].append(rule.slot)
            if rule.loose:
                continue
            for name, values in rule.rule.when.cuts.items():
                cuts[self.slots[name]] += [(value, rule.slot) for value in values]
            for level in (level for e in rule.expressions for level in e.levels):
                slot, cell = self.slots[level.cell[1]], self.cell_slots[level.cell]
                if cell in self.shared[slot]:
                    levels[slot].setdefault(cell, {}).setdefault(level.function, set()).add(level.cut)
                    if rule.slot not in self.level_rules[slot]:
                        self.level_rules[slot].append(rule.slot)
        self.levels = [
            [
                (cell, [(function, sorted(cuts)) for function, cuts in of.items()])
                for cell, of in by_cell.items()
            ]
            for by_cell in levels
        ]
        self.levelled = any(self.levels)
        ordered = [sorted(pairs) for pairs in cuts]
        self.cuts = [[value for value, _ in pairs] for pairs in ordered]
        self.owners = [[rule for _, rule in pairs] for pairs in ordered]
        self.ranges = [
            list(zip([-LARGEST, *values], [*values, LARGEST], strict=True)) for values in self.cuts
        ]

    # --- guards

    def cross(self, state: DeviceState, slot: int, value: Known | None) -> Sequence[int]:
        """Set a signal's guard to what changes nothing from now on.

        Returns the guarded rules that its change to `value` can have changed; those with an open
        episode are not looked at.
        """
        guards = state.guards
        if value is None or not self.numbers[slot]:
            nothing = EMPTY if self.numbers[slot] else NOTHING
            guards[slot] = nothing if value is None else list(value) if isinstance(value, tuple) else value
            return self.guarded_of[slot]
        number: float = value  # type: ignore[assignment]  # as `numbers` says
        before, known = guards[slot], state.values[slot]
        last = bisect_right(self.cuts[slot], number)
        guards[slot] = self.ranges[slot][last]
        if state.open:
            guards[slot] = self._narrowed(state, slot, number)
        if before is EMPTY:
            return self.guarded_of[slot]
        first = bisect_right(self.cuts[slot], known)  # type: ignore[type-var]  # None only behind EMPTY
        return self.owners[slot][first:last] if first <= last else self.owners[slot][last:first]

    def shared_bounds(self, bounds: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same bounds as one object for all devices: so there is less memory to touch with a message."""
        if len(self._bounds) >= MOST_BOUNDS:
            self._bounds.clear()
        return self._bounds.setdefault(bounds, bounds)

    def narrow(self, state: DeviceState, slot: int) -> None:
        """Set a number's guard anew after an episode has begun or ended; one that lets nothing pass stays."""
        if self.numbers[slot] and state.guards[slot] is not EMPTY:
            self.cross(state, slot, state.values[slot])
            state.bounds = None

    def _narrowed(self, state: DeviceState, slot: int, value: float) -> tuple[float, float]:
        """The guard, where open episodes also wait for their `clear`."""
        low, high = state.guards[slot]
        for rule in state.open:
            cuts = self.rules[rule].clear_cuts.get(slot)
            if cuts:
                low, high = _between(cuts, value, low, high)
        return low, high

    def steady(self, state: DeviceState, slot: int, changed: Sequence[Window]) -> bool:
        """Note which readings of a signal cannot change what rules make of its windows, of which these have
        changed. Gives whether one of them may now be on another side of a level."""
        series, other = cast(Series, state.series[slot]), False
        if all(window.calm or window in changed for window in series.windows):
            series.most = TOGETHER
        for cell, levels in self.levels[slot]:
            window = cast(Window, state.cells[cell])
            if window in changed:
                before, window.sides = window.sides, ()
                window.floor, window.ceiling, window.calm = -LARGEST, LARGEST, True
                for function, cuts in levels:
                    series.most = min(series.most, _room(window, function, cuts))
                other = other or window.sides != before or -1 in before
        series.floor = max([window.floor for window in series.windows])
        series.ceiling = min([window.ceiling for window in series.windows])
        series.end = min([NEVER if window.calm else window.expiry for window in series.windows])
        return other

    def turn(
        self, state: DeviceState, ts: int, signals: frozenset[int] | set[int], touched: set[int]
    ) -> None:
        """Bring phases up to date after readings of these signals; adds the rules that ask about them."""
        for phase in self.phases:
            if phase.signals & signals:
                kept, on = cast(Phase, state.cells[phase.cell]), phase.test(state, ts)
                if on is not kept.on:
                    state.own(phase.cell).turn(ts, on)
                touched.update(phase.rules)

    def turn_late(
        self, state: DeviceState, ts: int, readings: Mapping[str, Value], touched: set[int]
    ) -> None:
        """What late readings say of phases: it was false in between, or true later than was known."""
        signals = {self.slots[name] for name in readings if name in self.slots}
        for phase in self.phases:
            kept = cast(Phase, state.cells[phase.cell])
            if not phase.signals & signals or ts <= kept.since:
                continue
            if self.as_if(state, phase.untrue if kept.on else phase.test, ts, readings):
                kept = state.own(phase.cell)
                kept.since, kept.ever = ts, True
                touched.update(phase.rules)

    def as_if(self, state: DeviceState, test: Test, ts: int, readings: Mapping[str, Value]) -> bool:
        """Whether that was so at a time past at which a device reported this; what it has reported of other
        signals since then is unknown, and its windows are as they are."""
        values, times = state.values, state.times
        state.values = [None if time > ts else value for value, time in zip(values, times, strict=True)]
        state.times = list(times)
        for name, raw in readings.items():
            slot = self.slots.get(name)
            if slot is not None:
                state.values[slot], state.times[slot] = self.usable[slot](raw), ts
        try:
            return test(state, ts)
        finally:
            state.values, state.times = values, times

    # --- signals as bits

    def mask_of(self, names: Iterable[str]) -> int:
        """One bit for each known signal."""
        mask = 0
        for name in names:
            slot = self.slots.get(name)
            if slot is not None:
                mask |= 1 << slot
        return mask

    def names_of(self, mask: int) -> list[str]:
        """The signals of a mask."""
        return [name for slot, name in enumerate(self.names) if mask >> slot & 1]

    # --- plans

    def view(self, state: DeviceState) -> View:
        """The rules that can become true before another signal comes for the first time, and those of which
        something is noted. A device keeps it until then."""
        if state.view is None:
            known = state.known = self._known(state)
            view = self._view_of.get(known)
            if view is None:
                if len(self._view_of) >= MOST_PLANS:
                    self._view_of.clear()
                view = self._view_of[known] = self._seen_with(frozenset(self.names_of(known)))
            noted = state.open.keys() | state.pending.keys()
            state.view = view if noted <= view.rules else self.whole
        return state.view

    def _known(self, state: DeviceState) -> int:
        """The signals that a device has sent, as bits by slot; what a store knows of counts, too."""
        known, cells, blank = 0, state.cells, self.blank
        for slot, ts in enumerate(state.times):
            if ts != FIRST:
                known |= 1 << slot
        for cell, bit in self._window_bits:
            if cells[cell] is not blank[cell]:
                known |= bit
        return known

    def _seen_with(self, known: frozenset[str]) -> View:
        rules = frozenset(r.slot for r in self.rules if reachable(r.rule.when.term, True, known))
        phases = frozenset(phase.cell for phase in self.phases if reachable(phase.term, True, known))
        view = self._views.get((rules, phases))
        if view is None:
            if len(self._views) >= MOST_VIEWS:
                return self.whole
            view = self._views[rules, phases] = self._view(rules, phases)
        return view

    def _view(self, rules: Collection[int], phases: Collection[int]) -> View:
        return View(
            frozenset(rules),
            tuple(phase for phase in self.phases if phase.cell in phases),
            tuple(rule for rule in self.clocked if rule.slot in rules),
        )

    def plan(
        self, view: View, names: tuple[str, ...], calls: Mapping[str, Any]
    ) -> tuple[Plan, Layout] | None:
        """The function for messages with exactly these signals; None while it does not pay.

        It is generated when they have come as often as there are rules to be put into it, and once more at
        least: so a device that invents names, or leaves out another signal each time, costs no more than
        others. The one that was not looked for longest makes room.
        """
        key = view, names
        found = self.plans.pop(key, None)
        if found is None:
            times = self._seen.pop(key, 0)
            if times <= self._inlined(view, names):
                self._seen[key] = times + 1
                if len(self._seen) > MOST_SEEN:
                    del self._seen[next(iter(self._seen))]
                return None
            layout = self._layout(view, names)
            found = _generate(self, view, layout, names, calls), layout
            if len(self.plans) >= MOST_PLANS:
                del self.plans[next(iter(self.plans))]
        self.plans[key] = found
        return found

    def _inlined(self, view: View, names: Sequence[str]) -> int:
        """How many rules a plan is made of."""
        slots = (self.slots[name] for name in names if name in self.slots)
        return len(view.rules & {rule for slot in slots for rule in self.general_of[slot]})

    def _layout(self, view: View, names: tuple[str, ...]) -> Layout:
        slots = tuple(dict.fromkeys(self.slots[name] for name in names if name in self.slots))
        windows = tuple((column, slot) for column, slot in enumerate(slots, 1) if self.queued[slot])
        others = tuple(self._others(view, slots))
        looks = bool(others) or any(self.shared[slot] for slot in slots)
        shares = not looks and all(self.numbers[slot] for slot in slots)
        return Layout(
            slots=slots,
            plain=shares and not windows,
            width=1 + len(slots),
            row=struct.Struct(f"qq{len(slots)}d"),
            windows=windows,
            columns={cell: column for column, slot in windows for cell in self.queued[slot]},
            bounds=tuple((slot, self.numbers[slot], bool(self.shared[slot])) for slot in slots),
            places=dict(
                zip(slots, accumulate([1 + self.numbers[s] for s in slots], initial=0), strict=False)
            ),
            looks=looks,
            shares=shares,
            others=others,
            mentioning=frozenset(r.slot for r in self.rules if not set(slots).isdisjoint(r.signals)),
        )

    def _others(self, view: View, slots: Sequence[int]) -> list[int]:
        """What rules that mention one of these signals keep of others, and lose by time."""
        rules = {rule for slot in slots for rule in self.guarded_of[slot] + self.general_of[slot]}
        cells = {cell for rule in rules & view.rules for cell in self.rules[rule].cells}
        kept = (cell for cell in cells if self.cells[cell][0] in ("window", "trend"))
        return sorted(cell for cell in kept if self.slots[self.cells[cell][1]] not in slots)


def wake_code(generator: Generator, rule: Rule, slot: int) -> str:
    """Code for the next time at which a rule can change without a reading: while an episode is open, whether
    it ends; else whether it is true."""
    when = generator.wake(rule.when)
    ends = when if rule.clear is None else f"least(at, {when}, {generator.wake(rule.clear)})"
    return f"{ends} if {slot} in s.open else {generator.turns(rule.when)}"


def over_code(generator: Generator, rule: Rule) -> str:
    """Code that is True when an open episode of the rule ends."""
    if rule.clear is None:
        return generator.false(rule.when)
    return f"{generator.true(rule.clear)} and not {generator.true(rule.when)}"


def _between(
    cuts: list[float] | tuple[float, ...], value: float, low: float, high: float
) -> tuple[float, float]:
    at = bisect_right(cuts, value)
    return max(low, cuts[at - 1]) if at else low, min(high, cuts[at]) if at < len(cuts) else high


def _room(window: Window, function: str, cuts: Sequence[float]) -> int:
    """Narrow a window's `floor` and `ceiling` to the readings that leave a function of it between the same
    two levels, however they come; gives how many of them do. Adds to its `sides` where it is now: how many
    of the levels it has reached, -1 if that is not known.

    Where all its readings lie between the same two levels it is calm: whichever leave, it stays there.
    """
    n = window.past_n + window.n
    if function == "count":
        window.calm = False
        side = bisect_right(cuts, n)
        window.sides += (side,)
        return math.ceil(cuts[side]) - n - 1 if side < len(cuts) else TOGETHER
    if window.stale:
        window.renew()
    low, high = min(window.low, window.past_low), max(window.high, window.past_high)
    value = high if function == "max" else low if function == "min" else window._sum() / n if n else 0.0
    side = bisect_right(cuts, value)
    below, above = cuts[side - 1] if side else -LARGEST, cuts[side] if side < len(cuts) else LARGEST
    if n and below <= low and high < above:
        window.sides += (side,)
        window.floor, window.ceiling = max(window.floor, below), min(window.ceiling, above)
        return TOGETHER
    window.calm = False
    if function == "avg" and n:
        error = _ROUNDING * (abs(value) + abs(low) + abs(high))
        below, above = below + error, above - error
        if not below < value < above:
            n = 0
        share = n / TOGETHER
        below -= (value - below) * share
        above += (above - value) * share
    window.sides += (side if n else -1,)
    if not n:
        window.floor, window.ceiling = LARGEST, -LARGEST
    elif function != "max":
        window.floor = max(window.floor, below)
    if function != "min" and n:
        window.ceiling = min(window.ceiling, above)
    return TOGETHER


def _fingerprint(rule: Rule) -> int:
    text = f"{rule.when.text}\0{rule.for_ms}\0{rule.clear.text if rule.clear else ''}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())


def _no_plan(state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]) -> None:
    raise AssertionError("replaced by the engine")


def _generate(
    program: Program, view: View, layout: Layout, names: tuple[str, ...], calls: Mapping[str, Any]
) -> Plan:
    """Source of the plan:

    - is it the set of signals this is for? else `other`
    - is it late, or a repetition? then `settle`
    - does each value lie within its bounds, and is nothing due? else `moved` tells which rules that can
      change; or the message goes to `odd`, if a value in it is not usable
    - it waits for the windows
    - rules without guards are asked whether they have changed
    - `again` for the rules that may have; timers: has something that was waited for come to its end?
    """
    by_slot = {program.slots[name]: number for number, name in enumerate(names) if name in program.slots}
    known = [(number, slot) for slot, number in by_slot.items()]
    generator = _local_generator(program, known)
    source = [
        "def plan(state, position, received, ts, signals):",
        *_newest(layout),
        f"    if len(signals) != {len(names)}: return other(state, position, received, ts, signals)",
        "    try:",
        *(f"        v{number} = signals[{name!r}]" for number, name in enumerate(names)),
        "        pass",
        "    except KeyError:",
        "        return other(state, position, received, ts, signals)",
        "    if ts <= newest: return settle(state, position, received, ts, signals)",
        *_guards(program, layout, known),
        *_named([*_general(program, view, known, generator), *_renewed(program, view, known, generator)]),
        "    if touched: return again(state, position, received, touched)",
        "    due, low = state.waits",
        "    if ts >= due or received - ts < low: timers(state, position, received)",
    ]
    scope: dict[str, Any] = {
        "__builtins__": {b.__name__: b for b in (Exception, KeyError, TypeError, float, int, len, set)},
        **generator.names,
        **calls,
        "pack": struct.Struct(f"{layout.width}d").pack,
        "pack_into": layout.row.pack_into,
    }
    exec(compile("\n".join(source), "<plan>", "exec"), scope)
    return cast(Plan, scope["plan"])


def _local_generator(program: Program, known: list[tuple[int, int]]) -> Generator:
    local = {slot: f"v{number}" for number, slot in known}
    return Generator(program.slots, program.cell_slots, program.world, local)


def _passes(program: Program, number: int, slot: int) -> str:
    """Whether a value changes nothing. Raises TypeError where a text came instead of a number."""
    v = f"v{number}"
    if program.numbers[slot]:
        return f"low{number} <= {v} < high{number} and {v} is not True and {v} is not False"
    return f"{v} is low{number}" if program.usable[slot] is USABLE["boolean"] else f"low{number} == {v}"


def _guards(program: Program, layout: Layout, known: list[tuple[int, int]]) -> list[str]:
    bounds = "".join(
        f"low{number}, high{number}, " if program.numbers[slot] else f"low{number}, "
        for number, slot in known
    )
    rolls = [] if layout.plain and known else ["ts < state.rolls"]
    quiet = " and ".join([*rolls, *(_passes(program, *pair) for pair in known)])
    return [
        f"    {bounds}= state.bounds or state.tighten()" if bounds else "    pass",
        "    try:",
        f"        quiet = {quiet}",
        "    except TypeError:",  # a text came instead of a number
        "        quiet = False",
        "    touched = None",
        "    if not quiet:",
        "        out = []",
        *(line for pair in known for line in _fails(program, *pair)),
        "        if out and not fit(state, ts, out): return odd(state, position, received, ts, signals)",
        *_kept(program, layout, known),
        "    if not quiet: touched = moved(state, position, ts, out)",
        *(["    elif len(rows) >= state.limit: state.flush()"] if layout.windows else []),
        *(
            f"    state.own({cell}).add(ts, {_number(program, number, slot)}, ts)"
            for number, slot in known
            for cell in program.prompt[slot]
        ),
    ]


def _fails(program: Program, number: int, slot: int) -> list[str]:
    """One value of a message of which at least one does not pass."""
    v, passes = f"v{number}", _passes(program, number, slot)
    if program.numbers[slot]:
        passes = f"({v}.__class__ is float or {v}.__class__ is int) and low{number} <= {v} < high{number}"
    return [f"        if not ({passes}): out.append(({slot}, {v}))"]


def _newest(layout: Layout) -> list[str]:
    """The newest reading's time; where messages are packed that is the last one's. It is asked for first, and
    compared later: meanwhile it comes from memory."""
    if layout.windows:
        return ["    newest = state._newest"]
    return ["    at = state.at", "    newest = state[at - 1]"]


def _kept(program: Program, layout: Layout, known: list[tuple[int, int]]) -> list[str]:
    """The message waits for the windows; without any, only the newest is needed."""
    row = "".join(f", {_number(program, number, slot)}" for number, slot in known)
    if layout.windows:
        return [
            "    state._newest, state._received, state.packed = ts, received, True",
            f"    rows = state.rows; rows.frombytes(pack(ts{row}))",
        ]
    return [
        f"    pack_into(state, at * 8, ts, received{row})",
        "    state.at = at = at + 1",
        "    state.packed = True",
        "    if at > state.most: state.forget()",
    ]


def _number(program: Program, number: int, slot: int) -> str:
    """What windows take of a value."""
    return f"v{number}" if program.numbers[slot] else "0.0"


def _general(program: Program, view: View, known: list[tuple[int, int]], generator: Generator) -> list[str]:
    """Rules without guards: is what they are now still what was noted of them?"""
    slots = {slot for _, slot in known}
    rules = sorted({rule for slot in slots for rule in program.general_of[slot]} & view.rules)
    phases = [phase for phase in view.phases if phase.signals & slots]
    if not rules and not phases:
        return []
    return [
        _HERE,
        "    O = state.open; P = state.pending",
        "    try:",
        *(line for phase in phases for line in _turned(phase, generator)),
        "        if O or P:",
        *(line for rule in rules for line in _other(program, rule, generator)),
        "            pass",
        "        else:",
        *(line for rule in rules for line in _idle(program, rule, generator)),
        "            pass",
        "    except Exception:",  # to be counted where rules are evaluated one by one
        f"        {_TOUCH}.update({rules})",
    ]


def _named(lines: list[str]) -> list[str]:
    """Names are given to what is used. How long ago a signal came is asked once for all rules."""
    text = "\n".join(lines)
    used = [f"{name} = {of}" for name, of in _NAMES.items() if re.search(rf"\b{name}\b", text)]
    ages = [code for code, times in Counter(_AGE.findall(text)).items() if times > 1]
    for number, code in enumerate(ages):
        text = text.replace(code, f"age{number}")
    asked = [f"age{number} = {code}" for number, code in enumerate(ages)]
    text = text.replace(_HERE, "\n".join(f"    {line}" for line in (*used, *asked)), 1)
    return text.split("\n") if text else []


def _idle(program: Program, rule: int, generator: Generator) -> list[str]:
    """Whether a rule of which nothing is noted is true."""
    when = generator.true(program.rules[rule].rule.when)
    return [f"            if {when}: {_TOUCH}.add({rule})"]


def _other(program: Program, rule: int, generator: Generator) -> list[str]:
    """Whether what is noted of a rule has changed."""
    when, over = generator.true(program.rules[rule].rule.when), over_code(generator, program.rules[rule].rule)
    changed = f"({over}) if {rule} in O else {when} is not ({rule} in P)"
    return [f"            if ({changed}): {_TOUCH}.add({rule})"]


def _turned(phase: PhaseTest, generator: Generator) -> list[str]:
    c = f"C[{phase.cell}]"
    return [
        f"        on = {generator.truth(phase.term)}",
        f"        if on is not {c}.on:",
        f"            state.own({phase.cell}).turn(ts, on)",
        f"            {_TOUCH}.update({sorted(phase.rules)})",
    ]


def _renewed(program: Program, view: View, known: list[tuple[int, int]], generator: Generator) -> list[str]:
    """Rules that wait for time to pass: the message may have made true what has to be so besides, or have
    begun a span anew."""
    names = frozenset(program.names[slot] for _, slot in known)
    asked = []
    for rule in view.clocked:
        if any(asks_itself(e.term, names) for e in rule.expressions):
            so = generator.standing(rule.rule.when.term)
            asked += [f"            if {rule.slot} in state.open or {so}:"] if so else []
            asked += [f"            {'    ' if so else ''}waits.append({rule.slot})"]
    if not asked:
        return []
    return [
        _HERE,
        "    if ts < state.waits[0]:",
        "        waits = []",
        "        try:",
        *asked,
        "        except Exception:",
        "            waits = None",
        "        if waits != []: sooner(state, waits)",
    ]

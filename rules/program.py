"""The rules of one kind of device, made ready to run.

Most readings change nothing: 61 km/h after 60 leaves every threshold where it was. So each signal of a
device has a guard, the interval between the two nearest thresholds, and for each set of signals that
devices send together a function is generated that asks one question a signal: does the value lie in its
interval? Only where it does not are rules evaluated, and of these only the ones whose threshold was
crossed. The cost of a message does not depend on the number of threshold rules.

Rules over windows, or over arithmetic, are evaluated whenever one of their signals arrives, in the same
generated function.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from rules.catalogue import Rule
from rules.expressions import Expression
from rules.generate import Generator, Test, finite
from rules.readings import LARGEST, USABLE, Known, Value
from rules.signals import Catalogue, Signal
from rules.state import EMPTY, NOTHING

if TYPE_CHECKING:
    from rules.state import DeviceState

Plan: TypeAlias = "Callable[[DeviceState, int, int, int, Mapping[str, Value]], None]"
"""(state, position, received, ts, signals): takes one message's readings of one time."""

MOST_PLANS = 256
"""generated functions a kind keeps, one for each set of signals seen; then it begins anew"""


@dataclass(slots=True)
class RunningRule:
    """A rule with its functions and its places in its kind's program."""

    rule: Rule
    slot: int
    id: str
    for_ms: int
    fingerprint: int  # of what the condition means
    when: Test
    over: Test  # whether an open episode ends: never while `when` is true
    timed: bool  # its truth can change by time alone
    guarded: bool  # guards tell when it can change
    signals: tuple[int, ...]  # slots of all it mentions
    evidence: tuple[tuple[str, int], ...]  # name and slot of the signals of `when`
    windows: tuple[int, ...]  # slots of its windows
    clear_cuts: Mapping[int, tuple[float, ...]]  # by signal slot, of a guarded rule's `clear`


class Program:
    """All rules of a kind. `names`, `windows` and `rules` are numbered; the numbers are called slots."""

    def __init__(
        self,
        kind: str | None,
        rules: Iterable[Rule],
        catalogue: Catalogue,
        failed: Callable[[str], Callable[[], None]],
    ) -> None:
        self.kind = kind
        rules = tuple(rules)
        expressions = [e for rule in rules for e in (rule.when, rule.clear) if e is not None]
        mentioned = [name for e in expressions for name in e.signals] + [n for r in rules for n in r.resets]
        self.names: list[str] = list(dict.fromkeys(mentioned))
        signals = [cast(Signal, catalogue.signal(kind or "", name)) for name in self.names]
        self.slots: dict[str, int] = {
            alias: slot for slot, signal in enumerate(signals) for alias in (signal.name, *signal.vss)
        }
        self.numbers = [signal.type == "number" for signal in signals]
        self.usable: list[Callable[[object], Known | None]] = [USABLE[signal.type] for signal in signals]
        self.windows: list[tuple[str, int]] = list(
            dict.fromkeys((n, s) for e in expressions for w, n, s in e.cells if w == "window")
        )
        self.windows_of: list[list[int]] = [
            [slot for slot, (name, _) in enumerate(self.windows) if name == signal.name] for signal in signals
        ]
        self.first_guards: list[Any] = [EMPTY if number else NOTHING for number in self.numbers]
        self.no_plan: Plan = _no_plan
        self.plans: dict[tuple[str, ...], Plan] = {}
        self._seen: set[tuple[str, ...]] = set()
        self.rules = self._compile(rules, failed)
        self.by_id = {rule.id: rule for rule in self.rules}
        self._cross_reference()

    def _compile(
        self, rules: tuple[Rule, ...], failed: Callable[[str], Callable[[], None]]
    ) -> list[RunningRule]:
        generator = Generator(self.slots, {key: slot for slot, key in enumerate(self.windows)})
        names: dict[str, Any] = {}
        for slot, rule in enumerate(rules):
            names[f"failed{slot}"] = failed(rule.id)
            generator.add(f"over{slot}", over_code(generator, rule), f"failed{slot}")
            generator.add(f"when{slot}", generator.true(rule.when), f"failed{slot}")
        functions = generator.functions(names)
        return [
            self._running(rule, slot, functions[f"when{slot}"], functions[f"over{slot}"])
            for slot, rule in enumerate(rules)
        ]

    def _running(self, rule: Rule, slot: int, when: Test, over: Test) -> RunningRule:
        both: list[Expression] = [e for e in (rule.when, rule.clear) if e is not None]
        mentioned = dict.fromkeys(self.slots[name] for e in both for name in e.signals)
        cuts = rule.clear.cuts if rule.clear is not None else None
        return RunningRule(
            rule=rule,
            slot=slot,
            id=rule.id,
            for_ms=rule.for_ms,
            fingerprint=_fingerprint(rule),
            when=when,
            over=over,
            timed=any(e.timed for e in both),
            guarded=all(e.cuts is not None for e in both),
            signals=tuple(mentioned),
            evidence=tuple((name, self.slots[name]) for name in rule.when.signals),
            windows=tuple(
                dict.fromkeys(self.windows.index((n, s)) for e in both for w, n, s in e.cells if w == "window")
            ),
            clear_cuts={self.slots[name]: values for name, values in (cuts or {}).items()},
        )

    def _cross_reference(self) -> None:
        """By signal: where its guarded rules' thresholds lie, and which rules it can change."""
        count = len(self.names)
        cuts: list[list[tuple[float, int]]] = [[] for _ in range(count)]
        self.guarded_of: list[list[int]] = [[] for _ in range(count)]
        self.general_of: list[list[int]] = [[] for _ in range(count)]
        for rule in self.rules:
            for slot in rule.signals:
                (self.guarded_of if rule.guarded else self.general_of)[slot].append(rule.slot)
            for name, values in (rule.rule.when.cuts or {}).items() if rule.guarded else ():
                cuts[self.slots[name]] += [(value, rule.slot) for value in values]
        ordered = [sorted(pairs) for pairs in cuts]
        self.cuts = [[value for value, _ in pairs] for pairs in ordered]
        self.owners = [[rule for _, rule in pairs] for pairs in ordered]
        self.cells = [list(zip([-LARGEST, *values], [*values, LARGEST], strict=True)) for values in self.cuts]

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
        number, before = cast(float, value), guards[slot]
        last = bisect_right(self.cuts[slot], number)
        guards[slot] = self.cells[slot][last]
        if state.open:
            guards[slot] = self._narrowed(state, slot, number)
        if before is EMPTY:
            return self.guarded_of[slot]
        first = bisect_right(self.cuts[slot], before[0])
        return self.owners[slot][first:last] if first <= last else self.owners[slot][last:first]

    def narrow(self, state: DeviceState, slot: int) -> None:
        """Set a number's guard anew after an episode has begun or ended; one that lets nothing pass stays."""
        if self.numbers[slot] and state.guards[slot] is not EMPTY:
            self.cross(state, slot, state.values[slot])

    def _narrowed(self, state: DeviceState, slot: int, value: float) -> tuple[float, float]:
        """The guard, where open episodes also wait for their `clear`."""
        low, high = state.guards[slot]
        for rule in state.open:
            cuts = self.rules[rule].clear_cuts.get(slot)
            if cuts:
                low, high = _between(cuts, value, low, high)
        return low, high

    def plan(self, names: tuple[str, ...], calls: Mapping[str, Any]) -> Plan | None:
        """The function for messages with exactly these signals.

        It is generated when they are seen for the second time, so that a device that invents names
        costs no more than others; None the first time.
        """
        found = self.plans.get(names)
        if found is None and names in self._seen:
            if len(self.plans) >= MOST_PLANS:
                self.plans.clear()
            found = self.plans[names] = _generate(self, names, calls)
        elif found is None:
            if len(self._seen) >= MOST_PLANS:
                self._seen.clear()
            self._seen.add(names)
        return found


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


def _fingerprint(rule: Rule) -> int:
    text = f"{rule.when.text}\0{rule.for_ms}\0{rule.clear.text if rule.clear else ''}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())


def _no_plan(state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]) -> None:
    raise AssertionError("replaced by the engine")


def _generate(program: Program, names: tuple[str, ...], calls: Mapping[str, Any]) -> Plan:
    """Source of the plan:

    - is it the set of signals this is for? else `other`
    - is it late? then `settle`
    - does each value pass its guard? else `moved` for those that do not, and `step` for their rules
    - windows take their values; rules over windows or arithmetic are asked whether they have changed
    - timers: has a pending rule been true for long enough?
    """
    known = [(number, program.slots[name]) for number, name in enumerate(names) if name in program.slots]
    source = [
        "def plan(state, position, received, ts, signals):",
        f"    if len(signals) != {len(names)}: return other(state, position, received, ts, signals)",
        "    try:",
        *(f"        v{number} = signals[{name!r}]" for number, name in enumerate(names)),
        "        pass",
        "    except KeyError:",
        "        return other(state, position, received, ts, signals)",
        "    if ts < state.newest: return settle(state, position, received, ts, signals)",
        *_guards(program, known),
        "    state.newest = ts",
        "    state.signals = signals",
        "    offset = state.offset = received - ts",
        *(line for number, slot in known for line in _windows(program, number, slot, "    ")),
        *_general(program, known),
        "    if ts >= state.due or offset < state.low: timers(state, position, received)",
    ]
    scope: dict[str, Any] = {
        "__builtins__": {b.__name__: b for b in (Exception, KeyError, TypeError, float, int, len, set)},
        "finite": finite,
        **calls,
    }
    exec(compile("\n".join(source), "<plan>", "exec"), scope)
    return cast(Plan, scope["plan"])


def _passes(program: Program, number: int, slot: int) -> str:
    """Whether a value changes nothing. Raises TypeError where a text came instead of a number."""
    v = f"v{number}"
    if program.numbers[slot]:
        return f"low{number} <= {v} < high{number} and {v} is not True and {v} is not False"
    if program.usable[slot] is USABLE["boolean"]:
        return f"{v} is guards[{slot}]"
    return f"guards[{slot}] == {v}"


def _guards(program: Program, known: list[tuple[int, int]]) -> list[str]:
    if not known:
        return []
    quiet = [_passes(program, *pair) for pair in known]
    numbers = [(number, slot) for number, slot in known if program.numbers[slot]]
    general = {rule for _, slot in known for rule in program.general_of[slot]}
    return [
        "    guards = state.guards",
        *(f"    low{number}, high{number} = guards[{slot}]" for number, slot in numbers),
        "    try:",
        f"        quiet = {' and '.join(quiet)}",
        "    except TypeError:",  # a text came instead of a number
        "        quiet = False",
        "    if not quiet:",
        "        state.newest = ts",
        "        state.signals = None",
        "        state.offset = received - ts",
        "        V = state.values; T = state.times",
        f"        touched = {general or 'set()'}",
        *(line for number, slot in known for line in _moved(program, number, slot)),
        "        return step(state, touched, position, received)",
    ]


def _moved(program: Program, number: int, slot: int) -> list[str]:
    """One value of a message of which at least one does not pass."""
    test = _passes(program, number, slot)
    if program.numbers[slot]:
        test = f"(v{number}.__class__ is float or v{number}.__class__ is int) and {test}"
    return [
        f"        if {test}:",
        f"            T[{slot}] = ts",
        *([f"            V[{slot}] = v{number}"] if program.numbers[slot] else []),
        *_windows(program, number, slot, " " * 12),
        f"        else: moved(state, {slot}, ts, v{number}, touched)",
    ]


def _windows(program: Program, number: int, slot: int, indent: str) -> list[str]:
    value = f"v{number}" if program.numbers[slot] else "0.0"
    source = []
    for window in program.windows_of[slot]:
        w = f"w{window}"
        source += [
            f"{w} = state.windows[{window}]",
            f"if ts < {w}.end:",
            f"    {w}.n += 1",
            f"    {w}.total += {value}",
            f"    if {value} < {w}.low: {w}.low = {value}",
            f"    if {value} > {w}.high: {w}.high = {value}",
            f"else: {w}.add(ts, {value}, ts)",
        ]
    return [indent + line for line in source]


def _general(program: Program, known: list[tuple[int, int]]) -> list[str]:
    """Rules without guards: is what they are now still what was noted of them?"""
    rules = sorted({rule for _, slot in known for rule in program.general_of[slot]})
    if not rules:
        return []
    windows = {key: slot for slot, key in enumerate(program.windows)}
    generator = Generator(program.slots, windows, {slot: f"v{number}" for number, slot in known})
    idle, other = [], []
    for rule in rules:
        when = generator.true(program.rules[rule].rule.when)
        idle.append(when)
        over = over_code(generator, program.rules[rule].rule)
        other.append(f"(({over}) if {rule} in O else {when} is not ({rule} in P))")
    return [
        "    V = state.values; T = state.times; W = state.windows; at = ts",
        "    O = state.open; P = state.pending",
        "    try:",
        f"        changed = ({' or '.join(other)}) if O or P else ({' or '.join(idle)})",
        "    except Exception:",  # to be counted where rules are evaluated one by one
        "        changed = True",
        f"    if changed: return again(state, position, received, {tuple(rules)})",
    ]

"""What the others need to know of a device, gathered while the journal is assessed.

Facts are kept in memory, changed by every message, and handed to the database in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.domain.device import Facts
from gateway.domain.messages import DeviceEvent, DeviceStatus, Item, Names, Telemetry
from rules.engine import Engine
from rules.readings import Value
from rules.state import DeviceState

STANDSTILL_MS = 120_000
"""A car that has reported speed 0 for so long (device time) is parked, even without a trip_ended event."""

SILENT_SPEED_MS = 600_000
"""A device that goes on reporting but no longer says how fast it moves is parked after so long."""

MANY_SHAPES = 16
"""Sets of names that one device's messages come in before what is known of it is brought up to date."""


SPARE = ("unused0", "unused1", "unused2", "unused3", "unused4")
"""Never set, and behind the others. With these, and what the garbage collector puts before each, facts are a
multiple of 64 bytes apart: so what a message touches lies in two cache lines."""


class _Hot:
    """What every message touches first, next to one another in memory."""

    __slots__ = ("last", "moving", "names", "newest", "noted", "seen")


class _Known(_Hot):
    """The facts of one device, mutable."""

    __slots__ = (
        *SPARE, "kind", "moved_ts", "moving_since", "online", "open", "recent", "state", "ts", "values",
    )  # fmt: skip

    def __init__(self) -> None:
        self.kind: str | None = None
        self.seen = 0
        self.noted = False
        """surely among the book's dirty ones"""
        self.moving = False
        self.moving_since: int | None = None
        self.moved_ts = 0
        self.newest = 0
        self.online: bool | None = None
        self.open: set[str] = set()
        self.values: dict[str, Value] = {}
        self.ts: dict[str, int] = {}
        self.names: Names = ()
        self.last: Mapping[str, Value] = {}
        """the newest readings, of the time `newest`, and their names"""
        self.recent: dict[tuple[str, ...], Item] = {}
        """the newest readings of every other set of names that came together, not yet in `values`"""
        self.state: DeviceState | None = None
        """what the rules keep of it, so that a message is looked up once for both"""

    def take(self, ts: int, signals: Mapping[str, Value], names: Names) -> bool:
        """Readings that are late, or of other names than the last; False if they say nothing new."""
        if ts >= self.newest:
            if names != self.names:
                self.recent[self.names] = self.newest, self.last
            self.newest, self.names, self.last = ts, names, signals
        elif names == self.names or (names in self.recent and self.recent[names][0] > ts):
            return False
        else:
            self.recent[names] = ts, signals
        if len(self.recent) > MANY_SHAPES:
            self.merge()
        return True

    def merge(self) -> None:
        """Bring `values` and `ts` up to date with `recent` and `last`."""
        for ts, signals in (*self.recent.values(), (self.newest, self.last)):
            for name, value in signals.items():
                if ts >= self.ts.get(name, 0):
                    self.values[name], self.ts[name] = value, ts
        self.recent.clear()

    def frozen(self, device: str) -> Facts:
        """As the database keeps it."""
        self.merge()
        times = self.ts
        return Facts(
            device=device,
            kind=self.kind,
            last_seen=self.seen,
            moving=self.moving,
            moving_since=self.moving_since,
            online=self.online,
            open=tuple(sorted(self.open)),
            latest={name: (times[name], value) for name, value in self.values.items()},
        )


class FactBook:
    """Facts of all devices; says which changed and which devices parked since it was last asked."""

    def __init__(self, kind_of: Callable[[str], str | None]) -> None:
        self._kind_of = kind_of
        self._known: dict[str, _Known] = {}
        self._dirty: set[str] = set()
        self._round: list[str] = []
        """changed devices that are still to be handed over in this round, part by part"""
        self.parked: list[str] = []
        """devices whose trip has ended since `take`"""
        self.urgent: set[str] = set()
        """devices of which something changed that deciding must know at once"""

    def restore(self, facts: Iterable[Facts]) -> None:
        """Begin with what the database holds."""
        for row in facts:
            known = self._of(row.device)
            known.seen, known.online, known.open = row.last_seen, row.online, set(row.open)
            known.moving, known.moving_since = row.moving, row.moving_since
            known.kind = row.kind or known.kind
            known.values = {name: value for name, (_, value) in row.latest.items()}
            known.ts = {name: ts for name, (ts, _) in row.latest.items()}
            known.newest = max(known.ts.values(), default=0)
            known.moved_ts = known.ts.get("speed", 0)

    def kind(self, device: str) -> str | None:
        """The device's kind as registered, else by pattern."""
        return self._of(device).kind

    def register(self, device: str, kind: str | None) -> None:
        """A registration said what it is."""
        self._of(device).kind = kind or self._kind_of(device)
        self._dirty.add(device)

    def forget(self, device: str, spans: Sequence[tuple[int, int]]) -> None:
        """Values of these times (device time, ms, half open) are no longer known."""
        known = self._known.get(device)
        if known is None:
            return
        known.merge()
        for name, ts in [*known.ts.items()]:
            if any(since <= ts < until for since, until in spans):
                del known.ts[name], known.values[name]
        known.names, known.last = (), {}
        self._dirty.add(device)
        self.urgent.add(device)

    def _of(self, device: str) -> _Known:
        known = self._known.get(device)
        if known is None:
            known = self._known[device] = _Known()
            known.kind = self._kind_of(device)
        return known

    def pass_on(self, telemetry: Sequence[Telemetry], received: int, after: int, engine: Engine) -> None:
        """Take in what follows a position, and give it to the rules. Most messages are like the last one of
        their device, and taken in without a call."""
        if telemetry and telemetry[0][0] <= after:
            telemetry = [message for message in telemetry if message[0] > after]
        known_of, of, take = self._known.get, self._of, self._take
        senders = [known_of(message[1]) or of(message[1]) for message in telemetry]
        for known, (_, device, ts, signals, names, _) in zip(senders, telemetry, strict=True):
            if names is known.names and known.noted:
                speed = signals.get("speed")
                moves = speed.__class__ is float and speed > 0
                as_before = moves or speed is None or speed.__class__ is float
                if as_before and moves is known.moving and ts >= known.newest:
                    known.seen, known.newest, known.last = received, ts, signals
                    if known.moving and ts > known.moved_ts:
                        known.moved_ts = ts
                    continue
            take(known, device, received, ts, signals, names)
        engine.messages(received, telemetry, senders)

    def _take(
        self,
        known: _Known,
        device: str,
        received: int,
        ts: int,
        signals: Mapping[str, Value],
        names: Names | None,
    ) -> None:
        """What it notes is merged only when somebody asks."""
        known.seen = received
        if not known.noted:
            known.noted = True
            self._dirty.add(device)
        if known.take(ts, signals, names or tuple(signals)):
            self._motion(device, known, received, ts, signals.get("speed"))

    def _motion(self, device: str, known: _Known, received: int, ts: int, speed: Value | None) -> None:
        if isinstance(speed, (int, float)) and speed > 0:
            if ts >= known.moved_ts:
                known.moved_ts = ts
                if not known.moving:
                    self._move(device, known, received, moving=True)
        elif known.moving:
            limit = SILENT_SPEED_MS if speed is None else STANDSTILL_MS
            if ts - known.moved_ts >= limit:
                self._move(device, known, received, moving=False)

    def _move(self, device: str, known: _Known, received: int, *, moving: bool) -> None:
        if known.moving == moving:
            return
        known.moving, known.moving_since = moving, received
        self.urgent.add(device)
        if not moving:
            self.parked.append(device)

    def event(self, received: int, event: DeviceEvent) -> None:
        """A trip's start or end is said outright."""
        known = self._of(event.device)
        known.seen = received
        self._dirty.add(event.device)
        if event.ts < known.moved_ts:
            return  # of a trip before the last one, told late
        if event.event == "trip_started":
            known.moved_ts = event.ts
            self._move(event.device, known, received, moving=True)
        elif event.event == "trip_ended":
            known.moved_ts = event.ts
            self._move(event.device, known, received, moving=False)

    def status(self, received: int, status: DeviceStatus) -> None:
        """Connected, or no longer."""
        known = self._of(status.device)
        known.online = status.online
        if status.online:
            known.seen = received
        self._dirty.add(status.device)

    def newest(self, device: str) -> int | None:
        """The ts of its newest reading, None while it has none."""
        known = self._known.get(device)
        return (known.newest or None) if known else None

    def episode(self, device: str, finding: str, *, is_open: bool) -> None:
        """A finding's episode began or ended."""
        known = self._of(device)
        (known.open.add if is_open else known.open.discard)(finding)
        self._dirty.add(device)
        self.urgent.add(device)

    @property
    def dirty(self) -> bool:
        """Whether anything changed since `take`."""
        return bool(self._dirty)

    def begin(self) -> None:
        """A round: what has changed by now is handed over by parts."""
        self._round = [*self._dirty]

    @property
    def begun(self) -> bool:
        """Whether something of the round is left."""
        return bool(self._round)

    def take(self, most: int | None = None) -> tuple[list[Facts], list[str]]:
        """(changed facts, parked devices) since the last call; or only the facts that cannot wait, and those
        of so many devices more of the round."""
        if most is None:
            chosen, self._round = self._dirty, []
        else:
            kept = max(0, len(self._round) - most)
            chosen = self.urgent.union(self._dirty.intersection(self._round[kept:]))
            del self._round[kept:]
        facts = [self._known[device].frozen(device) for device in sorted(chosen)]
        self._dirty = self._dirty - chosen
        for device in chosen:
            self._known[device].noted = False
        self.urgent = set()
        parked, self.parked = self.parked, []
        return facts, parked

    def give_back(self, facts: Iterable[Facts], parked: Sequence[str]) -> None:
        """What was taken could not be stored: it is taken again with the next call."""
        devices = {row.device for row in facts}
        self._dirty |= devices
        self.urgent |= devices
        self.parked = [*parked, *self.parked]

"""What arrives: messages as the broker delivered them, and what they decode to.

Times are UTC milliseconds. The hot path hands over plain tuples, because a class
instance per message costs more than the decoding itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rules.readings import Value

BATCH_FORMAT = 2
BATCH_FORMATS = (1, 2)
"""Format versions of a stored batch body: the one that is written, and those that are read; another is
refused. 1 had no packet ids."""

KEPT_PAYLOAD = 65_536
"""How many bytes of an undecodable payload are kept: noise of a megabyte is not worth a megabyte."""

Item = tuple[int, Mapping[str, Value]]
"""One reading set: (ts in ms, {signal: value})."""

Names = tuple[str, ...]
"""Signals that come together, in the order of the message. From one decoder the same ones are most often the
same object, so that readers who know them need not look at each name."""

Telemetry = tuple[int, str, int, Mapping[str, Value], Names | None, bytes | None]
"""(position, device, ts, {signal: value}, names, sent): what a device has said of one time. A message that
tells of several gives several, one after the other, under its position.

`names` are the signals', where the decoder knows them. `sent` is a payload that says just this,
`{"ts": …, "signals": {…}}`, perhaps with a `seq`, and so can be kept as it is; else None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceEvent:
    """A message on …/event: something happened at the device (trip started, door closed)."""

    position: int
    device: str
    ts: int
    """when it happened, ms"""
    event: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceStatus:
    """A message on …/status: the device is connected or (its will) no longer is."""

    position: int
    device: str
    online: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplayAnswer:
    """A message on …/answer: what the owner tapped on the device's own display."""

    position: int
    device: str
    touchpoint: str
    action: str
    ts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecodable:
    """A message, or a part of one, that no codec could take. When other parts of the same message were
    good, they stand in `Decoded.telemetry` under the same position."""

    position: int
    topic: str
    payload: bytes
    """the payload's first KEPT_PAYLOAD bytes"""
    reason: str
    """short stable code, the label of the metric: not_json, no_signals, bad_ts, …"""
    detail: str
    """one sentence for the operator"""
    size: int = 0
    """bytes the payload had; more than `payload` holds means that it cannot be replayed from here"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextReading:
    """A message on …/context/{name}: signals that many devices share (weather, city events, parking)."""

    position: int
    name: str
    area: str
    """what it holds for, as the sender names it; empty means everywhere"""
    ts: int
    """ms"""
    signals: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantineRow:
    """An undecodable message as the operator sees it."""

    position: int
    received: int
    topic: str
    payload: bytes
    reason: str
    detail: str
    replayed: int | None = None
    """ms when it was put into the journal again"""


@dataclass(kw_only=True, slots=True)
class Decoded:
    """One batch after decoding, shared by all readers of it."""

    telemetry: list[Telemetry] = field(default_factory=list)
    events: list[DeviceEvent] = field(default_factory=list)
    statuses: list[DeviceStatus] = field(default_factory=list)
    answers: list[DisplayAnswer] = field(default_factory=list)
    contexts: list[ContextReading] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)
    unborn: list[str] = field(default_factory=list)
    """Sparkplug's edge nodes, as group/node, that are to be asked for their births"""
    further: int = 0
    """entries of `telemetry` beyond the first of their message"""

    def take(self, position: int, device: str, items: Sequence[Item]) -> None:
        """A message that may tell of several times."""
        self.telemetry += [(position, device, ts, signals, None, None) for ts, signals in items]
        self.further += len(items) - 1

    @property
    def messages(self) -> int:
        """How many have brought telemetry."""
        return len(self.telemetry) - self.further

    @property
    def recordable(self) -> Sequence[Telemetry]:
        """What the time series keeps: all telemetry, and context under the name context/{name}."""
        if not self.contexts:
            return self.telemetry
        shared = ((c.position, f"context/{c.name}", c.ts, c.signals, None, None) for c in self.contexts)
        return [*self.telemetry, *shared]


Message = tuple[str, bytes]
"""(topic, payload) as it arrived."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketIds:
    """What a broker calls messages until we have acknowledged them, also when it sends them again (MQTT 5,
    section 2.2.1). Packed for a whole batch, so that keeping them costs nothing per message."""

    session: int
    """which of the broker's sessions gave them; in another one the same ids name other messages"""
    packed: bytes
    """two bytes a message, big endian, in the messages' order; 0 for one without (QoS 0)"""
    count: int
    """how many are not 0"""

    def numbers(self) -> tuple[int, ...]:
        """One by one."""
        return struct.unpack(f">{len(self.packed) // 2}H", self.packed)

    def only(self, indices: Sequence[int]) -> PacketIds:
        """Those of some messages."""
        numbers = self.numbers()
        chosen = [numbers[index] for index in indices]
        return PacketIds(
            session=self.session,
            packed=struct.pack(f">{len(chosen)}H", *chosen),
            count=len(chosen) - chosen.count(0),
        )


class Batch:
    """A run of journal entries received together: positions first … last.

    kind "messages": `messages` holds (topic, payload). kind "control": `messages` is empty and
    `controls` holds JSON objects {"type": "tick" | "reset" | "device", …}.
    """

    __slots__ = ("_decoded", "_decoder", "controls", "first", "kind", "messages", "received", "size")

    def __init__(
        self,
        *,
        first: int,
        received: int,
        kind: Literal["messages", "control"] = "messages",
        messages: Sequence[Message] = (),
        controls: Sequence[Mapping[str, Any]] = (),
        decoder: Callable[[Batch], Decoded] | None = None,
        size: int = 0,
    ) -> None:
        """`size` is how many bytes the entries take in the journal, about."""
        self.first = first
        self.received = received
        self.kind = kind
        self.messages = messages
        self.controls = controls
        self.size = size
        self._decoder = decoder
        self._decoded: Decoded | None = None

    @property
    def count(self) -> int:
        """How many entries the batch holds."""
        return len(self.messages) or len(self.controls)

    @property
    def last(self) -> int:
        """Position of the batch's last entry."""
        return self.first + self.count - 1

    def parts(self, most: int) -> list[Batch]:
        """The same entries as batches of at most so many messages; itself if it has no more."""
        if len(self.messages) <= most:
            return [self]
        size = self.size // -(-len(self.messages) // most)
        return [
            Batch(
                first=self.first + at,
                received=self.received,
                messages=self.messages[at : at + most],
                decoder=self._decoder,
                size=size,
            )
            for at in range(0, len(self.messages), most)
        ]

    def undecoded(self) -> Batch:
        """The same entries, without what they decode to: who keeps them for long keeps less."""
        return Batch(
            first=self.first,
            received=self.received,
            kind=self.kind,
            messages=self.messages,
            controls=self.controls,
            decoder=self._decoder,
            size=self.size,
        )

    @property
    def is_decoded(self) -> bool:
        """Whether somebody has asked for it already."""
        return self._decoded is not None

    @property
    def decoded(self) -> Decoded:
        """The batch decoded; done once, whoever asks first."""
        if self._decoded is None:
            self._decoded = self._decoder(self) if self._decoder and self.messages else Decoded()
        return self._decoded

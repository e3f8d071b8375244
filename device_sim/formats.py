"""How devices write what they say: our own JSON, SenML (RFC 8428), Sparkplug B (Eclipse, version 3.0).

Events are native in every form: neither SenML nor Sparkplug has any.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from device_sim.wire import PREFIX, Reading, payload

Format: TypeAlias = Literal["native", "senml", "sparkplug"]

GROUP = "touchpoint"
_INT64, _DOUBLE, _BOOLEAN, _STRING, _STRING_ARRAY = 4, 10, 11, 12, 33
REBIRTH = "Node Control/Rebirth"


def will(wanted: Format, device: str) -> tuple[str, bytes, bool]:
    """What the broker publishes when a device's connection breaks: topic, payload, retained."""
    if wanted == "sparkplug":
        return *death(device, 0), False
    return f"{PREFIX}/{device}/status", b"offline", True


def commands(wanted: Format, device: str) -> list[str]:
    """The topics that a device listens to."""
    own = [f"{PREFIX}/{device}/touchpoint/+", f"{PREFIX}/{device}/command"]
    return [*own, f"spBv1.0/{GROUP}/NCMD/{device}"] if wanted == "sparkplug" else own


class Writer(Protocol):
    """Writes what one device says."""

    def __call__(self, reading: Reading, number: int) -> tuple[str, bytes]:
        """(topic, payload) of its `number`-th reading, counted from 1."""
        ...

    def status(self, text: str, at: int) -> tuple[str, bytes]:
        """That it is online again, or its will: offline."""
        ...

    def reborn(self) -> None:
        """Somebody asked for a birth."""
        ...


def encoder(wanted: Format, device: str) -> Writer:
    """What writes a device's readings."""
    made: dict[str, type[Native]] = {"native": Native, "senml": SenML, "sparkplug": Sparkplug}
    return made[wanted](device)


class Native:
    """Our own form."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._telemetry = f"{PREFIX}/{device}/telemetry"

    def __call__(self, reading: Reading, number: int) -> tuple[str, bytes]:
        return self._telemetry, payload({"ts": reading.ts, "seq": number, "signals": reading.signals})

    def status(self, text: str, at: int) -> tuple[str, bytes]:
        """On the device's status topic."""
        return f"{PREFIX}/{self.device}/status", text.encode()

    def reborn(self) -> None:
        """Nothing to say."""


class SenML(Native):
    """Packs of SenML JSON on senml/{device}."""

    def __call__(self, reading: Reading, number: int) -> tuple[str, bytes]:
        return f"senml/{self.device}", senml(self.device, reading)


class Sparkplug(Native):
    """An edge node that is the device. A birth names its metrics; data says their aliases alone. A metric
    that is new is told by another birth, as the specification has it."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._held: dict[str, tuple[int, Any]] = {}
        self._seq = 0
        self._born = False

    def __call__(self, reading: Reading, number: int) -> tuple[str, bytes]:
        if not self._held.keys() >= reading.signals.keys():
            self._born = False
        self._held |= {name: (reading.ts, value) for name, value in reading.signals.items()}
        if not self._born:
            return self.birth(reading.ts)
        self._seq = (self._seq + 1) % 256
        places = {name: alias for alias, name in enumerate(self._held, 1)}
        metrics = [
            metric("", value, reading.ts, alias=places[name]) for name, value in reading.signals.items()
        ]
        return self._topic("NDATA"), message(reading.ts, metrics, self._seq)

    def birth(self, at: int) -> tuple[str, bytes]:
        """Everything it speaks of, with what it said last."""
        self._born, self._seq = True, 0
        metrics = [metric("bdSeq", 0, at), metric(REBIRTH, False, at)]
        metrics += [
            metric(name, value, ts, alias=alias)
            for alias, (name, (ts, value)) in enumerate(self._held.items(), 1)
        ]
        return self._topic("NBIRTH"), message(at, metrics, 0)

    def reborn(self) -> None:
        """What it says next is a birth."""
        self._born = False

    def status(self, text: str, at: int) -> tuple[str, bytes]:
        """A birth, or the death that its connection's will holds."""
        return self.birth(at) if text == "online" else death(self.device, at)

    def _topic(self, kind: str) -> str:
        return f"spBv1.0/{GROUP}/{kind}/{self.device}"


def death(device: str, at: int) -> tuple[str, bytes]:
    """The will of a node's connection; it has no sequence number."""
    return f"spBv1.0/{GROUP}/NDEATH/{device}", message(at, [metric("bdSeq", 0, at)], None)


def senml(device: str, reading: Reading) -> bytes:
    """A pack of SenML JSON; base name and base time stand in its first record."""
    records: list[dict[str, Any]] = [{"n": name} | value for name, value in _values(reading.signals)]
    base = {"bn": f"{device}:", "bt": reading.ts / 1000}
    return json.dumps([base | records[0], *records[1:]] if records else [base]).encode()


def _values(signals: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in signals.items():
        if isinstance(value, bool):
            yield name, {"vb": value}
        elif isinstance(value, int | float):
            yield name, {"v": value}
        elif isinstance(value, str):
            yield name, {"vs": value}
        else:  # SenML knows no lists
            yield name, {"vs": ",".join(map(str, value))}


def sparkplug(reading: Reading, seq: int, *, birth: bool) -> bytes:
    """A birth of just these signals, or the data that goes with it."""
    metrics = [metric("bdSeq", 0, reading.ts)] if birth else []
    for alias, (name, value) in enumerate(reading.signals.items(), 1):
        metrics.append(metric(name if birth else "", value, reading.ts, alias=alias))
    return message(reading.ts, metrics, seq)


def message(ts: int, metrics: Sequence[bytes], seq: int | None) -> bytes:
    """The protobuf message of the specification, section 6.4: timestamp 1, metrics 2, seq 3."""
    body = _field_int(1, ts) + b"".join(_field_bytes(2, one) for one in metrics)
    return body if seq is None else body + _field_int(3, seq)


def metric(name: str, value: Any, ts: int, *, alias: int | None = None) -> bytes:
    """name 1, alias 2, timestamp 3, datatype 4; value: long 11, double 13, boolean 14, string 15, bytes 16.
    With an alias, but for births, there is no name; the type is said all the same."""
    head = _field_bytes(1, name.encode()) if name else b""
    if alias is not None:
        head += _field_int(2, alias)
    head += _field_int(3, ts)
    if isinstance(value, bool):
        return head + _field_int(4, _BOOLEAN) + _field_int(14, int(value))
    if isinstance(value, int):
        return head + _field_int(4, _INT64) + _field_int(11, value & (2**64 - 1))
    if isinstance(value, float):
        return head + _field_int(4, _DOUBLE) + _key(13, 1) + struct.pack("<d", value)
    if isinstance(value, list | tuple):  # each text ends with a zero
        packed = b"".join(str(item).encode() + b"\0" for item in value)
        return head + _field_int(4, _STRING_ARRAY) + _field_bytes(16, packed)
    return head + _field_int(4, _STRING) + _field_bytes(15, str(value).encode())


def _key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def _field_int(number: int, value: int) -> bytes:
    return _key(number, 0) + varint(value)


def _field_bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first: protobuf's, and MQTT's of lengths."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

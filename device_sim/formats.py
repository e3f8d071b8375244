"""How devices write what they say: our own JSON, SenML (RFC 8428), Sparkplug B (Eclipse, version 3.0)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from device_sim.wire import PREFIX, Reading, payload

Format: TypeAlias = Literal["native", "senml", "sparkplug"]
Encoder: TypeAlias = Callable[[Reading, int], tuple[str, bytes]]
"""(reading, sequence number) → (topic, payload)"""

GROUP = "touchpoint"
_INT64, _DOUBLE, _BOOLEAN, _STRING = 4, 10, 11, 12


def encoder(wanted: Format, device: str) -> Encoder:
    """What writes a device's readings."""
    if wanted == "senml":
        return lambda reading, _: (f"senml/{device}", senml(device, reading))
    if wanted == "sparkplug":
        return lambda reading, seq: sparkplug_message(device, reading, seq)
    topic = f"{PREFIX}/{device}/telemetry"
    return lambda reading, seq: (topic, payload({"ts": reading.ts, "seq": seq, "signals": reading.signals}))


def senml(device: str, reading: Reading) -> bytes:
    """A pack of SenML JSON; base name and base time stand in its first record."""
    records: list[dict[str, Any]] = [
        {"n": name} | value for name, value in _values(reading.signals) if value is not None
    ]
    base = {"bn": f"{device}:", "bt": reading.ts / 1000}
    return json.dumps([base | records[0], *records[1:]] if records else [base]).encode()


def _values(signals: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for name, value in signals.items():
        if isinstance(value, bool):
            yield name, {"vb": value}
        elif isinstance(value, int | float):
            yield name, {"v": value}
        elif isinstance(value, str):
            yield name, {"vs": value}
        else:  # SenML knows no lists
            yield name, {"vs": ",".join(map(str, value))} if value else None


def sparkplug_message(device: str, reading: Reading, seq: int) -> tuple[str, bytes]:
    """A birth for the first message, data for those that follow, of an edge node that is the device."""
    kind = "NBIRTH" if seq == 1 else "NDATA"
    return f"spBv1.0/{GROUP}/{kind}/{device}", sparkplug(reading, (seq - 1) % 256, birth=seq == 1)


def sparkplug(reading: Reading, seq: int, *, birth: bool) -> bytes:
    """The protobuf message of the specification, section 6.4: timestamp 1, metrics 2, seq 3."""
    body = _field_int(1, reading.ts)
    if birth:
        body += _field_bytes(2, _metric("bdSeq", 0, reading.ts))
    for name, value in reading.signals.items():
        if not isinstance(value, list | tuple):  # code lists have no type of Sparkplug's
            body += _field_bytes(2, _metric(name, value, reading.ts))
        else:
            body += _field_bytes(2, _metric(name, ",".join(map(str, value)), reading.ts))
    return body + _field_int(3, seq)


def _metric(name: str, value: Any, ts: int) -> bytes:
    """name 1, timestamp 3, datatype 4; value: long 11, double 13, boolean 14, string 15."""
    head = _field_bytes(1, name.encode()) + _field_int(3, ts)
    if isinstance(value, bool):
        return head + _field_int(4, _BOOLEAN) + _field_int(14, int(value))
    if isinstance(value, int):
        return head + _field_int(4, _INT64) + _field_int(11, value & (2**64 - 1))
    if isinstance(value, float):
        return head + _field_int(4, _DOUBLE) + _key(13, 1) + struct.pack("<d", value)
    return head + _field_int(4, _STRING) + _field_bytes(15, str(value).encode())


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _field_int(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _field_bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

"""What devices say, and the native messages it is said in (topics of the wire format, version 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

PREFIX = "touchpoint/v1"

Signals: TypeAlias = Mapping[str, Any]


class Message(NamedTuple):
    """What a device publishes. `topic` is whole, `payload` the bytes."""

    device: str
    topic: str
    payload: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Signals of one device at one time (ms)."""

    ts: int
    signals: Signals


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened at one time (ms)."""

    ts: int
    event: str
    data: Mapping[str, Any]


Said: TypeAlias = Sequence[Reading | Event]

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def payload(value: Any) -> bytes:
    """JSON without spaces: what our devices send."""
    return _encoder.encode(value).encode()

"""Sparkplug B (Eclipse Sparkplug 3.0.0): protobuf on spBv1.0/{group}/{type}/{edge node}[/{device}].

A birth says what a node or device will speak of: names, types, and numbers (aliases) that stand for names
from then on. What an alias means depends on the births before it, so births are kept with the journal
position they came at, and data is read with the newest birth before it: the same log gives the same readings,
whoever reads it, at whatever position, after any crash. What is kept is saved with the rules' state; what the
journal holds behind that is looked through at the start.

The device is the topic's last level: the device's id, or of a node's own metrics the node's.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import threading
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from gateway.adapters.codec_signals import Signals
from gateway.adapters.codecs import MalformedError, check_claimed, check_device, reading_ts, summary
from gateway.domain.messages import Batch, Decoded, DeviceStatus
from rules.readings import Value

PREFIX = "spBv1.0/"
SAVED = "/decoder/sparkplug/"
"""What stands before a node's name, where its births are saved."""
FORMAT = 1
LARGEST = 8 * 2**20
"""Bytes that a compressed payload may become."""
MOST_METRICS = 10_000
REBIRTH = "Node Control/Rebirth"
_OURS = ("bdSeq", "Node Control/", "Device Control/")
"""How the names of metrics begin that are no readings."""

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = range(1, 9)
FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME, TEXT = range(9, 15)
UUID, BYTES, FILE, STRING_ARRAY = 15, 17, 18, 33
_SIGNED = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
_UNSIGNED = {UINT8: 8, UINT16: 16, UINT32: 32, UINT64: 64, DATETIME: 64}
_HELD_IN = (
    dict.fromkeys((*_SIGNED, *_UNSIGNED), ("int_value", "long_value"))
    | dict.fromkeys((STRING, TEXT, UUID), ("string_value",))
    | dict.fromkeys((BYTES, FILE, STRING_ARRAY), ("bytes_value",))
    | {FLOAT: ("float_value",), DOUBLE: ("double_value",), BOOLEAN: ("boolean_value",)}
)
"""Which field of the message holds a type; encoders choose either one for integers."""
_SUPPOSED = {"float_value": FLOAT, "double_value": DOUBLE, "boolean_value": BOOLEAN, "string_value": STRING}


# --- the message ------------------------------------------------------------------------------


def _payload_class() -> Any:
    """The fields of sparkplug_b.proto (section 6.4) that are of use here; others are passed over."""
    field = descriptor_pb2.FieldDescriptorProto
    number, text, flag, raw = field.TYPE_UINT64, field.TYPE_STRING, field.TYPE_BOOL, field.TYPE_BYTES
    file = descriptor_pb2.FileDescriptorProto(name="touchpoint_sparkplug_b.proto", package="touchpoint")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for name, place, kind in (
        ("name", 1, text), ("alias", 2, number), ("timestamp", 3, number), ("datatype", 4, field.TYPE_UINT32),
        ("is_null", 7, flag), ("int_value", 10, field.TYPE_UINT32), ("long_value", 11, number),
        ("float_value", 12, field.TYPE_FLOAT), ("double_value", 13, field.TYPE_DOUBLE),
        ("boolean_value", 14, flag), ("string_value", 15, text), ("bytes_value", 16, raw),
    ):  # fmt: skip
        made = metric.field.add(name=name, number=place, type=kind, label=field.LABEL_OPTIONAL)
        if place >= 10:
            made.oneof_index = 0
    metric.oneof_decl.add(name="value")
    own = (("timestamp", 1, number), ("seq", 3, number), ("uuid", 4, text), ("body", 5, raw))
    for name, place, kind in own:
        payload.field.add(name=name, number=place, type=kind, label=field.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED,
        type_name=".touchpoint.Payload.Metric",
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("touchpoint.Payload"))


_Payload = _payload_class()


def _parse(raw: bytes) -> Any:
    """Raises MalformedError not_sparkplug."""
    try:
        payload = _Payload.FromString(raw)
        if payload.uuid == "SPBV1.0_COMPRESSED":
            payload = _Payload.FromString(_unpacked(payload))
    except (DecodeError, UnicodeDecodeError, zlib.error) as error:
        raise MalformedError("not_sparkplug", f"not a payload of Sparkplug B: {error}"[:200]) from error
    if len(payload.metrics) > MOST_METRICS:
        raise MalformedError("not_sparkplug", f"more than {MOST_METRICS:,} metrics")
    return payload


def _unpacked(payload: Any) -> bytes:
    """A body that Tahu's libraries compressed, with GZIP or DEFLATE."""
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    raw = unpack.decompress(payload.body, LARGEST)
    if not unpack.eof:
        raise MalformedError("not_sparkplug", f"a compressed body that is cut, or beyond {LARGEST:,} bytes")
    return raw


def rebirth(now: int) -> bytes:
    """The command that asks a node for its births."""
    payload = _Payload(timestamp=now)
    payload.metrics.add(name=REBIRTH, timestamp=now, datatype=BOOLEAN, boolean_value=True)
    return bytes(payload.SerializeToString())


# --- births -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    """What a node (device "") or a device of it speaks of from a journal position on."""

    position: int
    aliases: Mapping[int, str]
    types: Mapping[str, int]
    """name → datatype"""
    death: int | None = None
    """bdSeq: which will belongs to it"""


class Births:
    """The births of every node and device, by journal position. Used by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, list[Birth]]] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[int, int]] = {}

    def learn(self, node: str, device: str, birth: Birth) -> None:
        """Of one position only once."""
        with self._lock:
            births = self._known.setdefault(node, {}).setdefault(device, [])
            place = bisect_left(births, birth.position, key=_position)
            if place == len(births) or births[place].position != birth.position:
                births.insert(place, birth)
                self._changed.add(node)

    def look_through(self, batch: Batch) -> None:
        """Learn from entries that readers may have passed before this process began."""
        for position, (topic, payload) in enumerate(batch.messages, batch.first):
            if topic.startswith(PREFIX) and "BIRTH/" in topic:
                with contextlib.suppress(MalformedError):  # assess keeps it in quarantine
                    about = parse_topic(topic)
                    if about is not None and about[0].endswith("BIRTH"):
                        self.learn(about[1], about[2], birth_of(position, _parse(payload)))

    def at(self, node: str, device: str, position: int) -> Birth | None:
        """What holds at a position; a node's birth ends those of its devices."""
        devices = self._known.get(node, {})
        own = _newest(devices.get(device, ()), position)
        if own is None or not device:
            return own
        whole = _newest(devices.get("", ()), position)
        return own if whole is None or whole.position < own.position else None

    def devices(self, node: str, position: int) -> list[str]:
        """Those of a node that were born before a position."""
        return [name for name in self._known.get(node, {}) if name and self.at(node, name, position)]

    def missed(self, node: str, position: int, seq: int) -> bool:
        """Whether a node's messages before this one are unknown or did not all arrive, so that a birth may be
        among them. Of one position only once."""
        last = self._heard.get(node)
        if last is not None and position <= last[0]:
            return False
        self._heard[node] = position, seq
        return last is None or seq != (last[1] + 1) % 256

    # --- over restarts

    def saved(self, upto: int) -> dict[str, bytes]:
        """What has changed since it was last asked, to be saved: name → bytes. Of births at or before `upto`,
        which every reader has passed, only the newest is kept."""
        with self._lock:
            changed, self._changed = self._changed, set()
            for node in changed:
                for births in self._known[node].values():
                    del births[: max(0, bisect_right(births, upto, key=_position) - 1)]
            return {SAVED + node: _packed(self._known[node]) for node in changed}

    def again(self) -> None:
        """Everything is to be saved: what was given out may not have been."""
        with self._lock:
            self._changed.update(self._known)

    def restore(self, name: str, raw: bytes) -> None:
        """What `saved` gave; of another format nothing, so that nodes are asked again."""
        held = json.loads(raw)
        if held["format"] == FORMAT:
            for device, births in held["devices"].items():
                for position, aliases, types, death in births:
                    known = {int(alias): named for alias, named in aliases.items()}
                    birth = Birth(position=position, aliases=known, types=types, death=death)
                    self.learn(name.removeprefix(SAVED), device, birth)
        self._changed.discard(name.removeprefix(SAVED))


def birth_of(position: int, said: Any) -> Birth:
    """What a birth defines. Raises MalformedError."""
    aliases: dict[int, str] = {}
    types: dict[str, int] = {}
    death = None
    for metric in said.metrics:
        name = _text(metric.name)
        if name == "bdSeq":
            death = metric.long_value or metric.int_value
        elif name:
            types[name] = metric.datatype
            if metric.HasField("alias"):
                aliases[metric.alias] = name
    return Birth(position=position, aliases=aliases, types=types, death=death)


def _position(birth: Birth) -> int:
    return birth.position


def _newest(births: Sequence[Birth], position: int) -> Birth | None:
    place = bisect_right(births, position, key=_position)
    return births[place - 1] if place else None


def _packed(devices: Mapping[str, Sequence[Birth]]) -> bytes:
    held = {
        device: [(birth.position, birth.aliases, birth.types, birth.death) for birth in births]
        for device, births in devices.items()
    }
    return json.dumps({"format": FORMAT, "devices": held}).encode()


# --- the codec --------------------------------------------------------------------------------


class Sparkplug:
    """Reads what nodes and devices send."""

    def __init__(
        self,
        births: Births,
        signals: Signals,
        *,
        claimed: Callable[[str], bool] | None,
        ahead_ms: int,
    ) -> None:
        self._births, self._signals, self._claimed, self._ahead = births, signals, claimed, ahead_ms

    def __call__(
        self, decoded: Decoded, received: int, position: int, topic: str, payload: bytes
    ) -> MalformedError | None:
        """See `gateway.adapters.codecs.Taker`."""
        about = parse_topic(topic)
        if about is None:
            return None
        kind, node, device = about
        name = check_device(device or node.partition("/")[2])
        said = _parse(payload)
        if kind.endswith("BIRTH"):
            self._births.learn(node, device, birth_of(position, said))
            decoded.statuses.append(DeviceStatus(position=position, device=name, online=True))
        if kind != "NDEATH":  # a will has no place in the sequence
            self._ask_where_births_are_missing(decoded, position, kind, node, device, said)
        if kind.endswith("DEATH"):
            self._death(decoded, position, node, device, name, said)
            return None
        check_claimed(name, self._claimed)
        return self._data(decoded, received, position, (node, device, name), said)

    def _death(self, decoded: Decoded, position: int, node: str, device: str, name: str, said: Any) -> None:
        """Offline, a node with its devices; unless it is the will of a connection before the present one."""
        gone = [name]
        if not device:
            birth = self._births.at(node, "", position)
            which = next((m.long_value or m.int_value for m in said.metrics if m.name == "bdSeq"), None)
            if birth is not None and which is not None and birth.death not in (None, which):
                return
            gone += self._births.devices(node, position)
        decoded.statuses += [DeviceStatus(position=position, device=one, online=False) for one in gone]

    def _ask_where_births_are_missing(
        self, decoded: Decoded, position: int, kind: str, node: str, device: str, said: Any
    ) -> None:
        missed = self._births.missed(node, position, said.seq % 256) and kind != "NBIRTH"
        if missed or self._births.at(node, device, position) is None:
            decoded.unborn.append(node)

    def _data(
        self, decoded: Decoded, received: int, position: int, who: tuple[str, str, str], said: Any
    ) -> MalformedError | None:
        node, device, name = who
        birth = self._births.at(node, device, position)
        items: dict[int, dict[str, Value]] = {}
        faults: list[MalformedError] = []
        for metric in said.metrics:
            try:
                read = _read(metric, birth)
                if read is not None:
                    ts = metric.timestamp if metric.HasField("timestamp") else said.timestamp
                    at = reading_ts(ts or None, received, self._ahead)
                    signal = self._signals.name(read[0])
                    items.setdefault(at, {})[signal] = self._signals.value(signal, read[1])
            except MalformedError as fault:
                faults.append(fault)
                if fault.reason == "unknown_alias":
                    decoded.unborn.append(node)
        if items:
            decoded.take(position, name, [*items.items()])
        return summary(faults, bool(items))


def parse_topic(topic: str) -> tuple[str, str, str] | None:
    """(type, "group/node", device or ""); None for what hosts say. Raises MalformedError bad_topic."""
    levels = topic.split("/")
    if levels[1:2] == ["STATE"] and len(levels) == 3:
        return None
    kind = levels[2] if len(levels) in (4, 5) else ""
    if kind in ("NCMD", "DCMD"):
        return None
    if kind not in (("NBIRTH", "NDATA", "NDEATH") if len(levels) == 4 else ("DBIRTH", "DDATA", "DDEATH")):
        raise MalformedError("bad_topic", f"{PREFIX}group/type/node, or …/node/device, with the types of it")
    return kind, f"{levels[1]}/{levels[3]}", levels[4] if len(levels) == 5 else ""


def _read(metric: Any, birth: Birth | None) -> tuple[str, Any] | None:
    """(name, value) of a metric; None for one that is no reading. Raises MalformedError."""
    name = _text(metric.name)
    if not name and metric.HasField("alias"):
        named = birth.aliases.get(metric.alias) if birth is not None else None
        if named is None:
            raise MalformedError("unknown_alias", f"no birth that is known says what alias {metric.alias} is")
        name = named
    held = metric.WhichOneof("value")
    if name.startswith(_OURS) or metric.is_null or held is None:
        return None
    said, born = metric.datatype, birth.types.get(name, 0) if birth is not None else 0
    if said and born and said != born:
        raise MalformedError("bad_value", f"{name[:64]}: of type {said}, and {born} in its birth")
    return name, _value(name[:64], metric, held, said or born or _SUPPOSED.get(held, 0))


def _value(name: str, metric: Any, held: str, datatype: int) -> Any:
    if held not in _HELD_IN.get(datatype, ()):
        raise MalformedError("bad_value", f"{name}: type {datatype} in {held} is no reading")
    value = getattr(metric, held)
    if datatype in _SIGNED:
        return _signed(name, value, _SIGNED[datatype])
    if datatype in _UNSIGNED:
        if value >> _UNSIGNED[datatype]:
            raise MalformedError("bad_value", f"{name}: {value} is beyond its type")
        return value if value < 2**63 else float(value)
    if datatype == STRING_ARRAY:
        return [_text(part) for part in value.split(b"\0") if part]
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedError("bad_value", f"{name}: not a finite number")
    if isinstance(value, bytes) and datatype in (BYTES, FILE):
        return base64.b64encode(value).decode()
    return _text(value) if isinstance(value, str | bytes) else value


def _signed(name: str, value: int, bits: int) -> int:
    """Two's complement in 32 or 64 bits, or in as many as the type has."""
    for width in (bits, 32, 64):
        if value < 2**width:
            signed = value - 2**width if value >= 2 ** (width - 1) else value
            if -(2 ** (bits - 1)) <= signed < 2 ** (bits - 1):
                return signed
    raise MalformedError("bad_value", f"{name}: {value} is beyond its type")


def _text(value: str | bytes) -> str:
    """Raises MalformedError not_sparkplug for bytes that are no UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise MalformedError("not_sparkplug", "a text is not UTF-8") from error

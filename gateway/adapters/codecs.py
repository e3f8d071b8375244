"""From payloads to readings: the native JSON form, and the reason for everything that is not.

Other forms have modules of their own (codec_choice says which topic has which); they are asked for topics
that are not ours.

`make_decoder` gives the function that `Batch.decoded` calls. The way a good message takes is short: one
look-up of its topic, one typed decoding, one test of its names, one of its time. Whatever fails there is
looked at again, slowly, to keep its good parts and to say what is wrong with the rest. What is good and what
is not: docs/decisions/0005-malformed-native-messages.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from gateway.domain.messages import (
    KEPT_PAYLOAD,
    Batch,
    ContextReading,
    Decoded,
    DeviceEvent,
    DeviceStatus,
    DisplayAnswer,
    Item,
    Names,
    Undecodable,
)
from gateway.domain.times import parse_rfc3339
from rules.readings import Value

PREFIX = "touchpoint/v1/"
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

EARLIEST = 946_684_800_000
"""2000-01-01T00:00:00Z in ms: a clock before it was never set."""
AHEAD = 86_400_000
"""ms that a device's clock may be ahead of the time of reception, unless the settings say otherwise."""

LONGEST_TEXT = 16_384
LONGEST_LIST = 1_024
LONGEST_NAME = 256
"""Limits in characters and items; beyond them a value is not a reading."""

KNOWN_NAMES = 50_000
KNOWN_SETS = 10_000
KNOWN_TOPICS = 200_000
"""Bounds of the caches; a full one is emptied."""

_Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[str, Meta(max_length=LONGEST_TEXT, pattern=r"^[^\x00]*\Z")]
_List = Annotated[list[_Text], Meta(max_length=LONGEST_LIST)]


class _Reading(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    signals: dict[str, float | _Int | bool | _Text | _List]
    ts: int
    seq: int | None = None


class _ReadingAndMore(msgspec.Struct, gc=False):
    """Its values are checked by hand: a second decoder with a pattern lets msgspec 0.22 crash at exit."""

    signals: dict[str, Any]
    ts: int


_decode_reading = msgspec.json.Decoder(_Reading).decode
_decode_with_more = msgspec.json.Decoder(_ReadingAndMore).decode
_decode_any = msgspec.json.Decoder().decode


class MalformedError(Exception):
    """A message, or a part of one, that is not what its topic promises: (reason, detail)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


_NOT_AT_A_GLANCE = (msgspec.MsgspecError, ValueError, RecursionError, MalformedError)


# --- time ---------------------------------------------------------------------------------------


def reading_ts(raw: Any, received: int, ahead: int) -> int:
    """A payload's `ts` as UTC milliseconds; a missing one is the time of reception. It may be `ahead` of it.

    Raises MalformedError bad_ts, ts_before_2000, ts_in_future.
    """
    if raw is None:
        return received
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise MalformedError("bad_ts", "ts is neither epoch milliseconds nor RFC 3339 text")
    try:
        ts = parse_rfc3339(raw) if isinstance(raw, str) else int(raw)
    except (ValueError, OverflowError) as error:
        raise MalformedError("bad_ts", f"ts {str(raw)[:64]!r}: {error}") from error
    if ts < EARLIEST:
        raise MalformedError(
            "ts_before_2000", f"ts {str(raw)[:64]} lies before 2000 (milliseconds, not seconds)"
        )
    if ts > received + ahead:
        raise MalformedError(
            "ts_in_future", f"ts {str(raw)[:64]} lies over {ahead // 1000:,} s ahead of its reception"
        )
    return ts


# --- topics ---------------------------------------------------------------------------------------

Topic = tuple[str, str]
"""(kind, device or context name); kinds are those of `_takers`, "ours" for downlinks, "bad"."""


def parse_topic(topic: str) -> Topic:
    """What a topic is for; for kind "bad" the second part says why."""
    if not topic.startswith(PREFIX):
        return "bad", f"the topic does not begin with {PREFIX}"
    device, _, rest = topic[len(PREFIX) :].partition("/")
    if device == "context":
        return ("context", rest) if DEVICE.fullmatch(rest) else ("bad", "a context topic is context/{name}")
    if rest == "command" or rest.startswith("touchpoint/"):
        return "ours", device
    if not DEVICE.fullmatch(device):
        return (
            "bad",
            f"a device id matches {DEVICE.pattern}",
        )
    if rest not in ("telemetry", "event", "status", "answer"):
        return "bad", "a device sends to telemetry, event, status or answer"
    return rest, device


def check_device(device: str) -> str:
    """The id, when it is one. Raises MalformedError bad_topic."""
    if not DEVICE.fullmatch(device) or device == "context":
        raise MalformedError("bad_topic", f"a device id matches {DEVICE.pattern}, and is not context")
    return device


def check_claimed(device: str, claimed: Callable[[str], bool] | None) -> None:
    """Raises MalformedError unknown_device where only registered devices are taken."""
    if claimed is not None and not claimed(device):
        raise MalformedError("unknown_device", "nobody registered this device")


# --- values ---------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raises MalformedError bad_name for what cannot name a signal."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise MalformedError("bad_name", f"a signal name has 1 to {LONGEST_NAME} printable characters")


def check_value(name: str, value: Any) -> Value:
    """The value when it is a number, boolean, string or list of strings. Raises MalformedError bad_value."""
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        raise MalformedError("bad_value", f"{name}: an integer beyond 64 bits")
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, list) and len(value) <= LONGEST_LIST and all(isinstance(v, str) for v in value):
        return [_text(name, v) for v in value]
    raise MalformedError("bad_value", f"{name}: not a number, boolean, string or list of strings")


def _text(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise MalformedError("bad_value", f"{name}: a text of more than {LONGEST_TEXT:,} characters")
    if "\x00" in text:
        raise MalformedError("bad_value", f"{name}: a text with U+0000")
    return text


def parse_json(payload: bytes) -> Any:
    """The JSON value. Raises MalformedError empty, not_json, too_deep, bad_number."""
    if not payload:
        raise MalformedError("empty", "the payload has no bytes")
    try:
        return _decode_any(payload)
    except RecursionError as error:
        raise MalformedError("too_deep", "JSON nested too deep") from error
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise MalformedError("bad_number", str(error)) from error
        raise MalformedError("not_json", str(error)) from error


def _among_more(payload: bytes) -> Item:
    """The reading of a message that says more than a reading. Raises MalformedError, msgspec's errors."""
    reading = _decode_with_more(payload)
    return reading.ts, {name: check_value(name, value) for name, value in reading.signals.items()}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError("not_an_object", "the payload is JSON, but not an object")
    return value


class _Names:
    """Signal names: known good ones are passed at a glance, VSS paths become snake_case."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self.aliases = dict(aliases)
        self.plain: set[str] = set(aliases.values())
        self.sets: dict[Names, Names] = {}
        """sets of plain names that came together"""

    def learn(self, name: str) -> str:
        """The name to store under. Raises MalformedError bad_name."""
        known = self.aliases.get(name)
        if known is None:
            check_name(name)
            if len(self.plain) >= KNOWN_NAMES:
                self.plain.clear()
            self.plain.add(name)
        return known or name

    def together(self, names: Names) -> Names | None:
        """Remember plain names that came together; None if one is not known to be plain."""
        if not names or not self.plain.issuperset(names):
            return None
        if len(self.sets) >= KNOWN_SETS:
            self.sets.clear()
        self.sets[names] = names
        return names

    def good_parts(self, signals: Any, faults: list[MalformedError]) -> dict[str, Value]:
        """What can be taken of a `signals` object; what cannot is added to `faults`."""
        if not isinstance(signals, dict) or not signals:
            raise MalformedError("no_signals", '"signals" is missing, empty or not an object')
        good: dict[str, Value] = {}
        for name, value in signals.items():
            try:
                stored = self.learn(name)
                good[stored] = check_value(name[:64], value)
            except MalformedError as fault:
                faults.append(fault)
        if not good:
            raise faults.pop()
        return good


# --- the decoder ----------------------------------------------------------------------------------


class Taker(Protocol):
    """Reads one form of payload."""

    def __call__(
        self, decoded: Decoded, received: int, position: int, topic: str, payload: bytes
    ) -> MalformedError | None:
        """Add what is good in a message to `decoded`; give one fault when a part of it was not.

        Raises MalformedError when nothing was.
        """
        ...


class _NativeDecoder:
    def __init__(
        self,
        aliases: Mapping[str, str],
        claimed: Callable[[str], bool] | None,
        ahead: int,
        others: Callable[[str], Taker | None] | None,
    ) -> None:
        self._names = _Names(aliases)
        self._claimed = claimed
        self._ahead = ahead
        self._others = others
        self._devices: dict[str, str] = {}
        self._takers = {
            "telemetry": self._telemetry,
            "event": self._event,
            "status": self._status,
            "answer": self._answer,
            "context": self._context,
        }

    def __call__(self, batch: Batch) -> Decoded:
        """Decode one batch; never raises for what a device sent."""
        decoded = Decoded()
        take, decode = decoded.telemetry.append, _decode_reading
        device_of, claimed = self._devices.get, self._claimed
        known, together = self._names.sets.get, self._names.together
        earliest, latest = EARLIEST, batch.received + self._ahead
        position = batch.first - 1
        for topic, payload in batch.messages:
            position += 1
            device = device_of(topic)
            if device is not None and (claimed is None or claimed(device)):
                try:
                    signals: Mapping[str, Value]
                    sent: bytes | None = payload
                    try:
                        reading = decode(payload)
                        ts, signals = reading.ts, reading.signals
                    except msgspec.ValidationError:
                        ts, signals = _among_more(payload)
                        sent = None
                    came = tuple(signals)
                    names = known(came) or together(came)
                    if names is not None and earliest <= ts <= latest:
                        take((position, device, ts, signals, names, sent))
                        continue
                except _NOT_AT_A_GLANCE:
                    pass  # looked at again below, to keep what is good and to say what is wrong
            self._slowly(decoded, batch, position, topic, payload)
        return decoded

    def _slowly(self, decoded: Decoded, batch: Batch, position: int, topic: str, payload: bytes) -> None:
        other = None if self._others is None or topic.startswith(PREFIX) else self._others(topic)
        try:
            fault = (other or self._native)(decoded, batch.received, position, topic, payload)
            if fault is not None:
                raise fault
        except MalformedError as fault:
            decoded.undecodable.append(
                Undecodable(
                    position=position,
                    topic=topic,
                    payload=payload[:KEPT_PAYLOAD],
                    size=len(payload),
                    reason=fault.reason,
                    detail=fault.detail,
                )
            )

    def _native(
        self, decoded: Decoded, received: int, position: int, topic: str, payload: bytes
    ) -> MalformedError | None:
        kind, name = parse_topic(topic)
        if kind == "ours":
            return None
        if kind == "bad":
            raise MalformedError("bad_topic", name)
        if kind not in ("context", "status"):
            check_claimed(name, self._claimed)
        if kind == "telemetry":
            self._remember(topic, name)
        return self._takers[kind](decoded, received, position, name, payload)

    def _remember(self, topic: str, device: str) -> None:
        if len(self._devices) >= KNOWN_TOPICS:
            self._devices.clear()
        self._devices[topic] = device

    def _telemetry(
        self, decoded: Decoded, received: int, position: int, device: str, payload: bytes
    ) -> MalformedError | None:
        """Keep every good part; give one fault when there was any."""
        value = parse_json(payload)
        items: list[Item] = []
        faults: list[MalformedError] = []
        for part in value if isinstance(value, list) else [value]:
            try:
                fields = _object(part)
                signals = self._names.good_parts(fields.get("signals"), faults)
                items.append((reading_ts(fields.get("ts"), received, self._ahead), signals))
            except MalformedError as fault:
                faults.append(fault)
        if items:
            decoded.take(position, device, items)
        elif not faults:
            faults.append(MalformedError("no_signals", "an empty array"))
        return summary(faults, bool(items))

    def _event(
        self, decoded: Decoded, received: int, position: int, device: str, payload: bytes
    ) -> MalformedError | None:
        fields = _object(parse_json(payload))
        event, data = fields.get("event"), fields.get("data")
        if not isinstance(event, str) or not 0 < len(event) <= LONGEST_NAME:
            raise MalformedError("bad_event", '"event" is a text that names what happened')
        if not isinstance(data, dict | None):
            raise MalformedError("bad_event", '"data" is an object')
        ts = reading_ts(fields.get("ts"), received, self._ahead)
        decoded.events.append(
            DeviceEvent(position=position, device=device, ts=ts, event=event, data=data or {})
        )
        return None

    def _status(
        self, decoded: Decoded, received: int, position: int, device: str, payload: bytes
    ) -> MalformedError | None:
        if payload not in (b"online", b"offline", b""):
            raise MalformedError("bad_status", "a status is the text online or offline")
        if payload:  # an empty one only clears what was retained
            online = payload == b"online"
            decoded.statuses.append(DeviceStatus(position=position, device=device, online=online))
        return None

    def _answer(
        self, decoded: Decoded, received: int, position: int, device: str, payload: bytes
    ) -> MalformedError | None:
        fields = _object(parse_json(payload))
        touchpoint, action = fields.get("touchpoint"), fields.get("action")
        for text in (touchpoint, action):
            if not isinstance(text, str) or not 0 < len(text) <= LONGEST_NAME:
                raise MalformedError("bad_answer", '"touchpoint" and "action" are texts')
        decoded.answers.append(
            DisplayAnswer(
                position=position,
                device=device,
                touchpoint=str(touchpoint),
                action=str(action),
                ts=reading_ts(fields.get("ts"), received, self._ahead),
            )
        )
        return None

    def _context(
        self, decoded: Decoded, received: int, position: int, name: str, payload: bytes
    ) -> MalformedError | None:
        fields = _object(parse_json(payload))
        faults: list[MalformedError] = []
        signals = self._names.good_parts(fields.get("signals"), faults)
        area = fields.get("area") or ""
        if not isinstance(area, str) or len(area) > LONGEST_NAME:
            raise MalformedError("bad_context", '"area" is a text')
        ts = reading_ts(fields.get("ts"), received, self._ahead)
        decoded.contexts.append(
            ContextReading(position=position, name=name, area=area, ts=ts, signals=signals)
        )
        return summary(faults, True)


def summary(faults: Sequence[MalformedError], partly: bool) -> MalformedError | None:
    """One fault for one message: the first, with the number of the others."""
    if not faults:
        return None
    more = f" (and {len(faults) - 1:,} more faults)" if len(faults) > 1 else ""
    kept = "; the other readings were kept" if partly else ""
    return MalformedError(faults[0].reason, faults[0].detail + more + kept)


def make_decoder(
    aliases: Mapping[str, str],
    *,
    claimed: Callable[[str], bool] | None = None,
    ahead_ms: int = AHEAD,
    others: Callable[[str], Taker | None] | None = None,
) -> Callable[[Batch], Decoded]:
    """The decoder of native messages.

    `aliases` maps VSS paths to signal names. `claimed` says whether a device is registered; given it,
    messages of others are undecodable with reason unknown_device (`devices.unclaimed = "quarantine"`).
    `ahead_ms` is how far a device's clock may be ahead of the time of reception. `others` gives what reads
    the messages of a topic that is not ours.
    """
    return _NativeDecoder(aliases, claimed, ahead_ms, others)

"""SenML (RFC 8428), as JSON (section 5) and as CBOR (section 6).

A pack is a list of records; base fields hold for their record and those that follow, until another one
replaces them (section 4.1). The device is named by the topic. A record's signal is what stands behind the
device in its name: bn "car-1:" and n "speed", or n "car-1:speed"; where nothing does, its unit, as in the
RFC's own example of a place.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import cbor2

from gateway.adapters.codec_signals import Signals
from gateway.adapters.codecs import MalformedError, check_claimed, parse_json, reading_ts, summary
from gateway.domain.messages import Decoded
from rules.readings import Value

VERSION = 10
"""What RFC 8428 describes (section 4.4); a pack that says more may mean something else by the same fields."""
ABSOLUTE_S = 2**28
"""Times from here on are absolute, others count from now (section 4.5.3)."""
LONGEST_PACK = 10_000

_LABELS = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""CBOR's labels (table 4)."""


def read_json(payload: bytes) -> Any:
    """The pack. Raises MalformedError."""
    return parse_json(payload)


def read_cbor(payload: bytes) -> Any:
    """The pack, with JSON's names. Raises MalformedError empty, not_cbor."""
    if not payload:
        raise MalformedError("empty", "the payload has no bytes")
    stream = io.BytesIO(payload)
    try:
        pack = cbor2.load(stream, allow_duplicate_keys=False, max_depth=8, semantic_decoders=_TAGS)
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError("not_cbor", str(error)[:200]) from error
    if stream.tell() != len(payload):
        raise MalformedError("not_cbor", f"{len(payload) - stream.tell():,} bytes follow the pack")
    return [_named(record) for record in pack] if isinstance(pack, list) else pack


def _named(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    return {_LABELS.get(label, label): _plain(value) for label, value in record.items()}


def _plain(value: Any) -> Any:
    """Decimal fractions as numbers, bytes as JSON has them."""
    if isinstance(value, Decimal):
        return float(value) if -400 < value.adjusted() < 400 else math.inf
    return base64.urlsafe_b64encode(value).decode() if isinstance(value, bytes) else value


def _refuse(*_: Any) -> Any:
    raise ValueError("a tag that a pack has no use for")


_TAGS: dict[int, Callable[..., Any]] = dict.fromkeys(
    (*range(4), 5, *range(21, 37), 100, 258, 260, 261, 1004, 43000), _refuse
)
"""All that cbor2 knows but decimal fractions: they cost, and shared values may hold themselves."""


class SenML:
    """Reads packs of one form."""

    def __init__(
        self,
        read: Callable[[bytes], Any],
        signals: Signals,
        *,
        device_of: Callable[[str], str],
        claimed: Callable[[str], bool] | None,
        ahead_ms: int,
    ) -> None:
        self._read, self._signals, self._device_of = read, signals, device_of
        self._claimed, self._ahead = claimed, ahead_ms

    def __call__(
        self, decoded: Decoded, received: int, position: int, topic: str, payload: bytes
    ) -> MalformedError | None:
        """See `gateway.adapters.codecs.Taker`."""
        device = self._device_of(topic)
        check_claimed(device, self._claimed)
        pack = self._read(payload)
        if not isinstance(pack, list) or not 0 < len(pack) <= LONGEST_PACK:
            raise MalformedError("no_signals", f"a pack is a list of 1 to {LONGEST_PACK:,} records")
        items: dict[int, dict[str, Value]] = {}
        faults: list[MalformedError] = []
        for record in _resolved(pack, faults):
            try:
                ts = self._ts(record, received)
                for name, value in self._values(record, device):
                    items.setdefault(ts, {})[name] = value
            except MalformedError as fault:
                faults.append(fault)
        if items:
            decoded.take(position, device, [*items.items()])
        elif faults:
            raise summary(faults, False) or faults[0]
        return summary(faults, bool(items))

    def _ts(self, record: Mapping[str, Any], received: int) -> int:
        seconds = _number(record, "t", "bad_ts") or 0.0
        ms = round(seconds * 1000)
        return reading_ts(ms if seconds >= ABSOLUTE_S else received + ms, received, self._ahead)

    def _values(self, record: Mapping[str, Any], device: str) -> Iterable[tuple[str, Value]]:
        """Of a record its value, and its sum under a name of its own."""
        unit = record.get("u")
        if unit is not None and not isinstance(unit, str):
            raise MalformedError("bad_unit", "a unit is a text")
        name = self._signals.name(_signal(record, device, unit))
        value = _value(record)
        if value is not None:
            yield name, self._signals.value(name, value, unit)
        total = _number(record, "s", "bad_value")
        if total is not None:
            yield f"{name}_sum", total


def _resolved(pack: list[Any], faults: list[MalformedError]) -> Iterable[dict[str, Any]]:
    """The records with the base fields worked in; `local` says how much of a name the base does not give.

    Raises MalformedError bad_version, must_understand for what makes the whole pack uncertain."""
    base: dict[str, Any] = {}
    for record in pack:
        if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
            faults.append(MalformedError("not_an_object", "a record is an object"))
            continue
        _check_version(record, base)
        unknown = next((key for key in record if key.endswith("_")), None)
        if unknown is not None:
            raise MalformedError("must_understand", f"{unknown[:64]}: a field that has to be understood")
        base |= {key: record[key] for key in ("bn", "bt", "bu", "bv", "bs") if key in record}
        if any(key in record for key in ("v", "vs", "vb", "vd", "s")) or "bv" in base or "bs" in base:
            try:
                yield _with_base(record, base)
            except MalformedError as fault:
                faults.append(fault)
        elif not any(key in record for key in ("bn", "bt", "bu", "bver")):
            faults.append(MalformedError("bad_value", "a record without a value, and without a base field"))


def _check_version(record: Mapping[str, Any], base: dict[str, Any]) -> None:
    version = record.get("bver")
    if version is None:
        return
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version <= VERSION:
        raise MalformedError("bad_version", f"version {str(version)[:20]}; this is a reader of {VERSION}")
    if base.setdefault("bver", version) != version:
        raise MalformedError("bad_version", "records of one pack have one version")


def _with_base(record: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    bn, n = base.get("bn", ""), record.get("n", "")
    if not isinstance(bn, str) or not isinstance(n, str):
        raise MalformedError("bad_name", "bn and n are texts")
    whole: dict[str, Any] = dict(record) | {"n": bn + n, "local": n if bn else None}
    if "u" not in record and "bu" in base:
        whole["u"] = base["bu"]
    for key, more in (("t", "bt"), ("v", "bv"), ("s", "bs")):
        if more in base and not (key == "v" and any(k in record for k in ("vs", "vb", "vd"))):
            reason = "bad_ts" if key == "t" else "bad_value"
            whole[key] = (_number(base, more, reason) or 0) + (_number(record, key, reason) or 0)
    return whole


def _number(fields: Mapping[str, Any], key: str, reason: str) -> float | int | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedError(reason, f"{key} is a number")
    return value


def _value(record: Mapping[str, Any]) -> Any:
    """The one value of a record, None where it has none."""
    given = [key for key in ("v", "vs", "vb", "vd") if key in record]
    if len(given) > 1:
        raise MalformedError("bad_value", f"{' and '.join(given)}: a record has one value")
    if not given:
        return None
    value = record[given[0]]
    if given[0] == "v":
        if value is None:
            raise MalformedError("bad_value", "v is a number")
        return _number(record, "v", "bad_value")
    if given[0] == "vb":
        if not isinstance(value, bool):
            raise MalformedError("bad_value", "vb is a boolean")
    elif not isinstance(value, str):
        raise MalformedError("bad_value", f"{given[0]} is a text")
    elif given[0] == "vd":
        _check_base64(value)
    return value


def _check_base64(text: str) -> None:
    """RFC 4648, section 5, without padding. What it stands for is kept as this text."""
    try:
        base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars="-_", validate=True)
    except ValueError as error:
        raise MalformedError("bad_value", "vd is not base64url") from error


def _signal(record: Mapping[str, Any], device: str, unit: str | None) -> str:
    full = record["n"]
    if full.startswith(device) and full[len(device) : len(device) + 1] in (":", "/", "."):
        local = full[len(device) + 1 :]
    else:
        local = record["local"] if record["local"] is not None else full
    return str(local or unit or full)

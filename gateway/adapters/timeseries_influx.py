"""The time series in InfluxDB 2.x: raw line protocol out, Flux back.

Measurement = device kind, tags `device` and `model`, fields = signals, milliseconds. Numbers are floats, so
that 100 beside 100.5 is no conflict; lists of codes are JSON text. Writing again changes nothing, so a write
whose answer was lost is simply repeated.

InfluxDB writes what it can of a request and names one trouble at a time (422 "partial write"). What it names
is taken out, the rest is sent again, until all is either stored or known to be refused.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar

import aiohttp
import influxdb_client
import msgspec
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.rest import ApiException

from gateway.domain.messages import Batch, Names
from gateway.domain.plotting import Courses, Point, Wanted, number, stretch, windows
from gateway.domain.times import rfc3339
from gateway.ports import StoreUnavailableError
from rules.readings import Value

LINES = 10_000
"""Lines in one request: enough that what a request costs besides, half a millisecond, does not show."""
TIMEOUT_MS = 30_000
KNOWN_NAMES, KNOWN_DEVICES = 10_000, 100_000
ROUNDS = 50
"""Different troubles of one request that are taken out by name before it is halved."""
MARK = "\u200b"
ENDLESS = 7_258_118_400_000
"""2200-01-01 in ms: Flux reads up to now unless it is told otherwise."""

_untyped: Any = influxdb_client
"""Its classes for buckets and organisations have no types."""

Kinds = Callable[[str], tuple[str, str]]
Refused = tuple[str, str]
"""(device, reason)."""
T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)
_SPECIAL = re.compile(rb'[\x00-\x20":{}\\]')
_BEGINS = (b'"signals":{', b'"signals": {')
_TO_LINES, _NOT_IN_LINES = bytes.maketrans(b"\0\1:", b"\n ="), b'"{} \t\r\n'
"""What makes lines of JSON fields; 0 and 1, which are in no JSON, stand between lines, and between their
parts."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InfluxTimeSeries:
    """Port TimeSeries over InfluxDB 2.x; connects when it is first used."""

    def __init__(self, *, url: str, org: str, bucket: str, token: str, gzip: bool = False) -> None:
        self._url, self._org, self._bucket, self._token, self._gzip = url, org, bucket, token, gzip
        self._open: InfluxDBClientAsync | None = None
        self._lines = _Lines()

    # --- writing ------------------------------------------------------------------------------

    def gather(self, kinds: Kinds) -> _Gathering:
        """Begin to gather what is to be written together; `kinds(device)` gives (kind, model)."""
        return _Gathering(self._lines, kinds, self._write)

    async def _write(self, request: _Request, kinds: Kinds) -> list[Refused]:
        """Give what was refused for good. Raises StoreUnavailableError."""
        try:
            await self._post(request.body)
        except _RefusedError:
            return await self._write_carefully(list(_points(request.batches, kinds)))
        return []

    async def _write_carefully(self, points: list[_Point]) -> list[Refused]:
        """Take out what InfluxDB names, until the rest is stored."""
        refused: list[Refused] = []
        for _ in range(ROUNDS):
            if not points:
                return refused
            try:
                await self._post(b"\n".join([point.line().encode() for point in points]))
            except _RefusedError as error:
                points, out = _without(points, str(error))
                refused += out
                if not out:
                    return refused + await self._halve(points, str(error))
            else:
                return refused
        return refused + await self._halve(points, "too many different troubles")

    async def _halve(self, points: list[_Point], reason: str) -> list[Refused]:
        if len(points) == 1:
            return [(points[0].device, reason[:200])]
        middle = len(points) // 2
        first = await self._write_carefully(points[:middle])
        return first + await self._write_carefully(points[middle:])

    async def _post(self, body: bytes) -> None:
        if body:
            api: Any = self._client().write_api()
            await self._ask(api.write(self._bucket, self._org, body, write_precision="ms"))

    # --- reading ------------------------------------------------------------------------------

    async def position(self) -> int | None:
        """None: InfluxDB cannot hold it."""
        return None

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> list[tuple[int, Value]]:
        """(ts, value) ordered by ts, start <= ts < end, ts > after; one row per ts."""
        low = max(start or 0, after + 1 if after is not None else 0)
        if end is not None and end <= low:
            return []  # Flux calls an empty range an error
        rows = await self._query(f"{self._of(device, signal, low, end)} |> limit(n: {limit})")
        return sorted({_ms(row["_time"]): _value(row) for row in rows}.items())[:limit]

    async def aggregates(
        self, device: str, signal: str, *, start: int, end: int, every: int
    ) -> list[tuple[int, float, float, float, int]]:
        """(start of the interval, min, mean, max, count); intervals begin at multiples of `every` ms."""
        if end <= start:
            return []
        window = f'every: {every}ms, createEmpty: false, timeSrc: "_start"'
        rows = await self._query(
            f'import "types"\ndata = {self._of(device, signal, start, end)} '
            '|> filter(fn: (r) => types.isType(v: r._value, type: "float"))\n'
            + "\n".join(
                f'data |> aggregateWindow(fn: {name}, {window}) |> yield(name: "{name}")'
                for name in ("min", "sum", "max", "count")
            )
        )
        found: dict[int, dict[str, list[float]]] = {}
        for row in rows:
            ts = _ms(row["_time"])
            interval = found.setdefault(ts - ts % every, {})
            interval.setdefault(row["result"], []).append(float(row["_value"]))
        return [
            (ts, min(of["min"]), sum(of["sum"]) / sum(of["count"]), max(of["max"]), int(sum(of["count"])))
            for ts, of in sorted(found.items())
        ]

    async def plotted(self, wanted: Sequence[Wanted], *, back: int, now: int) -> Sequence[Courses]:
        """The courses of numbers as charts draw them; the store takes the means."""
        return [
            {
                name: points
                for name in signals
                if (points := await self._plot(device, name, windows(within, now, back), now))
            }
            for device, signals, within in wanted
        ]

    async def _plot(
        self, device: str, signal: str, times: Iterable[tuple[int, int]], now: int
    ) -> list[Point]:
        points: list[Point] = []
        every = 0
        for start, end in times:
            first = await self.readings(device, signal, start=start, end=end, after=None, limit=1)
            if not first:
                continue
            every = every or stretch(first[0][0], now)
            rows = await self.aggregates(device, signal, start=first[0][0], end=end, every=every)
            points += [(ts + every // 2, mean) for ts, _, mean, _, _ in rows if ts + every <= end]
            points += await self._tail(device, signal, max(first[0][0], now - now % every), end)
        return points

    async def _tail(self, device: str, signal: str, start: int, end: int) -> list[Point]:
        """The last reading of the stretch of time that is not over yet."""
        if end <= start:
            return []
        rows = await self._query(f"{self._of(device, signal, start, end)} |> last()")
        last = max(((_ms(row["_time"]), row) for row in rows), key=itemgetter(0), default=None)
        value = _value(last[1]) if last is not None else None
        return [(last[0], float(value))] if last and number(value) else []

    async def latest(self, device: str) -> Mapping[str, tuple[int, Value]]:
        """The newest value of every signal of one device."""
        rows = await self._query(f"{self._of(device, None, 0, None)} |> last()")
        found: dict[str, tuple[int, Value]] = {}
        for row in rows:
            ts, name = _ms(row["_time"]), row["_field"].removesuffix(MARK)
            if name not in found or found[name][0] < ts:
                found[name] = (ts, _value(row))
        return found

    def _of(self, device: str, signal: str | None, start: int, end: int | None) -> str:
        """Flux for the readings of one device. Series are not merged here: their types may differ."""
        stop = min(end, ENDLESS) if end is not None else ENDLESS
        field = f" and r._field == {_flux(_stored(signal))}" if signal is not None else ""
        return (
            f"from(bucket: {_flux(self._bucket)}) "
            f"|> range(start: {_time(start)}, stop: {_time(stop)}) "
            f"|> filter(fn: (r) => r.device == {_flux(device)}{field})"
        )

    async def _query(self, flux: str) -> list[dict[str, str]]:
        text = await self._ask(self._client().query_api().query_raw(flux, self._org))
        return list(_rows(text if isinstance(text, str) else text.decode()))

    async def erase(self, device: str, start: int, end: int) -> None:
        """End a device's readings of start <= ts < end; InfluxDB takes them out of its files by itself."""
        last = min(end, ENDLESS) - 1
        if last < start:
            return
        await self._ask(
            self._client()
            .delete_api()
            .delete(
                start=rfc3339(max(start, 0)),
                stop=rfc3339(last),
                predicate=f"device={_flux(device)}",
                bucket=self._bucket,
                org=self._org,
            )
        )

    # --- life ---------------------------------------------------------------------------------

    async def check(self) -> str:
        """One line for doctor. Raises StoreUnavailableError."""
        if await self._find_bucket() is None:
            raise StoreUnavailableError(
                f"{self._url}: there is no bucket {self._bucket}: run `touchpoint setup`, or correct "
                "timeseries.bucket"
            )
        return f"InfluxDB at {self._url}, bucket {self._bucket}"

    async def prepare(self, retention_days: int = 0) -> str:
        """Create the bucket when it is not there; gives a line for people. Raises StoreUnavailableError."""
        if await self._find_bucket() is not None:
            return f"InfluxDB at {self._url}: bucket {self._bucket} is there, left as it is"
        orgs = await self._ask(
            _untyped.OrganizationsService(self._client().api_client).get_orgs_async(org=self._org)
        )
        rules = [_untyped.BucketRetentionRules(type="expire", every_seconds=retention_days * 86_400)]
        wanted = _untyped.PostBucketRequest(org_id=orgs.orgs[0].id, name=self._bucket, retention_rules=rules)
        buckets = _untyped.BucketsService(self._client().api_client)
        await self._ask(buckets.post_buckets_async(post_bucket_request=wanted))
        return f"InfluxDB at {self._url}: bucket {self._bucket} created"

    async def close(self) -> None:
        """Close the connections."""
        client: Any = self._open
        self._open = None
        if client is not None:
            await client.close()

    async def _find_bucket(self) -> Any | None:
        buckets = _untyped.BucketsService(self._client().api_client)
        try:
            found = await self._ask(buckets.get_buckets_async(name=self._bucket, org=self._org))
        except _MissingError as error:
            if "bucket" in error.said:
                return None
            raise
        return next(iter(found.buckets), None)

    def _client(self) -> InfluxDBClientAsync:
        if self._open is None:
            self._open = InfluxDBClientAsync(
                self._url, self._token, self._org, timeout=TIMEOUT_MS, enable_gzip=self._gzip
            )
        return self._open

    async def _ask(self, answer: Awaitable[T]) -> T:
        """Wait for an answer; every failure becomes one of ours."""
        try:
            return await answer
        except ApiException as error:
            raise self._translated(error) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            said = str(error) or "no answer in time"
            raise StoreUnavailableError(
                f"{self._url}: {said}: is InfluxDB running, is timeseries.url right?"
            ) from error

    def _translated(self, error: ApiException) -> Exception:
        said = _message(error)
        if error.status in (400, 413, 422):
            return _RefusedError(said)
        if error.status in (401, 403):
            todo = f"the token is refused: correct timeseries.token, it must read and write {self._bucket}"
        elif error.status == 404:
            return _MissingError(self._url, said)
        else:
            todo = "it is tried again"
        return StoreUnavailableError(f"{self._url}: {error.status} {said}: {todo}")


class _RefusedError(StoreUnavailableError):
    """InfluxDB answered, and refused the request or a part of it. To a reader it is as good as away."""


class _MissingError(StoreUnavailableError):
    """There is no such bucket or organisation."""

    def __init__(self, url: str, said: str) -> None:
        super().__init__(
            f"{url}: {said}: run `touchpoint setup`, or correct timeseries.org and timeseries.bucket"
        )
        self.said = said


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """Lines for one request, and what they were made of."""

    body: bytes
    batches: Sequence[Batch]


class _Gathering:
    """Port Gathering: lines for some requests. InfluxDB holds no position: whoever reads on after a crash
    writes the last batches again."""

    def __init__(
        self, lines: _Lines, kinds: Kinds, write: Callable[[_Request, Kinds], Awaitable[list[Refused]]]
    ) -> None:
        self._lines, self._kinds, self._write = lines, kinds, write
        self._prefixes: dict[str, tuple[bytes, bytes | None]] = {}
        self._plain: dict[str, bytes] = {}
        """of devices whose prefix needs no escaping, again: one object less to touch with every message"""
        self._body = _Body()
        self._batches: list[Batch] = []
        self._requests: deque[_Request] = deque()
        self._refused: list[Refused] = []
        self.messages = 0

    def add(self, batch: Batch) -> None:
        """Take in the telemetry of one more batch.

        JSON without its braces and quotes is line protocol, as long as all names are plain and all values
        numbers or booleans. So what a device has sent is not formatted anew: its fields are cut out as they
        are, and many of them made lines at once.
        """
        plain_of, body = self._plain.get, self._body
        of, quotes = None, 0
        for _, device, ts, signals, names, sent in batch.decoded.recordable:
            plain = plain_of(device) or self._prefix(device)[1]
            if sent is not None and names is not None and plain is not None:
                if names is not of:
                    of, quotes = names, self._lines.quotes_of(names)
                _, found, fields = sent.partition(_BEGINS[0])
                if not found:
                    _, found, fields = sent.partition(_BEGINS[1])
                # As many quotes as the names need: no text, and nothing follows the signals
                if found and fields.count(b'"') == quotes:
                    body.cut.append(b"%b\1%b\1%d" % (plain, fields, ts))
                    continue
            body.add(b"%b%b %d" % (self._prefix(device)[0], self._lines.fields(signals), ts))
        self.messages += batch.decoded.messages
        self._batches.append(batch.undecoded())
        if len(body) >= LINES:
            self._finish()

    def _prefix(self, device: str) -> tuple[bytes, bytes | None]:
        known = self._prefixes.get(device)
        if known is None:
            known = self._prefixes[device] = self._lines.prefix(device, *self._kinds(device))
            if known[1] is not None:
                self._plain[device] = known[1]
        return known

    def _finish(self) -> None:
        if len(self._body):
            self._requests.append(_Request(body=self._body.joined(), batches=self._batches))
        self._body, self._batches = _Body(), []

    def requests(self) -> Sequence[_Request]:
        """What is still to be sent."""
        self._finish()
        return self._requests

    async def write(self, position: int) -> Sequence[Refused]:
        """Send what was not sent yet; gives what was refused for good. Raises StoreUnavailableError."""
        while self.requests():
            self._refused += await self._write(self._requests[0], self._kinds)
            self._requests.popleft()
        return self._refused


class _Lines:
    """Makes lines of readings, and remembers from one request to the next what needs no escaping."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._quotes: dict[Names, int] = {}
        self._prefixes: dict[tuple[str, str, str], tuple[bytes, bytes | None]] = {}

    def prefix(self, device: str, kind: str, model: str) -> tuple[bytes, bytes | None]:
        """Measurement and tags; and the same without the last space, or None if something in it is
        special."""
        key = (device, kind, model)
        known = self._prefixes.get(key)
        if known is None:
            if len(self._prefixes) >= KNOWN_DEVICES:
                self._prefixes.clear()
            prefix = _prefix(device, kind, model).encode()
            plain = None if _SPECIAL.search(prefix, 0, len(prefix) - 1) else prefix[:-1]
            known = self._prefixes[key] = prefix, plain
        return known

    def quotes_of(self, names: Names) -> int:
        """How many quotes these names have in JSON; -1 if one of them needs escaping here."""
        known = self._quotes.get(names)
        if known is None:
            if len(self._quotes) >= KNOWN_NAMES:
                self._quotes.clear()
            plain = all(_PLAIN.fullmatch(name) for name in names)
            known = self._quotes[names] = 2 * len(names) if plain else -1
        return known

    def fields(self, signals: Mapping[str, Value]) -> bytes:
        """From values, in the same way where that is possible."""
        fields = _encode(signals)
        if (
            fields.count(b'"') == 2 * len(signals)
            and (signals.keys() <= self._names or self._plain(signals))
            and not _unlike_lines(fields)
        ):
            return fields[2:-1].replace(b'":', b"=").replace(b',"', b",")
        return _fields(signals).encode()

    def _plain(self, signals: Mapping[str, Value]) -> bool:
        """Whether no name needs escaping; those that need none are remembered."""
        if len(self._names) >= KNOWN_NAMES:
            self._names.clear()
        self._names.update(name for name in signals if _PLAIN.fullmatch(name))
        return signals.keys() <= self._names


class _Body:
    """Lines of one request, in their order."""

    def __init__(self) -> None:
        self.cut: list[bytes] = []
        """the newest ones, whose fields are JSON still"""
        self._lines: list[bytes] = []
        self._before = 0

    def __len__(self) -> int:
        return self._before + len(self.cut)

    def add(self, line: bytes) -> None:
        """One that is ready."""
        self._make()
        self._lines.append(line)
        self._before += 1

    def joined(self) -> bytes:
        """All of them."""
        self._make()
        return b"\n".join(self._lines)

    def _make(self) -> None:
        if self.cut:
            joined = b"\0".join(self.cut)
            if _unlike_lines(joined):
                self._lines += map(_line, self.cut)
            else:
                self._lines.append(joined.translate(_TO_LINES, _NOT_IN_LINES))
            self._before += len(self.cut)
            self.cut = []


def _unlike_lines(fields: bytes) -> bool:
    """Whether plain names are escaped, or there is an empty list, where all quotes are of names."""
    return fields.find(b"\\") >= 0 or fields.find(b"[") >= 0


def _line(cut: bytes) -> bytes:
    """One line of a run in which some are unlike lines."""
    if not _unlike_lines(cut):
        return cut.translate(_TO_LINES, _NOT_IN_LINES)
    prefix, fields, ts = cut.split(b"\1")
    signals = _decode(b"{%b}" % fields.rstrip(b"} \t\r\n"))
    return b"%b %b %b" % (prefix, _fields(signals).encode(), ts)


# --- points ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    """One line, taken apart."""

    device: str
    kind: str
    model: str
    ts: int
    signals: Mapping[str, Value]

    def line(self) -> str:
        return f"{_prefix(self.device, self.kind, self.model)}{_fields(self.signals)} {self.ts}"


def _points(batches: Iterable[Batch], kinds: Kinds) -> Iterator[_Point]:
    for batch in batches:
        for _, device, ts, signals, _, _ in batch.decoded.recordable:
            kind, model = kinds(device)
            yield _Point(device=device, kind=kind, model=model, ts=ts, signals=signals)


def _prefix(device: str, kind: str, model: str) -> str:
    """Measurement and tags; an empty tag is left out, for line protocol has none."""
    measurement = re.sub(r"([, ])", r"\\\1", kind or "unknown")
    tag = f",model={_key(model)}" if model else ""
    return f"{measurement},device={_key(device)}{tag} "


def _key(text: str) -> str:
    """A tag or field key, or a tag value, escaped. Line protocol has no way to end one with a backslash, so
    a mark is put behind it that no name contains."""
    escaped = re.sub(r"([,= ])", r"\\\1", text.replace("\n", " "))
    return escaped + MARK if escaped.endswith("\\") else escaped


def _stored(name: str) -> str:
    """The name as InfluxDB holds it."""
    return name + MARK if name.endswith("\\") else name


def _fields(signals: Mapping[str, Value]) -> str:
    return ",".join(f"{_key(name)}={_field(value)}" for name, value in signals.items())


def _field(value: Value) -> str:
    if isinstance(value, bool | int | float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(list(value or ()), ensure_ascii=False)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _type(value: Value) -> str:
    """InfluxDB's name for the type that a value is written as."""
    if isinstance(value, bool):
        return "boolean"
    return "float" if isinstance(value, int | float) else "string"


# --- what InfluxDB says ---------------------------------------------------------------------------

_CONFLICT = re.compile(
    r'input field "(?P<field>.*)" on measurement "(?P<kind>.*)" is type (?P<sent>\w+), '
    r"already exists as type (?P<held>\w+)"
)
_TOO_OLD = re.compile(r"Retention Policy Lower Bound at (\d{4}-\d\d-\d\dT[\d:.]+Z)")


def _without(points: list[_Point], said: str) -> tuple[list[_Point], list[Refused]]:
    """(what is left, what was refused) after taking out what the message names, if it names anything."""
    if match := _CONFLICT.search(said):
        return _without_field(points, match)
    if match := _TOO_OLD.search(said):
        bound = _ms(match[1])
        old = [(point.device, "older than the bucket's retention") for point in points if point.ts <= bound]
        return [point for point in points if point.ts > bound], old
    return points, []


def _without_field(points: list[_Point], match: re.Match[str]) -> tuple[list[_Point], list[Refused]]:
    field, kind, sent = _unquoted(match["field"]), _unquoted(match["kind"]), match["sent"]
    reason = f"{kind}.{field} came as {sent}, the store holds it as {match['held']}"
    left: list[_Point] = []
    refused: list[Refused] = []
    for point in points:
        if point.kind == kind and field in point.signals and _type(point.signals[field]) == sent:
            refused.append((point.device, reason))
            others = {name: value for name, value in point.signals.items() if name != field}
            if others:
                left.append(replace(point, signals=others))
        else:
            left.append(point)
    return left, refused


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _message(error: ApiException) -> str:
    """InfluxDB's own words of an error."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:300] or str(error.reason)


# --- Flux -----------------------------------------------------------------------------------------


def _flux(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def _time(ms: int) -> str:
    return f"time(v: {ms * 1_000_000})"


def _rows(text: str) -> Iterator[dict[str, str]]:
    """Annotated CSV as rows by column name, with the type of the value as `type`."""
    kinds: list[str] = []
    names: list[str] = []
    for cells in csv.reader(io.StringIO(text)):
        if not cells:
            names = []
        elif cells[0] == "#datatype":
            kinds, names = cells, []
        elif cells[0].startswith("#"):
            if cells[0] == "#default":
                default = cells[1] if len(cells) > 1 else ""
        elif not names:
            names = cells
            if "error" in names:
                continue
        else:
            row = dict(zip(names, cells, strict=False))
            if "error" in row:
                raise StoreUnavailableError(f"InfluxDB cannot answer: {row['error']}")
            row["type"] = kinds[names.index("_value")]
            row["result"] = row.get("result") or default
            yield row


def _value(row: Mapping[str, str]) -> Value:
    text, kind = row["_value"], row["type"]
    if kind == "boolean":
        return text == "true"
    if kind != "string":
        return float(text)
    text = text.replace("\r\n", "\n")  # InfluxDB's CSV ends every line so, also within a text
    if text.startswith("["):
        try:
            codes = json.loads(text)
        except ValueError:
            return text
        if isinstance(codes, list) and all(isinstance(code, str) for code in codes):
            return codes
    return text


def _ms(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)

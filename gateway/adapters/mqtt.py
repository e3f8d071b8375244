"""Ingest: MQTT 5 (OASIS, 2019) on the sans-I/O codec mqtt5, made for many messages at little cost.

A persistent session at QoS 1. Packets are parsed from a view of what arrived; topics, payloads and packet ids
are collected; the acknowledgements of a batch leave in one write, after the caller has it on disk. What was
not acknowledged comes again, so nothing is lost when either side ends; packet ids of an ended connection are
never acknowledged on the next one. What comes again is pointed out, with the session that its packet id
belongs to, so that receive can tell what it has.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import mqtt5
import structlog

from gateway.domain.counters import Counters
from gateway.domain.messages import Message, PacketIds

log = structlog.get_logger()

P = TypeVar("P", mqtt5.ConnAckPacket, mqtt5.SubAckPacket)

FILTERS = ("touchpoint/v1/#",)
"""Everything below our prefix, so that a mistyped topic reaches quarantine instead of nobody."""

HANDSHAKE = 15.0
"""Seconds a broker has for each step from TCP to SUBACK."""
SHORTEST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
"""Seconds between two tries to connect."""
SAY_AGAIN = 300.0
"""Seconds after which a trouble that has not changed is logged again."""
HELD_BYTES = 64 * 2**20
"""Bytes waiting to be journalled, beyond which reading from the broker pauses. Receive Maximum bounds QoS 1
by number; this bounds large payloads, and QoS 0, which no number bounds."""

_PUBACK, _PUBREC = 0x40020000, 0x50020000
"""With reason Success they are four bytes: type, length 2, packet id (sections 3.4, 3.5)."""
_DUP, _QOS_2, _QOS_1, _DUP_AND_QOS = 0x08, 0x04, 0x02, 0x0E
"""Bits of a PUBLISH's first byte. We subscribe at QoS 1, but not every broker lowers QoS 2 to it."""


class BrokerError(Exception):
    """The broker cannot be used now; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """Where and as whom to connect."""

    url: str
    """mqtt://host:port or mqtts://host:port"""
    client_id: str
    """names the session: stable over restarts, not shared with another gateway"""
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mqtt5: bool = True
    """whether it speaks MQTT 5 at this address; the embedded one does so to ingest alone"""

    def endpoint(self) -> tuple[str, int]:
        """(host, port). Raises BrokerError for an address that is none."""
        try:
            parts = urlsplit(self.url)
            if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
                raise ValueError("not mqtt://host:port or mqtts://host:port")
            return parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        except ValueError as error:
            raise BrokerError(f"mqtt.url {self.url!r}: {error}") from error

    def tls(self) -> ssl.SSLContext | None:
        """The context for mqtts. Raises BrokerError for files that cannot be used."""
        if not self.url.startswith("mqtts:"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(f"mqtt.ca_file, cert_file or key_file cannot be used: {error}") from error
        return context


@dataclass(frozen=True, kw_only=True)
class BrokerState:
    """How ingest stands with its broker, for health, doctor and the operator."""

    connected: bool = False
    problem: str = "not connected yet"
    """why not, and what to do; empty while connected"""


class BrokerDelivery:
    """A batch and what acknowledges it."""

    __slots__ = ("_acks", "_connection", "again", "messages", "packet_ids", "size")

    def __init__(self, read: _Read, session: int, connection: _Connection | None) -> None:
        """Without a connection there is nothing to acknowledge: the one that brought it is gone."""
        self.messages: Sequence[Message] = read.messages
        self.again: Sequence[int] = read.again
        self.size = read.size
        self._acks = struct.pack(f">{len(read.acks)}I", *read.acks)
        self.packet_ids = _packet_ids(session, self._acks)
        self._connection = connection

    def acknowledge(self) -> None:
        """One write for all; nothing when the connection is gone, for the broker sends them again."""
        if self._connection is not None and self.packet_ids is not None:
            acks = self._acks
            if self.packet_ids.count * 4 < len(acks):  # some came at QoS 0
                acks = b"".join(acks[at : at + 4] for at in range(0, len(acks), 4) if acks[at])
            self._connection.write(acks)


def _packet_ids(session: int, acks: bytes) -> PacketIds | None:
    """The lower half of every four bytes, at the cost of copying them."""
    count = len(acks) // 4 - acks[::4].count(0)
    if not count:
        return None
    packed = bytearray(len(acks) // 2)
    packed[::2], packed[1::2] = acks[2::4], acks[3::4]
    return PacketIds(session=session, packed=bytes(packed), count=count)


class _Read:
    """What was read, and is not a batch yet."""

    __slots__ = ("acks", "again", "messages", "size")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.acks: list[int] = []
        """the four bytes that acknowledge each message, 0 for one at QoS 0"""
        self.again: list[int] = []
        """indices of those that came with DUP"""
        self.size = 0
        """bytes"""

    def add(self, more: _Read) -> None:
        """What the next read brought."""
        if more.again:
            self.again += [len(self.messages) + index for index in more.again]
        self.messages += more.messages
        self.acks += more.acks
        self.size += more.size


class MqttSource:
    """The port Source of receive, on a broker that speaks MQTT 5."""

    def __init__(
        self,
        broker: Broker,
        *,
        counters: Counters,
        random: Callable[[], float],
        receive_maximum: int = 1000,
        batch_messages: int = 1000,
        batch_delay_ms: float = 20,
        keep_alive: int = 30,
        session_expiry: int = 7 * 86_400,
        filters: Sequence[str] = FILTERS,
        session_file: Path | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`batch_messages` or `batch_delay_ms` after its first message a batch is ready, whichever comes
        first. `keep_alive` and `session_expiry` are seconds. `session_file` remembers over restarts which
        session of ours the broker holds, and when it last had forgotten one (`wall` gives UTC seconds)."""
        self._wall = wall
        self._broker, self._counters, self._random = broker, counters, random
        self._receive_maximum = receive_maximum
        self._batch_messages = max(1, min(batch_messages, receive_maximum))
        self._batch_delay = batch_delay_ms / 1000
        self._keep_alive, self._session_expiry, self._filters = keep_alive, session_expiry, tuple(filters)
        self._session = _SessionMemory(session_file, broker)
        self._read = _Read()
        self._left: deque[BrokerDelivery] = deque()
        self._ready = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._connection: _Connection | None = None
        self._state = BrokerState()
        self._said, self._said_at = "", 0.0

    @property
    def state(self) -> BrokerState:
        """How it stands now."""
        return self._state

    # --- what receive calls -------------------------------------------------------------------

    async def batch(self) -> BrokerDelivery:
        """Wait until a batch is gathered, and take it."""
        while True:
            await self._ready.wait()
            if self._left:
                delivery = self._left.popleft()
            else:
                self._ready.clear()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                if not self._read.messages:
                    continue
                delivery = self._take(self._connection)
            if self._connection is not None and self._has_room():
                self._connection.resume()
            return delivery

    def _take(self, connection: _Connection | None) -> BrokerDelivery:
        read, self._read = self._read, _Read()
        return BrokerDelivery(read, self._session.number, connection)

    def _has_room(self) -> bool:
        messages, size = len(self._read.messages), self._read.size
        for delivery in self._left:
            messages += len(delivery.messages)
            size += delivery.size
        return size < HELD_BYTES and messages < 4 * self._receive_maximum

    def tell(self, topic: str, payload: bytes) -> bool:
        """Publish at QoS 0 over this connection; False when there is none."""
        if self._connection is None or not self._state.connected:
            return False
        self._connection.write(mqtt5.PublishPacket(topic, payload).write())
        return True

    # --- what a connection calls --------------------------------------------------------------

    def gather(self, read: _Read, connection: _Connection) -> bool:
        """Take what one read brought; False when reading has to pause."""
        self._counters.received += len(read.messages)
        if connection is not self._connection:  # it ended within this read
            self._leave_behind(read)
        elif not self._read.messages:
            self._read = read
            self._timer = asyncio.get_running_loop().call_later(self._batch_delay, self._ready.set)
        else:
            self._read.add(read)
        if len(self._read.messages) >= self._batch_messages:
            self._ready.set()
        return self._has_room()

    def accepted(self, resumed: bool) -> None:
        """The broker has taken the connection, before it sends any message on it."""
        if not resumed or not self._session.number:
            self._session.begin(int(self._wall() * 1000))

    def lost(self, connection: _Connection) -> None:
        """A connection has ended. What it brought is still journalled, its packet ids acknowledge nothing
        any more; they only tell what comes again."""
        if connection is self._connection:
            self._connection = None
            if self._read.messages:
                read, self._read = self._read, _Read()
                self._leave_behind(read)

    def _leave_behind(self, read: _Read) -> None:
        self._left.append(BrokerDelivery(read, self._session.number, None))
        self._ready.set()

    # --- connecting ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep connected until cancelled; then take leave, so that the broker keeps the session."""
        tries = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                connection = await self._connect()
                await asyncio.wait((connection.ended,))  # not awaited itself: our cancelling must not end it
                raise BrokerError(f"{self._broker.url}: {connection.ended.result()}")
            except BrokerError as error:
                self._trouble(str(error))
            finally:
                self._leave()
            tries = 0 if loop.time() - began > LONGEST_PAUSE else tries + 1
            pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(tries - 1, 10))
            await asyncio.sleep(pause * (0.5 + self._random() / 2))

    async def _connect(self) -> _Connection:
        await asyncio.to_thread(self._session.load)
        connection = await self._open()
        self._connection = connection
        connection.write(self._connect_packet())
        accepted = await connection.answer(mqtt5.ConnAckPacket, "CONNACK")
        if int(accepted.reason_code) >= 128:
            raise BrokerError(self._refusal(accepted))
        connection.keep_alive(accepted.server_keep_alive or self._keep_alive)
        await self._compare_session(accepted.session_present)
        await self._subscribe(connection)
        self._counters.connections += 1
        self._state = replace(self._state, connected=True, problem="")
        self._said = ""
        log.info("broker_connected", broker=self._broker.url, session_present=accepted.session_present)
        return connection

    async def _subscribe(self, connection: _Connection) -> None:
        connection.write(_subscribe_packet(self._filters))
        granted = await connection.answer(mqtt5.SubAckPacket, "SUBACK")
        for pattern, code in zip(self._filters, granted.reason_codes, strict=False):
            if int(code) >= 128:
                raise BrokerError(
                    f"{self._broker.url} does not let us read {pattern} ({_words(code)}): give "
                    f"{self._broker.username or self._broker.client_id} read access in the broker's ACL"
                )

    async def _open(self) -> _Connection:
        host, port = self._broker.endpoint()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE):
                tls = self._broker.tls()
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop), host, port, ssl=tls
                )
        except (OSError, TimeoutError) as error:
            raise BrokerError(_unreachable(self._broker.url, host, port, error)) from error
        return connection

    def _connect_packet(self) -> bytes:
        password = self._broker.password
        return mqtt5.ConnectPacket(
            self._broker.client_id,
            username=self._broker.username,
            password=password.encode() if password is not None else None,
            clean_start=False,
            keep_alive=self._keep_alive,
            session_expiry_interval=self._session_expiry,
            receive_max=self._receive_maximum,
        ).write()

    async def _compare_session(self, present: bool) -> None:
        if not present and self._session.known:
            self._counters.sessions_lost += 1
            self._session.lost_at = int(self._wall() * 1000)
            log.warning(
                "broker_session_lost",
                broker=self._broker.url,
                client_id=self._broker.client_id,
                effect="what it held for us is gone; messages sent while we were away may be missing",
                todo="turn the broker's persistence on, and see that its session expiry is long enough",
            )
        await asyncio.to_thread(self._session.save)

    def _refusal(self, answer: mqtt5.ConnAckPacket) -> str:
        code = _words(answer.reason_code)
        hint = _REFUSALS.get(code, "look into the broker's log")
        said = f" ({answer.reason_str})" if answer.reason_str else ""
        return f"{self._broker.url} refuses us: {code}{said}: {hint}"

    def _trouble(self, problem: str) -> None:
        """Say it once, and again when it changes or lasts."""
        self._state = replace(self._state, connected=False, problem=problem)
        now = asyncio.get_running_loop().time()
        if problem != self._said or now - self._said_at > SAY_AGAIN:
            self._said, self._said_at = problem, now
            log.warning("broker_unavailable", problem=problem, effect="trying again, nothing is lost")

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.leave()
            self.lost(self._connection)
        self._state = replace(self._state, connected=False)


class _Connection(asyncio.Protocol):
    """One TCP connection: bytes to packets, packets to the source."""

    def __init__(self, source: MqttSource, loop: asyncio.AbstractEventLoop) -> None:
        self._source, self._loop = source, loop
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._missing = 0
        self._paused = False
        self._heard = self._spoke = loop.time()
        self._pings: asyncio.TimerHandle | None = None
        self._interval = 0
        self._answers: asyncio.Queue[mqtt5.Packet] = asyncio.Queue()
        self.ended: asyncio.Future[str] = loop.create_future()
        """Why it ended, as a sentence."""

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its ancestry

    def data_received(self, data: bytes) -> None:
        """Parse whole packets; keep what is left for the next time."""
        if self.ended.done():
            return
        self._heard = self._loop.time()
        if self._rest:
            self._rest += data
            if len(self._rest) < self._missing:
                return
            data, self._rest = bytes(self._rest), bytearray()
        size, at = len(data), 0
        found = _Read()
        take, note, read, publish = found.messages.append, found.acks.append, mqtt5.read, mqtt5.PublishPacket
        view = memoryview(data)
        try:
            while at < size:
                packet, used = read(view[at:])
                if type(packet) is publish:
                    take((packet.topic, packet.payload))
                    if data[at] & _DUP_AND_QOS == _QOS_1:
                        note(_PUBACK | packet.packet_id)  # type: ignore[operator] # at QoS 1 there is one
                    else:
                        self._note(packet.packet_id, data[at], found)
                else:
                    self._handle(packet)
                at += used
        except IndexError:
            self._keep(data[at:])
        except ValueError as error:
            self.end(f"the broker sent a packet that is none ({error}): connecting anew")
        found.size = size
        if found.messages and not self._source.gather(found, self):
            self._pause()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(f"the connection was lost ({exc or 'closed by the broker'})")

    # --- packets ------------------------------------------------------------------------------

    def _note(self, packet_id: int | None, first: int, found: _Read) -> None:
        """What acknowledges the message just taken: none at QoS 0, another packet at QoS 2; and that it was
        sent before."""
        if packet_id is None:
            found.acks.append(0)
            return
        if first & _DUP:
            found.again.append(len(found.acks))
        found.acks.append((_PUBREC if first & _QOS_2 else _PUBACK) | packet_id)

    def _keep(self, rest: bytes) -> None:
        """An incomplete packet waits for its end; a complete one that is too short inside is malformed."""
        length = packet_length(rest)
        if length is not None and len(rest) >= length:
            self.end("the broker sent a packet that ends too early: connecting anew")
            return
        self._rest += rest
        self._missing = length or 0

    def _handle(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket | mqtt5.SubAckPacket):
            if isinstance(packet, mqtt5.ConnAckPacket) and int(packet.reason_code) < 128:
                self._source.accepted(packet.session_present)  # messages may follow within the same read
            self._answers.put_nowait(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.end(_farewell(packet))
        elif isinstance(packet, mqtt5.PubRelPacket):
            self.write(mqtt5.PubCompPacket(packet.packet_id).write())
        elif not isinstance(packet, mqtt5.PingRespPacket):
            self.end(f"the broker sent a {type(packet).__name__}, which nobody asked for: connecting anew")

    async def answer(self, kind: type[P], step: str) -> P:
        """Wait for the broker's answer of this kind. Raises BrokerError."""
        getting = asyncio.ensure_future(self._answers.get())
        try:
            await asyncio.wait((getting, self.ended), timeout=HANDSHAKE, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                raise BrokerError(
                    self.ended.result()
                    if self.ended.done()
                    else f"no {step} within {HANDSHAKE:.0f} s: is it an MQTT 5 broker?"
                )
            packet = getting.result()
            if not isinstance(packet, kind):
                raise BrokerError(f"{type(packet).__name__} where {step} was due")
            return packet
        finally:
            getting.cancel()

    def write(self, data: bytes) -> None:
        """Send, unless the connection has ended."""
        if self._transport is not None and not self.ended.done():
            self._spoke = self._loop.time()
            self._transport.write(data)

    def keep_alive(self, seconds: int) -> None:
        """Begin to ping (section 3.1.2.10) and to notice a broker that has gone silent."""
        self._interval = seconds
        self._pings = self._loop.call_later(seconds / 2, self._ping)

    def _ping(self) -> None:
        now = self._loop.time()
        if now - self._heard > 1.5 * self._interval and not self._paused:
            self.end(f"the broker has not been heard for {now - self._heard:.0f} s")
            return
        if now - self._spoke > 0.4 * self._interval:
            self.write(mqtt5.PingReqPacket().write())
        self._pings = self._loop.call_later(self._interval / 2, self._ping)

    def _pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; what was gathered has been taken."""
        if self._transport is not None and self._paused and not self.ended.done():
            self._paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def leave(self) -> None:
        """DISCONNECT without giving up the session, and close."""
        if self._transport is not None and not self.ended.done():
            self.write(mqtt5.DisconnectPacket().write())
            self._transport.close()
        self.end("we left")

    def end(self, reason: str) -> None:
        """Once: the connection is of no more use."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        self._source.lost(self)
        if self._pings is not None:
            self._pings.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()


class _SessionMemory:
    """That a broker holds a session of ours, and which: kept over restarts so that its loss can be told, and
    packet ids of another session are not mistaken for its own."""

    def __init__(self, path: Path | None, broker: Broker) -> None:
        self._path, self._mark = path, {"url": broker.url, "client_id": broker.client_id}
        self._written: dict[str, Any] = {}
        self.known = False
        self.lost_at: int | None = None
        self.number = 0
        """greater than those of all sessions before; 0 while none is known"""

    def load(self) -> None:
        """Look once, at the first connection."""
        if self._path is not None and not self.known and self._path.exists():
            try:
                found = json.loads(self._path.read_text())
                self.known = {key: found.get(key) for key in self._mark} == self._mark
                self.lost_at = found.get("lost_at")
                if self.known:
                    self.number = int(found.get("session", 0))
            except (ValueError, TypeError, AttributeError):
                self.known = False

    def begin(self, now: int) -> None:
        """The broker has made a new session, or holds one that we know nothing of."""
        self.number = max(now, self.number + 1)

    def save(self) -> None:
        """From now on a session that is not there is a lost one. On disk before its first message is."""
        content = self._mark | {"session": self.number, "lost_at": self.lost_at}
        if content != self._written and self._path is not None:
            _write_whole(self._path, json.dumps(content))
        self._written = content
        self.known = True


def _write_whole(path: Path, text: str) -> None:
    """After a power cut the file is the old one or the new one."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def last_loss(session_file: Path) -> int | None:
    """When the broker last had forgotten our session (UTC ms), for doctor; None when it never had."""
    try:
        lost_at = json.loads(session_file.read_text())["lost_at"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return lost_at if isinstance(lost_at, int) else None


def packet_length(start: bytes) -> int | None:
    """Bytes of the packet that begins here (section 2.1.4), None while its length has not arrived."""
    length = 0
    for index, byte in enumerate(start[1:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return 2 + index + length
    return None


def _subscribe_packet(filters: Sequence[str]) -> bytes:
    """QoS 1, so that QoS 2 publishers reach us as QoS 1; retained ones only with a new session."""
    return mqtt5.SubscribePacket(
        1,
        [
            mqtt5.TopicFilter(
                pattern,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for pattern in filters
        ],
    ).write()


_REFUSALS = {
    "bad user name or password": "check mqtt.username and mqtt.password",
    "not authorized": "check mqtt.username, mqtt.password and the broker's ACL",
    "banned": "the broker has banned this client: ask who runs it",
    "client id not valid": "set another mqtt.client_id",
    "unsupported protocol version": "it does not speak MQTT 5",
    "server unavailable": "it is not ready, or full",
    "server busy": "it is busy",
    "connection rate exceeded": "it limits how often clients connect",
    "quota exceeded": "raise its limit of connections",
}


def _farewell(packet: mqtt5.DisconnectPacket) -> str:
    said = f" ({packet.reason_str})" if packet.reason_str else ""
    if packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
        return f"another client took our session{said}: give each gateway a mqtt.client_id of its own"
    return f"the broker disconnected us: {_words(packet.reason_code)}{said}"


def _words(code: Any) -> str:
    return str(code.name).replace("_", " ").lower()


def _unreachable(url: str, host: str, port: int, error: Exception) -> str:
    """One line for what the network said."""
    if isinstance(error, socket.gaierror):
        return f"{url}: the name {host} is not known: correct mqtt.url"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return f"{url}: nothing listens on port {port}: start the broker, or correct mqtt.url"
    if isinstance(error, TimeoutError):
        return f"{url}: no answer: is the host on, is a firewall between?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{url}: its certificate is not trusted ({error.verify_message}): set mqtt.ca_file"
    if isinstance(error, ssl.SSLError | ConnectionResetError):
        return f"{url}: TLS failed ({error}): is port {port} its TLS port, is our certificate accepted?"
    return f"{url}: {error}"

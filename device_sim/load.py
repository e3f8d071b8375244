"""Load: many connections or few, at a rate or as fast as the broker acknowledges. On the mqtt5 codec.

One thread, one epoll, sockets that never block: an event loop with streams would cost more than the messages,
and its TLS keeps a quarter of a megabyte for each connection. MQTT 5 packets are made and read by mqtt5;
those of 3.1.1 differ by a missing byte of properties (OASIS MQTT 3.1.1, section 3.3.2) and are made here.

QoS 1 is acknowledged in order ([MQTT-4.6.0-2]), so the n-th acknowledgement of a connection belongs to its
n-th message; its latency is taken from when the message was given to the socket. A broker's Receive Maximum
is kept.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import mqtt5

from device_sim.formats import senml, sparkplug, varint
from device_sim.network import NOISE
from device_sim.wire import PREFIX, Reading

SHAPES = ("one", "five", "wide", "array", "senml", "sparkplug")
AT_ONCE = 256
"""Handshakes that are under way at a time."""
BATCH = 64
"""Messages that are made before they are written together."""
KEEP_ALIVE = 60
TICK_S = 0.002
LATENCIES = 200_000
"""Samples that are kept."""


class LoadError(Exception):
    """The broker cannot be loaded: what, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be done. It ends at `messages` or after `seconds`, whichever comes first."""

    host: str
    port: int
    connections: int = 4
    messages: int = 100_000
    seconds: float = 60.0
    rate: float | None = None
    """messages a second in all; None: as fast as they are acknowledged"""
    qos: Literal[0, 1] = 1
    version: Literal[4, 5] = 5
    """4 is MQTT 3.1.1"""
    shape: str = "five"
    devices: int = 1_000
    inflight: int = 100
    """messages that a connection sends ahead of their acknowledgements, at most"""
    poison: float = 0.0
    """share of the messages whose payload is noise"""
    twice: float = 0.0
    """share that is sent twice"""
    drop: float = 0.0
    """share after which the connection is broken off, and taken up again"""
    hold: float = 0.0
    """seconds for which all connections stay open afterwards"""
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    seed: int = 7


@dataclass(kw_only=True, slots=True)
class Counts:
    """What happened."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    """acknowledgements with a reason that is an error"""
    poisoned: int = 0
    repeated: int = 0
    dropped: int = 0
    connected: int = 0
    failed: int = 0
    bytes: int = 0
    unanswered: int = 0
    """messages of connections that were broken off, whose acknowledgement never came"""
    latencies: list[float] = field(default_factory=list)


class Lane:
    """One connection."""

    __slots__ = (
        "acked", "acks_at", "began", "inbox", "number", "out", "packet", "sent", "sock", "spoke", "stage",
        "window",
    )  # fmt: skip

    def __init__(self, number: int, window: int) -> None:
        self.number, self.window = number, window
        self.sock: socket.socket | ssl.SSLSocket | None = None
        self.reset()

    def reset(self) -> None:
        """As before it was connected."""
        self.stage = "new"
        self.out, self.inbox = b"", b""
        self.packet = self.sent = self.acked = 0
        self.acks_at: deque[tuple[int, float]] = deque()
        self.began = self.spoke = 0.0

    @property
    def room(self) -> int:
        """How many messages it may send now."""
        return self.window - (self.sent - self.acked)


class Load:
    """Carries out a plan."""

    def __init__(self, plan: Plan, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.plan, self._clock = plan, clock
        self._epoll = select.epoll()
        self._lanes = [Lane(n, plan.inflight if plan.qos else 1 << 30) for n in range(plan.connections)]
        self._by_file: dict[int, Lane] = {}
        self._waiting = deque(self._lanes)
        self._open = 0
        self._rng = random.Random(plan.seed)
        self._payload = payloads(plan.shape, plan.devices)
        self._make = packets(plan)
        self.counts = Counts()
        self._queued = 0
        self._turn = 0
        self._looked = 0.0

    # --- the whole ------------------------------------------------------------------------------

    def run(self, told: Callable[[Counts], None] = lambda _: None) -> dict[str, Any]:
        """Connect all, send, wait for what is acknowledged, hold, part. Gives figures. Raises LoadError."""
        try:
            return self._run(told)
        finally:
            self._part()

    def _run(self, told: Callable[[Counts], None]) -> dict[str, Any]:
        began = self._clock()
        cpu = time.process_time()
        self._connect_all(began + self.plan.seconds, told)
        connected = self._clock()
        memory = resident()
        sent_for = self._send_all(connected, told)
        held_until = self._clock() + self.plan.hold
        while self._clock() < held_until:
            self._wait(0.2)
            told(self.counts)
        memory = max(memory, resident())
        alive = sum(lane.stage == "up" for lane in self._lanes)
        counts = self.counts
        done = counts.acknowledged if self.plan.qos else counts.sent
        return {
            "connections": counts.connected,
            "connections_alive": alive,
            "connect_seconds": round(connected - began, 3),
            "messages": counts.sent,
            "acknowledged": counts.acknowledged,
            "refused": counts.refused,
            "unanswered": counts.unanswered,
            "poisoned": counts.poisoned,
            "repeated": counts.repeated,
            "dropped": counts.dropped,
            "bytes": counts.bytes,
            "seconds": round(sent_for, 3),
            "messages_per_second": round(done / sent_for) if sent_for > 0 and done else 0,
            "latency_ms": quantiles(counts.latencies),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "resident_mb": round(memory / 2**20, 1),
        }

    def _connect_all(self, until: float, told: Callable[[Counts], None]) -> None:
        while self._open < len(self._lanes):
            self._start_some()
            self._wait(0.05)
            told(self.counts)
            if self._clock() > until:
                raise LoadError(
                    f"{self._open} of {len(self._lanes)} connections within {self.plan.seconds:g} s: allow "
                    "more time, or look whether the broker's limit of connections or open files is reached"
                )

    def _send_all(self, began: float, told: Callable[[Counts], None]) -> float:
        plan, counts = self.plan, self.counts
        last = began
        end = began + plan.seconds
        while (now := self._clock()) < end:
            allowed = (
                plan.messages if plan.rate is None else min(plan.messages, int((now - began) * plan.rate) + 1)
            )
            if self._queued < allowed:
                self._fill(allowed - self._queued)
            self._start_some()
            self._wait(0.0 if plan.rate is None and plan.qos == 0 else TICK_S)
            told(counts)
            if counts.acknowledged + counts.unanswered + counts.refused > 0:
                last = self._clock()
            if self._queued >= plan.messages and self._settled():
                break
        return max(1e-9, (last if plan.qos else self._clock()) - began)

    def _settled(self) -> bool:
        return all(not lane.out and (lane.acked == lane.sent or not self.plan.qos) for lane in self._lanes)

    # --- sending ----------------------------------------------------------------------------------

    def _fill(self, most: int) -> None:
        """Hand messages to the connections in turn, as many as they may send."""
        lanes, count = self._lanes, len(self._lanes)
        for _ in range(count):
            if most <= 0:
                return
            lane = lanes[self._turn]
            self._turn = (self._turn + 1) % count
            if lane.stage != "up" or lane.out:
                continue
            number = min(lane.room, most, BATCH)
            if self.plan.rate is not None and count > 1:
                number = min(number, max(1, most // count + 1))
            if number > 0:
                most -= self._give(lane, number)

    def _give(self, lane: Lane, number: int) -> int:
        """Put so many messages on a connection; gives how many of them count."""
        plan, make, payload, rng = self.plan, self._make, self._payload, self._rng
        parts: list[bytes] = []
        odd = plan.poison or plan.twice or plan.drop
        packet, queued = lane.packet, self._queued
        for _ in range(number):
            packet = packet % 65_535 + 1
            topic, body = payload(queued)
            queued += 1
            if odd and plan.poison and rng.random() < plan.poison:
                body = rng.choice(NOISE)
                self.counts.poisoned += 1
            parts.append(make(topic, body, packet))
            if odd and plan.twice and len(parts) < lane.room and rng.random() < plan.twice:
                packet = packet % 65_535 + 1
                parts.append(make(topic, body, packet))
                self.counts.repeated += 1
        lane.packet, self._queued = packet, queued
        lane.sent += len(parts)
        self.counts.sent += len(parts)
        if plan.qos:
            lane.acks_at.append((lane.sent, self._clock()))
        lane.out = b"".join(parts)
        self.counts.bytes += len(lane.out)
        self._flush(lane)
        if odd and plan.drop and rng.random() < plan.drop * number:
            self._break_off(lane)
        return number

    def _flush(self, lane: Lane) -> None:
        if not lane.out or lane.sock is None:
            return
        try:
            gone = lane.sock.send(lane.out)
            lane.spoke = self._clock()
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            gone = 0
        except OSError:
            self._broken(lane)
            return
        lane.out = lane.out[gone:]
        self._mind(lane, writing=bool(lane.out))

    # --- connecting -------------------------------------------------------------------------------

    def _start_some(self) -> int:
        started = 0
        under_way = len(self._by_file) - self._open
        while self._waiting and under_way + started < AT_ONCE:
            self._start(self._waiting.popleft())
            started += 1
        return started

    def _start(self, lane: Lane) -> None:
        lane.reset()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex((self.plan.host, self.plan.port))
        lane.sock, lane.stage, lane.began = sock, "tcp", self._clock()
        self._by_file[sock.fileno()] = lane
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _mind(self, lane: Lane, *, writing: bool) -> None:
        assert lane.sock is not None
        self._epoll.modify(lane.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def _tcp_up(self, lane: Lane) -> None:
        assert lane.sock is not None
        if error := lane.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            where = f"{self.plan.host}:{self.plan.port}"
            raise LoadError(
                f"no connection to {where}: {OSError(error).strerror or error}. Is the broker running?"
            )
        if self.plan.tls is None:
            self._introduce(lane)
            return
        plain = lane.sock
        self._epoll.unregister(plain.fileno())
        del self._by_file[plain.fileno()]
        lane.sock = self.plan.tls.wrap_socket(
            plain, do_handshake_on_connect=False, server_hostname=self.plan.host
        )
        lane.stage = "tls"
        self._by_file[lane.sock.fileno()] = lane
        self._epoll.register(lane.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self._shake_hands(lane)

    def _shake_hands(self, lane: Lane) -> None:
        assert isinstance(lane.sock, ssl.SSLSocket)
        try:
            lane.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._mind(lane, writing=False)
        except ssl.SSLWantWriteError:
            self._mind(lane, writing=True)
        except OSError as error:  # SSLError is one, too
            raise LoadError(
                f"no TLS with {self.plan.host}:{self.plan.port}: {getattr(error, 'reason', None) or error}"
            ) from error
        else:
            self._introduce(lane)

    def _introduce(self, lane: Lane) -> None:
        lane.stage = "mqtt"
        lane.out = connect_packet(self.plan, lane.number)
        self._flush(lane)

    # --- what comes -------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        for file, events in self._epoll.poll(seconds):
            lane = self._by_file.get(file)
            if lane is None:
                continue
            if lane.stage == "tcp":
                self._tcp_up(lane)
            elif lane.stage == "tls":
                self._shake_hands(lane)
            else:
                if events & select.EPOLLOUT:
                    self._flush(lane)
                if events & ~select.EPOLLOUT and lane.sock is not None:
                    self._read(lane)
        if self._clock() - self._looked > 5:
            self._keep_alive()

    def _keep_alive(self) -> None:
        self._looked = now = self._clock()
        for lane in self._lanes:
            if lane.stage == "up" and not lane.out and now - lane.spoke > KEEP_ALIVE / 2:
                lane.out = b"\xc0\x00"
                self._flush(lane)

    def _read(self, lane: Lane) -> None:
        assert lane.sock is not None
        try:
            data = lane.sock.recv(65_536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        if not data:
            self._broken(lane)
            return
        data = lane.inbox + data
        at = self._acks(lane, data)
        while (packet := _whole(data, at)) is not None:
            kind, end = packet
            if kind == 2:
                self._accepted(lane, data[at:end])
            elif kind == 4:
                self._ack(lane, data[at:end])
            elif kind == 14:
                self._broken(lane)
                return
            at = end
        lane.inbox = data[at:]

    def _acks(self, lane: Lane, data: bytes) -> int:
        """Acknowledgements of four bytes, which most reads consist of; gives where the rest begins."""
        whole = len(data) & ~3
        count = whole >> 2
        if data[:whole:4].count(0x40) != count or data[1:whole:4].count(2) != count:
            return 0
        self._acked(lane, count)
        return whole

    def _ack(self, lane: Lane, packet: bytes) -> None:
        code = packet[4] if len(packet) > 4 else 0
        self.counts.refused += code >= 128
        self._acked(lane, 1)

    def _acked(self, lane: Lane, count: int) -> None:
        lane.acked += count
        self.counts.acknowledged += count
        now = self._clock()
        while lane.acks_at and lane.acks_at[0][0] <= lane.acked:
            _, at = lane.acks_at.popleft()
            if len(self.counts.latencies) < LATENCIES:
                self.counts.latencies.append(now - at)

    def _accepted(self, lane: Lane, packet: bytes) -> None:
        if self.plan.version == 5:
            answer, _ = mqtt5.read(memoryview(packet))
            assert isinstance(answer, mqtt5.ConnAckPacket)
            code, allowed = int(answer.reason_code), answer.receive_max
        else:
            code, allowed = packet[3], lane.window
        if code:
            raise LoadError(
                f"{self.plan.host}:{self.plan.port} refuses the connection, code {code}: user, password?"
            )
        if self.plan.qos:
            lane.window = min(lane.window, allowed)
        lane.stage = "up"
        self._open += 1
        self.counts.connected += 1

    # --- ends -------------------------------------------------------------------------------------

    def _break_off(self, lane: Lane) -> None:
        self.counts.dropped += 1
        self._broken(lane)

    def _broken(self, lane: Lane) -> None:
        """It is gone; it is taken up again."""
        if lane.sock is None:
            return
        if lane.stage == "up":
            self._open -= 1
            if self.plan.qos:
                self.counts.unanswered += lane.sent - lane.acked
        else:
            self.counts.failed += 1
            if self.counts.failed > 3 * len(self._lanes) + 10:
                raise LoadError(f"{self.plan.host}:{self.plan.port} ends connections before they are up")
        self._shut(lane)
        lane.reset()
        self._waiting.append(lane)

    def _shut(self, lane: Lane) -> None:
        if lane.sock is not None:
            self._by_file.pop(lane.sock.fileno(), None)
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(lane.sock.fileno())
            lane.sock.close()
            lane.sock = None

    def _part(self) -> None:
        for lane in self._lanes:
            if lane.sock is not None and lane.stage == "up":
                with contextlib.suppress(OSError):
                    lane.sock.send(b"\xe0\x00")
            self._shut(lane)
        self._epoll.close()


# --- packets ----------------------------------------------------------------------------------------


def packets(plan: Plan) -> Callable[[str, bytes, int], bytes]:
    """What makes a PUBLISH of a topic, a payload and a packet id."""
    if plan.version == 4:
        return lambda topic, body, packet: publish_311(topic, body, packet if plan.qos else None)
    publish = mqtt5.PublishPacket
    if plan.qos == 0:
        return lambda topic, body, _: publish(topic, body).write()
    qos = mqtt5.QoS.AT_LEAST_ONCE
    return lambda topic, body, packet: publish(topic, body, qos=qos, packet_id=packet).write()


def publish_311(topic: str, body: bytes, packet: int | None) -> bytes:
    """OASIS MQTT 3.1.1, section 3.3; QoS 0 without a packet id, else QoS 1."""
    name = topic.encode()
    head = struct.pack(">H", len(name)) + name + (b"" if packet is None else struct.pack(">H", packet))
    return bytes([0x30 if packet is None else 0x32]) + varint(len(head) + len(body)) + head + body


def connect_packet(plan: Plan, number: int) -> bytes:
    """The introduction of a connection, in a new session."""
    name = f"load-{plan.seed}-{number}"
    password = plan.password.encode() if plan.password is not None else None
    if plan.version == 5:
        return mqtt5.ConnectPacket(
            name, username=plan.username, password=password, clean_start=True, keep_alive=KEEP_ALIVE
        ).write()
    flags = 0x02 | (0x80 if plan.username is not None else 0) | (0x40 if password is not None else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + struct.pack(">H", KEEP_ALIVE) + _text(name.encode())
    if plan.username is not None:
        body += _text(plan.username.encode())
    if password is not None:
        body += _text(password)
    return b"\x10" + varint(len(body)) + body


def _text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def _whole(data: bytes, at: int) -> tuple[int, int] | None:
    """(packet type, its end) of the packet that begins at `at`; None when it is not all there."""
    length, shift, here = 0, 0, at + 1
    while True:
        if here >= len(data):
            return None
        byte = data[here]
        here += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    end = here + length
    return (data[at] >> 4, end) if end <= len(data) else None


# --- payloads -----------------------------------------------------------------------------------------


def payloads(shape: str, devices: int) -> Callable[[int], tuple[str, bytes]]:
    """(topic, payload) of the n-th message. Raises LoadError for a shape that there is not."""
    if shape not in SHAPES:
        raise LoadError(f"--shape {shape}: there are {', '.join(SHAPES)}")
    names = [f"load-{number:05}" for number in range(devices)]
    if shape in ("senml", "sparkplug"):
        return _foreign(shape, names)
    topics = [f"{PREFIX}/{name}/telemetry" for name in names]
    now = time.time_ns

    def one(number: int) -> tuple[str, bytes]:
        return topics[number % devices], b'{"ts":%d,"signals":{"speed":%d}}' % (
            now() // 1_000_000,
            number % 130,
        )

    def five(number: int) -> tuple[str, bytes]:
        return topics[number % devices], _FIVE % (
            now() // 1_000_000, number, number % 130, 800 + number % 3000, 60 + number % 50,
            number % 100, number % 100,
        )  # fmt: skip

    def wide(number: int) -> tuple[str, bytes]:
        return topics[number % devices], b'{"ts":%d,"seq":%d,"signals":{"speed":%d,%s}}' % (
            now() // 1_000_000, number, number % 130, _WIDE
        )  # fmt: skip

    def array(number: int) -> tuple[str, bytes]:
        at = now() // 1_000_000
        items = b",".join(
            b'{"ts":%d,"signals":{"speed":%d}}' % (at - 1000 * n, (number + n) % 130) for n in range(10)
        )
        return topics[number % devices], b"[%s]" % items

    return {"one": one, "five": five, "wide": wide, "array": array}[shape]


_FIVE = (
    b'{"ts":%d,"seq":%d,"signals":{"speed":%d.0,"engine_speed":%d.0,"coolant_temperature":%d.5,'
    b'"fuel_level":%d.25,"pad_wear_front":%d.1,"battery_voltage":13.85}}'
)
_WIDE = b",".join(b'"signal_%02d":%d.5' % (number, number * 7) for number in range(39))


def _foreign(shape: str, names: list[str]) -> Callable[[int], tuple[str, bytes]]:
    def made(number: int) -> tuple[str, bytes]:
        name = names[number % len(names)]
        reading = Reading(
            ts=time.time_ns() // 1_000_000, signals={"speed": float(number % 130), "odometer": 1.5}
        )
        if shape == "senml":
            return f"senml/{name}", senml(name, reading)
        born = number < len(names)
        kind, seq = ("NBIRTH", 0) if born else ("NDATA", number // len(names) % 256)
        return f"spBv1.0/touchpoint/{kind}/{name}", sparkplug(reading, seq, birth=born)

    return made


# --- figures ------------------------------------------------------------------------------------------


def quantiles(values: list[float]) -> dict[str, float]:
    """ms: median, 95th and 99th percentile, longest."""
    if not values:
        return {}
    ordered = sorted(values)
    picks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in picks.items()
    }


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def as_text(figures: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    latency = figures["latency_ms"]
    yield f"{figures['connections']} connections in {figures['connect_seconds']:g} s"
    yield (
        f"{figures['messages']} messages, {figures['acknowledged']} acknowledged, "
        f"in {figures['seconds']:g} s: {figures['messages_per_second']} a second"
    )
    if latency:
        yield "acknowledged after " + ", ".join(f"{name} {value:g} ms" for name, value in latency.items())
    yield f"{figures['cpu_seconds']:g} s of CPU, {figures['resident_mb']:g} MB of memory"
    odd = {name: figures[name] for name in ("poisoned", "repeated", "dropped", "unanswered", "refused")}
    if any(odd.values()):
        yield json.dumps(odd)

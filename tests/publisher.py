"""Publishes many QoS 1 messages fast: MQTT 3.1.1 over a plain socket, packets made beforehand, a window open.

    python publisher.py PORT COUNT [PREFIX] [START_MS] [RATE]

A message is about 180 B with five numeric signals; 1,000 devices take turns, each round is a second later.
Prints one JSON line when everything has been acknowledged. RATE is messages a second, 0 as fast as possible.
"""

import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator

DEVICES = 1_000
WINDOW = 800
"""Messages under way: what a fleet of slow connections looks like to the broker."""
CHUNK = 100


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, digit = rest // 128, rest % 128
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = text(f"publisher-{os.getpid()}")
    connection.sendall(packet(0x10, text("MQTT") + bytes([4, 2, 0, 0]) + client))
    assert connection.recv(4)[3:] == b"\0", "refused"
    return connection


def messages(count: int, prefix: str, start_ms: int, devices: int = DEVICES) -> Iterator[tuple[str, bytes]]:
    """(topic, payload), always the same ones."""
    chance = random.Random(1)
    for k in range(count):
        signals = (
            f'{{"speed":{chance.random() * 120:.1f},"coolant_temperature":{60 + chance.random() * 40:.1f},'
            f'"pad_wear_front":{chance.random() * 70:.2f},"battery_voltage":{11 + chance.random() * 3:.2f},'
            f'"odometer":{10_000 + k / 100:.1f}}}'
        )
        payload = f'{{"ts":{start_ms + k // devices * 1000},"seq":{k // devices},"signals":{signals}}}'
        yield f"touchpoint/v1/{prefix}{k % devices:06d}/telemetry", payload.encode()


def chunks(of: Iterator[tuple[str, bytes]]) -> list[tuple[int, bytes]]:
    """(how many, packets)."""
    made: list[tuple[int, bytes]] = []
    waiting: list[bytes] = []
    for k, (topic, payload) in enumerate(of):
        waiting.append(packet(0x32, text(topic) + (k % 65_000 + 1).to_bytes(2, "big") + payload))
        if len(waiting) == CHUNK:
            made.append((CHUNK, b"".join(waiting)))
            waiting = []
    return [*made, (len(waiting), b"".join(waiting))]


def publish(port: int, made: list[tuple[int, bytes]], rate: float = 0) -> float:
    """Send everything, wait for every PUBACK; gives seconds."""
    connection, sent, acknowledged = connect(port), 0, 0
    began = time.monotonic()
    for count, data in made:
        if rate:
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        connection.sendall(data)
        sent += count
        while sent - acknowledged > WINDOW:
            acknowledged += len(connection.recv(65_536)) / 4
    while acknowledged < sent:
        acknowledged += len(connection.recv(65_536)) / 4
    seconds = time.monotonic() - began
    connection.sendall(b"\xe0\0")
    connection.close()
    return seconds


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    prefix = sys.argv[3] if len(sys.argv) > 3 else "car-"
    start = int(sys.argv[4]) if len(sys.argv) > 4 else time.time_ns() // 1_000_000
    rate = float(sys.argv[5]) if len(sys.argv) > 5 else 0
    seconds = publish(port, chunks(messages(count, prefix, start)), rate)
    print(json.dumps({"messages": count, "seconds": seconds, "rate": count / seconds}))


if __name__ == "__main__":
    main()

"""`kill -9` of receive between the journal's commit and the acknowledgement: each message is journalled once.

The broker sends again what was not acknowledged. receive knows by packet id, topic and payload what it has,
from the journal alone. TOUCHPOINT_TEST_KILLS says how often, TOUCHPOINT_TEST_SEED when.
"""

import contextlib
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from real_parts import ROOT, Mosquitto, wait_until
from running_gateway import Publisher, now_ms, publish, running_gateway, telemetry

from gateway.adapters.journal import SqliteJournal

KILLS = int(os.environ.get("TOUCHPOINT_TEST_KILLS", "12"))
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))
BATCH, PAUSE_S = 20, 0.02
"""Messages published at once, and then a pause: a thousand a second."""

pytestmark = pytest.mark.timeout(600 + 10 * KILLS)


class Receiver:
    """receiver.py as a process, begun anew as often as it is killed."""

    def __init__(self, url: str, folder: Path) -> None:
        self._log = folder / "receiver.log"
        self._command = [sys.executable, str(ROOT / "tests" / "receiver.py"), url, str(folder)]
        self.redelivered = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log)
        self.said: list[dict[str, int]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def journals(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return bool(self.said) and self.said[-1]["journaled"] > 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.redelivered += self.said[-1]["redelivered"] if self.said else 0


class Load(threading.Thread):
    """Publishes at a steady rate until it is told to end; payloads come back, as a device repeats values."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._ending = url, threading.Event()
        self.sent: list[tuple[str, bytes]] = []

    def run(self) -> None:
        publisher = Publisher(self._url)
        while not self._ending.wait(PAUSE_S):
            first = len(self.sent)
            batch = [
                (f"touchpoint/v1/car-{number % 7}/telemetry", b"%d" % (number // 2))
                for number in range(first, first + BATCH)
            ]
            publisher.publish(batch)
            self.sent += batch
        publisher.close()

    def end(self) -> None:
        self._ending.set()
        if self.ident is not None:
            self.join()


def journalled(folder: Path) -> int:
    database = sqlite3.connect(folder / "journal.db", timeout=10)
    try:
        return int(database.execute("SELECT coalesce(sum(count), 0) FROM batches").fetchone()[0])
    finally:
        database.close()


async def test_what_is_killed_between_commit_and_acknowledgement_is_journalled_once(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    broker, chance = start_mosquitto(), random.Random(SEED)
    receiver, load = Receiver(broker.url, tmp_path), Load(broker.url)
    receiver.start()
    try:
        wait_until(lambda: (tmp_path / "session.json").exists(), "the receiver has its session")
        load.start()
        for _ in range(KILLS):
            wait_until(receiver.journals, "it journals")
            time.sleep(chance.uniform(0, 0.3))
            receiver.kill()
            receiver.start()
        load.end()
        wait_until(lambda: journalled(tmp_path) >= len(load.sent), "everything is journalled")
    finally:
        load.end()
        receiver.kill()
    async with SqliteJournal(tmp_path / "journal.db", readers=["nobody"]) as journal:
        batches = await journal.read(0, limit=10**9)
    assert [message for batch in batches for message in batch.messages] == load.sent, f"seed {SEED}"
    assert receiver.redelivered > KILLS, "the kills hit what was journalled and not acknowledged"


class DeafLine:
    """A line between gateway and broker on which, from a moment on, the gateway is no longer heard: what a
    kill between the commit and the acknowledgement looks like to the broker, at a moment of our choice."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker_port = broker.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.deaf = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                gateway, _ = self._listener.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._broker_port))
            self._ends += [gateway, broker]
            for pair in ((gateway, broker, self.deaf), (broker, gateway, threading.Event())):
                self._threads.append(threading.Thread(target=self._carry, args=pair))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, deaf: threading.Event) -> None:
        try:
            while data := source.recv(65_536):
                if not deaf.is_set():
                    target.sendall(data)
        except OSError:
            pass  # either side was killed
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


def test_a_gateway_that_is_killed_before_its_acknowledgements_leave_has_every_message_once(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    start = now_ms()
    messages = [telemetry("car-1", start + number, speed=number) for number in range(300)]
    with (
        contextlib.closing(DeafLine(mosquitto)) as line,
        running_gateway(tmp_path, line.url) as gateway,
    ):
        gateway.start()
        line.deaf.set()
        publish(mosquitto.url, messages)
        gateway.until_total("touchpoint_messages_recorded_total", 300)
        head = gateway.api("GET", "journal")["head"]
        gateway.kill()
        line.deaf.clear()
        gateway.start()
        gateway.until_total("touchpoint_messages_redelivered_total", 300)
        publish(mosquitto.url, [telemetry("car-1", start + 300, speed=300)])
        gateway.until_total("touchpoint_messages_recorded_total", 1)
        assert gateway.api("GET", "journal")["head"] == head + 1
        assert gateway.total("touchpoint_messages_redelivered_total") == 300
        assert [value for _, value in gateway.readings("car-1", "speed")] == list(range(301))

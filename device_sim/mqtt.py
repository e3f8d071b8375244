"""Devices on a real broker: a connection each, a will, a display. Only this module knows aiomqtt.

A device publishes at QoS 1 and is told by `publish` when the broker has acknowledged. What it says in
another's name, or under another's certificate, it says once: the broker may refuse it. It subscribes to its
own display and commands. A broken connection is taken up again with jittered backoff; what was
being published then is published again, as QoS 1 allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt

from device_sim.fleet import PREFIX
from device_sim.formats import REBIRTH, Format, commands, will

BACKOFF_S = (0.1, 15.0)
"""shortest and longest wait before a connection is tried again"""


class BrokerError(Exception):
    """The broker cannot be reached or does not take us: what, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """Where the broker is and how it knows us."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    ca_file: str | None = None
    certs: Path | None = None
    """a folder with the certificate and the key of every device: DEVICE.pem, DEVICE.key"""

    @staticmethod
    def parse(
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        certs: Path | None = None,
    ) -> Broker:
        """Of mqtt://[user:password@]host[:port] or mqtts://…; raises BrokerError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise BrokerError(f"{url!r} is no broker; write mqtt://host:1883 or mqtts://host:8883")
        secure = parts.scheme == "mqtts"
        return Broker(
            host=parts.hostname,
            port=parts.port or (8883 if secure else 1883),
            username=username or (unquote(parts.username) if parts.username else None),
            password=password or (unquote(parts.password) if parts.password else None),
            tls=ssl.create_default_context(cafile=ca_file) if secure else None,
            ca_file=ca_file,
            certs=certs if secure else None,
        )

    def _context(self, certificate: str) -> ssl.SSLContext | None:
        """TLS with a device's certificate. Raises BrokerError for files that cannot be used."""
        if self.certs is None:
            return self.tls
        context = ssl.create_default_context(cafile=self.ca_file)
        try:
            context.load_cert_chain(self.certs / f"{certificate}.pem", self.certs / f"{certificate}.key")
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(f"{self.certs}: no certificate and key for {certificate}: {error}") from error
        return context

    def client(self, device: str, form: Format = "native", certificate: str | None = None) -> aiomqtt.Client:
        """A client with the device's will, and somebody's certificate; not yet connected."""
        topic, payload, retained = will(form, device)
        return aiomqtt.Client(
            self.host,
            self.port,
            username=self.username,
            password=self.password,
            identifier=f"device-{device}",
            protocol=aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(topic, payload, qos=1, retain=retained),
            keepalive=60,
            timeout=15,
            tls_context=self._context(certificate or device),
        )


OnDisplay = Callable[[str, str, dict[str, Any] | None], None]
"""on_display(device, touchpoint id, what is shown or None when it was cleared)"""
OnCommand = Callable[[str, dict[str, Any]], None]


class Line:
    """One device's connection."""

    def __init__(
        self,
        broker: Broker,
        device: str,
        on_message: Callable[[str, str, bytes], None],
        form: Format = "native",
        certificate: str | None = None,
    ) -> None:
        self._broker, self._device, self._on_message, self._form = broker, device, on_message, form
        self._certificate = certificate or device
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()
        self._down: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """done when the connection of the moment has broken"""
        self._jitter = random.Random(device)

    async def run(self, first: asyncio.Future[None]) -> None:
        """Stay connected. The first connection, or why there is none, is told through `first`."""
        wait, longest = BACKOFF_S
        while True:
            try:
                async with self._broker.client(self._device, self._form, self._certificate) as client:
                    for topic in commands(self._form, self._device):
                        await client.subscribe(topic, qos=1)
                    self._client, wait = client, BACKOFF_S[0]
                    self._down = asyncio.get_running_loop().create_future()
                    self._up.set()
                    if not first.done():
                        first.set_result(None)
                    await self._listen(client)
            except BrokerError as error:
                first.set_exception(error)
                return
            except aiomqtt.MqttError as error:
                self._broken()
                if not first.done():
                    first.set_exception(BrokerError(_what_to_do(self._broker, error)))
                    return
            await asyncio.sleep(wait * self._jitter.uniform(0.5, 1.0))
            wait = min(2 * wait, longest)

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Hand over what comes; ends when the connection breaks, whoever noticed it."""
        listener = asyncio.ensure_future(self._hand_over(client))
        try:
            await asyncio.wait({listener, self._down}, return_when=asyncio.FIRST_COMPLETED)
            if listener.done():
                listener.result()
        finally:
            listener.cancel()

    async def _hand_over(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._on_message(self._device, message.topic.value, bytes(message.payload or b""))

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged, however long it is away. In another's
        name it is tried once."""
        own = self._certificate == self._device and f"/{self._device}" in topic
        while True:
            await self._up.wait()
            assert self._client is not None
            attempt = asyncio.ensure_future(self._client.publish(topic, payload, qos=1, retain=retain))
            try:
                await asyncio.wait({attempt, self._down}, return_when=asyncio.FIRST_COMPLETED)
                if attempt.done() and attempt.exception() is None:
                    return
            finally:
                attempt.cancel()
            self._broken()  # run() takes it up again
            if not own:
                return

    def _broken(self) -> None:
        self._up.clear()
        if not self._down.done():
            self._down.set_result(None)


def _what_to_do(broker: Broker, error: Exception) -> str:
    where = f"{broker.host}:{broker.port}"
    return f"no connection to {where}: {error}. Is the broker running, are user and password right?"


class Devices:
    """The connections of many devices, and what their displays show.

    async with Devices(Broker.parse(url), ids) as devices:
        await devices.publish(device, topic, payload)
    """

    def __init__(
        self,
        broker: Broker,
        devices: Iterable[str],
        *,
        on_display: OnDisplay | None = None,
        on_command: OnCommand | None = None,
        on_rebirth: Callable[[str], None] | None = None,
        forms: Mapping[str, Format] | None = None,
        certificates: Mapping[str, str] | None = None,
    ) -> None:
        """`forms` says which devices do not speak natively; of Sparkplug's, `on_rebirth` is told when a birth
        is asked for. `certificates` says whose a device shows, where that is not its own."""
        self._broker = broker
        self._on_display, self._on_command, self._on_rebirth = on_display, on_command, on_rebirth
        forms, certificates = forms or {}, certificates or {}
        self._lines = {
            device: Line(
                broker, device, self._received, forms.get(device, "native"), certificates.get(device)
            )
            for device in devices
        }
        self._tasks: list[asyncio.Task[None]] = []
        self.shown: dict[str, dict[str, dict[str, Any]]] = {device: {} for device in self._lines}
        """device → touchpoint id → what its display shows"""

    async def __aenter__(self) -> Devices:
        """Connect all; raises BrokerError when one cannot."""
        loop = asyncio.get_running_loop()
        firsts = []
        for device, line in self._lines.items():
            firsts.append(loop.create_future())
            self._tasks.append(asyncio.create_task(line.run(firsts[-1]), name=f"device {device}"))
        results = await asyncio.gather(*firsts, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                await self._close()
                raise result
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def publish(self, device: str, topic: str, payload: bytes) -> None:
        """Publish for a device; a status is retained. Returns when the broker has acknowledged."""
        await self._lines[device].publish(topic, payload, retain=topic.endswith("/status"))

    async def answer(self, device: str, touchpoint: str, action: str, ts: int) -> None:
        """A tap on the device's display."""
        body = json.dumps({"touchpoint": touchpoint, "action": action, "ts": ts}, separators=(",", ":"))
        await self.publish(device, f"{PREFIX}/{device}/answer", body.encode())

    def _received(self, device: str, topic: str, payload: bytes) -> None:
        *_, what, last = topic.split("/")
        if what == "NCMD":
            if self._on_rebirth is not None and REBIRTH.encode() in payload:
                self._on_rebirth(device)
        elif last == "command":
            self._command(device, payload)
        elif what == "touchpoint":
            self._display(device, last, payload)

    def _display(self, device: str, touchpoint: str, payload: bytes) -> None:
        content = _object(payload) if payload else None
        if content is None:
            self.shown[device].pop(touchpoint, None)
        else:
            self.shown[device][touchpoint] = content
        if self._on_display is not None:
            self._on_display(device, touchpoint, content)

    def _command(self, device: str, payload: bytes) -> None:
        content = _object(payload)
        if content is not None and self._on_command is not None:
            self._on_command(device, content)


class Publisher:
    """One connection that publishes for many devices, as fast as the broker acknowledges.

    async with Publisher(broker) as publisher:
        await publisher.publish(topic, payload)   # returns when there is room for the next one
        await publisher.drain()                   # returns when everything is acknowledged
    """

    def __init__(self, broker: Broker, *, inflight: int = 500, name: str | None = None) -> None:
        """At most `inflight` messages wait for their acknowledgement; `name` is the client's id."""
        self._client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=name,
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=60,
            max_inflight_messages=inflight,
            tls_context=broker.tls,
        )
        self._broker, self._room = broker, asyncio.Semaphore(inflight)
        self._waiting: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    async def __aenter__(self) -> Publisher:
        """Connect; raises BrokerError."""
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttError as error:
            raise BrokerError(_what_to_do(self._broker, error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand a message over, in order. Raises BrokerError when an earlier one was not acknowledged."""
        await self._room.acquire()
        self._raise_failed()
        task = asyncio.create_task(self._client.publish(topic, payload, qos=1))
        self._waiting.add(task)
        task.add_done_callback(self._acknowledged)

    async def drain(self) -> None:
        """Wait for all acknowledgements. Raises BrokerError when one did not come."""
        if self._waiting:
            await asyncio.wait(self._waiting)
        self._raise_failed()

    def _acknowledged(self, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise BrokerError(f"not acknowledged: {self._failed}") from self._failed


def _object(payload: bytes) -> dict[str, Any] | None:
    """A JSON object, or None: a display shows nothing that it cannot read."""
    try:
        content = json.loads(payload)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None

"""Webhooks over real HTTP and TLS, their signatures checked by the reference library."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from garage import DAY, HOUR, SIGNALS, TEXTS, World, open_world
from real_parts import PATIENCE_S
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.channels.addresses import CheckedResolver, is_public
from gateway.channels.webhook import AddressError, WebhookChannel, check_url
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState, Reached, Refused, Retry, Sent
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.webhooks import TYPES, EndpointState, Webhook
from gateway.flow import announce, outgoing, webhooks
from gateway.flow.deliver import Deliverer
from gateway.flow.outgoing import Renderer
from gateway.ports import Records


@dataclass
class Receiver:
    """Somebody else's system: notes what it got and answers as it is told."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append((dict(request.headers), await request.read()))
        return self.answers.pop(0) if self.answers else web.Response(status=204)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@dataclass
class Server:
    """A receiver on a free port of this machine."""

    receiver: Receiver
    context: ssl.SSLContext | None = None
    runner: web.AppRunner | None = None
    port: int = 0

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.receiver.handle)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.context)
        await site.start()
        self.port = self.runner.addresses[0][1]
        self.receiver.url = f"http://localhost:{self.port}/hooks"
        return self.receiver

    async def __aexit__(self, *_: object) -> None:
        if self.runner is not None:
            await self.runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Server(Receiver()) as running:
        yield running


def random(n: int) -> bytes:
    random.calls += 1  # type: ignore[attr-defined]
    return bytes([random.calls % 251]) * n  # type: ignore[attr-defined]


random.calls = 0  # type: ignore[attr-defined]


@dataclass
class House:
    """A world with an endpoint, and the gateway's webhooks."""

    world: World
    endpoint: Webhook
    channel: WebhookChannel

    async def send(self) -> None:
        """Everything that is due is sent."""
        renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=self.world.policy, public_url="https://g.example"
        )
        channels = {"webhook": self.channel}
        world = self.world
        await Deliverer(world.database, world.clock, channels, world.policy, renderer, Counters()).now()

    async def tell(self, event_type: str = "appointment.confirmed", audience: str = "manufacturer") -> int:
        now = self.world.now
        return await self.world.write(
            lambda r: outgoing.queue_event(r, audience, event_type, {"appointment": "a1"}, now)
        )

    async def rows(self) -> list[Delivery]:
        """To the endpoint, oldest first."""
        rows = await self.world.read(lambda r: r.outbox.to_target("webhook", self.endpoint.id))
        return list(reversed(rows))

    async def stored(self) -> Webhook:
        return await self.world.read(lambda r: r.webhooks.get(self.endpoint.id))


async def registered(world: World, url: str, audience: str = "manufacturer", *types: str) -> Webhook:
    return await world.write(
        lambda r: webhooks.register(r, audience=audience, url=url, types=types, now=world.now, random=random)
    )


@pytest.fixture
async def house(tmp_path: Path, receiver: Receiver) -> AsyncIterator[House]:
    async with open_world(tmp_path) as world:
        endpoint = await registered(world, receiver.url)
        channel = WebhookChannel(allow_hosts=["localhost"], timeout_s=5)
        yield House(world, endpoint, channel)
        await channel.close()


# --- what is sent -------------------------------------------------------------------------------


async def test_an_event_is_signed_so_that_the_reference_library_takes_it(
    house: House, receiver: Receiver
) -> None:
    assert await house.tell() == 1
    await house.send()
    (row,) = await house.rows()
    ((headers, body),) = receiver.got
    lower = {name.lower(): value for name, value in headers.items()}
    event = Verifier(house.endpoint.secrets[0].text).verify(body, lower)
    assert lower["webhook-id"] == row.id
    assert event == {
        "type": "appointment.confirmed",
        "timestamp": "2026-11-23T08:00:00.000Z",
        "data": {"appointment": "a1"},
    }
    assert row.state is DeliveryState.SENT
    known = await house.world.read(lambda r: r.outbox.outcomes([row.id]))
    assert [one.outcome for one in known[row.id]] == [Reached.SENT, Reached.DELIVERED]


async def test_a_body_that_was_changed_on_the_way_is_not_taken(house: House, receiver: Receiver) -> None:
    await house.tell()
    await house.send()
    headers = {name.lower(): value for name, value in receiver.got[0][0].items()}
    with pytest.raises(WebhookVerificationError):
        Verifier(house.endpoint.secrets[0].text).verify(receiver.got[0][1] + b" ", headers)


async def test_while_a_secret_is_changed_both_sign_and_then_only_the_new_one(
    house: House, receiver: Receiver
) -> None:
    old = house.endpoint.secrets[0].text
    turned = await house.world.write(webhooks.rotate, house.endpoint.id, house.world.now, random)
    new = turned.secrets[0].text
    assert new != old
    await house.tell()
    await house.send()
    headers, body = receiver.got[0]
    lower = {name.lower(): value for name, value in headers.items()}
    assert Verifier(old).verify(body, lower) == Verifier(new).verify(body, lower)
    house.world.clock.advance(house.world.now + DAY)
    await house.tell()
    await house.send()
    headers, body = receiver.got[1]
    lower = {name.lower(): value for name, value in headers.items()}
    assert Verifier(new).verify(body, lower)
    with pytest.raises(WebhookVerificationError):
        Verifier(old).verify(body, lower)


async def test_what_happens_to_a_matter_is_told_in_its_order_and_once(
    house: House, receiver: Receiver
) -> None:
    await house.world.found()
    await house.send()
    await house.world.answers("not_now")
    await house.world.answers("not_now")  # the same answer again changes nothing
    await house.send()
    touchpoint = await house.world.touchpoint()
    assert [event["type"] for event in receiver.events] == [
        "finding.found",
        "touchpoint.sent",
        "touchpoint.answered",
    ]
    sent, answered = receiver.events[1:]
    assert sent["data"]["touchpoint"] == answered["data"]["touchpoint"] == touchpoint.id
    assert answered["data"]["action"] == "not_now"
    text = json.dumps(receiver.events)
    assert "Jana" not in text  # thin: ids, no names
    assert "worn" not in text.replace("brake-pads-front-worn", "")


async def test_only_who_wants_a_type_and_may_hear_it_is_told(house: House, receiver: Receiver) -> None:
    picky = await registered(house.world, receiver.url, "workshop:nord", "appointment.*")
    assert await house.tell("appointment.done", "workshop:nord") == 1
    assert await house.tell("appointment.done", "workshop:south") == 0
    assert await house.tell("touchpoint.closed") == 1
    rows = await house.world.read(lambda r: r.outbox.to_target("webhook", picky.id))
    assert [row.payload["event"]["type"] for row in rows] == ["appointment.done"]


async def test_workshop_and_manufacturer_hear_of_a_booking(house: House, receiver: Receiver) -> None:
    nord = await registered(house.world, receiver.url, "workshop:nord")
    await house.world.found()
    slot = (await house.world.touchpoint()).slots[0].id
    await house.world.answers("book", slot=slot)
    rows = await house.world.read(lambda r: r.outbox.to_target("webhook", nord.id))
    (event,) = [row.payload["event"] for row in rows]
    (visit,) = await house.world.read(lambda r: r.workshops.appointments())
    assert event["type"] == "appointment.confirmed"
    assert (event["data"]["appointment"], event["data"]["state"]) == (visit.id, "confirmed")
    assert "appointment.confirmed" in [row.payload["event"]["type"] for row in await house.rows()]
    assert "Jana" not in json.dumps(event)


def test_every_change_of_an_appointment_can_be_subscribed_to() -> None:
    assert {f"appointment.{change}" for change in announce.CHANGES} <= set(TYPES)


async def test_an_event_with_a_key_is_queued_once(house: House) -> None:
    for _ in range(2):
        await house.world.write(
            lambda r: outgoing.queue_event(
                r, "manufacturer", "appointment.done", {}, house.world.now, key="a1:done"
            )
        )
    assert len(await house.rows()) == 1


# --- what the endpoint says ---------------------------------------------------------------------


async def test_a_busy_endpoint_is_asked_again_when_it_said_under_the_same_id(
    house: House, receiver: Receiver
) -> None:
    receiver.answers = [web.Response(status=429, headers={"Retry-After": "90"}), web.Response(status=500)]
    await house.tell()
    began = house.world.now
    await house.send()
    assert [row.due_at for row in await house.rows()] == [began + 90_000]
    house.world.clock.advance(began + 90_000)
    await house.send()
    house.world.clock.advance((await house.rows())[0].due_at)
    await house.send()
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert ids == [(await house.rows())[0].id] * 3
    assert len({body for _, body in receiver.got}) == 1
    assert (await house.rows())[0].state is DeliveryState.SENT


async def test_410_disables_the_endpoint_and_drops_what_waits_for_it(
    house: House, receiver: Receiver
) -> None:
    receiver.answers = [web.Response(status=410)]
    await house.tell()
    await house.world.write(
        lambda r: outgoing.queue_event(
            r, "manufacturer", "appointment.done", {}, house.world.now, due_at=house.world.now + HOUR
        )
    )
    await house.send()
    endpoint = await house.stored()
    assert endpoint.state is EndpointState.DISABLED
    assert "410" in (endpoint.reason or "")
    assert {row.state for row in await house.rows()} == {DeliveryState.DROPPED}
    assert await house.tell() == 0
    await house.world.write(webhooks.enable, house.endpoint.id)
    assert await house.tell() == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(house: House, receiver: Receiver, status: int) -> None:
    receiver.answers = [web.Response(status=status, headers={"Location": f"{receiver.url}/elsewhere"})]
    await house.tell()
    await house.send()
    assert len(receiver.got) == 1
    (row,) = await house.rows()
    assert row.state is DeliveryState.PENDING
    attempts = await house.world.read(lambda r: r.outbox.attempts(row.id))
    assert "redirect" in attempts[0].detail


async def test_a_large_answer_is_not_read_to_its_end(house: House, receiver: Receiver) -> None:
    receiver.answers = [web.Response(status=500, body=b"x" * 5_000_000)]
    outcome = await house.channel.send(rendered(house.endpoint.url, secrets=[house.endpoint.secrets[0].text]))
    assert isinstance(outcome, Retry)
    assert len(outcome.detail) < 200


async def test_an_endpoint_that_does_not_answer_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side gives up
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    channel = WebhookChannel(allow_hosts=["localhost"], timeout_s=0.2)
    port = listening.sockets[0].getsockname()[1]
    outcome = await channel.send(rendered(f"http://localhost:{port}/"))
    assert isinstance(outcome, Retry)
    assert "Timeout" in outcome.detail
    await channel.close()
    listening.close()
    await listening.wait_closed()


async def test_an_endpoint_that_is_gone_from_the_records_is_sent_nothing(
    house: House, receiver: Receiver
) -> None:
    await house.tell()
    await house.world.write(webhooks.remove, house.endpoint.id)
    await house.send()
    assert receiver.got == []
    with pytest.raises(NotFoundError):
        await house.stored()


async def test_a_test_event_goes_to_one_endpoint_only(house: House, receiver: Receiver) -> None:
    await registered(house.world, receiver.url + "/other")
    await house.world.write(webhooks.test, house.endpoint.id, house.world.now)
    await house.send()
    assert [event["type"] for event in receiver.events] == ["webhook.test"]


async def test_endpoints_are_refused_that_could_never_work(house: House, receiver: Receiver) -> None:
    with pytest.raises(InvalidError, match="audience"):
        await registered(house.world, receiver.url, "everybody")
    with pytest.raises(NotFoundError):
        await registered(house.world, receiver.url, "workshop:nowhere")
    with pytest.raises(InvalidError, match="types"):
        await registered(house.world, receiver.url, "manufacturer", "touchpoint.eaten")
    with pytest.raises(InvalidError, match="a workshop hears"):
        await registered(house.world, receiver.url, "workshop:nord", "touchpoint.sent")
    await house.world.write(webhooks.disable, house.endpoint.id, "turned off", house.world.now)
    with pytest.raises(ConflictError):
        await house.world.write(webhooks.test, house.endpoint.id, house.world.now)


# --- where it may go ----------------------------------------------------------------------------


def rendered(url: str, secrets: list[str] | None = None) -> Delivery:
    payload = {"url": url, "secrets": secrets or ["whsec_" + "A" * 43 + "="], "event": {"type": "x"}}
    return Delivery(id="d1", channel="webhook", target="w1", key="k", payload=payload)


class Names(AbstractResolver):
    """Says what it is told; each name may say something else the next time."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = self.addresses[host.replace(".", "_")]
        address = found.pop(0) if len(found) > 1 else found[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "https://me:secret@hooks.example/",
        "ftp://hooks.example/",
        "https://",
        "https://hooks.example:99999/",
        "https://127.0.0.1./",
        "https://2130706433/",
        "https://0/",
        "https://①②⑦.⓪.⓪.①/",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://hooks.example\\@127.0.0.1/",
        "https://hooks example/",
        "https://hooks.example/\r\nX: y",
    ],
)
def test_addresses_that_may_not_be_sent_to_are_refused_at_once(url: str) -> None:
    with pytest.raises(AddressError):
        check_url(url)


def test_a_host_is_allowed_by_name_alone() -> None:
    check_url("http://Hooks.internal:8080/x", ["hooks.internal"])
    with pytest.raises(AddressError):
        check_url("http://hooks.internal.evil.example/", ["hooks.internal"])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("192.0.0.8", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_what_is_public_is_told_through_every_wrapping(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "2130706433", "127.0.0.1."])
async def test_an_address_in_disguise_is_never_connected_to(receiver: Receiver, host: str) -> None:
    """The client takes digits of any script for an address, and then asks no resolver."""
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    channel = WebhookChannel(timeout_s=2)
    outcome = await channel.send(rendered(f"https://{host}:{port}/hooks"))
    await channel.close()
    assert isinstance(outcome, Refused), outcome
    assert "private" in outcome.detail
    assert receiver.got == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.169.254"])
async def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    channel = WebhookChannel(resolver=Names(inside_example=[address]))
    outcome = await channel.send(rendered("https://inside.example/"))
    assert isinstance(outcome, Refused)
    assert "allow_hosts" in outcome.detail
    await channel.close()


async def test_a_name_written_as_a_number_is_looked_at_too() -> None:
    channel = WebhookChannel()
    outcome = await channel.send(rendered("https://2130706433/"))  # 127.0.0.1
    assert isinstance(outcome, Refused | Retry)
    await channel.close()


def server_certificate(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


async def test_the_name_is_resolved_once_and_the_connection_keeps_its_name(tmp_path: Path) -> None:
    """The second answer of a name that changes sides is never asked for; TLS still checks the name."""
    certificate = server_certificate(tmp_path, "hooks.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    names = Names(hooks_example=["127.0.0.1", "203.0.113.1"], wrong_example=["127.0.0.1"])
    running = Server(Receiver(), context)
    async with running as receiver:
        channel = WebhookChannel(
            allow_hosts=["hooks.example", "wrong.example"],
            resolver=names,
            ssl=ssl.create_default_context(cafile=str(certificate)),
        )
        outcome = await channel.send(rendered(f"https://hooks.example:{running.port}/"))
        assert isinstance(outcome, Sent), outcome
        assert names.asked == ["hooks.example"]
        assert receiver.got[0][0]["Host"] == f"hooks.example:{running.port}"
        outcome = await channel.send(rendered(f"https://wrong.example:{running.port}/"))
        assert isinstance(outcome, Retry)
        assert "Certificate" in outcome.detail
        await channel.close()


async def test_of_several_addresses_only_public_ones_are_used() -> None:
    class Both(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            one = await super().resolve(host, port, family)
            return [*one, replace_host(one[0], "93.184.216.34")]

    found = await CheckedResolver((), Both(mixed_example=["10.0.0.1"])).resolve("mixed.example", 443)
    assert [one["host"] for one in found] == ["93.184.216.34"]


def replace_host(one: ResolveResult, host: str) -> ResolveResult:
    return {**one, "host": host}


# --- a slow one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("endpoints", "events"), [(20, 2), (1, 40)])
async def test_a_receiver_that_hangs_holds_up_no_other(
    house: House, receiver: Receiver, endpoints: int, events: int
) -> None:
    """Forty events for a host that hangs, then one for another: it arrives while they hang."""
    gate, inside = asyncio.Event(), 0

    async def hang(_: web.Request) -> web.Response:
        nonlocal inside
        inside += 1
        await gate.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", hang)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    other = f"http://localhost:{runner.addresses[0][1]}/"
    slow = [await registered(house.world, other, "workshop:nord") for _ in range(endpoints)]

    def queue(records: Records) -> None:
        for _ in range(events):
            outgoing.queue_event(records, "workshop:nord", "appointment.done", {}, house.world.now)

    await house.world.write(queue)
    await house.tell()
    world = house.world
    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://g.example")
    deliverer = Deliverer(
        world.database, world.clock, {"webhook": house.channel}, world.policy, renderer, Counters()
    )
    task = asyncio.create_task(deliverer.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not receiver.got:
                world.clock.advance(world.now + 100)
                await asyncio.sleep(0.02)
        assert 1 <= inside <= 12
        assert len(slow) == endpoints
    finally:
        gate.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()

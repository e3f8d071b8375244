"""receive on a real broker: nothing is acknowledged before it is on disk, and nothing is lost."""

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from mqtt_lab import HeldJournal, T, publish, receiving, until
from real_parts import Mosquitto, free_port
from structlog.testing import capture_logs

from gateway.adapters.codecs import make_decoder
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.mqtt import Broker, MqttSource, last_loss, packet_length
from gateway.domain.counters import Counters
from gateway.domain.messages import Message
from gateway.ports import JournalFullError, JournalWriteError

Start = Callable[..., Mosquitto]


def numbered(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    return [(T, b"%d" % i) for i in range(start, start + count)]


async def test_messages_arrive_in_order_with_their_topics(mosquitto: Mosquitto) -> None:
    journal, counters = HeldJournal(), Counters()
    async with receiving(mosquitto.url, journal, counters):
        await publish(mosquitto.url, numbered(2000))
        await until(lambda: len(journal.messages) >= 2000, "all journalled")
    assert journal.messages == numbered(2000)
    assert (counters.received, counters.journaled) == (2000, 2000)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_every_quality_of_service_is_taken(mosquitto: Mosquitto, qos: int) -> None:
    journal = HeldJournal()
    async with receiving(mosquitto.url, journal):
        await publish(mosquitto.url, numbered(50), qos=qos)
        await until(lambda: len(journal.messages) >= 50, "all journalled")
    assert journal.messages == numbered(50)


async def test_what_was_not_committed_is_not_acknowledged_and_comes_again(mosquitto: Mosquitto) -> None:
    stuck = HeldJournal(closed=True)
    async with receiving(mosquitto.url, stuck):
        await publish(mosquitto.url, numbered(20))
        await until(lambda: stuck.tried > 0, "receive tries to append")
    journal = HeldJournal()
    async with receiving(mosquitto.url, journal):
        await until(lambda: len(journal.messages) >= 20, "the broker sends them again")
    assert journal.payloads == [b"%d" % i for i in range(20)]


async def heard_by(source: MqttSource, journal: HeldJournal) -> None:
    """The broker has taken every acknowledgement: it takes what a connection says in the order it is said."""
    assert source.tell(T, b"mark")
    await until(lambda: journal.payloads[-1] == b"mark", "our own message comes back")


async def test_what_was_committed_is_acknowledged_and_comes_once(mosquitto: Mosquitto) -> None:
    first, second, counters = HeldJournal(), HeldJournal(), Counters()
    async with receiving(mosquitto.url, first, counters) as source:
        await publish(mosquitto.url, numbered(20))
        await until(lambda: counters.journaled >= 20, "all journalled")
        await heard_by(source, first)
    async with receiving(mosquitto.url, second):
        await publish(mosquitto.url, numbered(1, start=99))
        await until(lambda: len(second.messages) >= 1, "the next message")
    assert second.payloads == [b"99"]


async def test_receive_maximum_bounds_what_is_out_while_the_journal_holds_still(mosquitto: Mosquitto) -> None:
    journal, counters = HeldJournal(closed=True), Counters()
    async with receiving(mosquitto.url, journal, counters, receive_maximum=50):
        await publish(mosquitto.url, numbered(500))
        await until(lambda: counters.received >= 50, "the first fifty")
        await asyncio.sleep(0.1)
        assert counters.received == 50, "the broker holds the rest"
        journal.gate.set()
        await until(lambda: len(journal.messages) >= 500, "the rest")
    assert journal.messages == numbered(500)


async def test_messages_sent_while_the_gateway_is_away_are_kept(mosquitto: Mosquitto) -> None:
    async with receiving(mosquitto.url, HeldJournal()):
        pass
    await publish(mosquitto.url, numbered(300))
    journal = HeldJournal()
    async with receiving(mosquitto.url, journal):
        await until(lambda: len(journal.messages) >= 300, "all that was queued")
    assert journal.messages == numbered(300)


async def test_survives_a_restart_of_the_broker_with_its_session(start_mosquitto: Start) -> None:
    broker = start_mosquitto(persistence=True)
    journal, counters = HeldJournal(closed=True), Counters()
    async with receiving(broker.url, journal, counters):
        await publish(broker.url, numbered(10))
        await until(lambda: counters.received >= 10, "they have arrived")
        broker.restart()
        journal.gate.set()
        await until(lambda: counters.connections >= 2, "connected again")
        await publish(broker.url, numbered(10, start=10))
        await until(lambda: b"19" in journal.payloads, "what came after the restart")
    assert journal.messages == numbered(20), "unacknowledged ones come again, and are known"
    assert (counters.journaled, counters.redelivered, counters.sessions_lost) == (20, 10, 0)


async def test_a_lost_session_is_said_aloud_and_old_packet_ids_acknowledge_nothing(
    start_mosquitto: Start,
) -> None:
    broker = start_mosquitto(persistence=False)
    journal, counters = HeldJournal(closed=True), Counters()
    with capture_logs() as logs:
        async with receiving(broker.url, journal, counters):
            await publish(broker.url, numbered(10))
            await until(lambda: counters.received >= 10, "they have arrived, unacknowledged")
            broker.kill()
            broker.start()
            await until(lambda: counters.connections >= 2, "connected again")
            assert counters.sessions_lost == 1
            # New messages get the same packet ids 1…10. The old batch is committed only now.
            await publish(broker.url, numbered(10, start=10))
            await until(lambda: counters.received >= 20, "the new ones, unacknowledged")
            journal.gate.set()
            await until(lambda: len(journal.messages) >= 10, "the old batch")
    second = HeldJournal()
    async with receiving(broker.url, second, counters):
        await publish(broker.url, [(T, b"end")])
        await until(lambda: b"end" in second.payloads, "the end")
    assert {int(p) for p in [*journal.payloads, *second.payloads] if p != b"end"} == set(range(20))
    lost = [entry for entry in logs if entry["event"] == "broker_session_lost"]
    assert len(lost) == 1
    assert lost[0]["log_level"] == "warning"


async def test_a_session_lost_while_the_gateway_was_away_is_said_too(
    start_mosquitto: Start, tmp_path: Path
) -> None:
    broker, counters = start_mosquitto(), Counters()
    options = {"session_file": tmp_path / "session.json"}
    async with receiving(broker.url, HeldJournal(), counters, **options):
        pass
    async with receiving(broker.url, HeldJournal(), counters, **options):
        assert counters.sessions_lost == 0
    assert last_loss(tmp_path / "session.json") is None
    broker.restart()
    async with receiving(broker.url, HeldJournal(), counters, **options, wall=lambda: 1_795_000_000.5):
        assert counters.sessions_lost == 1
    assert last_loss(tmp_path / "session.json") == 1_795_000_000_500, "doctor reads it afterwards"
    async with receiving(Broker(url=broker.url, client_id="another"), HeldJournal(), counters, **options):
        assert counters.sessions_lost == 1, "a session of another name was never there"


class ScriptedBroker:
    """Sends PUBLISH packets as it is told, on one connection after another, and notes what comes back."""

    def __init__(self, *connections: tuple[bool, list[bytes]]) -> None:
        """Each: whether the session was resumed, and what to send once it is subscribed to."""
        self._scripts = list(connections)
        self.acknowledged: list[list[int]] = []

    async def __aenter__(self) -> "ScriptedBroker":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed, packets = self._scripts.pop(0)
        acknowledged: list[int] = []
        self.acknowledged.append(acknowledged)
        data = b""
        while more := await reader.read(65_536):
            data += more
            while data and (length := packet_length(data)) and len(data) >= length:
                packet, _ = mqtt5.read(data[:length])
                data = data[length:]
                if isinstance(packet, mqtt5.ConnectPacket):
                    writer.write(mqtt5.ConnAckPacket(session_present=resumed).write())
                elif isinstance(packet, mqtt5.SubscribePacket):
                    codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
                    writer.write(mqtt5.SubAckPacket(packet.packet_id, codes).write() + b"".join(packets))
                elif isinstance(packet, mqtt5.PubAckPacket | mqtt5.PubRecPacket):
                    acknowledged.append(packet.packet_id)
        writer.close()

    async def to_a_gateway(self, folder: Path, counters: Counters) -> list[Message]:
        """What is in the journal once a gateway with these files has acknowledged all of one connection."""
        due, before = len(self._scripts[0][1]), len(self.acknowledged)
        async with SqliteJournal(folder / "journal.db", readers=["r"]) as journal:
            async with receiving(
                self.url, journal, counters, wait=False, session_file=folder / "session.json"
            ):
                await until(
                    lambda: len(self.acknowledged) > before and len(self.acknowledged[before]) == due,
                    "everything is acknowledged",
                )
            batches = await journal.read(0, limit=1000)
        return [message for batch in batches for message in batch.messages]


def sent(
    packet_id: int | None,
    payload: bytes = b"a",
    *,
    topic: str = T,
    again: bool = False,
    qos: mqtt5.QoS = mqtt5.QoS.AT_LEAST_ONCE,
) -> bytes:
    return mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id, duplicate=again).write()


@pytest.mark.parametrize(
    ("resumed", "packet", "known"),
    [
        pytest.param(True, sent(7, again=True), True, id="the same again"),
        pytest.param(True, sent(7), False, id="not marked as sent before"),
        pytest.param(True, sent(7, qos=mqtt5.QoS.EXACTLY_ONCE), False, id="at QoS 2, not marked"),
        pytest.param(False, sent(7, again=True), False, id="another session"),
        pytest.param(True, sent(8, again=True), False, id="another packet id"),
        pytest.param(True, sent(7, b"b", again=True), False, id="another payload"),
        pytest.param(True, sent(7, topic=f"{T}x", again=True), False, id="another topic"),
    ],
)
async def test_only_what_is_known_by_flag_session_packet_id_topic_and_payload_is_not_journalled_again(
    tmp_path: Path, resumed: bool, packet: bytes, known: bool
) -> None:
    counters = Counters()
    async with ScriptedBroker((False, [sent(7)]), (resumed, [packet])) as broker:
        await broker.to_a_gateway(tmp_path, counters)
        messages = await broker.to_a_gateway(tmp_path, counters)
    assert len(messages) == (1 if known else 2)
    assert (counters.received, counters.journaled, counters.redelivered) == (2, len(messages), int(known))


async def test_packet_ids_of_a_session_that_was_lost_name_nothing_in_the_next(tmp_path: Path) -> None:
    """The second session's 7 was received and not journalled: all that is known of it is its flag."""
    counters = Counters()
    async with ScriptedBroker(
        (False, [sent(7)]), (False, [sent(1, b"x")]), (True, [sent(7, again=True)])
    ) as broker:
        await broker.to_a_gateway(tmp_path, counters)
        await broker.to_a_gateway(tmp_path, counters)
        messages = await broker.to_a_gateway(tmp_path, counters)
    assert [payload for _, payload in messages] == [b"a", b"x", b"a"]


async def test_a_session_that_is_not_remembered_has_no_packet_ids(tmp_path: Path) -> None:
    counters = Counters()
    async with ScriptedBroker((False, [sent(7)]), (True, [sent(7, again=True)])) as broker:
        await broker.to_a_gateway(tmp_path, counters)
        (tmp_path / "session.json").write_text('{"url": "')
        assert len(await broker.to_a_gateway(tmp_path, counters)) == 2, "twice is better than not at all"


async def test_a_session_known_from_before_there_were_session_numbers_goes_on(tmp_path: Path) -> None:
    counters = Counters()
    async with ScriptedBroker((True, [sent(7)]), (True, [sent(7, again=True)])) as broker:
        mark = {"url": broker.url, "client_id": "gateway", "lost_at": None}
        (tmp_path / "session.json").write_text(json.dumps(mark))
        await broker.to_a_gateway(tmp_path, counters)
        assert len(await broker.to_a_gateway(tmp_path, counters)) == 1
    assert counters.sessions_lost == 0


async def test_messages_of_every_quality_of_service_come_in_one_batch() -> None:
    qos = mqtt5.QoS
    first = [
        sent(None, b"0", qos=qos.AT_MOST_ONCE),
        sent(5, b"1"),
        sent(None, b"2", qos=qos.AT_MOST_ONCE),
        sent(6, b"3", qos=qos.EXACTLY_ONCE),
    ]
    again = [
        sent(6, b"3", qos=qos.EXACTLY_ONCE, again=True),
        sent(None, b"2", qos=qos.AT_MOST_ONCE),
        sent(5, b"1", again=True),
        sent(7, b"end"),
    ]
    counters, journal = Counters(), HeldJournal()
    async with (
        ScriptedBroker((False, first), (True, again)) as broker,
        receiving(broker.url, journal, counters, wait=False) as source,
    ):
        await until(lambda: broker.acknowledged == [[5, 6]], "what has an id is acknowledged")
        assert source._connection is not None
        source._connection.end("the cable was pulled")
        await until(lambda: broker.acknowledged[1:] == [[6, 5, 7]], "and again")
    assert journal.payloads == [b"0", b"1", b"2", b"3", b"2", b"end"]


async def test_what_waits_to_be_journalled_when_the_connection_breaks_is_journalled_once() -> None:
    journal, counters = HeldJournal(closed=True), Counters()
    async with (
        ScriptedBroker(
            (False, [sent(1, b"first"), sent(2, b"second")]),
            (True, [sent(1, b"first", again=True), sent(2, b"second", again=True), sent(3, b"third")]),
        ) as broker,
        receiving(broker.url, journal, counters, batch_messages=1, wait=False) as source,
    ):
        await until(lambda: counters.received == 2, "the first two, not journalled")
        assert source._connection is not None
        source._connection.end("the cable was pulled")
        await until(lambda: counters.received == 5, "both again, and a third")
        journal.gate.set()
        await until(lambda: len(broker.acknowledged[1]) == 3, "acknowledged on the second connection")
    assert journal.payloads == [b"first", b"second", b"third"]
    assert broker.acknowledged == [[], [1, 2, 3]], "on the ended one nothing is acknowledged"


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (JournalFullError("the journal holds 1000 bytes, its limit"), "journal_full"),
        (JournalWriteError("journal.db: database or disk is full: free space"), "journal_not_written"),
    ],
)
async def test_a_journal_that_cannot_take_a_batch_gets_it_again(
    mosquitto: Mosquitto, fault: Exception, event: str
) -> None:
    journal = HeldJournal(faults=[fault] * 3)
    with capture_logs() as logs:
        async with receiving(mosquitto.url, journal):
            await publish(mosquitto.url, numbered(10))
            await until(lambda: len(journal.messages) >= 10, "recovered")
    assert journal.messages == numbered(10), "once, in order"
    assert [entry["event"] for entry in logs if entry["event"].startswith("journal")] == [
        event,
        "journal_recovered",
    ]


async def test_a_full_journal_stops_the_broker_and_goes_on_when_readers_have_read(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    counters = Counters()
    async with SqliteJournal(tmp_path / "journal.db", readers=["r"], max_bytes=2**20, poll=0.05) as journal:
        async with receiving(mosquitto.url, journal, counters, receive_maximum=20):
            await publish(mosquitto.url, [(T, b"%d" % i + b"." * 10_000) for i in range(300)])
            await until(lambda: counters.journal_waits > 0, "full")
            seen: list[int] = []
            after = 0
            while len(seen) < 300:
                batches = await journal.read(after, limit=20)
                for batch in batches:
                    seen += [int(payload.split(b".")[0]) for _, payload in batch.messages]
                    after = batch.last
                await journal.commit("r", after)
                await asyncio.sleep(0.001)
        assert seen == list(range(300))
        assert counters.journal_waits < 300, "it waits longer from try to try"


async def test_a_full_disk_loses_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    counters = Counters()
    async with SqliteJournal(tmp_path / "journal.db", readers=["r"]) as journal:
        await journal.append([("x", b"x")], 0)
        journal._writer_file.connection().execute("PRAGMA max_page_count = 8")  # as a disk without room
        with capture_logs() as logs:
            async with receiving(mosquitto.url, journal, counters, receive_maximum=20):
                await publish(mosquitto.url, [(T, b"%d" % i + b"." * 10_000) for i in range(100)])
                await until(lambda: counters.journaled >= 100, "all journalled after room was made")
        batches = await journal.read(1, limit=1000)
        assert [int(p.split(b".")[0]) for b in batches for _, p in b.messages] == list(range(100))
    [said] = [entry for entry in logs if entry["event"] == "journal_not_written"]
    assert "free space on the disk" in said["problem"]


async def test_ten_thousand_good_ones_among_ten_thousand_garbage(
    mosquitto: Mosquitto, tmp_path: Path, shared_data: Path
) -> None:
    rows = map(json.loads, (shared_data / "vectors" / "malformed.jsonl").read_text().splitlines())
    bad = [
        base64.b64decode(r["payload_base64"])
        for r in rows
        if r["format"] == "native" and r["strength"] == "must"
    ]
    messages = []
    for i in range(10_000):
        messages.append((T, bad[i % len(bad)]))
        messages.append(
            ("touchpoint/v1/good-1/telemetry", b'{"ts": %d, "signals": {"n": %d}}' % (1.7e12 + i, i))
        )
    counters = Counters()
    decoder = make_decoder({})
    async with SqliteJournal(tmp_path / "journal.db", readers=["r"], decoder=decoder) as journal:
        async with receiving(mosquitto.url, journal, counters):
            await publish(mosquitto.url, messages)
            await until(lambda: counters.journaled >= 20_000, "all journalled", 60)
        batches = await journal.read(0, limit=50_000)
    good = [
        signals["n"]
        for batch in batches
        for _, device, _, signals, *_ in batch.decoded.telemetry
        if device == "good-1"
    ]
    assert good == list(range(10_000))


async def test_large_payloads_come_through_in_pieces(mosquitto: Mosquitto) -> None:
    journal = HeldJournal()
    messages = [(T, bytes([i]) * 3_000_000) for i in range(5)]
    async with receiving(mosquitto.url, journal):
        await publish(mosquitto.url, messages)
        await until(lambda: len(journal.messages) >= 5, "all journalled")
    assert journal.messages == messages


async def test_retained_messages_come_with_a_new_session_only(mosquitto: Mosquitto) -> None:
    await publish(mosquitto.url, [("touchpoint/v1/car-1/status", b"online")], retain=True)
    first, second, counters = HeldJournal(), HeldJournal(), Counters()
    async with receiving(mosquitto.url, first, counters) as source:
        await until(lambda: counters.journaled >= 1, "the retained status")
        assert first.payloads == [b"online"]
        await heard_by(source, first)
    async with receiving(mosquitto.url, second):
        await publish(mosquitto.url, [(T, b"end")])
        await until(lambda: b"end" in second.payloads, "the end")
    assert second.payloads == [b"end"]


class TestTroubleIsOneClearLine:
    async def problem(self, broker: Broker) -> str:
        journal = HeldJournal()
        async with receiving(broker, journal, wait=False) as source:
            await until(lambda: source.state.problem != "not connected yet", "a problem is said")
            assert not source.state.connected
            return source.state.problem

    async def test_nobody_listens(self) -> None:
        port = free_port()
        said = await self.problem(Broker(url=f"mqtt://127.0.0.1:{port}", client_id="g"))
        assert f"nothing listens on port {port}" in said

    async def test_no_such_name(self) -> None:
        said = await self.problem(Broker(url="mqtt://broker.invalid", client_id="g"))
        assert "broker.invalid is not known: correct mqtt.url" in said

    async def test_no_address(self) -> None:
        assert "mqtt.url" in await self.problem(Broker(url="tcp://x", client_id="g"))

    async def test_wrong_password(self, start_mosquitto: Start, tmp_path: Path) -> None:
        passwords = tmp_path / "passwords"
        passwords.write_text("gateway:right\n")
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        broker = start_mosquitto(options=f"password_file {passwords}").url
        # The later line wins over the fixture's own.
        said = await self.problem(Broker(url=broker, client_id="g", username="gateway", password="wrong"))
        assert "check mqtt.username" in said
        async with receiving(
            Broker(url=broker, client_id="g", username="gateway", password="right"), HeldJournal()
        ) as source:
            assert source.state.connected

    async def test_tls_where_there_is_none(self, mosquitto: Mosquitto) -> None:
        said = await self.problem(Broker(url=mosquitto.url.replace("mqtt:", "mqtts:"), client_id="g"))
        assert "TLS port" in said

    async def test_it_is_logged_once_not_at_every_try(self) -> None:
        counters = Counters()
        source = MqttSource(
            Broker(url=f"mqtt://127.0.0.1:{free_port()}", client_id="g"),
            counters=counters,
            random=lambda: 0.0,
        )
        tries, connect = 0, source._connect

        async def counted() -> Any:
            nonlocal tries
            tries += 1
            return await connect()

        source._connect = counted  # type: ignore[method-assign]
        with capture_logs() as logs:
            task = asyncio.create_task(source.run())
            await until(lambda: tries > 3, "it is tried again and again")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert [entry["event"] for entry in logs] == ["broker_unavailable"]


class TestBytesFromAStrangeBroker:
    """A server that plays back bytes instead of a broker."""

    async def against(self, answer: bytes) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(answer)
            await writer.drain()
            await reader.read(1000)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with receiving(
            Broker(url=f"mqtt://127.0.0.1:{port}", client_id="g"), HeldJournal(), wait=False
        ) as source:
            await until(lambda: source.state.problem != "not connected yet", "a problem is said")
            problem = source.state.problem
        server.close()
        return problem

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"<p>no such page</p>" * 10,
            b"\x20\x02\x00\x01",
            b"\x20\x01\x00",
            b"\x20\xff\xff\xff\xff\xff",
        ],
    )
    async def test_what_is_no_packet_ends_the_connection(self, answer: bytes) -> None:
        assert "the broker sent" in await self.against(answer)

    async def test_a_session_taken_by_another_client(self) -> None:
        said = await self.against(b"\x20\x03\x00\x00\x00" + b"\xe0\x01\x8e")
        assert "give each gateway a mqtt.client_id of its own" in said

    async def test_a_packet_nobody_asked_for(self) -> None:
        assert "nobody asked for" in await self.against(b"\x20\x03\x00\x00\x00" + b"\x50\x02\x00\x01")


async def test_tls_with_a_certificate_of_our_own_ca(start_mosquitto: Start, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {cert} "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
    )
    port = free_port()
    start_mosquitto(options=f"listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\n")
    url = f"mqtts://localhost:{port}"
    trusting = Broker(url=url, client_id="g", ca_file=cert)
    async with receiving(trusting, HeldJournal()) as source:
        assert source.state.connected
    said = await TestTroubleIsOneClearLine().problem(Broker(url=url, client_id="g"))
    assert "set mqtt.ca_file" in said
    assert isinstance(trusting.tls(), ssl.SSLContext)

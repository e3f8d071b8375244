"""The embedded broker: what it can do, and that nothing of it is left."""

import asyncio
import contextlib
import secrets
import subprocess
import sys

import aiomqtt
import pytest
from mqtt_lab import HeldJournal, T, receiving, until
from real_parts import free_port, listens, wait_until

from gateway.adapters.broker import EmbeddedBroker, EmbeddedBrokerError
from gateway.adapters.mqtt import Broker
from gateway.domain.counters import Counters


def embedded(**options: int) -> EmbeddedBroker:
    return EmbeddedBroker(lambda length: secrets.token_hex(length // 2), **options)


def as_gateway(running: EmbeddedBroker) -> Broker:
    return Broker(url=running.url, client_id="gateway", username=running.username, password=running.password)


def client(running: EmbeddedBroker, **options: object) -> aiomqtt.Client:
    port = int(running.devices_url.rsplit(":", 1)[1])
    return aiomqtt.Client("127.0.0.1", port, username=running.username, password=running.password, **options)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_device_on_3_1_1_reaches_the_gateway_on_5(qos: int) -> None:
    journal, counters = HeldJournal(), Counters()
    async with embedded() as running, receiving(as_gateway(running), journal, counters):
        async with client(running) as device:
            for i in range(2500):
                await device.publish(T, b"%d" % i, qos=qos)
        await until(lambda: len(journal.messages) >= 2500, "all journalled")
    assert list(dict.fromkeys(journal.payloads)) == [b"%d" % i for i in range(2500)]
    # Where a machine stood still for so long that the broker took us for gone, it sends some of them again.
    assert len(journal.payloads) == 2500 or counters.connections > 1


async def test_keeps_the_session_while_the_gateway_is_away() -> None:
    counters = Counters()
    async with embedded() as running:
        stuck = HeldJournal(closed=True)
        async with receiving(as_gateway(running), stuck, counters), client(running) as device:
            await device.publish(T, b"unacknowledged", qos=1)
            await until(lambda: stuck.tried > 0, "it arrived, and was not journalled")
        async with client(running) as device:
            await device.publish(T, b"while away", qos=1)
        journal = HeldJournal()
        async with receiving(as_gateway(running), journal, counters):
            await until(lambda: len(journal.messages) >= 2, "both")
    assert sorted(journal.payloads) == [b"unacknowledged", b"while away"]
    assert counters.sessions_lost == 0


async def test_takes_a_payload_of_a_megabyte() -> None:
    journal = HeldJournal()
    async with embedded() as running, receiving(as_gateway(running), journal):
        async with client(running) as device:
            await device.publish(T, b"x" * 1_000_000, qos=1)
        await until(lambda: len(journal.messages) >= 1, "journalled")
    assert len(journal.payloads[0]) == 1_000_000


async def test_passes_a_will_on() -> None:
    will = aiomqtt.Will("touchpoint/v1/car-1/status", b"offline", qos=1, retain=True)
    journal = HeldJournal()
    async with embedded() as running, receiving(as_gateway(running), journal):
        device = client(running, will=will)
        await device.__aenter__()
        device._client._sock_close()  # a connection that breaks without a word
        await until(lambda: journal.payloads == [b"offline"], "the will")
        with contextlib.suppress(aiomqtt.MqttError):
            await device.__aexit__(None, None, None)


async def test_retains_and_clears() -> None:
    topic = "touchpoint/v1/car-1/touchpoint/1"
    async with embedded() as running, client(running) as gateway:
        await gateway.publish(topic, b"open", qos=1, retain=True)
        async with client(running) as display:
            await display.subscribe("touchpoint/v1/car-1/touchpoint/+", qos=1)
            async for message in display.messages:
                assert message.payload == b"open"
                break
        await gateway.publish(topic, b"", qos=1, retain=True)
        async with client(running) as display:
            await display.subscribe("touchpoint/v1/car-1/#", qos=1)
            await gateway.publish("touchpoint/v1/car-1/command", b"next", qos=1)
            async for message in display.messages:
                assert message.payload == b"next", "nothing is retained any more"
                break


async def test_a_wrong_password_is_refused() -> None:
    async with embedded() as running:
        wrong = Broker(url=running.url, client_id="x", username=running.username, password="wrong")
        async with receiving(wrong, HeldJournal(), wait=False) as source:
            await until(lambda: source.state.problem != "not connected yet", "a problem is said")
            assert not source.state.connected


async def test_stopping_leaves_no_process_and_no_port() -> None:
    broker = embedded()
    await broker.start()
    process = broker._process
    assert process is not None
    await broker.stop()
    await broker.stop()
    assert process.poll() is not None
    for url in (broker.url, broker.devices_url):
        assert not listens(int(url.rsplit(":", 1)[1]))


async def test_a_start_that_is_cancelled_leaves_no_process_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    broker = embedded()
    starting = asyncio.create_task(broker.start())
    await asyncio.sleep(0)
    process = broker._process
    assert process is not None
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert process.poll() == 0
    assert capfd.readouterr().err == ""


async def test_a_port_that_is_taken_is_told() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(EmbeddedBrokerError, match=r"set mqtt\.url"):
        await embedded(port=port).start()
    server.close()


def test_ends_with_its_parent_even_when_that_is_killed() -> None:
    port = free_port()
    script = f"""
import asyncio
from gateway.adapters.broker import EmbeddedBroker

async def main():
    await EmbeddedBroker(lambda length: "p" * length, port={port}).start()
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert b"up\n" in iter(parent.stdout.readline, b"")
        assert listens(port)
        parent.kill()
    wait_until(lambda: not listens(port), "the broker's port is closed")

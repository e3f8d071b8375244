"""The shipped broker configuration: certificates say who a device is, and it speaks only for itself."""

import asyncio
import datetime
import queue
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from real_parts import PATIENCE_S, ROOT, end, free_port, listens, need, wait_until

from config import data_path
from device_sim.fleet import Fleet
from device_sim.mqtt import Broker as DeviceBroker
from device_sim.mqtt import BrokerError, Devices
from device_sim.player import Player
from device_sim.scenario import Scenario

NOW = datetime.datetime.now(datetime.UTC)
GATEWAY = "gateway@internal"


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Devices")])
        self._save("ca", self._certificate(self.name, self.key.public_key(), ca=True), self.key)

    def issue(self, common_name: str, file: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        self._save(file, self._certificate(name, key.public_key()), key)

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool = False
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _save(self, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (self.folder / f"{file}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{file}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


class Broker:
    """Mosquitto with the shipped files, in a folder and on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plain, self.tls = folder, free_port(), free_port()
        self.authority = Authority(folder / "config" / "tls")
        self.authority.issue("localhost", "broker")
        (folder / "data").mkdir()
        shipped = data_path("mosquitto", "mosquitto.conf").read_text()
        for container, here in [
            ("/mosquitto/", f"{folder}/"),
            ("listener 1883", f"listener {self.plain} 127.0.0.1"),
            ("listener 8883", f"listener {self.tls} 127.0.0.1"),
        ]:
            assert container in shipped
            shipped = shipped.replace(container, here)
        (folder / "mosquitto.conf").write_text(shipped + "\nuser root\n")
        (folder / "config" / "acl").write_text(data_path("mosquitto", "acl").read_text())
        passwords = str(folder / "config" / "passwords")
        subprocess.run(
            [need("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, GATEWAY, "pw"], check=True
        )

    def client(self, **tls: str) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if tls:
            folder = self.authority.folder
            client.tls_set(
                str(folder / "ca.pem"),
                str(folder / f"{tls['as_']}.pem"),
                str(folder / f"{tls['as_']}.key"),
                cert_reqs=ssl.CERT_REQUIRED,
            )
        return client


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    program = need("mosquitto", "mosquitto")
    broker = Broker(tmp_path_factory.mktemp("shipped-mosquitto"))
    log = broker.folder / "log"
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [program, "-c", str(broker.folder / "mosquitto.conf")], stdout=out, stderr=out
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(broker.tls), "mosquitto opens its port")
        assert process.poll() is None, log.read_text()
        yield broker
    finally:
        end(process)


class Ear:
    """A connected client, and what it has heard."""

    def __init__(self, client: paho.Client, host: str, port: int) -> None:
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.acknowledged: queue.Queue[Any] = queue.Queue()
        self.client = client
        client.on_message = lambda _c, _u, message: self.heard.put((message.topic, message.payload))
        client.on_connect = lambda *arguments: self.acknowledged.put(arguments[3])
        client.on_subscribe = lambda *arguments: self.acknowledged.put(arguments[3][0])
        client.on_publish = lambda *arguments: self.acknowledged.put(arguments[3])
        client.connect(host, port)
        client.loop_start()
        self.connected = self.acknowledged.get(timeout=PATIENCE_S)

    def subscribe(self, topic: str) -> Any:
        self.client.subscribe(topic, qos=1)
        return self.acknowledged.get(timeout=PATIENCE_S)

    def publish(self, topic: str, payload: str = "x") -> Any:
        self.client.publish(topic, payload, qos=1)
        return self.acknowledged.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def gateway(broker: Broker) -> Iterator[Ear]:
    client = broker.client()
    client.username_pw_set(GATEWAY, "pw")
    ear = Ear(client, "127.0.0.1", broker.plain)
    assert not ear.connected.is_failure
    yield ear
    ear.close()


@pytest.fixture
def car(broker: Broker) -> Iterator[Ear]:
    broker.authority.issue("car-1", "car-1")
    ear = Ear(broker.client(as_="car-1"), "localhost", broker.tls)
    assert not ear.connected.is_failure
    yield ear
    ear.close()


def test_a_device_writes_its_own_topics(gateway: Ear, car: Ear) -> None:
    gateway.subscribe("touchpoint/v1/#")
    own = ["telemetry", "event", "status", "answer"]
    for topic in own:
        assert not car.publish(f"touchpoint/v1/car-1/{topic}").is_failure
    assert [gateway.heard.get(timeout=PATIENCE_S)[0] for _ in own] == [
        f"touchpoint/v1/car-1/{topic}" for topic in own
    ]


@pytest.mark.parametrize(
    "topic",
    ["car-2/telemetry", "car-1/touchpoint/1", "car-1/command", "context/weather", "car-1/x/telemetry"],
)
def test_a_device_writes_nobody_elses(gateway: Ear, car: Ear, topic: str) -> None:
    gateway.subscribe("touchpoint/v1/#")
    assert car.publish(f"touchpoint/v1/{topic}").is_failure
    gateway.publish("touchpoint/v1/car-9/command", "all that was heard")
    assert gateway.heard.get(timeout=PATIENCE_S)[1] == b"all that was heard"


def test_a_device_hears_only_what_is_meant_for_it(gateway: Ear, car: Ear) -> None:
    car.subscribe("touchpoint/v1/#")
    car.subscribe("touchpoint/v1/car-1/touchpoint/+")
    gateway.publish("touchpoint/v1/car-2/touchpoint/7", "not for you")
    gateway.publish("touchpoint/v1/car-2/command", "not for you")
    gateway.publish("touchpoint/v1/car-1/touchpoint/7", "for you")
    assert car.heard.get(timeout=PATIENCE_S) == ("touchpoint/v1/car-1/touchpoint/7", b"for you")


def test_nobody_comes_in_without_a_name(broker: Broker) -> None:
    stranger = Ear(broker.client(), "127.0.0.1", broker.plain)
    assert stranger.connected.is_failure
    stranger.close()
    bare = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    bare.tls_set(str(broker.authority.folder / "ca.pem"))
    failed: queue.Queue[object] = queue.Queue()
    bare.on_connect = lambda *_: failed.put("connected")
    bare.on_disconnect = lambda *_: failed.put("refused")
    try:
        bare.connect("localhost", broker.tls)
        bare.loop_start()
        assert failed.get(timeout=PATIENCE_S) == "refused"
    except ssl.SSLError:
        pass  # refused in the handshake already
    finally:
        bare.disconnect()
        bare.loop_stop()


def test_nothing_is_dropped_silently_by_default() -> None:
    lines = data_path("mosquitto", "mosquitto.conf").read_text().splitlines()
    assert "max_queued_messages 0" in lines
    assert "persistence true" in lines
    assert "allow_anonymous false" in lines


def test_the_compose_file_sets_only_what_can_be_set() -> None:
    from config.settings import leaves

    known = {
        "__".join(("TOUCHPOINT", *key)).upper().replace("TOUCHPOINT__", "TOUCHPOINT_", 1)
        for key, _ in leaves()
    }
    compose = yaml.safe_load(data_path("compose.yaml").read_text())
    for name in compose["services"]["gateway"]["environment"]:
        assert name.removesuffix("_FILE") in known or name in known
    for line in (ROOT / "Dockerfile").read_text().split():
        if line.startswith("TOUCHPOINT_"):
            assert line.partition("=")[0] in known


async def test_simulated_devices_speak_for_themselves_and_nobody_believes_those_that_do_not(
    broker: Broker, gateway: Ear, tmp_path: Path
) -> None:
    """A scenario over TLS with a certificate each: of three cars one shows another's certificate, and one
    speaks in another's name for a while."""
    for car in ("sim-1", "sim-2", "sim-3"):
        broker.authority.issue(car, car)
    file = tmp_path / "certificates.yaml"
    file.write_text(CERTIFIED, encoding="utf-8")
    scenario = Scenario.load(str(file)).peopled(7)
    folder = broker.authority.folder
    gateway.subscribe("touchpoint/v1/#")
    fleet = Fleet(scenario, 7)
    at = DeviceBroker.parse(f"mqtts://localhost:{broker.tls}", ca_file=str(folder / "ca.pem"), certs=folder)
    certificates = {device.id: device.certificate or device.id for device in scenario.part.devices}
    tried: list[tuple[str, str]] = []
    async with Devices(at, fleet.units, certificates=certificates) as devices:

        async def publish(device: str, topic: str, payload: bytes) -> None:
            tried.append((device, topic))
            await devices.publish(device, topic, payload)

        await Player(scenario, 7, publish, fleet=fleet).play_until(scenario.end)
        await devices.publish("sim-1", "touchpoint/v1/sim-1/event", b"the end")
    heard = []
    while (message := await asyncio.to_thread(gateway.heard.get, timeout=PATIENCE_S))[1] != b"the end":
        heard.append(message[0])
    own = [topic for device, topic in tried if topic.startswith(f"touchpoint/v1/{device}/")]
    own = [topic for topic in own if not topic.endswith("/status")]
    assert ("sim-1", "touchpoint/v1/sim-2/telemetry") in tried  # in another's name
    assert ("sim-3", "touchpoint/v1/sim-3/telemetry") in tried  # with another's certificate
    believed = [topic for topic in own if "/sim-3/" not in topic]
    assert len(believed) > 10
    assert sorted(topic for topic in heard if "/status" not in topic) == sorted(believed)


async def test_a_device_without_its_key_is_said_in_one_line(broker: Broker) -> None:
    folder = broker.authority.folder
    at = DeviceBroker.parse(f"mqtts://localhost:{broker.tls}", ca_file=str(folder / "ca.pem"), certs=folder)
    with pytest.raises(BrokerError, match="no certificate and key for nobody"):
        async with Devices(at, ["nobody"]):
            pass


CERTIFIED = """
name: certificates
about: who is believed
start: 2026-03-02 00:00
span: 1d
history: 1d
owners:
  - {id: ida, name: Ida}
devices:
  - &car
    id: sim-1
    kind: car
    model: Arden 5
    owner: ida
    idle: 2h
    trips: [{days: [mon], leave: 07:00, arrive: 08:10, every: 20m}]
    troubles: [{what: somebody_else, begin: 2026-03-02 06:00, end: 2026-03-02 10:00, whose: sim-2}]
  - {<<: *car, id: sim-2, troubles: []}
  - {<<: *car, id: sim-3, troubles: [], certificate: sim-2}
"""

"""A push can be read by the browser it is for and by nobody else: RFC 8291, RFC 8188, RFC 8292."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_sim.push import PushError, check_vapid, decrypt
from gateway.channels import web_push
from gateway.channels.vapid import Vapid, VapidKeyError, create_key, from_b64url, load_key

# RFC 8291 Appendix A and section 5: keys, secret, body and plain text of the example.
RFC_PRIVATE = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
RFC_AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
RFC_BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
RFC_TEXT = b"When I grow up, I want to be a watermelon"


def test_the_receiver_reads_the_example_of_rfc_8291() -> None:
    key = ec.derive_private_key(int.from_bytes(from_b64url(RFC_PRIVATE), "big"), ec.SECP256R1())
    assert decrypt(from_b64url(RFC_BODY), key, from_b64url(RFC_AUTH)) == RFC_TEXT


@pytest.mark.parametrize("position", [0, 15, 20, 30, 90, 100, -1])
def test_a_body_that_was_changed_is_not_read(position: int) -> None:
    key = ec.derive_private_key(int.from_bytes(from_b64url(RFC_PRIVATE), "big"), ec.SECP256R1())
    body = bytearray(from_b64url(RFC_BODY))
    body[position] ^= 1
    with pytest.raises(ValueError, match=r"."):
        decrypt(bytes(body), key, from_b64url(RFC_AUTH))


class Browser:
    """A browser's side of a subscription."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = b"0123456789abcdef"
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.p256dh = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
        self.auth = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()

    def read(self, body: bytes) -> bytes:
        return decrypt(body, self.key, self.secret)


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.mark.parametrize("length", [1, 100, web_push.PAYLOAD_MAX])
def test_what_we_send_the_browser_reads(browser: Browser, length: int) -> None:
    message = bytes(range(256)) * 16
    body = web_push.encrypt(message[:length], browser.p256dh, browser.auth)
    assert browser.read(body) == message[:length]
    assert len(body) <= 4096


def test_no_two_pushes_are_encrypted_alike(browser: Browser) -> None:
    bodies = {web_push.encrypt(b"the same", browser.p256dh, browser.auth) for _ in range(5)}
    assert len(bodies) == 5
    assert len({body[:16] for body in bodies}) == 5  # salt
    assert len({body[21:86] for body in bodies}) == 5  # sender's key


def test_another_browser_cannot_read_it(browser: Browser) -> None:
    with pytest.raises(ValueError, match="does not decrypt"):
        Browser().read(web_push.encrypt(b"private", browser.p256dh, browser.auth))


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [("", "AAAAAAAAAAAAAAAAAAAAAA"), ("AAAA", "AAAAAAAAAAAAAAAAAAAAAA"), (None, "AAAA"), (None, "%%%")],
)
def test_keys_that_are_none_are_refused(browser: Browser, p256dh: str | None, auth: str) -> None:
    with pytest.raises(web_push.EndpointError):
        web_push.encrypt(b"x", browser.p256dh if p256dh is None else p256dh, auth)


def test_a_long_body_is_shortened_until_it_fits() -> None:
    for body in ("ä" * 5_000, '\u20ac\n"' * 3_000, "short"):
        data = web_push.fitted({"title": "Pads", "body": body, "actions": []})
        assert len(data) <= web_push.PAYLOAD_MAX
        assert json.loads(data)["title"] == "Pads"
    assert json.loads(web_push.fitted({"body": "x" * 5_000}))["body"].endswith("x…")
    assert json.loads(data)["body"] == "short"


@pytest.mark.parametrize("letter", ["x", "ü", "字", "😀", '"', "\t."])
@pytest.mark.parametrize("most", [web_push.PAYLOAD_MAX, web_push.SMALL_MAX])
def test_a_message_fits_whatever_it_is_written_in(letter: str, most: int) -> None:
    message = {
        "id": "d1",
        "url": "https://gateway.example/me/touchpoints/t1",
        "title": letter * 2_000,
        "body": letter * 2_000,
        "actions": [{"action": f"book:{n}", "title": letter * 100} for n in range(9)],
    }
    data = web_push.fitted(message, most)
    assert len(data) <= most
    shown = json.loads(data)
    assert (shown["id"], shown["url"]) == (message["id"], message["url"])
    assert shown["title"]


def test_the_text_is_shortened_before_the_actions_are_left_out() -> None:
    actions = [{"action": "not_now", "title": "Not now"}]
    shown = json.loads(web_push.fitted({"title": "Pads", "body": "x" * 9_000, "actions": actions}))
    assert shown["actions"] == actions
    assert len(shown["body"]) > web_push.BODY_KEPT


# --- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/x",
        "https://[2606:4700::1111]/x",
    ],
)
def test_public_https_addresses_are_taken(endpoint: str) -> None:
    web_push.check_endpoint(endpoint, loopback=False)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://push.example/x",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://169.254.169.254/latest",
        "https://[fd00::1]/x",
        "https://127.0.0.1/x",
        "http://localhost:8080/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "https://①②⑦.⓪.⓪.①/x",
        "https://127.0.0.1./x",
        "ftp://push.example/x",
        "https://",
        "https://push.example:99999/",
        "file:///etc/passwd",
        "",
    ],
)
def test_other_addresses_are_not(endpoint: str) -> None:
    with pytest.raises(web_push.EndpointError):
        web_push.check_endpoint(endpoint, loopback=False)


def test_this_machine_is_taken_where_it_is_allowed_and_private_ones_still_are_not() -> None:
    web_push.check_endpoint("http://127.0.0.1:9000/push/x", loopback=True)
    with pytest.raises(web_push.EndpointError):
        web_push.check_endpoint("http://10.0.0.1/x", loopback=True)


class Names:
    """A resolver that says what it is told to."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [
            {"hostname": host, "host": h, "port": port, "family": family, "proto": 0, "flags": 0}
            for h in self.hosts
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_name_that_leads_to_a_private_address_leads_nowhere() -> None:
    resolver = web_push.PublicResolver(Names("10.1.2.3", "192.168.0.1"))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no public address"):
        await resolver.resolve("push.example")
    mixed = web_push.PublicResolver(Names("10.1.2.3", "1.1.1.1"))  # type: ignore[arg-type]
    assert [found["host"] for found in await mixed.resolve("push.example")] == ["1.1.1.1"]


@pytest.mark.parametrize(
    ("header", "ms"),
    [
        ("120", 120_000),
        (" 5 ", 5_000),
        ("Mon, 23 Nov 2026 08:00:30 GMT", 30_000),
        ("Mon, 23 Nov 2020 08:00:30 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("99999999999", None),
        (None, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str | None, ms: int | None) -> None:
    assert web_push.retry_after_ms(header, wall=1795420800.0) == ms


# --- who we are -------------------------------------------------------------------------------

NOW = 1_795_420_800.0
ENDPOINT = "https://push.example/abc?d=1"
AUDIENCE = "https://push.example"


class Wall:
    """The time on the wall."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


def vapid(wall: Wall) -> Vapid:
    return Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:after-sales@example.com", wall=wall)


def test_a_push_service_can_check_who_we_are(wall: Wall) -> None:
    sender = vapid(wall)
    assert check_vapid(sender.authorization(ENDPOINT), AUDIENCE, NOW) == sender.public_key


def test_a_token_is_for_one_push_service_and_one_day(wall: Wall) -> None:
    sender = vapid(wall)
    header = sender.authorization(ENDPOINT)
    for audience, now in ((AUDIENCE + ":444", NOW), (AUDIENCE, NOW + 13 * 3600)):
        with pytest.raises(PushError):
            check_vapid(header, audience, now)
    with pytest.raises(PushError):
        check_vapid(header.replace(sender.public_key, vapid(wall).public_key), AUDIENCE, NOW)


def test_a_token_is_made_anew_before_it_expires(wall: Wall) -> None:
    sender = vapid(wall)
    first = sender.authorization(ENDPOINT)
    wall.now += 10 * 3600
    assert sender.authorization(ENDPOINT) == first
    wall.now += 1.5 * 3600
    assert sender.authorization(ENDPOINT) != first
    check_vapid(sender.authorization(ENDPOINT), AUDIENCE, wall.now)


def test_the_key_is_made_once_and_read_by_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vapid.pem"
    first = Vapid.load_or_create(path, "mailto:a@example.com")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not create_key(path)
    assert Vapid.load_or_create(path, "mailto:a@example.com").public_key == first.public_key
    assert [file.name for file in path.parent.iterdir()] == ["vapid.pem"]


def test_a_key_file_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "vapid.pem"
    with pytest.raises(VapidKeyError, match="cannot be read"):
        load_key(path)
    path.write_text("not a key")
    with pytest.raises(VapidKeyError, match="subscribe again"):
        load_key(path)
    wrong = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(wrong)
    with pytest.raises(VapidKeyError, match="P-256"):
        load_key(path)

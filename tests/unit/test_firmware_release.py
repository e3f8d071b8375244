"""Manifests and signatures: what is signed is what is read, and nothing else is believed."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_api.release import Manifest, ManifestError, SignatureError, sign, verify
from firmware_api.routes import UnsatisfiableError, span

NOVEMBER = 1_795_359_600_000
MANIFEST = Manifest(
    version="2.4.0",
    kind="washing_machine",
    models=("WashMate 7",),
    sha256="ab" * 32,
    size=1_000,
    created=NOVEMBER,
    expires=NOVEMBER + 1_000,
    sequence=24,
)


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(MANIFEST.to_bytes()) | fields).encode()


def test_a_manifest_survives_the_wire() -> None:
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST


def test_the_bytes_that_are_signed_do_not_depend_on_the_order_of_models() -> None:
    two = replace(MANIFEST, models=("b", "a"))
    assert two.to_bytes() == replace(MANIFEST, models=("a", "b")).to_bytes()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        changed(type="touchpoint-firmware/2"),
        changed(size="1000"),
        changed(size=True),
        changed(sequence=0),
        changed(sha256="AB" * 32),
        changed(version="../../etc/passwd"),
        changed(kind=""),
        changed(models=None),
        changed(models=[7]),
        changed(models=[""]),
        changed(models=["two\nlines"]),
        changed(expires="2026-11-22T12:00:00"),
        changed(expires="2001-01-01T00:00:00Z"),
        changed(surprise=1),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(raw)


@pytest.mark.parametrize(
    ("kind", "model", "fits"),
    [
        ("washing_machine", "WashMate 7", True),
        ("washing_machine", "WashMate 8", False),
        ("washing_machine", None, False),
        ("car", "WashMate 7", False),
    ],
)
def test_a_release_is_for_its_kind_and_models(kind: str, model: str | None, fits: bool) -> None:
    assert MANIFEST.fits(kind, model) is fits


def test_any_trusted_key_will_do_and_no_other() -> None:
    ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    raw = MANIFEST.to_bytes()
    verify(raw, sign(raw, ours), [theirs.public_key(), ours.public_key()])
    for trusted in ([theirs.public_key()], []):
        with pytest.raises(SignatureError):
            verify(raw, sign(raw, ours), trusted)


def test_a_signature_holds_for_exactly_its_bytes() -> None:
    key = Ed25519PrivateKey.generate()
    signature = sign(MANIFEST.to_bytes(), key)
    for raw, seal in [
        (MANIFEST.to_bytes() + b" ", signature),
        (MANIFEST.to_bytes(), signature[:-8] + b"AAAAAAA="),
        (MANIFEST.to_bytes(), b"not base64"),
    ]:
        with pytest.raises(SignatureError):
            verify(raw, seal, [key.public_key()])


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        ("bytes=-", None),
    ],
)
def test_ranges(header: str | None, part: tuple[int, int] | None) -> None:
    assert span(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        span(header, 100)

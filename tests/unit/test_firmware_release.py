"""Manifests and signatures: what is signed is what is read, and nothing else is believed."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_api.release import (
    File,
    Manifest,
    ManifestError,
    Module,
    SignatureError,
    canonical,
    sign,
    signers,
)
from firmware_api.sending import UnsatisfiableError, span
from firmware_api.trust import key_id

NOVEMBER = 1_795_359_600_000
FILE = File(name="app.swu", size=1_000, sha256="ab" * 32, sha1="cd" * 20, md5="ef" * 16)
MANIFEST = Manifest(
    version="2.4.0",
    kind="washing_machine",
    models=("WashMate 7",),
    modules=(Module(part="os", name="wash-os", version="2.4.0", files=(FILE,)),),
    notes={"en": "Quieter"},
    created=NOVEMBER,
    expires=NOVEMBER + 1_000,
    sequence=24,
)


def changed(**fields: object) -> bytes:
    return canonical(json.loads(MANIFEST.to_bytes()) | fields)


def changed_file(**fields: object) -> bytes:
    whole = json.loads(MANIFEST.to_bytes())
    whole["modules"][0]["files"][0] |= fields
    return canonical(whole)


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
        b"[" * 100_000,
        MANIFEST.to_bytes() + b" ",
        MANIFEST.to_bytes().replace(b":", b": ", 1),
        changed(type="touchpoint-firmware/1"),
        changed(sequence=0),
        changed(sequence=True),
        changed(sequence=1 << 70),
        changed(lowest=25),
        changed(lowest=-1),
        changed(minutes=-1),
        changed(hardware="b7"),
        changed(notes={"en": 7}),
        changed(notes={"english": "Quieter"}),
        changed(modules=[]),
        changed(modules=[{}]),
        changed_file(size="1000"),
        changed_file(size=True),
        changed_file(size=0),
        changed_file(sha256="AB" * 32),
        changed_file(md5="0"),
        changed_file(name="../app.swu"),
        changed_file(name="app.swu.MD5SUM"),
        changed_file(surprise=1),
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


def test_whoever_signed_is_named_and_nobody_else() -> None:
    ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    known = {key_id(key.public_key()): key.public_key() for key in (ours, theirs)}
    raw = MANIFEST.to_bytes()
    assert set(signers(raw, sign(raw, ours), known)) == {key_id(ours.public_key())}
    assert set(signers(raw, sign(raw, ours) + b"\n" + sign(raw, theirs), known)) == set(known)
    assert signers(raw, sign(raw, Ed25519PrivateKey.generate()), known) == {}
    assert signers(raw, b"", known) == {}


def test_a_signature_holds_for_exactly_its_bytes() -> None:
    key = Ed25519PrivateKey.generate()
    known, signature = {"key": key.public_key()}, sign(MANIFEST.to_bytes(), key)
    assert signers(MANIFEST.to_bytes() + b" ", signature, known) == {}
    assert signers(MANIFEST.to_bytes(), signature[:-8] + b"AAAAAAA=", known) == {}
    with pytest.raises(SignatureError, match="base64"):
        signers(MANIFEST.to_bytes(), b"not/base64!", known)


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

"""Ten thousand mutated manifests, signatures and reports: none is accepted, none breaks the server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import cbor2
import pytest
from firmware_lab import NOW, Works, serving

from firmware_api import releases
from firmware_api.ddi import DdiSettings
from firmware_api.release import FirmwareError
from firmware_api.trust import check_step

SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "8"))
PIECES = (
    b"",
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"]",
    b"1e999",
    b"-1",
    b"null",
    b"true",
    b"\\u0000",
    b"9" * 400,
    b"[" * 900,
)


def mutated(raw: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, or replaced by what parsers dislike; never what it was."""
    out = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out) + 1)
        end = min(len(out), at + dice.randint(0, 12))
        how = dice.randrange(5)
        if how == 0 and at < len(out):
            out[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            del out[at:end]
        elif how == 2:
            out[at:at] = out[at:end]
        elif how == 3:
            out[at:end] = dice.choice(PIECES)
        else:
            out[at:at] = bytes(dice.randrange(256) for _ in range(3))
    return bytes(out)


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def test_no_mutated_manifest_or_signature_is_accepted(works: Works) -> None:
    dice, key = random.Random(SEED), works.store.index_key()
    manifest, paths = works.signed(b"firmware", "2.0.0", sequence=2, notes={"en": "Quieter"})
    raw, signature = manifest.read_bytes(), manifest.with_name(manifest.name + ".sig").read_bytes()
    with open(paths[0], "rb") as file:
        works.store.take(file, hashlib.sha256(b"firmware").hexdigest(), 8, NOW)
    good, accepted = base64.b64decode(signature), 0
    with works.store.connect() as connection:
        for number in range(6_000):
            one, seal = (mutated(raw, dice), signature) if number % 2 else (raw, mutated(signature, dice))
            if one == raw and good in _readable(seal):
                continue  # the signature is whole, with white space or another one beside it
            try:
                releases.add(connection, one, seal, NOW, key)
                accepted += 1
            except FirmwareError:
                pass
        assert releases.releases(connection) == []
    assert accepted == 0


def _readable(seal: bytes) -> list[bytes]:
    found = []
    for line in seal.split():
        try:
            found.append(base64.b64decode(line, validate=True))
        except ValueError:
            return []
    return found


def test_no_mutated_trust_document_is_followed(works: Works) -> None:
    dice = random.Random(SEED)
    place = works.folder / "trust-1.json"
    raw, signature = place.read_bytes(), place.with_name(place.name + ".sig").read_bytes()
    for _ in range(1_000):
        one = mutated(raw, dice)
        if one != raw:
            with pytest.raises(FirmwareError):
                check_step(None, one, signature, NOW)


CBOR = "application/cbor"
EXECUTIONS = [
    "closed",
    "proceeding",
    "canceled",
    "scheduled",
    "rejected",
    "resumed",
    "download",
    "downloaded",
]


def may_be_taken(path: str, raw: bytes, kind: str) -> bool:
    """Whether a mutated body still is what the address takes, read by other means than the server's."""
    try:
        body = cbor2.loads(raw) if kind == CBOR else json.loads(raw)
        if path == "configData":
            return all(isinstance(text, str) for pair in body["data"].items() for text in pair)
        if path == "installedBase":
            return isinstance(body["name"], str) and isinstance(body["version"], str)
        said = body if path.startswith("confirmationBase") else body["status"]
        right = all(isinstance(text, str) for text in said.get("details") or ())
        if path.startswith("confirmationBase"):
            return right and said["confirmation"] in ("confirmed", "denied")
        finished = said["result"]["finished"] in ("success", "failure", "none")
        return (
            right
            and finished
            and said["execution"] in EXECUTIONS
            and abs(int(said.get("code") or 0)) <= 1 << 31
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, cbor2.CBORError):
        return False


async def test_no_mutated_report_breaks_the_server_or_ends_an_action(works: Works) -> None:
    dice, device = random.Random(SEED), "car-1"
    token = works.device(device)
    release = works.release(b"firmware", "2.0.0", sequence=2)
    action = works.assign(device, release)
    status = {"execution": "proceeding", "result": {"finished": "none"}, "code": 1, "details": ["half"]}
    bodies = [
        ("POST", f"deploymentBase/{action}/feedback", {"id": str(action), "status": status}),
        ("POST", f"cancelAction/{action}/feedback", {"id": str(action), "status": status}),
        ("PUT", "configData", {"mode": "merge", "data": {"vin": "W1", "hw": "b7"}}),
        ("POST", f"confirmationBase/{action}/feedback", {"confirmation": "denied", "details": ["no"]}),
        ("PUT", "installedBase", {"name": "car", "version": "1.0.0"}),
    ]
    answers: dict[int, int] = {}
    accepted: list[tuple[str, bytes]] = []
    settings = DdiSettings(burst=1 << 30)
    async with serving(works, settings) as url, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"TargetToken {token}", "Content-Type": "application/json"}

        async def send(method: str, path: str, body: bytes, kind: str = "application/json") -> None:
            address = f"{url}/default/controller/v1/{device}/{path}"
            async with session.request(
                method, address, data=body, headers={**headers, "Content-Type": kind}
            ) as answer:
                answers[answer.status] = answers.get(answer.status, 0) + 1
                if answer.status in (200, 201) and method != "GET" and not may_be_taken(path, body, kind):
                    accepted.append((path, body))

        for _ in range(100):
            chosen = [dice.choice(bodies) for _ in range(40)]
            sent: list[tuple[Any, ...]] = [
                (method, path, mutated(json.dumps(body).encode(), dice)) for method, path, body in chosen
            ]
            sent += [
                (method, path, mutated(cbor2.dumps(body), dice), CBOR) for method, path, body in chosen[:20]
            ]
            await asyncio.gather(*(send(*one) for one in sent))
        paths = ["%00", "..%2f..", "deploymentBase/99999999999999999999", "deploymentBase/-1", "x" * 5_000]
        paths += ["softwaremodules/999999999999999999/artifacts/a%00b", "confirmationBase/%2e%2e", "%ff%fe"]
        for path in paths:
            for method in ("GET", "PUT", "POST", "DELETE"):
                await send(method, path, b"{}")
        assert works.action(action)["open"] == 1
        assert not [status for status in answers if status >= 500], answers
        assert accepted == [], "what is no report was taken for one"
        print(f"{sum(answers.values())} reports: {answers}")
        await send("POST", f"deploymentBase/{action}/feedback", b"")
    assert sum(answers.values()) >= 4_000

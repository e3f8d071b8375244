"""A device's side of firmware: finds a release, downloads it in pieces, believes nothing that is not signed.

Shares only the wire format with the server (docs/firmware.md): the bytes of trust document, index and
manifest, Ed25519 over them, SHA-256 of the files. It holds against the attacks that The Update Framework
lists (specification 1.0, 1.5.2): arbitrary installation, rollback, indefinite freeze, mix-and-match,
endless data, wrong software, fast-forward, key compromise after the manufacturer has revoked the key.

UpdateError            root of why a device does not install
├── NotTrustedError    a document or file is not what trusted keys have signed, or is an older one
├── StaleError         what the server shows has expired: somebody may be holding back what is new
├── NotForUsError      for another kind, model or hardware, expired, or no step up
└── StoppedError       the download stopped; what arrived is kept, and the next try goes on from there
"""

import asyncio
import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_TYPE = "touchpoint-firmware/2"
_TRUST = "touchpoint-trust/1"
_INDEX = "touchpoint-index/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 18
DOCUMENT_MOST = 1 << 20
"""Bytes of a document or signature; more is not read."""
MOST_STEPS = 1_024
"""Trust documents followed at once."""


class UpdateError(Exception):
    """The device does not install."""


class NotTrustedError(UpdateError):
    """A document or file is not what trusted keys have signed, or is an older one."""


class StaleError(UpdateError):
    """What the server shows has expired: somebody may be holding back what is new."""


class NotForUsError(UpdateError):
    """The release is for another kind, model or hardware, has expired, or is no step up."""


class StoppedError(UpdateError):
    """The download stopped; what arrived is kept, and the next try goes on from there."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a release."""

    name: str
    sha256: str
    size: int
    """bytes"""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A release whose signatures hold and that is meant for this device."""

    version: str
    sequence: int
    files: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The device as an update sees it."""

    kind: str
    model: str | None
    sequence: int
    """of what is installed, 0 for as built"""
    hardware: str | None = None


class FirmwareClient:
    """Updates one device from the releases under `url`.

    `trust` is the trust document that the device was built with; `folder` keeps the newest one it has
    followed to, the number of the newest index it has seen, and what is downloaded.
    """

    def __init__(self, session: aiohttp.ClientSession, *, url: str, trust: bytes, folder: Path) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._built_with = trust
        self._folder = folder
        self._index: dict[str, str] = {}

    # --- what counts -------------------------------------------------------------------------------

    async def refresh(self, now: int) -> None:
        """Follow the trust documents to the newest, and read the index. `now` in UTC ms.

        Raises NotTrustedError, StaleError, StoppedError.
        """
        state = await asyncio.to_thread(_load, self._folder / "state.json")
        raw = state["trust"].encode() if state.get("trust") else self._built_with
        trust = _document(raw, _TRUST)
        for _ in range(MOST_STEPS):
            step = await self._next_trust(trust)
            if step is None:
                break
            raw, trust = step
        index = await self._read_index(trust, int(state.get("index", 0)), now)
        if _moment(trust["expires"]) <= now:
            raise StaleError("the trust document has expired")
        kept = {"trust": raw.decode(), "index": index["version"]}
        await asyncio.to_thread(_save, self._folder / "state.json", kept)
        self._index = index["releases"]

    async def _next_trust(self, held: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
        number = held["version"] + 1
        raw = await self._get(f"trust/{number}", missing=True)
        if raw is None:
            return None
        signatures = await self._get(f"trust/{number}.sig")
        following = _document(raw, _TRUST)
        if following["version"] != number:
            raise NotTrustedError(f"trust {number} calls itself {following['version']}")
        _verify(raw, signatures or b"", held, "trust")
        _verify(raw, signatures or b"", following, "trust")
        return raw, following

    async def _read_index(self, trust: Mapping[str, Any], seen: int, now: int) -> dict[str, Any]:
        raw, signatures = await self._get("index") or b"", await self._get("index.sig") or b""
        _verify(raw, signatures, trust, "index")
        index = _document(raw, _INDEX)
        if index["version"] < seen:
            raise NotTrustedError(f"index {index['version']} is older than {seen}, which was seen before")
        if _moment(index["expires"]) <= now:
            raise StaleError("the index has expired: what is new is kept from us, or our clock is wrong")
        return index

    # --- what there is -----------------------------------------------------------------------------

    async def newest(self, target: Target, now: int) -> Offer | None:
        """The highest release that is for this device and a step up, verified; None when there is none.

        Raises as `offer` does; of releases that are for others it says nothing.
        """
        await self.refresh(now)
        best: Offer | None = None
        for name in self._index:
            kind, _, version = name.partition("/")
            if kind != target.kind:
                continue
            try:
                found = await self._offer(version, target, now)
            except NotForUsError:
                continue
            if found.sequence > target.sequence and (best is None or found.sequence > best.sequence):
                best = found
        return best

    async def offer(self, version: str, target: Target, now: int) -> Offer:
        """The release of that version, verified and checked against this device.

        The only way down: when asked for by its version, and signed to be one. Raises UpdateError in all
        forms.
        """
        await self.refresh(now)
        return await self._offer(version, target, now)

    async def _offer(self, version: str, target: Target, now: int) -> Offer:
        expected = self._index.get(f"{target.kind}/{version}")
        if expected is None or not _NAME.fullmatch(version):
            raise NotForUsError(f"the index has no {target.kind} {version}")
        here = f"releases/{target.kind}/{version}/manifest"
        raw, signatures = await self._get(here) or b"", await self._get(f"{here}.sig") or b""
        state = await asyncio.to_thread(_load, self._folder / "state.json")
        trust = _document(state["trust"].encode(), _TRUST)
        if hashlib.sha256(raw).hexdigest() != expected:
            raise NotTrustedError("the manifest is not the one that the index names")
        manifest = _document(raw, _TYPE)
        try:
            _verify(raw, signatures, trust, "release", created=_moment(manifest["created"]))
            if manifest["version"] != version:
                raise NotTrustedError("the manifest is of another version")
            _check(manifest, target, now)
            files = [file for module in manifest["modules"] for file in module["files"]]
            parts = tuple(_part(file) for file in files)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotTrustedError(f"the manifest does not say what it has to: {error!r}") from error
        return Offer(version=version, sequence=manifest["sequence"], files=parts)

    # --- what it brings ----------------------------------------------------------------------------

    async def download(self, offer: Offer) -> tuple[Path, ...]:
        """The files, whole and of the right hash; goes on where an earlier try stopped.

        Raises StoppedError (try again), NotTrustedError (what arrived was thrown away).
        """
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        return tuple([await self._file(part) for part in offer.files])

    async def _file(self, wanted: Part) -> Path:
        done, part = self._folder / wanted.sha256, self._folder / f"{wanted.sha256}.part"
        if not done.exists():
            try:
                await self._fill(part, wanted)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise StoppedError(f"the download stopped: {error!r}") from error
            await asyncio.to_thread(_accept, part, done, wanted)
        return done

    async def _fill(self, part: Path, wanted: Part) -> None:
        have = await asyncio.to_thread(_size, part)
        if have >= wanted.size:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{wanted.sha256}"'} if have else {}
        async with self._session.get(f"{self._url}/artifacts/{wanted.sha256}", headers=headers) as answer:
            answer.raise_for_status()
            with await asyncio.to_thread(open, part, "ab" if answer.status == 206 else "wb") as file:
                have = have if answer.status == 206 else 0
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    have += len(chunk)
                    if have > wanted.size:
                        break  # more than was signed: the hash will say so
                    await asyncio.to_thread(file.write, chunk)
        if have < wanted.size:
            raise StoppedError(f"{have} of {wanted.size} bytes arrived")

    async def _get(self, path: str, *, missing: bool = False) -> bytes | None:
        """A document, of at most DOCUMENT_MOST bytes; None when it is `missing` and may be."""
        try:
            async with self._session.get(f"{self._url}/{path}") as answer:
                if missing and answer.status == 404:
                    return None
                answer.raise_for_status()
                raw = bytearray()
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    raw += chunk
                    if len(raw) > DOCUMENT_MOST:
                        raise NotTrustedError(f"{path}: it does not end")
                return bytes(raw)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoppedError(f"{path}: {error!r}") from error


# --- reading and believing --------------------------------------------------------------------------


def _document(raw: bytes, type_: str) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotTrustedError(f"not a {type_}") from error
    if not isinstance(fields, dict) or fields.get("type") != type_:
        raise NotTrustedError(f"not a {type_}")
    return fields


def _verify(
    raw: bytes, signatures: bytes, trust: Mapping[str, Any], role: str, created: int | None = None
) -> None:
    """Raises NotTrustedError unless enough keys of that role have signed exactly these bytes."""
    good: set[str] = set()
    for line in signatures.split()[:16]:
        try:
            plain = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotTrustedError("the signature is not base64") from error
        good |= {name for name, key in _keys(trust, role, created) if _holds(key, plain, raw)}
    if len(good) < int(trust["thresholds"][role]):
        raise NotTrustedError(f"no trusted key for {role} has signed this")


def _keys(trust: Mapping[str, Any], role: str, created: int | None) -> list[tuple[str, Ed25519PublicKey]]:
    found = []
    for name, fields in trust["keys"].items():
        retired = "until" in fields and (created is None or created > _moment(fields["until"]))
        if role in fields["roles"] and not retired:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(fields["public"]))
            if hashlib.sha256(_raw(key)).hexdigest()[:16] == name:
                found.append((name, key))
    return found


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _holds(key: Ed25519PublicKey, signature: bytes, raw: bytes) -> bool:
    try:
        key.verify(signature, raw)
    except InvalidSignature:
        return False
    return True


def _moment(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _check(manifest: Mapping[str, Any], target: Target, now: int) -> None:
    if manifest["kind"] != target.kind or not _fits(manifest["models"], target.model):
        raise NotForUsError("for another kind or model")
    if not _fits(manifest["hardware"], target.hardware):
        raise NotForUsError("for another hardware revision")
    if _moment(manifest["expires"]) <= now:
        raise NotForUsError("expired")
    if manifest["sequence"] == target.sequence:
        raise NotForUsError("installed already")
    if manifest["sequence"] < target.sequence and manifest["downgrade"] is not True:
        raise NotForUsError("a step down without a signed override")
    if target.sequence < manifest["lowest"]:
        raise NotForUsError("what is installed is too old to go there in one step")


def _fits(wanted: Sequence[str], is_: str | None) -> bool:
    return not wanted or is_ in wanted


def _part(fields: Mapping[str, Any]) -> Part:
    if not _SHA256.fullmatch(fields["sha256"]) or not int(fields["size"]) >= 1:
        raise NotTrustedError("a file without hash or size")
    return Part(name=str(fields["name"]), sha256=fields["sha256"], size=int(fields["size"]))


# --- files ------------------------------------------------------------------------------------------


def _load(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def _save(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(state))
    os.replace(part, path)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _accept(part: Path, done: Path, wanted: Part) -> None:
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole = os.fstat(file.fileno()).st_size == wanted.size
    if digest != wanted.sha256 or not whole:
        part.unlink()
        raise NotTrustedError("the file's hash is not the one that was signed")
    os.replace(part, done)

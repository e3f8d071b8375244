"""A device's side of firmware: finds a release, downloads it in pieces, believes nothing that is not signed.

Shares only the wire format with the server: the manifest's bytes, Ed25519 over them, SHA-256 of the artifact.

UpdateError            root of why a device does not install
├── NotTrustedError    manifest or artifact is not what a trusted key has signed
├── NotForUsError      for another kind or model, expired, or no step up
└── StoppedError       the download stopped; what arrived is kept, and the next try goes on from there
"""

import asyncio
import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_TYPE = "touchpoint-firmware/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_CHUNK = 1 << 18


class UpdateError(Exception):
    """The device does not install."""


class NotTrustedError(UpdateError):
    """Manifest or artifact is not what a trusted key has signed."""


class NotForUsError(UpdateError):
    """The release is for another kind or model, has expired, or is no step up."""


class StoppedError(UpdateError):
    """The download stopped; what arrived is kept, and the next try goes on from there."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A release whose signature holds and that is meant for this device."""

    version: str
    sequence: int
    sha256: str
    size: int
    """bytes"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The device as an update sees it."""

    kind: str
    model: str | None
    sequence: int
    """of what is installed, 0 for as built"""


class FirmwareClient:
    """Updates one device from the releases under `url`; `folder` keeps what is downloaded."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        trusted: Sequence[Ed25519PublicKey],
        folder: Path,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._trusted = trusted
        self._folder = folder

    async def newest(self, target: Target, now: int) -> Offer | None:
        """The highest release that is for this device and a step up, verified; None when there is none.

        `now` in UTC ms. Raises NotTrustedError when that release is not signed as it should be, NotForUsError
        when the signed manifest says something else than the list, StoppedError when the server is away.
        """
        listed = json.loads(await self._get("releases"))["items"]
        wanted = [item for item in listed if _wanted(item, target)]
        if not wanted:
            return None
        best = max(wanted, key=lambda item: int(item["sequence"]))
        if not _NAME.fullmatch(best["version"]):
            raise NotForUsError(f"a version named {best['version']!r}")
        return await self.offer(best["version"], target, now)

    async def offer(self, version: str, target: Target, now: int) -> Offer:
        """The release of that version, verified and checked against this device. Raises as `newest` does.

        The only way down: when asked for by its version, and signed to be one.
        """
        here = f"releases/{target.kind}/{version}/manifest"
        raw, signature = await self._get(here), await self._get(f"{here}.sig")
        self._verify(raw, signature)
        manifest = json.loads(raw)
        _check(manifest, target, now)
        return Offer(
            version=manifest["version"],
            sequence=manifest["sequence"],
            sha256=manifest["sha256"],
            size=manifest["size"],
        )

    async def download(self, offer: Offer) -> Path:
        """The artifact, whole and of the right hash; goes on where an earlier try stopped.

        Raises StoppedError (try again), NotTrustedError (what arrived was thrown away).
        """
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        done, part = self._folder / offer.sha256, self._folder / f"{offer.sha256}.part"
        if not done.exists():
            try:
                await self._fill(part, offer)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise StoppedError(f"the download stopped: {error!r}") from error
            await asyncio.to_thread(_accept, part, done, offer)
        return done

    async def _fill(self, part: Path, offer: Offer) -> None:
        have = await asyncio.to_thread(_size, part)
        if have >= offer.size:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{offer.sha256}"'} if have else {}
        async with self._session.get(f"{self._url}/artifacts/{offer.sha256}", headers=headers) as answer:
            answer.raise_for_status()
            with await asyncio.to_thread(open, part, "ab" if answer.status == 206 else "wb") as file:
                have = have if answer.status == 206 else 0
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    have += len(chunk)
                    if have > offer.size:
                        break  # more than was signed: the hash will say so
                    await asyncio.to_thread(file.write, chunk)
        if have < offer.size:
            raise StoppedError(f"{have} of {offer.size} bytes arrived")

    async def _get(self, path: str) -> bytes:
        try:
            async with self._session.get(f"{self._url}/{path}") as answer:
                answer.raise_for_status()
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoppedError(f"{path}: {error!r}") from error

    def _verify(self, raw: bytes, signature: bytes) -> None:
        try:
            plain = base64.b64decode(signature.strip(), validate=True)
        except binascii.Error as error:
            raise NotTrustedError("the signature is not base64") from error
        for key in self._trusted:
            try:
                return key.verify(plain, raw)
            except InvalidSignature:
                continue
        raise NotTrustedError("no trusted key has signed this manifest")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _wanted(item: dict[str, Any], target: Target) -> bool:
    """By the unsigned list, only to choose what to look at."""
    fits = item.get("kind") == target.kind and (not item.get("models") or target.model in item["models"])
    return fits and int(item.get("sequence", 0)) > target.sequence


def _check(manifest: dict[str, Any], target: Target, now: int) -> None:
    if manifest.get("type") != _TYPE:
        raise NotForUsError(f"a manifest of type {manifest.get('type')!r}")
    if manifest["kind"] != target.kind or (manifest["models"] and target.model not in manifest["models"]):
        raise NotForUsError("for another kind or model")
    if datetime.fromisoformat(manifest["expires"]).timestamp() * 1000 <= now:
        raise NotForUsError("expired")
    if manifest["sequence"] == target.sequence:
        raise NotForUsError("installed already")
    if manifest["sequence"] < target.sequence and manifest["downgrade"] is not True:
        raise NotForUsError("a step down without a signed override")


def _accept(part: Path, done: Path, offer: Offer) -> None:
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole = os.fstat(file.fileno()).st_size == offer.size
    if digest != offer.sha256 or not whole:
        part.unlink()
        raise NotTrustedError("the artifact's hash is not the one that was signed")
    os.replace(part, done)

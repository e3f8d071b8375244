"""Releases on disk.

    trusted/*.pub                             public keys whose releases are taken (PEM)
    artifacts/{sha256}                        content, by its hash
    releases/{kind}/{version}/manifest.json   with manifest.sig beside it
    incoming/                                 what is being written; nothing in it is ever served

A release becomes visible by one rename after all of it is on disk, so that a process that dies in between
leaves nothing half. The folder is the truth; there is no index to disagree with it.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from firmware_api.release import ArtifactError, ConflictError, ExpiredError, Manifest, SignatureError, verify

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Release:
    """A manifest as signed, with its signature."""

    manifest: Manifest
    raw: bytes
    """the manifest's bytes, exactly as signed"""
    signature: bytes
    """base64"""


class FirmwareStore:
    """Releases in one folder; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trusted(self) -> list[Ed25519PublicKey]:
        """The keys in trusted/. Raises SignatureError for a file that holds no Ed25519 public key."""
        files = sorted((self.folder / "trusted").glob("*.pub"))
        return [read_public_key(file.read_bytes(), str(file)) for file in files]

    def trust(self, name: str, pem: bytes) -> None:
        """Takes releases of this public key from now on."""
        folder = self.folder / "trusted"
        folder.mkdir(parents=True, exist_ok=True)
        with self._incoming() as work:
            _write(work / "key", pem)
            os.replace(work / "key", folder / f"{name}.pub")

    def artifact(self, sha256: str) -> Path:
        """Where the content of that hash is, or would be."""
        return self.folder / "artifacts" / sha256

    def releases(self) -> list[Release]:
        """All releases, the highest sequence of each kind first."""
        found = [self._read(file.parent) for file in (self.folder / "releases").glob("*/*/manifest.json")]
        return sorted(found, key=lambda release: (release.manifest.kind, -release.manifest.sequence))

    def get(self, kind: str, version: str) -> Release | None:
        folder = self._place(kind, version)
        return self._read(folder) if (folder / "manifest.json").is_file() else None

    def upload(self, raw: bytes, signature: bytes, content: BinaryIO, now: int) -> Release:
        """Takes a release in; doing it again with the same one changes nothing.

        Raises FirmwareError in all its forms; then nothing is kept.
        """
        verify(raw, signature, self.trusted())
        release = Release(manifest=Manifest.from_bytes(raw), raw=raw, signature=signature.strip())
        if release.manifest.expires <= now:
            raise ExpiredError(f"release {release.manifest.version} has expired")
        self._check_conflict(release)
        with self._incoming() as work:
            self._take_artifact(release.manifest, content, work)
            self._publish(release, work)
        return release

    def _check_conflict(self, release: Release) -> None:
        mine = release.manifest
        for other in self.releases():
            theirs = other.manifest
            if theirs.kind != mine.kind or other.raw == release.raw:
                continue
            if theirs.version == mine.version:
                raise ConflictError(f"{mine.kind} {mine.version} is there already, with another manifest")
            if theirs.sequence == mine.sequence:
                raise ConflictError(f"{mine.kind} {theirs.version} has sequence {mine.sequence} already")

    def _take_artifact(self, manifest: Manifest, content: BinaryIO, work: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with open(work / "artifact", "wb") as file:
            while chunk := content.read(_CHUNK):
                size += len(chunk)
                if size > manifest.size:
                    raise ArtifactError(f"the file is longer than the {manifest.size} bytes of the manifest")
                digest.update(chunk)
                file.write(chunk)
            _to_disk(file)
        if size != manifest.size or digest.hexdigest() != manifest.sha256:
            raise ArtifactError("the file is not the one that the manifest names: its hash differs")
        target = self.artifact(manifest.sha256)
        target.parent.mkdir(exist_ok=True)
        os.replace(work / "artifact", target)
        _sync_folder(target.parent)

    def _publish(self, release: Release, work: Path) -> None:
        place = self._place(release.manifest.kind, release.manifest.version)
        place.parent.mkdir(parents=True, exist_ok=True)
        (work / "release").mkdir()
        _write(work / "release" / "manifest.json", release.raw)
        _write(work / "release" / "manifest.sig", release.signature + b"\n")
        try:
            os.rename(work / "release", place)
        except OSError as error:  # somebody else's upload of the same version was first
            there = self.get(release.manifest.kind, release.manifest.version)
            if there is None:
                raise
            if there.raw != release.raw:
                raise ConflictError(f"{release.manifest.version} is there already") from error
        _sync_folder(place.parent)

    def _place(self, kind: str, version: str) -> Path:
        return self.folder / "releases" / kind / version

    def _read(self, folder: Path) -> Release:
        raw = (folder / "manifest.json").read_bytes()
        signature = (folder / "manifest.sig").read_bytes().strip()
        return Release(manifest=Manifest.from_bytes(raw), raw=raw, signature=signature)

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        base = self.folder / "incoming"
        base.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=base))
        for old in base.iterdir():  # what a process that was killed left, a day ago or more
            with contextlib.suppress(FileNotFoundError):  # another upload tidies up too
                if old.stat().st_mtime < work.stat().st_mtime - 86_400:
                    shutil.rmtree(old, ignore_errors=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def read_public_key(pem: bytes, name: str) -> Ed25519PublicKey:
    """Raises SignatureError, which calls the key `name`."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise SignatureError(f"{name} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{name} is not an Ed25519 key")
    return key


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        _to_disk(file)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

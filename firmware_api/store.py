"""Where firmware is kept.

    firmware.db          everything but content (tables.py)
    artifacts/{sha256}   content, by its hash; what is here and in firmware.db is whole
    incoming/            what is being written; nothing in it is ever served
    index.key            signs the index (trust.py)

An artifact comes in by one rename after all of it is on disk and has been read back right; its row follows.
So a process that dies in between leaves nothing half, at most a file that no row names, and the next upload
of the same content takes its place.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from firmware_api import tables
from firmware_api.release import ArtifactError, SignatureError
from firmware_api.tables import Work

T = TypeVar("T")
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What a file's content hashes to."""

    size: int
    """bytes"""
    sha256: str
    sha1: str
    md5: str


class FirmwareStore:
    """Firmware in one folder; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- the database --------------------------------------------------------------------------

    def connect(self) -> sqlite3.Connection:
        """A connection of the caller's own."""
        return tables.connect(self.folder / "firmware.db")

    def read(self, work: Work[T]) -> T:
        """`work` on one snapshot."""
        with contextlib.closing(self.connect()) as connection:
            connection.execute("BEGIN")
            return work(connection)

    def write(self, work: Work[T]) -> T:
        """`work` in one transaction, on disk when this returns."""
        with contextlib.closing(self.connect()) as connection, tables.transaction(connection):
            return work(connection)

    # --- artifacts -----------------------------------------------------------------------------

    def artifact(self, sha256: str) -> Path:
        """Where the content of that hash is, or would be."""
        return self.folder / "artifacts" / sha256

    def incoming(self, name: str) -> Path:
        """Where what is being written under that name lies."""
        folder = self.folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def take(self, content: BinaryIO, sha256: str, size: int, now: int) -> None:
        """Take in an artifact of that hash and size (bytes). Raises ArtifactError; then nothing is kept."""
        part = self.incoming(f"{sha256}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with open(part, "wb") as file:
                _copy(content, file, size)
            self.admit(part, sha256, size, now)
        finally:
            part.unlink(missing_ok=True)

    def admit(self, part: Path, sha256: str, size: int, now: int) -> None:
        """Serve what lies at `part` from now on, if it is what it should be. Raises ArtifactError."""
        digests = digest(part)
        if digests.size != size or digests.sha256 != sha256:
            raise ArtifactError("the file is not the one that was announced: its size or hash differs")
        target = self.artifact(sha256)
        target.parent.mkdir(exist_ok=True)
        os.chmod(part, 0o644)
        os.replace(part, target)
        sync_folder(target.parent)
        self._serve(digests, now)

    def adopt(self, sha256: str, size: int, now: int) -> bool:
        """Serve what a process has put in its place and died before it could say so; False where there is
        no such file, or another one than it should be."""
        try:
            digests = digest(self.artifact(sha256))
        except FileNotFoundError:
            return False
        whole = (digests.sha256, digests.size) == (sha256, size)
        if whole:
            self._serve(digests, now)
        return whole

    def _serve(self, digests: Digests, now: int) -> None:
        row = (digests.sha256, digests.size, digests.sha1, digests.md5, now, now)
        self.write(
            lambda c: c.execute(
                "INSERT INTO artifacts (sha256, size, sha1, md5, stored_at, checked_at) VALUES (?,?,?,?,?,?) "
                "ON CONFLICT (sha256) DO UPDATE SET checked_at = excluded.checked_at, damaged = NULL",
                row,
            )
        )

    def scrub(self, now: int, before: int) -> list[str]:
        """Read every artifact last checked before that moment; gives the hashes of those that are damaged.

        A damaged one is not served any more until it is uploaded again.
        """
        rows = self.read(
            lambda c: c.execute(
                "SELECT sha256 FROM artifacts WHERE checked_at < ? ORDER BY checked_at", (before,)
            ).fetchall()
        )
        return [sha256 for (sha256,) in rows if not self._check(sha256, now)]

    def _check(self, sha256: str, now: int) -> bool:
        try:
            damage = None if digest(self.artifact(sha256)).sha256 == sha256 else "its hash differs"
        except OSError as error:
            damage = f"cannot be read: {error.strerror}"
        self.write(
            lambda c: c.execute(
                "UPDATE artifacts SET checked_at = ?, damaged = ? WHERE sha256 = ?", (now, damage, sha256)
            )
        )
        return damage is None

    def sweep(self, before: float) -> None:
        """Throw away what was being written and has not grown since that time (s since the epoch)."""
        for part in (self.folder / "incoming").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
                if part.stat().st_mtime < before:
                    part.unlink()

    # --- the key of the index ------------------------------------------------------------------

    def index_key(self) -> Ed25519PrivateKey:
        """The key that signs the index; made when there is none."""
        path = self.folder / "index.key"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            made = self.incoming(f"index.{os.getpid()}.{time.monotonic_ns()}")
            write_private(made, Ed25519PrivateKey.generate())
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(made, path)
            made.unlink()
        return read_private_key(path)


def _copy(content: BinaryIO, file: BinaryIO, size: int) -> None:
    have = 0
    while chunk := content.read(CHUNK):
        have += len(chunk)
        if have > size:
            raise ArtifactError(f"the file is longer than the {size} bytes that were announced")
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())


def digest(path: Path) -> Digests:
    """Reads the whole file, a piece at a time."""
    sha256, sha1, md5 = hashlib.sha256(), hashlib.sha1(), hashlib.md5()
    size = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while read := file.readinto(buffer):
            size += read
            for one in (sha256, sha1, md5):
                one.update(view[:read])
    return Digests(size=size, sha256=sha256.hexdigest(), sha1=sha1.hexdigest(), md5=md5.hexdigest())


# --- keys in files ------------------------------------------------------------------------------


def write_private(path: Path, key: Ed25519PrivateKey) -> None:
    """The key as PEM, readable by its owner alone. Raises FileExistsError rather than overwriting one."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Raises SignatureError, OSError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path} is not a private key in PEM without password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key")
    return key


def read_public_key(pem: bytes, name: str) -> Ed25519PublicKey:
    """Raises SignatureError, which calls the key `name`."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise SignatureError(f"{name} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{name} is not an Ed25519 key")
    return key


def sync_folder(folder: Path) -> None:
    """What was renamed into it is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

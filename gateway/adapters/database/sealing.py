"""Secrets at rest: sealed with a key that does not lie in the database.

What has to be known again and not only compared (the secrets of authenticator apps, those that webhooks are
signed with) is kept under AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits, bound to the row and
column where it stands, so that nobody moves one to another account. The key file has one key a line, 32 bytes
as base64url: the first seals, all of them open, and a text says by the beginning of its key's SHA-256 which
one it needs. The file is looked at again when it has changed, so a running process follows a rotation.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.ports import DatabaseUnavailableError

MARK = "sealed:"
KEY_BYTES = 32
NONCE_BYTES = 12
NAME_LENGTH = 16

Random = Callable[[int], bytes]


class Seal:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path, *, random: Random = os.urandom) -> None:
        """Reads nothing yet."""
        self.path = path
        self._random = random
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, AESGCM] = {}

    def make(self) -> None:
        """Make the file with a key, readable by this user alone, when it is missing; one that is there has to
        hold keys. Raises DatabaseUnavailableError."""
        if not self.path.exists():
            self._write([self._random(KEY_BYTES)], new=True)
        self._read()

    def seal(self, text: str, place: str) -> str:
        """The text as it is kept at `place`, under the newest key. Raises DatabaseUnavailableError."""
        name, key = self._read()
        nonce = self._random(NONCE_BYTES)
        sealed = nonce + key.encrypt(nonce, text.encode(), place.encode())
        return f"{MARK}{name}:{urlsafe_b64encode(sealed).decode()}"

    def open(self, kept: str, place: str) -> str:
        """What was sealed at `place`; a text of before that is not sealed as it is. Raises
        DatabaseUnavailableError where the key is missing or somebody else wrote it."""
        if not is_sealed(kept):
            return kept
        name, _, sealed = kept.removeprefix(MARK).partition(":")
        if name not in self._keys:
            self._read()
        if name not in self._keys:
            raise DatabaseUnavailableError(
                f"{self.path} does not hold the key that secrets in the database were sealed with: "
                "restore the file that belongs to this database."
            )
        raw = urlsafe_b64decode(sealed)
        try:
            return self._keys[name].decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place.encode()).decode()
        except InvalidTag as error:
            raise DatabaseUnavailableError(f"The secret at {place} was changed by somebody else.") from error

    def newest(self, kept: str) -> bool:
        """Whether a text is sealed, and under the newest key."""
        name, _ = self._read()
        return kept.startswith(f"{MARK}{name}:")

    def add_key(self) -> None:
        """A new key in front; those of before still open. Raises DatabaseUnavailableError."""
        self._write([self._random(KEY_BYTES), *self._stored()])

    def forget_old(self) -> None:
        """Nothing but the newest key, also in what was left of a change that was cut off. Raises
        DatabaseUnavailableError."""
        self._write(self._stored()[:1])
        for left in self.path.parent.iterdir():
            if left.name.startswith(self._fresh("").name):
                left.unlink(missing_ok=True)

    # --- the file

    def _read(self) -> tuple[str, AESGCM]:
        """The newest key and its name."""
        with self._lock:
            try:
                told = self.path.stat()
            except OSError as error:
                raise self._trouble("read", error) from error
            seen = (told.st_mtime_ns, told.st_ino, told.st_size)
            if seen != self._seen:
                stored = {_name(key): AESGCM(key) for key in self._stored()}
                self._keys = stored | self._keys  # those of before for whoever reads as of a moment before
                self._seen = seen
            return next(iter(self._keys.items()))

    def _stored(self) -> list[bytes]:
        try:
            keys = [_key(line) for line in self.path.read_text(encoding="ascii").split()]
        except OSError as error:
            raise self._trouble("read", error) from error
        except ValueError as error:
            raise DatabaseUnavailableError(
                f"{self.path} is no key file: restore the one that belongs to this database."
            ) from error
        if not keys:
            raise DatabaseUnavailableError(f"{self.path} holds no key: restore it.")
        return keys

    def _write(self, keys: Sequence[bytes], *, new: bool = False) -> None:
        """Whole or not at all; a new file never over somebody else's."""
        made = self._fresh(os.getpid())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(made, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(b"".join(urlsafe_b64encode(key) + b"\n" for key in keys))
                file.flush()
                os.fsync(file.fileno())
            if new:
                with contextlib.suppress(FileExistsError):
                    os.link(made, self.path)
                made.unlink()
            else:
                made.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._trouble("written", error) from error

    def _fresh(self, by: object) -> Path:
        """Where a process writes what will be the file."""
        return self.path.with_name(f".{self.path.name}-{by}")

    def _trouble(self, what: str, error: OSError) -> DatabaseUnavailableError:
        todo = (
            " Restore the one that belongs to this database." if isinstance(error, FileNotFoundError) else ""
        )
        return DatabaseUnavailableError(f"The key file {self.path} cannot be {what}: {error.strerror}.{todo}")


def is_sealed(kept: str) -> bool:
    """Whether a text as it is kept needs a key."""
    return kept.startswith(MARK)


def _sync_folder(folder: Path) -> None:
    """A file is there after the power has failed only if its folder is on disk, too: what is sealed under a
    key that is not is lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key(line: str) -> bytes:
    key = urlsafe_b64decode(line)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    return key


def _name(key: bytes) -> str:
    """What a sealed text says of its key, and nothing more can be learnt from."""
    return hashlib.sha256(b"touchpoint key " + key).hexdigest()[:NAME_LENGTH]

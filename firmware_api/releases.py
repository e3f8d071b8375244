"""Releases and trust in the database.

Everything takes a connection inside a transaction; what writes the index also takes the key that signs it.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_api import rollouts
from firmware_api.release import (
    ArtifactError,
    ConflictError,
    ExpiredError,
    Manifest,
    SignatureError,
    UnknownError,
    sign,
)
from firmware_api.trust import INDEX_LIFE_MS, Index, Trust, check_step, key_id

WITHDRAWN = "withdrawn"
REVOKED = "revoked"
EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A manifest as signed, with its signatures."""

    id: int
    manifest: Manifest
    raw: bytes
    """the manifest's bytes, exactly as signed"""
    signature: bytes
    """base64, a line for each key"""
    withdrawn: str | None = None
    """why no device gets it any more"""
    stored_at: int = 0
    """UTC ms"""


# --- trust ----------------------------------------------------------------------------------------


def trust_of(connection: sqlite3.Connection) -> Trust | None:
    """The trust document that holds; None before the first."""
    row = _document(connection, "trust")
    return None if row is None else Trust.from_bytes(row["raw"])


def document(connection: sqlite3.Connection, role: str, version: int | None = None) -> tuple[bytes, bytes]:
    """A signed document and its signatures, the newest of that role by default. Raises UnknownError."""
    row = _document(connection, role, version)
    if row is None:
        raise UnknownError(f"no such {role}")
    return bytes(row["raw"]), str(row["signatures"]).encode()


def _document(connection: sqlite3.Connection, role: str, version: int | None = None) -> sqlite3.Row | None:
    found: sqlite3.Row | None = connection.execute(
        "SELECT raw, signatures FROM documents WHERE role = ? AND (? IS NULL OR version = ?) "
        "ORDER BY version DESC LIMIT 1",
        (role, version, version),
    ).fetchone()
    return found


def take_trust(
    connection: sqlite3.Connection, raw: bytes, signatures: bytes, now: int, key: Ed25519PrivateKey
) -> Trust:
    """The next trust document holds from now on; what only revoked keys signed is withdrawn with it.

    Taking the one that holds changes nothing. Raises ManifestError, SignatureError, ExpiredError.
    """
    held = _document(connection, "trust")
    if held is not None and held["raw"] == raw:
        return Trust.from_bytes(raw)
    trust = check_step(trust_of(connection), raw, signatures, now)
    connection.execute(
        "INSERT INTO documents VALUES ('trust', ?, ?, ?, ?)",
        (trust.version, raw, b"\n".join(signatures.split()).decode(), now),
    )
    for release in current(connection):
        try:
            trust.check("release", release.raw, release.signature, release.manifest.created)
        except SignatureError:
            withdraw(connection, release.id, REVOKED, now, key)
    refresh_index(connection, now, key, always=True)
    return trust


# --- releases -------------------------------------------------------------------------------------

_SELECT = (
    "SELECT r.id, r.raw, r.withdrawn, r.stored_at, "
    "(SELECT group_concat(signature, char(10)) FROM signatures s WHERE s.release = r.id) AS signature "
    "FROM releases r "
)


def _release(row: sqlite3.Row) -> Release:
    return Release(
        id=row["id"],
        manifest=Manifest.from_bytes(row["raw"]),
        raw=bytes(row["raw"]),
        signature=str(row["signature"]).encode(),
        withdrawn=row["withdrawn"],
        stored_at=row["stored_at"],
    )


def releases(connection: sqlite3.Connection) -> list[Release]:
    """All releases, the highest sequence of each kind first."""
    return [_release(row) for row in connection.execute(_SELECT + "ORDER BY r.kind, r.sequence DESC")]


def current(connection: sqlite3.Connection) -> list[Release]:
    """Those that are not withdrawn."""
    return [release for release in releases(connection) if release.withdrawn is None]


def find(connection: sqlite3.Connection, kind: str, version: str) -> Release | None:
    row = connection.execute(_SELECT + "WHERE r.kind = ? AND r.version = ?", (kind, version)).fetchone()
    return None if row is None else _release(row)


def by_id(connection: sqlite3.Connection, release: int) -> Release:
    """Raises UnknownError."""
    row = connection.execute(_SELECT + "WHERE r.id = ?", (release,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no release {release}")
    return _release(row)


def add(
    connection: sqlite3.Connection, raw: bytes, signatures: bytes, now: int, key: Ed25519PrivateKey
) -> Release:
    """Take a release in; its artifacts are there already. Doing it again with the same one adds signatures.

    Raises FirmwareError in all its forms; then nothing is kept.
    """
    manifest = Manifest.from_bytes(raw)
    trust = trust_of(connection)
    if trust is None:
        raise SignatureError(
            "nobody is trusted yet: touchpoint firmware key init makes the first trust document"
        )
    signed = trust.check("release", raw, signatures, manifest.created)
    if manifest.expires <= now:
        raise ExpiredError(f"release {manifest.version} has expired")
    known = find(connection, manifest.kind, manifest.version)
    if known is None:
        number = _insert(connection, manifest, raw, now)
    elif known.raw == raw and known.withdrawn in (None, REVOKED):
        number = known.id
        connection.execute("UPDATE releases SET withdrawn = NULL WHERE id = ?", (number,))
    else:
        raise ConflictError(f"{manifest.kind} {manifest.version} is there already, with another manifest")
    connection.executemany(
        "INSERT OR REPLACE INTO signatures VALUES (?, ?, ?)",
        [(number, name, signature) for name, signature in signed.items()],
    )
    refresh_index(connection, now, key, always=True)
    return by_id(connection, number)


def _insert(connection: sqlite3.Connection, manifest: Manifest, raw: bytes, now: int) -> int:
    same = connection.execute(
        "SELECT version FROM releases WHERE kind = ? AND sequence = ?", (manifest.kind, manifest.sequence)
    ).fetchone()
    if same is not None:
        raise ConflictError(f"{manifest.kind} {same['version']} has sequence {manifest.sequence} already")
    _check_artifacts(connection, manifest)
    row = (manifest.kind, manifest.version, manifest.sequence, raw, now)
    number = connection.execute(
        "INSERT INTO releases (kind, version, sequence, raw, stored_at) VALUES (?,?,?,?,?) RETURNING id", row
    ).fetchone()["id"]
    for module in manifest.modules:
        values = (number, module.part, module.name, module.version, json.dumps(dict(module.metadata)))
        chunk = connection.execute(
            "INSERT INTO modules (release, part, name, version, metadata) VALUES (?,?,?,?,?) RETURNING id",
            values,
        ).fetchone()["id"]
        connection.executemany(
            "INSERT INTO module_files VALUES (?, ?, ?)",
            [(chunk, file.name, file.sha256) for file in module.files],
        )
    return int(number)


def _check_artifacts(connection: sqlite3.Connection, manifest: Manifest) -> None:
    for file in manifest.files:
        row = connection.execute(
            "SELECT size, sha1, md5, damaged FROM artifacts WHERE sha256 = ?", (file.sha256,)
        ).fetchone()
        if row is None or row["damaged"] is not None:
            raise ArtifactError(f"{file.name}: upload its content first, {file.sha256}")
        if (row["size"], row["sha1"], row["md5"]) != (file.size, file.sha1, file.md5):
            raise ArtifactError(f"{file.name} is not the file that the manifest names")


def withdraw(
    connection: sqlite3.Connection, release: int, why: str, now: int, key: Ed25519PrivateKey
) -> None:
    """No device gets it any more: those that have not begun are spared it, the others are asked to stop."""
    _end(connection, release, why, now)
    refresh_index(connection, now, key, always=True)


def _end(connection: sqlite3.Connection, release: int, why: str, now: int) -> None:
    connection.execute("UPDATE releases SET withdrawn = ? WHERE id = ? AND withdrawn IS NULL", (why, release))
    rollouts.release_ended(connection, release, why, now, by_itself=why == EXPIRED)
    connection.execute(
        "UPDATE actions SET state = 'canceled', open = 0, closed_at = ?, due_at = NULL, message = ? "
        "WHERE release = ? AND (state IN ('scheduled', 'waiting') OR (state = 'running' AND fetched = 0))",
        (now, why, release),
    )
    connection.execute(
        "UPDATE actions SET state = 'canceling', revision = revision + 1, message = ? "
        "WHERE release = ? AND state = 'running'",
        (why, release),
    )


def refresh_index(
    connection: sqlite3.Connection, now: int, key: Ed25519PrivateKey, *, always: bool = False
) -> bool:
    """Sign the index anew when it has changed or half of its life is over; gives whether it did.

    Nothing is signed while the trust document does not name the key: no device would believe it.
    """
    for release in current(connection):
        if release.manifest.expires <= now:
            _end(connection, release.id, EXPIRED, now)
            always = True
    trust = trust_of(connection)
    if trust is None or key_id(key.public_key()) not in trust.with_role("index"):
        return False
    held = _document(connection, "index")
    before = None if held is None else Index.from_bytes(held["raw"])
    if before is not None and not always and before.created + INDEX_LIFE_MS // 2 > now:
        return False
    listed = {
        f"{one.manifest.kind}/{one.manifest.version}": hashlib.sha256(one.raw).hexdigest()
        for one in current(connection)
    }
    version = 1 if before is None else before.version + 1
    index = Index(version=version, created=now, expires=now + INDEX_LIFE_MS, releases=listed)
    raw = index.to_bytes()
    connection.execute(
        "INSERT INTO documents VALUES ('index', ?, ?, ?, ?)", (version, raw, sign(raw, key).decode(), now)
    )
    connection.execute("DELETE FROM documents WHERE role = 'index' AND version < ?", (version,))
    return True

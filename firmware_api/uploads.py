"""Artifacts on their way in over HTTP: in pieces, from where the last one ended.

What has arrived is a file in `incoming/`; its length is the offset from which to go on, so nothing can
disagree with it. When all is there it is read back, its hash compared, and moved to its place by one
rename.
"""

import asyncio
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from firmware_api.office import Office
from firmware_api.release import ArtifactError, ConflictError, ManifestError, UnknownError

LARGEST = 64 << 30
"""Bytes of an artifact."""
FLUSH = 8 << 20
"""Bytes that are gathered before they are written."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One artifact on its way in."""

    id: str
    sha256: str
    size: int
    """bytes"""
    offset: int
    """bytes that are here; size when the artifact is in store"""


def _part(office: Office, upload: str) -> Path:
    return office.store.incoming(f"upload-{upload}")


async def begin(office: Office, sha256: str, size: int, by: str) -> Upload:
    """An upload of this content, or the one that has begun. Raises ManifestError for a size that cannot
    be."""
    if not 1 <= size <= LARGEST:
        raise ManifestError(f"size: 1 to {LARGEST} bytes")
    now, fresh = office.clock(), secrets.token_hex(12)

    def work(connection: sqlite3.Connection) -> str:
        row = connection.execute(
            "SELECT id FROM uploads WHERE sha256 = ? AND size = ?", (sha256, size)
        ).fetchone()
        if row is not None:
            return str(row["id"])
        connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", (fresh, sha256, size, now, by))
        return fresh

    return await find(office, await office.write(work))


async def find(office: Office, upload: str) -> Upload:
    """How far an upload is. Raises UnknownError.

    What has arrived whole and was not verified, because the process died in between, is verified now.
    """

    def work(connection: sqlite3.Connection) -> tuple[sqlite3.Row | None, bool]:
        row = connection.execute("SELECT * FROM uploads WHERE id = ?", (upload,)).fetchone()
        stored = (
            row is not None
            and connection.execute(
                "SELECT 1 FROM artifacts WHERE sha256 = ? AND damaged IS NULL", (row["sha256"],)
            ).fetchone()
        )
        return row, bool(stored)

    row, stored = await office.read(work)
    if row is None:
        raise UnknownError(f"there is no upload {upload}")
    part = _part(office, upload)
    offset = row["size"] if stored else await asyncio.to_thread(_size, part)
    if not offset and await asyncio.to_thread(office.store.adopt, row["sha256"], row["size"], office.clock()):
        offset, stored = row["size"], True
    held = Upload(id=upload, sha256=row["sha256"], size=row["size"], offset=offset)
    if stored or offset < held.size:
        return held
    try:
        await asyncio.to_thread(_admit, office, part, held)
    except ArtifactError:
        return replace(held, offset=0)
    except FileNotFoundError:  # somebody else has asked at the same time, and it is in its place by now
        return held
    return held


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def append(office: Office, upload: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
    """Take what comes; what has arrived stays, also when the sender goes away in the middle.

    Raises UnknownError, ConflictError when `offset` is not where to go on, ArtifactError when it is more than
    was announced or not what was announced: then all of it is thrown away.
    """
    held = await find(office, upload)
    if held.offset != offset:
        raise ConflictError(f"go on from {held.offset}")
    if held.offset == held.size:
        return held
    part = _part(office, upload)
    file = await asyncio.to_thread(open, part, "ab", 0)
    try:
        async for gathered in _gather(pieces):
            if offset + len(gathered) > held.size:
                raise ArtifactError(f"more than the {held.size} bytes that were announced")
            await asyncio.to_thread(_write, file, offset, gathered)
            offset += len(gathered)
        await asyncio.to_thread(os.fsync, file.fileno())
    except ArtifactError:
        await asyncio.to_thread(part.unlink, missing_ok=True)
        raise
    finally:
        file.close()
    if offset == held.size:
        await asyncio.to_thread(_admit, office, part, held)
    return await find(office, upload)


def _write(file: FileIO, offset: int, gathered: bytes) -> None:
    """Whoever goes on from the end goes on; one whose connection was given up in the meantime does not.
    Raises ConflictError."""
    if os.fstat(file.fileno()).st_size != offset:
        raise ConflictError("somebody else is sending it")
    while gathered:
        gathered = gathered[file.write(gathered) :]


async def _gather(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= FLUSH:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _admit(office: Office, part: Path, held: Upload) -> None:
    try:
        office.store.admit(part, held.sha256, held.size, office.clock())
    finally:
        part.unlink(missing_ok=True)

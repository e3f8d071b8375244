"""What `touchpoint firmware …` does: prints, and returns the exit status, 1 for what is refused."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from firmware_api import signing
from firmware_api.release import FirmwareError, ManifestError
from firmware_api.routes import public
from firmware_api.store import FirmwareStore

P = ParamSpec("P")

LIFE_MS = 2 * 365 * 86_400_000
"""How long a release may be installed when nothing is said: two years."""


def _refusals(command: Callable[P, None]) -> Callable[P, int]:
    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        try:
            command(*arguments, **options)
        except FirmwareError as error:
            print(f"refused: {error}", file=sys.stderr)
            return 1
        return 0

    return run


def _now() -> int:
    return time.time_ns() // 1_000_000


@_refusals
def keygen(path: Path) -> None:
    """Makes a signing key and its public half."""
    half = signing.keygen(path)
    print(f"{path}: the signing key, keep it secret\n{half}: its public half, for those who verify")


@_refusals
def sign(
    artifact: Path,
    *,
    key: Path,
    version: str,
    sequence: int,
    kind: str,
    models: Sequence[str] = (),
    expires: str | None = None,
    downgrade: bool = False,
) -> None:
    """Signs an artifact as a release of `kind`; `expires` is a date, the end of which is meant in UTC."""
    now = _now()
    manifest, signature = signing.sign(
        artifact,
        key,
        version=version,
        kind=kind,
        sequence=sequence,
        models=models,
        now=now,
        expires=now + LIFE_MS if expires is None else _end_of(expires),
        downgrade=downgrade,
    )
    print(f"{manifest}\n{signature}")


def _end_of(date: str) -> int:
    try:
        day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ManifestError(f"expires {date}: write a date, for example 2028-12-31") from error
    return round(day.timestamp() * 1000) + 86_400_000


@_refusals
def upload(folder: Path, manifest: Path, artifact: Path) -> None:
    """Checks a signed release and takes it into the store in `folder`."""
    release = signing.upload(FirmwareStore(folder), manifest, artifact, _now()).manifest
    print(f"{release.kind} {release.version}, {release.size:,} bytes, {release.sha256}")


@_refusals
def trust(folder: Path, key: Path) -> None:
    """The store in `folder` takes releases of this public key."""
    print(f"releases signed with key {signing.trust(FirmwareStore(folder), key)} are taken from now on")


def releases(folder: Path) -> list[Mapping[str, Any]]:
    """The releases in the store in `folder`, a row each, the newest of each kind first."""
    columns = ("kind", "version", "sequence", "models", "size", "created", "expires", "sha256")
    rows = (public(release) for release in FirmwareStore(folder).releases())
    return [{name: row[name] for name in columns} for row in rows]

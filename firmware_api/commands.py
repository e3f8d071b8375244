"""What `touchpoint firmware …` does on this machine: prints, and returns the exit status, 1 for what is
refused."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from firmware_api import releases, signing, targets
from firmware_api.release import FirmwareError, Manifest, ManifestError, UnknownError, rfc3339
from firmware_api.routes import public
from firmware_api.store import FirmwareStore
from firmware_api.trust import Trust

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


# --- signing --------------------------------------------------------------------------------------


@_refusals
def keygen(path: Path) -> None:
    """Makes a signing key and its public half."""
    try:
        half = signing.keygen(path)
    except FileExistsError as error:
        raise ManifestError(
            f"{path} is there already, and a key is never overwritten: name another file"
        ) from error
    print(f"{path}: the signing key, keep it secret\n{half}: its public half, for those who verify")


@_refusals
def sign(
    artifacts: Sequence[str],
    *,
    key: Path | None,
    version: str,
    sequence: int,
    kind: str,
    models: Sequence[str] = (),
    hardware: Sequence[str] = (),
    lowest: int = 0,
    expires: str | None = None,
    downgrade: bool = False,
    minutes: int = 0,
    notes: Sequence[str] = (),
) -> None:
    """Signs artifacts (`FILE`, or `PART=FILE`) as a release of `kind`; `expires` is a date, the end of
    which is meant in UTC; `notes` are `LANGUAGE=TEXT`."""
    missing = [
        f"--{name}"
        for name, given in (("kind", kind), ("version", version), ("sequence", sequence))
        if not given
    ]
    if missing:
        raise ManifestError(f"a release needs {' and '.join(missing)}")
    now = _now()
    manifest, signature = signing.sign(
        _parts(artifacts),
        key,
        version=version,
        kind=kind,
        sequence=sequence,
        models=models,
        hardware=hardware,
        lowest=lowest,
        now=now,
        expires=now + LIFE_MS if expires is None else _end_of(expires),
        downgrade=downgrade,
        minutes=minutes,
        notes=dict(_pair(note) for note in notes),
    )
    print(
        f"{manifest}\n{signature}"
        if key
        else f"{manifest}: not signed yet; touchpoint firmware sign --again {manifest} --key KEY"
    )


def _parts(artifacts: Sequence[str]) -> dict[str, list[Path]]:
    parts: dict[str, list[Path]] = {}
    for text in artifacts:
        part, separator, path = text.partition("=")
        parts.setdefault(part if separator else "os", []).append(Path(path if separator else text))
    return parts


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ManifestError(f"{text!r}: write language=text, for example en='Charges faster'")
    return name, value


def _end_of(date: str) -> int:
    try:
        day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ManifestError(f"expires {date}: write a date, for example 2028-12-31") from error
    return round(day.timestamp() * 1000) + 86_400_000


@_refusals
def sign_again(document: Path, key: Path | None) -> None:
    """Adds a signature to those of a manifest or trust document."""
    if key is None:
        raise ManifestError("name the key that signs: --key signing.key")
    print(signing.sign_again(document, key))


# --- trust ----------------------------------------------------------------------------------------


@_refusals
def key_init(folder: Path, signer: Path, out: Path | None) -> None:
    """Makes the first trust document."""
    store = FirmwareStore(folder)
    if out is None and store.read(releases.trust_of) is not None:
        raise ManifestError("there is a trust document already: touchpoint firmware key list, key add")
    _publish(store, signing.init_trust(signer, store.index_key().public_key(), _now()), [signer], out)


@_refusals
def key_add(
    folder: Path,
    public_key: Path,
    roles: Sequence[str],
    signers: Sequence[Path],
    held: Path | None,
    out: Path | None,
) -> None:
    """One key more."""
    store = FirmwareStore(folder)
    _publish(store, signing.add_key(_held(store, held), public_key, roles, _now()), signers, out)


@_refusals
def key_retire(folder: Path, name: str, signers: Sequence[Path], held: Path | None, out: Path | None) -> None:
    """A key signs nothing new."""
    store = FirmwareStore(folder)
    _publish(store, signing.retire_key(_held(store, held), name, _now()), signers, out)


@_refusals
def key_revoke(folder: Path, name: str, signers: Sequence[Path], held: Path | None, out: Path | None) -> None:
    """Nothing that a key has signed counts any more."""
    store = FirmwareStore(folder)
    _publish(store, signing.drop_key(_held(store, held), name, _now()), signers, out)


def _held(store: FirmwareStore, place: Path | None) -> Trust:
    if place is not None:
        return signing.load_trust(place)
    trust = store.read(releases.trust_of)
    if trust is None:
        raise UnknownError("there is no trust document yet: touchpoint firmware key init")
    return trust


def _publish(store: FirmwareStore, trust: Trust, signers: Sequence[Path], out: Path | None) -> None:
    place = out or store.incoming("trust.json")
    signing.save_trust(trust, place, signers)
    if out is not None:
        print(f"{out}: trust {trust.version}, signed by {len(signers)}")
        return
    taken = signing.take_trust(store, place, _now())
    print(f"trust {taken.version} holds: {', '.join(key.id for key in taken.keys)}")


@_refusals
def trust(folder: Path, document: Path) -> None:
    """The store in `folder` follows this trust document from now on."""
    taken = signing.take_trust(FirmwareStore(folder), document, _now())
    print(f"trust {taken.version} holds: {', '.join(key.id for key in taken.keys)}")


def keys(folder: Path) -> list[Mapping[str, Any]]:
    """The keys of the trust document that holds, a row each."""
    held = FirmwareStore(folder).read(releases.trust_of)
    return [
        {
            "key": key.id,
            "roles": ", ".join(key.roles),
            "until": "" if key.until is None else rfc3339(key.until),
        }
        for key in (held.keys if held else ())
    ]


# --- releases and devices -------------------------------------------------------------------------


@_refusals
def upload(folder: Path, manifest: Path, artifacts: Sequence[Path]) -> None:
    """Checks a signed release and takes it into the store in `folder`."""
    release: Manifest = signing.upload(FirmwareStore(folder), manifest, artifacts, _now()).manifest
    files = f"{len(release.files)} file{'' if len(release.files) == 1 else 's'}"
    print(f"{release.kind} {release.version}, {release.size:,} bytes, {files}")


@_refusals
def withdraw(folder: Path, kind: str, version: str) -> None:
    """No device gets this release any more."""
    store, now = FirmwareStore(folder), _now()
    found, key = store.read(lambda c: releases.find(c, kind, version)), store.index_key()
    if found is None:
        raise UnknownError(f"there is no {kind} {version}")
    store.write(lambda c: releases.withdraw(c, found.id, releases.WITHDRAWN, now, key))
    print(f"{kind} {version} is withdrawn")


def listed(folder: Path) -> list[Mapping[str, Any]]:
    """The releases in the store in `folder`, a row each, the newest of each kind first."""
    found = FirmwareStore(folder).read(releases.releases)
    columns = ("kind", "version", "sequence", "models", "created", "expires")
    rows = (
        {name: public(one)[name] for name in columns}
        | {"size": one.manifest.size, "state": one.withdrawn or "current"}
        for one in found
    )
    return list(rows)


@_refusals
def device(folder: Path, target: str, kind: str | None, model: str | None) -> None:
    """Makes a device known where it is not, says what it is where that is given, and issues its token."""
    store, now = FirmwareStore(folder), _now()

    def work(connection: Any) -> str:
        known = connection.execute("SELECT 1 FROM targets WHERE id = ?", (target,)).fetchone()
        if known is None:
            targets.register(connection, [targets.Target(id=target, kind=kind, model=model)], now)
        else:
            targets.say_what(connection, target, kind, model)
        return targets.issue_token(connection, target)

    print(store.write(work))


@_refusals
def verify(folder: Path) -> None:
    """Reads every artifact and compares its hash."""
    damaged = FirmwareStore(folder).scrub(_now(), _now() + 1)
    if damaged:
        raise UnknownError(f"damaged, and not served any more: {', '.join(damaged)}")
    print("every artifact is what it was")

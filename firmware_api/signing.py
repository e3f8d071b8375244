"""The manufacturer's desk: keys, trust documents, signed manifests beside their artifacts, the way into a
store.

Everything that signs works on files alone, on a machine without network. All raise FirmwareError for what is
refused, and OSError for a file that cannot be read or written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_api import release, releases, trust
from firmware_api.release import ConflictError, File, Manifest, Module, SignatureError
from firmware_api.releases import Release
from firmware_api.store import FirmwareStore, digest, read_private_key, read_public_key, whole, write_private
from firmware_api.trust import Key, Trust

__all__ = [
    "add_key",
    "drop_key",
    "init_trust",
    "keygen",
    "load_trust",
    "retire_key",
    "save_trust",
    "sign",
    "sign_again",
    "take_trust",
    "upload",
]


def keygen(path: Path) -> Path:
    """Makes a signing key at `path`, readable by its owner alone, and returns its public half, `path`.pub.

    Raises FileExistsError rather than overwriting a key.
    """
    key = Ed25519PrivateKey.generate()
    write_private(path, key)
    public = path.with_name(path.name + ".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


# --- releases -------------------------------------------------------------------------------------


def sign(
    artifacts: Sequence[Path] | Mapping[str, Sequence[Path]],
    key: Path | None,
    *,
    version: str,
    kind: str,
    sequence: int,
    now: int,
    expires: int,
    models: Sequence[str] = (),
    hardware: Sequence[str] = (),
    lowest: int = 0,
    downgrade: bool = False,
    minutes: int = 0,
    notes: Mapping[str, str] | None = None,
    beside: Path | None = None,
) -> tuple[Path, Path]:
    """Writes a manifest and its signature, at `beside` and `beside`.sig, and returns their paths.

    `artifacts` by part of the device; a plain list is the part `os`. By default beside the first artifact,
    as its name with `.manifest`. Without `key` only the manifest is written, for a key that is elsewhere.
    Times in UTC ms. Raises SignatureError when `key` is no Ed25519 private key.
    """
    parts = dict(artifacts) if isinstance(artifacts, Mapping) else {"os": artifacts}
    manifest = Manifest(
        version=version,
        kind=kind,
        models=tuple(models),
        hardware=tuple(hardware),
        modules=tuple(_module(part, files, kind, version) for part, files in parts.items()),
        created=now,
        expires=expires,
        sequence=sequence,
        lowest=lowest,
        downgrade=downgrade,
        minutes=minutes,
        notes=dict(notes or {}),
    )
    if beside is None:
        one = next(iter(parts.values()))[0]
        beside = one.with_name(f"{one.name}.manifest")
    beside.write_bytes(manifest.to_bytes())
    _signature_of(beside).write_bytes(b"")
    if key is not None:
        sign_again(beside, key)
    return beside, _signature_of(beside)


def _module(part: str, files: Sequence[Path], kind: str, version: str) -> Module:
    return Module(part=part, name=f"{kind}-{part}"[:64], version=version, files=tuple(map(_file, files)))


def _file(path: Path) -> File:
    found = digest(path)
    return File(name=path.name, size=found.size, sha256=found.sha256, sha1=found.sha1, md5=found.md5)


def sign_again(document: Path, key: Path) -> Path:
    """Adds the signature of `key` to those beside a manifest or trust document; returns where they are."""
    place = _signature_of(document)
    held = place.read_bytes().split() if place.exists() else []
    made = release.sign(document.read_bytes(), read_private_key(key))
    with whole(place) as file:
        file.write(b"\n".join(dict.fromkeys((*held, made))) + b"\n")
    return place


def upload(store: FirmwareStore, manifest: Path, artifacts: Iterable[Path], now: int) -> Release:
    """Takes in artifacts, and the manifest with the signatures beside it."""
    raw, signatures = manifest.read_bytes(), _signature_of(manifest).read_bytes()
    named = {file.name: file for file in Manifest.from_bytes(raw).files}
    held = store.read(releases.trust_of)
    if held is not None:  # before gigabytes are copied
        held.check("release", raw, signatures, Manifest.from_bytes(raw).created)
    for path in artifacts:
        file = named.get(path.name)
        if file is None:
            raise ConflictError(f"{path.name} is not in the manifest: {', '.join(named)}")
        with open(path, "rb") as content:
            store.take(content, file.sha256, file.size, now)
    key = store.index_key()
    return store.write(lambda c: releases.add(c, raw, signatures, now, key))


def _signature_of(document: Path) -> Path:
    return document.with_name(f"{document.name}.sig")


# --- trust ----------------------------------------------------------------------------------------


def init_trust(signer: Path, index: Ed25519PublicKey, now: int) -> Trust:
    """The first trust document: one key for trust and releases, and the server's for the index."""
    mine = read_private_key(signer).public_key()
    return trust.first(
        (Key(public=mine, roles=("trust", "release")), Key(public=index, roles=("index",))), now
    )


def add_key(held: Trust, public: Path, roles: Sequence[str], now: int) -> Trust:
    """The next version, with one key more, or another set of roles for one that is there."""
    key = read_public_key(public.read_bytes(), str(public))
    if not roles or not set(roles) <= set(trust.ROLES):
        raise ConflictError(f"roles are {', '.join(trust.ROLES)}")
    others = [one for one in held.keys if one.id != trust.key_id(key)]
    return trust.following(held, (*others, Key(public=key, roles=tuple(roles))), now)


def retire_key(held: Trust, name: str, now: int) -> Trust:
    """The next version, in which this key signs nothing new; what it has signed stays good."""
    _known(held, name)
    keys = (replace(key, until=now) if key.id == name and key.until is None else key for key in held.keys)
    return trust.following(held, keys, now)


def drop_key(held: Trust, name: str, now: int) -> Trust:
    """The next version, without this key: nothing that it alone has signed counts any more."""
    _known(held, name)
    return trust.following(held, (key for key in held.keys if key.id != name), now)


def _known(held: Trust, name: str) -> None:
    if name not in {key.id for key in held.keys}:
        raise ConflictError(f"no key {name}; there are {', '.join(key.id for key in held.keys)}")


def save_trust(document: Trust, place: Path, signers: Sequence[Path]) -> None:
    """Writes a trust document and its signatures beside it."""
    with whole(place) as file:
        file.write(document.to_bytes())
    _signature_of(place).unlink(missing_ok=True)
    for signer in signers:
        sign_again(place, signer)


def load_trust(place: Path) -> Trust:
    """A trust document from a file, not verified."""
    return Trust.from_bytes(place.read_bytes())


def take_trust(store: FirmwareStore, place: Path, now: int) -> Trust:
    """The store follows this document from now on. Raises SignatureError when it may not."""
    raw = place.read_bytes()
    if not _signature_of(place).exists():
        raise SignatureError(f"{place} has no signatures beside it")
    signatures, key = _signature_of(place).read_bytes(), store.index_key()
    return store.write(lambda c: releases.take_trust(c, raw, signatures, now, key))

"""The manufacturer's desk: keys, signed manifests beside their artifacts, and the way into a store.

All raise FirmwareError for what is refused, and OSError for a file that cannot be read or written.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from firmware_api import release
from firmware_api.release import Manifest, SignatureError
from firmware_api.store import FirmwareStore, Release, read_public_key


def keygen(path: Path) -> Path:
    """Makes a signing key at `path`, readable by its owner alone, and returns its public half, `path`.pub.

    Raises FileExistsError rather than overwriting a key.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public = path.with_name(path.name + ".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


def sign(
    artifact: Path,
    key: Path,
    *,
    version: str,
    kind: str,
    sequence: int,
    now: int,
    expires: int,
    models: Sequence[str] = (),
    downgrade: bool = False,
) -> tuple[Path, Path]:
    """Writes `artifact`.manifest and `artifact`.manifest.sig and returns their paths.

    Times in UTC ms. Raises SignatureError when `key` is no Ed25519 private key.
    """
    with open(artifact, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = Manifest(
        version=version,
        kind=kind,
        models=tuple(models),
        sha256=digest,
        size=artifact.stat().st_size,
        created=now,
        expires=expires,
        sequence=sequence,
        downgrade=downgrade,
    )
    raw = manifest.to_bytes()
    signature = release.sign(raw, _private_key(key))
    beside = artifact.with_name(f"{artifact.name}.manifest")
    beside.write_bytes(raw)
    _signature_of(beside).write_bytes(signature + b"\n")
    return beside, _signature_of(beside)


def upload(store: FirmwareStore, manifest: Path, artifact: Path, now: int) -> Release:
    """Takes in an artifact with its manifest and the signature beside that."""
    with open(artifact, "rb") as content:
        return store.upload(manifest.read_bytes(), _signature_of(manifest).read_bytes(), content, now)


def trust(store: FirmwareStore, public: Path) -> str:
    """The store takes releases of this public key from now on; returns the key's short name.

    Raises SignatureError when `public` is no Ed25519 public key.
    """
    pem = public.read_bytes()
    read_public_key(pem, str(public))
    name = hashlib.sha256(pem).hexdigest()[:16]
    store.trust(name, pem)
    return name


def _signature_of(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.sig")


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path} is not a private key in PEM without password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key")
    return key

"""What the command line does with releases; printing is the caller's.

All raise FirmwareError for a release that is refused, and OSError for a file that cannot be read or written.
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
from firmware_api.store import FirmwareStore, Release


def keygen(path: Path, store: FirmwareStore | None = None) -> Path:
    """Makes a signing key at `path`, readable by its owner alone, and returns its public half, `path`.pub.

    With a store the store takes this key's releases from now on. Raises FileExistsError rather than
    overwriting a key.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(path.name + ".pub")
    public_path.write_bytes(public)
    if store is not None:
        store.trust(hashlib.sha256(public).hexdigest()[:16], public)
    return public_path


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
    """Writes `artifact`.manifest.json and .manifest.sig beside the artifact and returns their paths.

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
    beside, signature = _beside(artifact)
    beside.write_bytes(raw)
    signature.write_bytes(release.sign(raw, _private_key(key)) + b"\n")
    return beside, signature


def upload(store: FirmwareStore, artifact: Path, now: int) -> Release:
    """Takes in an artifact with the manifest and signature that `sign` wrote beside it."""
    manifest, signature = _beside(artifact)
    with open(artifact, "rb") as content:
        return store.upload(manifest.read_bytes(), signature.read_bytes(), content, now)


def releases(store: FirmwareStore) -> list[Release]:
    """All releases, the highest sequence of each kind first."""
    return store.releases()


def _beside(artifact: Path) -> tuple[Path, Path]:
    return artifact.with_name(f"{artifact.name}.manifest.json"), artifact.with_name(
        f"{artifact.name}.manifest.sig"
    )


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path} is not a private key in PEM without password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key")
    return key

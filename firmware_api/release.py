"""What a release says of itself, and who vouches for it.

A manifest is one line of canonical JSON: keys sorted, no white space, UTF-8. The signature is Ed25519
(RFC 8032) over exactly these bytes, kept beside them in base64. Devices verify the bytes they were served and
read them only afterwards.

FirmwareError         root of what a release is refused for
├── ManifestError     the manifest is not one, or says what is not allowed
├── SignatureError    no trusted key has signed these bytes
├── ArtifactError     the file is not the one that the manifest names
├── ExpiredError      its time has passed
└── ConflictError     another release has that version or sequence
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TYPE = "touchpoint-firmware/1"
"""Format and version of the manifest; devices refuse any other."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FirmwareError(Exception):
    """A release is refused."""


class ManifestError(FirmwareError):
    """The manifest is not one, or says what is not allowed."""


class SignatureError(FirmwareError):
    """No trusted key has signed these bytes."""


class ArtifactError(FirmwareError):
    """The file is not the one that the manifest names."""


class ExpiredError(FirmwareError):
    """The release's time has passed."""


class ConflictError(FirmwareError):
    """Another release has that version or sequence."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One release of firmware for one device kind."""

    version: str
    """what people call it, unique within its kind"""
    kind: str
    """device kind it is for"""
    models: tuple[str, ...] = ()
    """models it is for; empty for all of the kind"""
    sha256: str
    """of the artifact, hexadecimal"""
    size: int
    """of the artifact, bytes"""
    created: int
    """UTC ms"""
    expires: int
    """UTC ms from which no device installs it any more"""
    sequence: int
    """grows with every release of a kind; a device goes only up"""
    downgrade: bool = False
    """a device may go down to this one: the signed override"""

    def __post_init__(self) -> None:
        for name in (self.version, self.kind):
            if not NAME.fullmatch(name):
                raise ManifestError(f"{name!r}: 1 to 64 letters, digits and ._+-, a letter or digit first")
        for model in self.models:
            if not 1 <= len(model) <= 64 or not model.isprintable():
                raise ManifestError(f"model {model!r}: 1 to 64 printable characters")
        if not _SHA256.fullmatch(self.sha256):
            raise ManifestError("sha256: 64 hexadecimal digits, small letters")
        if self.size < 1 or self.sequence < 1:
            raise ManifestError("size and sequence: whole numbers from 1")
        if self.expires <= self.created:
            raise ManifestError("expires: later than created")

    def fits(self, kind: str, model: str | None) -> bool:
        """It is for a device of this kind and model."""
        return kind == self.kind and (not self.models or model in self.models)

    def to_bytes(self) -> bytes:
        """The bytes that are signed."""
        fields = asdict(self) | {"type": TYPE, "models": sorted(self.models)}
        fields |= {"created": _rfc3339(self.created), "expires": _rfc3339(self.expires)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Manifest":
        """Raises ManifestError."""
        try:
            fields = json.loads(raw)
            if fields.pop("type") != TYPE:
                raise ManifestError(f"type: this program reads {TYPE}")
            fields = _typed(fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"not a manifest: {error!r}") from error
        return cls(**fields)


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    wanted = {"version": str, "kind": str, "sha256": str, "size": int, "sequence": int, "downgrade": bool}
    if set(fields) != {*wanted, "models", "created", "expires"}:
        raise ManifestError(f"fields: {', '.join(sorted(fields))}")
    for name, kind in wanted.items():
        if type(fields[name]) is not kind:
            raise ManifestError(f"{name}: {kind.__name__} expected")
    if not all(isinstance(model, str) for model in fields["models"]):
        raise ManifestError("models: a list of texts")
    return fields | {
        "models": tuple(fields["models"]),
        "created": _milliseconds(fields["created"]),
        "expires": _milliseconds(fields["expires"]),
    }


def _rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ManifestError(f"{text}: a time without zone")
    return round(at.timestamp() * 1000)


# --- signatures -------------------------------------------------------------------------------


def sign(raw: bytes, key: Ed25519PrivateKey) -> bytes:
    """The detached signature, base64."""
    return base64.b64encode(key.sign(raw))


def verify(raw: bytes, signature: bytes, trusted: Iterable[Ed25519PublicKey]) -> None:
    """Raises SignatureError unless one of the trusted keys has signed exactly these bytes."""
    try:
        plain = base64.b64decode(signature.strip(), validate=True)
    except binascii.Error as error:
        raise SignatureError("the signature is not base64") from error
    for key in trusted:
        try:
            return key.verify(plain, raw)
        except InvalidSignature:
            continue
    raise SignatureError("no trusted key has signed this manifest")

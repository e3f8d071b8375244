"""What a release says of itself, and who vouches for it.

A manifest is one line of canonical JSON: keys sorted, no white space, UTF-8. The signature is Ed25519 (RFC
8032) over exactly these bytes, kept beside them in base64, a line for each key that signed. Devices verify
the bytes they were served and read them only afterwards.

FirmwareError         root of what is refused
├── ManifestError     a manifest or trust document is not one, or says what is not allowed
├── SignatureError    no trusted key has signed these bytes
├── ArtifactError     the file is not the one that the manifest names, or is not there
├── ExpiredError      its time has passed
├── ConflictError     another one has that version or sequence, or the state does not allow it
└── UnknownError      there is no such release, rollout, device, upload
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TYPE = "touchpoint-firmware/2"
"""Format and version of the manifest; devices refuse any other."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_HEX = {"sha256": 64, "sha1": 40, "md5": 32}
LARGEST = 1 << 53
"""Numbers beyond are not exact in every JSON reader (RFC 8259, 6)."""
MOST_FILES = 64
NOTE_MOST = 4_000
"""Characters of what is new, in one language."""


class FirmwareError(Exception):
    """Something about firmware is refused."""


class ManifestError(FirmwareError):
    """The manifest or trust document is not one, or says what is not allowed."""


class SignatureError(FirmwareError):
    """No trusted key has signed these bytes."""


class ArtifactError(FirmwareError):
    """The file is not the one that the manifest names, or is not there."""


class ExpiredError(FirmwareError):
    """Its time has passed."""


class ConflictError(FirmwareError):
    """Another one has that version or sequence, or the state does not allow it."""


class UnknownError(FirmwareError):
    """There is no such release, rollout, device or upload."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One artifact as a manifest names it."""

    name: str
    """as devices see it; what SWUpdate is to install ends in .swu"""
    size: int
    """bytes"""
    sha256: str
    sha1: str
    md5: str

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.name) or self.name.endswith(".MD5SUM"):
            raise ManifestError(f"file {self.name!r}: letters, digits and ._+-, not ending in .MD5SUM")
        for name, length in _HEX.items():
            if not re.fullmatch(f"[0-9a-f]{{{length}}}", getattr(self, name)):
                raise ManifestError(f"{name}: {length} hexadecimal digits, small letters")
        if not 1 <= self.size <= LARGEST:
            raise ManifestError("size: a whole number from 1")


@dataclass(frozen=True, kw_only=True)
class Module:
    """What one part of the device gets: a chunk, in DDI's word."""

    part: str
    """os, application, … ; clients read application as bApp"""
    name: str
    version: str
    files: tuple[File, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """handed to the device as it is"""

    def __post_init__(self) -> None:
        for name in (self.part, self.name, self.version):
            _check_name(name)
        names = [file.name for file in self.files]
        if not names or len(set(names)) < len(names) or len(names) > MOST_FILES:
            raise ManifestError(f"module {self.name}: 1 to {MOST_FILES} files, each name once")
        if len(self.metadata) > 32 or any(len(k) > 128 or len(v) > 4_000 for k, v in self.metadata.items()):
            raise ManifestError(f"module {self.name}: metadata of up to 32 names")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One release of firmware for one device kind."""

    version: str
    """what people call it, unique within its kind"""
    kind: str
    """device kind it is for"""
    models: tuple[str, ...] = ()
    """models it is for; empty for all of the kind"""
    hardware: tuple[str, ...] = ()
    """hardware revisions it is for; empty for all"""
    modules: tuple[Module, ...]
    created: int
    """UTC ms"""
    expires: int
    """UTC ms from which no device installs it any more"""
    sequence: int
    """grows with every release of a kind; a device goes only up"""
    lowest: int = 0
    """sequence of the lowest release it may replace"""
    downgrade: bool = False
    """a device may go down to this one: the signed override"""
    minutes: int = 0
    """how long the product is out of use while it installs"""
    notes: Mapping[str, str] = field(default_factory=dict)
    """what is new, for owners, by language"""

    def __post_init__(self) -> None:
        for name in (self.version, self.kind):
            _check_name(name)
        for text in (*self.models, *self.hardware):
            if not 1 <= len(text) <= 64 or not text.isprintable():
                raise ManifestError(f"model or hardware {text!r}: 1 to 64 printable characters")
        if not 1 <= self.sequence <= LARGEST or not 0 <= self.lowest <= self.sequence:
            raise ManifestError("sequence: a whole number from 1; lowest: not above it")
        if not 0 <= self.minutes <= 1_440:
            raise ManifestError("minutes: 0 to 1,440")
        if self.expires <= self.created:
            raise ManifestError("expires: it has to lie after the moment of signing")
        if not 1 <= len(self.modules) <= MOST_FILES:
            raise ManifestError(f"modules: 1 to {MOST_FILES}")
        if any(
            not re.fullmatch("[a-z]{2}", lang) or len(text) > NOTE_MOST for lang, text in self.notes.items()
        ):
            raise ManifestError("notes: texts by language of two letters")

    @property
    def files(self) -> tuple[File, ...]:
        """Of all modules."""
        return tuple(file for module in self.modules for file in module.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """The bytes that are signed."""
        fields = asdict(self) | {
            "type": TYPE,
            "models": sorted(self.models),
            "hardware": sorted(self.hardware),
        }
        fields |= {"created": rfc3339(self.created), "expires": rfc3339(self.expires)}
        return canonical(fields)

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Manifest":
        """Raises ManifestError, also for bytes that are not canonical: one release, one form."""
        fields = read_document(raw, TYPE)
        try:
            manifest = cls(**_typed(fields))
            same = manifest.to_bytes() == raw
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"not a manifest: {error!r}") from error
        if not same:
            raise ManifestError("not the canonical form: keys sorted, no white space, lists sorted")
        return manifest


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ManifestError(f"{name!r}: 1 to 64 letters, digits and ._+-, a letter or digit first")


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    wanted = {"version": str, "kind": str, "sequence": int, "lowest": int, "downgrade": bool, "minutes": int}
    exactly(fields, wanted, ("models", "hardware", "modules", "created", "expires", "notes"))
    return fields | {
        "models": _texts(fields["models"]),
        "hardware": _texts(fields["hardware"]),
        "notes": _mapping(fields["notes"]),
        "modules": tuple(_module(module) for module in fields["modules"]),
        "created": milliseconds(fields["created"]),
        "expires": milliseconds(fields["expires"]),
    }


def _module(fields: dict[str, Any]) -> Module:
    exactly(fields, {"part": str, "name": str, "version": str}, ("files", "metadata"))
    files = tuple(_file(file) for file in fields["files"])
    return Module(**fields | {"files": files, "metadata": _mapping(fields["metadata"])})


def _file(fields: dict[str, Any]) -> File:
    exactly(fields, {"name": str, "size": int, "sha256": str, "sha1": str, "md5": str}, ())
    return File(**fields)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ManifestError("a list of texts expected")
    return tuple(value)


def _mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ManifestError("texts by name expected")
    return value


# --- documents ----------------------------------------------------------------------------------


def canonical(fields: Mapping[str, Any]) -> bytes:
    """One line of JSON that has one form only."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_document(raw: bytes, type_: str) -> dict[str, Any]:
    """The fields of a signed document of that type, without the type. Raises ManifestError."""
    try:
        fields = json.loads(raw.decode())
        if fields.pop("type") != type_:
            raise ManifestError(f"type: this program reads {type_}")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ManifestError(f"not a {type_}: {error!r}") from error
    return dict(fields)


def exactly(fields: dict[str, Any], wanted: Mapping[str, type], others: Iterable[str]) -> None:
    """Raises ManifestError unless `fields` has these names, the first ones of these types."""
    if set(fields) != {*wanted, *others}:
        raise ManifestError(f"fields: {', '.join(sorted(fields))}"[:200])
    for name, kind in wanted.items():
        if type(fields[name]) is not kind:
            raise ManifestError(f"{name}: {kind.__name__} expected")


def rfc3339(at: int) -> str:
    """UTC ms as text."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(text: str) -> int:
    """RFC 3339 as UTC ms. Raises ManifestError for a time without zone, ValueError for what is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ManifestError(f"{text}: a time without zone")
    return round(at.timestamp() * 1000)


# --- signatures ---------------------------------------------------------------------------------


def sign(raw: bytes, key: Ed25519PrivateKey) -> bytes:
    """The detached signature, base64."""
    return base64.b64encode(key.sign(raw))


def signers(raw: bytes, signatures: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, str]:
    """Which of `keys` have signed exactly these bytes: {key id: signature}. Raises SignatureError for what is
    not base64, a line each."""
    found: dict[str, str] = {}
    for line in signatures.split()[:16]:
        try:
            plain = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError) as error:
            raise SignatureError("the signature is not base64") from error
        for name, key in keys.items():
            if name not in found and _holds(key, plain, raw):
                found[name] = line.decode()
    return found


def _holds(key: Ed25519PublicKey, signature: bytes, raw: bytes) -> bool:
    try:
        key.verify(signature, raw)
    except InvalidSignature:
        return False
    return True

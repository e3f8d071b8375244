"""DDI in CBOR (RFC 8949), which hawkBit speaks beside JSON: what JSON can say, and nothing else."""

import io
import json
from typing import Any

import cbor2

MEDIA_TYPE = "application/cbor"
_DEPTH = 8


class CborError(ValueError):
    """Not CBOR, or something that JSON has no words for."""


def _refuse(*_: Any) -> Any:
    raise ValueError("tags have no place here")


_TAGS = dict.fromkeys((*range(6), *range(21, 37), 100, 258, 260, 261, 1004, 43000), _refuse)
"""All that cbor2 knows: they cost, and shared values may hold themselves."""


def to_json(raw: bytes) -> str:
    """The same as JSON. Raises CborError."""
    stream = io.BytesIO(raw)
    try:
        found = cbor2.load(stream, allow_duplicate_keys=False, max_depth=_DEPTH, semantic_decoders=_TAGS)
        text = json.dumps(found, allow_nan=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CborError(str(error)[:200]) from error
    if stream.tell() != len(raw):
        raise CborError(f"{len(raw) - stream.tell():,} bytes follow it")
    return text


def encode(fields: Any) -> bytes:
    """What is answered."""
    return cbor2.dumps(fields)

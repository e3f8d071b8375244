"""Guides: how a product's features are used, from the operator's own files, by kind, model and feature.

GuideErrors    files of guides that cannot be taken; every fault with its file
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import yaml

from gateway.domain.device import Device, Facts


class GuideErrors(ValueError):
    """Files of guides that cannot be taken; every fault with its file."""


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document or a video that belongs to a guide."""

    type: Literal["document", "video"]
    label: dict[str, str]
    """{language: what it is called}"""
    url: str | None = None
    """https address at the maker's"""
    file: str | None = None
    """or a file beside the guides, which the gateway serves"""
    minutes: float | None = None
    """how long a video is"""
    language: str | None = None
    """where it speaks one language only"""


class Guide(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature of a product, and how it is used."""

    id: str
    kind: str
    models: tuple[str, ...] = ()
    """empty: every model of the kind"""
    used: str | None = None
    """a signal that counts its uses, or says true once it was used; none: nobody can tell"""
    title: dict[str, str]
    text: dict[str, str]
    steps: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    folder: str = ""
    """where its files lie; set by who reads it"""

    def fits(self, device: Device) -> bool:
        """Whether it is about this product."""
        return self.kind == device.kind and (not self.models or device.model in self.models)

    def unused(self, facts: Facts) -> bool:
        """Whether its feature was never used, as far as the product says."""
        latest = facts.latest.get(self.used or "")
        return latest is not None and isinstance(latest[1], bool | int | float) and not latest[1]


def parse(texts: Sequence[tuple[str, str, str]]) -> tuple[Guide, ...]:
    """The guides of files given as (name, folder, text). Raises GuideErrors with every fault at once."""
    found: dict[str, Guide] = {}
    faults: list[str] = []
    for name, folder, text in texts:
        try:
            guides = msgspec.convert(_rows(text), tuple[Guide, ...])
        except (yaml.YAMLError, msgspec.ValidationError, TypeError) as error:
            faults.append(f"{name}: {error}")
            continue
        for guide in guides:
            faults += [f"{name}: {guide.id}: {fault}" for fault in _faults(guide, found)]
            found[guide.id] = msgspec.structs.replace(guide, folder=folder)
    if faults:
        raise GuideErrors("\n".join(faults))
    return tuple(found.values())


def _rows(text: str) -> list[Mapping[str, Any]]:
    rows = yaml.safe_load(text) or []
    if not isinstance(rows, list):
        raise TypeError("a file of guides is a list")
    return rows


def _faults(guide: Guide, known: Mapping[str, Guide]) -> list[str]:
    faults = ["the id stands twice"] if guide.id in known else []
    faults += [f"{what}: no English one" for what in ("title", "text") if "en" not in getattr(guide, what)]
    for piece in guide.pieces:
        if (piece.url is None) == (piece.file is None):
            faults.append("a piece has either url or file")
        if piece.url is not None and not piece.url.startswith("https://"):
            faults.append(f"{piece.url}: not https")
        if piece.file is not None and (piece.file.startswith("/") or ".." in piece.file.split("/")):
            faults.append(f"{piece.file}: not beside the guides")
    return faults

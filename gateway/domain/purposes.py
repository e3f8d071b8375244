"""What data and contacts are for, and what each purpose rests on (GDPR Art. 6)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Basis(StrEnum):
    """Why a purpose is allowed."""

    CONSENT = "consent"  # only after the owner agreed
    OBJECTION = "objection"  # part of what the owner asked for; until they object
    REQUEST = "request"  # the owner's own matter: they said that something is wrong
    DUTY = "duty"  # a legal duty: nothing can be withdrawn


BASES: Mapping[str, Basis] = {
    "sharing_workshop": Basis.OBJECTION,
    "survey": Basis.OBJECTION,
    "report": Basis.REQUEST,
    "recall": Basis.DUTY,
    "update": Basis.OBJECTION,
    "security_update": Basis.DUTY,
}
"""Every other purpose rests on consent."""

PURPOSES: Mapping[str, str] = {
    "maintenance": "2026-11",
    "safety": "2026-11",
    "usage": "2026-11",
    "marketing": "2026-11",
    "sharing_workshop": "2026-11",
    "survey": "2026-11",
}
"""{purpose: version of its text}: what owners are asked about; the configuration may name others."""

"""Who may come in: tokens and roles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody is to the gateway."""

    OWNER = "owner"  # sees and answers their own matters
    WORKSHOP = "workshop"  # sees and works its own appointments
    OPERATOR = "operator"  # after-sales: everything
    INTEGRATION = "integration"  # another system of the manufacturer: the API like an operator, no pages


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token; only its SHA-256 is kept."""

    id: str
    hash: str
    role: Role
    subject: str | None
    """owner or workshop id, None for operators"""
    created: int
    expires: int
    revoked: int | None = None

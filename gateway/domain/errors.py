"""Errors of the domain, and the one of a command that cannot run.

CannotStartError     a command cannot run; says in one line what and what to do

TouchpointError
├── NotFoundError        what was asked for is not there
├── NotAllowedError      the caller may not do this
│   └── UnverifiedError  nobody has made sure for whom they speak
├── InvalidError         the request cannot be taken as it is; says which field and what is allowed
├── GoneError            it was there once: a link that is used or has expired
├── ConflictError        it contradicts what already holds; carries what holds
└── SlotTakenError       the chosen slot is gone; carries the next ones
"""

from __future__ import annotations

from typing import Any


class TouchpointError(Exception):
    """Root of everything the domain refuses."""


class NotFoundError(TouchpointError):
    """What was asked for is not there."""


class NotAllowedError(TouchpointError):
    """The caller may not do this."""


class UnverifiedError(NotAllowedError):
    """Somebody speaks for an owner, and nobody has made sure that it is the owner who calls; `touchpoint` is
    where that can be said."""

    def __init__(self, message: str, touchpoint: str) -> None:
        super().__init__(message)
        self.touchpoint = touchpoint


class InvalidError(TouchpointError):
    """The request cannot be taken as it is; the message names the field and what is allowed."""


class GoneError(TouchpointError):
    """It was there once: a link that is used or has expired; `what` is what it was."""

    def __init__(self, message: str, what: Any = None) -> None:
        super().__init__(message)
        self.what = what


class ConflictError(TouchpointError):
    """It contradicts what already holds; `holds` is what holds."""

    def __init__(self, message: str, holds: Any = None) -> None:
        super().__init__(message)
        self.holds = holds


class SlotTakenError(TouchpointError):
    """The chosen slot is gone; `next_slots` are the nearest free ones."""

    def __init__(self, message: str, next_slots: Any = ()) -> None:
        super().__init__(message)
        self.next_slots = tuple(next_slots)


class CannotStartError(Exception):
    """A command cannot run: what, and what to do about it, in one line."""

"""What became of finished jobs, and what was promised of them."""

from __future__ import annotations

from dataclasses import dataclass

FINISHED_LATE_MS = 15 * 60_000
"""So much later than promised a job may be ready and still be in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A finished job of a touchpoint. Whether it helped is known when the same finding has stayed away."""

    touchpoint: str
    appointment: str
    workshop: str
    owner: str
    device: str
    kind: str
    """device kind"""
    rules: tuple[str, ...]
    """of all matters of the bundle"""
    services: tuple[str, ...]
    done_at: int
    look_at: int
    """when it is looked whether it helped, ms"""
    helped: bool | None = None
    """None until it is known: True when nothing of it was found again until `look_at`"""
    in_time: bool | None = None
    """ready when promised; None where nothing was promised"""
    in_price: bool | None = None
    """within the price that was promised, with extra work that the owner approved; None where no price was
    promised or none was stated"""
    messages: int | None = None
    """how many messages the owner got about it, known with `helped`"""
    contacts: int | None = None
    """how many of them the budget paid"""

"""The engine: readings in, findings and cleared episodes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rules.readings import Known

ClearReason: TypeAlias = Literal["condition", "reset", "kind"]
"""Why an episode ended: its `clear` became true; a job reset its counter; the device is of another kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A finding: a rule has been true for a device as long as it asks for."""

    id: str  # hex; the same for the same log: made of device, rule and where the episode began
    device: str
    rule: str  # rule id
    version: int  # of the rule
    severity: str  # advice, warning or critical
    position: int  # journal position at which it was found
    began_ts: int  # device time, ms: when the condition became true
    found_ts: int  # device time, ms: when `for` was fulfilled
    received: int  # receive time, ms, of the entry at which it was found
    evidence: Mapping[
        str, Known | None
    ]  # last values of the signals in `when`, and `ts`, the newest reading's


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """An episode is over."""

    device: str
    rule: str  # rule id
    finding: str  # id of the finding that opened it
    position: int  # journal position at which it ended
    ts: int  # device time, ms
    received: int  # receive time, ms
    reason: ClearReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """An open episode of a device."""

    rule: str  # rule id
    finding: str  # id of the finding that opened it
    position: int  # journal position at which its condition became true
    began_ts: int  # device time, ms

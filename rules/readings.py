"""Values that devices report, and which of them a rule may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = bool | int | float | str | Sequence[str] | None
"""What a reading can hold as it was decoded. None stands for "no value" (JSON null)."""

Known: TypeAlias = bool | int | float | str | tuple[str, ...]
"""A value that a rule may use: finite, of the signal's type, of bounded size."""

Telemetry: TypeAlias = tuple[int, str, int, Mapping[str, Value], object, object]
"""What a device has said of one time: journal position, device, ts, {signal: value}; and what rules do not
ask about."""

LARGEST = 2.0**63
"""Numbers at or beyond this size, and their negatives, are kept as float: state is saved in 64 bits."""

MOST = 1e100
"""No measurement is as large as this: so much is left to add up and to square what counts."""

LONGEST = 256
"""Characters of a text and codes of a list that are kept; longer ones are not usable."""


def usable_number(value: object) -> int | float | None:
    """The value if it is a finite number of a size that can be measured. True and False are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if -LARGEST < value < LARGEST:
        return value
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if -MOST < value < MOST else None


def plain(value: Known | None) -> Known | None:
    """A whole number as int, by whichever path it came; 20 and 20.0 are the same in evidence."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def usable_boolean(value: object) -> bool | None:
    """The value if it is True or False; 0 and 1 are numbers."""
    return value if isinstance(value, bool) else None


def usable_string(value: object) -> str | None:
    """The value if it is text of bounded length."""
    return value if isinstance(value, str) and len(value) <= LONGEST else None


def usable_codes(value: object) -> tuple[str, ...] | None:
    """The value as a tuple if it is a list of texts; a single text is a list of one."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or len(value) > LONGEST:
        return None
    return tuple(value) if all(usable_string(code) is not None for code in value) else None


USABLE = {
    "number": usable_number,
    "boolean": usable_boolean,
    "string": usable_string,
    "codes": usable_codes,
}
"""By signal type: the value as rules use it, or None if it is not usable."""

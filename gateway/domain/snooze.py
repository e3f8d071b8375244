"""When a matter that was put off returns: a word, a day, or an instant, on the owner's own clock."""

from __future__ import annotations

from datetime import date, timedelta

from gateway.domain.errors import InvalidError
from gateway.domain.moments import DAY_MS, instants, local
from gateway.domain.times import parse_rfc3339

WORDS = ("tomorrow", "weekend", "next_week")
"""What can be said instead of a day."""

AT_MINUTES = 9 * 60
"""A day without a time begins at nine: awake, and with the day still ahead."""

FARTHEST_MS = 365 * DAY_MS
"""Nothing is put off for longer; by then the product says it anew."""

SATURDAY, MONDAY, WEEK = 5, 0, 7


def day_of(word: str, now: int, zone: str) -> date:
    """The day that one of WORDS means: the weekend is the next Saturday, next week the next Monday; neither
    is today."""
    today = local(now, zone).date()
    if word == "tomorrow":
        return today + timedelta(days=1)
    wanted = SATURDAY if word == "weekend" else MONDAY
    return today + timedelta(days=(wanted - today.weekday()) % WEEK or WEEK)


def choices(now: int, zone: str) -> dict[str, int]:
    """{word: instant in ms}, for whoever offers them."""
    return {word: morning(day_of(word, now, zone), zone) for word in WORDS}


def morning(day: date, zone: str) -> int:
    """Nine o'clock of a day on a zone's clock, ms."""
    return instants(day, AT_MINUTES, zone)[0]


def instant(text: str, now: int, zone: str) -> int:
    """The instant (ms) that a word of WORDS, a day (2026-12-01) or a time (RFC 3339) means.

    Raises InvalidError for anything else, for what has passed, and for what lies more than a year ahead.
    """
    return checked(_instant(text.strip(), now, zone), now)


def _instant(text: str, now: int, zone: str) -> int:
    if text in WORDS:
        return morning(day_of(text, now, zone), zone)
    try:
        if len(text) == len("2026-12-01"):
            return morning(date.fromisoformat(text), zone)
        return parse_rfc3339(text)
    except (ValueError, OverflowError) as error:
        allowed = ", ".join(WORDS)
        raise InvalidError(
            f"until: {text!r} is no time; say {allowed}, a day (2026-12-01) or a time with its zone."
        ) from error


def done_day(text: str, now: int, zone: str) -> int:
    """When a job was done (ms): noon of a day, or now for today. Raises InvalidError for what is no day, lies
    ahead, or more than ten years back."""
    try:
        day = date.fromisoformat(text.strip())
        noon = instants(day, 12 * 60, zone)[0]
    except (ValueError, OverflowError) as error:
        raise InvalidError(f"done_on: {text!r} is no day; write it as 2026-11-20.") from error
    today = local(now, zone).date()
    if day > today:
        raise InvalidError("done_on: that day has not come yet.")
    if day < today - timedelta(days=3650):
        raise InvalidError("done_on: that is more than ten years ago.")
    return min(noon, now)


def checked(until: int, now: int) -> int:
    """`until` (ms) where something can be put off until then. Raises InvalidError."""
    if until <= now:
        raise InvalidError("until: that time has passed; choose a later one.")
    if until > now + FARTHEST_MS:
        raise InvalidError("until: nothing is put off for more than a year.")
    return until

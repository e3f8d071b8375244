"""How a page speaks: one person's language and time zone, with numbers, times and units in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from babel import Locale
from babel.dates import format_datetime

from gateway.domain.moments import DAY_MS, local
from gateway.domain.texts import NBSP, Texts

_LOCALES = {"en": "en_GB", "de": "de_DE"}
_PATTERNS = {
    # style: (English, German); day and month stay together
    "long": (f"EEEE, d{NBSP}MMMM", f"EEEE, d.{NBSP}MMMM"),
    "full": (f"EEEE, d{NBSP}MMMM{NBSP}y", f"EEEE, d.{NBSP}MMMM{NBSP}y"),
    "dated": (f"d{NBSP}MMMM{NBSP}y", f"d.{NBSP}MMMM{NBSP}y"),
    "date": (f"d{NBSP}MMMM", f"d.{NBSP}MMMM"),
    "short": (f"d{NBSP}MMM", f"d.{NBSP}MMM"),
    "medium": (f"EEE, d{NBSP}MMM", f"EEE, d.{NBSP}MMM"),
    "weekday": ("EEEE", "EEEE"),
    "wd": ("EEE", "EEE"),
    "day": ("d", "d."),
    "month": ("MMM", "MMM"),
    "month_year": (f"MMMM{NBSP}y", f"MMMM{NBSP}y"),
    "time": ("H:mm", "H:mm"),
    "clock": ("H:mm:ss", "H:mm:ss"),
    "iso": ("yyyy-MM-dd", "yyyy-MM-dd"),
}


@lru_cache(maxsize=8)
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, "en_GB"))


@lru_cache(maxsize=4096)
def _when(ms: int, style: str, language: str, zone: str) -> str:
    pattern = _PATTERNS[style][1 if language == "de" else 0]
    text = str(format_datetime(local(ms, zone), pattern, locale=_locale(language)))
    if style in ("wd", "medium"):  # babel writes "Do." and "Do., 3. Dez."
        text = text.replace(".,", ",", 1) if style == "medium" else text.rstrip(".")
    return text


@dataclass(frozen=True, slots=True)
class Words:
    """Everything a page says goes through one of these."""

    texts: Texts
    language: str = "en"
    zone: str = "Europe/Berlin"
    region: str = ""
    """of the person's language ("US" of "en-US"): what they measure in"""

    @property
    def tag(self) -> str:
        """Language and region, for what is measured."""
        return f"{self.language}-{self.region}" if self.region else self.language

    def __call__(self, key: str, **params: Any) -> str:
        """The text under `pages.<key>`; numbers in `params` are written as this language writes them."""
        return self.texts.say(self.language, f"pages.{key}", **params)

    def has(self, key: str) -> bool:
        """Whether there is a text under `pages.<key>`."""
        return self.texts.has(f"pages.{key}")

    def label(self, names: dict[str, str] | Any, otherwise: str = "") -> str:
        """Of names by language the one of this language, else the English one."""
        return str(names.get(self.language) or names.get("en") or otherwise)

    def when(self, ms: float, style: str = "long") -> str:
        """A moment (UTC ms) in the person's zone; styles as in `_PATTERNS`."""
        return _when(int(ms), style, self.language, self.zone)

    def moment(self, ms: int, now: int) -> str:
        """As people would say it: the time today, weekday and time within a week, else the date too."""
        days = (self.day(now) - self.day(ms)).days
        if days == 0:
            return self.when(ms, "time")
        if days == 1:
            return self("time.yesterday", time=self.when(ms, "time"))
        if 0 < days < 7:
            return f"{self.when(ms, 'wd')} {self.when(ms, 'time')}"
        return f"{self.when(ms, 'short')}, {self.when(ms, 'time')}"

    def coming(self, ms: int, now: int) -> str:
        """A day to come: 14 Dec soon, late February later on."""
        ahead = (ms - now) / DAY_MS
        if ahead < 45:
            return self.when(ms, "short")
        third = min(2, (self.day(ms).day - 1) // 10)
        if ahead < 330:
            return self(f"time.third_{third}", month=self.when(ms, "month"))
        return self.when(ms, "month_year")

    def day(self, ms: int) -> date:
        """The calendar day of a moment in the person's zone."""
        return local(ms, self.zone).date()

    def local(self, ms: int) -> datetime:
        """The moment in the person's zone."""
        return local(ms, self.zone)

    def number(self, value: float, decimals: int | None = 0) -> str:
        """48,210 in English, 48.210 in German."""
        return self.texts.number(self.language, value, decimals)

    def loose(self, value: float, digits: int = 1) -> str:
        """At most `digits` decimals, none that are zero."""
        return self.texts.number(self.language, round(value, digits))

    def quantity(self, value: float, unit: str | None, digits: int = 1) -> str:
        """Number and unit, held together."""
        return self.texts.quantity(self.tag, round(value, digits), unit)

    def minutes(self, minutes: int) -> str:
        """45 minutes, 1 hour."""
        return self.texts.duration(self.language, minutes)

    def span(self, ms: float) -> str:
        """How long something took, in one unit: 12 ms, 2.4 s, 41 min, 6 days."""
        steps = (
            (1000, "ms", 1, 0),
            (60_000, "s", 1000, 1),
            (7_200_000, "min", 60_000, 0),
            (2 * DAY_MS, "h", 3_600_000, 1),
        )
        for below, unit, size, digits in steps:
            if ms < below:
                return self.quantity(ms / size, unit, digits if ms / size < 10 else 0)
        return self("time.days", count=round(ms / DAY_MS))

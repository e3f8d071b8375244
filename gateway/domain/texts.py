"""Texts for people: messages by language and key, and numbers, times and units as that language writes them.

Messages are nested mappings; a key is their path with dots. `{name}` in a text is replaced by the
parameter of that name. A mapping with `other` is a plural: the form is chosen by the parameter
`count` (CLDR rules by babel). What is missing in a language falls back to English, then to the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_decimal
from babel.units import format_unit

from gateway.domain.moments import local

NBSP = "\u00a0"
FALLBACK = "en"

PLURAL_FORMS = ("zero", "one", "two", "few", "many", "other")
"""CLDR's plural categories."""

BEYOND = 1e15
"""Numbers from here on are written with an exponent."""

_LOCALES = {"en": "en_GB", "de": "de_DE"}
"""Day before month in English too, as the pages show it."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")

_UNITS = {
    "percent": "concentr-percent",
    "km": "length-kilometer",
    "kilometre": "length-kilometer",
    "kilometer": "length-kilometer",
    "mi": "length-mile",
    "m": "length-meter",
    "mm": "length-millimeter",
    "km/h": "speed-kilometer-per-hour",
    "mph": "speed-mile-per-hour",
    "celsius": "temperature-celsius",
    "°C": "temperature-celsius",
    "°F": "temperature-fahrenheit",
    "bar": "pressure-bar",
    "kPa": "pressure-kilopascal",
    "psi": "pressure-pound-force-per-square-inch",
    "l": "volume-liter",
    "litre": "volume-liter",
    "liter": "volume-liter",
    "gal": "volume-gallon",
    "V": "electric-volt",
    "volt": "electric-volt",
    "A": "electric-ampere",
    "W": "power-watt",
    "kW": "power-kilowatt",
    "kWh": "energy-kilowatt-hour",
    "l/100km": "consumption-liter-per-100-kilometer",
}
"""Units of signals by their CLDR name, which knows how a language writes them; others stand as they are."""

_MILES = {"km": ("mi", 0.621371, 0.0), "km/h": ("mph", 0.621371, 0.0)}
_CUSTOMARY = {
    "°C": ("°F", 1.8, 32.0),
    "bar": ("psi", 14.50377, 0.0),
    "kPa": ("psi", 0.1450377, 0.0),
    "l": ("gal", 0.264172, 0.0),
}
_MEASURES: Mapping[str, Mapping[str, tuple[str, float, float]]] = {
    "GB": _MILES,
    "US": {**_MILES, **_CUSTOMARY},
    "LR": {**_MILES, **_CUSTOMARY},
}
"""{region: {unit: (unit there, factor, offset)}}: who says "en-US" reads miles and °F, who says "en" what
the product measures. NIST SP 811, appendix B.8."""

_LONG = {"kilometre": "km", "kilometer": "km", "celsius": "°C", "litre": "l", "liter": "l"}

_FORMS = {
    "date": "EEEE, {day}MMMM",
    "date_short": "{day}MMM",
    "date_year": "{day}MMMM\u00a0y",
    "moment": "EEEE, {day}MMMM, H:mm",
    "moment_short": "EEE, {day}MMM, H:mm",
    "moment_button": "EEEE, {day}MMM, H:mm",
    "weekday": "EEEE",
    "weekday_short": "EEE",
    "weekday_time": "EEEE H:mm",
    "month": "MMM",
    "time": "H:mm",
}
"""CLDR patterns by form; `{day}` is the day of the month as the language joins it to the month."""

_DAYS = {"en": f"d{NBSP}", "de": f"d.{NBSP}"}


@lru_cache(maxsize=16)
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, _LOCALES[FALLBACK]))


class Texts:
    """All messages of all languages."""

    def __init__(self, messages: Mapping[str, Mapping[str, Any]]) -> None:
        self._messages = {language: dict(_leaves(tree)) for language, tree in messages.items()}
        self._known = {key for tree in self._messages.values() for key in tree}
        self._known |= {key.removesuffix(".other") for key in self._known if key.endswith(".other")}
        self._unknown: set[str] = set()

    def language(self, wanted: str | None) -> str:
        """The language for somebody who wants `wanted` ("de", "de-AT"); English for what is not spoken."""
        if wanted in self._messages:
            return wanted
        short = (wanted or FALLBACK).replace("_", "-").split("-")[0].lower()
        return short if short in self._messages else FALLBACK

    def say(self, language: str, key: str, **params: Any) -> str:
        """The text of `key`, its placeholders filled; numbers are written as the language writes them."""
        spoken = self.language(language)
        text = self._find(spoken, key, params)
        if text is None and spoken != FALLBACK:
            spoken, text = FALLBACK, self._find(FALLBACK, key, params)
        if text is None:
            self._unknown.add(key)
            return key
        pieces = _pieces(text)
        if len(pieces) == 1:
            return text
        return "".join(
            [self._param(spoken, piece, params) if n % 2 else piece for n, piece in enumerate(pieces)]
        )

    def has(self, key: str) -> bool:
        """Whether any language has a text for `key`."""
        return key in self._known

    def needs(self, language: str, key: str) -> frozenset[str]:
        """The placeholders in the text of `key`."""
        spoken = self.language(language)
        text = self._find(spoken, key, {}) or self._find(FALLBACK, key, {}) or ""
        return frozenset(_pieces(text)[1::2])

    def languages(self) -> list[str]:
        """Every language that has messages, English first."""
        return sorted(self._messages, key=lambda language: (language != FALLBACK, language))

    def keys(self, language: str) -> frozenset[str]:
        """What can be asked for in a language; a plural counts once."""
        tree = self._messages.get(language, {})
        return frozenset(_singular(key, tree) for key in tree)

    def spoken(self, language: str, key: str) -> bool:
        """Whether a language itself has a text for `key`."""
        tree = self._messages.get(language, {})
        return key in tree or f"{key}.other" in tree

    def below(self, language: str, key: str) -> list[tuple[str, str]]:
        """(key, text) of `key` itself and of everything below it, placeholders as they are."""
        tree = self._messages.get(language, {})
        return [(k, text) for k, text in sorted(tree.items()) if k == key or k.startswith(f"{key}.")]

    def plural_faults(self, language: str) -> list[tuple[str, list[str], list[str]]]:
        """(key, forms that are lacking, forms that the language never asks for) by CLDR's plural rules. What
        has several forms in any language is a plural."""
        tree = self._messages.get(language, {})
        wanted = {*_locale(language).plural_form.tags, "other"}
        plurals = {key for one in self._messages.values() for key, forms in _plurals(one) if len(forms) > 1}
        found = [(key, forms) for key, forms in _plurals(tree) if key in plurals and forms != wanted]
        return [(key, sorted(wanted - forms), sorted(forms - wanted)) for key, forms in found]

    def missing(self) -> list[str]:
        """What falls back: "de: touchpoints.x.title" for keys that another language has, and keys that
        were asked for and that no language has."""
        spoken = {
            language: {_singular(key, tree) for key in tree} for language, tree in self._messages.items()
        }
        every = set().union(*spoken.values())
        gaps = [f"{language}: {key}" for language, keys in spoken.items() for key in every - keys]
        return sorted(gaps) + sorted(self._unknown)

    def _find(self, language: str, key: str, params: Mapping[str, Any]) -> str | None:
        tree = self._messages.get(language, {})
        if key in tree:
            return tree[key]
        if f"{key}.other" not in tree:
            return None
        count = params.get("count", 0)
        form = _plural_form(language, count if isinstance(count, int | float) else 0)
        return tree.get(f"{key}.{form}", tree[f"{key}.other"])

    def _param(self, language: str, name: str, params: Mapping[str, Any]) -> str:
        value = params.get(name)
        if value is None:
            return f"{{{name}}}"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return self.number(language, value) if number else str(value)

    # --- numbers and units --------------------------------------------------------------------

    def number(self, language: str, value: float, decimals: int | None = None) -> str:
        """48,210 or 48.210; at most two decimals, or exactly as many as asked for. What is beyond any
        measure, or no number, is written plainly: a strange reading must not stall its message."""
        if not -BEYOND < value < BEYOND:
            return f"{Decimal(value):.3g}"
        return _written(self.language(language), value, decimals)

    def quantity(self, language: str, value: float, unit: str | None, decimals: int | None = None) -> str:
        """A number with its unit as the language writes both, joined so that no line breaks between them. A
        language with a region ("en-US") reads what is measured there."""
        unit, factor, offset = measured(language, unit)
        if factor != 1.0 and -BEYOND < value < BEYOND:
            value = value * factor + offset
            value = round(value, 1) if abs(value) < 100 else round(value)
        written = self.number(language, value, decimals)
        return f"{written}{NBSP}{self.unit(language, unit)}" if unit else written

    def unit(self, language: str, unit: str) -> str:
        """A unit's symbol as the language writes it (CLDR)."""
        known = _UNITS.get(unit)
        return unit if known is None else _symbol(known, self.language(language))

    def duration(self, language: str, minutes: int) -> str:
        """ "1 hour", "45 minutes", "1½ hours" as the language says it."""
        if minutes < 60 or minutes % 30:
            return self.say(language, "units.minutes", count=minutes)
        if minutes == 90:
            return self.say(language, "units.hour_and_a_half")
        return self.say(language, "units.hours", count=minutes / 60 if minutes % 60 else minutes // 60)

    def price(self, language: str, low: int | None, high: int | None, currency: str = "EUR") -> str | None:
        """ "180–220 €" with the unit behind in both languages; None where no price is stated."""
        if low is None and high is None:
            return None
        symbol = {"EUR": "€", "CHF": "CHF", "GBP": "£"}.get(currency, currency)
        ends = [self.number(language, end) for end in dict.fromkeys((low, high)) if end is not None]
        return f"{'–'.join(ends)}{NBSP}{symbol}"

    # --- times --------------------------------------------------------------------------------

    def when(self, language: str, at: int, zone: str, form: str = "moment") -> str:
        """An instant in a zone. Forms: date, date_short, date_year, moment ("Thursday, 3 December, 17:30"),
        moment_short, moment_button, weekday, weekday_short, weekday_time, month, time."""
        return _when(self.language(language), at, zone, form)

    def time(self, language: str, at: int, zone: str) -> str:
        """ "17:30"."""
        return self.when(language, at, zone, "time")

    def date(self, language: str, at: int, zone: str) -> str:
        """ "Thursday, 3 December"."""
        return self.when(language, at, zone, "date")

    def moment(self, language: str, at: int, zone: str) -> str:
        """ "Thursday, 3 December, 17:30"."""
        return self.when(language, at, zone, "moment")

    def listed(self, language: str, items: list[str], key: str = "units.and") -> str:
        """ "a, b and c"; `units.or` for a choice."""
        if len(items) < 2:
            return "".join(items)
        return f"{', '.join(items[:-1])} {self.say(language, key)} {items[-1]}"


def measured(language: str, unit: str | None) -> tuple[str | None, float, float]:
    """(unit, factor, offset) in which somebody reads what is measured in `unit`: value · factor + offset."""
    region = language.replace("_", "-").partition("-")[2].upper()
    short = _LONG.get(unit or "", unit or "")
    return _MEASURES.get(region, {}).get(short, (unit, 1.0, 0.0))


@lru_cache(maxsize=4_096)
def _pieces(text: str) -> tuple[str, ...]:
    """A text cut at its placeholders: text, name, text, name, …, text."""
    return tuple(_PLACEHOLDER.split(text))


@lru_cache(maxsize=1_024, typed=True)
def _plural_form(language: str, count: float) -> str:
    return str(_locale(language).plural_form(count))


@lru_cache(maxsize=4_096, typed=True)
def _written(language: str, value: float, decimals: int | None) -> str:
    """A number as the language writes it; the same few are written on every page. Nothing has no sign, for
    0.0 and -0.0 are kept as one."""
    pattern = "#,##0.##" if decimals is None else f"#,##0.{'0' * decimals}".rstrip(".")
    text = str(format_decimal(value, format=pattern, locale=_locale(language)))
    return text if text.strip("-0.,") else text.lstrip("-")


@lru_cache(maxsize=4_096)
def _when(language: str, at: int, zone: str, form: str) -> str:
    """An instant in words: nothing else goes into them than what is asked with."""
    pattern = _FORMS[form].replace("{day}", _DAYS.get(language, _DAYS[FALLBACK]))
    return str(format_datetime(local(at, zone), pattern, locale=_locale(language)))


@lru_cache(maxsize=256)
def _symbol(unit: str, language: str) -> str:
    """What babel writes beside a number that is no digit of it."""
    written = format_unit(2, unit, length="short", locale=_locale(language))
    return str(written).replace("2", "").replace(NBSP, " ").strip()


def _singular(key: str, tree: Mapping[str, str]) -> str:
    """The key that is asked for: that of the plural where `key` is one of its forms."""
    parent = key.rpartition(".")[0]
    return parent if f"{parent}.other" in tree else key


def _plurals(tree: Mapping[str, str]) -> list[tuple[str, set[str]]]:
    """(key, forms) of everything that ends in the name of a plural form."""
    found: dict[str, set[str]] = {}
    for key in sorted(tree):
        parent, _, form = key.rpartition(".")
        if form in PLURAL_FORMS:
            found.setdefault(parent, set()).add(form)
    return list(found.items())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, str(value)

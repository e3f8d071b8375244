"""What pages are made of: words, icons, texts in both languages, calendar files, and who hears of what."""

import re
from pathlib import Path
from typing import Any

import pytest

import config
import gateway.web
from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState, Service, Workshop
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.texts import NBSP, Texts
from gateway.web import calendar_file, events, icons, views
from gateway.web.access import Identity
from gateway.web.words import Words
from rules import Signal

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
TEMPLATES = Path(gateway.web.__file__).parent / "templates"
STATIC = Path(gateway.web.__file__).parent / "static"
MONDAY = 1_795_415_520_000  # Monday, 23 November 2026, 7:32 in Berlin


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "english", "german"),
    [
        ("long", f"Monday, 23{NBSP}November", f"Montag, 23.{NBSP}November"),
        ("short", f"23{NBSP}Nov", f"23.{NBSP}Nov."),
        ("medium", f"Mon, 23{NBSP}Nov", f"Mo, 23.{NBSP}Nov."),
        ("time", "7:32", "7:32"),
        ("wd", "Mon", "Mo"),
    ],
)
def test_moments_read_as_each_language_writes_them(style: str, english: str, german: str) -> None:
    assert Words(TEXTS, "en").when(MONDAY, style) == english
    assert Words(TEXTS, "de").when(MONDAY, style) == german


def test_a_moment_is_as_near_as_people_would_say_it() -> None:
    words, hour = Words(TEXTS, "en"), 3_600_000
    assert words.moment(MONDAY - hour, MONDAY) == "6:32"
    assert words.moment(MONDAY - 10 * hour, MONDAY) == "yesterday, 21:32"
    assert words.moment(MONDAY - 72 * hour, MONDAY) == "Fri 7:32"
    assert words.moment(MONDAY - 240 * hour, MONDAY) == f"13{NBSP}Nov, 7:32"


def test_a_span_has_one_unit() -> None:
    words = Words(TEXTS, "en")
    spans = [12, 2_400, 41 * 60_000, 5 * 3_600_000, 6 * 86_400_000]
    assert [words.span(ms) for ms in spans] == [
        f"12{NBSP}ms",
        f"2.4{NBSP}s",
        f"41{NBSP}min",
        f"5{NBSP}h",
        "6 days",
    ]


# --- texts ------------------------------------------------------------------------------------


def leaves(tree: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(tree, dict):
        return {prefix: str(tree)}
    return {
        k: v
        for name, child in tree.items()
        for k, v in leaves(child, f"{prefix}.{name}" if prefix else name).items()
    }


def test_both_languages_say_the_same_things_with_the_same_gaps() -> None:
    def gaps(language: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for key, text in leaves(config.messages(language)["pages"]).items():
            found.setdefault(re.sub(r"\.(one|other)$", "", key), set()).update(re.findall(r"\{(\w+)\}", text))
        return found

    english, german = gaps("en"), gaps("de")
    assert english.keys() == german.keys()
    assert {
        key: (english[key], german[key])
        for key in english
        if english[key] != german[key] and key != "health.left"
    } == {}


def test_every_text_that_a_template_asks_for_exists() -> None:
    asked = {
        (path.name, key)
        for path in TEMPLATES.glob("*.html")
        for key in re.findall(r"\bt\(['\"]([\w.]+)['\"](?!\s*~)", path.read_text())
    }
    assert len(asked) > 150
    assert sorted(pair for pair in asked if not TEXTS.has(f"pages.{pair[1]}")) == []


def test_no_template_styles_or_scripts_inline() -> None:
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<\w[^>]*\s(?:style|on\w+)=|<style|<script>|javascript:", text), path.name


def test_every_icon_that_a_template_names_is_drawn() -> None:
    named = {
        name for path in TEMPLATES.glob("*.html") for name in re.findall(r"icon\('([\w]+)'", path.read_text())
    }
    assert named <= icons.ICONS


def test_an_icon_is_named_or_decoration() -> None:
    assert 'aria-hidden="true"' in icons.icon("car")
    assert 'aria-label="a &lt;car&gt;"' in icons.icon("car", "a <car>")


def test_the_first_load_is_small() -> None:
    assert sum((STATIC / name).stat().st_size for name in ("app.css", "app.js", "icon.svg")) < 70_000


# --- contrast ---------------------------------------------------------------------------------


def tokens() -> dict[str, dict[str, str]]:
    css = (STATIC / "app.css").read_text()
    light, dark = css[css.index(":root {") :], css[css.index(':root[data-theme="dark"]') :]
    return {
        name: dict(re.findall(r"--([\w-]+): (#[0-9A-F]{6})", block[: block.index("}")]))
        for name, block in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    a, b = sorted((luminance(one), luminance(other)), reverse=True)
    return (a + 0.05) / (b + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_on_what_it_stands_on(theme: str) -> None:
    colours = tokens()[theme]
    for text in ("ink", "muted", "accent", "advice", "warning", "critical", "done"):
        for ground in ("card", "ground"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for severity in ("advice", "warning", "critical", "done"):
        assert contrast(colours[severity], colours[f"{severity}-soft"]) >= 4.5, severity
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["muted"], colours["accent-soft"]) >= 4.5
    assert contrast(colours["edge"], colours["card"]) >= 3


# --- calendar file ----------------------------------------------------------------------------


def visit(label: str | None = None) -> str:
    service = Service(id="brakes-front", names={"de": "Bremsbeläge vorn", "en": "Front pads"}, minutes=60)
    workshop = Workshop(
        id="nord", name="Autohaus Nord; GmbH", address="Kieler Straße 214, Hamburg", services=(service,)
    )
    booked = Appointment(
        id="a1",
        workshop="nord",
        service="brakes-front",
        bay="Bay 1",
        start=1_796_315_400_000,
        end=1_796_319_000_000,
        state=AppointmentState.CONFIRMED,
        created=MONDAY,
        label=label,
        diagnosis={"promised": {"minutes": 60, "price_from": 180, "price_to": 220, "currency": "EUR"}},
    )
    device = Device(id="car", kind="car", name="Arden 5")
    return calendar_file.event(booked, workshop, device, Words(TEXTS, "de"), MONDAY)


def test_a_calendar_takes_the_visit_with_its_time_and_place() -> None:
    lines = visit().split("\r\n")
    assert "DTSTART:20261203T163000Z" in lines
    assert "DTEND:20261203T173000Z" in lines
    assert "SUMMARY:Bremsbeläge vorn · Arden 5" in lines
    assert "LOCATION:Autohaus Nord\\; GmbH\\, Kieler Straße 214\\, Hamburg" in lines
    assert "STATUS:CONFIRMED" in lines


def test_long_lines_are_folded_by_octets() -> None:
    text = visit(label="Größe " * 40)
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    assert "Größe " * 40 in text.replace("\r\n ", "")


# --- events -----------------------------------------------------------------------------------


class OneTouchpoint:
    """Records that know one touchpoint, of Jana, on a product that nobody shares."""

    touchpoints = devices = property(lambda self: self)

    def people(self, _device: str) -> list[Any]:
        return []

    def get(self, key: str) -> Any:
        if key != "t1":
            raise NotFoundError(key)
        return type("T", (), {"owner": "jana", "device": "", "slots": ()})()


@pytest.mark.parametrize(
    ("subject", "key", "heard"),
    [
        ("touchpoint", "t1", True),
        ("touchpoint", "gone", False),
        ("outbox", "o1", False),
        ("quarantine", "1", False),
    ],
)
def test_an_owner_hears_of_their_own_matters_only(subject: str, key: str, heard: bool) -> None:
    jana = Identity(role=Role.OWNER, subject="jana", language="de")
    other = Identity(role=Role.OWNER, subject="someone", language="de")
    assert events.concerns(OneTouchpoint(), (subject, key), jana) is heard  # type: ignore[arg-type]
    assert not events.concerns(OneTouchpoint(), (subject, key), other)  # type: ignore[arg-type]


def test_a_value_is_counted_in_the_words_of_its_reader() -> None:
    filter_age = Signal(name="days_since_filter", kind="coffee_machine", unit="d")
    assert views.value_words(filter_age, 1, Words(TEXTS, "de")) == "1 Tag"
    assert views.value_words(filter_age, 12.04, Words(TEXTS, "de")) == "12 Tage"
    pressure = Signal(name="brew_pressure", kind="coffee_machine", unit="bar")
    assert views.value_words(pressure, 9.04, Words(TEXTS, "de")) == f"9{NBSP}bar"

"""What a workshop's services page shows of the workshop itself, to be changed. Views only."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace as Shown

from gateway.domain import moments, slots
from gateway.domain.appointment import Service, Workshop
from gateway.domain.policy import Policy
from gateway.domain.texts import Texts
from gateway.web.words import Words

NEW = Service(id="", names={}, minutes=60)
"""What the form for another service begins with."""


def services(policy: Policy) -> list[str]:
    """The jobs that rules lead to: what a workshop can offer and somebody will look for."""
    return sorted({rule.service for rule in policy.rules.values() if rule.service})


def service_name(texts: Texts, language: str, service: str) -> str:
    """What a job is called where no workshop names it."""
    key = f"services.{service}.name"
    return texts.say(language, key) if texts.has(key) else service.replace("-", " ").capitalize()


def itself(workshop: Workshop, words: Words, today: date, policy: Policy) -> Shown:
    """What the services page lets a workshop change."""
    return Shown(
        others=sorted(
            (
                (s, service_name(words.texts, words.language, s))
                for s in services(policy)
                if not workshop.service(s)
            ),
            key=lambda pair: pair[1],
        ),
        exceptions=[
            Shown(
                date=e.date,
                text=" · ".join(
                    part
                    for part in (
                        _said(date.fromisoformat(e.date), workshop, words),
                        ", ".join(f"{a}–{b}" for a, b in e.hours) or words("workshop.closed_title"),
                        e.reason or "",
                    )
                    if part
                ),
            )
            for e in workshop.exceptions
            if e.date >= today.isoformat()
        ],
        holidays=[
            f"{_said(day, workshop, words)}: {name}"
            for day, name in sorted(_holidays(workshop, today, words.language).items())
            if day >= today
        ][:3],
        country=workshop.country or "",
        region=workshop.region or "",
        fresh=_needs(NEW, words),
        services=[_needs(s, words) for s in workshop.services],
        today=today.isoformat(),
    )


def _said(day: date, workshop: Workshop, words: Words) -> str:
    """A date in words, with its year: exceptions may lie far ahead."""
    return words.when(moments.instants(day, 12 * 60, workshop.time_zone)[0], "full")


def _needs(s: Service, words: Words) -> Shown:
    return Shown(
        id=s.id,
        name=words.label(s.names, s.id),
        minutes=s.minutes,
        price_from="" if s.price_from is None else s.price_from,
        price_to="" if s.price_to is None else s.price_to,
        lead_days=s.lead_days,
        buffer_minutes=s.buffer_minutes,
        skills=", ".join(s.skills),
        parts=", ".join(f"{p.name} {p.days}" for p in s.parts),
        vat_percent="" if s.vat_percent is None else f"{s.vat_percent:.0f}",
        price_valid_until=s.price_valid_until or "",
        at_home=s.at_home,
        warranty=s.warranty,
    )


def _holidays(workshop: Workshop, today: date, language: str) -> dict[date, str]:
    if workshop.country is None:
        return {}
    years = (today.year, today.year + 1)
    return {
        day: name
        for year in years
        for day, name in slots.public_holidays(workshop.country, workshop.region, year, language).items()
    }

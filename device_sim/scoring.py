"""Findings and contacts held against the truth: what a set of rules is worth.

A repair is a need that a workshop settles (a fault, or a part that is used up); upkeep is what owners do
themselves. A need counts when it would have come to the worst within the time that is scored.

recall                     share of these repairs that a finding about one of their jobs announced in time
precision                  share of findings that were about a need or a state that was there
lead                       from the first such finding to the moment of the worst, days
prevented                  share of these repairs that were done before it came to the worst
contacts per repair        touchpoints about jobs of a workshop, over the repairs that they were about
needless                   touchpoints about nothing that was so, a year and owner

A contact is a touchpoint that reached its owner; that it is shown again where it stays unanswered is counted
apart, as messages.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from device_sim.needs import Cause, Need
from device_sim.scenario import Scenario

DAY_MS = 86_400_000
SLACK_MS = 2 * DAY_MS
"""How long after a need has ended, or before it is noted, something about it still counts as about it:
windows forget slowly, and units look at their levels when they are used."""
REPAIRS: tuple[Cause, ...] = ("fault", "wear")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A finding of a rule that is not tried out."""

    device: str
    owner: str
    rule: str
    service: str
    kind: str
    """appointment, reminder, hint, notice"""
    purpose: str
    at: int
    """ms"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """Something that stood on an owner's phone."""

    owner: str
    touchpoint: str
    at: int
    matters: Sequence[tuple[str, str, str]] = ()
    """(device, rule, service)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Needs of one sort."""

    needs: int = 0
    announced: int = 0
    prevented: int = 0
    leads: tuple[float, ...] = ()
    """days, of those that were announced"""

    @property
    def recall(self) -> float | None:
        """Share that was announced."""
        return self.announced / self.needs if self.needs else None

    @property
    def lead(self) -> float | None:
        """Median, days."""
        return statistics.median(self.leads) if self.leads else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCount:
    """One rule's findings and contacts."""

    findings: int = 0
    right: int = 0
    contacts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a set of rules was worth in a scenario."""

    owners: int
    years: float
    repairs: Tally
    upkeep: Tally
    by_need: Mapping[str, Tally]
    findings: int
    right: int
    service_findings: int
    """findings of rules for maintenance and safety"""
    service_right: int
    messages: int
    """that stood on phones, those shown again included"""
    contacts: int
    """touchpoints that reached their owner"""
    job_contacts: int
    """that were about a job of a workshop"""
    contacted: int
    """repairs that they were about"""
    needless: int
    rules: Mapping[str, RuleCount] = field(default_factory=dict)

    @property
    def precision(self) -> float | None:
        """Of the findings for maintenance and safety."""
        return self.service_right / self.service_findings if self.service_findings else None

    @property
    def precision_of_all(self) -> float | None:
        """Of all findings, hints about usage included."""
        return self.right / self.findings if self.findings else None

    @property
    def prevented(self) -> float | None:
        """Share of the repairs that were done before it came to the worst."""
        return self.repairs.prevented / self.repairs.needs if self.repairs.needs else None

    @property
    def contacts_per_repair(self) -> float | None:
        """See the head of this file."""
        return self.job_contacts / self.contacted if self.contacted else None

    @property
    def needless_per_owner_year(self) -> float:
        """See the head of this file."""
        return self.needless / (self.owners * self.years)

    @property
    def per_owner_month(self) -> float:
        """Touchpoints."""
        return self.contacts / (self.owners * self.years * 12)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "recall": _rounded(self.repairs.recall),
            "precision": _rounded(self.precision),
            "median_lead_days": _rounded(self.repairs.lead, 1),
            "prevented": _rounded(self.prevented),
            "contacts_per_repair": _rounded(self.contacts_per_repair, 2),
            "needless_per_owner_year": _rounded(self.needless_per_owner_year, 2),
            "touchpoints_per_owner_month": _rounded(self.per_owner_month, 3),
            "repairs": self.repairs.needs,
            "announced": self.repairs.announced,
            "upkeep": {"needs": self.upkeep.needs, "recall": _rounded(self.upkeep.recall)},
            "precision_of_all": _rounded(self.precision_of_all),
            "findings": self.findings,
            "contacts": self.contacts,
            "messages": self.messages,
            "needless": self.needless,
            "owners": self.owners,
            "by_need": {
                what: {
                    "needs": tally.needs,
                    "recall": _rounded(tally.recall),
                    "prevented": tally.prevented,
                    "median_lead_days": _rounded(tally.lead, 1),
                }
                for what, tally in sorted(self.by_need.items())
            },
            "rules": {
                rule: {"findings": count.findings, "right": count.right, "contacts": count.contacts}
                for rule, count in sorted(self.rules.items())
            },
        }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def scored(
    scenario: Scenario,
    *,
    needs: Iterable[Need],
    findings: Sequence[Found],
    contacts: Sequence[Contact],
    until: int | None = None,
) -> Score:
    """Hold what was found and told against what was so; `until` (ms) where it was played no further."""
    begin, end = scenario.start + scenario.part.scored_after, until or scenario.end
    of_device: dict[str, list[Need]] = defaultdict(list)
    for need in needs:
        of_device[need.device].append(need)
    by_device: dict[str, list[Found]] = defaultdict(list)
    for found in findings:
        by_device[found.device].append(found)
    counted = [found for found in findings if begin <= found.at <= end]
    right = {id(f): about(of_device[f.device], f.service, f.at) for f in counted}
    tallies = _tallies(of_device, by_device, begin, end)
    told = [contact for contact in firsts(contacts) if begin <= contact.at <= end]
    jobs = {service.id for shop in scenario.part.workshops for service in shop.services}
    job_contacts, contacted, needless = _told(told, of_device, jobs)
    service = [found for found in counted if found.purpose in ("maintenance", "safety")]
    return Score(
        owners=len(scenario.part.owners),
        years=(end - begin) / (365.25 * DAY_MS),
        repairs=_sum(t for (cause, _), t in tallies.items() if cause in REPAIRS),
        upkeep=_sum(t for (cause, _), t in tallies.items() if cause == "upkeep"),
        by_need={what: tally for (_, what), tally in tallies.items()},
        findings=len(counted),
        right=sum(bool(right[id(found)]) for found in counted),
        service_findings=len(service),
        service_right=sum(bool(right[id(found)]) for found in service),
        messages=sum(begin <= contact.at <= end for contact in contacts),
        contacts=len(told),
        job_contacts=job_contacts,
        contacted=contacted,
        needless=needless,
        rules=_by_rule(counted, right, told),
    )


def firsts(contacts: Iterable[Contact]) -> list[Contact]:
    """Of every touchpoint the moment when it was first shown."""
    first: dict[str, Contact] = {}
    for contact in sorted(contacts, key=lambda contact: contact.at):
        first.setdefault(contact.touchpoint, contact)
    return list(first.values())


def about(needs: Iterable[Need], service: str, at: int) -> list[Need]:
    """The needs that something about a job at `at` was about."""
    return [need for need in needs if need.fits(service, at, SLACK_MS)]


def _tallies(
    of_device: Mapping[str, list[Need]], by_device: Mapping[str, list[Found]], begin: int, end: int
) -> dict[tuple[Cause, str], Tally]:
    sorts: dict[tuple[Cause, str], list[tuple[bool, bool, float]]] = defaultdict(list)
    for device, needs in of_device.items():
        for need in needs:
            if need.cause == "state" or need.fails is None or not begin <= need.fails <= end:
                continue
            fails = need.fails
            last = fails if need.ended is None else min(fails, need.ended + SLACK_MS)
            first = min(
                (
                    f.at
                    for f in by_device[device]
                    if f.service in need.services and need.since - SLACK_MS <= f.at <= last
                ),
                default=None,
            )
            if first is None and need.ended is not None and need.ended < fails:
                continue  # settled along with something else before anybody could have known
            lead = (fails - first) / DAY_MS if first is not None else 0.0
            sorts[need.cause, need.what].append((first is not None, not need.failed, lead))
    return {
        sort: Tally(
            needs=len(rows),
            announced=sum(row[0] for row in rows),
            prevented=sum(row[1] for row in rows),
            leads=tuple(sorted(row[2] for row in rows if row[0])),
        )
        for sort, rows in sorts.items()
    }


def _sum(tallies: Iterable[Tally]) -> Tally:
    listed = list(tallies)
    return Tally(
        needs=sum(t.needs for t in listed),
        announced=sum(t.announced for t in listed),
        prevented=sum(t.prevented for t in listed),
        leads=tuple(sorted(lead for t in listed for lead in t.leads)),
    )


def _told(
    contacts: Sequence[Contact], of_device: Mapping[str, list[Need]], jobs: set[str]
) -> tuple[int, int, int]:
    """(contacts about jobs of a workshop, repairs that they were about, contacts about nothing)."""
    job_contacts, needless = 0, 0
    contacted: set[int] = set()
    for contact in contacts:
        fitting = [
            need
            for device, _, service in contact.matters
            for need in about(of_device.get(device, ()), service, contact.at)
        ]
        needless += not fitting
        if any(service in jobs for _, _, service in contact.matters):
            job_contacts += 1
            contacted |= {id(need) for need in fitting if need.cause in REPAIRS}
    return job_contacts, len(contacted), needless


def _by_rule(
    findings: Sequence[Found], right: Mapping[int, list[Need]], contacts: Sequence[Contact]
) -> dict[str, RuleCount]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for found in findings:
        counts[found.rule][0] += 1
        counts[found.rule][1] += bool(right[id(found)])
    for contact in contacts:
        for _, rule, _ in contact.matters:
            counts[rule][2] += 1
    return {rule: RuleCount(findings=a, right=b, contacts=c) for rule, (a, b, c) in counts.items()}

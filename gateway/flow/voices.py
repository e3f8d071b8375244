"""voices: what customers say clusters as findings do, and what affects most of them comes first.

Calls, complaints, comments and reasons for declining are grouped by what they are about (a topic by its
words, else the rule of the touchpoint, else the other system's reason code, else a word that several share),
on which model and firmware. Each group has the department that looks after it, and stands against the share
of its kind like a cluster of findings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.measures import Voice
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.domain.topics import Topics, stems
from gateway.flow import clusters
from gateway.ports import Records

MOST = 20_000
"""Voices that are looked at, the newest."""
EXAMPLES = 3
"""So many of a cluster's texts are shown."""
SHARED = 2
"""A word stands for a group when so many customers use it."""

Key = tuple[str, str, str, str, str, str]
"""what, about, subject, kind, model, firmware"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidCluster:
    """What several customers said about the same thing."""

    what: str
    """call, complaint, comment, decline"""
    about: str
    """what it is grouped by: topic, rule, reason, word, or nothing"""
    subject: str
    """the topic, rule, code or word; empty: nothing is known"""
    kind: str
    model: str
    firmware: str
    voices: int
    customers: int
    lately: int
    """customers of the later half of the time"""
    first: int
    department: str
    products: int
    """how many there are of this model and firmware"""
    expected: float | None
    ratio: tuple[float, float, float] | None
    examples: tuple[str, ...]

    @property
    def sure(self) -> bool:
        """Whether it is more than chance."""
        return self.ratio is not None and self.ratio[1] > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """What stands first: the cluster that affects most customers."""

    cluster: str
    """finding, said"""
    place: int
    """in its own list"""
    customers: int
    department: str
    sure: bool


def said_clusters(
    records: Records, now: int, topics: Topics, days: int = clusters.SPAN_DAYS
) -> list[SaidCluster]:
    """Of the last `days`: by how many customers, what is surely more than expected before the same number."""
    voices = records.heard.voices(now - days * DAY_MS, MOST)
    groups = _grouped(voices, topics)
    fleet = records.analytics.fleet()
    kinds: Counter[str] = Counter()
    for (kind, _, _), products in fleet.items():
        kinds[kind] += products
    in_kind: defaultdict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for key, group in groups.items():
        in_kind[key[:4]] |= _devices(group)
    made = []
    for key, group in groups.items():
        what, about, subject, kind, model, firmware = key
        products = fleet.get((kind, model, firmware), 0)
        found = len(in_kind[key[:4]])
        expected, ratio = clusters.against(len(_devices(group)), products, kinds[kind], found)
        later = [voice for voice in group if voice.at >= now - days * DAY_MS // 2]
        made.append(
            SaidCluster(
                what=what,
                about=about,
                subject=subject,
                kind=kind,
                model=model,
                firmware=firmware,
                voices=len(group),
                customers=len(_customers(group)),
                lately=len(_customers(later)),
                first=min(voice.at for voice in group),
                department=topics.department_of(subject if about == "topic" else None),
                products=products,
                expected=expected,
                ratio=ratio,
                examples=tuple(dict.fromkeys(v.text.strip() for v in group if v.text))[:EXAMPLES],
            )
        )
    return sorted(made, key=lambda one: (-one.customers, not one.sure, one.what, one.subject, one.model))


def _customers(group: Iterable[Voice]) -> set[str]:
    """Who said it; what nobody is known for counts once each."""
    return {voice.owner or f"at {voice.at}" for voice in group}


def _devices(group: Iterable[Voice]) -> set[str]:
    return {voice.device for voice in group if voice.device is not None}


def _grouped(voices: Sequence[Voice], topics: Topics) -> Mapping[Key, list[Voice]]:
    """Every voice in one group."""
    groups: defaultdict[Key, list[Voice]] = defaultdict(list)
    wordy = []
    for voice in voices:
        subject = _subject(voice, topics)
        if subject is None:
            wordy.append(voice)
        else:
            groups[_key(voice, *subject)].append(voice)
    shared = _shared(wordy)
    for voice in wordy:
        own = stems(voice.text or "")
        word = min((w for w in own if w in shared), key=lambda w: (-shared[w], w), default="")
        groups[_key(voice, "word" if word else "nothing", word)].append(voice)
    return groups


def _key(voice: Voice, about: str, subject: str) -> Key:
    return voice.what, about, subject, voice.kind, voice.model, voice.firmware


def _subject(voice: Voice, topics: Topics) -> tuple[str, str] | None:
    topic = topics.of(voice.text) if voice.text else None
    if topic is not None:
        return "topic", topic.id
    if voice.rule is not None:
        return "rule", voice.rule
    return ("reason", voice.reason) if voice.reason else None


def _shared(voices: Sequence[Voice]) -> Mapping[str, int]:
    """{word: customers who use it}, of words that several use."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for voice in voices:
        for word in stems(voice.text or ""):
            users[word] |= _customers([voice])
    return {word: len(who) for word, who in users.items() if len(who) >= SHARED}


# --- what stands first --------------------------------------------------------------------------


def department_of(cluster: clusters.Cluster, topics: Topics, policy: Policy) -> str:
    """Who looks after what a rule finds: by the rule's purpose."""
    rule = policy.rules.get(cluster.cell.rule)
    return topics.findings.get(rule.purpose if rule else "", topics.default)


def headline(
    found: Sequence[clusters.Cluster], said: Sequence[SaidCluster], topics: Topics, policy: Policy
) -> list[Headline]:
    """Both kinds together by how many customers are affected; of the same number what people said before what
    machines did, and what is sure before what may be chance."""
    of_findings = [
        Headline(
            cluster="finding",
            place=place,
            customers=one.cell.customers,
            department=department_of(one, topics, policy),
            sure=one.sure,
        )
        for place, one in enumerate(found)
    ]
    of_voices = [
        Headline(
            cluster="said", place=place, customers=one.customers, department=one.department, sure=one.sure
        )
        for place, one in enumerate(said)
    ]
    return sorted([*of_voices, *of_findings], key=lambda one: (-one.customers, not one.sure))

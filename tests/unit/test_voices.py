"""What customers say clusters by what it is about, in both languages, and what affects most comes first."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import config
from gateway.domain.measures import Cell, Product, Voice
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.domain.topics import TopicsError, parse_topics
from gateway.flow.clusters import clusters
from gateway.flow.journeys import journeys
from gateway.flow.voices import headline, said_clusters

NOW = 100 * DAY_MS
TOPICS = parse_topics(yaml.safe_load(config.data_path("topics.yaml").read_text(encoding="utf-8")))
FLEET = {("car", "A", "1.0"): 100, ("car", "B", "1.0"): 900}


def voice(text: str, owner: str, **more: Any) -> Voice:
    named: dict[str, Any] = {
        "what": "call",
        "at": NOW - DAY_MS,
        "reason": None,
        "rule": None,
        "device": f"car-{owner}",
        "kind": "car",
        "model": "A",
        "firmware": "1.0",
        "language": "de",
    }
    return Voice(text=text, owner=owner, **{**named, **more})


def records(*voices: Voice, cells: tuple[Cell, ...] = ()) -> Any:
    return SimpleNamespace(
        heard=SimpleNamespace(voices=lambda since, limit: list(voices)),
        analytics=SimpleNamespace(fleet=lambda: FLEET, cells=lambda since, middle: list(cells)),
    )


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("The brakes squeal when it is wet.", "brakes"),
        ("Die Vorderbremsen quietschen", "brakes"),
        ("Der Akku lädt nicht", "battery"),
        ("Nobody called, I have been waiting for the appointment", "waiting"),
        ("Die Rechnung war zu teuer", "price"),
        ("The app freezes after the update", "screen"),
        ("It is what it is.", None),
    ],
)
def test_a_text_is_about_the_topic_with_most_of_its_words(text: str, topic: str | None) -> None:
    found = TOPICS.of(text)
    assert (found.id if found else None) == topic


def test_two_languages_are_one_cluster_with_its_department() -> None:
    found = said_clusters(
        records(voice("The brakes squeal", "a"), voice("Die Bremsen quietschen", "b")), NOW, TOPICS
    )
    [one] = found
    assert (one.about, one.subject, one.customers, one.department) == ("topic", "brakes", 2, "quality")
    assert one.expected == pytest.approx(100 * 2 / 1_000)
    assert one.examples == ("The brakes squeal", "Die Bremsen quietschen")


def test_what_has_no_topic_is_grouped_by_rule_then_reason_then_a_word_that_several_share() -> None:
    found = said_clusters(
        records(
            voice("", "a", what="decline", rule="pads", reason="not_now"),
            voice("Hm.", "b", reason="Q7"),
            voice("The windscreen wiper", "c"),
            voice("both wipers, and the windscreens", "d"),
            voice("Hallo", "e"),
        ),
        NOW,
        TOPICS,
    )
    assert {(one.about, one.subject) for one in found} == {
        ("rule", "pads"),
        ("reason", "Q7"),
        ("topic", "screen") if TOPICS.of("The windscreen wiper") else ("word", "windsc"),
        ("nothing", ""),
    }


def test_the_headline_ranks_customers_above_machinery() -> None:
    cell = Cell(
        rule="pads",
        severity="advice",
        kind="car",
        model="A",
        firmware="1.0",
        observed=90,
        lately=9,
        first=NOW,
        customers=2,
    )
    voices = [voice("Die Rechnung ist zu teuer", name) for name in ("a", "b", "c")]
    lab = records(*voices, cells=(cell,))
    found, said = clusters(lab, NOW), said_clusters(lab, NOW, TOPICS)
    first, second = headline(found, said, TOPICS, Policy())
    assert (first.cluster, first.customers, first.department) == ("said", 3, "billing")
    assert (second.cluster, second.customers, second.department) == ("finding", 2, "after-sales")


def test_a_customer_who_says_it_twice_is_one() -> None:
    [one] = said_clusters(records(voice("brakes", "a"), voice("brakes", "a", at=NOW)), NOW, TOPICS)
    assert (one.voices, one.customers) == (2, 1)


@pytest.mark.parametrize("change", [{"default": "nobody"}, {"topics": [{"id": 5}]}, {"surplus": 1}])
def test_a_file_that_does_not_say_what_it_has_to_is_refused(change: dict[str, Any]) -> None:
    raw = yaml.safe_load(config.data_path("topics.yaml").read_text(encoding="utf-8"))
    with pytest.raises(TopicsError):
        parse_topics({**raw, **change})


def test_a_journey_has_the_steps_that_were_reached_with_the_times_between() -> None:
    named: dict[str, Any] = dict.fromkeys(("ordered", "contacted", "answered", "served", "rated", "renewed"))
    reached = Product(
        **{**named, "ordered": 10 * DAY_MS, "contacted": 50 * DAY_MS, "answered": 51 * DAY_MS},
        device="car-1",
        owner="jana",
        kind="car",
        model="A",
        firmware="1.0",
        delivered=40 * DAY_MS,
        rule="pads",
    )
    lab: Any = SimpleNamespace(heard=SimpleNamespace(products=lambda *_: [reached]))
    [one] = journeys(lab, "kind", 0, NOW)
    assert one.counts == {"ordered": 1, "delivered": 1, "contacted": 1, "answered": 1}
    assert {step: leg.since for step, leg in one.legs.items()} == {
        "delivered": "ordered",
        "contacted": "delivered",
        "answered": "delivered",
    }
    assert one.legs["delivered"].median_ms == pytest.approx(30 * DAY_MS, rel=0.025)
    assert [j.key for j in journeys(lab, "week", 0, NOW)] == ["1970-W07"]

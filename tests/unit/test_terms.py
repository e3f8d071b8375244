"""Who pays: what is stated is said, the same everywhere; what is stated nowhere is not said."""

from dataclasses import asdict, replace

import pytest
from garage import BRAKES, CAR, TEXTS

from gateway.domain.appointment import Terms
from gateway.domain.terms import terms
from gateway.domain.visit_words import code_words, terms_of_visit, terms_words

TODAY = "2026-11-23"
PRICED = replace(BRAKES, vat_percent=19.0, price_valid_until="2026-12-31")
PLAN = {"name": "Sorglos", "until": "2027-06-30", "services": ["brakes-front"]}


def said(
    service: object = PRICED, device: object = CAR, *, recall: bool = False, language: str = "en"
) -> str:
    found = terms(service, device, TODAY, recall=recall)  # type: ignore[arg-type]  # made above
    words = terms_words(TEXTS, language, found) if found else None
    return (words or "nothing").replace("\u00a0", " ")


def test_the_workshops_own_price_has_vat_and_validity() -> None:
    assert said() == "180–220 €, 19% VAT included, valid until 31 December 2026"
    assert said(language="de") == "180–220 €, inkl. 19 % MwSt., gültig bis 31. Dezember 2026"


@pytest.mark.parametrize("day", ["2026-11-22", "2026-01-01"])
def test_a_price_that_does_not_hold_any_more_is_not_shown(day: str) -> None:
    assert said(replace(PRICED, price_valid_until=day)) == "nothing"


def test_where_nothing_is_stated_nothing_is_said() -> None:
    assert said(replace(PRICED, price_from=None, price_to=None)) == "nothing"


def test_the_warranty_pays_for_what_it_covers_while_it_runs() -> None:
    young, old = (replace(CAR, warranty_until=day) for day in ("2026-11-23", "2026-11-22"))
    covered = replace(PRICED, warranty=True)
    assert said(covered, young) == "free of charge: your warranty covers it until 23 November 2026"
    assert said(covered, old).startswith("180–220 €")
    assert said(PRICED, young).startswith("180–220 €")  # wear is the owner's


def test_a_service_plan_pays_for_what_it_contains() -> None:
    planned = replace(CAR, plan=PLAN)
    assert said(PRICED, planned) == "free of charge: your service plan “Sorglos” covers it until 30 June 2027"
    assert said(replace(PRICED, id="tyres"), planned).startswith("180–220 €")
    assert said(PRICED, replace(CAR, plan=PLAN | {"until": "2026-11-01"})).startswith("180–220 €")


def test_a_recall_is_free_before_anything_else() -> None:
    assert said(PRICED, replace(CAR, plan=PLAN), recall=True) == "free of charge: the manufacturer recalls it"


def test_the_terms_of_a_visit_add_up_what_the_owner_pays() -> None:
    paid = asdict(Terms(payer="owner", price_from=180, price_to=220))
    also = asdict(Terms(payer="owner", price_from=90, price_to=90))
    free = asdict(Terms(payer="recall"))
    words = terms_of_visit(TEXTS, "en", {"a": paid, "b": also, "c": free})
    assert (words or "").replace("\u00a0", " ") == "270–310 €; free of charge: the manufacturer recalls it"
    assert terms_of_visit(TEXTS, "en", {}) is None


@pytest.mark.parametrize(
    ("code", "english", "german"),
    [
        ("P0420", "Catalyst works below its limit", "Katalysator"),
        ("p0562-16", "Supply voltage low", "spannung"),
        ("P0399", "Ignition", "Zündung"),
        ("P1688", "maker", "Hersteller"),
        ("U0999", "etwork", "etzwerk"),
        ("C0099", "hassis", "ahrwerk"),
        ("whatever", "control unit", "Steuergerät"),
    ],
)
def test_a_trouble_code_is_told_in_words_known_or_by_its_structure(
    code: str, english: str, german: str
) -> None:
    assert english in code_words(TEXTS, "en", code)
    assert german in code_words(TEXTS, "de", code)

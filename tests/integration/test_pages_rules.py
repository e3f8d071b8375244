"""The rules as after-sales sees them: what they found, what a rule in shadow would have said, and why."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import TEXTS
from web_lab import DAY, NOW, Lab, catalogue, signal_files, web_lab

from gateway.domain.access import Role
from gateway.domain.policy import Policy, RuleBook
from gateway.domain.rule_sets import Sources
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.flow.rule_sets import Reloader, RulesInForce
from gateway.ports import Records
from rules import Engine, load

RULE = """
- id: {id}
  version: 2
  kind: car
  purpose: maintenance
  severity: advice
  when: {when}
  clear: pad_wear_front < 60
  shadow: {shadow}
  touchpoint: {{kind: appointment, service: brakes-front, expires: 14d}}
"""
TEXT = "".join(
    RULE.format(id=name, when=when, shadow=shadow)
    for name, when, shadow in (
        ("brake-pads-front-worn", "pad_wear_front >= 80 and odometer > 1000", "false"),
        ("brake-pads-rear-worn", "pad_wear_rear >= 80", "true"),
    )
)
RULES = load([("rules.yaml", TEXT)], catalogue())


class Files:
    """What reading the rules' files gives."""

    def __init__(self) -> None:
        self.text = TEXT
        self.signals = signal_files()

    def __call__(self) -> Sources:
        return Sources(signals=self.signals, rules=(("rules.yaml", self.text),))


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
async def lab(tmp_path: Path, files: Files) -> AsyncIterator[Lab]:
    options: dict[str, Any] = {
        "texts": TEXTS,
        "policy": Policy(rules=RuleBook(RULES)),
        "in_force": RulesInForce(files().id, RULES),
        "extras": {"strict": True},
    }
    async with web_lab(tmp_path, **options) as opened:
        context = opened.context
        assert context.announce is not None
        context.reloader = Reloader(
            read=files, database=opened.database, clock=opened.clock, announce=context.announce
        )
        await opened.workshop()
        await opened.owner("jana", "car-1", "car-2", workshop="north")
        yield opened


async def shown(lab: Lab, path: str, language: str = "en") -> str:
    _, secret = await lab.token(Role.OPERATOR)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html"}
    join = "&" if "?" in path else "?"
    async with lab.client.get(f"{path}{join}lang={language}", headers=headers) as response:
        assert response.status == 200, await response.text()
        return (await response.text()).replace("\u00a0", " ")


async def found(lab: Lab, rule: str, device: str) -> None:
    finding = Finding(
        id=f"{rule}-{device}",
        device=device,
        rule=rule,
        version=2,
        severity="advice",
        position=1,
        began_ts=NOW,
        found_at=NOW - DAY,
        shadow=RULES.rules[rule].shadow,
        evidence={"pad_wear_front": 92.0, "pad_wear_rear": 91.0, "ts": NOW},
    )

    def work(records: Records) -> None:
        records.touchpoints.add_finding(finding)
        decide.decide(records, finding, "jana", NOW, lab.context.policy)
        old = replace(finding, id=f"{finding.id}-old", found_at=NOW - 40 * DAY)
        records.touchpoints.add_finding(old)

    await lab.database.write(work)


async def test_every_rule_stands_with_what_it_found_or_would_have_told(
    lab: Lab,
) -> None:
    await found(lab, "brake-pads-front-worn", "car-1")
    await found(lab, "brake-pads-rear-worn", "car-1")
    await found(lab, "brake-pads-rear-worn", "car-2")
    await lab.database.write(lambda r: r.rule_sets.broke({"brake-pads-rear-worn": 3}, NOW))
    page = await shown(lab, "/operator/rules")
    assert "2 rules in force" in page
    front, rear = page.split('href="/operator/rules/brake-pads-rear-worn"')
    assert '<td class="num">1<br><span class="muted">1 product</span></td><td class="num">1</td>' in front
    assert "would have told one owner of 2 findings" in rear
    assert '<td class="num">2<br><span class="muted">2 products</span></td><td class="num">–</td>' in rear
    assert "hätte einer Person 2 Befunde mitgeteilt" in await shown(lab, "/operator/rules?kind=car", "de")
    one = await shown(lab, "/operator/rules/brake-pads-rear-worn")
    assert "In shadow: it finds, and sends nothing." in one
    assert "What it would have said" in one


async def test_faults_of_the_files_stand_above_the_rules_until_mended(lab: Lab, files: Files) -> None:
    api = await lab.caller()
    files.text = TEXT.replace("pad_wear_rear >=", "pad_waer_rear >=")
    refused = await api("POST", "rules/reload")
    assert (refused.status, refused.body["faults"][0]["line"]) == (422, 17)
    page = await shown(lab, "/operator/rules")
    assert "have a fault. The rules that held hold on." in page
    assert "rules.yaml:17:9: brake-pads-rear-worn: car has no signal pad_waer_rear; did you mean" in page
    files.text = TEXT.replace("version: 2", "version: 3")
    changed = await api("POST", "rules/reload")
    assert (changed.status, changed.body["changed"], changed.body["rules"]) == (201, True, 2)
    assert lab.announced[-1] == [{"type": "rules", "set": files().id}]
    assert "have a fault" not in await shown(lab, "/operator/rules")
    assert (await api("POST", "rules/reload")).body["changed"] is False


async def test_why_a_rule_is_not_true_for_a_product_is_told_as_a_tree(lab: Lab) -> None:
    engine = Engine(RULES)
    engine.register(1, NOW, "car-1", "car", None)
    engine.readings(2, NOW, "car-1", "car", ((NOW, {"pad_wear_front": 85.0, "odometer": 900.0}),))
    assert lab.context.state is not None
    await lab.context.state.save(2, [*engine.dirty()])
    page = await shown(lab, "/operator/rules/brake-pads-front-worn?device=car-1")
    assert "when: pad_wear_front &gt;= 80 and odometer &gt; 1000" in page
    assert "clear: pad_wear_front &lt; 60" in page
    assert "What decides it: Mileage above 1,000 km (900 km)." in page
    assert page.count("<li>") >= 7
    german = await shown(lab, "/operator/rules/brake-pads-front-worn?device=car-1", "de")
    assert "Trifft nicht zu." in german
    api = await lab.caller()
    answer = (await api("GET", "rules/brake-pads-front-worn/explain?device=car-1")).body
    assert [part["value"] for part in answer["when"]["parts"]] == [True, False]
    assert answer["holds"] is False


async def test_who_mistypes_a_product_or_a_rule_is_told_what_was_meant(lab: Lab) -> None:
    path = "/operator/rules/brake-pads-front-worn?device=car-11"
    assert "There is no product car-11. Did you mean car-1?" in await shown(lab, path)
    assert "Ein Produkt car-11 gibt es nicht. Meinten Sie car-1?" in await shown(lab, path, "de")
    api = await lab.caller()
    missing = await api("GET", "rules/brake-pads-rearworn")
    said = "There is no rule brake-pads-rearworn; did you mean brake-pads-rear-worn?"
    assert missing.body["detail"] == said


async def test_every_version_that_held_stands_on_the_rules_page_with_what_changed(
    lab: Lab, files: Files
) -> None:
    ana = await lab.caller(Role.OPERATOR, "Ana")
    first = TEXT.replace("version: 2", "version: 1").replace("pad_wear_rear >= 80", "pad_wear_rear >= 75")
    refused = TEXT.replace("pad_wear_rear >= 80", "pad_waer_rear >= 80")
    comment = TEXT.replace("- id: brake-pads-front", "# about the front\n- id: brake-pads-front")
    for position, text in enumerate((first, TEXT, refused, comment), start=1):
        files.text = text
        asked = await ana("POST", "rules/reload")
        newest = (await lab.read(lambda r: r.rule_sets.history(limit=1)))[0]
        if asked.status == 201:
            await lab.write(lambda r, id_=newest.id, at=position: r.rule_sets.holds(id_, at))  # type: ignore[misc]
        lab.clock.advance(NOW + position * 60_000)
    shown_ = await ana.get("rules/brake-pads-rear-worn")
    new, old = shown_["versions"]
    assert (new["version"], new["since"], new["until"]) == (2, "2026-11-23T08:01:00.000Z", None)
    assert (old["version"], old["until"], old["by"]) == (1, new["since"], "operator:Ana")
    assert old["text"].splitlines()[:2] == ["- id: brake-pads-rear-worn", "  version: 1"]
    assert "pad_wear_rear >= 75" in old["text"]
    page = await shown(lab, "/operator/rules/brake-pads-rear-worn")
    text = page.split('id="versions"')[1].split("</section>")[0]
    assert "let in by Ana" in text
    gone, added = text.split("<del>")[1:], text.split("<ins>")[1:]
    assert [line.split("</span>")[2].split("</del>")[0].strip() for line in gone] == [
        "version: 1",
        "when: pad_wear_rear &gt;= 75",
    ]
    assert [line.split("</span>")[2].split("</ins>")[0].strip() for line in added] == [
        "version: 2",
        "when: pad_wear_rear &gt;= 80",
    ]
    assert "freigegeben von Ana" in await shown(lab, "/operator/rules/brake-pads-rear-worn", "de")

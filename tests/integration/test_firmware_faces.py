"""Updates by API and pages: a release comes in by pieces, is rolled out, and its owner chooses the time."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from firmware_lab import Works
from garage import TEXTS
from web_lab import DAY, HOUR, NORTH, NOW, Lab, web_lab

from firmware_api import actions, releases, rollouts
from firmware_api.actions import Report
from firmware_api.office import Office
from firmware_api.releases import Release
from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState, Service
from gateway.domain.case import CaseKind
from gateway.domain.device import Facts
from gateway.domain.touchpoint import State
from gateway.domain.webhooks import Webhook
from gateway.flow import updates
from gateway.flow.operator_news import OperatorNews
from gateway.flow.updates import Updates, Waiting
from gateway.web.updates import FirmwareDesk

DONE = Report(execution="closed", finished="success", code=None, details=())
FAILED = Report(execution="closed", finished="failure", code=None, details=("the flash is worn out",))
NOTES = {"en": "Charges faster in the cold", "de": "Lädt bei Kälte schneller"}


@dataclass
class World:
    """The pages over a firmware store, and what carries matters between them."""

    lab: Lab
    works: Works
    office: Office
    carrier: Updates

    async def step(self, after: int = 0) -> None:
        """Rollouts and owners' matters take their next step."""
        if after:
            self.lab.clock.advance(self.lab.clock.now() + after)
        self.works.now = self.lab.clock.now()
        await self.office.step()
        await self.carrier.step()

    async def rolled_out(self, release: Release, **plan: Any) -> int:
        asked = rollouts.plan_of({"groups": [{"name": "all", "error": 100}], **plan})

        def work(connection: Any) -> int:
            number = rollouts.create(connection, "all", release.id, asked, self.works.now, "me")
            rollouts.steer(connection, number, "start", self.works.now, "me")
            return number

        number = self.works.store.write(work)
        await self.step()
        return number

    def action(self, device: str = "car-1") -> dict[str, Any]:
        return dict(
            self.works.store.read(
                lambda c: c.execute(
                    "SELECT * FROM actions WHERE target = ? ORDER BY id DESC", (device,)
                ).fetchone()
            )
        )

    def reports(self, report: Report, device: str = "car-1") -> None:
        number = self.action(device)["id"]
        self.works.store.write(lambda c: actions.report(c, device, number, report, self.works.now))

    async def waiting(self, device: str = "car-1") -> Waiting:
        (found,) = await FirmwareDesk(self.office).of_devices([device])
        return found

    async def shown(
        self, path: str, role: Role = Role.OWNER, subject: str | None = "jana", said_in: str = "en"
    ) -> str:
        _, secret = await self.lab.token(role, None if role is Role.OPERATOR else subject)
        headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html"}
        join = "&" if "?" in path else "?"
        path = path if "lang=" in path else f"{path}{join}lang={said_in}"
        async with self.lab.client.get(path, headers=headers) as response:
            assert response.status == 200, await response.text()
            return (await response.text()).replace("\u00a0", " ")

    async def chooses(self, **form: str) -> str:
        """The owner sends the form; gives what is said."""
        _, secret = await self.lab.token(Role.OWNER, "jana")
        async with self.lab.client.post(
            f"/me/updates/{self.action()['id']}",
            data=form,
            headers={"Authorization": f"Bearer {secret}", "Origin": "http://127.0.0.1"},
            allow_redirects=False,
        ) as response:
            assert response.status == 303
            return response.headers["Location"].rpartition("said=")[2]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "works").mkdir()
    works = Works(tmp_path / "works", NOW)
    office = Office(works.store, lambda: works.now)
    options: dict[str, Any] = {
        "texts": TEXTS,
        "extras": {"strict": True},
        "public_url": "http://127.0.0.1",
        "office": office,
    }
    async with web_lab(tmp_path, **options) as lab:
        await lab.workshop()
        await lab.owner("jana", "car-1", "car-2", workshop="north")
        news = OperatorNews(texts=TEXTS, to=("updates@maker.example",), public_url="http://127.0.0.1")
        carrier = Updates(FirmwareDesk(office), lab.database, lab.clock, lab.context.policy, news)
        world = World(lab, works, office, carrier)
        await carrier.register(await lab.read(lambda r: r.devices.page()))
        yield world
    await office.close()


async def matter(world: World, device: str = "car-1", *, rule: str | None = None) -> Any:
    found = await world.lab.read(lambda r: r.touchpoints.page(device=device, rule=rule))
    return found[0] if found else None


def offered(world: World, version: str = "2.0.0", sequence: int = 2, **more: Any) -> Release:
    return world.works.release(version.encode(), version, sequence=sequence, minutes=12, notes=NOTES, **more)


# --- the owner ----------------------------------------------------------------------------------


async def test_an_owner_is_asked_chooses_a_night_and_hears_what_is_new(world: World) -> None:
    await world.rolled_out(offered(world))
    asked = await matter(world)
    assert (asked.state, asked.purpose, asked.kind) == (State.OPEN, "update", "notice")
    page = await world.shown(f"/me/touchpoints/{asked.id}")
    assert "Charges faster in the cold" in page
    assert "Choose a time" in page
    page = await world.shown("/me/updates")
    assert "Out of use for about 12 minutes" in page
    begin, end = (await world.lab.read(lambda r: updates.nights(r, "car-1", NOW)))[0]
    assert world.action()["state"] == "waiting"
    assert await world.chooses(when=f"{begin}-{end}") == "update_agreed"
    assert (world.action()["state"], world.action()["window_from"]) == ("running", begin)
    assert (await matter(world)).state is State.CLOSED
    assert "Comes Tue" in await world.shown("/me/updates")
    world.reports(DONE)
    await world.step()
    news = await matter(world, rule=f"{asked.rule}-installed")
    assert news.state in (State.OPEN, State.DEFERRED), "when the budget has room"
    assert "now runs software 2.0.0" in await world.shown(f"/me/touchpoints/{news.id}")
    assert (await world.lab.read(lambda r: r.devices.get("car-1"))).firmware == "2.0.0"
    await world.step()
    assert len(await world.lab.read(lambda r: r.touchpoints.page(device="car-1"))) == 2, "told once"


async def test_an_update_that_fails_opens_one_case(world: World) -> None:
    await world.rolled_out(offered(world))
    await world.chooses(when="now")
    world.reports(FAILED)
    await world.step()
    await world.step()
    (case,) = await world.lab.read(lambda r: r.cases.page(kind=CaseKind.UPDATE_FAILED))
    assert (case.owner, case.device, case.text) == ("jana", "car-1", "the flash is worn out")


async def test_what_fails_again_becomes_a_visit_to_a_workshop(world: World) -> None:
    both = replace(NORTH, services=(*NORTH.services, Service(id="diagnosis", names={"en": "D"}, minutes=60)))
    await world.lab.write(lambda r: r.workshops.put(both))
    release = offered(world)
    for _ in range(2):
        await world.rolled_out(release)
        await world.chooses(when="now")
        world.reports(FAILED)
        await world.step()
    [matter] = await world.lab.read(
        lambda r: r.touchpoints.page(device="car-1", rule=f"update-{release.id}-failed")
    )
    assert (matter.kind, matter.service) == ("appointment", "diagnosis")
    assert "does not get into your" in await world.shown(f"/me/touchpoints/{matter.id}")


async def drives(world: World, *, moving: bool, **latest: float) -> None:
    now = world.lab.clock.now()
    readings = {name: (now, value) for name, value in latest.items()}
    facts = Facts(device="car-1", last_seen=now, moving=moving, moving_since=now, latest=readings)
    await world.lab.write(lambda r: r.devices.put_facts([facts]))


async def test_nothing_is_installed_while_it_is_driven_or_on_a_low_battery(world: World) -> None:
    await world.rolled_out(offered(world))
    await drives(world, moving=True)
    await world.chooses(when="now")
    assert world.action()["held"] == "driving", "from the first moment on"
    await drives(world, moving=False, state_of_charge=20.0)
    await world.step()
    assert world.action()["held"] == "battery"
    assert "until the battery is charged" in await world.shown("/me/updates")
    await drives(world, moving=False, state_of_charge=80.0)
    await world.step()
    assert world.action()["held"] is None


async def test_nothing_is_installed_on_the_day_of_a_visit(world: World) -> None:
    await world.rolled_out(offered(world))
    nights = await world.lab.read(lambda r: updates.nights(r, "car-1", NOW))
    visit = Appointment(
        id="visit",
        owner="jana",
        device="car-1",
        workshop="north",
        bay="1",
        service="brakes-front",
        start=nights[0][0] + 6 * HOUR,
        end=nights[0][0] + 7 * HOUR,
        state=AppointmentState.CONFIRMED,
        created=NOW,
    )
    await world.lab.write(lambda r: r.workshops.book(visit))
    others = await world.lab.read(lambda r: updates.nights(r, "car-1", NOW))
    assert others[:2] == nights[1:]
    begin, end = nights[0]
    assert await world.chooses(when=f"{begin}-{end}") == "update_visit"
    assert await world.chooses(when="now") == "update_agreed"
    await world.step(15 * HOUR + 15 * 60_000)
    assert world.action()["held"] == "visit", "it is the day of the visit by now"


async def test_a_time_that_has_gone_by_comes_again_a_day_later(world: World) -> None:
    await world.rolled_out(offered(world))
    begin, end = (await world.lab.read(lambda r: updates.nights(r, "car-1", NOW)))[0]
    await world.chooses(when=f"{begin}-{end}")
    await world.step(end - NOW)
    assert (world.action()["window_from"], world.action()["window_to"]) == (begin + DAY, end + DAY)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"when": f"{NOW - HOUR}-{NOW - 1}"}, "update_past"),
        ({"when": "soon"}, "update_past"),
        ({"when": "own", "own": "2027-06-01T03:00"}, "update_late"),
        ({}, "update_past"),
    ],
)
async def test_a_time_that_cannot_be_is_refused(world: World, form: dict[str, str], said: str) -> None:
    await world.rolled_out(offered(world))
    assert await world.chooses(**form) == said
    assert world.action()["state"] == "waiting"


async def test_a_security_fix_comes_by_itself_when_its_day_has_come(world: World) -> None:
    forced = NOW + 3 * DAY
    await world.rolled_out(offered(world), security=True, forced_at=forced)
    asked = await matter(world)
    assert (asked.purpose, asked.severity) == ("security_update", "warning")
    assert "installed without asking" in await world.shown(f"/me/touchpoints/{asked.id}")
    late = {"when": "own", "own": "2026-11-28T03:00"}
    assert await world.chooses(**late) == "update_forced"
    await world.step(3 * DAY - HOUR)
    assert world.action()["state"] == "waiting"
    await drives(world, moving=True)
    await world.step(HOUR)
    assert (world.action()["state"], world.action()["held"]) == ("running", "driving")


async def test_an_owner_has_notice_however_soon_a_fix_is_to_be_forced(world: World) -> None:
    await world.rolled_out(offered(world), security=True, forced_at=NOW + 1, notice_h=24)
    await world.step(DAY - 1)
    assert world.action()["state"] == "waiting", "they were told yesterday, and have the day"
    await world.step(1)
    assert (world.action()["state"], world.action()["held"]) == ("running", None)


async def test_a_yes_on_the_device_itself_settles_the_matter_and_is_checked_first(world: World) -> None:
    await world.rolled_out(offered(world))
    number = world.action()["id"]
    await drives(world, moving=True)
    world.works.store.write(lambda c: actions.confirm(c, number, NOW, confirmed=True))
    assert world.action()["held"] == "unchecked", "nobody has looked yet"
    await world.step()
    assert world.action()["held"] == "driving"
    asked = await matter(world)
    assert (asked.state, asked.answer.channel) == (State.CLOSED, "display")


async def test_a_yes_on_the_page_settles_the_matter_though_the_process_died_before_it_could(
    world: World,
) -> None:
    await world.rolled_out(offered(world))
    number = world.action()["id"]
    await FirmwareDesk(world.office).agree(number, (NOW, NOW + 6 * HOUR))
    await world.step()
    asked = await matter(world)
    assert (asked.state, asked.answer.channel) == (State.CLOSED, "page")
    assert world.action()["consent"] == "agreed"


async def test_a_yes_is_written_down_also_when_the_update_has_ended_before_anybody_looked(
    world: World,
) -> None:
    await world.rolled_out(offered(world))
    number = world.action()["id"]
    world.works.store.write(lambda c: actions.confirm(c, number, NOW, confirmed=True))
    world.reports(FAILED)
    await world.step()
    assert [one.state for one in await world.lab.read(lambda r: r.touchpoints.page(device="car-1"))] == [
        State.CLOSED
    ]
    assert len(await world.lab.read(lambda r: r.cases.page(kind=CaseKind.UPDATE_FAILED))) == 1


async def test_a_product_whose_owner_is_not_asked_is_spared_while_it_drives_and_its_failure_is_a_case(
    world: World,
) -> None:
    await drives(world, moving=True)
    await world.rolled_out(offered(world), ask_owner=False)
    await world.step()
    assert (world.action()["state"], world.action()["held"]) == ("running", "driving")
    assert world.action("car-2")["held"] is None
    world.reports(FAILED)
    await world.step()
    (case,) = await world.lab.read(lambda r: r.cases.page(kind=CaseKind.UPDATE_FAILED))
    assert case.device == "car-1"


async def test_an_update_that_is_cancelled_is_not_asked_any_more(world: World) -> None:
    number = await world.rolled_out(offered(world))
    world.works.store.write(lambda c: rollouts.steer(c, number, "stop", NOW, "me"))
    await world.step()
    assert (await matter(world)).state is State.WITHDRAWN
    assert await world.chooses(when="now") == "update_gone"


async def test_who_takes_a_product_over_is_asked_and_the_one_before_is_not_asked_twice(world: World) -> None:
    await world.rolled_out(offered(world))
    await world.carrier.changed({"car-1"})
    await world.step()
    assert len(await world.lab.read(lambda r: r.touchpoints.page(device="car-1"))) == 1
    await world.lab.owner("paul")
    await world.lab.write(lambda r: r.devices.transfer("car-1", "paul", world.lab.clock.now()))
    await world.carrier.changed({"car-1"})
    await world.step()
    asked = await world.lab.read(lambda r: r.touchpoints.page(device="car-1", owner="paul"))
    assert [one.rule for one in asked] == [f"update-{world.action()['release']}"]


async def test_somebody_elses_update_cannot_be_chosen(world: World) -> None:
    await world.lab.owner("paul", "car-3")
    await world.rolled_out(offered(world))
    _, secret = await world.lab.token(Role.OWNER, "paul")
    async with world.lab.client.post(
        f"/me/updates/{world.action()['id']}",
        data={"when": "now"},
        headers={"Authorization": f"Bearer {secret}"},
        allow_redirects=False,
    ) as response:
        assert response.headers["Location"].endswith("update_gone")
    assert world.action()["state"] == "waiting"


# --- after-sales --------------------------------------------------------------------------------


async def test_a_release_is_current_until_a_newer_one_is_for_all_that_it_is_for(world: World) -> None:
    works = world.works
    for version, sequence, models in (("2.0.0", 2, ["A"]), ("2.1.0", 3, ["A", "B"]), ("2.2.0", 4, ["A"])):
        works.release(version.encode(), version, sequence=sequence, models=models)

    async def states() -> dict[str, str]:
        page = await world.shown("/operator/firmware", Role.OPERATOR)
        rows = re.findall(r"<b>(\d\.\d\.\d)</b>.*?<td>(current|replaced|withdrawn)<br>", page, re.DOTALL)
        return dict(rows)

    assert await states() == {"2.0.0": "replaced", "2.1.0": "current", "2.2.0": "current"}
    key = works.store.index_key()
    for version in ("2.1.0", "2.2.0"):
        release = works.find(version)
        assert release is not None
        works.store.write(lambda c, r=release: releases.withdraw(c, r.id, "withdrawn", NOW, key))  # type: ignore[misc]
    assert await states() == {"2.0.0": "current", "2.1.0": "withdrawn", "2.2.0": "withdrawn"}


async def test_a_release_comes_in_by_pieces_and_goes_on_after_a_break(world: World) -> None:
    content = os.urandom(1_900_000)
    manifest, (path,) = world.works.signed(content, "3.0.0", sequence=3)
    staff, sha256 = await world.lab.caller(), hashlib.sha256(content).hexdigest()
    signatures = path.parent / f"{manifest.name}.sig"
    release = {"manifest": manifest.read_text(), "signatures": signatures.read_text()}
    assert (await staff("POST", "firmware/releases", release)).status == 422
    begun = await staff("POST", "firmware/uploads", {"sha256": sha256, "size": len(content)})
    assert begun.status == 201
    place = f"/api/v1/firmware/uploads/{begun.body['id']}/content"

    async def put(offset: int, data: bytes) -> tuple[int, Any]:
        async with world.lab.client.put(
            f"{place}?offset={offset}", data=data, headers=dict(staff.headers)
        ) as answer:
            return answer.status, await answer.json()

    assert (await put(0, content[:1_000_000]))[1]["offset"] == 1_000_000
    assert (await put(0, content[:10]))[0] == 409, "not from where it goes on"
    again = await staff("POST", "firmware/uploads", {"sha256": sha256, "size": len(content)})
    assert (again.body["id"], again.body["offset"]) == (begun.body["id"], 1_000_000)
    status, done = await put(1_000_000, content[1_000_000:])
    assert (status, done["offset"]) == (200, len(content))
    taken = await staff("POST", "firmware/releases", release)
    assert taken.status == 201, taken
    assert [one["version"] for one in await staff.all("firmware/releases?limit=1")] == ["3.0.0"]
    assert "3.0.0" in await world.shown("/operator/firmware", Role.OPERATOR)
    assert (await staff("DELETE", f"firmware/releases/{taken.body['id']}")).status == 204
    assert (await staff.get("firmware/releases"))["items"][0]["withdrawn"] == "withdrawn"


async def test_content_that_is_not_what_was_announced_is_thrown_away(world: World) -> None:
    staff = await world.lab.caller()
    begun = await staff("POST", "firmware/uploads", {"sha256": "0" * 64, "size": 10})
    place = f"/api/v1/firmware/uploads/{begun.body['id']}/content"
    for data in (b"0123456789", b"0123456789 and more"):
        async with world.lab.client.put(
            f"{place}?offset=0", data=data, headers=dict(staff.headers)
        ) as answer:
            assert answer.status == 422
        assert (await staff.get(f"firmware/uploads/{begun.body['id']}"))["offset"] == 0


async def test_a_rollout_is_tried_dry_made_steered_and_shown(world: World) -> None:
    release, staff = offered(world), await world.lab.caller()
    plan = {"groups": [{"name": "first", "percent": 50}, {"name": "rest", "pace": 1}], "ask_owner": False}
    body = {"name": "November", "release": release.id, "plan": plan}
    dry = await staff("POST", "firmware/rollouts/dry-run", body)
    assert [group["size"] for group in dry.body["groups"]] == [1, 1]
    assert (await staff.get("firmware/rollouts"))["items"] == []
    made = await staff("POST", "firmware/rollouts", body)
    assert made.body["state"] == "ready"
    number = made.body["id"]
    assert (await staff("POST", f"firmware/rollouts/{number}/pause")).status == 409
    assert (await staff("POST", f"firmware/rollouts/{number}/start")).body["state"] == "running"
    await world.step()
    assert (await staff.get(f"firmware/rollouts/{number}"))["groups"][0]["running"] == 1
    page = await world.shown(f"/operator/firmware/rollouts/{number}", Role.OPERATOR)
    assert "first begins, 1 devices" in page
    assert 'class="is-running" x="0.00" y="0" width="100.00"' in page, "the picture of its first group"
    assert "November" in await world.shown("/operator/firmware", Role.OPERATOR)
    assert (await staff("POST", f"firmware/rollouts/{number}/stop")).body["state"] == "stopped"
    assert (await staff("GET", "firmware/rollouts/99")).status == 404


async def test_a_rollout_that_stops_by_itself_stands_on_the_overview_and_is_told_once(world: World) -> None:
    hook = Webhook(
        id="theirs", audience="manufacturer", url="https://example.com", types=("rollout.*",), created=NOW
    )
    await world.lab.write(lambda r: r.webhooks.put(hook))
    plan = {"groups": [{"name": "all", "error": 40}], "ask_owner": False}
    await world.rolled_out(offered(world), **plan)
    world.reports(FAILED)
    await world.step()
    await world.step()
    assert 'href="/operator/firmware/rollouts/1"' in await world.shown("/operator", Role.OPERATOR)
    page = await world.shown("/operator/firmware/rollouts/1", Role.OPERATOR)
    assert "Stopped by itself. all: 1 of 2 devices failed. That is 50.0 %" in page
    assert "the flash is worn out" in page, "who failed, and why"
    german = await world.shown("/operator/firmware/rollouts/1?lang=de", Role.OPERATOR, said_in="de")
    assert "Von selbst beendet. all: 1 von 2 Geräten sind gescheitert. Das sind 50,0 %" in german
    rows = await world.lab.read(lambda r: r.outbox.page())
    [event] = [row.payload["event"] for row in rows if row.channel == "webhook"]
    assert (event["type"], event["data"]["failed"], event["data"]["release"]) == (
        "rollout.stopped",
        1,
        "car 2.0.0",
    )
    [mail] = [row for row in rows if row.channel == "email"]
    assert (mail.target, mail.owner) == ("updates@maker.example", None)
    for said in (
        "1 of 2 devices failed. That is 50.0\u00a0%",
        "1 von 2 Geräten sind gescheitert. Das sind 50,0\u00a0%",
    ):
        assert said in mail.payload["text"]
    assert "/operator/firmware/rollouts/1" in mail.payload["html"]


async def plans(world: World, **form: str) -> tuple[int, str, str]:
    """After-sales sends the form of a new rollout; (status, page, where it goes on)."""
    _, secret = await world.lab.token(Role.OPERATOR)
    given = {"mode": "forced", "silence_h": "24", "notice_h": "72"}
    for number in range(int(form.pop("groups", "1"))):
        fields = {"name": f"g{number}", "percent": "100", "success": "90", "error": "5", "pace": "0"}
        given |= {f"{number}-{name}": value for name, value in fields.items()}
    headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html", "Origin": "http://127.0.0.1"}
    async with world.lab.client.post(
        "/operator/firmware/new?lang=en", data=given | form, headers=headers, allow_redirects=False
    ) as response:
        return response.status, await response.text(), response.headers.get("Location", "")


async def test_a_rollout_is_planned_tried_dry_and_made_on_the_page(world: World) -> None:
    release = offered(world)
    page = await world.shown(f"/operator/firmware/new?release={release.id}", Role.OPERATOR)
    assert "One in a hundred" in page
    whole = {"release": str(release.id), "name": "Winter", "groups": "2", "0-percent": "50", "1-pace": "1"}
    status, page, _ = await plans(world, **whole, act="dry")
    assert (status, page.count('href="/operator/firmware/devices/car-')) == (200, 2)
    assert world.works.store.read(rollouts.listed) == [], "nothing is made yet"
    status, page, _ = await plans(world, **whole, act="more")
    assert (status, "2-name" in page, "Winter" in page) == (200, True, True)
    status, page, _ = await plans(world, **whole, act="less-1")
    assert (status, "1-name" in page) == (200, False)
    status, _, where = await plans(world, **whole, act="make")
    assert (status, where) == (303, "/operator/firmware/rollouts/1?said=rollout_made")
    made = world.works.store.read(lambda c: rollouts.get(c, 1))
    assert (made.name, made.state, [group.percent for group in made.plan.groups]) == (
        "Winter",
        "ready",
        [50, 100],
    )
    assert "next group at 90 %, stops at 5 %" in await world.shown(
        "/operator/firmware/rollouts/1", Role.OPERATOR
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"0-percent": "0"}, "above 0 up to 100"),
        ({"0-percent": "many"}, "this was not understood"),
        ({"0-error": "inf"}, "this was not understood"),
        ({"0-name": ""}, "needs a name"),
        ({"0-pace": "-1"}, "0 or more"),
        ({"silence_h": "0"}, "Hours go from"),
        ({"mode": "timeforced"}, "Name a date"),
        ({"forced_at": "2026-12-01T03:00", "ask_owner": "on"}, "security fixes only"),
        ({"forced_at": "soon"}, "this was not understood"),
        ({"0-tags": "nobody has this"}, "No device fits"),
        ({"release": "99"}, "there is no release 99"),
        ({"release": "x"}, "this was not understood"),
    ],
)
async def test_a_plan_that_cannot_be_is_given_back_with_what_is_wrong(
    world: World, wrong: dict[str, str], said: str
) -> None:
    release = offered(world)
    status, page, _ = await plans(world, **({"release": str(release.id), "act": "make"} | wrong))
    assert (status, said in page) == (422, True), page
    assert world.works.store.read(rollouts.listed) == []


async def test_a_device_its_token_and_its_history(world: World) -> None:
    release, staff = offered(world), await world.lab.caller()
    token = await staff("POST", "firmware/devices/car-1/token")
    assert len(token.body["token"]) == 32
    given = await staff("POST", "firmware/devices/car-1/actions", {"release": release.id, "ask_owner": False})
    assert given.body["actions"][0]["state"] == "running"
    world.reports(FAILED)
    page = await world.shown("/operator/firmware/devices/car-1", Role.OPERATOR)
    assert '<td>Failed</td><td class="small">the flash is worn out</td>' in page
    assert "<dt>Runs</dt><dd><div>not known</div></dd>" in page
    assert "Nothing was installed" in await world.shown("/operator/firmware/devices/car-2", Role.OPERATOR)
    seen = await world.lab.read(lambda r: [line.code for line in r.touchpoints.ledger(owner="jana")])
    assert [code for code in seen if "look" in code or "saw" in code or "seen" in code], seen
    number = given.body["actions"][0]["id"]
    assert (await staff("POST", f"firmware/devices/car-1/actions/{number}/cancel")).status == 409
    assert (await staff("GET", "firmware/devices/nobody")).status == 404


async def test_what_rollouts_choose_by_is_said_and_stays(world: World) -> None:
    release, staff = offered(world), await world.lab.caller()
    said = {"tags": ["fleet", "berlin"], "country": "DE", "hardware": "b7"}
    assert (await staff("PUT", "firmware/devices/car-1", said)).body["tags"] == ["berlin", "fleet"]
    await world.carrier.register(await world.lab.read(lambda r: r.devices.page()))
    found = await staff.get("firmware/devices/car-1")
    assert (found["tags"], found["country"], found["hardware"]) == (["berlin", "fleet"], "DE", "b7")
    plan = {"groups": [{"name": "ours", "query": {"tags": ["fleet"], "countries": ["DE"]}}]}
    dry = await staff("POST", "firmware/rollouts/dry-run", {"name": "x", "release": release.id, "plan": plan})
    assert dry.body["groups"][0]["devices"] == ["car-1"]
    assert (await staff("PUT", "firmware/devices/nobody", {"tags": []})).status == 404


async def test_what_rollouts_choose_by_is_written_on_the_products_page(world: World) -> None:
    offered(world)
    await world.carrier.register(await world.lab.read(lambda r: r.devices.page()))
    _, secret = await world.lab.token(Role.OPERATOR)
    there, headers = "/operator/firmware/devices/car-1", {"Authorization": f"Bearer {secret}"}
    for form, said in (
        ({"tags": "fleet, berlin,", "country": "de", "hardware": "b7"}, "described"),
        ({"tags": "other", "country": "Germany"}, "not_described"),
    ):
        async with world.lab.client.post(there, data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.headers["Location"] == f"{there}?said={said}"
    page = await world.shown(f"{there}?said=described", Role.OPERATOR)
    assert 'value="berlin, fleet"' in page
    assert 'value="DE"' in page
    assert "Saved." in page
    async with world.lab.client.post(
        "/operator/firmware/devices/nobody", data={"tags": ""}, headers=headers, allow_redirects=False
    ) as answer:
        assert answer.status == 404


async def test_only_after_sales_may(world: World) -> None:
    for role, subject in ((Role.OWNER, "jana"), (Role.WORKSHOP, "north")):
        caller = await world.lab.caller(role, subject)
        for path in ("firmware/releases", "firmware/rollouts", "firmware/devices/car-1"):
            assert (await caller("GET", path)).status == 403
        async with world.lab.client.put(
            "/api/v1/firmware/uploads/00/content?offset=0", data=b"x", headers=dict(caller.headers)
        ) as answer:
            assert answer.status == 403


def test_a_battery_reading_that_is_old_says_nothing() -> None:
    facts = Facts(device="car", latest={"battery_voltage": (NOW, 11.0)})
    assert updates.battery_low(facts, NOW)
    assert not updates.battery_low(facts, NOW + 8 * DAY)
    assert not updates.battery_low(replace(facts, latest={"battery_voltage": (NOW, 12.6)}), NOW)

"""Pages are quick because much is kept; nothing of it is ever out of date, or somebody else's."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from web_lab import DAY, HOUR, NOW, Lab, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.device import Facts
from gateway.domain.texts import Texts

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}) as opened:
        await opened.workshop()
        for owner, car, wear in (("jana", "car-1", 60.0), ("max", "car-2", 20.0)):
            await opened.owner(owner, car, workshop="north")
            course = [(NOW - 60 * HOUR + hour * HOUR, wear + hour / 10) for hour in range(60)]
            await opened.measured(car, "pad_wear_front", *course)
            await last_said(opened, car, NOW - HOUR, wear + 5.9)
        yield opened


async def last_said(lab: Lab, car: str, at: int, wear: float) -> None:
    latest = {"pad_wear_front": (at, wear), "odometer": (at, 48_210.0)}
    await lab.write(lambda r: r.devices.put_facts([Facts(device=car, last_seen=at, latest=latest)]))


class Pages:
    """One owner's browser."""

    def __init__(self, lab: Lab, cookies: dict[str, str], session: ClientSession) -> None:
        self._lab, self._cookies, self._session = lab, cookies, session

    async def get(self, path: str, **more: str) -> str:
        url = self._lab.client.make_url(path)
        async with self._session.get(url, cookies=self._cookies | more) as response:
            assert response.status == 200, (path, response.status)
            return await response.text()


@pytest.fixture
async def browsers(lab: Lab) -> AsyncIterator[dict[str, Pages]]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        found = {}
        for owner in ("jana", "max"):
            _, secret = await lab.token(Role.OWNER, owner)
            found[owner] = Pages(lab, {"session-owner": secret}, session)
        yield found


def drawn(page: str) -> list[str]:
    """The measured lines of a page's charts."""
    return re.findall(r'<path class="measured" d="([^"]+)"', page)


async def test_what_is_measured_shows_at_once_and_on_nobody_elses_page(
    lab: Lab, browsers: dict[str, Pages]
) -> None:
    before = {
        owner: await browsers[owner].get(f"/me/products/car-{n}") for n, owner in ((1, "jana"), (2, "max"))
    }
    assert drawn(before["jana"]) != drawn(before["max"])
    assert drawn(await browsers["jana"].get("/me/products/car-1")) == drawn(before["jana"])
    await lab.measured("car-1", "pad_wear_front", (NOW - HOUR // 2, 79.0))
    await last_said(lab, "car-1", NOW - HOUR // 2, 79.0)
    after = await browsers["jana"].get("/me/products/car-1")
    assert drawn(after) != drawn(before["jana"])
    assert drawn(await browsers["max"].get("/me/products/car-2")) == drawn(before["max"])
    await lab.series.erase("car-1", NOW - 40 * HOUR, NOW)
    erased = await browsers["jana"].get("/me/products/car-1")
    assert drawn(erased) != drawn(after)


async def test_what_nobody_can_measure_is_not_drawn(lab: Lab, browsers: dict[str, Pages]) -> None:
    """Sums of such numbers are no numbers; the owner's pages went with them."""
    before = drawn(await browsers["jana"].get("/me/products/car-1"))
    await lab.measured("car-1", "pad_wear_front", *((NOW - HOUR // 2 + n, 1e308) for n in range(3)))
    await last_said(lab, "car-1", NOW - HOUR // 3, 1e308)
    for page in ("/me", "/me/products", "/me/products/car-1"):
        assert "inf" not in re.findall(r"[a-z]+", " ".join(drawn(await browsers["jana"].get(page)))), page
    assert (
        drawn(await browsers["jana"].get("/me/products/car-1"))[0].split("L")[:20]
        == before[0].split("L")[:20]
    )


async def test_days_and_times_go_on_while_nothing_is_written(lab: Lab, browsers: dict[str, Pages]) -> None:
    today = await browsers["jana"].get("/me/products/car-1")
    lab.clock.advance(NOW + 2 * DAY)
    later = await browsers["jana"].get("/me/products/car-1")
    assert "heute" in today
    assert "heute" not in later
    morning = await browsers["jana"].get("/me")
    lab.clock.advance(NOW + 2 * DAY + 11 * HOUR)
    evening = await browsers["jana"].get("/me")
    assert "Guten Morgen" in morning or "Guten Tag" in morning
    assert "Guten Abend" in evening


async def test_each_reads_their_own_language_zone_and_measures(lab: Lab, browsers: dict[str, Pages]) -> None:
    await lab.worn_pads("car-1", "jana")
    await lab.worn_pads("car-2", "max")

    def moves(records: Any) -> None:
        owner = records.owners.get("max")
        records.owners.update(replace(owner, language="en-US", time_zone="America/New_York"))

    before = await browsers["max"].get("/me/ledger")
    assert "9:00" in before
    await lab.write(moves)
    ledger = {owner: await browsers[owner].get("/me/ledger", language="") for owner in ("jana", "max")}
    assert "9:00" in ledger["jana"]
    assert "3:00" in ledger["max"]
    assert "9:00" not in ledger["max"]
    product = {
        owner: await browsers[owner].get(f"/me/products/car-{n}", language=language)
        for n, owner, language in ((1, "jana", "de"), (2, "max", "en"))
    }
    assert "48.210\N{NO-BREAK SPACE}km" in product["jana"]
    assert "29,956\N{NO-BREAK SPACE}mi" in product["max"]
    assert "48.210" not in product["max"]
    english = await browsers["jana"].get("/me/products/car-1", language="en")
    assert "48,210\N{NO-BREAK SPACE}km" in english
    assert "48.210\N{NO-BREAK SPACE}km" in await browsers["jana"].get("/me/products/car-1", language="de")


async def test_what_is_decided_and_answered_shows_at_once(lab: Lab, browsers: dict[str, Pages]) -> None:
    nothing = {owner: await browsers[owner].get("/me") for owner in ("jana", "max")}
    matter = await lab.worn_pads("car-1", "jana")
    assert matter.id in await browsers["jana"].get("/me")
    assert matter.id not in await browsers["max"].get("/me")
    assert matter.id not in nothing["jana"]
    await lab.write(lambda r: r.devices.transfer("car-1", "max", NOW))
    assert "car-1" not in await browsers["jana"].get("/me/products")
    assert "car-1" in await browsers["max"].get("/me/products")
    url = lab.client.make_url("/me/products/car-1")
    async with ClientSession() as stranger, stranger.get(url, allow_redirects=False) as response:
        assert response.status == 303
        assert "Arden" not in await response.text()


async def test_a_page_is_packed_for_browsers_that_take_it(lab: Lab) -> None:
    _, secret = await lab.token(Role.OWNER, "jana")
    url, cookies = lab.client.make_url("/me"), {"session-owner": secret}
    sizes = {}
    jar = CookieJar(unsafe=True)
    async with ClientSession(cookie_jar=jar, cookies=cookies, auto_decompress=False) as session:
        for asked in ("identity", "gzip", "deflate"):
            async with session.get(url, headers={"Accept-Encoding": asked}) as response:
                assert response.headers.get("Content-Encoding", "identity") == asked
                sizes[asked] = len(await response.read())
    assert sizes["gzip"] < sizes["identity"] / 2


async def test_a_page_that_another_site_asks_for_is_not_packed(lab: Lab) -> None:
    """Its length would tell whether what that site put into the address stands on the page once more."""
    _, secret = await lab.token(Role.OPERATOR)
    url, jar = lab.client.make_url("/operator/find?q=jana"), CookieJar(unsafe=True)
    cookies = {"session-operator": secret}
    async with ClientSession(cookie_jar=jar, cookies=cookies) as session:
        packed = {}
        for site in ("cross-site", "same-site", "same-origin", "none"):
            headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": site}
            async with session.get(url, headers=headers) as response:
                assert response.status == 200
                packed[site] = response.headers.get("Content-Encoding")
    assert packed == {"cross-site": None, "same-site": None, "same-origin": "gzip", "none": "gzip"}

"""The operator's path shows as waiting what waits, and not what is only not committed yet."""

import asyncio
import json
import os
import re
from pathlib import Path

import aiohttp
import pytest
from real_parts import PATIENCE_S

from config import settings as configuration
from gateway.app import Gateway, opened, running
from gateway.domain.access import Role, issue_token

HOUR = 3_600_000


async def shown(gateway: Gateway) -> str:
    """What stands below the step "Assess"."""
    token, secret = issue_token(Role.OPERATOR, None, ttl_ms=HOUR, now=gateway.clock.now(), random=os.urandom)
    await gateway.database.write(lambda records: records.tokens.add(token))
    headers = {"Authorization": f"Bearer {secret}", "Accept-Language": "en"}
    async with (
        aiohttp.ClientSession(gateway.url, headers=headers) as session,
        session.get("/operator") as page,
    ):
        assert page.status == 200
        text = (await page.text()).replace("\xa0", " ")
    found = re.search(r"<span>(\d+ messages? behind)</span><span>\d+ rule errors?</span>", text)
    assert found is not None, text
    return found[1]


@pytest.mark.parametrize("role", ["all", "web"])
async def test_what_is_assessed_and_not_committed_is_not_behind(role: str, tmp_path: Path) -> None:
    settings = configuration.load(
        None,
        {
            "TOUCHPOINT_DATA_DIR": str(tmp_path),
            "TOUCHPOINT_MQTT__URL": "embedded:",
            "TOUCHPOINT_WEB__PORT": "0",
        },
    )
    async with opened(settings, role=role) as gateway:  # type: ignore[arg-type]
        gateway.facts_every_ms = 1_000 * HOUR
        async with running(gateway):
            now = gateway.clock.now()
            payload = json.dumps({"ts": now, "signals": {"speed": 50.0}}).encode()
            await gateway.journal.append([("touchpoint/v1/car-1/telemetry", payload)] * 5, now)
            if role == "web":  # assess is another process, whose position here is what it has committed
                assert await shown(gateway) == "5 messages behind"
                return
            async with asyncio.timeout(PATIENCE_S):
                while gateway.counters.assessed_upto < gateway.journal.head():
                    await asyncio.sleep(0.01)
            assert gateway.journal.status()["readers"]["assess"]["lag"] >= 5
            assert await shown(gateway) == "0 messages behind"

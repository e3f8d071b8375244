"""A device that updates itself over DDI, as clients made for Eclipse hawkBit do: polls, reads what to do,
downloads, checks what came against its hash, reports on the way, and runs the new version afterwards."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

HEADERS = {"Accept": "application/hal+json"}
CHUNK = 1 << 16


@dataclass(kw_only=True)
class UpdatingDevice:
    """One device with its token. `wait` waits that many seconds."""

    device: str
    token: str
    base: str
    """http://host:port/{tenant}/controller/v1"""
    wait: Callable[[float], Awaitable[None]]
    dice: random.Random
    version: str
    """what it runs"""
    every_s: float = 2.0
    fails: str = ""
    """what it reports instead of success"""
    attributes: Mapping[str, str] = field(default_factory=dict)

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Poll until an update has ended, one way or the other. An answer that does not come is no end."""
        await self.wait(self.dice.uniform(0, self.every_s))
        while True:
            try:
                if await self.poll(session):
                    return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await self.wait(self.every_s * self.dice.uniform(0.8, 1.2))

    async def poll(self, session: aiohttp.ClientSession) -> bool:
        """Do what there is to do; gives whether an update has ended. Raises aiohttp.ClientError,
        TimeoutError."""
        links = (await self._ask(session, "GET", f"{self.base}/{self.device}")).get("_links", {})
        if "configData" in links:
            data = {**self.attributes, "version": self.version}
            await self._ask(session, "PUT", links["configData"]["href"], {"mode": "merge", "data": data})
        if "cancelAction" in links:
            return await self._cancel(session, links["cancelAction"]["href"])
        if "deploymentBase" not in links:
            return False
        return await self._update(session, links["deploymentBase"]["href"])

    async def _cancel(self, session: aiohttp.ClientSession, link: str) -> bool:
        await self._say(session, link, "closed", "success", "stopped")
        return True

    async def _update(self, session: aiohttp.ClientSession, link: str) -> bool:
        deployment = (await self._ask(session, "GET", link))["deployment"]
        chunks: Sequence[Mapping[str, Any]] = deployment["chunks"]
        await self._say(session, link, "proceeding", "none", "downloading")
        for artifact in (one for chunk in chunks for one in chunk["artifacts"]):
            if not await self._download(session, artifact):
                await self._say(session, link, "closed", "failure", f"{artifact['filename']}: wrong hash")
                return True
        await self._say(session, link, "downloaded", "none", "checked")
        if deployment["update"] == "skip":
            return False
        await self.wait(self.dice.uniform(0.5, 2) * self.every_s)
        if self.fails:
            await self._say(session, link, "closed", "failure", self.fails)
        else:
            self.version = chunks[0]["version"]
            await self._say(session, link, "closed", "success", f"runs {self.version}")
        return True

    async def _download(self, session: aiohttp.ClientSession, artifact: Mapping[str, Any]) -> bool:
        links = artifact["_links"]
        place = (links.get("download") or links["download-http"])["href"]
        digest, size = hashlib.sha256(), 0
        async with session.get(place, headers=self._headers()) as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_chunked(CHUNK):
                digest.update(piece)
                size += len(piece)
        return bool(size == artifact["size"] and digest.hexdigest() == artifact["hashes"]["sha256"])

    async def _say(
        self, session: aiohttp.ClientSession, link: str, execution: str, finished: str, text: str
    ) -> None:
        status = {"execution": execution, "result": {"finished": finished}, "details": [text]}
        await self._ask(session, "POST", link.partition("?")[0] + "/feedback", {"status": status})

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, url: str, body: Any = None
    ) -> dict[str, Any]:
        async with session.request(method, url, json=body, headers=self._headers()) as answer:
            answer.raise_for_status()
            return dict(await answer.json(content_type=None)) if method == "GET" else {}

    def _headers(self) -> dict[str, str]:
        return {**HEADERS, "Authorization": f"TargetToken {self.token}"}

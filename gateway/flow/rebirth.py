"""Ask Sparkplug's edge nodes for their births, where what they send cannot be named without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from gateway.ports import Clock

log = structlog.get_logger()

APART_MS = 60_000
"""Between two requests to one node, which answers with all it has."""
KNOWN_NODES = 100_000


class Rebirths:
    """Asks each node once a minute at most. A request that is lost is made again with the next message that
    wants it."""

    def __init__(self, clock: Clock, ask: Callable[[str, int], bool], *, apart_ms: int = APART_MS) -> None:
        """`ask(node, now)` sends the request to group/node; False when there is no connection."""
        self._clock, self._ask, self._apart = clock, ask, apart_ms
        self._asked: dict[str, int] = {}

    def want(self, nodes: Sequence[str]) -> None:
        """These nodes' births are missing."""
        now = self._clock.now()
        for node in dict.fromkeys(nodes):
            if now - self._asked.get(node, -self._apart) >= self._apart and self._ask(node, now):
                if len(self._asked) >= KNOWN_NODES:
                    self._asked.clear()
                self._asked[node] = now
                log.info("births_asked_for", node=node)

"""How far a reader of this process has come in the journal, before it has committed that.

What the rules make of messages is committed with their state, every quarter of a minute: a page that showed
what is not committed as waiting would show messages behind where nobody waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from gateway.domain.messages import Batch
from gateway.ports import Journal


class _Followed:
    """A journal, as one reader has it."""

    def __init__(self, journal: Journal, taken: Callable[[int], None]) -> None:
        self._journal, self._taken = journal, taken

    async def read(self, after: int, *, limit: int) -> list[Batch]:
        """Whoever asks for what follows has taken what comes before."""
        self._taken(after)
        return await self._journal.read(after, limit=limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


def followed(journal: Journal, taken: Callable[[int], None]) -> Journal:
    """The journal for a reader; `taken` is told the position up to which it has taken everything."""
    return cast(Journal, _Followed(journal, taken))

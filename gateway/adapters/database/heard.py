"""What other systems told, and the conversations about touchpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.conversation import Conversation, Present, Said
from gateway.domain.errors import NotFoundError
from gateway.domain.heard import Heard
from gateway.domain.measures import Product, Voice

_HEARD = Shape(Heard, tables.heard)
_CONVERSATION = Shape(Conversation, tables.conversations)
_SAID = Shape(Said, tables.conversation_lines)
_PRESENT = Shape(Present, tables.agents_present)

_VOICES = sa.text(
    """
    SELECT v.what, v.at, v.owner, v.text, v.reason, v.rule, d.id AS device, coalesce(d.kind, '') AS kind,
        coalesce(d.model, '') AS model, coalesce(d.firmware, '') AS firmware, o.language
    FROM (
        SELECT replace(h.type, '.received', '') AS what, h.at, h.owner, h.device, h.text, h.reason, t.rule
        FROM heard h LEFT JOIN touchpoints t ON t.id = h.touchpoint
        WHERE h.at >= :since AND h.type IN ('call.received', 'complaint.received', 'comment.received')
        UNION ALL
        SELECT CASE c.kind WHEN 'call_me' THEN 'call' ELSE 'complaint' END, c.opened_at, c.owner, c.device,
            c.text, NULL, t.rule
        FROM cases c LEFT JOIN touchpoints t ON t.id = c.touchpoint
        WHERE c.opened_at >= :since AND c.kind IN ('complaint', 'low_score', 'call_me')
            AND NOT EXISTS (SELECT 1 FROM heard h WHERE h."case" = c.id)
        UNION ALL
        SELECT 'complaint', r.created, r.owner, r.device, r.text, NULL, NULL
        FROM owner_reports r WHERE r.created >= :since
        UNION ALL
        SELECT 'comment', f.answered_at, f.owner, f.device, f.comment, NULL, t.rule
        FROM feedback f LEFT JOIN touchpoints t ON t.id = f.touchpoint
        WHERE f.answered_at >= :since AND coalesce(f.comment, '') <> ''
        UNION ALL
        SELECT 'decline', t.answered_at, t.owner, t.device, CAST(t.answer AS TEXT), t.action,
            t.rule
        FROM touchpoints t WHERE t.answered_at >= :since AND t.action IN ('not_now', 'never')
    ) v LEFT JOIN devices d ON d.id = v.device LEFT JOIN owners o ON o.id = v.owner
    ORDER BY v.at DESC LIMIT :most
    """
)
"""Everything that customers said, newest first, each with what it may be about."""

_PRODUCTS = sa.text(
    """
    SELECT s.device, s.owner, d.kind, coalesce(d.model, '') AS model, coalesce(d.firmware, '') AS firmware,
        (SELECT min(h.at) FROM heard h WHERE h.device = s.device AND h.type = 'order.placed'
            AND (s.until IS NULL OR h.at < s.until)) AS ordered,
        coalesce((SELECT min(h.at) FROM heard h WHERE h.device = s.device AND h.type = 'order.delivered'
            AND (s.until IS NULL OR h.at < s.until)), s.since) AS delivered,
        (SELECT min(t.sent_at) FROM touchpoints t WHERE t.device = s.device AND t.owner = s.owner
            AND t.created >= s.since) AS contacted,
        (SELECT min(t.answered_at) FROM touchpoints t WHERE t.device = s.device AND t.owner = s.owner
            AND t.created >= s.since) AS answered,
        (SELECT min(r.done_at) FROM results r WHERE r.device = s.device AND r.owner = s.owner
            AND r.done_at >= s.since) AS served,
        (SELECT min(f.answered_at) FROM feedback f WHERE f.device = s.device AND f.owner = s.owner
            AND f.answered_at >= s.since) AS rated,
        s.until AS renewed,
        (SELECT t.rule FROM touchpoints t WHERE t.device = s.device AND t.owner = s.owner
            AND t.sent_at IS NOT NULL AND t.created >= s.since ORDER BY t.sent_at LIMIT 1) AS rule
    FROM ownerships s JOIN devices d ON d.id = s.device
    WHERE s.since >= :since AND s.since < :until AND (:owner IS NULL OR s.owner = :owner)
    ORDER BY s.since DESC LIMIT :most
    """
)
"""Every product that came to an owner in that time, with when it reached each step with them."""


def _words(row: sa.RowMapping) -> str | None:
    """What was said; of a declined matter what its answer says besides the choice."""
    text: str | None = row["text"]
    if row["what"] == "decline" and text:
        text = msgspec.json.decode(text).get("comment")
    return text


class SqlHeard:
    """See `gateway.ports.HeardEvents`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, heard: Heard) -> bool:
        if not self._on.insert_once(tables.heard, _HEARD.row(heard), "source", "event"):
            return False
        self._on.changed("heard", heard.id)
        return True

    def of(self, source: str, event: str) -> Heard | None:
        c = tables.heard.c
        return _HEARD.first(self._connection, _HEARD.select.where(c.source == source, c.event == event))

    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        type: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Heard]:
        c = tables.heard.c
        query = _HEARD.select.order_by(c.id.desc()).limit(limit)
        wishes = ((c.owner, owner), (c.device, device), (c.type, type))
        query = query.where(*(column == wanted for column, wanted in wishes if wanted is not None))
        if after is not None:
            query = query.where(c.id < after)
        return _HEARD.all(self._connection, query)

    def voices(self, since: int, limit: int) -> list[Voice]:
        rows = self._connection.execute(_VOICES, {"since": since, "most": limit}).mappings()
        return [Voice(**{**row, "text": _words(row)}) for row in rows]

    def products(self, since: int, until: int, limit: int, owner: str | None = None) -> list[Product]:
        named: dict[str, Any] = {"since": since, "until": until, "owner": owner, "most": limit}
        return [Product(**row) for row in self._connection.execute(_PRODUCTS, named).mappings()]


class SqlConversations:
    """See `gateway.ports.Conversations`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def find(self, touchpoint: str) -> Conversation | None:
        c = tables.conversations.c
        return _CONVERSATION.first(self._connection, _CONVERSATION.select.where(c.touchpoint == touchpoint))

    def get(self, touchpoint: str) -> Conversation:
        found = self.find(touchpoint)
        if found is None:
            raise NotFoundError("Nothing has been said about this matter yet.")
        return found

    def put(self, conversation: Conversation) -> None:
        self._on.put(tables.conversations, _CONVERSATION.row(conversation), "touchpoint")
        self._on.changed("conversation", conversation.touchpoint)

    def say(self, said: Said) -> None:
        self._on.insert_once(tables.conversation_lines, _SAID.row(said), "id")
        self._on.changed("conversation", said.touchpoint)

    def line(self, line_id: str) -> Said | None:
        return _SAID.by_id(self._connection, line_id)

    def newest(self, touchpoint: str) -> Said | None:
        c = tables.conversation_lines.c
        query = _SAID.select.where(c.touchpoint == touchpoint).order_by(c.id.desc()).limit(1)
        return _SAID.first(self._connection, query)

    def lines(self, touchpoint: str, *, after: str | None = None, limit: int = 100) -> list[Said]:
        c = tables.conversation_lines.c
        query = _SAID.select.where(c.touchpoint == touchpoint).order_by(c.id).limit(limit)
        return _SAID.all(self._connection, query if after is None else query.where(c.id > after))

    def waiting(self, limit: int = 100) -> list[Conversation]:
        c = tables.conversations.c
        query = _CONVERSATION.select.where(c.waiting_since.is_not(None)).order_by(c.waiting_since)
        return _CONVERSATION.all(self._connection, query.limit(limit))

    def here(self, present: Present) -> None:
        self._on.put(tables.agents_present, _PRESENT.row(present), "name")
        self._on.changed("present", "")

    def leave(self, name: str) -> None:
        agents = tables.agents_present
        self._connection.execute(sa.delete(agents).where(agents.c.name == name))
        self._on.changed("present", "")

    def present(self, now: int) -> Sequence[Present]:
        c = tables.agents_present.c
        return _PRESENT.all(self._connection, _PRESENT.select.where(c.until > now).order_by(c.since))

"""One-time links, pictures, and what owners reported."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.errors import NotFoundError
from gateway.domain.links import Link
from gateway.domain.report import Attachment, Report

_LINK = Shape(Link, tables.links)
_ATTACHMENT = Shape(Attachment, tables.attachments)
_REPORT = Shape(Report, tables.owner_reports)
_OF_TOUCHPOINT = Prepared(
    _REPORT.select.where(tables.owner_reports.c.touchpoint == sa.bindparam("touchpoint"))
)


class SqlLinks:
    """See `gateway.ports.Links`."""

    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def add(self, link: Link) -> None:
        self._connection.execute(sa.insert(tables.links).values(_LINK.row(link)))

    def find(self, secret_hash: str) -> Link | None:
        query = _LINK.select.where(tables.links.c.hash == secret_hash)
        return _LINK.first(self._connection, query)

    def use(self, link_id: str, at: int) -> bool:
        c = tables.links.c
        statement = sa.update(tables.links).where(c.id == link_id, c.used_at.is_(None)).values(used_at=at)
        return self._connection.execute(statement).rowcount == 1

    def forget(self, before: int) -> int:
        statement = sa.delete(tables.links).where(tables.links.c.expires_at < before)
        return self._connection.execute(statement).rowcount


class SqlAttachments:
    """See `gateway.ports.Attachments`."""

    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def add(self, attachment: Attachment) -> None:
        self._connection.execute(sa.insert(tables.attachments).values(_ATTACHMENT.row(attachment)))

    def get(self, attachment_id: str) -> Attachment:
        attachment = _ATTACHMENT.by_id(self._connection, attachment_id)
        if attachment is None:
            raise NotFoundError(f"There is no attachment {attachment_id}.")
        return attachment


class SqlReports:
    """See `gateway.ports.Reports`."""

    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def add(self, report: Report) -> None:
        self._connection.execute(sa.insert(tables.owner_reports).values(_REPORT.row(report)))

    def of_touchpoint(self, touchpoint_id: str) -> Report | None:
        return next(iter(_REPORT.of(self._connection, _OF_TOUCHPOINT, touchpoint=touchpoint_id)), None)

    def with_photo(self, attachment_id: str) -> Report | None:
        c = tables.owner_reports.c
        return _REPORT.first(self._connection, _REPORT.select.where(c.photo == attachment_id))

    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Report]:
        c = tables.owner_reports.c
        query = _REPORT.select.order_by(c.id.desc()).limit(limit)
        for column, wanted in ((c.device, device), (c.owner, owner)):
            if wanted is not None:
                query = query.where(column == wanted)
        if after is not None:
            query = query.where(c.id < after)
        return _REPORT.all(self._connection, query)

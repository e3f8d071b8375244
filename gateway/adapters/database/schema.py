"""Brings the tables to this version's revision, by Alembic; does not load Alembic when they are there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from gateway.ports import DatabaseUnavailableError

HEAD = "0013"
"""The newest revision in `migrations/versions`; a test compares."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: sa.Connection) -> str | None:
    """The revision the tables are at, None when there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    at: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return at


def upgrade(connection: sa.Connection) -> None:
    """Upgrade to HEAD inside the running transaction, which holds the write lock."""
    at = revision(connection)
    if at == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnavailableError(
            f"The database is at revision {at}, which this version does not know (it knows {HEAD}): "
            "run the version that wrote it, or a newer one."
        ) from error

"""Alembic's entry: runs inside the transaction that `schema.upgrade` hands over."""

from alembic import context

from gateway.adapters.database.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

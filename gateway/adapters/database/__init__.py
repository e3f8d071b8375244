"""The domain's store, on SQLAlchemy Core; one file per subject, named as in `gateway.ports`."""

from gateway.adapters.database.engine import SqlDatabase

__all__ = ["SqlDatabase"]

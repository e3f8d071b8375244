"""The domain's store, on SQLAlchemy Core; one file per subject, named as in `gateway.ports`."""

from gateway.adapters.database.engine import SqlDatabase
from gateway.adapters.database.sealing import Seal

__all__ = ["Seal", "SqlDatabase"]

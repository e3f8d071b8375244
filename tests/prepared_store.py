"""A database file whose tables are there, to be copied: making them takes longer than most tests."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.adapters.database import SqlDatabase

_empty: list[bytes] = []


async def put_store(path: Path) -> None:
    """Write a prepared store to `path`, unless one is there; it is made once for all tests of a process."""
    if path.exists():
        return
    if not _empty:
        with TemporaryDirectory() as folder:
            made = Path(folder) / "domain.db"
            database = SqlDatabase(f"sqlite:///{made}", now=lambda: 0)
            await database.prepare()
            await database.close()
            _empty.append(made.read_bytes())
    path.write_bytes(_empty[0])

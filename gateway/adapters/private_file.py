"""Database files that only this user may read: they hold names, addresses and habits."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def create_private(path: Path) -> None:
    """Make the file where there is none. Raises OSError, also where it is there and may not be written.

    What is there is not opened: on closing it this process would lose the locks that SQLite holds on it for
    other connections, and the next process to close the file would delete the WAL that they still write."""
    path = path.resolve()  # a link to where nothing is yet is no file that is there
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None

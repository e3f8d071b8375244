"""The tables of `firmware.db`, and the connections to it.

Artifacts themselves are files (store.py); everything else is here, because it has to change together: what a
device reports, the state of its action, and what its rollout counts. SQLite in WAL mode, one writer at a time
(BEGIN IMMEDIATE), flushed to disk by every commit (synchronous FULL): what was answered to a device is kept.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_MS = 5_000

VERSIONS: tuple[str, ...] = (
    """
    CREATE TABLE documents (
        -- signed trust and index documents, by role and version
        role TEXT NOT NULL, version INTEGER NOT NULL, raw BLOB NOT NULL, signatures TEXT NOT NULL,
        taken_at INTEGER NOT NULL, PRIMARY KEY (role, version)
    ) STRICT;
    CREATE TABLE artifacts (
        -- content that is on disk, whole and verified; damaged says why it is not served any more
        sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, sha1 TEXT NOT NULL, md5 TEXT NOT NULL,
        stored_at INTEGER NOT NULL, checked_at INTEGER NOT NULL, damaged TEXT
    ) STRICT;
    CREATE TABLE uploads (
        -- artifacts on their way in
        id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, begun_at INTEGER NOT NULL,
        by_whom TEXT NOT NULL
    ) STRICT;
    CREATE TABLE releases (
        -- withdrawn says why no device gets it any more
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, version TEXT NOT NULL, sequence INTEGER NOT NULL,
        raw BLOB NOT NULL, stored_at INTEGER NOT NULL, withdrawn TEXT,
        UNIQUE (kind, version), UNIQUE (kind, sequence)
    ) STRICT;
    CREATE TABLE signatures (
        release INTEGER NOT NULL REFERENCES releases, key TEXT NOT NULL, signature TEXT NOT NULL,
        PRIMARY KEY (release, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE modules (
        -- a chunk of a release: what one part of the device gets
        id INTEGER PRIMARY KEY, release INTEGER NOT NULL REFERENCES releases, part TEXT NOT NULL,
        name TEXT NOT NULL, version TEXT NOT NULL, metadata TEXT NOT NULL
    ) STRICT;
    CREATE INDEX modules_release ON modules (release);
    CREATE TABLE module_files (
        module INTEGER NOT NULL REFERENCES modules, name TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES artifacts, PRIMARY KEY (module, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX module_files_sha256 ON module_files (sha256);
    CREATE TABLE targets (
        -- devices as updates see them; token is the SHA-256 of the target token, installed the action that
        -- brought what the device runs, owned whether an update is somebody's to agree to
        id TEXT PRIMARY KEY, kind TEXT, model TEXT, hardware TEXT, country TEXT,
        version TEXT, sequence INTEGER NOT NULL DEFAULT 0, token BLOB, installed INTEGER,
        wants_attributes INTEGER NOT NULL DEFAULT 1, attributes TEXT NOT NULL DEFAULT '{}',
        auto_confirm TEXT, owned INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, polled_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX targets_kind ON targets (kind, model);
    CREATE TABLE target_tags (
        target TEXT NOT NULL REFERENCES targets, tag TEXT NOT NULL, PRIMARY KEY (tag, target)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX target_tags_target ON target_tags (target);
    CREATE TABLE rollouts (
        -- told_at is when the operator was told that it stopped by itself
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, release INTEGER NOT NULL REFERENCES releases,
        state TEXT NOT NULL, plan TEXT NOT NULL, reason TEXT, created_at INTEGER NOT NULL,
        by_whom TEXT NOT NULL, changed_at INTEGER NOT NULL, told_at INTEGER
    ) STRICT;
    CREATE TABLE rollout_groups (
        rollout INTEGER NOT NULL REFERENCES rollouts, place INTEGER NOT NULL, name TEXT NOT NULL,
        size INTEGER NOT NULL, state TEXT NOT NULL, begun_at INTEGER, ended_at INTEGER,
        PRIMARY KEY (rollout, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rollout_log (
        rollout INTEGER NOT NULL REFERENCES rollouts, at INTEGER NOT NULL, what TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX rollout_log_rollout ON rollout_log (rollout, at);
    CREATE TABLE actions (
        -- one release for one device; the id is what clients see, a decimal int32. due_at: when a sign of
        -- life is due at the latest, due_after ms after the last one; silent: none came. consent, window and
        -- held: what the owner said, when it may be installed, and why not just now
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL REFERENCES targets,
        release INTEGER NOT NULL REFERENCES releases, rollout INTEGER REFERENCES rollouts, place INTEGER,
        state TEXT NOT NULL, open INTEGER NOT NULL, mode TEXT NOT NULL, forced_at INTEGER,
        due_after INTEGER, due_at INTEGER, silent INTEGER NOT NULL DEFAULT 0,
        fetched INTEGER NOT NULL DEFAULT 0, consent TEXT, window_from INTEGER, window_to INTEGER, held TEXT,
        revision INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, begun_at INTEGER,
        closed_at INTEGER, code INTEGER, message TEXT, entries INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX actions_open ON actions (target, id) WHERE open = 1;
    CREATE UNIQUE INDEX actions_live ON actions (target) WHERE state IN ('waiting', 'running');
    CREATE INDEX actions_target ON actions (target, id);
    CREATE UNIQUE INDEX actions_once ON actions (rollout, target) WHERE rollout IS NOT NULL;
    CREATE INDEX actions_picture ON actions (rollout, place, state, silent);
    CREATE INDEX actions_due ON actions (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX actions_closed ON actions (closed_at) WHERE closed_at IS NOT NULL;
    CREATE INDEX actions_consent ON actions (consent) WHERE consent IS NOT NULL AND open = 1;
    CREATE TABLE action_log (
        id INTEGER PRIMARY KEY, action INTEGER NOT NULL REFERENCES actions, at INTEGER NOT NULL,
        status TEXT NOT NULL, code INTEGER, messages TEXT NOT NULL
    ) STRICT;
    CREATE INDEX action_log_action ON action_log (action, id);
    """,
    """
    -- cause and data: what was said in English, as JSON to be said in any language; minute_at and
    -- minute_begun: how many devices of a group have begun in the minute that began then
    ALTER TABLE rollouts ADD COLUMN cause TEXT;
    UPDATE rollouts SET told_at = changed_at WHERE state IN ('finished', 'stopped') AND told_at IS NULL;
    ALTER TABLE rollout_log ADD COLUMN data TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE rollout_groups ADD COLUMN minute_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE rollout_groups ADD COLUMN minute_begun INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE requests (
        -- what was answered to those who may ask again
        key TEXT PRIMARY KEY, body TEXT NOT NULL, at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX requests_at ON requests (at);
    """,
)
"""Schema by version, each leading from the one before to itself; `PRAGMA user_version` says which holds."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits only where it is told to; brings the schema up to date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=BUSY_MS / 1000
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if _version(connection) < len(VERSIONS):
        _upgrade(connection)
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for number in range(_version(connection), len(VERSIONS)):
            for statement in _statements(VERSIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _statements(script: str) -> Iterator[str]:
    held = ""
    for line in script.splitlines():
        held += line + "\n"
        if sqlite3.complete_statement(held):
            yield held
            held = ""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One writing transaction, committed at the end of the block, undone by what it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")

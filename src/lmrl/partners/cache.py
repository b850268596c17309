"""Replies of a dialogue's partner on disk, so that no request is sent twice.

One SQLite file serves all runs of a machine at the same time. Each operation is a transaction on a connection of its
own: the object holds no open file, may be forked and pickled, and a process that is killed leaves a whole file behind.
"""

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lmrl.config.types import ConfigError

_FORMAT = 2  # part of every key: changes whenever the same question would have to be asked again
_AT_ONCE = 500  # keys of one query; some builds of SQLite allow 999
_PATIENCE = 60.0  # seconds for which other processes may hold the file
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT NOT NULL, reply TEXT NOT NULL)"


class CacheError(ConfigError):
    """The file of replies cannot be used."""


def reply_key(*parts: Any) -> str:
    """Return the name under which a reply is kept: a digest of everything that it depends on, as JSON values."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts], sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """Keeps replies by key; the first one that is kept stays.

    Args:
        path: the file; it and its folder are made when they are first needed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def get(self, keys: Collection[str]) -> dict[str, str]:
        """Return the replies that are there.

        Raises:
            CacheError: the file cannot be used.
        """
        wanted = sorted(keys)
        found: dict[str, str] = {}
        with self._opened() as connection:
            for first in range(0, len(wanted), _AT_ONCE):
                some = wanted[first : first + _AT_ONCE]
                places = ",".join("?" * len(some))
                found |= connection.execute(f"SELECT key, reply FROM replies WHERE key IN ({places})", some).fetchall()
        return found

    def put(self, replies: Mapping[str, str], *, model: str) -> dict[str, str]:
        """Keep replies, and return the kept ones: where another process was faster, that process's reply.

        Raises:
            CacheError: the file cannot be used.
        """
        if not replies:
            return {}
        rows = [(key, model, reply) for key, reply in replies.items()]
        with self._opened() as connection:
            # A transaction that writes from its beginning waits for others; one that begins by reading may be refused.
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        return self.get(replies)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file, with its table in it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone():
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute(_TABLE)
                    connection.execute("COMMIT")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"partner.cache={str(self.path)!r} cannot be used: {error}. Name another file, or delete this one if "
                "it is damaged; partner.cache=null keeps no replies"
            ) from error

"""How the master talks to its database: what makes SQLite fast enough, and nothing for PostgreSQL.

Stock Buildbot opens a new SQLite connection for two of three statements and syncs the disk at every commit;
a pool and ``synchronous=NORMAL`` (safe with the write-ahead log: a power cut loses the last commits, never the
database) together take a no-op build from 443 to 145 ms.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool


class SQLitePool(QueuePool):
    """A pool whose connections wait for a busy database and sync at checkpoints only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        sa.event.listen(self, "connect", _prepare)


def _prepare(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = wal", "synchronous = normal", "busy_timeout = 30000"):
        connection.execute(f"pragma {pragma}")


def engine_kwargs(url: str) -> dict[str, Any]:
    """What ``sqlalchemy.create_engine`` should be given for this URL (Buildbot's ``db.engine_kwargs``)."""
    if sa.engine.make_url(url).get_backend_name() == "sqlite":
        # a pool of one deadlocks at start: Buildbot holds a connection while it asks for another
        return {"poolclass": SQLitePool, "pool_size": 5, "max_overflow": 5}
    return {"pool_pre_ping": True}

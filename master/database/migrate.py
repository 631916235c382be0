"""Brings our tables to the version of this code, forwards only."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

VERSION_TABLE = "mlc_ci_version"


class DatabaseNewer(Exception):
    """The database was migrated by a newer version of this code; going back could lose what it wrote."""


def upgrade(connection: sa.Connection) -> None:
    """Create or migrate our tables.

    Raises:
        DatabaseNewer: the database is at a version that this code does not know.
    """
    if connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        # Python's driver begins no transaction for "create table": a kill would leave half of the tables for good
        connection.exec_driver_sql("begin immediate")
    config = _config()
    config.attributes["connection"] = connection
    found = version(connection)
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise DatabaseNewer(
            f"the database is at version {found!r} of our tables, which this version of mlc-ci does not know; "
            "start it with the version that wrote it, or restore a backup"
        )
    command.upgrade(config, "head")


def version(connection: sa.Connection) -> str | None:
    """The version of our tables in this database; ``None`` when they are not there."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config

"""Our tables come to be, stay as they are, and are never taken back to an older version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from master.database import migrate
from master.database.engine import engine_kwargs
from master.database.tables import metadata


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url, **engine_kwargs(database_url))
    yield engine
    engine.dispose()


def upgrade(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection)


def test_an_empty_database_gets_every_table(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert migrate.version(connection) is None
    upgrade(engine)
    assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, migrate.VERSION_TABLE}


def test_migrating_again_changes_nothing(engine: sa.Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text("insert into polled_refs (repository, ref, head) values ('r', 'refs/heads/main', 'x')")
        )
        first = migrate.version(connection)
    upgrade(engine)
    with engine.connect() as connection:
        assert migrate.version(connection) == first
        assert connection.execute(sa.text("select count(*) from polled_refs")).scalar() == 1


def test_the_migrations_make_the_tables_that_the_code_reads(engine: sa.Engine) -> None:
    upgrade(engine)
    ours = {*metadata.tables}
    options = {
        "version_table": migrate.VERSION_TABLE,
        "compare_type": True,
        # of SQLite's, Alembic takes every empty string for a change
        "compare_server_default": engine.dialect.name == "postgresql",
        "include_name": lambda name, kind, _parents: kind != "table" or name in ours,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_that_comparison_sees_a_difference(engine: sa.Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table runs drop column cancelled"))
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        assert [change[0] for change in compare_metadata(context, metadata)] == ["add_column"]


def test_a_newer_database_is_refused_and_left_alone(engine: sa.Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.table(migrate.VERSION_TABLE, sa.column("version_num")).update().values(version_num="9999")
        )
    with pytest.raises(migrate.DatabaseNewer, match=r"version '9999' of our tables.*start it with the version"):
        upgrade(engine)
    with engine.connect() as connection:
        assert migrate.version(connection) == "9999"


def test_other_tables_of_the_database_are_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("create table builds (id integer primary key)"))
        connection.execute(sa.text("create table alembic_version (version_num varchar(32))"))
        connection.execute(sa.text("insert into alembic_version values ('buildbots own')"))
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select version_num from alembic_version")).scalar() == "buildbots own"


def test_the_installation_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "50% off %(here)s"
    shutil.copytree(Path(migrate.__file__).parent, folder)
    monkeypatch.setattr(migrate, "__file__", str(folder / "migrate.py"))
    engine = sa.create_engine("sqlite://")
    upgrade(engine)
    with engine.connect() as connection:
        assert migrate.version(connection)


def test_a_migration_that_fails_halfway_leaves_the_database_as_it_was(engine: sa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        migrate.upgrade(connection)
        raise ZeroDivisionError
    assert sa.inspect(engine).get_table_names() == []
    upgrade(engine)
    assert metadata.tables.keys() <= set(sa.inspect(engine).get_table_names())


def test_sqlite_waits_for_locks_and_syncs_at_checkpoints_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    engine = sa.create_engine(url, **engine_kwargs(url))
    with engine.connect() as connection:
        found = [
            connection.execute(sa.text(f"pragma {p}")).scalar() for p in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert found == ["wal", 1, 30000]
    engine.dispose()

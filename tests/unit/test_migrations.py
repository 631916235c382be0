"""Our tables come to be, stay as they are, and are never taken back to an older version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import buildbot.db
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from buildbot.db.model import Model

from master.database import buildbot_rows, migrate
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


@pytest.fixture
def first_version(engine: sa.Engine) -> sa.MetaData:
    """Our tables as the first version made them."""
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE}))
        folder = str(Path(migrate.__file__).with_name("migrations"))
        with Operations.context(operations.migration_context):
            ScriptDirectory(folder).get_revision("0001").module.upgrade()
        table = sa.Table(migrate.VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32)))
        table.create(connection)
        connection.execute(table.insert().values(version_num="0001"))
    found = sa.MetaData()
    found.reflect(engine)
    return found


class Before:
    """Rows of the first version."""

    def __init__(self, engine: sa.Engine, tables: sa.MetaData) -> None:
        self.engine, self.tables = engine, tables.tables
        self.attempts = 0

    def run(self, run_id: int, tag: str = "") -> None:
        texts = dict.fromkeys(("acts_as", "base", "message", "author", "reason"), "")
        numbers = {"pull_request": 0, "trusted": True, "publish": True, "threads": 1, "created_at": 1.0}
        row = {"id": run_id, "event_key": str(run_id), "kind": "push", "ref": "r", "head": "h", "tag": tag}
        self.insert("runs", ended_at=9.0, **row, **texts, **numbers)

    def attempt(self, run_id: int, stage: str, *names: str, number: int = 1, state: str = "success") -> None:
        """One that its build of the same number ended, with what was accepted of it."""
        self.attempts += 1
        row = {"run_id": run_id, "stage": stage, "variant": "", "number": number, "state": state, "created_at": 1.0}
        self.insert("stage_attempts", id=self.attempts, build_id=self.attempts, ended_at=5.0 + self.attempts, **row)
        folder = f"{run_id}/{stage}/default/{number}/{self.attempts}"
        for name in names:
            row = {"attempt_id": self.attempts, "name": name, "path": f"{folder}/{name}", "size": 1, "sha256": "0" * 64}
            self.insert("artifacts", **row)

    def insert(self, table: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.tables[table].insert().values(values))

    def released(self) -> dict[str, tuple[int, float, list[str]]]:
        """By tag: its run, its time, its assets."""
        releases, assets, artifacts = (metadata.tables[name] for name in ("releases", "release_assets", "artifacts"))
        with self.engine.connect() as connection:
            found = {row.id: row for row in connection.execute(sa.select(releases))}
            of = sa.select(assets.c.release_id, artifacts.c.path).join(
                artifacts, artifacts.c.id == assets.c.artifact_id
            )
            paths = connection.execute(of.order_by(artifacts.c.path)).all()
        return {
            row.tag: (row.run_id, row.published_at, [path for release, path in paths if release == row.id])
            for row in found.values()
        }


@pytest.fixture
def before(engine: sa.Engine, first_version: sa.MetaData) -> Before:
    return Before(engine, first_version)


def test_all_that_was_accepted_is_an_upload_after_the_upgrade(engine: sa.Engine, before: Before) -> None:
    before.run(1)
    names = ["Log.txt", "log.TXT", "log.txt", "other.txt"]
    before.attempt(1, "build", *names)
    before.attempt(1, "test", "log.txt")
    upgrade(engine)
    uploads = metadata.tables["uploads"]
    with engine.connect() as connection:
        rows = connection.execute(sa.select(uploads).order_by(uploads.c.id)).all()
    assert sorted((row.build_id, row.name) for row in rows) == [*((1, name) for name in sorted(names)), (2, "log.txt")]
    assert sorted(row.folded for row in rows if "/" not in row.folded) == ["log.txt", "log.txt", "other.txt"]
    assert {row.path: row.finished_at for row in rows}["1/build/default/1/1/log.TXT"] == 6.0


def test_what_was_released_stays_released_after_the_upgrade(engine: sa.Engine, before: Before) -> None:
    wheel, manifest = "x-1-py3-none-any.whl", "x-1-py3-none-any.manifest.json"
    before.run(1, "v1")
    before.attempt(1, "build", wheel, manifest)
    before.attempt(1, "build", wheel, manifest, "log.txt", number=2, state="warnings")
    before.attempt(1, "build", number=3, state="failure")
    before.attempt(1, "release")
    before.run(2, "v2")  # failed
    before.attempt(2, "build", wheel)
    before.attempt(2, "release", state="failure")
    before.run(3)  # of no tag
    before.attempt(3, "build", wheel)
    before.attempt(3, "release")
    before.run(4, "v1")  # once more
    before.attempt(4, "build", wheel)
    before.attempt(4, "release")
    upgrade(engine)
    folder = "1/build/default/2/2"
    assets = [f"{folder}/{manifest}", f"{folder}/{wheel}", f"4/build/default/1/9/{wheel}"]
    assert before.released() == {"v1": (4, 15.0, assets)}


def _indexes(engine: sa.Engine) -> dict[str | None, list[str | None]]:
    return {index["name"]: index["column_names"] for index in sa.inspect(engine).get_indexes("buildsets")}


def test_buildbots_buildsets_are_found_by_their_external_id_without_reading_them_all(engine: sa.Engine) -> None:
    Model.metadata.create_all(engine)
    plain = _indexes(engine)
    upgrade(engine)
    assert [columns for name, columns in _indexes(engine).items() if name not in plain] == [["external_idstring"]]
    if engine.dialect.name != "sqlite":
        return
    asked: list[tuple[str, object]] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
    with engine.connect() as connection:
        buildbot_rows.find_buildset(connection, "1/build/default/1")
        query, values = asked[0]
        plan = connection.exec_driver_sql(f"explain query plan {query}", values).all()
    assert any("ix_mlc_ci_buildsets_external_idstring" in str(step) for step in plan), plan
    assert not any("SCAN buildsets" in str(step) for step in plan), plan


def test_an_index_that_is_there_already_is_no_trouble(engine: sa.Engine) -> None:
    Model.metadata.create_all(engine)
    with engine.begin() as connection:
        name = "ix_mlc_ci_buildsets_external_idstring"
        connection.execute(sa.text(f"create index {name} on buildsets (external_idstring)"))
    upgrade(engine)
    assert name in _indexes(engine)


def test_buildbots_own_migrations_of_that_table_keep_the_index(engine: sa.Engine) -> None:
    """On SQLite they make the table anew: here, the one that added ``rebuilt_buildid``, done again."""
    Model.metadata.create_all(engine)
    upgrade(engine)
    before = _indexes(engine)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)) as operations:
        with operations.batch_alter_table("buildsets", recreate="auto") as table:
            table.drop_column("rebuilt_buildid")
        ScriptDirectory(str(Path(buildbot.db.__file__).with_name("migrations"))).get_revision("065").module.upgrade()
    assert before == _indexes(engine)
    columns = {column["name"] for column in sa.inspect(engine).get_columns("buildsets")}
    assert columns == {column.name for column in Model.buildsets.columns}


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

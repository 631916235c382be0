"""The outbox: the newest version of each row, by the newest run that has a say, until it was sent."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from stored import A, B, Pool, arrives, pull_request, push, run_with

from master.database import outbox, store
from master.database.outbox import COMMENT, STATUS, Row
from master.database.tables import outbox as table
from master.database.tables import runs
from master.github.deliveries import Deliveries
from master.pipeline import State

Database = Callable[..., Any]
KINDS = ["status", "comment"]


def want(database: Database, state: str, run_id: int = 1, key: str = "a", now: float = 10.0, **options: Any) -> bool:
    found: bool = database(outbox.want, STATUS, key, run_id, {"state": state}, now, **options)
    return found


def due(database: Database, now: float = 10.0) -> Row | None:
    found: Row | None = database(outbox.next_row, KINDS, now)
    return found


def test_a_row_is_there_until_its_newest_version_was_sent(database: Database) -> None:
    assert want(database, "pending")
    assert not want(database, "pending"), "the same is nothing new"
    first = due(database)
    assert first
    assert (first.wanted, first.version) == ({"state": "pending"}, 1)
    assert want(database, "success"), "while the first is being sent"
    database(outbox.sent, first, "")
    second = due(database)
    assert second
    assert (second.wanted, second.version) == ({"state": "success"}, 2)
    database(outbox.sent, second, "4711")
    assert due(database) is None
    assert database(outbox.next_time, KINDS) is None
    assert want(database, "pending")
    again = due(database)
    assert again
    assert again.remote_id == "4711"


def test_the_newest_run_has_the_say_in_a_comment(database: Database) -> None:
    def want(database: Database, state: str, run_id: int) -> bool:
        return bool(database(outbox.want, COMMENT, "a", run_id, {"state": state}, 10.0))

    assert want(database, "pending", run_id=2)
    assert not want(database, "success", run_id=1)
    row = due(database)
    assert row
    assert (row.run_id, row.wanted) == (2, {"state": "pending"})
    assert not want(database, "pending", run_id=3), "the same, from a newer run"
    assert not want(database, "failure", run_id=2), "which is not the newest any more"


def test_whose_word_a_status_is_the_reporter_says(database: Database) -> None:
    assert want(database, "pending", run_id=2)
    assert want(database, "success", run_id=1)
    assert want(database, "pending", run_id=2)


def test_a_row_can_be_changed_only_if_it_is_there(database: Database) -> None:
    assert not want(database, "success", make=False)
    assert due(database) is None
    assert want(database, "pending")
    assert want(database, "success", make=False)


def test_the_oldest_comes_first_and_one_that_failed_later(database: Database) -> None:
    run_id = run_with(database)
    for key in ("a", "b"):
        want(database, "pending", run_id, key)
    first = due(database)
    assert first
    assert first.key == "a"
    for _ in range(2):
        database(outbox.failed, first, "GitHub refuses", 500.0, 11.0, note=True)
    second = due(database)
    assert second
    assert second.key == "b"
    assert [line for _, line in database(store.notes, run_id)] == ["GitHub refuses"], "said once"
    database(outbox.sent, second, "")
    assert due(database) is None
    assert database(outbox.next_time, KINDS) == 500.0
    assert want(database, "success", run_id, "a", now=20.0), "a new version is tried soon"
    assert database(outbox.next_time, KINDS) == 25.0
    tried = due(database, 25.0)
    assert tried
    assert (tried.failures, tried.error) == (1, "GitHub refuses")
    database(outbox.sent, tried, "")
    assert database(outbox.next_time, KINDS) is None


def test_a_newer_version_is_not_put_off_with_the_one_before(database: Database) -> None:
    want(database, "pending")
    first = due(database)
    assert first
    want(database, "success", now=11.0)
    database(outbox.failed, first, "GitHub refuses (given up)", 1e12, 12.0, note=False)
    newer = due(database, 12.0)
    assert newer
    assert (newer.version, newer.failures, newer.error) == (2, 0, "")
    database(outbox.failed, newer, "GitHub refuses (given up)", 1e12, 13.0, note=False)
    assert due(database, 1e6) is None


def test_what_waits_longest_comes_first_however_often_older_rows_change(database: Database) -> None:
    """One is sent each second, and one of three older rows changes each second."""
    for key in ("old 0", "old 1", "old 2", "new commit"):
        want(database, "pending", key=key, now=0.0)
    keys = []
    for second in range(6):
        want(database, f"changed {second}", key=f"old {second % 3}", now=float(second))
        row = due(database, float(second))
        assert row
        keys.append(row.key)
        database(outbox.sent, row, "")
    assert keys == ["old 0", "old 1", "old 2", "new commit", "old 0", "old 1"]


def test_rows_of_held_runs_wait_for_all_others(database: Database) -> None:
    """However many a stranger pushes, the first status of a maintainer's commit is the next that is sent."""
    strangers = [arrives(database, pull_request(f"{number:040x}", number=number))[0] or 0 for number in range(1, 21)]
    database(lambda connection: connection.execute(runs.update().values(held="waits")))
    for run_id in strangers:
        for stage in ("build", "test", "summary"):
            want(database, "pending", run_id, f"{run_id} {stage}", now=float(run_id))
    sent = due(database, 100.0)
    assert sent
    assert sent.run_id == strangers[0], "they come through while nobody else wants to"
    database(outbox.sent, sent, "")
    ours, _ = arrives(database, push(B))
    want(database, "pending", ours or 0, "ours", now=100.0)
    row = due(database, 100.0)
    assert row
    assert row.key == "ours"
    database(lambda connection: connection.execute(runs.update().values(held="")))
    approved = due(database, 100.0)
    assert approved
    assert approved.run_id == strangers[0], "once approved, the longest wait counts"


def test_one_context_goes_before_those_that_came_with_it(database: Database) -> None:
    for key in (f"{A} mlc-ci/build", f"{A} mlc-ci/not_summary", f"{A} mlc-ci/summary"):
        want(database, "pending", key=key)
    want(database, "pending", key=f"{B} mlc-ci/summary", now=10.5)
    row = database(outbox.next_row, KINDS, 11.0, "mlc-ci/summary")
    assert row.key == f"{A} mlc-ci/summary"
    database(outbox.sent, row, "")
    assert database(outbox.next_row, KINDS, 11.0, "mlc-ci/summary").key == f"{A} mlc-ci/build"


def test_kinds_can_be_left_out(database: Database) -> None:
    want(database, "pending")
    assert database(outbox.next_row, ["comment"], 10.0) is None
    assert database(outbox.next_time, ["comment"]) is None
    assert database(outbox.next_time, ["status"]) == 10.0


def test_what_was_sent_is_forgotten_some_time_after_its_run(database: Database) -> None:
    ended = [arrives(database, pull_request(A, number=number))[0] or 0 for number in (1, 2, 3)]
    lives = run_with(database)
    for run_id, at in zip(ended, (100.0, 900.0, 100.0), strict=True):
        assert database(store.end_run, run_id, result=State.SUCCESS, reason="", now=at)
    for run_id in (*ended[:2], lives):
        want(database, "success", run_id, f"of {run_id}", now=1.0)
    while row := due(database):
        database(outbox.sent, row, "")
    want(database, "success", ended[2], "not sent", now=1.0)
    master = SimpleNamespace(
        db=SimpleNamespace(pool=Pool(database)), reactor=SimpleNamespace(seconds=lambda: 90 * 86400 + 500.0)
    )
    type("Here", (Deliveries,), {"master": master})()._prune()  # type: ignore[attr-defined]
    kept = database(lambda connection: set(connection.execute(sa.select(table.c.key)).scalars()))
    assert kept == {f"of {ended[1]}", f"of {lives}", "not sent"}


def test_what_waits_is_found_without_reading_what_was_sent(database: Database, engine: sa.Engine) -> None:
    if engine.dialect.name == "postgresql":
        said = {index["name"]: index for index in sa.inspect(engine).get_indexes("outbox")}
        where = said["ix_outbox_not_sent"]["dialect_options"]["postgresql_where"]
        assert where == "(version > sent)", "which it uses once the table is large"
        return
    asked: list[tuple[Any, Any]] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
    due(database)
    database(outbox.next_time, KINDS)
    with engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"explain query plan {query}", values).all() for query, values in asked[:2]]
    for plan in plans:
        assert any("ix_outbox_not_sent" in str(step) for step in plan), plan
        assert not any("SCAN outbox" in str(step) and "INDEX" not in str(step) for step in plan), plan


def test_runs_that_may_be_behind_are_found(database: Database) -> None:
    lives = run_with(database)
    old, recent, told = [arrives(database, pull_request(A, number=number))[0] for number in (1, 2, 3)]
    for run_id, at in ((old, 100.0), (recent, 900.0), (told, 100.0)):
        assert database(store.end_run, run_id, result=State.SUCCESS, reason="", now=at)
    assert database(outbox.unfinished, 500.0) == [lives, recent]
    want(database, "pending", told)
    assert database(outbox.unfinished, 500.0) == [lives, recent, told]
    want(database, "success", told)
    assert database(outbox.unfinished, 500.0) == [lives, recent]


def test_the_error_and_the_failures_end_with_success(database: Database) -> None:
    want(database, "pending")
    row = due(database)
    assert row
    database(outbox.failed, row, "unreachable", 11.0, 10.0, note=False)
    again = due(database, 11.0)
    assert again
    database(outbox.sent, again, "")
    [kept] = database(lambda connection: list(connection.execute(sa.select(table))))
    assert (kept.failures, kept.error, kept.sent) == (0, "", 1)

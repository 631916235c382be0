"""From kept events to runs, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from stored import A, B, Pool, push

from master.database import store
from master.database.tables import inbox as table
from master.inbox import Inbox
from master.settings_models import ThreadsSettings
from master.triggers import InvalidEvent, Rules


@pytest.fixture
def inbox(database: Callable[..., Any]) -> Inbox:
    return Inbox(Pool(database), Rules(), ThreadsSettings(), clock=lambda: 5.0)


def outcomes(engine: sa.Engine) -> list[tuple[str, str]]:
    with engine.begin() as connection:
        rows = connection.execute(sa.select(table.c.state, table.c.outcome).order_by(table.c.id))
        return [(row.state, row.outcome) for row in rows]


def test_events_behind_one_that_cannot_be_read_get_their_runs(
    inbox: Inbox, engine: sa.Engine, database: Callable[..., Any]
) -> None:
    for number, event in enumerate((push(A), push(B))):
        assert asyncio.run(inbox.receive(event, key=str(number), source="webhook"))
    with engine.begin() as connection:
        connection.execute(sa.text("update inbox set event = '{\"kind\": \"merge_group\"}' where key = '0'"))
    assert asyncio.run(inbox.drain()) == [1]
    [refused, opened] = outcomes(engine)
    assert refused == ("refused", "this version cannot read the event: 'merge_group' is not a valid EventKind")
    assert opened == ("run", "run 1")
    assert database(store.run, 1).head == B
    assert asyncio.run(inbox.drain()) == []


def test_what_is_no_event_is_not_kept(inbox: Inbox, engine: sa.Engine) -> None:
    with pytest.raises(InvalidEvent):
        asyncio.run(inbox.receive(replace(push(A), head="main"), key="1", source="webhook"))
    assert outcomes(engine) == []

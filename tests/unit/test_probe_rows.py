"""What each worker said last, kept in the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from recorded import KINDS, said

from master.database import probes
from master.database.probes import Row
from master.database.tables import worker_probes
from master.probe_facts import Unreadable


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_said_comes_back_as_it_was(database: Callable[..., Any], kind: str) -> None:
    row = Row(worker="w", probed_at=1.5, read_at=2.5, said=said(kind))
    database(probes.keep, row)
    assert database(probes.every) == {"w": row}


def test_only_the_last_words_stay(database: Callable[..., Any]) -> None:
    first = Row(worker="w", probed_at=1.0, read_at=2.0, said=said("h100"))
    nothing = replace(first, probed_at=0.0, read_at=9.0, said=Unreadable(reason="says nothing"))
    for row in (first, replace(first, worker="v"), nothing):
        database(probes.keep, row)
    assert database(probes.every) == {"v": replace(first, worker="v"), "w": nothing}
    database(probes.forget_others, {"v"})
    assert list(database(probes.every)) == ["v"]


def test_a_row_of_another_version_is_no_crash(database: Callable[..., Any]) -> None:
    database(probes.keep, Row(worker="w", probed_at=1.0, read_at=2.0, said=said("h100")))

    def spoil(connection: sa.Connection) -> None:
        connection.execute(sa.update(worker_probes).values(facts={"format": 2}))

    database(spoil)
    assert isinstance(database(probes.every)["w"].said, Unreadable)

"""A database with our tables, for the tests of what is kept in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from master.database.engine import engine_kwargs
from master.database.tables import metadata


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url, **engine_kwargs(database_url))
    metadata.create_all(engine)  # test_migrations shows that the migrations make the same
    yield engine
    engine.dispose()


@pytest.fixture
def database(engine: sa.Engine) -> Callable[..., Any]:
    """Calls a function of the store in a transaction of its own."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with engine.begin() as connection:
            return function(connection, *args, **kwargs)

    return call

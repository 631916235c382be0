"""What builds said of themselves when they ended, for whoever tells of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model

from master.database import buildbot_rows, failures
from master.database.failures import Failure


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """A build: where it stands on Buildbot's pages, its properties, and how it failed."""

    builder_id: int
    number: int
    properties: Mapping[str, Any]
    failure: Failure | None


def of_builds(connection: sa.Connection, build_ids: Sequence[int]) -> dict[int, BuildFacts]:
    """By id; a build that the janitor took is left out."""
    b = Model.builds.c
    query = sa.select(b.id, b.builderid, b.number).where(b.id.in_(build_ids))
    return {
        row.id: BuildFacts(
            builder_id=row.builderid,
            number=row.number,
            properties=buildbot_rows.properties(connection, row.id),
            failure=failures.of_build(connection, row.id)[0],
        )
        for row in connection.execute(query)
    }

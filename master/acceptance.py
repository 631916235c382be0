"""Accepting what an attempt left: the uploads of the build whose outcome counts.

A build uploads into a folder of its own (:mod:`master.artifacts`), so nothing ever moves: its files are listed when
the attempt's outcome is accepted, in the same transaction, and what no accepted attempt names is not listed and may
be swept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from master.database import store, uploads
from master.database.records import Artifact
from master.run_model import Slot


def accept(
    connection: sa.Connection, run_id: int, slot: Slot, *, values: Mapping[str, Any], build_id: int | None
) -> bool:
    """Settle an attempt, with the files of that build if there is one; False when it was settled before."""
    files = left_by(connection, build_id) if build_id is not None else ()
    return store.accept(connection, run_id, slot, values=values, files=files)


def left_by(connection: sa.Connection, build_id: int) -> Sequence[Artifact]:
    """What a build left."""
    return uploads.of_build(connection, build_id)

"""What the artifact process does by itself: it forgets unfinished uploads of ended builds, and removes what expired."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
from anyio import to_thread

from master.artifacts import retention
from master.artifacts.doorman import Database
from master.artifacts.intake import Intake
from master.artifacts.retention import Policy, Removable
from master.artifacts.store import Store, StoreBroken
from workers.sizes import size_text

SWEEP_S = 600.0  #: between two looks for unfinished uploads
RETENTION_S = 3600.0  #: between two passes over what was kept


async def keep_house(intake: Intake, store: Store, database: Database, policy: Policy) -> None:
    """Until it is cancelled. What goes wrong is told, and tried again."""
    removed_at = -RETENTION_S
    while True:
        try:
            await intake.sweep()
            if time.monotonic() - removed_at >= RETENTION_S:
                gone = await to_thread.run_sync(retention.remove, database.call, policy, time.time(), store)
                removed_at = time.monotonic()
                if gone:
                    print(told(gone), flush=True)
        except (OSError, StoreBroken, sa.exc.SQLAlchemyError) as error:
            print(f"what is no longer needed could not be removed: {error}", flush=True)
        await asyncio.sleep(SWEEP_S)


def told(gone: Sequence[Removable]) -> str:
    """One line about a pass."""
    reasons = Counter(file.why for file in gone)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"removed {len(gone)} files, {size_text(sum(file.size for file in gone))} freed: {why}"

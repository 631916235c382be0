"""A pass of retention by hand, beside a running master."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from buildbot.db import enginestrategy

from master.artifacts import retention
from master.artifacts.doorman import Database
from master.artifacts.retention import Policy, Removable
from master.artifacts.store import Store, StoreBroken
from master.artifacts.stores import policy_of, store_of
from master.database.engine import engine_kwargs
from master.errors import UserError
from master.places import SECRETS, SETTINGS
from master.settings import load


class CannotSweep(UserError):
    """The master's database or store cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """Of one master's store."""

    database: Database
    store: Store
    policy: Policy

    @classmethod
    def of(cls, basedir: Path) -> Upkeep:
        """The master in this folder.

        Raises:
            UserError: wrong settings, a database that is not prepared, a store that cannot be used.
        """
        if not (basedir / SETTINGS).exists():
            raise CannotSweep(f"there is no master in {basedir}", "say where with --folder")
        settings = load(basedir / SETTINGS)
        url = settings.database_url(basedir / SECRETS)
        engine = enginestrategy.create_engine(url, basedir=str(basedir), **engine_kwargs(url))
        try:
            with engine.connect() as connection:
                prepared = sa.inspect(connection).has_table("release_assets")
            store = store_of(settings, basedir)
        except sa.exc.DBAPIError as error:
            raise CannotSweep(f"the database cannot be used: {error.orig}", "") from None
        except OSError as error:
            raise CannotSweep(f"the artifact store cannot be used: {error}", "run it as the master's user") from None
        if not prepared:
            raise CannotSweep("the database is not of this version", "start the master of this version once")
        return cls(database=Database(engine), store=store, policy=policy_of(settings))

    def rehearse(self, now: float) -> list[Removable]:
        """What a pass would remove."""
        try:
            by_rows: list[Removable] = self.database.call(retention.removable, self.policy, now)
            unknown: list[Removable] = self.database.call(retention.unknown, list(self.store.stored()), now)
        except (OSError, StoreBroken, sa.exc.SQLAlchemyError) as error:
            raise CannotSweep(f"the store cannot be looked at: {error}", "") from None
        return by_rows + unknown

    def sweep(self, now: float) -> list[Removable]:
        """One pass; what it removed."""
        try:
            return retention.remove(self.database.call, self.policy, now, self.store)
        except (OSError, StoreBroken, sa.exc.SQLAlchemyError) as error:
            raise CannotSweep(f"not all could be removed: {error}", "run it as the master's user, or again") from None

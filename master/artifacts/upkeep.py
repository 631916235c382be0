"""A pass of retention by hand, beside a running master."""

from __future__ import annotations

import os
import pwd
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from buildbot.db import enginestrategy

from master.artifacts import announced, retention
from master.artifacts.doorman import Database
from master.artifacts.retention import Policy, Removable
from master.artifacts.store import Store, StoreBroken
from master.artifacts.stores import policy_of, store_of
from master.database.engine import engine_kwargs
from master.durations import format_duration
from master.errors import UserError
from master.places import SECRETS, SETTINGS, Places
from master.settings import load


class CannotSweep(UserError):
    """The master's database or store cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """Of one master's store."""

    database: Database
    store: Store
    policy: Policy
    policy_by: str  #: who says so

    @classmethod
    def of(cls, basedir: Path) -> Self:
        """The master in this folder. Makes nothing that is not there.

        Raises:
            UserError: wrong settings, a database that is not prepared, a store that cannot be used, another's folder.
        """
        if not (basedir / SETTINGS).exists():
            raise CannotSweep(f"there is no master in {basedir}", "say where with --folder")
        _assert_own(basedir)
        settings = load(basedir / SETTINGS)
        url = settings.database_url(basedir / SECRETS)
        start = "start the master of this version once"
        file = sa.engine.make_url(url)
        if file.get_backend_name() == "sqlite" and not (basedir / (file.database or "")).is_file():
            raise CannotSweep(f"there is no database at {basedir / (file.database or '')}", start)
        if settings.artifacts.s3 is None and not (own := Places(basedir=basedir, url="").artifacts).is_dir():
            raise CannotSweep(f"there is no artifact store at {own}", start)
        engine = enginestrategy.create_engine(url, basedir=str(basedir), **engine_kwargs(url))
        try:
            with engine.connect() as connection:
                prepared = sa.inspect(connection).has_table("release_assets")
            if not prepared:
                raise CannotSweep("the database is not of this version", start)
            store = store_of(settings, basedir)
        except sa.exc.DBAPIError as error:
            raise CannotSweep(f"the database cannot be used: {error.orig}", "") from None
        except OSError as error:
            raise CannotSweep(f"the artifact store cannot be used: {error}", "run it as the master's user") from None
        policy, by = policy_of(settings), str(basedir / SETTINGS)
        if told := announced.policy(basedir):  # what the process was started with may override the settings
            policy, by = Policy(**told), "the artifact process"
        return cls(database=Database(engine), store=store, policy=policy, policy_by=by)

    def told_policy(self) -> str:
        """How long artifacts are kept, and who says so."""
        stages = [f"of {stage} {format_duration(keep)}" for stage, keep in sorted(self.policy.keep_of.items())]
        kept = ", ".join([format_duration(self.policy.keep), *stages])
        return f"artifacts are kept for {kept}, says {self.policy_by}"

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


def _assert_own(basedir: Path) -> None:
    """What root makes beside another user's database, that user could not write to."""
    owner = basedir.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        again = shlex.join(["sudo", "-u", name, "mlc-ci", "artifacts", "sweep", "--folder", str(basedir.parent)])
        raise CannotSweep(
            f"{basedir} belongs to the user {name}, and what root leaves there nobody else can use",
            f"run it as that user: {again}",
        )

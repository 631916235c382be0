"""Whom the parts of a site run as: with root's rights each as a user of its own, else all as the caller."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from master.errors import UserError

_NAMES = ("mlc-ci", "mlc-ci-trusted", "mlc-ci-untrusted")  #: of the master and its two kinds of worker
_DYNAMIC_UIDS = range(61184, 65520)  #: what systemd uses for DynamicUser=: free on any machine


class NoWay(UserError):
    """A folder that a user of the site cannot pass through."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A user that a process runs as."""

    name: str
    uid: int
    gid: int

    @property
    def popen_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Owners:
    """The users of a site; ``None`` is the caller."""

    master: Owner | None = None
    trusted: Owner | None = None
    untrusted: Owner | None = None

    @property
    def separate(self) -> bool:
        """Whether trusted and untrusted builds are kept apart by the operating system."""
        return self.trusted is not None and self.trusted != self.untrusted

    def worker(self, trust: str) -> Owner | None:
        return self.trusted if trust == "trusted" else self.untrusted

    def let_through(self, *places: Path) -> None:
        """Check that every user of the site can reach these folders.

        Raises:
            NoWay: one cannot; it names the folder that is closed.
        """
        for owner in filter(None, (self.master, self.trusted, self.untrusted)):
            for place in places:
                for folder in reversed((place, *place.parents)):
                    if not _passable(folder, owner):
                        raise NoWay(
                            f"{folder} is closed to the user {owner.name}, whom a part of the site runs as",
                            f"choose another place, or open it: chmod o+x {folder}",
                        )


def throwaway() -> Owners:
    """Users that need not exist: numbers of their own, for a site that is deleted afterwards. Needs root."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    free = [uid for uid in _DYNAMIC_UIDS if uid not in taken][:3]
    return Owners(*(Owner(name=n, uid=u, gid=u) for n, u in zip(_NAMES, free, strict=True)))


def system_users() -> Owners:
    """System users of the same names, made when they are not there. Needs root."""
    return Owners(
        master=_system_user("mlc-ci"),
        trusted=_system_user("mlc-ci-trusted"),
        untrusted=_system_user("mlc-ci-untrusted"),
    )


def _passable(folder: Path, owner: Owner) -> bool:
    status = folder.stat()
    if status.st_uid == owner.uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == owner.gid else 0o001))


def _system_user(name: str) -> Owner:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        shell = shutil.which("nologin") or "/usr/sbin/nologin"
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", shell, name], check=True)
        entry = pwd.getpwnam(name)
    return Owner(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def owners(*, lasting: bool) -> Owners:
    """Users of their own where root may give them; else the caller for everything."""
    if os.geteuid() != 0:
        return Owners()
    return system_users() if lasting else throwaway()

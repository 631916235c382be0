"""Finds events where no webhook can reach the master: asks the repository where its refs point.

What the refs pointed at is kept in the same transaction as the events found, so a master killed in between
neither loses nor repeats one. The first look at a repository takes it as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from buildbot.changes.base import ReconfigurablePollingChangeSource
from buildbot.util.twisted import async_to_deferred
from twisted.internet.threads import deferToThread
from twisted.python import log

from master import triggers
from master.database import store
from master.database.tables import polled_refs
from master.repository import Repository, RepositoryUnreachable
from master.scheduler import NAME
from master.triggers import Event, Ignored, InvalidEvent, Rules

_LONGEST_IN_KEY = 120  # of the 255 characters that a key may have
_MOST_TROUBLES = 3  #: so often is GitHub asked in one look without an answer
#: Completes a pull request's event, or says why it is none; ``None``: not yet. It blocks.
Complete = Callable[[Event], Event | Ignored | None]
_LOOKED = ""  #: stands among the refs once a repository has been looked at, so that an empty one counts too


def moved(known: Mapping[str, str], found: Mapping[str, str], rules: Rules) -> list[Event]:
    """The events between two looks at a repository's refs, branches first. Pure.

    ``known`` has every ref that was there, whatever the rules said of it: rules that become wider ask for no run of
    what was there before.
    """
    if _LOOKED not in known:
        return []
    changed = [(ref, head) for ref, head in sorted(found.items()) if known.get(ref) != head]
    events = [triggers.from_ref(ref, head, before=known.get(ref, "")) for ref, head in changed if followed(ref, head)]
    return [event for event in events if not isinstance(triggers.classify(event, rules), Ignored)]


def followed(ref: str, head: str) -> bool:
    """Whether a ref is one that can ask for a run under some rules. One that no event can name (a too long one, say)
    cannot."""
    if not ref.startswith(("refs/heads/", "refs/tags/")) and not re.fullmatch(r"refs/pull/\d+/head", ref):
        return False
    try:
        triggers.classify(triggers.from_ref(ref, head), Rules())
    except InvalidEvent:
        return False
    return True


@dataclass(kw_only=True)
class Look:
    """What one look at the refs came to: what to keep of them, and the events between."""

    found: dict[str, str]
    events: list[Event] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def put_off(self, ref: str, before: str) -> None:
        """Take a ref for unmoved, so that the next look finds its event again."""
        if before:
            self.found[ref] = before
        else:
            self.found.pop(ref, None)


class RefPoller(ReconfigurablePollingChangeSource):
    """Looks at a repository's refs every ``pollInterval`` seconds.

    ``complete`` asks GitHub about a pull request, so that it is the same event as a webhook's; without, its author's
    association is not known.
    """

    compare_attrs = ("repository", "rules", "pollInterval", "complete")

    def __init__(self, **kwargs: Any) -> None:
        self.trouble = ""
        super().__init__(name="refs", **kwargs)

    def checkConfig(self, *, repository: str, rules: Rules, pollInterval: float, complete: Complete | None) -> None:
        super().checkConfig(name="refs", pollInterval=pollInterval, pollAtLaunch=True)

    @async_to_deferred
    async def reconfigService(
        self, *, repository: str, rules: Rules, pollInterval: float, complete: Complete | None
    ) -> None:
        self.repository = Repository(repository, Path(self.master.basedir) / "repository.git", self.master.reactor)
        self.rules = rules
        self.complete = complete
        await super().reconfigService(name="refs", pollInterval=pollInterval, pollAtLaunch=True)

    def describe(self) -> str:
        return f"refs of {self.repository.url}"

    @async_to_deferred
    async def poll(self) -> None:
        """Buildbot's hook: one look."""
        try:
            troubles = await self._look()
        except RepositoryUnreachable as error:
            self._tell(f"the repository cannot be asked for its refs: {error}")
        except Exception as error:
            log.err(None, "while looking at the repository's refs; trying again")
            self._tell(f"no event is found: {type(error).__name__} while looking at the refs; twistd.log says more")
        else:
            self._tell("; ".join(troubles))

    async def _look(self) -> list[str]:
        """Look once, and say what could not be found out."""
        refs = await self.repository.refs()
        known: dict[str, str] = await self.master.db.pool.do(_known, self.repository.url)
        look = Look(found={**{ref: head for ref, head in refs.items() if followed(ref, head)}, _LOOKED: ""})
        complete, incomplete = self.complete, []
        for event in moved(known, look.found, self.rules):
            if event.pull_request and complete:
                incomplete.append(event)
                look.put_off(event.ref, known.get(event.ref, ""))
            else:
                look.events.append(await self._told(event, look.found))
        if known != look.found:
            await self._kept(look)
        for event in incomplete:  # after what needs no answer was kept: GitHub may take its time
            if complete and await self._completed(look, event, complete):
                await self._kept(look)
        return look.troubles

    async def _kept(self, look: Look) -> None:
        """Keep what was found so far, and have the scheduler read it."""
        now = self.master.reactor.seconds()
        await self.master.db.pool.do_with_transaction(_keep, self.repository.url, look.found, look.events, now)
        scheduler = self.master.scheduler_manager.namedServices.get(NAME)
        if look.events and scheduler is not None:
            scheduler.look_at()
        look.events = []

    def _tell(self, trouble: str) -> None:
        """Say why no event comes in, on the page, and in the log once."""
        if trouble and trouble != self.trouble:
            log.msg(trouble)
        self.trouble = trouble
        if scheduler := self.master.scheduler_manager.namedServices.get(NAME):
            scheduler.trouble = trouble

    async def _completed(self, look: Look, event: Event, complete: Complete) -> bool:
        """Add a pull request's event as GitHub tells it. One that GitHub does not tell about now is found again by the
        next look: False."""
        told: Event | Ignored | None = None
        if len(look.troubles) < _MOST_TROUBLES:
            try:
                told = await deferToThread(complete, event)
            except Exception as error:
                look.troubles.append(f"{event.ref} waits for GitHub: {error}")
        if told is None:
            return False
        if isinstance(told, Event):
            look.events.append(told if told.base else await self._told(told, look.found))
        look.found[event.ref] = event.head
        return True

    async def _told(self, event: Event, found: Mapping[str, str]) -> Event:
        """The event with what the commit is about, and a pull request's base pinned to the default branch."""
        base_ref = self.rules.default_ref if event.pull_request else ""
        base = found.get(base_ref, "") if base_ref else ""
        details = await self.repository.describe(event.ref, event.head, base or event.before, base_ref)
        return replace(event, base=base, message=details.message, author=details.author, changed_files=details.files)


def _known(connection: sa.Connection, repository: str) -> dict[str, str]:
    query = sa.select(polled_refs.c.ref, polled_refs.c.head).where(polled_refs.c.repository == repository)
    return {row.ref: row.head for row in connection.execute(query)}


def _keep(
    connection: sa.Connection, repository: str, found: Mapping[str, str], events: list[Event], now: float
) -> None:
    known = _known(connection, repository)
    changed = {ref for ref in known.keys() | found.keys() if known.get(ref) != found.get(ref)}
    ours = polled_refs.c.repository == repository
    for ref in changed & known.keys():
        connection.execute(polled_refs.delete().where(ours, polled_refs.c.ref == ref))
    rows = [{"repository": repository, "ref": ref, "head": found[ref]} for ref in sorted(changed & found.keys())]
    if rows:
        connection.execute(polled_refs.insert(), rows)
    for event in events:
        store.receive(connection, key=_key(event, now), source="poller", event=event, now=now)


def _key(event: Event, now: float) -> str:
    """The look is part of it: a ref may come back to where it was."""
    ref = event.ref if len(event.ref) <= _LONGEST_IN_KEY else hashlib.sha256(event.ref.encode()).hexdigest()
    return f"poll:{ref}:{event.before[:12]}..{event.head}:{now:.3f}"

"""What a delivery does: each of these may be begun again after a kill, and takes effect once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from twisted.internet.threads import deferToThread
from twisted.python import log

from master import triggers
from master.database import approvals, deliveries
from master.database.deliveries import Delivery
from master.database.records import RunRow
from master.github import questions
from master.github.access import Access
from master.github.commands import MAY, perform
from master.github.failures import GitHubRefused, GitHubUnavailable
from master.github.payloads import Closed, Dispatched, Meaning, Meaningless, Ordered, Proposed, Pushed
from master.pipeline import EventKind
from master.repetition import Refused
from master.repository import Repository, UnknownRef, resolve
from master.scheduler import NAME, rules_of
from master.settings import Settings
from master.triggers import Event, Ignored, InvalidEvent

T = TypeVar("T")

CLOSED = "the pull request was closed"
_PATIENCE_S = 300.0  #: so long does a pull request wait for GitHub to name its files
_AWAY_S = 5.0  #: so long at least is a GitHub that did not answer left alone; longer, where it names a time …
_AWAY_FOR = 3  #: … or has held up the question, by so many times as long


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a delivery. ``happened_at``: by GitHub's clock, where that decides about others."""

    state: Literal["done", "ignored", "refused"]
    text: str
    happened_at: float = 0.0


class Later(Exception):
    """Not yet; ``pause`` is in seconds, ``counts`` says whether it is a failure. It is tried again ``within`` so many
    seconds, however long the pause."""

    def __init__(self, why: str, *, pause: float = 0.0, counts: bool = False, within: float = math.inf) -> None:
        super().__init__(why)
        self.pause = pause
        self.counts = counts
        self.within = within


class Effects:
    """Carries out what deliveries mean, on one master, under one configuration."""

    def __init__(self, master: Any, settings: Settings, access: Access | None) -> None:
        self.master = master
        self.settings = settings
        self.rules = rules_of(settings)
        self.reads_changes = settings.pipeline().reads_changes
        self.access = access
        self._away = ("", 0.0)  # why GitHub is not asked just now, and until when

    async def of(self, row: Delivery, wanted: Meaning) -> Outcome:
        """Do what a delivery means.

        Raises:
            Later, GitHubUnavailable, RepositoryUnreachable: not now.
            InvalidEvent, Refused, GitHubRefused: not like this.
        """
        match wanted:
            case Meaningless():
                return Outcome(state="ignored", text=wanted.reason)
            case Pushed():
                return await self._receive(row, wanted.event)
            case Proposed():
                return await self._proposed(row, wanted)
            case Closed():
                return await self._closed(wanted)
            case Ordered():
                return await self._ordered(wanted)
            case Dispatched():
                return await self._receive(row, await self._resolved(wanted))

    async def _receive(self, row: Delivery, event: Event, at: float = 0.0) -> Outcome:
        request = triggers.classify(event, self.rules)
        if isinstance(request, Ignored):
            return Outcome(state="ignored", text=request.reason)
        await self._scheduler.receive(event, key=_key(row), source="github")
        return Outcome(state="done", text=request.key, happened_at=at)

    # -- pull requests

    async def _proposed(self, row: Delivery, wanted: Proposed) -> Outcome:
        if late := await self._late(wanted):
            return late
        event, asked_for = wanted.event, triggers.classify(wanted.event, self.rules)
        if isinstance(asked_for, Ignored):
            return Outcome(state="ignored", text=asked_for.reason)
        outcome = Outcome(state="done", text=asked_for.key, happened_at=wanted.at)
        if not await self.master.db.pool.do(deliveries.received, _key(row)):  # else it waits for what comes after
            told = await self._told(row, wanted) if self.access else event
            if isinstance(told, Ignored):
                return Outcome(state="ignored", text=told.reason)
            if wanted.reopened and (again := await self._reopened(event)):
                return replace(again, happened_at=wanted.at)
            outcome = await self._receive(row, told, wanted.at)
        if self.settings.project.poll_interval and not asked_for.context.held:
            await self._vouch(row, event)
        return outcome

    async def _vouch(self, row: Delivery, event: Event) -> None:
        """Let the event's run go on where the poller told of it first, and knew nothing of the author."""
        pool = self.master.db.pool
        if not await pool.do(deliveries.read_by_now, _key(row)):
            raise Later("its event is still to become a run")
        run = await self._newest_run(event.pull_request)
        if run is None or run.head != event.head or not run.held or not _live(run):
            return
        with contextlib.suppress(Refused):  # it went on, or ended, in between
            await self._scheduler.approve(run.id, run.head, f"GitHub: {event.author} is {event.association} here")

    async def _late(self, wanted: Proposed | Closed) -> Outcome | None:
        """GitHub delivers out of order, and again: what is older than something that took effect changes nothing."""
        newer = await self.master.db.pool.do(deliveries.newer, wanted.subject, wanted.at)
        return Outcome(state="ignored", text=f"came late: delivery {newer} told of something newer") if newer else None

    async def _told(self, row: Delivery, wanted: Proposed) -> Event | Ignored:
        """The event with what GitHub says of it; without, when GitHub will not say, or not in time."""
        try:
            return await self._ask(questions.proposed, wanted.event, wanted.at, self.rules, self.reads_changes)
        except GitHubRefused as error:
            log.msg(f"delivery {row.delivery}: the files of {wanted.subject} are not known: {error}")
        except GitHubUnavailable as error:
            if left := self._patience(row):
                raise Later(str(error), pause=error.retry_after or 0.0, counts=True, within=left) from None
        except Later as later:
            if left := self._patience(row):
                raise Later(str(later), pause=later.pause, within=left) from None
        return wanted.event

    def _patience(self, row: Delivery) -> float:
        return max(0.0, row.received_at + _PATIENCE_S - float(self.master.reactor.seconds()))

    async def _reopened(self, event: Event) -> Outcome | None:
        """Run again what was cancelled because the pull request was closed, if its commit is still the same."""
        await self._nothing_unread(event.pull_request)
        run = await self._newest_run(event.pull_request)
        if run is None or run.head != event.head or run.cancelled != CLOSED:
            return None
        if run.ended_at is None:
            raise Later(f"run {run.id} is still being cancelled")
        try:
            await self._scheduler.repeat(run.id, because="the pull request was reopened")
        except Refused as refused:
            return Outcome(state="done", text=f"run {run.id} stays as it is: {refused}")
        return Outcome(state="done", text=f"run {run.id} runs again")

    async def _closed(self, wanted: Closed) -> Outcome:
        if late := await self._late(wanted):
            return late
        await self._nothing_unread(wanted.number)
        runs: list[RunRow] = await self.master.db.pool.do(approvals.runs_of_pull, wanted.number)
        live = sorted(run.id for run in runs if _live(run))
        for run_id in live:
            await self._scheduler.cancel(run_id, CLOSED)
        text = f"cancelled run {', '.join(map(str, live))}" if live else "no run of the pull request was live"
        return Outcome(state="done", text=text, happened_at=wanted.at)

    async def _ordered(self, wanted: Ordered) -> Outcome:
        if self.access is None:
            raise Refused('who may order is asked of GitHub, and [github] access is "none"; the page has buttons')
        command = wanted.command
        await self._nothing_unread(command.pull)
        permission = await self._ask(questions.permission, command.by)
        head = wanted.head
        if command.needs_head and not head and permission in MAY:  # a stranger's order is to cost no more questions
            head = (await self._ask(questions.pull, command.pull)).head
        return Outcome(state="done", text=await perform(command, self._scheduler, permission=permission, head=head))

    async def _newest_run(self, number: int) -> RunRow | None:
        runs: list[RunRow] = await self.master.db.pool.do(approvals.runs_of_pull, number)
        return runs[0] if runs else None

    async def _nothing_unread(self, number: int) -> None:
        if await self.master.db.pool.do(deliveries.unread_of_pull, number):
            raise Later(f"an event of pull request {number} is still to become a run")

    # -- manual runs

    async def _resolved(self, wanted: Dispatched) -> Event:
        repository = Repository(
            self.settings.project.repository, Path(self.master.basedir) / "repository.git", self.master.reactor
        )
        try:
            ref, head = resolve(await repository.refs(), wanted.ref)
        except UnknownRef as error:
            raise InvalidEvent(f"client_payload.ref: {error}") from None
        details = await repository.describe(ref, head)
        return Event(
            kind=EventKind.MANUAL,
            ref=ref,
            head=head,
            message=details.message,
            author=details.author,
            stages=wanted.stages,
            threads=wanted.threads,
            publish=wanted.publish,
            reason=f"by {wanted.by} on GitHub" + (f": {wanted.reason}" if wanted.reason else ""),
        )

    # -- who is asked

    @property
    def _scheduler(self) -> Any:
        return self.master.scheduler_manager.namedServices[NAME]

    async def _ask(self, question: Callable[..., T], *arguments: object) -> T:
        """Ask GitHub in a thread; not while it is away: one that hangs would hold up all that needs no answer."""
        why, until = self._away
        clock = self.master.reactor.seconds
        if clock() < until:
            raise Later(why, pause=until - clock())
        asked = clock()
        try:
            answer: T = await deferToThread(question, self.access, *arguments)
        except GitHubUnavailable as error:
            pause = max(error.retry_after or 0.0, _AWAY_S, _AWAY_FOR * (clock() - asked))
            self._away = (str(error), clock() + pause)
            raise
        return answer


def _key(row: Delivery) -> str:
    """Of the delivery's event in the inbox."""
    return f"github:{row.delivery}"


def _live(run: RunRow) -> bool:
    return run.ended_at is None and not run.cancelled

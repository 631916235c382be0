"""The service that tells GitHub: what runs come to is written into the outbox, and the outbox is sent.

Two loops that do not wait for each other. *Reporting* hears of each run that was carried forward and writes what is
wanted of it; *posting* sends, one request at a time and what waits longest first, the newest version of each row until
GitHub has accepted it. A master killed in between sends the same again, which changes nothing at GitHub. Where several
masters share a database, the one whose scheduler is active does this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from buildbot.util.service import BuildbotService
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.internet.threads import deferToThreadPool
from twisted.python import log

from master.calls import Calls
from master.database import outbox
from master.github.access import Access
from master.github.failures import AccessRefused, GitHubError, GitHubRefused, GitHubUnavailable
from master.github.pace import NEVER, Pace
from master.github.reporter import Reporter
from master.github.sending import Sender
from master.github.statuses import SUMMARY
from master.scheduler import NAME as SCHEDULER
from master.settings import Settings

_LOOK_S = 30.0  #: how often the service looks around, whatever it heard
_SOON_S = 0.2
_RETRY_S = 5.0


class Poster(BuildbotService):
    """Tells GitHub of runs.

    Args:
        settings: all of them.
        access: how GitHub is told.
        page: the address of the master's page, with its slash.
    """

    name = "github"
    reporter: Reporter
    sender: Sender
    kinds: list[str]  #: of rows that are sent

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=self.name, **kwargs)
        self._calls = Calls()
        self._scheduler: Any = None
        self._dirty: dict[int, None] = {}  # runs to report, in the order they were heard of
        self._caught_up = False
        self._busy: set[str] = set()  # loops that are under way
        self._wanted: set[str] = set()  # loops that are to run once more
        self._running = False

    @cached_property
    def pace(self) -> Pace:
        """One for the service's life: what GitHub has said of when holds whatever the settings say now."""
        return Pace(self.master.reactor.seconds)

    @async_to_deferred
    async def reconfigService(self, *, settings: Settings, access: Access, page: str) -> None:
        github = settings.github
        self.reporter = Reporter(
            pipeline=settings.pipeline(),
            page=page,
            statuses=github is not None and github.statuses,
            comment=github is not None and github.comment,
        )
        self.sender = Sender(access)
        wanted = {outbox.STATUS: self.reporter.statuses, outbox.COMMENT: self.reporter.comment}
        self.kinds = [kind for kind, on in wanted.items() if on]
        self._caught_up, self._running = False, True
        self._call("look", 0, self._look)

    def stopService(self) -> defer.Deferred[None]:
        """What is being sent ends in its thread, and is sent again by whoever comes next."""
        self._running = False
        self._calls.call_all_off()
        if self._scheduler is not None and self.heard in self._scheduler.carried:
            self._scheduler.carried.remove(self.heard)
        self._scheduler = None
        stopped: defer.Deferred[None] = super().stopService()
        return stopped

    def heard(self, run_id: int) -> None:
        """A run was carried forward."""
        self._dirty[run_id] = None
        self._begin("report", self._report)

    def _look(self) -> None:
        """Find the scheduler, and on its activation the runs that a master left behind."""
        found = self.master.scheduler_manager.namedServices.get(SCHEDULER)
        if found is not None and found is not self._scheduler:
            self._scheduler = found
            found.carried.append(self.heard)
        if not self._active:
            self._caught_up = False
        self._call("look", _LOOK_S if self._active else _SOON_S, self._look)
        self._begin("report", self._report)

    @property
    def _active(self) -> bool:
        return self._running and self._scheduler is not None and bool(self._scheduler.active)

    # -- reporting

    @async_to_deferred
    async def _report(self) -> None:
        pool, clock = self.master.db.pool, self.master.reactor.seconds
        try:
            if not self._caught_up:
                self._dirty |= dict.fromkeys(await pool.do(self.reporter.behind, clock()))
                self._caught_up = True
            while self._dirty and self._active:
                run_id = next(iter(self._dirty))
                del self._dirty[run_id]
                try:
                    await pool.do_with_transaction(self.reporter.report, run_id, clock())
                except Exception:
                    self._dirty[run_id] = None
                    raise
        except Exception:
            log.err(None, "while noting what GitHub is to show; trying again")
            self._call("report", _RETRY_S, self._begin, "report", self._report)
        self._begin("post", self._post)

    # -- posting

    @async_to_deferred
    async def _post(self) -> None:
        try:
            delay = await self._post_all()
        except Exception:
            log.err(None, "while telling GitHub; trying again")
            delay = _RETRY_S
        if delay is not None:
            self._call("post", delay, self._begin, "post", self._post)

    async def _post_all(self) -> float | None:
        """Send what may be sent; seconds until there may be more, ``None`` for when something is heard."""
        pool = self.master.db.pool
        while self._active and self.kinds:
            kinds = self.kinds
            wait: float = self.pace.wait()
            if wait:
                return wait
            now: float = self.master.reactor.seconds()
            row = await pool.do(outbox.next_row, self.pace.open(kinds), now, SUMMARY)
            if row is None:
                following: float | None = await pool.do(outbox.next_time, kinds)
                if following is None:
                    return None
                return max(following - now, self.pace.wait_for(kinds), _SOON_S)
            await self._try(row)
        return None

    async def _try(self, row: outbox.Row) -> None:
        reactor, pool = self.master.reactor, self.master.db.pool
        self.pace.take()
        try:
            remote_id = await deferToThreadPool(reactor, reactor.getThreadPool(), self.sender.send, row)
        except GitHubUnavailable as error:
            await self._put_off(row, error, self.pace.unavailable(error.retry_after, row.failures))
        except AccessRefused as error:
            await self._put_off(row, error, self.pace.no_access(row.kind, row.failures))
        except GitHubRefused as error:
            await self._put_off(row, error, self.pace.refused(row.failures))
        except Exception as error:  # an answer that nobody foresaw: the other rows are to have their turn all the same
            log.err(error, f"while telling GitHub of {row.key}")
            await self._put_off(row, error, self.pace.refused(row.failures))
        else:
            self.pace.succeeded(row.kind)
            if self._running:
                await pool.do_with_transaction(outbox.sent, row, remote_id)

    async def _put_off(self, row: outbox.Row, error: Exception, until: float) -> None:
        name = type(error).__name__
        said = str(error) if isinstance(error, GitHubError) else f"{name} at what it answered: twistd.log says more"
        said += " (given up)" if until == NEVER else ""
        log.msg(f"GitHub was not told of {row.key}: {said}")
        if self._running:
            note = isinstance(error, GitHubRefused)  # an outage passes: it is not the run's matter
            now = self.master.reactor.seconds()
            await self.master.db.pool.do_with_transaction(outbox.failed, row, said, until, now, note=note)

    # -- machinery

    def _call(self, purpose: str, delay: float, function: Callable[..., object], *args: object) -> None:
        if self._running:
            self._calls.call(self.master.reactor, purpose, delay, function, *args)

    def _begin(self, purpose: str, loop: Callable[[], defer.Deferred[None]]) -> None:
        """Have a loop run once more, at once or when it is through."""
        if not self._active:
            return
        self._wanted.add(purpose)
        if purpose not in self._busy:
            self._busy.add(purpose)
            self._rounds(purpose, loop)

    @async_to_deferred
    async def _rounds(self, purpose: str, loop: Callable[[], defer.Deferred[None]]) -> None:
        try:
            while purpose in self._wanted and self._active:
                self._wanted.discard(purpose)
                await loop()
        finally:
            self._busy.discard(purpose)

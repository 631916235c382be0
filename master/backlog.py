"""What there is to do, in which order, one thing at a time; and the wishes that people have about runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log

from master.calls import Calls
from master.database import approvals, buildbot_rows, store
from master.inbox import Inbox
from master.reconcile import Reconciler
from master.repeat import repeat_run
from master.repetition import Refused
from master.run_model import Slot
from master.triggers import Event

RETRY_S = 5.0  #: pause after something unexpected went wrong, before the same is tried again


class Backlog:
    """The runs that wait to be carried forward, and the events that wait to be read.

    Nothing is remembered here that the tables do not hold. Part of the scheduler, which is Buildbot's service.
    """

    master: Any
    builderNames: list[str]
    inbox: Inbox
    reconciler: Reconciler

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.carried: list[Callable[[int], None]] = []  #: told of each run that was carried forward, by its id
        self._unread = False  # whether there may be something in the inbox
        self._dirty: dict[int, None] = {}  # run ids, in the order they were heard of
        self._swept: dict[int, None] = {}  # run ids of which nothing was heard; looked at after the others
        self._work: defer.Deferred[None] | None = None
        self._lock = defer.DeferredLock()  # one thing at once: a run carried forward, a wish, a new configuration
        self._calls = Calls()
        self._carrying = False

    def look_at(self, *run_ids: int) -> None:
        """Carry these runs forward, soon, after reading the inbox; without any, read the inbox."""
        self._dirty.update(dict.fromkeys(run_ids))
        self._unread = self._unread or not run_ids
        self._begin()

    def _begin(self) -> None:
        if self._carrying and self._work is None and self._next():
            self._work = self._work_off()
            self._work.addErrback(lambda why: log.err(why, "while carrying runs forward")).addBoth(self._rest)

    def _rest(self, _result: object) -> None:
        self._work = None
        self._begin()

    def _next(self) -> bool:
        return bool(self._unread or self._dirty or self._swept)

    @async_to_deferred
    async def _work_off(self) -> None:
        while self._carrying and self._next():
            if self._unread:  # asked before every run: an event must not wait for all that there is to do
                self._unread = False
                await self._lock.run(self._read_inbox)
                continue
            run_id = next(iter(self._dirty or self._swept))
            self._dirty.pop(run_id, None)
            self._swept.pop(run_id, None)
            await self._lock.run(self._carry, run_id)

    @async_to_deferred
    async def _read_inbox(self) -> None:
        try:
            self._put_first(await self.inbox.drain())
        except Exception:
            log.err(None, "while reading the inbox; trying again")
            self._call("inbox", RETRY_S, self.look_at)

    def _put_first(self, run_ids: Iterable[int]) -> None:
        self._dirty = dict.fromkeys(run_ids) | self._dirty

    @async_to_deferred
    async def _carry(self, run_id: int) -> None:
        try:
            deadline = await self.reconciler.run(run_id)
        except Exception:
            log.err(None, f"while carrying run {run_id} forward; trying again")
            deadline = self.master.reactor.seconds() + RETRY_S
        if deadline is None:
            self._calls.call_off(f"run {run_id}")
        else:
            self._call(f"run {run_id}", max(0.0, deadline - self.master.reactor.seconds()), self.look_at, run_id)
        for tell in self.carried:
            try:
                tell(run_id)
            except Exception:
                log.err(None, f"while telling that run {run_id} was carried forward")

    def _call(self, purpose: str, delay: float, function: Callable[..., object], *args: object) -> None:
        self._calls.call(self.master.reactor, purpose, delay, function, *args)

    # -- wishes

    async def receive(self, event: Event, *, key: str, source: str) -> bool:
        """Keep an event and act on it; once this returns, it is safe. False when it was known already.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        kept = await self.inbox.receive(event, key=key, source=source)
        self.look_at()
        return kept

    async def dispatch(self, event: Event, *, key: str) -> None:
        """Keep a manual event, and take its run as far as it goes now, before all else that there is to do.

        What fails once it is kept is tried again later, and is no failure of the dispatch.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        await self.inbox.receive(event, key=key, source="manual")
        if not self._carrying:
            return
        try:
            await self._lock.run(self._open, key)
        except Exception:
            log.err(None, f"event {key} is kept, and its run could not be made at once; trying again")
            self._call("inbox", RETRY_S, self.look_at)

    @async_to_deferred
    async def _open(self, key: str) -> None:
        pool = self.master.db.pool
        for inbox_id, told, event in await pool.do(store.unread):
            if told == key:
                self._put_first(await self.inbox.open(inbox_id, key, event))
        run_id = await pool.do(store.run_of_event, key)
        if run_id is not None:
            self._dirty.pop(run_id, None)
            await self._carry(run_id)
        self._begin()

    async def cancel(self, run_id: int, reason: str) -> bool:
        """End a run that is no longer wanted; False when it has ended."""
        cancelled: bool = await self.master.db.pool.do_with_transaction(store.cancel_run, run_id, reason)
        self.look_at(run_id)
        return cancelled

    async def approve(self, run_id: int, head: str, by: str) -> None:
        """Let a held run go on: that run, for that commit.

        Raises:
            Refused: see :func:`master.database.approvals.approve_run`.
        """
        now = self.master.reactor.seconds()
        refusal: str = await self.master.db.pool.do_with_transaction(approvals.approve_run, run_id, head, by, now)
        if refusal:
            raise Refused(refusal)
        self.look_at(run_id)

    async def repeat(self, run_id: int, stage: str = "", *, because: str) -> list[Slot]:
        """Run again what did not end well, or one stage; the new attempts.

        Raises:
            Refused: see :func:`master.repetition.repetition`.
        """
        repeat = async_to_deferred(repeat_run)
        now = self.master.reactor.seconds()
        pool, pipeline = self.master.db.pool, self.reconciler.pipeline
        slots: list[Slot] = await self._lock.run(repeat, pool, pipeline, run_id, stage, because=because, now=now)
        self.look_at(run_id)
        return slots

    async def strays(self) -> list[tuple[int, str]]:
        """Open requests that nobody planned: id, external id."""
        found: list[tuple[int, str]] = await self._lock.run(
            self.master.db.pool.do, buildbot_rows.strays, self.builderNames
        )
        return found

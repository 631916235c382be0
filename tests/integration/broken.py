"""Schedulers that are wrong on purpose, each by one wrapped or replaced method: the judge must notice them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from twisted.internet import defer

from master import acceptance
from master.boards import Taken
from master.database import deliveries, store
from master.database.tables import uploads
from master.gate import Gate
from master.github.deliveries import Deliveries
from master.handover import Handover
from master.inbox import Inbox
from master.leases import Ledger
from master.outcome import Outcome, RequestFacts
from master.pipeline import State
from master.reconcile import Reconciler
from master.releases import FolderTarget
from master.run_model import Withdraw


def _forgets_to_adopt() -> None:
    Handover.queue = Handover.add_buildset  # type: ignore[method-assign]


def _trusts_the_request() -> None:
    """A finished build counts only once its request is complete, as Buildbot's own recovery has it."""
    decisive = RequestFacts.decisive.fget
    assert decisive
    RequestFacts.decisive = property(lambda self: decisive(self) if self.complete else None)  # type: ignore[assignment]


def _drops_the_inbox() -> None:
    drain = Inbox.drain
    fresh = iter([True])

    async def dropping(self: Inbox) -> list[int]:
        if next(fresh, False):
            for inbox_id, _key, _event in await self.database.do(store.unread):
                await self.database.do_with_transaction(store.dismiss, inbox_id, "ignored", "dropped at start")
        return await drain(self)

    Inbox.drain = dropping  # type: ignore[method-assign]


def _settles_without_artifacts() -> None:
    acceptance.left_by = lambda _connection, _build_id: ()


def _lists_what_it_does_not_have() -> None:
    """What any build has uploaded."""
    left_by = acceptance.left_by

    def of_all(connection: Any, _build_id: int) -> list[Any]:
        builds = connection.execute(sa.select(uploads.c.build_id).distinct()).scalars().all()
        return [file for build_id in builds for file in left_by(connection, build_id)]

    acceptance.left_by = of_all


def _ignores_cancelled() -> None:
    do = Reconciler.do

    async def ignoring(self: Reconciler, run: Any, decided: Any, attempts: Any) -> bool:
        return False if isinstance(decided, Withdraw) else await do(self, run, decided, attempts)

    Reconciler.do = ignoring  # type: ignore[method-assign]


def _opens_the_gate() -> None:
    Gate.can_start = lambda *_: True  # type: ignore[method-assign]
    Gate.startable = lambda *_: _Everything([0])  # type: ignore[method-assign]


class _Everything(set[int]):
    def __contains__(self, _request: object) -> bool:
        return True


def _publishes_again() -> None:
    publish = FolderTarget.publish

    def again(self: FolderTarget, release: Any, stop: Any) -> str:
        shutil.rmtree(self.folder / release.tag, ignore_errors=True)
        return publish(self, release, stop)

    FolderTarget.publish = again  # type: ignore[method-assign]


def _forgets_live_runs() -> None:
    store.live_runs = lambda _connection: []


def _tries_again_what_a_kill_interrupted() -> None:
    """Every build that was lost with the master makes a new attempt, as if it had failed."""

    async def counts(self: Reconciler, run: Any, attempt: Any, _stage: Any, _builds: Any) -> bool:
        return await self.settle(run, attempt, Outcome(state=State.INFRASTRUCTURE, reason="the master died"))

    Reconciler.count_lost = counts  # type: ignore[method-assign]


def _answers_before_it_keeps() -> None:
    """GitHub has its 2xx, and what it delivered is in memory."""
    keep = Deliveries.keep

    async def promise(self: Deliveries, **what: Any) -> bool:
        self.master.reactor.callLater(1.0, lambda: defer.ensureDeferred(keep(self, **what)))
        return True

    Deliveries.keep = promise  # type: ignore[method-assign]


def _believes_what_comes_late() -> None:
    deliveries.newer = lambda *_arguments: ""


def _gives_every_board_to_everybody() -> None:
    Taken.has_room = lambda _self, _memory: True  # type: ignore[method-assign]
    Ledger.open = lambda _self, _worker, _seen: 99  # type: ignore[method-assign]


BROKEN: dict[str, Callable[[], None]] = {
    "forgets to adopt by external id": _forgets_to_adopt,
    "runs finished builds again": _trusts_the_request,
    "drops the inbox on start": _drops_the_inbox,
    "settles without the artifacts": _settles_without_artifacts,
    "lists files of other builds": _lists_what_it_does_not_have,
    "ignores cancelled": _ignores_cancelled,
    "lets every build start anywhere": _opens_the_gate,
    "publishes again": _publishes_again,
    "forgets live runs": _forgets_live_runs,
    "repeats what a kill interrupted": _tries_again_what_a_kill_interrupted,
    "answers before it keeps": _answers_before_it_keeps,
    "believes what comes late": _believes_what_comes_late,
    "gives every board to everybody": _gives_every_board_to_everybody,
}

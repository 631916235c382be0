"""Which request starts next, with Buildbot's own builder and queue around the choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from buildbot.data.base import ListResult
from buildbot.process.builder import Builder
from buildbot.process.buildrequestdistributor import BasicBuildChooser
from twisted.internet import defer

from master.chooser import PlannedChooser
from master.fleet import least_busy
from master.gate import Gate, Ticket

Choice = tuple[str, int]
TRUSTED, UNTRUSTED = True, False
PRIORITY = {TRUSTED: 20, UNTRUSTED: 10}


class Queue:
    """The builder ``b``, its free workers, and its requests in the order they came."""

    def __init__(self, workers: Sequence[str], requests: Sequence[bool | None]) -> None:
        """``workers`` begin with their trust; ``requests`` say theirs, ``None`` for one that nobody planned."""
        self.gate = Gate()
        self.gate.trust = {name: name.partition(" ")[0] for name in workers}
        for number, trusted in enumerate(requests):
            if trusted is not None:
                self.gate.tickets[number] = Ticket(
                    run_id=1, builder="b", trusted=trusted, local=False, priority=PRIORITY[trusted]
                )
        self.requests = [
            {"buildrequestid": number, "priority": PRIORITY[trusted or False]}
            for number, trusted in enumerate(requests)
        ]
        self.free = [self._worker(name) for name in workers]
        self.fetched = 0

    @staticmethod
    def _worker(name: str) -> Any:
        worker = SimpleNamespace(workername=name, builds_may_be_incompatible=False)
        for_builder = SimpleNamespace(worker=worker, isBusy=lambda: False)
        worker.workerforbuilders = {"b": for_builder}
        return for_builder

    def chooser(self, kind: Callable[[Any, Any], Any] | None = None) -> Any:
        asked = SimpleNamespace(nextWorker=least_busy, nextBuild=None, locks=[], canStartBuild=self.gate.can_start)
        builder = SimpleNamespace(name="b", config=asked, config_version=1, getAvailableWorkers=lambda: [*self.free])
        builder.canStartBuild = partial(Builder.canStartBuild, builder)
        chooser = (kind or partial(PlannedChooser, self.gate))(builder, SimpleNamespace(config=None))
        chooser._fetchUnclaimedBrdicts = partial(self._fetch, chooser)
        chooser._getBuildRequestForBrdict = lambda row: defer.succeed(SimpleNamespace(id=row["buildrequestid"]))
        return chooser

    def _fetch(self, chooser: Any) -> defer.Deferred[Any]:
        if chooser.unclaimedBrdicts is None:
            self.fetched += 1
            chooser.unclaimedBrdicts = ListResult(list(self.requests))
        return defer.succeed(chooser.unclaimedBrdicts)


def started(queue: Queue, kind: Any = None) -> list[Choice]:
    """What one look at the queue starts; a worker that gets a build is not free any more."""
    chooser = queue.chooser(kind)
    found: list[Choice] = []
    while True:
        done: list[Any] = []
        chooser.chooseNextBuild().addCallback(done.append)
        ((worker, requests),) = done
        if worker is None:
            return found
        found.append((worker.worker.workername, requests[0].id))
        queue.free.remove(worker)


@pytest.mark.parametrize(
    ("workers", "requests", "expected"),
    [
        pytest.param(["trusted 1"], [UNTRUSTED] * 3, [], id="the free worker is of the other trust"),
        pytest.param(["trusted 1"], [UNTRUSTED, TRUSTED], [("trusted 1", 1)], id="behind those that must wait"),
        pytest.param(["untrusted 1"], [TRUSTED, UNTRUSTED], [("untrusted 1", 1)], id="behind more urgent ones"),
        pytest.param(
            ["trusted 1", "untrusted 1"],
            [UNTRUSTED, TRUSTED, TRUSTED, UNTRUSTED],
            [("trusted 1", 1), ("untrusted 1", 0)],
            id="the most urgent first, and the oldest of these",
        ),
        pytest.param(
            ["trusted 1", "trusted 2", "untrusted 1"],
            [UNTRUSTED, UNTRUSTED, TRUSTED, TRUSTED],
            [("trusted 1", 2), ("trusted 2", 3), ("untrusted 1", 0)],
            id="on every worker that is free",
        ),
        pytest.param(["trusted 1"], [None, None], [], id="nobody planned them"),
        pytest.param(["trusted 1"], [None, TRUSTED], [("trusted 1", 1)], id="nobody planned the oldest"),
        pytest.param(["trusted 1"], [], [], id="nothing to do"),
        pytest.param([], [TRUSTED], [], id="nobody is free"),
    ],
)
def test_it_starts_what_buildbots_own_chooser_would_start(
    workers: list[str], requests: list[bool | None], expected: list[Choice]
) -> None:
    assert started(Queue(workers, requests)) == expected
    assert started(Queue(workers, requests), BasicBuildChooser) == expected


def test_who_has_waited_long_goes_before_who_is_more_urgent() -> None:
    queue = Queue(["trusted 1"], [TRUSTED, TRUSTED])
    for number, (priority, since) in enumerate([(10, 0.0), (30, 7199.0)]):
        queue.gate.tickets[number] = replace(queue.gate.tickets[number], priority=priority, since=since)
    assert started(queue) == [("trusted 1", 1)]
    queue = Queue(["trusted 1"], [TRUSTED, TRUSTED])
    for number, (priority, since) in enumerate([(10, 0.0), (30, 7201.0)]):
        queue.gate.tickets[number] = replace(queue.gate.tickets[number], priority=priority, since=since)
    assert started(queue) == [("trusted 1", 0)]


def test_a_queue_of_which_nothing_can_start_is_not_even_read() -> None:
    queue = Queue(["trusted 1"], [UNTRUSTED] * 3)
    assert started(queue) == []
    assert queue.fetched == 0
    queue = Queue(["trusted 1"], [TRUSTED])
    queue.gate.tickets = {0: Ticket(run_id=1, builder="another", trusted=True, local=False)}
    assert started(queue) == []
    assert queue.fetched == 0


def test_a_long_queue_of_the_other_trust_costs_the_free_workers_next_to_nothing() -> None:
    """Also when one of them finds work first: then the queue has been read."""
    workers, requests = [f"trusted {number}" for number in range(20)], [UNTRUSTED] * 3000

    def cost(kind: Any, requests: list[bool]) -> float:
        queue = Queue(workers, requests)
        began = time.process_time()
        started(queue, kind)
        return time.process_time() - began

    for waiting in (requests, [*requests, TRUSTED]):
        ratio = cost(BasicBuildChooser, waiting) / cost(None, waiting)
        print(
            f"{len(waiting)} requests, {len(workers)} workers: Buildbot's own chooser takes {ratio:.0f} times as long"
        )
        assert ratio > 5

"""Carries runs forward: reads what Buildbot's rows say, asks :func:`master.decisions.decide`, does its answer.

Everything here may be killed between any two statements and run again from the start: each write checks that
the row still is what the decision was about, intents are written before they are carried out, and what a
crash left between two writes is found by the next reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python import log

from master import acceptance, outcome
from master.database import buildbot_rows, store
from master.database.records import AttemptRow, RunRow
from master.decisions import decide
from master.fleet import LiveFleet
from master.gate import Gate, Ticket
from master.handover import Handover, UnknownBuilder
from master.outcome import BuildFacts, Outcome, RequestFacts
from master.pipeline import Pipeline, Stage, State
from master.run_model import Action, Create, End, Enqueue, Explain, Settle, Slot, Wait, Withdraw

_RETRY_S = 5.0  #: pause before a builder that is missing is looked for again
_SOONEST_S = 1.0
_OBEYS_S = 300.0  #: so long may a build take to stop, before its worker is taken for one that does not do as told
_LIVE = tuple(state for state in State if not state.ended)


class Reconciler:
    """Brings one run at a time to where it stands; its caller lets it do only one thing at once."""

    def __init__(
        self,
        database: Any,
        handover: Handover,
        gate: Gate,
        fleet: LiveFleet,
        pipeline: Pipeline,
        *,
        master_restarts: int,
        clock: Callable[[], float],
        began: float,
    ) -> None:
        self.database = database
        self.handover = handover
        self.gate = gate
        self.fleet = fleet
        self.pipeline = pipeline
        self.master_restarts = master_restarts
        self.clock = clock
        self.began = began  #: this life of the master: what was being built before and got lost was lost with it
        self.recovering = False  #: lost builds seen now were lost with the master, not with their worker
        self._withdrawn: dict[int, float] = {}  # requests that were told to stop, and when

    async def run(self, run_id: int) -> float | None:
        """Do all that can be done for a run now; when to look again at the latest, ``None`` for at its next event."""
        while True:
            run: RunRow | None = await self.database.do(store.run, run_id)
            if run is None or run.ended_at is not None:
                return None
            attempts: list[AttemptRow] = await self.database.do(store.attempts, [run_id])
            if await self.absorb(run, attempts):
                continue
            facts = [attempt.facts for attempt in attempts]
            now = self.clock()
            actions = decide(self.pipeline, run.context, facts, self.fleet, now)
            by_slot = {attempt.slot: attempt for attempt in attempts}
            done = [await self.do(run, action, by_slot) for action in actions]
            if not any(done):
                return self.deadline(run, attempts, now)

    async def absorb(self, run: RunRow, attempts: list[AttemptRow]) -> bool:
        """Take over what Buildbot's rows say; whether any attempt changed."""
        live = [attempt for attempt in attempts if attempt.state in (State.QUEUED, State.RUNNING)]
        ids = [attempt.request_id for attempt in live if attempt.request_id is not None]
        requests: dict[int, RequestFacts] = await self.database.do(buildbot_rows.requests, ids) if ids else {}
        changed = False
        for attempt in live:
            request = requests.get(attempt.request_id or 0)
            if not self.planned(attempt) and not attempt.withdrawn:
                continue  # the next decision withdraws it
            if attempt.request_id is None:
                try:
                    changed |= await self.hand_over(run, attempt)
                except UnknownBuilder as error:  # between two configurations; or the next decision settles it
                    log.msg(f"run {run.id}: {attempt.slot} waits: {error}")
            elif request is None:
                gone = Outcome(state=State.INFRASTRUCTURE, reason="Buildbot no longer knows its build request")
                changed |= await self.settle(run, attempt, gone)
            else:
                changed |= await self.follow(run, attempt, request)
        return changed

    def planned(self, attempt: AttemptRow) -> bool:
        """Whether the pipeline, as it is now, has the attempt's stage and variant."""
        return attempt.stage in self.pipeline and attempt.variant in self.pipeline[attempt.stage].variants

    async def follow(self, run: RunRow, attempt: AttemptRow, request: RequestFacts) -> bool:
        """Bring one attempt to where its request stands."""
        stage = self.pipeline[attempt.stage] if self.planned(attempt) else _removed(attempt)
        lost = request.lost_after(attempt.counted_build)
        if build := request.decisive:
            if lost:  # it has ended before they were seen
                attempt = await self.note_lost(run, attempt, lost)
            properties = await self.database.do(buildbot_rows.properties, build.id)
            ended = outcome.outcome_of_build(build, properties, stage, attempt)
            return await self.settle(run, attempt, ended, build)
        if ended_without := outcome.outcome_without_build(request, attempt):
            return await self.settle(run, attempt, ended_without, request_open=False)
        if lost:
            return await self.count_lost(run, attempt, stage, lost)
        if request.running and (gone := self.builder_gone(run, attempt, stage)):
            ended_here = await self.settle(run, attempt, gone, request_open=False)
            await self.handover.abandon(request.id, request.running.id)
            return ended_here
        if attempt.withdrawn:
            await self.take_back(request, attempt)
        if build := request.running:
            if not attempt.withdrawn and (why := outcome.overdue(build, stage, self.clock())):
                return await self.write(run, attempt.slot, {"withdrawn": why})
            self.gate.tickets.pop(request.id, None)
            if attempt.state is State.RUNNING and attempt.build_id == build.id:
                return False
            values: dict[str, Any] = {"state": State.RUNNING, "build_id": build.id, "worker": build.worker}
            values["started_at"] = attempt.started_at or self.clock()
            return await self.write(run, attempt.slot, {**values, "reason": ""})
        if attempt.state is State.RUNNING:
            values = {"state": State.QUEUED, "waiting_since": self.clock(), "reason": "its worker was lost"}
            return await self.write(run, attempt.slot, values)
        if not attempt.withdrawn:
            self.admit(run, attempt, stage)
        return False

    async def take_back(self, request: RequestFacts, attempt: AttemptRow) -> None:
        """Have Buildbot end a request; a worker that does not stop its build for it is thrown out in the end."""
        told, now = self._withdrawn.get(request.id), self.clock()
        if told is None:
            self.gate.tickets.pop(request.id, None)
            await self.handover.cancel(request.id, attempt.withdrawn)
        elif request.running and now - told >= _OBEYS_S:
            self.handover.drop(request.running.worker, f"build {request.running.id} was to stop {now - told:.0f} s ago")
        else:
            return
        self._withdrawn[request.id] = now

    def builder_gone(self, run: RunRow, attempt: AttemptRow, stage: Stage) -> Outcome | None:
        """The end of an attempt that is being built, once new settings have no builder for it."""
        if self.handover.has_builder(stage, attempt.variant):
            return None
        if attempt.withdrawn:
            return Outcome(state=State.CANCELLED, reason=attempt.withdrawn)
        unserved = self.fleet.unserved(stage, attempt.variant, run.trusted)
        return Outcome(state=State.INFRASTRUCTURE, reason=unserved) if unserved else None

    def admit(self, run: RunRow, attempt: AttemptRow, stage: Stage) -> None:
        """Let the gate start an attempt's request."""
        builder = stage.builder(attempt.variant)
        requires = stage.requires_for(attempt.variant)
        ticket = Ticket(
            run_id=run.id,
            builder=builder,
            stage=stage.shown(attempt.variant),
            trusted=run.trusted,
            local=requires.local,
            requires=requires,
            priority=self.handover.priority(run),
            since=attempt.created_at,
        )
        if attempt.request_id is not None and self.gate.tickets.get(attempt.request_id) != ticket:
            self.gate.tickets[attempt.request_id] = ticket
            self.handover.poke(stage, attempt.variant)

    async def hand_over(self, run: RunRow, attempt: AttemptRow) -> bool:
        """Give a queued attempt its buildset; False when it cannot be done yet."""
        if attempt.withdrawn:
            found = await self.handover.find(attempt)
            if found is None:
                return await self.settle(run, attempt, Outcome(state=State.CANCELLED, reason=attempt.withdrawn))
        else:
            found = await self.handover.queue(run, attempt, self.pipeline[attempt.stage])
        return await self.store_ids(run, attempt, *found)

    async def store_ids(self, run: RunRow, attempt: AttemptRow, buildset: int, request: int) -> bool:
        return await self.write(run, attempt.slot, {"buildset_id": buildset, "request_id": request})

    async def count_lost(self, run: RunRow, attempt: AttemptRow, stage: Stage, builds: list[BuildFacts]) -> bool:
        """Count builds that were lost, and end the attempt when they are too many."""
        counted = await self.note_lost(run, attempt, builds)
        if too_often := outcome.too_often_lost(counted, stage, self.master_restarts):
            await self.settle(run, counted, too_often)
        return True

    async def note_lost(self, run: RunRow, attempt: AttemptRow, builds: list[BuildFacts]) -> AttemptRow:
        """The attempt, with these builds among those that were lost."""
        all_with_master = self.recovering or self.handover.stopping
        # Buildbot keeps whole seconds
        with_master = sum(all_with_master or build.started_at < int(self.began) for build in builds)
        values = {
            "lost_with_master": attempt.lost_with_master + with_master,
            "lost_with_worker": attempt.lost_with_worker + len(builds) - with_master,
            "counted_build": builds[-1].id,
        }
        self._withdrawn.pop(attempt.request_id or 0, None)
        await self.write(run, attempt.slot, values)
        counted: AttemptRow = await self.database.do(store.attempt, attempt.id)
        return counted

    async def settle(
        self,
        run: RunRow,
        attempt: AttemptRow,
        ended: Outcome,
        build: BuildFacts | None = None,
        *,
        request_open: bool = True,
    ) -> bool:
        """End an attempt with what its build, or its fate, says; False when it had ended before."""
        values: dict[str, Any] = {
            "state": ended.state,
            "reason": ended.reason,
            "retryable": ended.retryable,
            # Buildbot keeps whole seconds: its times are for what happened while nobody was looking
            "ended_at": build.complete_at if build and self.recovering else self.clock(),
        }
        left_by = None
        if build:
            values.update(build_id=build.id, worker=build.worker)
            values["started_at"] = attempt.started_at or max(build.started_at, attempt.waiting_since)
            left_by = build.id if ended.state.good else None
        accepted = await self.accept(run, attempt.slot, values, left_by)
        if attempt.request_id is not None:
            self.gate.tickets.pop(attempt.request_id, None)
            self._withdrawn.pop(attempt.request_id, None)
            if build is None and request_open and accepted:
                await self.handover.cancel(attempt.request_id, ended.reason)
        return accepted

    async def accept(self, run: RunRow, slot: Slot, values: dict[str, Any], build_id: int | None) -> bool:
        accepted: bool = await self.database.do_with_transaction(
            acceptance.accept, run.id, slot, values=values, build_id=build_id
        )
        log.msg(f"run {run.id}: {slot} ended as {values['state']} {values['reason']}".rstrip())
        return accepted

    async def write(self, run: RunRow, slot: Slot, values: dict[str, Any]) -> bool:
        changed: bool = await self.database.do_with_transaction(store.change, run.id, slot, was=_LIVE, values=values)
        return changed

    async def do(self, run: RunRow, action: Action, attempts: dict[Slot, AttemptRow]) -> bool:
        """Carry out one decision; whether it changed anything."""
        now = self.clock()
        match action:
            case Create():
                return bool(await self.database.do_with_transaction(store.add_attempts, run.id, [action], now))
            case Enqueue():
                values: dict[str, Any] = {"state": State.QUEUED, "waiting_since": now, "reason": ""}
                return await self.write(run, action.slot, values)
            case Wait():
                return await self.write(run, action.slot, {"waiting_since": now, "reason": action.reason})
            case Explain():
                return await self.write(run, action.slot, {"reason": action.reason})
            case Settle():
                attempt = attempts[action.slot]
                if attempt.request_id is not None:
                    self.gate.tickets.pop(attempt.request_id, None)
                ended = Outcome(state=action.state, reason=action.reason, retryable=False)
                return await self.settle(run, attempt, ended)
            case Withdraw():
                return await self.write(run, action.slot, {"withdrawn": action.reason})
            case End():
                ended_run: bool = await self.database.do_with_transaction(
                    store.end_run, run.id, result=action.result, reason=action.reason, now=now
                )
                log.msg(f"run {run.id} ended as {action.result} {action.reason}".rstrip())
                return ended_run

    def deadline(self, run: RunRow, attempts: list[AttemptRow], now: float) -> float | None:
        """When patience ends or a pause is over, if nothing happens before."""
        times = []
        for attempt in attempts:
            if not self.planned(attempt) or attempt.withdrawn or attempt.state not in (State.PENDING, State.QUEUED):
                continue
            if attempt.state is State.QUEUED and attempt.request_id is None:
                times.append(now + _RETRY_S)
            stage = self.pipeline[attempt.stage]
            if attempt.not_before > now:
                times.append(attempt.not_before)
            elif attempt.waiting_since:
                seen = self.fleet.last_connected(stage, attempt.variant, run.trusted)
                times.append(max(attempt.waiting_since, seen) + stage.queue_timeout)
        # a time that is past waits for something else: looking again at once would not bring it
        return max(min(times), now + _SOONEST_S) if times else None


def _removed(attempt: AttemptRow) -> Stage:
    """A stand-in for the stage of an attempt that outlived its place in the settings."""
    return Stage(name=attempt.stage, uses="", infrastructure_retries=0)

"""What passes between our tables and Buildbot's queue: a request handed over, found again, or taken back."""

from __future__ import annotations

from typing import Any

from buildbot.process.results import CANCELLED, EXCEPTION, FAILURE, SUCCESS, WARNINGS
from twisted.python import log

from master.database import buildbot_rows
from master.database.records import AttemptRow, RunRow
from master.pipeline import EventKind, Stage, State
from master.workers import FleetMember

PRIORITY = {EventKind.TAG: 30, EventKind.PUSH: 20, EventKind.PULL_REQUEST: 10}
_RESULTS = {
    State.SUCCESS.value: SUCCESS,
    State.WARNINGS.value: WARNINGS,
    State.FAILURE.value: FAILURE,
    State.CANCELLED.value: CANCELLED,
}


FORGOTTEN_S = 15.0  #: a claimed request has its build's row long before


class UnknownBuilder(Exception):
    """A stage whose builder this master does not have: Buildbot would complete an empty buildset as a success."""


class Handover:
    """Adds, finds, cancels and completes build requests on a running master."""

    def __init__(self, master: Any, *, scheduler: str, repository: str, project: str) -> None:
        self.master = master
        self.scheduler = scheduler
        self.repository = repository
        self.project = project

    @staticmethod
    def priority(run: RunRow) -> int:
        """Of the run's requests: more goes first."""
        return PRIORITY[run.acts_as]

    @property
    def stopping(self) -> bool:
        """Whether the master is shutting down: builds that it loses now are not their workers' fault."""
        return bool(self.master.botmaster.shuttingDown)

    async def queue(self, run: RunRow, attempt: AttemptRow, stage: Stage) -> tuple[int, int]:
        """Buildset and request of the attempt: those that a crash orphaned, else new ones.

        Raises:
            UnknownBuilder: the stage has no builder on this master.
        """
        found: tuple[int, int] | None = await self.find(attempt)
        return found or await self.add_buildset(run, attempt, stage)

    async def find(self, attempt: AttemptRow) -> tuple[int, int] | None:
        """Buildset and request that were added for this attempt, if any."""
        found: tuple[int, int] | None = await self.master.db.pool.do(buildbot_rows.find_buildset, attempt.external_id)
        return found

    async def add_buildset(self, run: RunRow, attempt: AttemptRow, stage: Stage) -> tuple[int, int]:
        builder = stage.builder(attempt.variant)
        if builder not in self.master.botmaster.builders:
            raise UnknownBuilder(f"there is no builder {builder!r} on this master")
        builder_id = await self.master.data.updates.findBuilderId(builder)
        source = {
            "codebase": "",
            "repository": self.repository,
            "branch": run.ref,
            "revision": run.head,
            "project": self.project,
        }
        values = build_properties(run, attempt, self.repository)
        buildset, requests = await self.master.data.updates.addBuildset(
            waited_for=False,
            scheduler=self.scheduler,
            sourcestamps=[source],
            reason=f"run {run.id}: {run.reason or f'{run.kind} {run.ref}'}",
            properties={name: (value, "Pipeline") for name, value in values.items()},
            builderids=[builder_id],
            external_idstring=attempt.external_id,
            priority=self.priority(run),
        )
        return buildset, requests[builder_id]

    def poke(self, stage: Stage, variant: str) -> None:
        """Let Buildbot look at this builder's requests now: refusals are never polled again."""
        self.master.botmaster.maybeStartBuildsForBuilder(stage.builder(variant))

    async def cancel(self, request_id: int, reason: str) -> None:
        """Ask Buildbot to end the request: at once while it is queued, by stopping its build while it runs."""
        await self.master.data.control("cancel", {"reason": reason}, ("buildrequests", str(request_id)))

    async def complete(self, request_id: int, result: int) -> None:
        """End a request whose attempt has ended, so that Buildbot never starts it again."""
        await self.master.data.updates.completeBuildRequests([request_id], result)

    def drop(self, worker: str, why: str) -> None:
        """End the connection of a worker that does not do as told: to Buildbot, its builds are lost then."""
        found = self.master.workers.workers.get(worker)
        if isinstance(found, FleetMember):
            found.drop(why)

    def has_builder(self, stage: Stage, variant: str) -> bool:
        return stage.builder(variant) in self.master.botmaster.builders

    async def abandon(self, request_id: int, build_id: int) -> None:
        """End a build whose builder a reconfiguration removed. The worker has killed its command, and can no longer
        say so: Buildbot alone would wait for that until the worker leaves."""
        await self.master.data.updates.finishBuild(build_id, CANCELLED)
        await self.complete(request_id, CANCELLED)

    async def free_forgotten(self) -> None:
        """Give requests back that were claimed and never begun: when a worker leaves between the two, Buildbot fails to
        begin the build (``Build.setup_properties_known_before_build_starts``) and keeps its claim."""
        before = self.master.reactor.seconds() - FORGOTTEN_S
        query = buildbot_rows.claimed_without_build
        claimed = await self.master.db.pool.do(query, self.master.masterid, before)
        begun = self.being_built()
        for request_id in claimed:
            if request_id not in begun:
                log.msg(f"request {request_id} was claimed and never begun; it is queued again")
                await self.master.data.updates.unclaimBuildRequests([request_id])
                self.master.botmaster.remove_in_progress_buildrequest(request_id)

    def being_built(self) -> set[int]:
        """Requests whose build this master has in its hands."""
        builders = self.master.botmaster.builders.values()
        return {request.id for builder in builders for build in builder.building for request in build.requests}

    def about_to_be_built(self) -> set[int]:
        """Requests that were chosen, and whose build has not begun."""
        return set(self.master.botmaster._starting_brid_to_cancel)

    async def complete_leftovers(self) -> None:
        """End the requests that a crash, or a removed builder, left open behind ended attempts."""
        rows = await self.master.db.pool.do(buildbot_rows.open_requests_of_ended_attempts)
        for request_id, result, state in rows:
            try:
                await self.complete(request_id, _RESULTS.get(state, EXCEPTION) if result is None else result)
            except Exception:  # one that cannot be ended must not keep the pipeline from starting
                log.err(None, f"request {request_id} could not be ended; trying again")


def build_properties(run: RunRow, attempt: AttemptRow, repository: str) -> dict[str, Any]:
    """What every build of the run is told."""
    return {
        "run_id": run.id,
        "attempt_id": attempt.id,
        "attempt": attempt.number,
        "stage": attempt.stage,
        "variant": attempt.variant,
        "event": run.kind.value,
        "acts_as": run.acts_as.value,
        "ref": run.ref,
        "head_sha": run.head,
        "base_sha": run.base,
        "pull_request": run.pull_request,
        "tag": run.tag,
        "trusted": run.trusted,
        "publish": run.publish,
        "threads": run.threads,
        "repository": repository,
    }

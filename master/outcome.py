"""What Buildbot's rows say of an attempt: pure functions from a request and its builds.

Results derive from requests and builds, never from ``buildset.complete``: a crash can leave a buildset
incomplete for good. Buildbot writes a build's end and its request's end separately, so a finished build
settles its attempt whatever the request says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from buildbot.process.results import CANCELLED, EXCEPTION, FAILURE, RETRY, SUCCESS, WARNINGS

from master.database.records import AttemptRow
from master.pipeline import Stage, State

OVERDUE = "still running after "  #: how the reason of a withdrawal begins for which the worker is to blame
_GRACE_S = 300.0
_GRACE = 0.1


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """One build of a request; ``results`` is ``None`` while it runs."""

    id: int
    results: int | None
    started_at: float
    complete_at: float | None
    worker: str = ""
    state_string: str = ""


@dataclass(frozen=True, kw_only=True)
class RequestFacts:
    """A build request and its builds, oldest first."""

    id: int
    complete: bool
    results: int
    builds: tuple[BuildFacts, ...] = ()

    @property
    def decisive(self) -> BuildFacts | None:
        """The build whose result is the request's: the first that ended otherwise than by being lost."""
        return next((b for b in self.builds if b.results is not None and b.results != RETRY), None)

    @property
    def running(self) -> BuildFacts | None:
        return next((b for b in reversed(self.builds) if b.results is None), None)

    def lost_after(self, build_id: int) -> list[BuildFacts]:
        """Builds newer than this one that ended because worker or master went away."""
        return [b for b in self.builds if b.results == RETRY and b.id > build_id]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    state: State
    reason: str = ""
    retryable: bool = True


def outcome_of_build(build: BuildFacts, properties: Mapping[str, object], stage: Stage, attempt: AttemptRow) -> Outcome:
    """What a finished build makes of its attempt. ``properties`` are the build's, by name."""
    reason = str(properties.get("failure_reason") or "")
    infrastructure = properties.get("failure_class") == "infrastructure"
    results = build.results
    match results:
        case _ if results == SUCCESS:
            return Outcome(state=State.SUCCESS)
        case _ if results == CANCELLED:
            return _taken_back(attempt, "stopped on the page")
        case _ if results in (WARNINGS, FAILURE) and infrastructure:
            return Outcome(state=State.INFRASTRUCTURE, reason=reason)
        case _ if results == WARNINGS or (results == FAILURE and stage.continue_on_error):
            return Outcome(state=State.WARNINGS, reason=reason or build.state_string)
        case _ if results == FAILURE:
            return Outcome(state=State.FAILURE, reason=reason or build.state_string)
        case _ if results == EXCEPTION:
            return Outcome(state=State.INFRASTRUCTURE, reason=reason or f"exception in the build: {build.state_string}")
        case _:
            return Outcome(state=State.INFRASTRUCTURE, reason=f"Buildbot ended the build as {results}")


def outcome_without_build(request: RequestFacts, attempt: AttemptRow) -> Outcome | None:
    """What a request that is complete without a finished build makes of its attempt; ``None`` while it is not."""
    if not request.complete:
        return None
    if request.results == CANCELLED:
        return _taken_back(attempt, "cancelled on the page")
    return Outcome(state=State.INFRASTRUCTURE, reason="Buildbot completed the request without a build")


def _taken_back(attempt: AttemptRow, otherwise: str) -> Outcome:
    state = State.INFRASTRUCTURE if attempt.withdrawn.startswith(OVERDUE) else State.CANCELLED
    return Outcome(state=state, reason=attempt.withdrawn or otherwise)


def overdue(build: BuildFacts, stage: Stage, now: float) -> str:
    """Why a build has run for too long; empty while it has not.

    The stage's ``timeout`` is for its worker to enforce; that it did not is seen once a generous grace is over.
    """
    if now - build.started_at <= stage.timeout * (1 + _GRACE) + _GRACE_S:
        return ""
    return f"{OVERDUE}{now - build.started_at:.0f} s: its worker has not ended it at {stage.timeout:g} s (timeout)"


def too_often_lost(attempt: AttemptRow, stage: Stage, master_restarts: int) -> Outcome | None:
    """The end of an attempt whose builds were lost more often than allowed; ``None`` while within bounds."""
    if attempt.lost_with_worker > stage.infrastructure_retries:
        reason = f"its worker was lost {attempt.lost_with_worker} times while building"
    elif attempt.lost_with_master > master_restarts:
        reason = f"the master died {attempt.lost_with_master} times while it was building"
    else:
        return None
    return Outcome(state=State.INFRASTRUCTURE, reason=reason, retryable=False)

"""What the statuses of a commit are to say, from the rows of a run. Pure.

One status for each stage, its variants taken together, and ``mlc-ci/summary`` for the whole run: the one to require.
All are there, *pending*, from the moment the run is; each ends as GitHub has words for: what was skipped and what only
warns is a success that says so, and *error* is what was not the code's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from master.database.records import AttemptRow, RunRow
from master.github.wording import one_line, shortened
from master.pipeline import EventKind, Pipeline, State

PREFIX = "mlc-ci/"
SUMMARY = f"{PREFIX}summary"  #: the context that stands for the run
DESCRIPTION = 140  #: GitHub's limit, in characters

GitHubState = Literal["pending", "success", "failure", "error"]

#: How an ended attempt is told: GitHub's state, and what stands before the reason.
_TOLD: dict[State, tuple[GitHubState, str]] = {
    State.FAILURE: ("failure", "failed"),
    State.INFRASTRUCTURE: ("error", "not the code's fault"),
    State.BLOCKED: ("failure", "blocked"),
    State.CANCELLED: ("error", "cancelled"),
    State.WARNINGS: ("success", "warnings"),
    State.SUCCESS: ("success", "passed"),
    State.SKIPPED: ("success", "skipped"),
}
_WORST_FIRST = tuple(_TOLD)


@dataclass(frozen=True, kw_only=True)
class Status:
    """One status of a commit, as GitHub takes it."""

    context: str
    state: GitHubState
    description: str
    target_url: str


def has_a_say(run: RunRow) -> bool:
    """Whether the run may speak for its commit. A manual one does not: it may leave out stages, and what publishes, and
    would turn a commit green that it has only seen a part of."""
    return run.selected is None and run.kind is not EventKind.MANUAL


def speaker(runs: Iterable[RunRow]) -> RunRow | None:
    """Which of all runs of one commit its statuses tell of: whoever may make a pull request of somebody else's commit
    must not change what is said of it.

    Of one ref the newest. Of several the trusted before the untrusted, and those before one that nobody let run; one
    that is wanted before one that was cancelled; a tag's, which has all the stages; the newest.
    """
    newest = {(run.ref, run.kind): run for run in sorted(runs, key=lambda run: run.id) if has_a_say(run)}
    return max(newest.values(), key=_weight, default=None)


def _weight(run: RunRow) -> tuple[bool, bool, bool, bool, int]:
    return (run.trusted, not run.held, not run.cancelled, run.kind is EventKind.TAG, run.id)


def wanted(run: RunRow, attempts: Sequence[AttemptRow], pipeline: Pipeline, page: str) -> list[Status]:
    """The statuses of the run's commit. ``page`` is the address of the master's page, with its slash."""
    newest: dict[tuple[str, str], AttemptRow] = {}
    for attempt in attempts:
        key = attempt.slot.key
        newest[key] = max(newest.get(key, attempt), attempt, key=lambda each: each.number)
    by_stage: dict[str, list[AttemptRow]] = {}
    if run.ended_at is None:
        by_stage = {stage.name: [] for stage in pipeline.stages}
    for (stage, _), attempt in sorted(newest.items()):
        by_stage.setdefault(stage, []).append(attempt)
    told = [(PREFIX + name, *_of_stage(run, each)) for name, each in by_stage.items() if not _summary(name, pipeline)]
    target = f"{page}#/pipelines/{run.id}"
    return [
        Status(context=context, state=state, description=shortened(one_line(text), DESCRIPTION), target_url=target)
        for context, state, text in [*told, (SUMMARY, *_of_run(run))]
    ]


def _summary(name: str, pipeline: Pipeline) -> bool:
    """Whether the stage's own status is the run's."""
    return PREFIX + name == SUMMARY or (name in pipeline and pipeline[name].uses == "summary")


def _of_run(run: RunRow) -> tuple[GitHubState, str]:
    if run.ended_at is None:
        return "pending", _wish(run) or "under way"
    state, word = _TOLD[State(run.result)]
    return state, _said(word, run.result_reason)


def _of_stage(run: RunRow, attempts: Sequence[AttemptRow]) -> tuple[GitHubState, str]:
    live = [attempt for attempt in attempts if not attempt.state.ended]
    if live or not attempts:
        return "pending", _wish(run) or _waiting(live)
    worst = next(state for state in _WORST_FIRST if any(attempt.state is state for attempt in attempts))
    state, word = _TOLD[worst]
    of_worst = [attempt for attempt in attempts if attempt.state is worst]
    reasons = {attempt.reason for attempt in of_worst}
    if len(of_worst) == len(attempts) and len(reasons) == 1:
        return state, _said(word, reasons.pop())
    named = "; ".join(_said(attempt.variant or "default", attempt.reason) for attempt in of_worst)
    return state, f"{word}: {named}"


def _wish(run: RunRow) -> str:
    """What holds or ends a run that has not ended."""
    if run.cancelled:
        return f"being cancelled: {run.cancelled}"
    return run.held


def _waiting(live: Sequence[AttemptRow]) -> str:
    """One text for as long as it can be: each new one is a request to GitHub."""
    if any(attempt.state is State.RUNNING for attempt in live):
        return "running"
    return next((attempt.reason for attempt in live if attempt.reason), "waits for its turn")


def _said(word: str, reason: str) -> str:
    return f"{word}: {reason}" if reason else word

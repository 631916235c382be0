"""What to do next with a run: a pure function from what is known to a list of actions.

:func:`decide` is asked after every event; it returns only what can be done *now*, and nothing once there is
nothing to do, so that doing its actions and asking again always ends. It is safe to ask twice: an action is a
statement about rows that were there when it was asked, and the scheduler carries each out in one transaction
that checks it still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pathspec

from master.pipeline import EventKind, Pipeline, Stage, State
from master.run_model import (
    HELD,
    NOT_USED,
    WAITING,
    Action,
    Attempt,
    Create,
    End,
    Enqueue,
    Explain,
    Fleet,
    RunContext,
    Settle,
    Slot,
    Wait,
    Withdraw,
    latest_attempts,
)

BACKOFF_S = (5.0, 30.0, 120.0)  #: pause before the 1st, 2nd, 3rd … repetition after an infrastructure failure


def decide(
    pipeline: Pipeline, context: RunContext, attempts: Sequence[Attempt], fleet: Fleet, now: float
) -> list[Action]:
    """Everything that can be done now for a run whose attempts stand as given.

    The run follows the pipeline as it is configured *now*: stages that a reconfiguration added join it, and
    attempts of stages or variants that it removed end as cancelled.
    """
    return _Situation(pipeline, context, attempts, fleet, now).actions()


def skip_reason(pipeline: Pipeline, stage: Stage, context: RunContext) -> str:
    """Why this run does not want the stage; empty when it does."""
    if context.selected is not None and not stage.always and stage.name not in _selection(pipeline, context.selected):
        return "not selected for this manual run"
    if not {context.kind, context.acts_as} & stage.when:
        return f"runs for {_listed(stage.when)}, and this is {_named(context)}"
    if stage.secrets and not context.trusted and not stage.validates:
        return "its secrets exist in trusted runs only"
    if stage.publishes and not context.publish and not stage.validates:
        return "this run publishes nothing"
    if context.acts_as is not EventKind.TAG and context.changed_files is not None:
        return _path_skip(stage, context.changed_files)
    return ""


@dataclass
class _Situation:
    pipeline: Pipeline
    context: RunContext
    attempts: Sequence[Attempt]
    fleet: Fleet
    now: float

    def __post_init__(self) -> None:
        self.latest = latest_attempts(self.attempts)

    def actions(self) -> list[Action]:
        wanted = {(stage.name, variant) for stage in self.pipeline.stages for variant in stage.variants}
        found: list[Action] = [Create(slot=Slot(*key, 1)) for key in sorted(wanted - self.latest.keys())]
        removed = [self.latest.pop(key) for key in sorted(self.latest.keys() - wanted)]
        found += _stops((a for a in removed if not a.state.ended), "the stage was removed from the settings")
        if any(isinstance(action, Create) for action in found):
            return found
        for stage in self.pipeline.stages:
            for variant in stage.variants:
                if action := self.next(stage, self.latest[stage.name, variant]):
                    found.append(action)
        alive = self.held or not all(attempt.state.ended for attempt in (*self.latest.values(), *removed))
        if not found and not alive:
            found.append(self.end())
        return found

    @property
    def held(self) -> bool:
        """Whether all of it waits for a maintainer, and for nothing else."""
        return bool(self.context.held) and not self.context.cancelled

    def next(self, stage: Stage, attempt: Attempt) -> Action | None:
        if self.held:
            return self.hold(stage, attempt)
        if attempt.state.ended:
            return self.repeat(stage, attempt)
        # what nobody has approved does not start by being cancelled: a stranger can do that with a second push
        if self.context.cancelled and (self.context.held or not stage.always):
            return next(iter(_stops([attempt], self.context.cancelled)), None)
        if attempt.state is State.RUNNING:
            return None
        if attempt.state is State.QUEUED:
            return self.unserved(stage, attempt) or self.lost_patience(stage, attempt) or self.explain(stage, attempt)
        return self.start(stage, attempt)

    def hold(self, stage: Stage, attempt: Attempt) -> Action | None:
        if attempt.state is not State.PENDING:
            return None
        if reason := skip_reason(self.pipeline, stage, self.context):
            return Settle(slot=attempt.slot, state=State.SKIPPED, reason=reason)
        return None if attempt.reason == self.context.held else Explain(slot=attempt.slot, reason=self.context.held)

    def start(self, stage: Stage, attempt: Attempt) -> Action | None:
        if reason := skip_reason(self.pipeline, stage, self.context):
            return Settle(slot=attempt.slot, state=State.SKIPPED, reason=reason)
        if settled := self.unserved(stage, attempt):
            return settled
        ready, blocked = self.needs(stage)
        if blocked:
            return Settle(slot=attempt.slot, state=State.BLOCKED, reason=blocked)
        if not ready or attempt.not_before > self.now:
            return Explain(slot=attempt.slot, reason="") if attempt.reason.startswith(HELD) else None
        unserved = self.fleet.unserved(stage, attempt.slot.variant, self.context.trusted)
        if not unserved:
            return Enqueue(slot=attempt.slot)
        if not attempt.waiting_since:
            return Wait(slot=attempt.slot, reason=unserved)
        return self.lost_patience(stage, attempt)

    def needs(self, stage: Stage) -> tuple[bool, str]:
        """Whether all needs have ended well enough to start it, and else what blocks it for good."""
        ready, blocked = True, ""
        for name in stage.needs:
            need = self.pipeline[name]
            states = [self.latest[name, variant] for variant in need.variants]
            if any(not a.state.ended or self.will_repeat(need, a) for a in states):
                ready = False
            if stage.always or need.continue_on_error or blocked:
                continue
            bad = next(
                (a for a in states if a.state.ended and not a.state.good and not self.will_repeat(need, a)), None
            )
            if bad:
                variant = f" ({bad.slot.variant})" if bad.slot.variant else ""
                blocked = f"needs {name}{variant}, which {bad.past}"
        return ready and not blocked, blocked

    def repeat(self, stage: Stage, attempt: Attempt) -> Create | None:
        if not self.will_repeat(stage, attempt):
            return None
        failed = self.infrastructure_failures(attempt)
        return Create(
            slot=Slot(*attempt.slot.key, attempt.slot.number + 1),
            not_before=self.now + BACKOFF_S[min(failed, len(BACKOFF_S)) - 1],
            reason=f"repeats attempt {attempt.slot.number}, which {attempt.past}",
        )

    def will_repeat(self, stage: Stage, attempt: Attempt) -> bool:
        return (
            attempt.state is State.INFRASTRUCTURE
            and attempt.retryable
            and (stage.always or not self.context.cancelled)
            and self.infrastructure_failures(attempt) <= stage.infrastructure_retries
        )

    def infrastructure_failures(self, attempt: Attempt) -> int:
        """How many attempts of this variant, up to this one, failed in a row for infrastructure."""
        states = {a.slot.number: a.state for a in self.attempts if a.slot.key == attempt.slot.key}
        number = attempt.slot.number
        while states.get(number) is State.INFRASTRUCTURE:
            number -= 1
        return attempt.slot.number - number

    def unserved(self, stage: Stage, attempt: Attempt) -> Settle | None:
        """The end of an attempt that no configured worker can serve and that shall not wait for one."""
        reason = self.fleet.unserved(stage, attempt.slot.variant, self.context.trusted)
        if not reason or stage.no_worker == "wait":
            return None
        state = State.SKIPPED if stage.no_worker == "skip" else State.INFRASTRUCTURE
        return Settle(slot=attempt.slot, state=state, reason=reason)

    def lost_patience(self, stage: Stage, attempt: Attempt) -> Settle | None:
        asked = (stage, attempt.slot.variant, self.context.trusted)
        unserved = self.fleet.unserved(*asked)
        # a worker that is connected does not count while the stage cannot be served at all
        seen = 0.0 if unserved else self.fleet.last_connected(*asked)
        if self.now - max(attempt.waiting_since, seen) < stage.queue_timeout:
            return None
        reason = unserved or self.fleet.turned_away(*asked) or "no worker that can serve it was connected"
        reason = f"{reason} for {stage.queue_timeout:g} s (queue_timeout)"
        return Settle(slot=attempt.slot, state=State.INFRASTRUCTURE, reason=reason)

    def explain(self, stage: Stage, attempt: Attempt) -> Explain | None:
        """Why an attempt still waits that no connected worker can serve as it is; or that this is over."""
        reason = self.fleet.turned_away(stage, attempt.slot.variant, self.context.trusted)
        told = attempt.reason.startswith((NOT_USED, WAITING))
        if reason == attempt.reason or not (reason or told):
            return None
        return Explain(slot=attempt.slot, reason=reason)

    def end(self) -> End:
        if self.context.cancelled:
            return End(result=State.CANCELLED, reason=self.context.cancelled)
        gates = [a for a in self.latest.values() if not self.pipeline[a.slot.stage].continue_on_error]
        for state, result in (
            (State.FAILURE, State.FAILURE),
            (State.INFRASTRUCTURE, State.INFRASTRUCTURE),
            (State.BLOCKED, State.FAILURE),
            (State.CANCELLED, State.CANCELLED),
        ):
            if bad := next((a for a in gates if a.state is state), None):
                return End(result=result, reason=f"{bad.slot.stage} {bad.past}")
        tolerated = (State.SUCCESS, State.SKIPPED)
        if odd := next((a for a in self.latest.values() if a.state not in tolerated), None):
            return End(result=State.WARNINGS, reason=f"{odd.slot.stage} {odd.past}")
        return End(result=State.SUCCESS, reason="")


def _stops(attempts: Iterable[Attempt], reason: str) -> list[Settle | Withdraw]:
    return [
        Settle(slot=a.slot, state=State.CANCELLED, reason=reason)
        if a.state is State.PENDING
        else Withdraw(slot=a.slot, reason=reason)
        for a in attempts
        if not a.withdrawn
    ]


def _selection(pipeline: Pipeline, selected: frozenset[str]) -> frozenset[str]:
    """The chosen stages and every need of theirs that gates them."""
    chosen = set(selected)
    for stage in reversed(pipeline.stages):
        if stage.name in chosen:
            chosen.update(need for need in stage.needs if not pipeline[need].continue_on_error)
    return frozenset(chosen)


def _path_skip(stage: Stage, files: tuple[str, ...]) -> str:
    if stage.paths and not any(pathspec.GitIgnoreSpec.from_lines(stage.paths).match_files(files)):
        return f"no changed file matches its paths ({', '.join(stage.paths)})"
    if stage.paths_ignore and files:
        ignored = set(pathspec.GitIgnoreSpec.from_lines(stage.paths_ignore).match_files(files))
        if ignored.issuperset(files):
            return f"all changed files match its paths_ignore ({', '.join(stage.paths_ignore)})"
    return ""


_NAMES = {
    EventKind.PUSH: "push",
    EventKind.PULL_REQUEST: "pull request",
    EventKind.TAG: "tag",
    EventKind.MANUAL: "manual",
}


def _listed(kinds: Iterable[EventKind]) -> str:
    return ", ".join(_NAMES[kind] for kind in EventKind if kind in set(kinds))


def _named(context: RunContext) -> str:
    name = _NAMES[context.acts_as]
    return f"a manual run on a ref that is treated as a {name}" if context.kind is EventKind.MANUAL else f"a {name}"

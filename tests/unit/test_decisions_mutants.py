"""The rules of the property tests can be broken: wrong ways to decide, and the rule that catches each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import pytest
from fates import Choices, fated, play
from graphs import NOW, STRANGER, StubFleet, context, document
from simulation import Decide, Simulation

import master.decisions
from master.decisions import _Situation
from master.pipeline import EventKind, Pipeline, Stage, State
from master.run_model import (
    HELD,
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
)


class IgnoresNeeds(_Situation):
    def needs(self, stage: Stage) -> tuple[bool, str]:
        return True, ""


class TakesSkippedForGood(_Situation):
    def needs(self, stage: Stage) -> tuple[bool, str]:
        ready, blocked = super().needs(stage)
        return (True, "") if "skipped" in blocked else (ready, blocked)


class RetriesForEver(_Situation):
    def will_repeat(self, stage: Stage, attempt: Attempt) -> bool:
        return attempt.state is State.INFRASTRUCTURE


class RetriesAtOnce(_Situation):
    def repeat(self, stage: Stage, attempt: Attempt) -> Create | None:
        create = super().repeat(stage, attempt)
        return create and replace(create, not_before=0.0)


class StartsASecondAttempt(_Situation):
    def will_repeat(self, stage: Stage, attempt: Attempt) -> bool:
        return attempt.state is State.RUNNING and attempt.slot.number == 1

    def next(self, stage: Stage, attempt: Attempt) -> Action | None:
        return self.repeat(stage, attempt) or super().next(stage, attempt)


class DropsAlways(_Situation):
    def next(self, stage: Stage, attempt: Attempt) -> Action | None:
        if stage.always and not attempt.state.ended:
            return Settle(slot=attempt.slot, state=State.SKIPPED, reason="who reads this anyway")
        return super().next(stage, attempt)


class BlocksAlways(_Situation):
    def needs(self, stage: Stage) -> tuple[bool, str]:
        return super().needs(replace(stage, always=False))


class SaysNoReason(_Situation):
    def actions(self) -> list[Action]:
        return [replace(a, reason="") if isinstance(a, Settle) else a for a in super().actions()]


class OverlooksTheBlocked(_Situation):
    def end(self) -> End:
        found = super().end()
        return End(result=State.SUCCESS, reason="") if "blocked" in found.reason else found


class EndsEarly(_Situation):
    def actions(self) -> list[Action]:
        return super().actions() or [self.end()]


class NeverEnds(_Situation):
    def actions(self) -> list[Action]:
        return [action for action in super().actions() if not isinstance(action, End)]


class WaitsForEver(_Situation):
    def lost_patience(self, stage: Stage, attempt: Attempt) -> Settle | None:
        return None


class ChangesItsMind(_Situation):
    times = count()

    def actions(self) -> list[Action]:
        return super().actions()[next(self.times) % 2 :]


class CountsFromHere(_Situation):
    def actions(self) -> list[Action]:
        more = [Create(slot=Slot(*a.slot.key, a.slot.number + 1)) for a in self.attempts if a.state is State.SUCCESS]
        return [*super().actions(), *more[:1]]


class IgnoresCancel(_Situation):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.context = replace(self.context, cancelled="")


class LetsStrangersIn(_Situation):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.context = replace(self.context, held="")


class StartsTheCancelledStrangers(_Situation):
    """Their ``always`` stages, which a second push would then run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context.cancelled:
            self.context = replace(self.context, held="")


class GivesUpStrangers(_Situation):
    def hold(self, stage: Stage, attempt: Attempt) -> Action | None:
        old = attempt.state is State.PENDING and self.now > NOW
        return (
            Settle(slot=attempt.slot, state=State.CANCELLED, reason="too old") if old else super().hold(stage, attempt)
        )


class SpendsPatienceOnStrangers(_Situation):
    def hold(self, stage: Stage, attempt: Attempt) -> Action | None:
        found = super().hold(stage, attempt)
        return Wait(slot=found.slot, reason=found.reason) if isinstance(found, Explain) else found


class StillSaysHeld(_Situation):
    def start(self, stage: Stage, attempt: Attempt) -> Action | None:
        return None if isinstance(found := super().start(stage, attempt), Explain) else found


class EndsTheHeld(_Situation):
    def actions(self) -> list[Action]:
        done = all(attempt.state.ended or attempt.reason.startswith(HELD) for attempt in self.attempts)
        return super().actions() or ([self.end()] if done else [])


def broken_decide(situation: type[_Situation]) -> Decide:
    def decide(
        pipeline: Pipeline, context: RunContext, attempts: Sequence[Attempt], fleet: Fleet, now: float
    ) -> list[Action]:
        return situation(pipeline, context, attempts, fleet, now).actions()

    return decide


@pytest.mark.parametrize(
    ("mutant", "rule"),
    [
        (IgnoresNeeds, "needs first"),
        (TakesSkippedForGood, "gates"),
        (RetriesForEver, "bounded"),
        (RetriesAtOnce, "bounded"),
        (StartsASecondAttempt, "one at a time"),
        (DropsAlways, "always"),
        (BlocksAlways, "always"),
        (SaysNoReason, "reasons"),
        (OverlooksTheBlocked, "result"),
        (EndsEarly, "complete"),
        (NeverEnds, "ends"),
        (WaitsForEver, "ends"),
        (ChangesItsMind, "idempotent"),
        (CountsFromHere, "bounded"),
        (IgnoresCancel, "cancelled"),
        (LetsStrangersIn, "held"),
        (StartsTheCancelledStrangers, "held"),
        (GivesUpStrangers, "held"),
        (SpendsPatienceOnStrangers, "held"),
        (StillSaysHeld, "reasons"),
        (EndsTheHeld, "held"),
    ],
)
def test_a_broken_decision_is_caught(mutant: type[_Situation], rule: str) -> None:
    assert rule in rules_broken_by(broken_decide(mutant), until=rule)


@pytest.mark.parametrize(("forgotten", "rule"), [("publishes", "publishes"), ("secrets", "secrets")])
def test_a_broken_skip_is_caught(forgotten: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = master.decisions.skip_reason
    blank: dict[str, Callable[[Stage], Stage]] = {
        "publishes": lambda stage: replace(stage, publishes=False),
        "secrets": lambda stage: replace(stage, secrets=()),
    }
    monkeypatch.setattr(master.decisions, "skip_reason", lambda p, s, c: real(p, blank[forgotten](s), c))
    assert rule in rules_broken_by(master.decisions.decide, until=rule)


def test_a_decision_that_looks_at_its_neighbours_is_caught() -> None:
    """The negative control of the test about unrelated stages: one stage at a time, and the rest is dropped."""

    class OneAtATime(_Situation):
        def actions(self) -> list[Action]:
            found = super().actions()
            starts = [action for action in found if isinstance(action, Enqueue)]
            return [
                Settle(slot=a.slot, state=State.SKIPPED, reason="enough for now") if a in starts[1:] else a  # type: ignore[union-attr]
                for a in found
            ]

    graph, other = Pipeline(stages=document().stages[:1]), Stage(name="other", uses="commands")
    more = Pipeline(stages=(other, *graph.stages))
    decide = broken_decide(OneAtATime)
    alone, beside = (fated(g, context(EventKind.PUSH), 1, decide) for g in (graph, more))
    assert alone.states()["test"] is not beside.states()["test"]


def test_the_real_decision_breaks_no_rule_in_the_runs_that_catch_the_broken_ones() -> None:
    assert rules_broken_by(master.decisions.decide) == set()


def rules_broken_by(decide: Decide, until: str = "") -> set[str]:
    """Which rules two hundred runs of the document's pipeline, made awkward, break; up to the first that breaks one."""
    broken: set[str] = set()
    chance = random.Random(20)  # noqa: S311 - the same runs each time
    for _ in range(200):
        kind = chance.choice(list(EventKind)[:3])
        graph = document(
            docker={"when": frozenset(EventKind), "variants": ("", "cuda")},
            build_linux={"secrets": ("signing",)},
            build_windows={"when": frozenset(chance.sample(list(EventKind), 2)), "queue_timeout": 600.0},
        )
        manual = context(kind, chance.choice((kind, EventKind.MANUAL)))
        if manual.kind is EventKind.PULL_REQUEST:
            manual = replace(manual, held=chance.choice(("", STRANGER)))
        fleet = StubFleet(reasons=chance.choice(({}, {"build-windows": "no worker has msvc"})))
        run = play(Simulation(graph, manual, fleet, decide), Choices([chance.randrange(240) for _ in range(60)]))
        broken.update(run.broken)
        if until in broken:
            break
    return broken

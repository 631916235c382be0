"""A run without Buildbot: carries out what ``decide`` says as the scheduler does, lets builds meet every fate in
any order, crashes between any two actions, and notes each rule of the design that was broken on the way."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from graphs import NOW, PULL_REQUEST, StubFleet

from master.decisions import decide, skip_reason
from master.pipeline import Pipeline, Stage, State
from master.run_model import (
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

Decide = Callable[[Pipeline, RunContext, Sequence[Attempt], Fleet, float], list[Action]]
UNWELL = (State.FAILURE, State.INFRASTRUCTURE, State.BLOCKED, State.CANCELLED)
UNSAID = (State.SKIPPED, State.BLOCKED, State.CANCELLED)  #: how nothing may end without a reason


@dataclass
class Simulation:
    """One run. ``broken`` collects the rules that were broken; a rule has a name and says what broke it."""

    pipeline: Pipeline
    context: RunContext
    fleet: StubFleet = field(default_factory=StubFleet)
    decide: Decide = decide
    now: float = NOW
    attempts: dict[Slot, Attempt] = field(default_factory=dict)
    ended: End | None = None
    order: list[Slot] = field(default_factory=list)  #: as they were handed to Buildbot
    stopped: set[Slot] = field(default_factory=set)  #: stopped on the page
    repeated: int = 0  #: how often somebody asked to run it again
    settled: set[Slot] = field(default_factory=set)  #: what had ended when the settings changed
    reconfigured: bool = False
    broken: dict[str, str] = field(default_factory=dict)

    def ask(self) -> list[Action]:
        """What to do now; asking has no effect, so asking twice must say the same."""
        facts = tuple(self.attempts.values())
        actions = self.decide(self.pipeline, self.context, facts, self.fleet, self.now)
        if actions != self.decide(self.pipeline, self.context, facts, self.fleet, self.now):
            self.breaks("idempotent", "asked twice, two answers")
        return actions

    def carry(self, crash_after: int | None = None) -> None:
        """Do all that can be done now, or the first few actions only when the master is killed there."""
        for _ in range(200):
            actions = self.ask() if self.ended is None else []
            if crash_after is not None:
                actions, crash_after = actions[:crash_after], 0
            done = [self.apply(action) for action in actions]
            if not any(done):
                return
            before = dict(self.attempts)
            for action in actions:
                self.apply(action, again=True)
            if before != self.attempts:
                self.breaks("idempotent", f"{actions} done twice is not {actions} done once")
                self.attempts = before
        self.breaks("ends", "decide always finds something to do")

    def apply(self, action: Action, again: bool = False) -> bool:
        """One action, in one transaction that checks it still holds (``master.reconcile.Reconciler.do``)."""
        match action:
            case Create(slot=slot) if slot not in self.attempts:
                self.check_create(action)
                new = Attempt(slot=slot, state=State.PENDING, not_before=action.not_before, reason=action.reason)
                self.attempts[slot] = new
                return True
            case Enqueue(slot=slot) if self.lives(slot):
                if not again:
                    self.check_start(slot)
                    self.order.append(slot)
                return self.write(slot, state=State.QUEUED, waiting_since=self.now, reason="")
            case Wait(slot=slot) if self.lives(slot):
                return self.write(slot, waiting_since=self.now, reason=action.reason)
            case Explain(slot=slot) if self.lives(slot):
                return self.write(slot, reason=action.reason)
            case Settle(slot=slot) if self.lives(slot):
                return self.end(slot, action.state, action.reason, retryable=False)
            case Withdraw(slot=slot) if self.lives(slot):
                self.check_reason(slot, State.CANCELLED, action.reason)
                return self.write(slot, withdrawn=True, reason=action.reason)
            case End() if not again:
                self.check_end(action)
                self.ended = action
                return True
        return False

    def lives(self, slot: Slot) -> bool:
        return slot in self.attempts and not self.attempts[slot].state.ended

    def write(self, slot: Slot, **fields: object) -> bool:
        self.attempts[slot] = replace(self.attempts[slot], **fields)  # type: ignore[arg-type]
        return True

    def end(self, slot: Slot, state: State, reason: str = "", *, retryable: bool = True) -> bool:
        """An attempt ends: by a decision, or because its build did."""
        self.check_reason(slot, state, reason)
        return self.write(slot, state=state, reason=reason, retryable=retryable)

    def stop(self, slot: Slot) -> None:
        """Somebody presses Stop on Buildbot's page."""
        self.stopped.add(slot)
        self.end(slot, State.CANCELLED, "stopped on the page")

    def reconfigure(self, pipeline: Pipeline) -> None:
        """The settings change; what has ended stays as it is."""
        self.pipeline, self.reconfigured = pipeline, True
        self.settled = {slot for slot, attempt in self.attempts.items() if attempt.state.ended}

    def cancel(self, reason: str = "no longer wanted") -> None:
        self.context = replace(self.context, cancelled=reason)

    def repeat(self, created: Iterable[Create]) -> None:
        """Somebody asks to run it again."""
        self.ended, self.context = None, replace(self.context, cancelled="")
        self.repeated += 1
        for create in created:
            self.apply(create)

    # -- what is known of it

    @property
    def latest(self) -> dict[tuple[str, str], Attempt]:
        return latest_attempts(self.attempts.values())

    def state(self, stage: str, variant: str = "") -> State:
        return self.latest[stage, variant].state

    def reason(self, stage: str, variant: str = "") -> str:
        return self.latest[stage, variant].reason

    def states(self) -> dict[str, State]:
        """Of each stage that has no variants."""
        return {stage: attempt.state for (stage, variant), attempt in self.latest.items() if not variant}

    def queued(self) -> list[Slot]:
        return [slot for slot, a in sorted(self.attempts.items()) if a.state is State.QUEUED]

    def live(self) -> list[Slot]:
        """What Buildbot has."""
        return [slot for slot, a in sorted(self.attempts.items()) if a.state in (State.QUEUED, State.RUNNING)]

    # -- the rules

    def breaks(self, rule: str, what: str) -> None:
        self.broken.setdefault(rule, what)

    def check_create(self, create: Create) -> None:
        slot = create.slot
        others = [a for a in self.attempts.values() if a.slot.key == slot.key]
        if any(not a.state.ended for a in others):
            self.breaks("one at a time", f"{slot} is made while an older attempt lives")
        if slot.number != len(others) + 1:
            self.breaks("one at a time", f"{slot} is not the next of {len(others)}")
        retries = 3 if self.reconfigured else self.stage(slot).infrastructure_retries  # graphs.stages: up to 3
        if len(others) >= (retries + 1) * (self.repeated + 1):
            self.breaks("bounded", f"{slot} is one too many")
        if others and self.repeated == 0 and create.not_before <= self.now:
            self.breaks("bounded", f"{slot} comes without a pause")

    def check_start(self, slot: Slot) -> None:
        stage = self.stage(slot)
        for need in (self.pipeline[name] for name in stage.needs):
            for variant in need.variants:
                attempt = self.latest.get((need.name, variant))
                if attempt is None or not attempt.state.ended:
                    self.breaks("needs first", f"{slot} starts before {need.name} has ended")
                elif not (attempt.state.good or stage.always or need.continue_on_error):
                    self.breaks("gates", f"{slot} starts although {need.name} {attempt.past}")
        if self.attempts[slot].not_before > self.now:
            self.breaks("bounded", f"{slot} does not wait for its time")
        if stage.publishes and (self.context.acts_as is PULL_REQUEST or not self.context.publish):
            self.breaks("publishes", f"{slot} would publish")
        if stage.secrets and not self.context.trusted:
            self.breaks("secrets", f"{slot} would see secrets")
        if self.context.cancelled and not stage.always:
            self.breaks("cancelled", f"{slot} starts in a cancelled run")

    def check_reason(self, slot: Slot, state: State, reason: str) -> None:
        if state in UNSAID and not reason:
            self.breaks("reasons", f"{slot} ends as {state}, and nobody knows why")

    def check_end(self, end: End) -> None:
        if alive := [str(slot) for slot in self.attempts if self.lives(slot)]:
            self.breaks("complete", f"the run ends while {', '.join(alive)} lives")
        for stage in self.pipeline.stages:
            for variant in stage.variants:
                attempt = self.latest.get((stage.name, variant))
                if attempt is None:
                    self.breaks("complete", f"the run ends without {stage.name}")
                    continue
                if end.result.good and attempt.state in UNWELL and not stage.continue_on_error:
                    self.breaks("result", f"the run ends as {end.result} although {stage.name} {attempt.past}")
                if stage.always:
                    self.check_always(stage, attempt)
        if end.result is not State.SUCCESS and not end.reason:
            self.breaks("reasons", f"the run ends as {end.result}, and nobody knows why")

    def check_always(self, stage: Stage, attempt: Attempt) -> None:
        ran = attempt.state.executed or attempt.slot in self.stopped
        removed = attempt.state is State.CANCELLED and "removed" in attempt.reason
        policy = attempt.state is State.SKIPPED and stage.no_worker == "skip" and "no worker" in attempt.reason
        unwanted = attempt.state is State.SKIPPED and attempt.reason == skip_reason(self.pipeline, stage, self.context)
        if not (ran or removed or policy or unwanted or attempt.slot in self.settled):
            self.breaks("always", f"{stage.name} {attempt.past} although it always runs")

    def stage(self, slot: Slot) -> Stage:
        return self.pipeline[slot.stage]


@dataclass
class Choices:
    """What happens next, as a list of numbers; once it is used up, the first (usual) thing does."""

    numbers: list[int]

    def __call__(self, count: int) -> int:
        return (self.numbers.pop(0) if self.numbers else 0) % count


def play(run: Simulation, choose: Choices, afterwards: Sequence[Pipeline] = ()) -> Simulation:
    """Let things happen until the run has ended; ``afterwards`` are reconfigurations on the way."""
    later = list(afterwards)
    for _ in range(1000):
        run.carry(crash_after=(None, None, None, 0, 1, 2)[choose(6)])
        if run.ended is not None or run.broken:
            return run
        live = run.live()
        if not live:
            run.now += (3600.0, 1.0, 30.0)[choose(3)]
        event = choose(20)
        if event == 1 and later:
            run.reconfigure(later.pop(0))
        elif event == 2 and not run.context.cancelled:
            run.cancel()
        elif event == 3:
            name = run.pipeline.names()[choose(len(run.pipeline.stages))]
            if run.fleet.reasons.pop(name, "") == "":
                run.fleet.reasons[name] = "no worker is configured for it"
        elif event == 4:
            name = run.pipeline.names()[choose(len(run.pipeline.stages))]
            run.fleet.seen[name] = run.now
        elif event == 5:
            run.now += 60.0
        elif live:
            something_happens(run, live[choose(len(live))], choose)
    run.breaks("ends", "the run never ends")
    return run


def something_happens(run: Simulation, slot: Slot, choose: Choices) -> None:
    """A build starts, or ends in any way."""
    attempt = run.attempts[slot]
    if attempt.withdrawn and choose(3):
        run.end(slot, State.CANCELLED, attempt.reason)
    elif attempt.state is State.QUEUED and choose(8) != 7:
        run.write(slot, state=State.RUNNING)
    else:
        fate = choose(8)
        ends = (State.SUCCESS, State.SUCCESS, State.WARNINGS, State.FAILURE)
        if fate < len(ends):
            run.end(slot, ends[fate])
        elif fate == 4:
            run.stop(slot)
        elif fate == 5 and attempt.state is State.RUNNING:
            run.write(slot, state=State.QUEUED, waiting_since=run.now)  # lost with its worker; Buildbot queues it again
        else:
            run.end(slot, State.INFRASTRUCTURE, "disk full", retryable=fate != 7)


def finish(run: Simulation, fates: dict[str, State] | None = None, reason: str = "said so") -> Simulation:
    """Carry the run to its end; each stage ends as given, once (no infrastructure failure is worth a repetition)."""
    for _ in range(20):
        run.carry()
        if run.ended is not None:
            return run
        for slot in run.live():
            state = (fates or {}).get(slot.stage, State.SUCCESS)
            run.end(slot, state, "" if state in (State.SUCCESS, State.WARNINGS) else reason, retryable=False)
    raise AssertionError(f"the run does not end: {run.states()}")


def fated(pipeline: Pipeline, context: RunContext, seed: int, decide: Decide = decide) -> Simulation:
    """A run in which each attempt's fate is a matter of its slot alone; ``other`` always succeeds."""
    fates = (State.SUCCESS, State.SUCCESS, State.WARNINGS, State.FAILURE, State.INFRASTRUCTURE)
    run = Simulation(pipeline, context, decide=decide)
    while run.ended is None and not run.broken:
        run.carry()
        for slot in run.queued():
            fate = zlib.crc32(f"{slot}{seed}".encode()) % len(fates)
            run.end(slot, State.SUCCESS if slot.stage == "other" else fates[fate])
        run.now += 600.0
    return run

"""A run without Buildbot: carries out what ``decide`` says as the scheduler does, lets builds meet every fate in
any order, crashes between any two actions, and notes each rule of the design that was broken on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from graphs import NOW, PULL_REQUEST, StubFleet

from master.decisions import decide, skip_reason
from master.pipeline import Pipeline, Stage, State
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
    approved_at: float = 0.0
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
        self.carry_on(crash_after)
        if crash_after is None:
            self.check_told()

    def carry_on(self, crash_after: int | None) -> None:
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
                self.check_held(action)
                return self.end(slot, action.state, action.reason, retryable=False)
            case Withdraw(slot=slot) if self.lives(slot):
                self.check_reason(slot, State.CANCELLED, action.reason)
                return self.write(slot, withdrawn=True, reason=action.reason)
            case End() if not again:
                self.check_end(action)
                if self.held:
                    self.breaks("held", "the run ends while it waits for approval")
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

    @property
    def held(self) -> bool:
        return bool(self.context.held) and not self.context.cancelled

    def approve(self) -> None:
        """A maintainer approves its commit."""
        self.context, self.approved_at = replace(self.context, held=""), self.now

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
        if self.context.held:
            self.breaks("held", f"{slot} starts, and nobody has approved it")

    def check_held(self, settle: Settle) -> None:
        """Only what would be skipped anyway ends while a run is held, and patience is not spent on it."""
        removed = settle.state is State.CANCELLED and "removed" in settle.reason
        if self.held and settle.state is not State.SKIPPED and not removed:
            self.breaks("held", f"{settle.slot} ends as {settle.state} while the run waits for approval")
        patience = self.now - self.approved_at
        if "(queue_timeout)" in settle.reason and patience < self.stage(settle.slot).queue_timeout:
            self.breaks("held", f"{settle.slot} has waited for a worker before the run was approved")

    def check_told(self) -> None:
        """What waits for approval says so, and nothing else does."""
        for slot, attempt in self.attempts.items():
            if self.ended is None and self.lives(slot) and attempt.reason.startswith(HELD) is not self.held:
                self.breaks("reasons", f"{slot} says {attempt.reason!r}, and held is {self.held}")

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
        stranger = attempt.state is State.CANCELLED and bool(self.context.held)
        if not (ran or removed or policy or unwanted or stranger or attempt.slot in self.settled):
            self.breaks("always", f"{stage.name} {attempt.past} although it always runs")

    def stage(self, slot: Slot) -> Stage:
        return self.pipeline[slot.stage]

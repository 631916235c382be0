"""What happens to a simulated run: builds meet every fate in any order, people and workers come and go."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from simulation import Decide, Simulation

from master.decisions import decide
from master.pipeline import Pipeline, State
from master.run_model import RunContext, Slot


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
        elif run.held:
            if event == 6 or not choose.numbers:
                run.approve()
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

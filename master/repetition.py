"""Running a stage again: which new attempts that means, and when it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from master.decisions import skip_reason
from master.pipeline import EventKind, Pipeline, Stage, State
from master.run_model import Attempt, Create, RunContext, Slot, latest_attempts

_UNWELL = (State.FAILURE, State.INFRASTRUCTURE, State.CANCELLED, State.BLOCKED)


class Refused(Exception):
    """A wish that the run's state does not allow; the message says why."""


def repetition(pipeline: Pipeline, context: RunContext, attempts: Sequence[Attempt], stage: str = "") -> list[Create]:
    """The new attempts that "run it again" means: of one stage, or of every stage that did not end well.

    What succeeded is kept. Stages that were blocked or cancelled behind it, and the ``always`` stages, run again; these
    alone in a run that was cancelled after all the others had ended well.

    Raises:
        Refused: nothing to repeat, or repeating could not change what is already public.
    """
    there = {(stage.name, variant) for stage in pipeline.stages for variant in stage.variants}
    latest = {key: a for key, a in latest_attempts(attempts).items() if key in there}
    if context.acts_as is EventKind.PULL_REQUEST and context.cancelled.startswith("superseded"):
        raise Refused(f"the run was {context.cancelled}")
    chosen = _asked(pipeline, context, latest, stage) if stage else _unwell(pipeline, latest)
    if not chosen and any(not attempt.state.ended for attempt in latest.values()):
        raise Refused("nothing has failed so far, and the run is still under way")
    if not chosen and context.cancelled:
        chosen = {key for key in latest if pipeline[key[0]].always and not pipeline[key[0]].publishes}
    if not chosen:
        raise Refused("every stage ended well; name a stage to run it again")
    if running := sorted({key[0] for key in chosen if not latest[key].state.ended}):
        raise Refused(f"{', '.join(running)} has not ended yet")
    names = {key[0] for key in chosen}
    # what may fail has no say in what its dependants publish: repeating it changes nothing of theirs
    changing = _behind(pipeline, (name for name in names if not pipeline[name].continue_on_error))
    for follower in _behind(pipeline, names):
        for variant in follower.variants:
            attempt = latest.get((follower.name, variant))
            if attempt is None:
                continue
            if follower.publishes and attempt.state.good and follower.name not in names and follower in changing:
                raise Refused(f"{follower.name} has already published what this run built")
            if not attempt.state.ended:
                continue
            if follower.always or attempt.state in (State.BLOCKED, State.CANCELLED):
                chosen.add(attempt.slot.key)
    return [Create(slot=Slot(*key, latest[key].slot.number + 1), reason="run again") for key in sorted(chosen)]


def _asked(
    pipeline: Pipeline, context: RunContext, latest: dict[tuple[str, str], Attempt], stage: str
) -> set[tuple[str, str]]:
    if stage not in pipeline:
        raise Refused(f"there is no stage {stage!r}; there are {', '.join(pipeline.names())}")
    if why := skip_reason(pipeline, pipeline[stage], replace(context, cancelled="")):
        raise Refused(f"{stage} is skipped in this run: {why}")
    well = any(attempt.state.good for key, attempt in latest.items() if key[0] == stage)
    if pipeline[stage].publishes and context.publish and well:
        raise Refused(f"{stage} has already published what this run built")
    if not (found := {key for key in latest if key[0] == stage}):
        raise Refused(f"this run has had no {stage} so far")
    return found


def _unwell(pipeline: Pipeline, latest: dict[tuple[str, str], Attempt]) -> set[tuple[str, str]]:
    return {
        key
        for key, attempt in latest.items()
        if attempt.state in _UNWELL
        or (attempt.state is State.WARNINGS and pipeline[key[0]].continue_on_error and attempt.reason)
    }


def _behind(pipeline: Pipeline, names: Iterable[str]) -> list[Stage]:
    reached = set(names)
    found = []
    for stage in pipeline.stages:  # needs come first, so one pass reaches all
        if reached.intersection(stage.needs):
            reached.add(stage.name)
            found.append(stage)
    return found

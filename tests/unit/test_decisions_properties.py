"""What holds for every graph, every run and every order of events; and that these checks can fail."""

from __future__ import annotations

from dataclasses import replace

from fates import Choices, fated, play
from graphs import contexts, held, pipelines, rewired, stages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import UNWELL, Simulation

from master.pipeline import EventKind, Pipeline, State
from master.repetition import Refused, repetition
from master.run_model import RunContext

CHOICES = st.lists(st.integers(0, 239), max_size=80)  # 240 is a multiple of most numbers of choices
quick = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(pipeline=pipelines(), context=contexts() | held(), choices=CHOICES)
def test_every_run_keeps_every_rule(pipeline: Pipeline, context: RunContext, choices: list[int]) -> None:
    run = play(Simulation(pipeline, context), Choices(choices))
    assert run.broken == {}
    assert run.ended is not None


@quick
@given(data=st.data(), context=contexts() | held(), choices=CHOICES)
def test_every_rule_holds_through_reconfigurations(
    data: st.DataObject, context: RunContext, choices: list[int]
) -> None:
    first = data.draw(pipelines())
    afterwards = [data.draw(rewired(first)), first, data.draw(pipelines())]
    run = play(Simulation(first, context), Choices([*choices, *(1, 0) * 3]), afterwards)
    assert run.broken == {}
    assert run.ended is not None
    assert {(s.name, v) for s in run.pipeline.stages for v in s.variants} <= run.latest.keys()


@quick
@given(data=st.data(), pipeline=pipelines(), context=held(), choices=CHOICES)
def test_a_held_run_that_nobody_approves_starts_nothing_whatever_happens(
    data: st.DataObject, pipeline: Pipeline, context: RunContext, choices: list[int]
) -> None:
    run = Simulation(pipeline, context)
    run.approve = lambda: run.cancel("superseded")  # type: ignore[method-assign]
    play(run, Choices(choices), [data.draw(rewired(pipeline))])
    assert run.broken == {}
    assert run.order == []
    assert run.ended is not None
    assert run.ended.result is State.CANCELLED


@quick
@given(pipeline=pipelines(), context=contexts() | held(), choices=CHOICES, again=CHOICES)
def test_a_run_that_is_run_again_keeps_every_rule(
    pipeline: Pipeline, context: RunContext, choices: list[int], again: list[int]
) -> None:
    run = play(Simulation(pipeline, context), Choices(choices))
    good = {key for key, a in run.latest.items() if a.state is State.SUCCESS and not pipeline[key[0]].always}
    was = dict(run.latest)
    try:
        created = repetition(pipeline, run.context, list(run.attempts.values()))
    except Refused:
        assert run.ended is not None
        assert not run.ended.result.good or not any(a.state in UNWELL for a in was.values()) or _published(run)
        return
    run.repeat(created)
    play(run, Choices(again))
    assert run.broken == {}
    assert run.ended is not None
    assert {key: run.latest[key].slot for key in good} == {key: was[key].slot for key in good}, "a success was repeated"


def _published(run: Simulation) -> bool:
    return any(a.state.good and run.pipeline[key[0]].publishes for key, a in run.latest.items())


@quick
@given(data=st.data(), pipeline=pipelines(most=4), context=contexts(), seed=st.integers(0, 2**32))
def test_a_stage_that_nobody_needs_changes_nobody_elses_fate(
    data: st.DataObject, pipeline: Pipeline, context: RunContext, seed: int
) -> None:
    other = replace(
        data.draw(stages("other")), when=frozenset(EventKind), publishes=False, secrets=(), paths=(), needs=()
    )
    more = Pipeline(stages=data.draw(st.permutations([*pipeline.stages, other])))
    alone, beside = fated(pipeline, context, seed), fated(more, context, seed)
    fates = {slot: (a.state, a.reason) for slot, a in beside.attempts.items() if slot.stage != "other"}
    assert fates == {slot: (a.state, a.reason) for slot, a in alone.attempts.items()}
    assert alone.ended is not None
    assert beside.ended is not None
    assert beside.ended == alone.ended or alone.ended.result is State.SUCCESS is beside.ended.result


@quick
@given(pipeline=pipelines(), context=contexts() | held(), choices=CHOICES, kill=st.integers(0, 5))
def test_a_master_killed_between_any_two_actions_ends_the_run_as_if_it_had_lived(
    pipeline: Pipeline, context: RunContext, choices: list[int], kill: int
) -> None:
    def ends(crash_after: int | None) -> Simulation:
        run, fates = Simulation(pipeline, context), Choices(list(choices))
        while run.ended is None and not run.broken:
            if crash_after is not None:
                run.carry(crash_after)
            run.carry()
            run.approve()
            for slot in run.queued():
                run.end(slot, (State.SUCCESS, State.FAILURE, State.INFRASTRUCTURE)[fates(3)])
            run.now += 600.0
        return run

    lived, killed = ends(None), ends(kill)
    assert {s: a.state for s, a in killed.attempts.items()} == {s: a.state for s, a in lived.attempts.items()}
    assert killed.ended is not None
    assert lived.ended is not None
    assert killed.ended.result is lived.ended.result

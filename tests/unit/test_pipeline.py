"""The shape of the graph: what makes a pipeline, and what is refused with which words."""

from __future__ import annotations

import pytest
from graphs import document, pipeline, pipelines, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from master.pipeline import Pipeline, Stage, State, graph_problems


def test_needs_come_first_whatever_the_order_of_the_table() -> None:
    names = pipeline(stage("c", "b"), stage("a"), stage("b", "a")).names()
    assert names == ("a", "b", "c")


def test_the_documents_graph_keeps_its_order() -> None:
    assert document().names() == ("test", "docker", "build-linux", "build-windows", "release", "summary")


def test_a_stage_is_found_by_name() -> None:
    graph = document()
    assert graph["release"].needs == ("build-linux", "build-windows")
    assert "release" in graph
    assert "deploy" not in graph
    with pytest.raises(KeyError):
        graph["deploy"]


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ((stage("a"), stage("a")), "stage 'a' is there twice"),
        ((stage("a", "b"),), "stage 'a' needs 'b', which is no stage"),
        ((stage("a", "a"),), "stages need each other in a circle: a -> a"),
        ((stage("a", "b"), stage("b", "a")), "stages need each other in a circle: a -> b -> a"),
        ((stage("x", "a"), stage("a", "b"), stage("b", "a")), "stages need each other in a circle: a -> b -> a"),
        (
            (stage("a", variants=("b-c",)), stage("a-b", variants=("c",))),
            "stages 'a' and 'a-b' would share the builder 'a-b-c'",
        ),
    ],
)
def test_a_wrong_graph_is_refused(stages: tuple[Stage, ...], problem: str) -> None:
    assert problem in graph_problems(stages)
    with pytest.raises(ValueError, match="stage"):
        Pipeline(stages=stages)


def test_all_problems_are_told_at_once() -> None:
    found = graph_problems([stage("a", "nowhere"), stage("a"), stage("b", "c"), stage("c", "b")])
    assert len(found) == 3


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6))
def test_a_circle_is_found_exactly_when_the_stages_cannot_be_put_in_order(edges: list[list[int]]) -> None:
    stages = [stage(f"s{n}", *(f"s{need % len(edges)}" for need in needs)) for n, needs in enumerate(edges)]
    placed: set[str] = set()
    while more := {s.name for s in stages if placed.issuperset(s.needs)} - placed:
        placed |= more
    assert (len(placed) < len(stages)) == any("circle" in problem for problem in graph_problems(stages))


@settings(deadline=None)
@given(pipelines())
def test_every_pipeline_is_in_an_order_in_which_needs_come_first(graph: Pipeline) -> None:
    for place, name in enumerate(graph.names()):
        assert set(graph[name].needs) <= set(graph.names()[:place])


def test_a_circle_of_many_stages_is_found_without_deep_recursion() -> None:
    ring = [stage(f"s{n}", f"s{(n + 1) % 3000}") for n in range(3000)]
    assert any("circle" in problem for problem in graph_problems(ring))


def test_a_variant_is_part_of_its_builders_name() -> None:
    assert stage("test", variants=("cpu",)).builder("cpu") == "test-cpu"
    assert stage("test").builder("") == "test"


def test_states_are_either_open_or_ended_and_only_ended_ones_are_good() -> None:
    assert {s for s in State if not s.ended} == {State.PENDING, State.QUEUED, State.RUNNING}
    assert {s for s in State if s.good} == {State.SUCCESS, State.WARNINGS}
    assert {s for s in State if s.executed} == {State.SUCCESS, State.WARNINGS, State.FAILURE, State.INFRASTRUCTURE}

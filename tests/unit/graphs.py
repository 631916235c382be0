"""Graphs to decide about: the document's six stages, random ones, and the runs and fleets that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from master.pipeline import EventKind, Pipeline, Requires, Stage
from master.run_model import HELD, RunContext

NOW = 1_700_000_000.0
PUSH, PULL_REQUEST, TAG, MANUAL = EventKind.PUSH, EventKind.PULL_REQUEST, EventKind.TAG, EventKind.MANUAL
STRANGER = f"{HELD} (/ci ok 1a2b3c4d5e6f): ann is NONE here"
GATES = ("docker", "build-linux", "build-windows", "release")  #: the document's stages that fail the pipeline


def stage(name: str, *needs: str, **fields: Any) -> Stage:
    return Stage(name=name, uses="commands", needs=needs, **fields)


def pipeline(*stages: Stage) -> Pipeline:
    return Pipeline(stages=stages)


def document(**changes: dict[str, Any]) -> Pipeline:
    """The document's six stages; each keyword changes fields of one (``build_linux={...}``)."""
    stages = (
        stage("test", requires=Requires(os="linux", tools=frozenset({"python"})), continue_on_error=True),
        stage("docker", "test", requires=Requires(os="linux"), when=frozenset({PUSH, TAG}), publishes=True),
        stage("build-linux", "test", requires=Requires(os="linux", tools=frozenset({"cargo"}))),
        stage("build-windows", "test", requires=Requires(os="windows", tools=frozenset({"msvc"}))),
        stage("release", "build-linux", "build-windows", when=frozenset({TAG}), publishes=True),
        stage("summary", *GATES, always=True, requires=Requires(local=True)),
    )
    return pipeline(*(replace(s, **changes.get(s.name.replace("-", "_"), {})) for s in stages))


def context(acts_as: EventKind, kind: EventKind | None = None, **fields: Any) -> RunContext:
    """A run as ``triggers.classify`` would make it: a manual one publishes only when told to."""
    trusted = acts_as is not PULL_REQUEST
    kind = kind or acts_as
    values: dict[str, Any] = {"trusted": trusted, "publish": trusted and kind is not MANUAL, **fields}
    return RunContext(kind=kind, acts_as=acts_as, **values)


@dataclass
class StubFleet:
    """Serves everything, and everybody is connected, except what it is told."""

    reasons: dict[str, str] = field(default_factory=dict)  #: why a stage is not served
    seen: dict[str, float] = field(default_factory=dict)  #: when a worker for a stage was last connected
    refused: dict[str, str] = field(default_factory=dict)  #: why the only workers for a stage are not used

    def unserved(self, stage: Stage, variant: str, trusted: bool) -> str:
        return self.reasons.get(stage.name, "")

    def last_connected(self, stage: Stage, variant: str, trusted: bool) -> float:
        return self.seen.get(stage.name, float("inf"))

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        return self.refused.get(stage.name, "")


KINDS = st.sampled_from(EventKind)


@st.composite
def contexts(draw: st.DrawFn) -> RunContext:
    """Any run that an event can ask for."""
    acts_as = draw(st.sampled_from((PUSH, PULL_REQUEST, TAG)))
    kind = draw(st.sampled_from((acts_as, MANUAL)))
    changed = draw(st.none() | st.lists(st.sampled_from(("src/a.cc", "docs/a.md")), unique=True).map(tuple))
    return context(acts_as, kind, publish=acts_as is not PULL_REQUEST and draw(st.booleans()), changed_files=changed)


@st.composite
def held(draw: st.DrawFn) -> RunContext:
    """A stranger's pull request."""
    return replace(context(PULL_REQUEST, held=STRANGER), changed_files=draw(contexts()).changed_files)


@st.composite
def stages(draw: st.DrawFn, name: str, before: tuple[str, ...] = ()) -> Stage:
    """A stage that may need any of those before it, simple by default."""
    plain = stage(name, *draw(st.lists(st.sampled_from(before), unique=True, max_size=3) if before else st.just([])))
    return replace(
        plain,
        variants=draw(st.sampled_from((("",), ("cpu", "cuda")))),
        continue_on_error=draw(st.integers(0, 3)) == 3,
        always=draw(st.integers(0, 3)) == 3,
        publishes=draw(st.integers(0, 3)) == 3,
        secrets=draw(st.sampled_from(((), ("token",)))),
        when=draw(st.just(frozenset(EventKind)) | st.frozensets(KINDS, min_size=1)),
        paths=draw(st.sampled_from(((), ("src/",)))),
        no_worker=draw(st.sampled_from(("wait", "skip", "fail"))),
        infrastructure_retries=draw(st.integers(0, 3)),
        queue_timeout=600.0,
    )


@st.composite
def pipelines(draw: st.DrawFn, most: int = 6) -> Pipeline:
    """A random acyclic graph of up to ``most`` stages, in random order of the table."""
    names = tuple(f"s{number}" for number in range(draw(st.integers(1, most))))
    made = [draw(stages(name, names[:place])) for place, name in enumerate(names)]
    return pipeline(*draw(st.permutations(made)))


@st.composite
def rewired(draw: st.DrawFn, old: Pipeline) -> Pipeline:
    """The pipeline after a reconfiguration: stages gone, stages new, needs and variants changed."""
    kept = [name for name in old.names() if draw(st.integers(0, 3)) < 3]
    names = tuple(dict.fromkeys((*kept, *(("new",) if draw(st.booleans()) or not kept else ()))))
    return pipeline(*(draw(stages(name, names[:place])) for place, name in enumerate(names)))

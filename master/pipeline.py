"""The stage graph, as data, and every decision about it, as pure functions.

A *run* is one event (push, pull request, tag, manual dispatch) going through the graph. Each stage of a run
has one or more *variants* (``cpu``, ``vulkan`` …), and each variant one or more *attempts*. Nothing here
touches a database, a clock or Buildbot: the scheduler asks :func:`decide` what to do next and does it, and
``mlc-ci plan`` asks :func:`plan`, which plays :func:`decide` forward. That they are the same functions is what
makes the plan true.

The rules, once:

- A stage runs for an event when ``when`` names it and its path filters match; else it is *skipped*, with a reason.
- A need is *satisfied* when every variant of it ended well, or when it is ``continue_on_error`` and ended at all.
- A stage whose need ended otherwise (failed, skipped, blocked, cancelled) is *blocked*, with a reason;
  an ``always`` stage instead starts as soon as all its needs have ended.
- A cancelled run still runs its ``always`` stages: somebody has to say what happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from master.capabilities import GpuWanted

NoWorkerPolicy = Literal["wait", "skip", "fail"]


class EventKind(StrEnum):
    """What started a run."""

    PUSH = "push"
    PULL_REQUEST = "pull_request"
    TAG = "tag"
    MANUAL = "manual"


class State(StrEnum):
    """Where one attempt at one variant of a stage stands."""

    PENDING = "pending"  #: waits for its needs
    QUEUED = "queued"  #: handed to Buildbot, waits for a worker
    RUNNING = "running"
    SUCCESS = "success"
    WARNINGS = "warnings"
    FAILURE = "failure"  #: the code under test is at fault
    INFRASTRUCTURE = "infrastructure"  #: the CI itself failed: worker lost, disk full, repository unreachable
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (State.PENDING, State.QUEUED, State.RUNNING)

    @property
    def good(self) -> bool:
        return self in (State.SUCCESS, State.WARNINGS)

    @property
    def executed(self) -> bool:
        """Whether the attempt ran to a result of its own."""
        return self in (State.SUCCESS, State.WARNINGS, State.FAILURE, State.INFRASTRUCTURE)


@dataclass(frozen=True, kw_only=True)
class Requires:
    """What a worker must have to serve a stage.

    ``local`` stages need no worker of the fleet: they run in the master on the worker reserved for them and
    never touch a checkout. What a worker is and provides is known from the settings; what versions its tools have and
    which GPUs it has, its probe tells.
    """

    os: Literal["linux", "windows"] | None = None
    tools: frozenset[str] = frozenset()
    versions: tuple[str, ...] = ()  #: of tools, as texts: ``cmake>=3.24``
    gpu: GpuWanted | None = None
    local: bool = False

    @property
    def of_probe(self) -> bool:
        """Whether only its probe tells that a worker will do."""
        return bool(self.versions or self.gpu)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a stage may take, in bytes or in numbers; ``None``: as much as its worker has."""

    memory: int | None = None  #: of all processes of one command
    processes: int | None = None  #: processes and threads of one command
    log: int = 100 << 20  #: output of all commands of one build
    artifacts: int = 4 << 30  #: of one build


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the graph. Durations are in seconds."""

    name: str
    uses: str  #: which module of ``steps`` makes its steps
    needs: tuple[str, ...] = ()
    when: frozenset[EventKind] = frozenset(EventKind)
    paths: tuple[str, ...] = ()
    paths_ignore: tuple[str, ...] = ()
    requires: Requires = field(default_factory=Requires)
    variant_requires: Mapping[str, Requires] = field(default_factory=dict)  #: of those that differ; the os never does
    variants: tuple[str, ...] = ("",)  #: ``("",)`` is a stage without variants
    continue_on_error: bool = False
    always: bool = False
    publishes: bool = False  #: its effect is seen outside: skipped in a run that publishes nothing
    validates: bool = False  #: then it runs instead, without secrets and without that effect
    no_worker: NoWorkerPolicy = "wait"
    queue_timeout: float = 6 * 3600.0
    timeout: float = 2 * 3600.0
    silence_timeout: float = 20 * 60.0
    limits: Limits = field(default_factory=Limits)
    infrastructure_retries: int = 2
    secrets: tuple[str, ...] = ()
    permissions: Mapping[str, str] = field(default_factory=dict)

    def builder(self, variant: str) -> str:
        """The Buildbot builder that serves this variant."""
        return f"{self.name}-{variant}" if variant else self.name

    def shown(self, variant: str) -> str:
        """The stage with its variant, for people."""
        return f"{self.name} ({variant})" if variant else self.name

    def requires_for(self, variant: str) -> Requires:
        """What a worker must have to serve this variant."""
        return self.variant_requires.get(variant, self.requires)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages, in an order in which needs come first."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if problems := graph_problems(self.stages):
            raise ValueError("; ".join(problems))
        object.__setattr__(self, "stages", _needs_first(self.stages))

    def __getitem__(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(stage.name == name for stage in self.stages)

    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    @property
    def reads_changes(self) -> bool:
        """Whether it depends on the changed files which stages run."""
        return any(stage.paths or stage.paths_ignore for stage in self.stages)


def graph_problems(stages: Iterable[Stage]) -> list[str]:
    """Everything that is wrong with the shape of the graph: unknown needs, duplicate names, cycles."""
    stages = list(stages)
    problems = []
    names = [stage.name for stage in stages]
    for name in sorted({n for n in names if names.count(n) > 1}):
        problems.append(f"stage {name!r} is there twice")
    builders: dict[str, str] = {}
    for stage in stages:
        for variant in stage.variants:
            builder = stage.builder(variant)
            if builders.setdefault(builder, stage.name) != stage.name:
                problems.append(f"stages {builders[builder]!r} and {stage.name!r} would share the builder {builder!r}")
        for need in stage.needs:
            if need not in names:
                problems.append(f"stage {stage.name!r} needs {need!r}, which is no stage")
    if cycle := _cycle({stage.name: [n for n in stage.needs if n in names] for stage in stages}):
        problems.append("stages need each other in a circle: " + " -> ".join(cycle))
    return problems


def _cycle(needs: Mapping[str, list[str]]) -> list[str]:
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        stack = [(start, iter(needs[start]))]
        path.append(start)
        while stack:
            rest = stack[-1][1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                done.add(path.pop())
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append((following, iter(needs[following])))
    return []


def _needs_first(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    ordered: list[Stage] = []
    left = list(stages)
    while left:
        placed = {stage.name for stage in ordered}
        following = next(stage for stage in left if placed.issuperset(stage.needs))
        ordered.append(following)
        left.remove(following)
    return tuple(ordered)

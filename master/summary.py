"""The summary of a run: how each stage went, what it left, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from master.database.records import Artifact, AttemptRow, RunRow
from master.pipeline import State

_MARK = {
    State.SUCCESS: "✓",
    State.WARNINGS: "!",
    State.FAILURE: "✗",
    State.INFRASTRUCTURE: "✗",
    State.SKIPPED: "–",
    State.BLOCKED: "–",
    State.CANCELLED: "–",
}


@dataclass(frozen=True, kw_only=True)
class StageLine:
    """How one variant of a stage stands, by its newest attempt."""

    stage: str
    variant: str
    state: State
    reason: str
    attempts: int
    duration: float | None
    worker: str
    artifacts: tuple[Artifact, ...]

    @property
    def name(self) -> str:
        return f"{self.stage} ({self.variant})" if self.variant else self.stage


def stage_lines(
    order: Sequence[str], attempts: Sequence[AttemptRow], artifacts: Sequence[tuple[AttemptRow, Artifact]]
) -> list[StageLine]:
    """One line for each variant, in the pipeline's order; stages that it no longer has come last."""
    newest: dict[tuple[str, str], AttemptRow] = {}
    for attempt in attempts:
        newest[attempt.slot.key] = max(newest.get(attempt.slot.key, attempt), attempt, key=lambda a: a.number)
    rank = {name: place for place, name in enumerate(order)}
    files: dict[tuple[str, str], list[Artifact]] = {}
    for source, file in artifacts:
        files.setdefault(source.slot.key, []).append(file)
    return [
        StageLine(
            stage=attempt.stage,
            variant=attempt.variant,
            state=attempt.state,
            reason=attempt.reason,
            attempts=attempt.number,
            duration=_duration(attempt),
            worker=attempt.worker,
            artifacts=tuple(files.get(attempt.slot.key, ())),
        )
        for attempt in sorted(newest.values(), key=lambda a: (rank.get(a.stage, len(rank)), a.slot))
    ]


def verdict(lines: Sequence[StageLine], own_stage: str, tolerated: Collection[str]) -> str:
    """One sentence on the run, as it stands when its summary is written; a failure of ``tolerated`` is a warning."""
    others = [line for line in lines if line.stage != own_stage]
    bad = [line for line in others if line.state in (State.FAILURE, State.INFRASTRUCTURE, State.BLOCKED)]
    gates = [line for line in bad if line.stage not in tolerated]
    if gates:
        return "failed: " + ", ".join(line.name for line in gates)
    if cancelled := [line.name for line in others if line.state is State.CANCELLED]:
        return "cancelled: " + ", ".join(cancelled)
    if odd := [line.name for line in others if line.state is State.WARNINGS or line in bad]:
        return "passed, with warnings: " + ", ".join(odd)
    return "passed"


def text(run: RunRow, lines: Sequence[StageLine], said: str, own_stage: str) -> str:
    """The summary as plain text, for the build's log and the command line."""
    title = f"run {run.id}: {run.kind} {run.ref.removeprefix('refs/heads/')} at {run.head[:12]} {said}"
    rows = [title, f"  {(run.message or '').splitlines()[0] if run.message else ''}".rstrip(), ""]
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        if line.stage == own_stage:
            continue
        took = f"{line.duration:.0f} s" if line.duration is not None else ""
        tries = f", attempt {line.attempts}" if line.attempts > 1 else ""
        mark = _MARK.get(line.state, "…")
        rows.append(f"{mark} {line.name:<{width}}  {line.state:<14} {took:>7}{tries}  {line.reason}".rstrip())
        rows += [f"    {file.name}  {file.size} bytes  sha256 {file.sha256}" for file in line.artifacts]
    if steps := next_steps(run, lines, own_stage):
        rows += ["", "Next:", *[f"- {step}" for step in steps]]
    return "\n".join(rows) + "\n"


def next_steps(run: RunRow, lines: Sequence[StageLine], own_stage: str) -> list[str]:
    """What somebody who reads the summary should do."""
    steps = []
    if run.cancelled.startswith("superseded"):
        return [f"nothing: this run was {run.cancelled}"]
    for line in lines:
        if line.stage == own_stage:
            continue
        if line.state is State.FAILURE:
            steps.append(f"{line.name}: open its log on the page; the first error is: {line.reason or 'in the log'}")
        elif line.state is State.INFRASTRUCTURE:
            steps.append(f"{line.name}: not the code's fault ({line.reason}); put it right and run it again")
        elif line.state is State.WARNINGS:
            steps.append(f"{line.name}: look at its warnings ({line.reason or 'see its log'})")
    if any(line.state in (State.FAILURE, State.INFRASTRUCTURE) for line in lines):
        steps.append(f"mlc-ci retry {run.id} runs again what did not end well, and keeps what did")
    return steps


def _duration(attempt: AttemptRow) -> float | None:
    if attempt.started_at is None or attempt.ended_at is None:
        return None
    return attempt.ended_at - attempt.started_at

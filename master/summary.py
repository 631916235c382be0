"""The summary of a run: how each stage went, what it left, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from master.database.build_facts import BuildFacts
from master.database.records import Artifact, AttemptRow, RunRow
from master.pipeline import State
from steps.usage import GPU_USAGE
from workers.gpu.usage import told

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
    build: BuildFacts | None = None

    @property
    def properties(self) -> Mapping[str, Any]:
        return self.build.properties if self.build else {}

    @property
    def name(self) -> str:
        return f"{self.stage} ({self.variant})" if self.variant else self.stage


def stage_lines(
    order: Sequence[str],
    attempts: Sequence[AttemptRow],
    artifacts: Sequence[tuple[AttemptRow, Artifact]],
    builds: Mapping[int, BuildFacts],
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
            build=builds.get(attempt.build_id or 0),
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


def text(run: RunRow, lines: Sequence[StageLine], said: str, own_stage: str, page: str) -> str:
    """The summary as plain text, for the build's log and the command line. ``page`` is Buildbot's own page."""
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
        rows += [f"    {told(gpu, use)}" for gpu, use in sorted(line.properties.get(GPU_USAGE, {}).items())]
        rows += list(_images(line))
        rows += [f"    warning: {warning}" for warning in line.properties.get("cache_warnings", ())]
    if compared := list(comparison(lines)):
        rows += ["", "Prebuilt against built:", *[f"  {row}" for row in compared]]
    if steps := next_steps(run, lines, own_stage, page):
        rows += ["", "Next:", *[f"- {step}" for step in steps]]
    return "\n".join(rows) + "\n"


def _images(line: StageLine) -> Iterator[str]:
    """What it has published: an image by its digest, which says the same for good, and its tags."""
    for image in line.properties.get("images", ()) if line.state.good else ():
        yield f"    {image['repository']}@{image['digest']}  {', '.join(image['tags'])}"
        if image["kept"]:
            yield f"    {', '.join(image['kept'])} stayed with a newer commit"


def comparison(lines: Sequence[StageLine]) -> Iterator[str]:
    """What is published, as the test stage found it, beside what this run built; and where their TVM differs."""
    published: dict[str, set[str]] = {}
    for line in lines:
        prebuilt = line.properties.get("prebuilt")
        if isinstance(prebuilt, Mapping):
            for name, version in prebuilt.items():
                published.setdefault(name, set()).add(version)
            tests = line.properties.get("tests") or {}
            counts = ", ".join(f"{number} {what}" for what, number in tests.items()) or "no test was run"
            yield f"prebuilt  {line.name}: {_packages(prebuilt)}; tests: {counts}{_ended(line)}"
    differences = []
    for line in lines:
        built = line.properties.get("built")
        if isinstance(built, Mapping):
            for name, version in sorted(built["tvm"].items()):
                if version not in published.get(name, {version}):
                    there = ", ".join(sorted(published[name]))
                    differences.append(
                        f"differs   {line.name}: tried with {name} {version}, and what is published has {there}"
                    )
            size = next((f", {file.size} bytes" for file in line.artifacts if file.name.endswith(".whl")), "")
            with_tvm = f", with {_packages(built['tvm'])}" if built["tvm"] else ", with no TVM installed beside it"
            yield f"built     {line.name}: {built['name']} {built['version']}{size}{with_tvm}{_ended(line)}"
    yield from differences


def _packages(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "nothing was installed"


def _ended(line: StageLine) -> str:
    return "" if line.state is State.SUCCESS else f" ({line.state})"


def next_steps(run: RunRow, lines: Sequence[StageLine], own_stage: str, page: str) -> list[str]:
    """What somebody who reads the summary should do."""
    steps = []
    if run.cancelled.startswith("superseded"):
        return [f"nothing: this run was {run.cancelled}"]
    for line in lines:
        if line.stage == own_stage:
            continue
        if line.state is State.FAILURE:
            steps.append(f"{line.name}: {line.reason or 'the code is at fault'}")
        elif line.state is State.INFRASTRUCTURE:
            steps.append(f"{line.name}: not the code's fault ({line.reason}); put it right and run it again")
        elif line.state is State.WARNINGS:
            steps.append(f"{line.name}: look at its warnings ({line.reason or 'see its log'})")
        else:
            continue
        steps[-1] += "".join(f"\n    {where}" for where in _where(run, line, page))
    if any(line.state in (State.FAILURE, State.INFRASTRUCTURE) for line in lines):
        steps.append(f"mlc-ci retry {run.id} runs again what did not end well, and keeps what did")
    return steps


def _where(run: RunRow, line: StageLine, page: str) -> Iterator[str]:
    """The log and its line, and the command that does it again; nothing for a stage that has not run."""
    if line.build is None:
        return
    failure = line.build.failure
    where = f"{page}#/builders/{line.build.builder_id}/builds/{line.build.number}"
    if failure and failure.log:
        log = f"{where}/steps/{failure.log.step_number}/logs/{failure.log.slug}"
        at = f", line {failure.line + 1}" if failure.line is not None else ""
        yield f"log: {log} (step {failure.log.step}{at})"
    else:
        yield f"build: {where}"
    if failure:
        variant = f" --variant {line.variant}" if line.variant else ""
        yield f"again on this machine: mlc-ci reproduce {run.id} {line.stage}{variant}"


def _duration(attempt: AttemptRow) -> float | None:
    if attempt.started_at is None or attempt.ended_at is None:
        return None
    return attempt.ended_at - attempt.started_at

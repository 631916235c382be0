"""What the page is told: runs as JSON. Pure; times are seconds since the epoch, and ages are the page's to count.

A stage of a run is told by its newest attempt, in the order of the pipeline; stages that a reconfiguration
removed come last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from master.database.reads import BuildPlace, LogPlace, PlacedAttempt, RunsPage, WholeRun
from master.database.records import Artifact, RunRow
from master.pipeline import Pipeline, State
from master.repetition import Refused, repetition

Json = dict[str, Any]

_TITLE = 200  #: characters of a commit message's first line that a list shows


def runs_page(page: RunsPage, pipeline: Pipeline, *, default_branch: str) -> Json:
    """The list of runs. ``older`` is what to ask for as ``before`` to see the next page; ``None`` on the last."""
    by_run: dict[int, list[PlacedAttempt]] = {}
    for attempt in page.attempts:
        by_run.setdefault(attempt.row.run_id, []).append(attempt)
    return {
        "runs": [{**_run(run), "stages": _stages(by_run.get(run.id, []), pipeline)} for run in page.runs],
        "older": page.runs[-1].id if page.more and page.runs else None,
        "default_branch": default_branch,
    }


def run_page(whole: WholeRun, pipeline: Pipeline, *, may_control: bool) -> Json:
    """One run with all its attempts. ``may_control`` is whether who asks may cancel it and repeat its stages;
    they are then told for each of these what would refuse it (empty: nothing)."""
    by_slot: dict[tuple[str, str], list[PlacedAttempt]] = {}
    for attempt in whole.attempts:
        by_slot.setdefault(attempt.row.slot.key, []).append(attempt)
    stages = _stages(whole.attempts, pipeline)
    for stage in stages:
        name = stage["name"]
        stage["needs"] = list(pipeline[name].needs) if name in pipeline else []
        stage["history"] = [
            _attempt(attempt, whole) for attempt in reversed(by_slot[name, stage["variant"]])
        ]  # newest first
        if may_control:
            stage["repeat_refused"] = _refusal(whole, pipeline, name)
    return {
        **_run(whole.run),
        "message": whole.run.message,
        "base": whole.run.base,
        "reason": whole.run.reason,
        "threads": whole.run.threads,
        "selected": whole.run.selected,
        "stages": stages,
        "journal": [{"at": at, "text": text} for at, text in whole.journal],
        "may_control": may_control,
        "repeat_refused": _refusal(whole, pipeline, "") if may_control else "",
    }


def _run(run: RunRow) -> Json:
    return {
        "id": run.id,
        "event": run.kind.value,
        "acts_as": run.acts_as.value,
        "ref": run.ref,
        "head": run.head,
        "pull_request": run.pull_request,
        "tag": run.tag,
        "title": run.message.strip().partition("\n")[0][:_TITLE],
        "author": run.author,
        "trusted": run.trusted,
        "publish": run.publish,
        "created_at": run.created_at,
        "ended_at": run.ended_at,
        "live": run.ended_at is None,
        "result": run.result,
        "result_reason": run.result_reason,
        "cancelled": run.cancelled,
        "held": run.held,
        "approved": run.approved,
    }


def _stages(attempts: Iterable[PlacedAttempt], pipeline: Pipeline) -> list[Json]:
    newest: dict[tuple[str, str], PlacedAttempt] = {}
    for attempt in attempts:
        known = newest.get(attempt.row.slot.key)
        if known is None or known.row.number < attempt.row.number:
            newest[attempt.row.slot.key] = attempt
    order = {(s.name, variant): place for place, (s, variant) in enumerate(_variants(pipeline))}
    keys = sorted(newest, key=lambda key: (order.get(key, len(order)), key))
    return [_stage(newest[key]) for key in keys]


def _variants(pipeline: Pipeline) -> list[tuple[Any, str]]:
    return [(stage, variant) for stage in pipeline.stages for variant in stage.variants]


def _stage(attempt: PlacedAttempt) -> Json:
    row = attempt.row
    return {
        "name": row.stage,
        "variant": row.variant,
        "state": row.state.value,
        "live": not row.state.ended,
        "reason": row.reason,
        "attempts": row.number,
        "worker": row.worker,
        "waiting_since": row.waiting_since or None,
        "not_before": row.not_before or None,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "request_id": row.request_id,
        "build": _build(attempt.build, running=not row.state.ended),
    }


def _attempt(attempt: PlacedAttempt, whole: WholeRun) -> Json:
    row = attempt.row
    logs = whole.logs.get(row.build_id or 0, ()) if attempt.build else ()
    return {
        **_stage(attempt),
        "id": row.id,
        "number": row.number,
        "created_at": row.created_at,
        "lost_with_worker": row.lost_with_worker,
        "lost_with_master": row.lost_with_master,
        "artifacts": [_artifact(row.run_id, row.id, file) for file in whole.artifacts.get(row.id, ())],
        "logs": [_log(log) for log in logs],
        "tests": whole.tests.get(row.build_id or 0),
        "images": list(whole.images.get(row.build_id or 0, ())) if row.state.good else [],
        "failure": _failure_class(attempt, whole),
        "used": [{"gpu": gpu, **use} for gpu, use in sorted(whole.used.get(row.build_id or 0, {}).items())],
    }


def _failure_class(attempt: PlacedAttempt, whole: WholeRun) -> str:
    """*code* or *infrastructure*; empty where nothing failed."""
    by_state = {State.FAILURE: "code", State.INFRASTRUCTURE: "infrastructure"}.get(attempt.row.state, "")
    return whole.failures.get(attempt.row.build_id or 0, "") or by_state


def _build(build: BuildPlace | None, *, running: bool) -> Mapping[str, Any] | None:
    if build is None:
        return None
    return {"builderid": build.builder_id, "number": build.number, "doing": build.doing if running else ""}


def _log(log: LogPlace) -> Json:
    return {"step": log.step, "step_number": log.step_number, "name": log.log, "slug": log.slug}


def _artifact(run_id: int, attempt_id: int, file: Artifact) -> Json:
    """``link`` is relative to the API's own address, so that it holds behind any proxy."""
    return {
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "removed": file.removed,
        "link": f"runs/{run_id}/artifacts/{attempt_id}/{quote(file.name)}",
    }


def _refusal(whole: WholeRun, pipeline: Pipeline, stage: str) -> str:
    try:
        repetition(pipeline, whole.run.context, [attempt.row.facts for attempt in whole.attempts], stage)
    except Refused as refused:
        return str(refused)
    return ""

"""A few lines of a log around the one that says what went wrong: numbered, within bounds, without colours."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from master.database.failures import Failure, StepLog
from master.database.records import AttemptRow
from master.pipeline import State

BEFORE, AFTER = 6, 10  #: lines of context
_TAIL = 15  #: lines, where no line says it
_LONGEST = 400  #: characters of a line

Json = dict[str, Any]
_NOWHERE: Json = {"step": "", "step_number": None, "log": "", "line": None, "lines": [], "missing": ""}


def failure_without_log(attempt: AttemptRow) -> Json:
    """What the page shows of a failure that no step tells of: the build went with its worker, or with the master."""
    lost = (
        "its build was lost, and no step of it failed" if attempt.lost_with_worker or attempt.lost_with_master else ""
    )
    return {
        "class": "code" if attempt.state is State.FAILURE else "infrastructure",
        "reason": attempt.reason,
        **_NOWHERE,
        "missing": lost or "no step of it failed",
    }


async def failure_page(master: Any, failure: Failure) -> Json:
    """What the page shows of a failure. ``line`` and each line's ``number`` count from 1, as the log's page does."""
    log = failure.log
    told: Json = {
        "class": failure.failure_class,
        "reason": failure.reason,
        **_NOWHERE,
    }
    if log is not None:
        told |= {"step": log.step, "step_number": log.step_number, "log": log.slug}
    if log is None or not log.lines:
        return {**told, "missing": "there is no log of it"}
    if log.deleted:
        return {**told, "missing": "its log is no longer kept"}
    marked = failure.line if failure.line is not None and failure.line < log.lines else None
    first = max(0, log.lines - _TAIL) if marked is None else max(0, marked - BEFORE)
    last = log.lines - 1 if marked is None else min(marked + AFTER, log.lines - 1)
    chunk = await master.data.get(("logs", str(log.log_id), "contents"), offset=first, limit=last - first + 1)
    lines = excerpt(chunk["content"], first, log)
    if not lines:  # the janitor came in between
        return {**told, "missing": "its log is no longer kept"}
    return {**told, "line": None if marked is None else marked + 1, "lines": lines}


def excerpt(content: str, first: int, log: StepLog) -> list[Json]:
    """Lines as Buildbot's data API gives them, for the page."""
    found = []
    for place, line in enumerate(content.removesuffix("\n").split("\n") if content else []):
        header = log.streamed and line.startswith("h")
        text = _plain(line[1:] if log.streamed else line)
        found.append({"number": first + place + 1, "text": text, "header": header})
    return found


def _plain(line: str) -> str:
    shown = Text.from_ansi(line[: 4 * _LONGEST].rstrip("\r")).plain
    return shown if len(line) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(line) - _LONGEST} more characters)"

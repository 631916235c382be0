"""What a maintainer asks for on a pull request: a comment's first line, or a label, as a typed wish; and its doing.

    /ci ok              approves the commit that the pull request has now, if its run was there for people to see
    /ci ok 1a2b3c4      approves this commit, and no other
    /ci retry [STAGE]   runs again what did not end well, or one stage
    /ci cancel          ends the newest run

Who may do this is GitHub's to say: the caller asks for the commenter's permission and hands it in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from master.database import approvals
from master.database.records import RunRow
from master.repetition import Refused

MAY = frozenset({"admin", "maintain", "write"})  #: GitHub's permissions that give orders; read and triage do not
UNDERSTOOD = "/ci ok, /ci ok SHA (7 digits or more of the commit), /ci retry, /ci retry STAGE and /ci cancel"

_SEEN_S = 60.0  #: a run made this shortly before is nothing that somebody has looked at; clocks may differ by less

_COMMAND = re.compile(r"/ci(?:[ \t]+(?P<words>.*))?", re.ASCII)
_SHA = re.compile(r"[0-9a-f]{7,64}", re.ASCII)
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Approve:
    """Let the held run of a commit go on.

    ``sha`` is the commit, or how it begins; empty: the one that the pull request has. ``at`` is when it was asked
    for, in seconds since the epoch by GitHub's clock.
    """

    pull: int
    by: str
    at: float
    sha: str = ""

    @property
    def needs_head(self) -> bool:
        """Whether :func:`perform` has to be told the pull request's current commit."""
        return not self.sha

    def __str__(self) -> str:
        return f"/ci ok {self.sha[:12]}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Run again what did not end well, or one stage."""

    pull: int
    by: str
    at: float  #: as in ``Approve``
    stage: str = ""
    needs_head = False

    def __str__(self) -> str:
        return f"/ci retry {self.stage}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """End the newest run."""

    pull: int
    by: str
    at: float  #: as in ``Approve``
    needs_head = False

    def __str__(self) -> str:
        return "/ci cancel"


@dataclass(frozen=True)
class NotUnderstood:
    """A comment that begins as a command and is none; ``text`` says what is understood."""

    text: str


Command = Approve | Retry | Cancel


def parse(text: str, *, pull: int, by: str, at: float) -> Command | NotUnderstood | None:
    """The command in a comment's first line; ``None`` for a comment that is none, as a quoted one is."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].rstrip()
    if not (found := _COMMAND.fullmatch(first)):
        return None
    match (found["words"] or "").split():
        case ["ok"]:
            return Approve(pull=pull, by=by, at=at)
        case ["ok", sha] if _SHA.fullmatch(sha.lower()):
            return Approve(pull=pull, by=by, at=at, sha=sha.lower())
        case ["retry"]:
            return Retry(pull=pull, by=by, at=at)
        case ["retry", stage] if _STAGE.fullmatch(stage):
            return Retry(pull=pull, by=by, at=at, stage=stage)
        case ["cancel"]:
            return Cancel(pull=pull, by=by, at=at)
    return NotUnderstood(f"{first[:60]!r} is not understood; these are: {UNDERSTOOD}")


async def perform(command: Command, scheduler: Any, *, permission: str, head: str = "") -> str:
    """Do it; what came of it.

    Args:
        permission: of the one who asks, as GitHub says it for this repository.
        head: the pull request's current commit, as GitHub says; see ``needs_head``.

    Raises:
        Refused: with the reason, which the journal of the pull request's newest run says too.
    """
    pool = scheduler.master.db.pool
    runs: Sequence[RunRow] = await pool.do(approvals.runs_of_pull, command.pull)
    if not runs:
        raise Refused(f"pull request {command.pull} has no run")
    try:
        return await _done(command, scheduler, runs, permission, head)
    except Refused as refused:
        if isinstance(command, Retry) and permission in MAY:  # the scheduler has noted it
            raise
        order = " ".join(str(command).split()[:2])  # no more: a stranger can make up many names of stages
        said, now = f"{order} by {command.by} refused: {refused}", scheduler.master.reactor.seconds()
        await pool.do_with_transaction(approvals.note_once, runs[0].id, said, now)
        raise


async def _done(command: Command, scheduler: Any, runs: Sequence[RunRow], permission: str, head: str) -> str:
    if permission not in MAY:
        raise Refused(f"{command.by} may not give orders here: GitHub says {permission or 'none'}, and it takes write")
    match command:
        case Approve():
            run = _meant(command, runs, head)
            await scheduler.approve(run.id, run.head, command.by)
            return f"run {run.id} for commit {run.head[:12]} is approved by {command.by}"
        case Retry():
            newest = _known_to(command, runs)
            because = f"run again by {command.by}"
            slots = await scheduler.repeat(newest.id, command.stage, because=because)
            return f"run {newest.id} runs again: {', '.join(map(str, slots))}"
        case Cancel():
            newest = _known_to(command, runs)
            if not await scheduler.cancel(newest.id, f"cancelled by {command.by}"):
                ended = newest.ended_at is not None
                raise Refused(f"run {newest.id} {'has ended' if ended else f'was {newest.cancelled} before'}")
            return f"run {newest.id} is cancelled"


def _known_to(command: Retry | Cancel, runs: Sequence[RunRow]) -> RunRow:
    """The newest run, unless the order waited for so long that it was meant for another."""
    newest = runs[0]
    if newest.created_at > command.at:
        raise Refused(f"run {newest.id} was made after {command} was written: say it again if it is meant, too")
    return newest


def _meant(command: Approve, runs: Sequence[RunRow], head: str) -> RunRow:
    """The run of the commit that is approved: the one that is named, or the one that there was to see."""
    if command.sha:
        named = [run for run in runs if run.head.startswith(command.sha)]
        if len({run.head for run in named}) > 1:
            heads = ", ".join(sorted({run.head for run in named}))
            raise Refused(f"{command.sha} may be any of {heads}: name the whole commit")
        if not named:
            raise Refused(f"pull request {command.pull} has no run of a commit {command.sha[:12]}")
        return named[0]
    newest = runs[0]
    if newest.head != head:
        raise Refused(f"the pull request is at {head[:12]} by now, and run {newest.id} is for {newest.head[:12]}")
    if newest.created_at > command.at - _SEEN_S:
        raise Refused(
            f"run {newest.id} came after the approval, or less than {_SEEN_S:.0f} s before it: its commit may not be"
            f" the one that was looked at. Name it (/ci ok {head[:12]}), or wait and approve again"
        )
    return newest

"""What is known of a run and what can be done with it: the words the decisions are made in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from master.pipeline import EventKind, Stage, State

NOT_USED = "no worker that fits is connected: "  #: how :meth:`Fleet.turned_away` begins
WAITING = "waiting: "  #: how it begins where one is connected
HELD = "waits for a maintainer to approve it"  #: how :attr:`RunContext.held` begins


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the decisions read of a run.

    ``acts_as`` is what a manual run is treated as: a push on the default branch, a tag on a tag, and a pull
    request (untrusted, publishing nothing) on any other ref. ``changed_files`` is ``None`` when unknown: path
    filters then match. ``selected`` is a manual run's choice of stages, ``None`` for all.
    """

    kind: EventKind
    acts_as: EventKind
    trusted: bool
    publish: bool
    selected: frozenset[str] | None = None
    changed_files: tuple[str, ...] | None = None
    cancelled: str = ""  #: why the run was cancelled or superseded; empty while it is wanted
    held: str = ""  #: why nothing of it may start before a maintainer has approved its commit; empty when it may


@dataclass(frozen=True, order=True)
class Slot:
    """The place of one attempt in its run; with the run's id it is unique."""

    stage: str
    variant: str
    number: int

    @property
    def key(self) -> tuple[str, str]:
        return (self.stage, self.variant)

    def __str__(self) -> str:
        return f"{self.stage}/{self.variant or 'default'}/{self.number}"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One row of ``stage_attempts``, as far as the decisions read it. Times are seconds since the epoch."""

    slot: Slot
    state: State
    reason: str = ""
    retryable: bool = True  #: an infrastructure failure that another attempt might not meet
    not_before: float = 0.0
    waiting_since: float = 0.0  #: when it became ready for a worker
    withdrawn: bool = False  #: Buildbot has been told to take it back

    @property
    def past(self) -> str:
        """How it ended, as the end of a sentence that begins with its stage."""
        said = {
            State.SUCCESS: "succeeded",
            State.FAILURE: "failed",
            State.INFRASTRUCTURE: "failed for infrastructure",
            State.SKIPPED: "was skipped",
            State.BLOCKED: "was blocked",
            State.CANCELLED: "was cancelled",
            State.WARNINGS: "ended with warnings",
        }.get(self.state, f"is {self.state}")
        return f"{said} ({self.reason})" if self.reason else said


class Fleet(Protocol):
    """What the decisions ask about workers."""

    def unserved(self, stage: Stage, variant: str, trusted: bool) -> str:
        """Why no configured worker can serve it; empty when one can."""

    def last_connected(self, stage: Stage, variant: str, trusted: bool) -> float:
        """When a worker that can serve it was last seen connected."""

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        """Why no worker that is connected, or tried to, can serve it just now; empty when one can, once it is free, and
        when there is none."""


@dataclass(frozen=True, kw_only=True)
class Create:
    """Record an attempt, pending."""

    slot: Slot
    not_before: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Enqueue:
    """Hand a pending attempt to Buildbot."""

    slot: Slot


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Say why a ready attempt cannot be handed over yet."""

    slot: Slot
    reason: str


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Say why an attempt that was handed over still waits."""

    slot: Slot
    reason: str


@dataclass(frozen=True, kw_only=True)
class Settle:
    """End an attempt whose end is not Buildbot's to tell."""

    slot: Slot
    state: State
    reason: str


@dataclass(frozen=True, kw_only=True)
class Withdraw:
    """Take back from Buildbot an attempt that it has queued or is running."""

    slot: Slot
    reason: str


@dataclass(frozen=True, kw_only=True)
class End:
    """Close the run."""

    result: State
    reason: str


Action = Create | Enqueue | Wait | Explain | Settle | Withdraw | End


def latest_attempts(attempts: Iterable[Attempt]) -> dict[tuple[str, str], Attempt]:
    """The newest attempt of each (stage, variant)."""
    latest: dict[tuple[str, str], Attempt] = {}
    for attempt in attempts:
        known = latest.get(attempt.slot.key)
        if known is None or known.slot.number < attempt.slot.number:
            latest[attempt.slot.key] = attempt
    return latest

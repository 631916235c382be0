"""Which build has which GPU: one ledger, in memory, that says yes at most once.

Pure: whoever asks brings what is known of the host, and the time. A lease is of one board, by its id, and is made for
a build request: before its build exists, so that nobody else gets the board while Buildbot begins it. A lease without a
build is found by :meth:`Ledger.sweep`. Nothing is kept over a restart of the master: no build outlives that either.

- Boards are leased whole. Where the settings allow shares, one that asks for some memory gets that much of a board.
- A board that NVML names (``GPU-…``, unique in the world) is one board, whichever workers of its host tell of it.
- One on which a build found a fault is quarantined, each time for twice as long; then the next build tries it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from master.boards import Ahead, HostBoards, Refusals, Taken, left_over
from master.capabilities import Capabilities, Device, GpuWanted

QUARANTINE_S, LONGEST_QUARANTINE_S = 60.0, 6 * 3600.0
_IN_ORDER_AGAIN_S = 24 * 3600.0  #: after its quarantine, a board's earlier faults are forgotten
UNKNOWN = Refusals(reasons=("has not said yet what it has",))
NVML = "GPU-"  #: how the ids begin that NVML gives


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One board, or a share of it, for one build request."""

    request: int
    worker: str
    gpu: str
    api: str
    index: int | None = None  #: as its driver counts, where that is known
    memory: int | None = None  #: bytes of it; ``None``: all of it
    since: float = 0.0
    board: str = ""  #: the ledger's name of it
    holder: str = ""  #: what the request is for, in words: ``run 12, build-linux (cuda)``

    def as_property(self) -> dict[str, Any]:
        """For the build property ``gpus``."""
        return {"id": self.gpu, "api": self.api, "index": self.index, "memory": self.memory}


Leases = tuple[Lease, ...]


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    reason: str
    until: float
    strikes: int = 1  #: faults in a row


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A worker's host, and a time (the master's clock) after which it was looked at."""

    host: Capabilities
    after: float


@dataclass
class _Board:
    taken: Taken = field(default_factory=Taken)
    released: float | None = None


class Ledger:
    """The leases of this master's life.

    ``sites``: worker -> its host, of workers that are known to share one.
    """

    def __init__(self, *, shares: bool = False, sites: Mapping[str, str] | None = None) -> None:
        self.shares = shares
        self.sites: Mapping[str, str] = sites or {}
        self._held: dict[int, Leases] = {}
        self._begun: set[int] = set()  # requests whose build has begun
        self._boards: dict[str, _Board] = {}  # those that are or were leased
        self._quarantined: dict[str, Quarantine] = {}

    # -- taking

    def reserve(
        self,
        request: int,
        worker: str,
        wanted: GpuWanted,
        seen: Seen | None,
        now: float,
        ahead: Callable[[], Iterable[Ahead]] = tuple,
        holder: str = "",
    ) -> Leases | Refusals:
        """Boards of this worker for this request, or why it gets none. What it had reserved before, it has no more."""
        if request in self._begun:
            return Refusals(reasons=("is building it already",))
        self.release(request, now)
        if seen is None:
            return UNKNOWN
        boards = self._on_paper(worker, seen, now)
        found = boards.choose(wanted, ahead())
        if isinstance(found, Refusals):
            return found
        leases = []
        for device in found:
            name = self._name(worker, device.id)
            taken = self._boards.setdefault(name, _Board()).taken
            taken.size = taken.size if taken.shares else device.usable
            taken.shares[request] = memory = boards.share(wanted, device)
            leases.append(
                Lease(
                    request=request,
                    worker=worker,
                    gpu=device.id,
                    api=wanted.api,
                    index=device.index,
                    memory=memory,
                    since=now,
                    board=name,
                    holder=holder,
                )
            )
        self._held[request] = tuple(leases)
        return self._held[request]

    def preview(
        self, worker: str, wanted: GpuWanted, seen: Seen | None, now: float, ahead: Iterable[Ahead] = ()
    ) -> Sequence[Device] | Refusals:
        """The boards that a request would get now, behind these others; nothing is reserved."""
        return UNKNOWN if seen is None else self._on_paper(worker, seen, now).choose(wanted, ahead)

    def _on_paper(self, worker: str, seen: Seen, now: float) -> HostBoards:
        """The host's boards, without what our own builds take or have taken of their memory."""
        lent = self.lent(worker, seen)
        devices, taken = [], {}
        for device in seen.host.devices:
            board = self._boards.get(self._name(worker, device.id))
            if board and board.taken.shares:
                taken[device.id] = board.taken
                devices.append(replace(device, memory_free=board.taken.size))
            elif device.id in lent:
                devices.append(replace(device, memory_free=device.memory_total))
            else:
                devices.append(device)
        host = replace(seen.host, devices=tuple(devices))
        return HostBoards(host, dict(self._unfit(worker, host, now)), taken, holder=self._holder, shares=self.shares)

    def _holder(self, request: int) -> str:
        said = {lease.holder for lease in self._held.get(request, ()) if lease.holder}
        return next(iter(said), f"build request {request}")

    def _unfit(self, worker: str, host: Capabilities, now: float) -> Iterator[tuple[str, str]]:
        for device in host.devices:
            name = self._name(worker, device.id)
            quarantine, board = self._quarantined.get(name), self._boards.get(name)
            if quarantine and now < quarantine.until:
                yield device.id, quarantine.reason
            elif device.ailing:
                yield device.id, device.ailing[0]
            elif not (board and board.taken.shares) and (left := left_over(device)):
                yield device.id, left

    # -- what is taken

    def held(self) -> list[Lease]:
        return [lease for leases in self._held.values() for lease in leases]

    def boards(self, worker: str, seen: Seen) -> set[str]:
        """The ledger's names of the boards of a worker's host."""
        return {self._name(worker, device.id) for device in seen.host.devices}

    def open(self, worker: str, seen: Seen) -> int:
        """How many boards of the host are not taken whole: cheap, for who needs more than that."""
        boards = (self._boards.get(self._name(worker, device.id)) for device in seen.host.devices)
        return sum(not board or None not in board.taken.shares.values() for board in boards)

    def has(self, request: int) -> bool:
        return request in self._held

    def lent(self, worker: str, seen: Seen) -> frozenset[str]:
        """Ids of the boards that a build of ours holds, or has held since they were looked at: what was said of their
        free memory tells about that build."""
        boards = ((device.id, self._boards.get(self._name(worker, device.id))) for device in seen.host.devices)
        return frozenset(gpu for gpu, board in boards if board and _was_taken(board, seen.after))

    def quarantined(self, worker: str, now: float) -> dict[str, str]:
        """The boards that are not used, as builds found a fault on them: id -> why."""
        site = self._site(worker)
        return {
            name.removeprefix(site): each.reason
            for name, each in self._quarantined.items()
            if now < each.until and name.startswith((NVML, site))
        }

    # -- giving back

    def begin(self, request: int, worker: str) -> Leases:
        """The leases of a build that begins on this worker. From here on only its end frees them, or a sweep."""
        leases = self._held.get(request, ())
        if not leases or leases[0].worker != worker:
            return ()
        self._begun.add(request)
        return leases

    def release(self, request: int, now: float, *, only: Leases | None = None, good: bool = False) -> Leases:
        """Free what a request has; with ``only``, if it is that very reservation and no later one. What was freed.

        ``good``: the build ended well, so its boards are in order again.
        """
        leases = self._held.get(request, ())
        if not leases or (only is not None and only is not leases):
            return ()
        del self._held[request]
        self._begun.discard(request)
        for lease in leases:
            board = self._boards[lease.board]
            del board.taken.shares[request]
            board.released = now
            quarantine = self._quarantined.get(lease.board)
            if good and quarantine and quarantine.until <= lease.since:
                del self._quarantined[lease.board]
        return leases

    def sweep(self, live: Collection[int], now: float) -> list[int]:
        """Free what is held for requests that are neither being built nor about to be; their ids."""
        gone = [request for request in self._held if request not in live]
        for request in gone:
            self.release(request, now)
        return gone

    def quarantine(self, worker: str, gpu: str, reason: str, now: float) -> float:
        """Let no further build onto a board on which one found a fault; until when."""
        name = self._name(worker, gpu)
        before = self._quarantined.get(name)
        strikes = before.strikes + 1 if before and now < before.until + _IN_ORDER_AGAIN_S else 1
        lasts = min(QUARANTINE_S * 2.0 ** min(strikes - 1, 32), LONGEST_QUARANTINE_S)
        self._quarantined[name] = Quarantine(reason=reason, until=now + lasts, strikes=strikes)
        return now + lasts

    # -- names of boards

    def _name(self, worker: str, gpu: str) -> str:
        return gpu if gpu.startswith(NVML) else self._site(worker) + gpu

    def _site(self, worker: str) -> str:
        return f"{self.sites.get(worker, worker)}/"


def _was_taken(board: _Board, since: float) -> bool:
    return bool(board.taken.shares) or (board.released is not None and board.released >= since)

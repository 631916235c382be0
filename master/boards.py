"""Which boards of a host a build would get, and why none: pure.

What is given out here is given out on paper only; :mod:`master.leases` keeps the books.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from master.capabilities import GIB, Capabilities, Device, GpuWanted, Wanted, match, short

_IDLE_BYTES, _IDLE_SHARE = 2 * GIB, 0.1  #: a desktop, a driver: so much of an idle board may be taken


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Why a build gets no board, each to be read after the worker's name."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """A build that goes first where both can start. ``drains``: it has waited so long for more than is free at once,
    that on this worker the boards that it will need are kept for it."""

    wanted: GpuWanted
    drains: bool = False


@dataclass(kw_only=True)
class Taken:
    """What builds have of a board."""

    shares: dict[int, int | None] = field(default_factory=dict)  #: request -> its bytes, ``None`` for all
    size: int | None = None  #: bytes that they share
    kept: bool = False  #: for who is ahead

    def has_room(self, memory: int | None) -> bool:
        if self.kept:
            return False
        if not self.shares:
            return True
        sizes = [size for size in self.shares.values() if size is not None]
        if memory is None or self.size is None or len(sizes) < len(self.shares):
            return False
        return sum(sizes) + memory <= self.size


class HostBoards:
    """The boards of one host, while it is considered who gets which.

    Args:
        unfit: boards that are not used, by id, and why.
        taken: what builds have of each, by id.
        holder: what a request is for, in words: ``run 12, build-linux (cuda)``.
        shares: whether a build that says how much memory it needs gets no more than that.
    """

    def __init__(
        self,
        host: Capabilities,
        unfit: Mapping[str, str],
        taken: Mapping[str, Taken],
        *,
        holder: Callable[[int], str],
        shares: bool,
    ) -> None:
        self._holder = holder
        self._shares = shares
        self._unfit = unfit
        self._taken = {name: replace(each, shares=dict(each.shares)) for name, each in taken.items()}
        self._devices = {device.id: device for device in host.devices}
        self._host = host

    def choose(self, wanted: GpuWanted, ahead: Iterable[Ahead] = ()) -> Sequence[Device] | Refusals:
        """The boards that a build would get behind these others."""
        if self.free(wanted):  # else it makes no difference who is ahead
            self._serve(ahead)
            if found := self.free(wanted):
                return found
        matched = match(Wanted(gpu=wanted), self._host, self._unfit)
        return Refusals(reasons=matched.refusals or tuple(self._against(wanted, matched.devices)))

    def free(self, wanted: GpuWanted) -> list[Device]:
        """Those that it gets, best first; none, if there are too few."""
        found = [self._devices[name] for name in match(Wanted(gpu=wanted), self._host, self._unfit).devices]
        found = [device for device in found if self._of(device).has_room(self.share(wanted, device))]
        found.sort(key=lambda device: not self._of(device).shares)  # first what is shared already
        return found[: wanted.count] if len(found) >= wanted.count else []

    def share(self, wanted: GpuWanted, device: Device) -> int | None:
        """How much of a board a build gets; ``None``: all of it."""
        size = int(wanted.min_vram_gib * GIB)
        return size if self._shares and size and device.usable is not None else None

    def _of(self, device: Device) -> Taken:
        return self._taken.setdefault(device.id, Taken())

    def _serve(self, ahead: Iterable[Ahead]) -> None:
        in_vain: set[GpuWanted] = set()  # there is only less for the next that asks for the same
        for number, other in enumerate(ahead, 1):
            if other.wanted in in_vain and not other.drains:
                continue
            found = self.free(other.wanted)
            for device in found:
                self._give(device, self.share(other.wanted, device), -number)
            if not found:
                in_vain.add(other.wanted)
                if other.drains:
                    self._keep(other.wanted)

    def _give(self, device: Device, share: int | None, request: int) -> None:
        taken = self._of(device)
        taken.size = taken.size if taken.shares else device.usable
        taken.shares[request] = share

    def _keep(self, wanted: GpuWanted) -> None:
        """Let nobody else onto the boards that will be free first: those with the fewest builds."""
        matched = match(Wanted(gpu=wanted), self._host, self._unfit)
        if not matched.refusals:
            fitting = [self._devices[name] for name in matched.devices]
            for device in sorted(fitting, key=lambda device: (len(self._of(device).shares), device.id))[: wanted.count]:
                self._of(device).kept = True

    def _against(self, wanted: GpuWanted, devices: Sequence[str]) -> Iterator[str]:
        """Why boards that fit cannot be had."""
        if wanted.count > 1 or len(devices) > 1:
            yield f"has too few of its {len(devices)} fitting GPUs free, and {wanted.count} are needed"
        for name in devices:
            taken = self._of(self._devices[name])
            if holders := sorted(request for request in taken.shares if request > 0):
                yield f"{short(name)} is held by " + " and ".join(map(self._holder, holders))
            elif taken.shares or taken.kept:
                yield f"{short(name)} is kept for a more urgent build"


def left_over(device: Device) -> str:
    """What is taken of an idle board, where that is too much."""
    total, free = device.memory_total, device.memory_free
    if device.software or total is None or free is None:
        return ""
    taken = total - free
    if taken <= max(_IDLE_BYTES, total * _IDLE_SHARE):
        return ""
    said = f"{taken / GIB:.1f} of {total / GIB:.1f} GiB are taken, and by no build of this master"
    return ": ".join([said, *device.taken_by[:1]])

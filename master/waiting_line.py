"""Who goes first where several builds wait for the same: a tag before the default branch before a pull request, and
nobody for ever.

A request stands in line as though it had come earlier than it did, by an hour for each class. Two requests never change
places, and whoever waits is overtaken only by what comes in the next two hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from master.boards import Ahead
from master.capabilities import GpuWanted

CLASS_S = 3600.0  #: what a class is worth
_POINTS = 10  #: of Buildbot's priority, from one class to the next
DRAIN_S = 15 * 60.0  #: so long one that needs more than is free at once may be overtaken


class Waits(Protocol):
    """What the line reads of a ticket."""

    @property
    def priority(self) -> int: ...
    @property
    def since(self) -> float: ...


Place = tuple[float, int]


def place(request: int, waits: Waits) -> Place:
    """Where a request stands in line: the least goes first."""
    return waits.since - waits.priority / _POINTS * CLASS_S, request


def in_order(waiting: Mapping[int, Waits], requests: Iterable[int]) -> list[int]:
    return sorted(requests, key=lambda request: place(request, waiting[request]))


class WantsGpus(Waits, Protocol):
    """A ticket of which this has been asked: it needs GPUs."""

    @property
    def builder(self) -> str: ...
    @property
    def trusted(self) -> bool: ...
    @property
    def gpu(self) -> GpuWanted | None: ...


def ahead(request: int, waiting: Mapping[int, WantsGpus], now: float, drains: Callable[[int], bool]) -> Iterator[Ahead]:
    """What goes before a request on a host, the first first. A builder builds one at a time for each trust.

    Args:
        waiting: all that can be built there now, and the request.
        drains: whether this is the host that is kept free for a request that has waited too long.
    """
    mine, seen = place(request, waiting[request]), set[tuple[str, bool]]()
    for other in in_order(waiting, [each for each in waiting if place(each, waiting[each]) < mine]):
        ticket = waiting[other]
        if ticket.gpu is not None and (ticket.builder, ticket.trusted) not in seen:
            seen.add((ticket.builder, ticket.trusted))
            yield Ahead(wanted=ticket.gpu, drains=now - ticket.since >= DRAIN_S and drains(other))

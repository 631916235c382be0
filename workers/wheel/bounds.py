"""How much of anything a wheel may make us read. A wheel beyond it ends in one line, not in a dead worker."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

MIB = 1 << 20
GIB = 1 << 30


class Unreadable(Exception):
    """The wheel cannot be read to its end; ``check`` is the id that says so."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check = check


class BoundExceeded(Unreadable):
    def __init__(self, bound: str, found: str, allowed: str) -> None:
        super().__init__("bounds", f"{found}, and the bound {bound} is {allowed}")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Sizes in bytes, time in seconds. The defaults hold for CUDA wheels, which are the largest there are."""

    file: int = 4 * GIB  #: the wheel
    members: int = 50_000
    directory: int = 16 * MIB  #: the zip's own table of members
    unpacked: int = 8 * GIB  #: all members together
    member: int = 4 * GIB  #: one member, unpacked: also what a temporary file may hold at once
    ratio: int = 250  #: unpacked to packed, of a member above a MiB; deflate itself ends at 1032
    text: int = 16 * MIB  #: RECORD, METADATA, WHEEL
    seconds: int = 300

    @classmethod
    def of(cls, changes: Iterable[str]) -> Bounds:
        """The defaults changed by ``NAME=VALUE`` words. Raises ValueError with what is allowed."""
        names = [field.name for field in fields(cls)]
        changed: dict[str, int] = {}
        for change in changes:
            name, _, value = change.partition("=")
            if name not in names or not value.isascii() or not value.isdigit() or int(value) == 0:
                raise ValueError(
                    f"--bound {change}: expected NAME=VALUE, NAME one of {', '.join(names)}, VALUE above 0"
                )
            changed[name] = int(value)
        return replace(cls(), **changed)


class Clock:
    """Asked inside every loop whose length a wheel decides."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._end = time.monotonic() + bounds.seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise BoundExceeded("seconds", "reading it takes too long", str(self._bounds.seconds))

"""How often GitHub is told something: never faster than it likes, and ever more rarely while it does not take it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

_BURST = 10  #: requests at once, when there were none for a while
_EACH_S = 1.0  #: GitHub's advice: a second between two requests that change something
_OUTAGE_S = 120.0  #: the longest pause between two attempts while GitHub cannot be reached, about
_ACCESS_S = 3600.0  #: and while it says that we may not
_ROW_S = 300.0  #: and between two attempts of one row, also when others come through
_REFUSED_S = 24 * 3600.0
_PATIENCE = 8  #: so often a row is refused before it is given up: about two days
NEVER = 1e12  #: a time that does not come


class Pace:
    """Says when. ``spread`` makes a pause a little longer or shorter, so that many who wait do not come as one."""

    def __init__(self, clock: Callable[[], float], spread: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._spread = spread or (lambda: random.uniform(0.8, 1.2))  # noqa: S311 (nothing secret is made of it)
        self._tokens, self._filled = float(_BURST), clock()
        self._until: dict[str, float] = {}  # by kind, and for all under ""
        self._failures: dict[str, int] = {}

    def wait(self) -> float:
        """Seconds until anything may be sent."""
        now = self._clock()
        passed = max(0.0, now - self._filled)  # a clock may be set back
        self._tokens, self._filled = min(_BURST, self._tokens + passed / _EACH_S), now
        short = (1 - self._tokens) * _EACH_S if self._tokens < 1 else 0.0
        return max(short, self._until.get("", 0.0) - now, 0.0)

    def open(self, kinds: Iterable[str]) -> list[str]:
        """Those of these kinds that may be sent."""
        now = self._clock()
        return [kind for kind in kinds if self._until.get(kind, 0.0) <= now]

    def wait_for(self, kinds: Iterable[str]) -> float:
        """Seconds until the first of these kinds may be sent."""
        return max(0.0, min(self._until.get(kind, 0.0) for kind in kinds) - self._clock())

    def take(self) -> None:
        """A request is made."""
        self._tokens -= 1

    def succeeded(self, kind: str) -> None:
        for each in ("", kind):
            self._failures.pop(each, None)
            self._until.pop(each, None)

    def unavailable(self, retry_after: float | None, row_failures: int) -> float:
        """Nothing may be sent for a while; when the row that failed may be tried again."""
        until = self._pause("", 1.0, _OUTAGE_S, retry_after or 0.0)
        return max(until, self._clock() + min(2.0 ** min(row_failures, 20), _ROW_S) * self._spread())

    def no_access(self, kind: str, row_failures: int) -> float:
        """Nothing of this kind may be sent for a while; when the row that failed may be tried again, which is after
        others had their turn: it may be the only one that is not allowed."""
        until = self._pause(kind, 30.0, _ACCESS_S, 0.0)
        return until + min(60.0 * 4.0 ** min(row_failures, 20), _ACCESS_S) * self._spread()

    def refused(self, row_failures: int) -> float:
        """When a row that GitHub does not want may be tried again."""
        if row_failures + 1 >= _PATIENCE:
            return NEVER
        return self._clock() + min(60.0 * 4.0 ** min(row_failures, 20), _REFUSED_S) * self._spread()

    def _pause(self, kind: str, first: float, longest: float, at_least: float) -> float:
        failures = self._failures[kind] = self._failures.get(kind, 0) + 1
        doubled = min(failures // 2 if at_least else failures, 20)  # a time that GitHub names is to be believed, mostly
        pause = max(min(first * 2.0**doubled, longest) * self._spread(), at_least)
        self._until[kind] = self._clock() + pause
        return self._until[kind]

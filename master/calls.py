"""What is to happen later: at most one call for each purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Calls:
    """Calls of a reactor that are still to come, by what they are for."""

    def __init__(self) -> None:
        self._pending: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def call(self, reactor: Any, purpose: str, delay: float, function: Callable[..., object], *args: object) -> None:
        """Call later (seconds); a newer call for the same purpose takes the place of the older."""
        self.call_off(purpose)
        self._pending[purpose] = reactor.callLater(delay, self._make, purpose, function, *args)

    def call_off(self, purpose: str) -> None:
        if pending := self._pending.pop(purpose, None):
            pending.cancel()

    def call_all_off(self) -> None:
        for purpose in list(self._pending):
            self.call_off(purpose)

    def _make(self, purpose: str, function: Callable[..., object], *args: object) -> None:
        del self._pending[purpose]
        function(*args)

"""Requests that nobody planned: a Rebuild is a wish for a new attempt, and the request itself always goes."""

from __future__ import annotations

from typing import Any, Protocol

from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log

from master.repetition import Refused


class Pipeline(Protocol):
    """What the scheduler does for them."""

    handover: Any

    async def strays(self) -> list[tuple[int, str]]:
        """Such requests that are open: id, external id."""

    async def repeat(self, run_id: int, stage: str = "", *, because: str) -> Any:
        """Run a stage again. Raises :class:`Refused`."""


class Strays:
    """Turns such requests away."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._heard: set[int] = set()  # requests whose wish was written down, and whose end takes a moment
        self._lock = defer.DeferredLock()  # they are heard of again meanwhile

    def __len__(self) -> int:
        return len(self._heard)

    async def turn_away(self) -> None:
        """Deal with all that there are; what cannot be dealt with is tried again by the next call."""
        await self._lock.run(self._turn_away)

    @async_to_deferred
    async def _turn_away(self) -> None:
        found = await self._pipeline.strays()
        self._heard &= {request_id for request_id, _ in found}
        for request_id, external_id in found:
            try:
                if request_id not in self._heard:
                    await self._wish(request_id, external_id)
                    self._heard.add(request_id)
                # last: the request is all that a crash leaves of a wish that was not written down yet
                await self._pipeline.handover.cancel(request_id, "only the pipeline starts builds here")
            except Exception:
                log.err(None, f"request {request_id} could not be turned away; trying again")

    async def _wish(self, request_id: int, external_id: str) -> None:
        run_id, _, rest = external_id.partition("/")
        if not run_id.isdigit():
            log.msg(f"request {request_id} belongs to no run and is cancelled")
            return
        try:
            await self._pipeline.repeat(int(run_id), rest.partition("/")[0], because="Rebuild")
        except Refused as refused:
            log.msg(f"Rebuild of {external_id} refused: {refused}")

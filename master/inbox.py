"""The inbox: an event is kept in the database before its source is told that it arrived, and becomes a run after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python import log

from master import triggers
from master.database import store
from master.settings_models import ThreadsSettings
from master.triggers import Event, Ignored, InvalidEvent, Rules


class Inbox:
    """Receives events and makes runs of them."""

    def __init__(self, database: Any, rules: Rules, threads: ThreadsSettings, clock: Callable[[], float]) -> None:
        self.database = database
        self.rules = rules
        self.threads = threads
        self.clock = clock

    async def receive(self, event: Event, *, key: str, source: str) -> bool:
        """Keep an event. False when this telling of it (``key``) was received before.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        triggers.classify(event, self.rules)
        kept: bool = await self.database.do_with_transaction(
            store.receive, key=key, source=source, event=event, now=self.clock()
        )
        return kept

    async def drain(self) -> list[int]:
        """Make the runs that unread events ask for; ids of the runs that are new or no longer wanted."""
        touched: list[int] = []
        for inbox_id, key, event in await self.database.do(store.unread):
            touched += await self.open(inbox_id, key, event)
        return touched

    async def open(self, inbox_id: int, key: str, event: Event | InvalidEvent) -> list[int]:
        """Make the run that one event asks for, and close its inbox entry, in one transaction."""
        try:
            if isinstance(event, InvalidEvent):
                raise event
            request = triggers.classify(event, self.rules)
        except InvalidEvent as error:  # another version may have kept it; it must not hold up those behind it
            log.msg(f"event {key} refused: {error}")
            await self.database.do_with_transaction(store.dismiss, inbox_id, "refused", str(error))
            return []
        if isinstance(request, Ignored):
            await self.database.do_with_transaction(store.dismiss, inbox_id, "ignored", request.reason)
            return []
        threads = triggers.threads(request, pull_request=self.threads.pull_request, other=self.threads.other)
        run_id, superseded = await self.database.do_with_transaction(
            store.create_run, inbox_id, key, request, threads=threads, now=self.clock()
        )
        if run_id is None:
            log.msg(f"event {key}: already has its run")
            return []
        log.msg(f"run {run_id}: {request.key}")
        return [*superseded, run_id]

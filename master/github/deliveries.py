"""Acts on what GitHub has delivered: in order, once, whatever interrupts it.

A delivery stays ``new`` in the table until what it asks for is safe elsewhere (an event in the inbox, a wish in the
run's row), so a master killed in between acts again, and the second time finds it done. What must wait for GitHub's
answer is put off with whatever is about the same pull request or ref; the others pass it, and pushes pass them all.

Of two masters, the one whose scheduler is active acts. What the other keeps is seen within :data:`_LOOK_S` seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buildbot.util.service import BuildbotService
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log
from twisted.python.failure import Failure

from master.calls import Calls
from master.database import deliveries, outbox
from master.database.deliveries import Delivery
from master.github.access import Access
from master.github.effects import Effects, Later, Outcome
from master.github.failures import GitHubRefused, GitHubUnavailable
from master.github.payloads import meaning
from master.repetition import Refused
from master.repository import RepositoryUnreachable
from master.scheduler import NAME
from master.settings import Settings
from master.triggers import InvalidEvent

SERVICE = "deliveries"
_KEPT_S = 90 * 86400.0
_DAY_S = 86400.0
_GIVE_UP_S = _DAY_S  #: so long is one tried
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
_LOOK_S = 30.0  #: how often the table is looked at, whatever was heard
_SOON_S = 1.0


class Deliveries(BuildbotService):
    """The service: :meth:`keep` for the hook, and acting on what was kept."""

    name = SERVICE
    settings: Settings
    effects: Effects

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=SERVICE, **kwargs)
        self._calls = Calls()
        self._work: defer.Deferred[None] | None = None
        self._again = False
        self._tried: dict[int, float] = {}  # rows that were put off -> when they were first, in this life

    @async_to_deferred
    async def reconfigService(self, *, settings: Settings, access: Access | None) -> None:
        await super().reconfigService(name=SERVICE)
        self.settings = settings
        self.effects = Effects(self.master, settings, access)
        if self.running:
            self.look()

    @async_to_deferred
    async def startService(self) -> None:
        await super().startService()
        self.look()
        self._prune()

    @async_to_deferred
    async def stopService(self) -> None:
        self._calls.call_all_off()
        await super().stopService()
        if self._work is not None:
            await self._work

    async def keep(self, *, delivery: str, name: str, payload: Mapping[str, Any], digest: str = "") -> bool:
        """Keep a verified delivery; once this returns, it is safe. False when it was known already."""
        now = self.master.reactor.seconds()
        kept: bool = await self.master.db.pool.do_with_transaction(
            deliveries.keep, delivery=delivery, name=name, payload=payload, now=now, digest=digest
        )
        self.look()
        return kept

    # -- acting

    def look(self) -> None:
        """Act on what there is, soon."""
        self._again = True
        if self.running and self._work is None:
            self._work = self._work_off()
            self._work.addErrback(lambda why: log.err(why, "while acting on deliveries")).addBoth(self._rest)

    def _rest(self, _result: object) -> None:
        self._work = None
        if self._again:
            self.look()

    @async_to_deferred
    async def _work_off(self) -> None:
        pause = _LOOK_S
        while self._again and self.running:
            self._again = False
            try:
                pause = await self._pass()
            except Exception:
                log.err(None, "while acting on deliveries; trying again")
                pause = _FIRST_PAUSE_S
        if self.running:
            self._call("look", pause, self.look)

    async def _pass(self) -> float:
        """Act on each delivery whose time has come; how long until the next one's, in seconds.

        It ends early when another has come in: that may be a push, which goes before the rest.
        """
        scheduler = self.master.scheduler_manager.namedServices.get(NAME)
        if scheduler is None or not scheduler.isActive():  # another master's, or none yet
            return _SOON_S
        pool, clock = self.master.db.pool, self.master.reactor.seconds
        put_off: set[str] = set()
        next_look = clock() + _LOOK_S
        for row_id, subject, not_before in await pool.do(deliveries.waiting):
            if not self.running or self._again:
                break
            if not_before > clock() or subject in put_off:
                put_off |= {subject} - {""}
                next_look = min(next_look, max(not_before, clock() + _SOON_S))
                continue
            try:
                until = await self._one(row_id, put_off)
            except Exception:  # one whose end cannot be noted must not hold up those behind it
                log.err(None, f"while noting what became of row {row_id} of GitHub's deliveries; trying again")
                put_off |= {subject} - {""}
                until = clock() + _FIRST_PAUSE_S
            next_look = min(next_look, until or next_look)
        return float(max(0.0, next_look - clock()))

    async def _one(self, row_id: int, put_off: set[str]) -> float:
        """Act on one delivery; until when it was put off, 0 when it is done."""
        pool, now = self.master.db.pool, self.master.reactor.seconds()
        number, subject, failures = "", "", 0
        outcome: Outcome | Later
        try:
            row: Delivery = await pool.do(deliveries.read, row_id)
            number, failures = f"{row.delivery} ({row.name})", row.failures
            wanted = meaning(row.name, row.payload, self.settings)
            subject = wanted.subject
            if subject in put_off:
                return 0.0
            outcome = await self.effects.of(row, wanted)
        except Exception as error:
            outcome = _after(error, row_id)
        if isinstance(outcome, Later) and now < self._tried.setdefault(row_id, now) + _GIVE_UP_S:
            put_off |= {subject} - {""}
            failures += outcome.counts
            pause = max(outcome.pause, _pause(failures) if outcome.counts else _SOON_S)
            until = self.master.reactor.seconds() + min(pause, outcome.within)
            await pool.do_with_transaction(
                deliveries.put_off, row_id, until=until, why=str(outcome), subject=subject, failures=failures
            )
            return float(until)
        if isinstance(outcome, Later):
            outcome = Outcome(state="refused", text=f"given up after a day: {outcome}")
        said = "".join(c if c.isprintable() else " " for c in outcome.text)
        log.msg(f"delivery {number or row_id} of GitHub's {outcome.state}: {said}")
        await pool.do_with_transaction(
            deliveries.close,
            row_id,
            state=outcome.state,
            outcome=outcome.text,
            subject=subject,
            happened_at=outcome.happened_at,
        )
        self._tried.pop(row_id, None)
        return 0.0

    # -- forgetting

    @async_to_deferred
    async def _prune(self) -> None:
        try:
            before = self.master.reactor.seconds() - _KEPT_S
            for prune in (deliveries.prune, outbox.prune):
                await self.master.db.pool.do_with_transaction(prune, before)
        except Exception:
            log.err(None, "while forgetting old deliveries and what was told; trying again tomorrow")
        if self.running:
            self._call("prune", _DAY_S, self._prune)

    def _call(self, purpose: str, delay: float, function: Any) -> None:
        self._calls.call(self.master.reactor, purpose, delay, function)


def _after(error: Exception, row_id: int) -> Outcome | Later:
    """What an exception makes of the delivery that it came of."""
    match error:
        case Later():
            return error
        case InvalidEvent() | Refused() | GitHubRefused():
            return Outcome(state="refused", text=str(error))
        case GitHubUnavailable():
            return Later(str(error), pause=error.retry_after or 0.0, counts=True)
        case RepositoryUnreachable():
            return Later(str(error), counts=True)
    log.err(Failure(error), f"while acting on row {row_id} of GitHub's deliveries; trying again")
    return Later(f"{type(error).__name__}; twistd.log says more", counts=True)


def _pause(failures: int) -> float:
    """Seconds, by how often it has failed."""
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures - 1, 10)))

"""Loaded into a test's master before anything else: kills it in a named window, or breaks it on purpose.

The product has no hooks for this. A window is a place between two writes, named by the methods on either
side of it, which are wrapped here, in the test's own process. The master kills itself once (the marker file says
that it was there) and never again.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildbot.data.buildrequests import BuildRequest
from buildbot.data.builds import Build
from buildbot.data.masters import Master
from buildbot.process.builder import Builder
from buildbot.process.results import CANCELLED
from twisted.internet import defer, reactor, task

from master import backlog, poller
from master.database import store
from master.github.deliveries import Deliveries
from master.github.effects import Effects
from master.handover import Handover
from master.inbox import Inbox
from master.pipeline import State
from master.reconcile import Reconciler
from master.releases import FolderTarget
from master.run_model import Create, End, Enqueue, Withdraw
from steps.command import StageEnvironment

When = Callable[..., bool]


def always(*_arguments: object, **_more: object) -> bool:
    return True


def arm(orders_file: str) -> None:
    """Prepare every window, and break what the file says: ``{"marker": PATH, "window": NAME, "broken": NAME}``.

    The file is read again at every window, so that a test can choose the next one while the master runs.
    """
    orders = Path(orders_file)
    _label_builds()
    if broken := json.loads(orders.read_text()).get("broken"):
        runpy.run_path(str(Path(__file__).with_name("broken.py")))["BROKEN"][broken]()
    for name, place in (WINDOWS | DELIVERY_WINDOWS).items():
        place(functools.partial(_wanted, orders, name), functools.partial(_die, orders))
    for name, (owner, method) in PAUSES.items():
        _pause(owner, method, functools.partial(_wanted, orders, name), orders)


def _pause(owner: Any, name: str, wanted: Callable[[], bool], orders: Path) -> None:
    """Have an async function say that it was reached, and wait until the test lets it go on."""
    original = getattr(owner, name)

    @functools.wraps(original)
    @defer.inlineCallbacks
    def wrapped(*arguments: Any, **more: Any) -> Any:
        if wanted():
            marker = Path(json.loads(orders.read_text())["marker"])
            marker.touch()
            while marker.exists():
                yield task.deferLater(reactor, 0.02, lambda: None)
        result = yield original(*arguments, **more)
        return result

    setattr(owner, name, wrapped)


def _wanted(orders: Path, window: str) -> bool:
    wanted = json.loads(orders.read_text())
    return wanted.get("window") == window and not Path(wanted["marker"]).exists()


def _die(orders: Path) -> None:
    with Path(json.loads(orders.read_text())["marker"]).open("x") as file:
        file.write(f"{os.getpid()}\n")
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)


def _label_builds() -> None:
    """Tell each command which attempt and build it belongs to, so that it can leave that in its line."""
    render = StageEnvironment.getRenderingFor

    def labelled(self: Any, properties: Any) -> dict[str, str]:
        found = {name: properties.getProperty(name) for name in ("run_id", "stage", "variant", "attempt")}
        found["variant"] = found["variant"] or "default"
        label = "/".join(str(value) for value in found.values())
        return {**render(self, properties), "TEST_BUILD": f"{label}:{properties.getBuild().buildid}"}

    StageEnvironment.getRenderingFor = labelled


# -- windows


Place = Callable[[Callable[[], bool], Callable[[], None]], None]


def before(owner: Any, name: str, when: When = always) -> Place:
    """The window just before a function does its work."""

    def place(wanted: Callable[[], bool], die: Callable[[], None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **more: Any) -> Any:
            if wanted() and when(*arguments, **more):
                die()
            return original(*arguments, **more)

        setattr(owner, name, wrapped)

    return place


def after(owner: Any, name: str, when: When = always) -> Place:
    """The window just after a function has done its work."""

    def place(wanted: Callable[[], bool], die: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def ended(result: Any) -> Any:
            die()
            return result

        async def awaited(result: Any) -> Any:
            return ended(await result)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **more: Any) -> Any:
            if not (wanted() and when(*arguments, **more)):
                return original(*arguments, **more)
            result = original(*arguments, **more)
            if hasattr(result, "addCallback"):
                return result.addCallback(ended)
            return awaited(result) if inspect.isawaitable(result) else ended(result)

        setattr(owner, name, wrapped)

    return place


def late(owner: Any, name: str) -> Place:
    """The window before an async function, after all that goes on beside it is done."""

    def place(wanted: Callable[[], bool], die: Callable[[], None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        async def wrapped(*arguments: Any, **more: Any) -> Any:
            if wanted():
                await task.deferLater(reactor, 1.0, lambda: None)
                die()
            return await original(*arguments, **more)

        setattr(owner, name, wrapped)

    return place


def action(kind: type, **of: str) -> When:
    """For ``Reconciler.do``: whether it carries out this kind of decision, about a stage of this name if given."""

    def asked(_self: Any, _run: Any, decided: Any, _attempts: Any) -> bool:
        return isinstance(decided, kind) and all(getattr(decided.slot, name) == value for name, value in of.items())

    return asked


def accepted(*states: State, stage: str = "") -> When:
    """For ``Reconciler.accept``: an outcome of these states, of a stage."""

    def asked(_self: Any, _run: Any, slot: Any, values: Any, _build: Any) -> bool:
        return values["state"] in states and stage in ("", slot.stage)

    return asked


def of_stage(name: str) -> When:
    """For ``Handover.add_buildset``: a stage of this name."""

    def asked(_self: Any, _run: Any, attempt: Any, _stage: Any) -> bool:
        return bool(attempt.stage == name)

    return asked


def finished(_self: Any, _requests: Any, results: int, *_: Any, **__: Any) -> bool:
    return results != CANCELLED


def a_newer_push(_connection: Any, request: Any, _run_id: int) -> bool:
    """For ``store._supersede``: there may be a run that is no longer wanted."""
    return bool(request.event.before)


def first_asset(_self: Any, draft: Path, _asset: Any) -> bool:
    """For ``FolderTarget.add``."""
    return not any(draft.iterdir())


WELL = (State.SUCCESS, State.WARNINGS)

#: By name: where the master waits for the test.
PAUSES = {
    "request claimed / no build row": (Build, "addBuild"),
    "request claimed / build not made": (Builder, "maybeStartBuild"),
    "build begun / worker not prepared": (Build, "generateNewBuildEvent"),
    "services started / master not active": (Master, "masterActive"),
}

#: By name: between what and what the master dies.
WINDOWS: dict[str, Place] = {
    "refs seen / events not kept": before(poller, "_keep", lambda *arguments: bool(arguments[3])),
    "events kept / inbox not read": after(poller, "_keep", lambda *arguments: bool(arguments[3])),
    "inbox written / run not created": before(Inbox, "open"),
    "within the transaction that creates the run": before(store, "dismiss"),
    "within the transaction that supersedes a run": after(store, "_supersede", a_newer_push),
    "run created / attempts not": before(Reconciler, "do", action(Create)),
    "attempts created / intent not": before(Reconciler, "do", action(Enqueue)),
    "intent written / buildset not added": before(Handover, "add_buildset"),
    "buildset added / id not stored": before(Reconciler, "store_ids"),
    "id stored / gate's ticket not issued": before(Reconciler, "admit"),
    "ticket issued / request not claimed": before(BuildRequest, "claimBuildRequests"),
    "request claimed / build not begun": after(BuildRequest, "claimBuildRequests"),
    "build begun / its steps not": after(Build, "addBuild"),
    "commands done / build not finished": before(Build, "finishBuild"),
    "build finished / request not completed": before(BuildRequest, "completeBuildRequests", finished),
    "request completed / outcome not accepted": before(Reconciler, "settle"),
    "outcome read / not accepted": before(Reconciler, "accept", accepted(*WELL, stage="build-a")),
    "within the transaction that accepts": after(store, "change", lambda *_, values, **__: "ended_at" in values),
    "outcome accepted / next stage not queued": after(Reconciler, "accept", accepted(*WELL, stage="test")),
    "supersession written / not withdrawn": before(Reconciler, "do", action(Withdraw)),
    "cancel intent written / not carried out": before(Handover, "cancel"),
    "request cancelled / build not stopped": after(Handover, "cancel"),
    "first of two assets copied": after(FolderTarget, "add", first_asset),
    "draft complete / not revealed": before(FolderTarget, "reveal"),
    "release revealed / build not finished": after(FolderTarget, "reveal"),
    "release accepted / summary not queued": before(Reconciler, "do", action(Enqueue, stage="summary")),
    "summary queued / buildset not added": before(Handover, "add_buildset", of_stage("summary")),
    "summary accepted / run not ended": before(Reconciler, "do", action(End)),
    "rebuild asked for / no attempt made": late(backlog, "repeat_run"),
    "attempt made / rebuild's request not cancelled": after(backlog, "repeat_run"),
    "wish to repeat written / not acted on": after(backlog, "repeat_run"),
}

#: The same, on the way from a webhook to its run: see ``test_github_events.py``.
DELIVERY_WINDOWS: dict[str, Place] = {
    "delivery kept / GitHub not answered": after(Deliveries, "keep"),
    "GitHub answered / delivery not acted upon": before(Effects, "of"),
    "delivery's event in the inbox / delivery not closed": after(Effects, "of"),
}

"""The API below ``/plugins/mlc_ci/api/``: runs and releases to look at, orders to give, artifacts to fetch.

    GET  runs?limit=&before=                      the newest runs, or those before a run
    GET  runs/ID                                  one run with all its attempts
    GET  runs/ID/artifacts/ATTEMPT/NAME           an accepted file
    GET  runs/ID/attempts/ATTEMPT/failure         where it failed: class, step, the log around the first error
    GET  runs/ID/stages/STAGE/recipe?variant=     the stage's commands, to do it again elsewhere
    GET  workers                                  what each worker's host has, who holds which GPU, and what waits
    GET  releases                                 what was released, newest first
    POST runs/ID/approve                          {"head": SHA}: lets a stranger's pull request run, at this commit
    POST runs/ID/cancel                           {}
    POST runs/ID/repeat                           {"stage": NAME}, or "" for all that did not end well
    POST releases/TAG/yank                        {"reason": TEXT}: installers pass it by (PEP 592)
    POST releases/TAG/unyank                      {}

Answers are JSON, errors ``{"error": TEXT}``. Who may do what: :mod:`master.web.authority`.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from buildbot.util.twisted import async_to_deferred
from buildbot.www.authz import Forbidden
from twisted.python import log
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from master.database import failures, probes, reads, releases, store
from master.database.records import RunRow
from master.pipeline import State
from master.recipe import NoRecipe, Wanted, recipe
from master.repetition import Refused
from master.scheduler import NAME as SCHEDULER
from master.triggers import SHA
from master.web import authority, views
from master.web.artifacts import artifact
from master.web.excerpt import failure_page, failure_without_log
from master.web.fleet_page import workers_page
from master.web.requests import Failed, allow, body, number, only, text, whole

DEFAULT_LIMIT = 30
MOST = 100  #: runs in one answer


class Api(Resource):
    """The root of the API."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.master: Any = None

    def render(self, request: Request) -> int:
        self._answer(request)
        return NOT_DONE_YET

    @async_to_deferred
    async def _answer(self, request: Request) -> None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        status, answer = http.OK, None
        try:
            answer = await self._route(request)
            if isinstance(answer, Resource) and not gone:
                _render(request, answer)
                return
        except Failed as failed:
            status, answer = failed.status, {"error": failed.text}
        except Forbidden as forbidden:
            status, answer = http.FORBIDDEN, {"error": (forbidden.message or b"").decode(errors="replace")}
        except Exception:
            log.err(None, f"while answering {request.uri!r}")
            status, answer = http.INTERNAL_SERVER_ERROR, {"error": "the master failed to answer; its log says why"}
        if not gone:
            _write_json(request, status, answer)

    async def _route(self, request: Request) -> Any:
        try:
            path = [segment.decode() for segment in request.postpath or ()]
        except UnicodeDecodeError:
            raise _unknown() from None
        match path:
            case ["runs"]:
                return await self._read(request, self._runs)
            case ["runs", run]:
                return await self._read(request, self._run, _id(run))
            case ["runs", run, "artifacts", attempt, *name] if name:
                return await self._read(request, self._artifact, _id(run), _id(attempt), "/".join(name))
            case ["runs", run, "attempts", attempt, "failure"]:
                return await self._read(request, self._failure, _id(run), _id(attempt))
            case ["runs", run, "stages", stage, "recipe"]:
                return await self._read(request, self._recipe, _id(run), stage)
            case ["runs", run, "approve"]:
                return await self._order_about_run(request, "approve", self._approve, _id(run))
            case ["runs", run, "cancel"]:
                return await self._order_about_run(request, "cancel", self._cancel, _id(run))
            case ["runs", run, "repeat"]:
                return await self._order_about_run(request, "repeat", self._repeat, _id(run))
            case ["workers" | "releases" as what]:
                return await self._read(request, self._workers if what == "workers" else self._releases)
            case ["releases", tag, "yank"]:
                return await self._order(request, ("releases", tag), "yank", functools.partial(self._yank, tag))
            case ["releases", tag, "unyank"]:
                return await self._order(request, ("releases", tag), "unyank", functools.partial(self._unyank, tag))
        raise _unknown()

    @property
    def _scheduler(self) -> Any:
        try:
            return self.master.scheduler_manager.namedServices[SCHEDULER]
        except KeyError:
            raise Failed(http.SERVICE_UNAVAILABLE, "this master runs no pipeline") from None

    # -- reading

    async def _read(self, request: Request, answer: Callable[..., Awaitable[Any]], *ids: Any) -> Any:
        allow(request, b"GET", b"HEAD")
        await authority.assert_may_read(self.master, request, ("runs", *map(str, ids[:1])))
        return await answer(request, *ids)

    async def _runs(self, request: Request) -> Any:
        limit = min(number(request, b"limit") or DEFAULT_LIMIT, MOST)
        page = await self.master.db.pool.do(reads.runs_page, limit=limit, before=number(request, b"before"))
        scheduler = self._scheduler
        branch = scheduler.inbox.rules.default_branch
        told = views.runs_page(page, scheduler.reconciler.pipeline, default_branch=branch)
        return {**told, "trouble": scheduler.trouble}

    async def _run(self, request: Request, run_id: int) -> Any:
        whole = await self.master.db.pool.do(reads.whole_run, run_id)
        if whole is None:
            raise _no_run(run_id)
        allowed = await authority.may_control(self.master, request, ("runs", str(run_id)))
        return views.run_page(whole, self._scheduler.reconciler.pipeline, may_control=allowed)

    async def _artifact(self, request: Request, run_id: int, attempt_id: int, name: str) -> Any:
        settings = self._scheduler.settings.artifacts
        return await artifact(self.master, settings, request, run_id, attempt_id, name)

    async def _failure(self, request: Request, run_id: int, attempt_id: int) -> Any:
        attempt = await self.master.db.pool.do(store.attempt, attempt_id)
        if attempt is not None and attempt.run_id == run_id and attempt.build_id is not None:
            failure, _ = await self.master.db.pool.do(failures.of_build, attempt.build_id)
            if failure is not None:
                return await failure_page(self.master, failure)
            if attempt.state in (State.FAILURE, State.INFRASTRUCTURE):
                return failure_without_log(attempt)
        raise Failed(http.NOT_FOUND, f"run {run_id} has no such attempt with a build that failed")

    async def _recipe(self, request: Request, run_id: int, stage: str) -> Any:
        variant = text(request, b"variant")
        run = await self.master.db.pool.do(store.run, run_id)
        if run is None:
            raise _no_run(run_id)
        attempts = await self.master.db.pool.do(store.attempts, [run_id])
        scheduler = self._scheduler
        repository = scheduler.handover.repository
        try:
            made = await recipe(
                self.master, scheduler.reconciler.pipeline, repository, run, attempts, Wanted(stage, variant)
            )
        except NoRecipe as none:
            raise Failed(http.NOT_FOUND, str(none)) from None
        return made.model_dump(mode="json")

    async def _workers(self, _request: Request) -> Any:
        scheduler, pool = self._scheduler, self.master.db.pool
        gate, workers, there = scheduler.gate, scheduler.settings.workers, scheduler.connected_workers()
        before = await pool.do(probes.every)
        holders = await pool.do(reads.holders, [lease.request for lease in gate.held()])
        queue = [dataclasses.asdict(each) for each in await pool.do(reads.queue, MOST)]
        now = self.master.reactor.seconds()
        page = workers_page(workers, there, gate.hosts, before, gate.ledger, holders, now, scheduler.refused())
        return page | {"queue": queue}

    async def _releases(self, _request: Request) -> Any:
        found = await self.master.db.pool.do(releases.every)
        return {"releases": [dataclasses.asdict(release) for release in found]}

    # -- orders

    async def _order(
        self, request: Request, about: tuple[str, ...], action: str, give: Callable[..., Awaitable[views.Json]]
    ) -> views.Json:
        allow(request, b"POST")
        authority.assert_own_page(self.master, request)
        await authority.assert_may_control(self.master, request, about, action)
        return await give(body(request), authority.user_name(self.master, request))

    async def _order_about_run(
        self, request: Request, action: str, give: Callable[..., Awaitable[views.Json]], run_id: int
    ) -> views.Json:
        async def given(order: views.Json, user: str) -> views.Json:
            run = await self.master.db.pool.do(store.run, run_id)
            if run is None:
                raise _no_run(run_id)
            return await give(run, order, user)

        return await self._order(request, ("runs", str(run_id)), action, given)

    async def _approve(self, run: RunRow, order: views.Json, user: str) -> views.Json:
        only(order, "head")
        head = order.get("head")
        if not isinstance(head, str) or not SHA.match(head):
            raise Failed(http.BAD_REQUEST, "head: expected the whole SHA of the commit that is approved")
        try:
            await self._scheduler.approve(run.id, head, user)
        except Refused as refused:
            raise Failed(http.CONFLICT, str(refused)) from None
        return {"run": run.id, "approved": user}

    async def _cancel(self, run: RunRow, order: views.Json, user: str) -> views.Json:
        only(order)
        if not await self._scheduler.cancel(run.id, f"cancelled by {user}"):
            why = f"was {run.cancelled} before" if run.cancelled and run.ended_at is None else "has ended"
            raise Failed(http.CONFLICT, f"run {run.id} {why}")
        return {"run": run.id, "cancelled": True}

    async def _repeat(self, run: RunRow, order: views.Json, user: str) -> views.Json:
        only(order, "stage")
        stage = order.get("stage", "")
        if not isinstance(stage, str):
            raise Failed(http.BAD_REQUEST, "stage: expected the name of a stage, or an empty string")
        try:
            slots = await self._scheduler.repeat(run.id, stage, because=f"run again by {user}")
        except Refused as refused:
            raise Failed(http.CONFLICT, str(refused)) from None
        return {"run": run.id, "attempts": [str(slot) for slot in slots]}

    async def _yank(self, tag: str, order: views.Json, user: str) -> views.Json:
        only(order, "reason")
        reason = order.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise Failed(http.BAD_REQUEST, "reason: say why, for those who have it installed")
        return await self._set_yanked(tag, reason.strip(), user)

    async def _unyank(self, tag: str, order: views.Json, user: str) -> views.Json:
        only(order)
        return await self._set_yanked(tag, None, user)

    async def _set_yanked(self, tag: str, reason: str | None, user: str) -> views.Json:
        if not await self.master.db.pool.do_with_transaction(releases.yank, tag, reason):
            raise Failed(http.NOT_FOUND, f"there is no release {tag}")
        log.msg(f"release {tag}: {'may be chosen again' if reason is None else f'yanked: {reason}'} (by {user})")
        return {"tag": tag, "yanked": reason}


def _unknown() -> Failed:
    return Failed(http.NOT_FOUND, "there is nothing at this address")


def _no_run(run_id: int) -> Failed:
    return Failed(http.NOT_FOUND, f"there is no run {run_id}")


def _id(segment: str) -> int:
    if (found := whole(segment)) is None:
        raise _unknown()
    return found


def _render(request: Request, resource: Resource) -> None:
    rendered = resource.render(request)
    if rendered != NOT_DONE_YET:
        request.write(rendered)
        request.finish()


def _write_json(request: Request, status: int, answer: Any) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"x-content-type-options", b"nosniff")
    request.setHeader(b"cache-control", b"private, no-cache")
    request.setHeader(b"vary", b"accept-encoding, cookie")
    if status == http.OK and request.method in (b"GET", b"HEAD"):
        # the page asks every other second: most times nothing has changed, and then nothing is sent
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        if request.setETag(tag.encode()) is http.CACHED:
            request.finish()
            return
    if b"gzip" in (request.getHeader(b"accept-encoding") or b"") and len(body) > 1000:
        body = gzip.compress(body, 5)
        request.setHeader(b"content-encoding", b"gzip")
    request.setHeader(b"content-length", str(len(body)).encode())
    if request.method != b"HEAD":
        request.write(body)
    request.finish()

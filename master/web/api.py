"""The API below ``/plugins/mlc_ci/api/``: runs to look at, two orders to give, artifacts to fetch.

    GET  runs?limit=&before=                      the newest runs, or those before a run
    GET  runs/ID                                  one run with all its attempts
    GET  runs/ID/artifacts/ATTEMPT/NAME           an accepted file
    POST runs/ID/cancel                           {}
    POST runs/ID/repeat                           {"stage": NAME}, or "" for all that did not end well

Answers are JSON, errors ``{"error": TEXT}``. Who may do what: :mod:`master.web.authority`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from buildbot.util.twisted import async_to_deferred
from buildbot.www.authz import Forbidden
from twisted.python import log
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from master.database import reads, store
from master.database.records import RunRow
from master.repetition import Refused
from master.scheduler import NAME as SCHEDULER
from master.web import authority, views
from master.web.downloads import download, located

DEFAULT_LIMIT = 30
MOST = 100  #: runs in one answer
_LARGEST_BODY = 64 * 1024
_LARGEST_ID = 2**31 - 1  # PostgreSQL's integer; beyond it there is no row, and asking would be an error


@dataclass
class Failed(Exception):
    """An answer that is an error; ``text`` is for the reader."""

    status: int
    text: str


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
            case ["runs", run, "cancel"]:
                return await self._order(request, "cancel", self._cancel, _id(run))
            case ["runs", run, "repeat"]:
                return await self._order(request, "repeat", self._repeat, _id(run))
        raise _unknown()

    @property
    def _scheduler(self) -> Any:
        try:
            return self.master.scheduler_manager.namedServices[SCHEDULER]
        except KeyError:
            raise Failed(http.SERVICE_UNAVAILABLE, "this master runs no pipeline") from None

    # -- reading

    async def _read(self, request: Request, answer: Callable[..., Awaitable[Any]], *ids: Any) -> Any:
        _allow(request, b"GET", b"HEAD")
        await authority.assert_may_read(self.master, request, ("runs", *map(str, ids[:1])))
        return await answer(request, *ids)

    async def _runs(self, request: Request) -> Any:
        limit = min(_number(request, b"limit") or DEFAULT_LIMIT, MOST)
        page = await self.master.db.pool.do(reads.runs_page, limit=limit, before=_number(request, b"before"))
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
        artifact = await self.master.db.pool.do(reads.artifact, run_id, attempt_id, name)
        if artifact is None:
            raise Failed(http.NOT_FOUND, f"run {run_id} has no such artifact")
        path = located(self._scheduler.reconciler.artifacts, artifact)
        if path is None:
            raise Failed(http.NOT_FOUND, f"the file of {name} is no longer there")
        return download(request, path, artifact)

    # -- orders

    async def _order(
        self, request: Request, action: str, give: Callable[..., Awaitable[Any]], run_id: int
    ) -> views.Json:
        _allow(request, b"POST")
        authority.assert_own_page(self.master, request)
        await authority.assert_may_control(self.master, request, ("runs", str(run_id)), action)
        run = await self.master.db.pool.do(store.run, run_id)
        if run is None:
            raise _no_run(run_id)
        answer: views.Json = await give(run, _body(request), authority.user_name(self.master, request))
        return answer

    async def _cancel(self, run: RunRow, body: views.Json, user: str) -> views.Json:
        _only(body)
        if not await self._scheduler.cancel(run.id, f"cancelled by {user}"):
            why = f"was {run.cancelled} before" if run.cancelled and run.ended_at is None else "has ended"
            raise Failed(http.CONFLICT, f"run {run.id} {why}")
        return {"run": run.id, "cancelled": True}

    async def _repeat(self, run: RunRow, body: views.Json, user: str) -> views.Json:
        _only(body, "stage")
        stage = body.get("stage", "")
        if not isinstance(stage, str):
            raise Failed(http.BAD_REQUEST, "stage: expected the name of a stage, or an empty string")
        try:
            slots = await self._scheduler.repeat(run.id, stage, because=f"run again by {user}")
        except Refused as refused:
            raise Failed(http.CONFLICT, str(refused)) from None
        return {"run": run.id, "attempts": [str(slot) for slot in slots]}


def _unknown() -> Failed:
    return Failed(http.NOT_FOUND, "there is nothing at this address")


def _no_run(run_id: int) -> Failed:
    return Failed(http.NOT_FOUND, f"there is no run {run_id}")


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) <= _LARGEST_ID:
        raise _unknown()
    return int(text)


def _number(request: Request, name: bytes) -> int | None:
    """A whole number of the query, from 1; ``None`` when it is not there."""
    values = (request.args or {}).get(name, [])
    if not values:
        return None
    text = values[0].decode(errors="replace")
    if len(values) > 1 or not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) <= _LARGEST_ID:
        raise Failed(http.BAD_REQUEST, f"{name.decode()}: expected one whole number from 1")
    return int(text)


def _allow(request: Request, *methods: bytes) -> None:
    if request.method not in methods:
        request.setHeader(b"allow", b", ".join(methods))
        raise Failed(http.NOT_ALLOWED, f"only {' or '.join(m.decode() for m in methods)} is understood here")


def _body(request: Request) -> views.Json:
    raw = request.content.read(_LARGEST_BODY + 1) if request.content else b""
    if len(raw) > _LARGEST_BODY:
        raise Failed(http.BAD_REQUEST, "the body is too large")
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise Failed(http.BAD_REQUEST, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Failed(http.BAD_REQUEST, "the body must be a JSON object")
    return body


def _only(body: views.Json, *names: str) -> None:
    if unknown := sorted(set(body) - set(names)):
        raise Failed(http.BAD_REQUEST, f"{unknown[0][:60]!r}: nothing of this name is understood here")


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

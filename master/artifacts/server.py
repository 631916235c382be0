"""The artifact process's pages. Errors are JSON, ``{"error": …}``, for whoever reads them.

| request | by | does |
|---|---|---|
| ``POST /builds/B`` ``{"files": {NAME: size}}`` | the build | may they come, and how much is there of each |
| ``PUT /builds/B/NAME`` | the build | bytes, all of them or a ``Content-Range`` |
| ``POST /builds/B/NAME/direct`` ``{"size", "sha256", "md5"}`` | the build | where to send it, past this process |
| ``POST /builds/B/NAME/commit`` ``{"size", "sha256"}`` | the build | an upload, if whole and the same |
| ``GET /runs/R/artifacts`` | anybody | what run R has accepted |
| ``GET /artifacts/ID/NAME`` | anybody | one of them: whole, by ranges, or 304 |
| ``GET /simple/``, ``/nightly/simple/`` | anybody | package indexes (:mod:`master.artifacts.simple`) |
| ``GET /health`` | anybody | whether database and store are there |
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
from anyio import to_thread
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from master.artifacts import simple
from master.artifacts.connection import straight
from master.artifacts.doorman import Database, Doorman
from master.artifacts.housekeeping import keep_house
from master.artifacts.intake import Intake, Piece
from master.artifacts.refusal import Refused
from master.artifacts.retention import Policy
from master.artifacts.store import Store, StoreBroken
from master.database import uploads
from master.database.uploads import Accepted

_LARGEST_ORDER = 1 << 20  # bytes of a JSON body
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.ASCII)
_ONE_PART = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]+", re.ASCII)


class _File(FileResponse):
    """A file, or one part of it. What asks for more parts, or for something else, gets all of it (RFC 9110, 14.2)."""

    chunk_size = 1 << 20  # each is a trip to a thread and back

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = Headers(scope=scope).get("range", "")
        if scope["method"] != "GET" or not _ONE_PART.fullmatch(wanted):
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        await super().__call__(scope, receive, send)


class _RowId(IntegerConvertor):
    """A number that a row can have: PostgreSQL's integers end there, and a larger one is nothing's address."""

    regex = "[0-9]{1,9}"


register_url_convertor("row", _RowId())


class Pages:
    """What the routes call."""

    def __init__(self, store: Store, database: Database, doorman: Doorman, quota: int | None) -> None:
        self.store = store
        self.database = database
        self.doorman = doorman
        self.intake = Intake(store, database, doorman, quota=quota)

    async def begin(self, request: Request) -> Response:
        grant = await self.doorman.writer(request.headers.get("authorization"), request.path_params["build_id"])
        files = (await _order(request)).get("files")
        if not isinstance(files, dict) or not files:
            raise Refused(400, 'files must be an object of sizes by name, as {"a.whl": 1}')
        sizes = {name: _size(size) for name, size in files.items()}
        return JSONResponse({"files": await self.intake.begin(grant, sizes)})

    async def take(self, request: Request) -> Response:
        grant = await self.doorman.writer(request.headers.get("authorization"), request.path_params["build_id"])
        piece = _piece(request)
        past_the_loop = straight(request.scope)
        done = await self.intake.take(grant, request.path_params["name"], piece, request.receive, past_the_loop)
        return JSONResponse(done)

    async def send_to(self, request: Request) -> Response:
        grant = await self.doorman.writer(request.headers.get("authorization"), request.path_params["build_id"])
        order = await _order(request)
        sha256, md5 = (_digest(order, name, length) for name, length in (("sha256", 64), ("md5", 32)))
        name, size = request.path_params["name"], _size(order.get("size"))
        return JSONResponse(await self.intake.send_to(grant, name, size=size, sha256=sha256, md5=md5))

    async def commit(self, request: Request) -> Response:
        grant = await self.doorman.writer(request.headers.get("authorization"), request.path_params["build_id"])
        order = await _order(request)
        sha256 = _digest(order, "sha256", 64)
        name = request.path_params["name"]
        done = await self.intake.commit(grant, name, _size(order.get("size")), sha256)
        print(f"build {grant.build_id}: {name}, {done['size']} bytes, SHA-256 {done['sha256']}", flush=True)
        return JSONResponse(done)

    async def listing(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        await self.doorman.reader(request.headers.get("authorization"), run_id)
        found: list[Accepted] = await self.database.do(uploads.accepted_of_run, run_id)
        files = [
            {
                "id": one.id,
                "stage": one.stage,
                "variant": one.variant,
                "name": one.file.name,
                "size": one.file.size,
                "sha256": one.file.sha256,
                "removed": one.file.removed,
                "accepted_at": one.at,
            }
            for one in found
        ]
        return JSONResponse({"run": run_id, "artifacts": files}, headers={"cache-control": "no-cache"})

    async def read(self, request: Request) -> Response:
        found: Accepted | None = await self.database.do(uploads.accepted, request.path_params["artifact_id"])
        nothing = Refused(404, "there is no such artifact")
        if found is None or found.file.name != request.path_params["name"]:
            if "authorization" not in request.headers:
                self.doorman.browser(None)  # a stranger is not told what there is
            raise nothing
        if link := request.query_params.get("link"):
            self.doorman.guest(link, found.id)
        else:
            await self.doorman.reader(request.headers.get("authorization"), found.run_id)
        etag = f'"{found.file.sha256}"'
        headers = {
            "etag": etag,
            # It may come from a stranger: as a page it would act with the rights of whoever looks at it.
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox; default-src 'none'",
            "cache-control": "private, no-cache",
        }
        if _matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        if found.file.removed:
            raise Refused(410, f"{found.file.name} has expired and was removed")
        if elsewhere := await to_thread.run_sync(self.store.link, found.file.path, found.file.name):
            if request.method == "HEAD":  # the address is good for GET alone
                about = {"content-length": str(found.file.size), "accept-ranges": "bytes"}
                return Response(headers=headers | about, media_type="application/octet-stream")
            # never kept: it expires, and the ETag is not that of this answer
            return RedirectResponse(elsewhere, 307, {"cache-control": "no-store"})
        path = await to_thread.run_sync(self.store.file, found.file.path)
        if path is None:
            raise nothing
        return _File(path, headers=headers, media_type="application/octet-stream", filename=found.file.name)

    async def health(self, _request: Request) -> Response:
        await self.database.do(lambda connection: connection.execute(sa.select(1)))
        await to_thread.run_sync(self.store.check)
        room = await self.intake.admission.room()
        return JSONResponse({"ok": room > 0, "room": room}, 200 if room > 0 else 507)


def application(
    store: Store, database: Database, doorman: Doorman, policy: Policy, quota: int | None = None
) -> Starlette:
    """The ASGI application; it removes what is no longer needed as long as it runs."""
    pages = Pages(store, database, doorman, quota)

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(keep_house(pages.intake, store, database, policy))
        yield
        sweeping.cancel()

    upload = "/builds/{build_id:row}/{name}"
    app = Starlette(
        routes=[
            Route("/builds/{build_id:row}", pages.begin, methods=["POST"]),
            Route(upload, pages.take, methods=["PUT"]),
            Route(f"{upload}/direct", pages.send_to, methods=["POST"]),
            Route(f"{upload}/commit", pages.commit, methods=["POST"]),
            Route("/runs/{run_id:row}/artifacts", pages.listing),
            Route("/artifacts/{artifact_id:row}/{name}", pages.read),
            *simple.routes(store, database, doorman),
            Route("/health", pages.health),
        ],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            StoreBroken: _store_away,
            sa.exc.DBAPIError: _database_away,
            Exception: _broken,
        },
        lifespan=life,
    )
    app.router.redirect_slashes = False
    return app


async def _order(request: Request) -> dict[str, Any]:
    if _length(request) > _LARGEST_ORDER:
        raise Refused(413, f"the order has more than {_LARGEST_ORDER} bytes")
    try:
        order = await request.json()
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise Refused(400, 'a JSON object is expected, as {"size": 1}')
    return order


def _size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 60:
        raise Refused(400, "size must be the file's size in bytes")
    return size


def _digest(order: dict[str, Any], name: str, length: int) -> str:
    found = order.get(name)
    if not isinstance(found, str) or len(found) != length or not _DIGEST.fullmatch(found):
        raise Refused(400, f"{name} must be {length} hexadecimal digits, in lower case")
    return found


def _piece(request: Request) -> Piece:
    length = _length(request)
    said = request.headers.get("content-range")
    if said is None:
        return Piece(first=0, end=length, total=length)
    found = _RANGE.fullmatch(said)
    if found is None:
        raise Refused(400, "Content-Range must be: bytes FIRST-LAST/TOTAL")
    first, last, total = (int(number) for number in found.groups())
    if not first <= last < total or last - first + 1 != length:
        raise Refused(400, f"Content-Range {said!r} and Content-Length {length} do not fit together")
    return Piece(first=first, end=last + 1, total=total)


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,18}", length, re.ASCII):
        raise Refused(411, "Content-Length is needed")
    return int(length)


def _matches(header: str | None, etag: str) -> bool:
    known = [one.strip().removeprefix("W/") for one in (header or "").split(",")]
    return etag in known or "*" in known


async def _refused(_request: Request, error: Any) -> Response:
    # what a client still sends would be taken for its next request
    asked = {"www-authenticate": 'Basic realm="artifacts", charset="UTF-8"'} if error.status == 401 else {}
    headers = {"connection": "close", **asked}
    return JSONResponse(error.body, error.status, headers=headers)


async def _http_error(_request: Request, error: Any) -> Response:
    return JSONResponse(
        {"error": error.detail}, error.status_code, headers={**(error.headers or {}), "connection": "close"}
    )


async def _store_away(_request: Request, error: Exception) -> Response:
    print(f"the store: {error}", flush=True)
    return JSONResponse({"error": "the artifact store does not answer just now"}, 503, headers={"connection": "close"})


async def _database_away(_request: Request, error: Exception) -> Response:
    print(f"the database: {error}", flush=True)
    return JSONResponse({"error": "the database does not answer just now"}, 503, headers={"connection": "close"})


async def _broken(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "the artifact process failed; its log says why"}, 500)

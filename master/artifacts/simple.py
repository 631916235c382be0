"""The package indexes' pages: ``/simple/`` lists what was released, ``/nightly/simple/`` what pushes have built."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from anyio import to_thread
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from master.artifacts.doorman import Database, Doorman
from master.artifacts.index import IndexedWheel, NotAcceptable, project_list, project_page, render
from master.artifacts.refusal import Refused
from master.artifacts.store import Store
from master.database import releases
from master.database.releases import Listed

_LARGEST_METADATA = 1 << 20
#: cut off, of no wheel's form, compressed in a way unknown here or wrongly, encrypted
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HEADERS = {"vary": "Accept", "cache-control": "no-cache"}

Source = Callable[[sa.Connection], Sequence[Listed]]


class Index:
    """One index. ``up`` leads from a project's page to the artifact process's root, which a proxy may move."""

    def __init__(self, store: Store, database: Database, doorman: Doorman, source: Source, up: str) -> None:
        self.database = database
        self.doorman = doorman
        self.source = source
        self.up = up
        self._requires_python = _requires_python(store)

    async def projects(self, request: Request) -> Response:
        return _page(project_list(await self._wheels(request)), request)

    async def project(self, request: Request) -> Response:
        name = request.path_params["project"]
        if name != (normal := canonicalize_name(name)):
            return RedirectResponse(f"../{quote(normal)}/", 301)
        page = project_page(name, await self._wheels(request, name))
        if page is None:
            self.doorman.browser(request.headers.get("authorization"))
            raise Refused(404, f"this index has no {name}")
        return _page(page, request)

    async def _wheels(self, request: Request, project: str = "") -> list[IndexedWheel]:
        self.doorman.browser(request.headers.get("authorization"))
        listed: Sequence[Listed] = await self.database.do(self.source)
        wheels = []
        for one in listed:
            wheel = IndexedWheel(
                name=one.file.name,
                url=f"{self.up}/artifacts/{one.id}/{quote(one.file.name)}",
                size=one.file.size,
                sha256=one.file.sha256,
                published_at=one.published_at,
                yanked=one.yanked,
            )
            if project and wheel.project == project:
                python = await to_thread.run_sync(self._requires_python, one.file.path)
                wheel = IndexedWheel(**{**vars(wheel), "requires_python": python})
            wheels.append(wheel)
        return wheels


def _requires_python(store: Store) -> Callable[[str], str]:
    """Reads from a wheel which Pythons it is for; what it could read once it knows."""

    @lru_cache(maxsize=10_000)
    def read(path: str) -> str:
        with store.reader(path) as file, zipfile.ZipFile(file) as wheel:
            [name] = (name for name in wheel.namelist() if _is_metadata(name))
            with wheel.open(name) as stream:
                raw, _ = parse_email(stream.read(_LARGEST_METADATA))
        return raw.get("requires_python") or ""

    def known(path: str) -> str:
        try:
            return read(path)
        except _UNREADABLE:
            return ""  # an installer that fetches it says better what is wrong

    return known


def routes(store: Store, database: Database, doorman: Doorman) -> list[Route]:
    """Of both indexes."""
    released = Index(store, database, doorman, releases.released_files, "../..")
    nightly = Index(store, database, doorman, releases.nightly_files, "../../..")
    return [
        Route(f"{prefix}/simple{path}", page)
        for prefix, index in (("", released), ("/nightly", nightly))
        for path, page in (
            *(("", _with_slash), ("/{project}", _with_slash)),
            *(("/", index.projects), ("/{project}/", index.project)),
        )
    ]


async def _with_slash(request: Request) -> Response:
    """PEP 503: every address of an index ends with a slash, and one without leads there."""
    return RedirectResponse(f"{quote(request.url.path.rpartition('/')[2])}/", 301)


def _page(page: Any, request: Request) -> Response:
    try:
        form, text = render(page, request.headers.get("accept", ""))
    except NotAcceptable as error:
        raise Refused(406, str(error)) from None
    return Response(text, media_type=form, headers=_HEADERS)


def _is_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(".dist-info/METADATA")

"""Buildbot's own site, sessions and authorisation around the plugin, and a real database below, without a reactor.

Bytes go in as a browser would send them, and come out of the transport. One run (id 1) is there, with artifacts
good and bad.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.www.authz import Authz
from buildbot.www.authz.roles import RolesFromUsername
from buildbot.www.service import BuildbotSession, BuildbotSite, WWWService
from twisted.internet import defer
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from master.database import store
from master.database.records import Artifact
from master.database.tables import metadata
from master.pipeline import EventKind, Pipeline, Stage, State
from master.repetition import Refused
from master.run_model import Create, Slot
from master.settings_artifacts import ArtifactSettings
from master.triggers import Event, Rules, classify
from master.web.application import PipelinesApplication

PIPELINE = Pipeline(stages=(Stage(name="test", uses="test"), Stage(name="build", uses="commands", needs=("test",))))
WHEEL = b"wheel" * 100_000
API = "/plugins/mlc_ci/api/"


class Database:
    """Buildbot's pool, without threads."""

    def __init__(self) -> None:
        self.engine = sa.create_engine("sqlite://")
        Model.metadata.create_all(self.engine)
        metadata.create_all(self.engine)

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> defer.Deferred[Any]:
        def work() -> Any:
            with self.engine.begin() as connection:
                return function(connection, *args, **kwargs)

        return defer.maybeDeferred(work)

    do_with_transaction = do


class Scheduler:
    """Takes orders down."""

    def __init__(self) -> None:
        self.reconciler = SimpleNamespace(pipeline=PIPELINE)
        self.settings = SimpleNamespace(artifacts=ArtifactSettings())
        self.inbox = SimpleNamespace(rules=Rules(default_branch="trunk"))
        self.handover = SimpleNamespace(repository="https://example.org/sample.git")
        self.trouble = "the repository cannot be asked"
        self.orders: list[tuple[Any, ...]] = []
        self.refuses = ""
        self.breaks = False

    async def cancel(self, run_id: int, reason: str) -> bool:
        if self.breaks:
            raise RuntimeError("secret detail")
        self.orders.append(("cancel", run_id, reason))
        return not self.refuses

    async def approve(self, run_id: int, head: str, by: str) -> None:
        if self.refuses:
            raise Refused(self.refuses)
        self.orders.append(("approve", run_id, head, by))

    async def repeat(self, run_id: int, stage: str = "", *, because: str) -> list[Slot]:
        if self.refuses:
            raise Refused(self.refuses)
        self.orders.append(("repeat", run_id, stage, because))
        return [Slot(stage or "build", "", 2)]


class Data:
    """Buildbot's data API, as far as it reads logs: by id, lines as Buildbot keeps them."""

    def __init__(self) -> None:
        self.logs: dict[int, list[str]] = {}
        self.asked: list[tuple[int, int]] = []  # offset and limit

    async def get(self, path: tuple[str, ...], *, offset: int, limit: int) -> Any:
        assert (path[0], path[2]) == ("logs", "contents")
        self.asked.append((offset, limit))
        lines = self.logs.get(int(path[1]), [])[offset : offset + limit]
        return {"content": "".join(f"{line}\n" for line in lines)}


class Www:
    """As much of Buildbot's web service as knows users."""

    getUserInfos = WWWService.getUserInfos
    assertUserAllowed = WWWService.assertUserAllowed

    site: BuildbotSite

    def __init__(self, authz: Authz) -> None:
        self.authz = authz


class Master:
    """One run (id 1) with an artifact, behind the plugin."""

    def __init__(self, folder: Path, rules: list[Any]) -> None:
        self.database = Database()
        self.db = SimpleNamespace(pool=self.database)
        self.basedir = str(folder)
        self.scheduler = Scheduler()
        self.scheduler_manager = SimpleNamespace(namedServices={"pipeline": self.scheduler})
        self.config = SimpleNamespace(buildbotURL="https://ci.example.org/mlc/", builders=[])
        self.data = Data()
        authz = Authz(allowRules=rules, roleMatchers=[RolesFromUsername(roles=["admins"], usernames=["root"])])
        self.www = Www(authz)
        authz.setMaster(self)
        with self.database.engine.begin() as connection:
            self.attempt_id = fill(connection, folder)
        application = PipelinesApplication()
        root, plugins = Resource(), Resource()
        root.putChild(b"plugins", plugins)
        plugins.putChild(b"mlc_ci", application.resource)
        self.site = BuildbotSite(root, None, 0, 0)
        self.site.sessionFactory = None
        self.site.timeOut = None
        self.site.setSessionSecret("00" * 16)
        self.site.master = self
        self.www.site = self.site
        application.setMaster(self)


def fill(connection: sa.Connection, folder: Path) -> int:
    event = Event(kind=EventKind.PUSH, ref="refs/heads/main", head="a" * 40, message="Title", author="Ann")
    request = classify(event, Rules())
    store.receive(connection, key="k", source="test", event=event, now=1.0)
    store.create_run(connection, 1, "k", request, threads=4, now=1.0)  # type: ignore[arg-type]
    store.add_attempts(connection, 1, [Create(slot=Slot(name, "", 1)) for name in ("test", "build")], 2.0)
    (folder / "artifacts/1").mkdir(parents=True)
    (folder / "artifacts/1/a b.whl").write_bytes(WHEEL)
    (folder / "outside.txt").write_text("secret")
    (folder / "artifacts/1/link").symlink_to(folder / "outside.txt")
    digest = hashlib.sha256(WHEEL).hexdigest()
    files = [
        Artifact(name="dist/a b.whl", path="1/a b.whl", size=len(WHEEL), sha256=digest),
        Artifact(name="gone", path="1/gone", size=1, sha256="0"),
        Artifact(name="outside", path="../outside.txt", size=1, sha256="0"),
        Artifact(name="link", path="1/link", size=1, sha256="0"),
    ]
    store.accept(connection, 1, Slot("build", "", 1), values={"state": State.SUCCESS, "ended_at": 9.0}, files=files)
    (row,) = [row for row in store.attempts(connection, [1]) if row.stage == "build"]
    return row.id


class Answer:
    def __init__(self, raw: bytes, method: str) -> None:
        response = HTTPResponse(SimpleNamespace(makefile=lambda *_: io.BytesIO(raw)), method=method)  # type: ignore[arg-type]
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Sends requests as a user of the page would."""

    def __init__(self, master: Master, pending: list[Callable[[], None]]) -> None:
        self.master = master
        self._pending = pending

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        user: str = "",
        body: bytes = b"",
        absolute: bool = False,
        **headers: str,
    ) -> Answer:
        sent = {"host": "ci.example.org", "connection": "close", "content-length": str(len(body))}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        if user:
            session = BuildbotSession(self.master.site)
            session.user_info = {"username": user}
            sent["cookie"] = f"TWISTED_SESSION={session.uid}"
        lines = [f"{method} {path if absolute else API + path} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items())]
        transport = StringTransport()
        channel = self.master.site.buildProtocol(transport.getPeer())
        channel.makeConnection(transport)
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        while self._pending:
            self._pending.pop(0)()
        return Answer(transport.value(), method)

    def order(self, path: str, body: Any = None, *, user: str = "root", **headers: str) -> Answer:
        sent = {"content_type": "application/json", "origin": "https://ci.example.org", **headers}
        raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return self.ask(path, method="POST", user=user, body=raw, **{k: v for k, v in sent.items() if v})

"""``python -m master.artifacts FOLDER``: the artifact process of the master in this folder, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn
from buildbot.db import enginestrategy

from master.artifacts import announced
from master.artifacts.connection import Connection
from master.artifacts.doorman import Database, Doorman
from master.artifacts.server import application
from master.artifacts.store import StoreBroken
from master.artifacts.stores import policy_of, store_of
from master.artifacts.tokens import KEY, PASSWORD
from master.database.engine import engine_kwargs
from master.errors import UserError
from master.places import SECRETS, SETTINGS
from master.secret_files import ensure
from master.settings import Settings, load, read_secret
from master.worker_port import chain_for

_MOST_CONNECTIONS = 500
_GRACE_S = 5  # for connections that are under way when the process is told to stop; uploads go on afterwards
_RENEWAL_S = 12 * 3600.0


class CannotServe(UserError):
    """The artifact process could not be started."""


class _Server(uvicorn.Server):
    """Tells where it is once it listens."""

    def __init__(self, config: uvicorn.Config, basedir: Path, **told: Any) -> None:
        super().__init__(config)
        self.basedir = basedir
        self.told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            announced.announce(self.basedir, **self.told)


def serve(basedir: Path) -> None:
    """Until SIGTERM.

    Raises:
        UserError: wrong settings, a database that is not prepared, a port that is taken.
    """
    settings = load(basedir / SETTINGS)
    own = settings.artifacts
    for name in (KEY, PASSWORD):
        ensure(basedir / SECRETS, name)
    engine = enginestrategy.create_engine(
        (url := settings.database_url(basedir / SECRETS)), basedir=str(basedir), **engine_kwargs(url)
    )
    _check(engine)
    database = Database(engine)
    key, password = (read_secret(basedir / SECRETS, name) for name in (KEY, PASSWORD))
    doorman = Doorman(database, key, password=password, public=own.public)
    try:
        store = store_of(settings, basedir)
        store.check()
    except (OSError, StoreBroken) as error:
        raise CannotServe(f"the artifact store cannot be used: {error}") from None
    listener = _listener(own.listen, own.port or announced.port(basedir), own.port)
    port = listener.getsockname()[1]
    policy = policy_of(settings)
    app = application(store, database, doorman, policy, own.quota)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    config.load()
    if own.tls:
        config.ssl = _credentials(settings, basedir)
        _keep_renewed(app, config.ssl, settings, basedir)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends in order, and then raises it again
    signal.signal(signal.SIGINT, lambda *_: None)
    url = own.url.rstrip("/") or _url(settings, port)
    _Server(config, basedir, port=port, url=url, policy=asdict(policy)).run([listener])
    engine.dispose()


def _check(engine: sa.Engine) -> None:
    try:
        with engine.connect() as connection:
            prepared = sa.inspect(connection).has_table("uploads")
    except sa.exc.DBAPIError as error:
        raise CannotServe(f"the database cannot be used: {error.orig}") from None
    if not prepared:
        raise CannotServe("the database has no table of uploads", "start the master of this version once: it makes it")


def _listener(host: str, wanted: int, fixed: int) -> socket.socket:
    """Where any port will do, the one of the last life if it is free: uploads that are under way find it again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, fixed):
        # a protocol that is left out has asyncio leave Nagle's algorithm on: 40 ms for most answers
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            refused = error
        else:
            return listener
    raise CannotServe(f"port {fixed} of {host} cannot be used: {refused.strerror}", "[artifacts] port sets another")


def _url(settings: Settings, port: int) -> str:
    host = settings.artifacts.listen
    if settings.artifacts.tls:
        host = next(iter(settings.master.worker_host), host)
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.artifacts.tls else 'http'}://{host}:{port}"


def _credentials(settings: Settings, basedir: Path) -> ssl.SSLContext:
    """TLS 1.2 and newer, with the certificates of the workers' port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings, basedir)
    return context


def _load(context: ssl.SSLContext, settings: Settings, basedir: Path) -> None:
    chain = chain_for(settings.master, basedir)
    context.load_cert_chain(chain.certificate, chain.key)


def _keep_renewed(app: Any, context: ssl.SSLContext, settings: Settings, basedir: Path) -> None:
    """New connections are shown renewed certificates, without a new start."""
    life = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def renewing(served: Any) -> AsyncIterator[Any]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEWAL_S)
                try:
                    await asyncio.to_thread(_load, context, settings, basedir)
                except (UserError, OSError) as error:  # the next look may find it mended; the old ones serve
                    print(f"the certificates could not be renewed: {error}", flush=True)

        async with life(served) as state:
            task = asyncio.create_task(renew())
            yield state
            task.cancel()

    app.router.lifespan_context = renewing


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        print("usage: python -m master.artifacts FOLDER", file=sys.stderr)
        return 2
    os.umask(0o077)
    try:
        serve(Path(given[0]).absolute())
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

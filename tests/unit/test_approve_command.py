"""``mlc-ci approve``: shows whose commit it is, asks, and approves that commit; here against a small real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from master.cli import app
from master.errors import UserError

HEAD = "1a2b3c4d5e6f" + "0" * 28


class Page(BaseHTTPRequestHandler):
    """A master with one held run."""

    run: dict[str, Any]
    orders: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self.answer({} if self.path == "/auth/login" else self.run)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.orders.append((self.path, json.loads(body)))
        self.answer({"run": 7, "approved": "admin"})

    def answer(self, what: Any) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def call(tmp_path: Path) -> Iterator[list[str]]:
    Page.orders = []
    Page.run = {"id": 7, "ref": "refs/pull/3/head", "pull_request": 3, "author": "ann", "head": HEAD, "title": "Fix it"}
    Page.run |= {"live": True, "cancelled": "", "held": "waits for a maintainer to approve it"}
    (tmp_path / "password").write_text("right\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        yield ["approve", "7", "--master", url, "--password-file", str(tmp_path / "password")]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_shows_the_commit_asks_and_approves_what_it_has_shown(call: list[str]) -> None:
    done = CliRunner().invoke(app, call, input="y\n")
    assert done.exit_code == 0, done.output
    for said in ("pull request 3 by ann", HEAD, "Fix it", "waits for a maintainer", "run 7 is approved"):
        assert said in done.output
    assert Page.orders == [("/plugins/mlc_ci/api/runs/7/approve", {"head": HEAD})]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_approved(call: list[str], answer: str) -> None:
    done = CliRunner().invoke(app, call, input=answer)
    assert done.exit_code != 0
    assert Page.orders == []
    if answer == "n\n":
        assert isinstance(done.exception, UserError)


def test_it_need_not_be_asked(call: list[str]) -> None:
    assert CliRunner().invoke(app, [*call, "--yes"]).exit_code == 0
    assert len(Page.orders) == 1


def test_a_strangers_words_cannot_write_over_the_commit(call: list[str]) -> None:
    Page.run["title"] = "Fix it\x1b[1A\x1b[2K\r\ncommit " + "f" * 40 + " [red]\u202e"
    Page.run["author"] = "ann\x1b[8m"
    done = CliRunner().invoke(app, call, input="n\n")
    assert not set("\x1b\r\u202e") & set(done.output)
    assert done.output.splitlines()[1].startswith(f"commit {HEAD}: Fix it")
